"""`qwenctl run`: chat with a model, or answer one prompt."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer
from qwenctl.errors import UsageError

if TYPE_CHECKING:
    from qwenctl.flows.catalog import Catalog
    from qwenctl.flows.find import Found
    from qwenctl.runner.client import RunnerClient
    from qwenctl.runtime.engine import Message
    from qwenctl.runtime.events import Usage
    from qwenctl.runtime.sampling import Sampling
    from qwenctl.settings import Settings
    from qwenctl.store.store import Store


class Reply(msgspec.Struct, frozen=True):
    """The data of `run --json`. `reason` is `stop` or `length`."""

    model: str
    id: str
    text: str
    reason: str
    usage: "Usage"


def run(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model; pulled first when it is missing.")],
    prompt: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]", help="Answer this and leave.")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="0 is always the likeliest token.")
    ] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", help="Share of probability kept.")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Tokens kept; 0 is all.")] = None,
    min_p: Annotated[float | None, typer.Option("--min-p", help="Least share of the likeliest.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Makes sampling repeatable.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", "-n", help="Longest answer, in tokens.")
    ] = None,
    context: Annotated[
        int | None, typer.Option("--context", "-c", help="Context length in tokens; reloads the model.")
    ] = None,
    keep_alive: Annotated[
        str | None, typer.Option("--keep-alive", help="How long it stays loaded: 5m, 0, -1.")
    ] = None,
    json: Json = False,
) -> None:
    """Chat with a model; with PROMPT, or text from a pipe, answer once and leave.

    Examples: qwenctl run guide · qwenctl run guide "What is a tag?" · git diff | qwenctl run qwen2.5 Explain
    """
    from qwenctl.cli.terminal import interactive, piped_text
    from qwenctl.units import parse_duration

    given = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p, "seed": seed}
    printer = Printer("run", json)
    text = _joined(" ".join(prompt or []), None if interactive() and not json else piped_text())
    if text is None and (json or not interactive()):
        raise UsageError("there is nothing to ask", hint="give a prompt, or pipe one in")
    _sampling({key: value for key, value in given.items() if value is not None})
    keep = None if keep_alive is None else parse_duration(keep_alive)
    chat = _open(model, given, max_tokens, context, keep, printer)
    if text is None:
        chat.converse(system)
    elif json:
        chat.report(text, system, printer)
    else:
        chat.answer(text, system)


def _joined(prompt: str, piped: str | None) -> str | None:
    """Prompt and piped text as one, the pipe's after a blank line; None when both say nothing."""
    parts = [part for part in (prompt.strip(), (piped or "").strip("\n")) if part.strip()]
    return "\n\n".join(parts) if parts else None


def _open(
    model: str,
    given: dict[str, float | int | None],
    max_tokens: int | None,
    context: int | None,
    keep_alive_seconds: float | None,
    printer: Printer,
) -> "_Chat":
    """The model, pulled if it is missing, and a runner that has it loaded where that was asked for."""
    from qwenctl.cli.wiring import load_settings
    from qwenctl.runner.client import RunnerClient
    from qwenctl.runner.messages import LoadOptions

    settings = load_settings()
    found, suggested = _ensure(model, settings, printer)
    chosen = {**suggested, **{key: value for key, value in given.items() if value is not None}}
    sampling = _sampling(chosen)
    runner = RunnerClient.connect(settings)
    if context is not None:
        runner.load(found.name, LoadOptions(context_length=context), keep_alive_seconds)
    return _Chat(runner, found, sampling, max_tokens, keep_alive_seconds, settings)


def _ensure(model: str, settings: "Settings", printer: Printer) -> "tuple[Found, dict[str, float]]":
    """The model in the store, pulled when it is not there, and the sampling that its maker suggests."""
    from qwenctl.cli.pull import pull_with_progress
    from qwenctl.cli.wiring import open_catalog, open_store
    from qwenctl.flows.find import Found
    from qwenctl.flows.names import parse_name
    from qwenctl.flows.views import read_artifact, suggested_sampling

    catalog, store = open_catalog(), open_store(settings)
    found = _look_up(model, store, catalog, settings.registry)
    if found is None:
        reference = parse_name(model, catalog, settings.registry)
        pulled = pull_with_progress(reference, settings, catalog, store, _Silent(printer))
        found = Found(reference, pulled.root)
    return found, suggested_sampling(read_artifact(store, found.root).config)


def _look_up(model: str, store: "Store", catalog: "Catalog", registry: str) -> "Found | None":
    """The model if it is here; None for a name that may be pulled. An id must be here."""
    from qwenctl.errors import ReferenceUnknown
    from qwenctl.flows.find import find
    from qwenctl.flows.names import is_id

    try:
        return find(model, store, catalog, registry)
    except ReferenceUnknown:
        if is_id(model):
            raise
        return None


class _Silent(Printer):
    """A printer whose progress is for people only: with `--json` a chat has one document, no stream."""

    def __init__(self, printer: Printer) -> None:
        super().__init__(printer.command, as_json=False)


def _sampling(values: dict[str, float]) -> "Sampling":
    from qwenctl.errors import InvalidRequest
    from qwenctl.runtime.sampling import Sampling

    try:
        return msgspec.convert(values, Sampling)
    except (InvalidRequest, msgspec.ValidationError) as error:
        raise UsageError(str(error), hint="see `qwenctl run --help`") from error


class _Chat:
    """A model ready to answer, in the three ways that the command knows."""

    def __init__(
        self,
        runner: "RunnerClient",
        found: "Found",
        sampling: "Sampling",
        max_tokens: int | None,
        keep_alive_seconds: float | None,
        settings: "Settings",
    ) -> None:
        self._runner, self._found, self._settings = runner, found, settings
        self._sampling, self._max_tokens = sampling, max_tokens
        self._keep_alive_seconds = keep_alive_seconds
        self._finished: tuple[str, Usage] | None = None

    def converse(self, system: str | None) -> None:
        """Talk until the person leaves."""
        from qwenctl.chat.session import Session
        from qwenctl.chat.terminal import converse

        with self._loading():
            status = self._runner.load(self._found.name, keep_alive_seconds=self._keep_alive_seconds)
        context = f" · {status.model.context_length} tokens of context" if status.model else ""
        converse(
            Session(system),
            self._pieces,
            greeting=f"{self._found.name}{context} · /help lists the commands, Ctrl-D leaves",
            history_path=self._settings.state / "history",
        )

    def answer(self, text: str, system: str | None) -> None:
        """The answer alone on stdout, as it comes."""
        import sys

        from qwenctl.chat.terminal import answer_once

        pieces = self._pieces(_messages(text, system))
        with self._loading():
            first = next(pieces, "")
        answer_once(_going_on(first, pieces), clean=sys.stdout.isatty())

    def report(self, text: str, system: str | None, printer: Printer) -> None:
        """The answer in the envelope."""
        answer = "".join(self._pieces(_messages(text, system)))
        assert self._finished is not None
        reason, usage = self._finished
        printer.result(Reply(self._found.name, str(self._found.root.digest), answer, reason, usage))

    def _loading(self) -> AbstractContextManager[None]:
        from qwenctl.cli.terminal import waiting

        return waiting(f"loading {self._found.name} …")

    def _pieces(self, messages: "tuple[Message, ...]") -> Iterator[str]:
        """The answer's text, piece by piece; closing the iterator stops the model."""
        from qwenctl.runtime.engine import ChatRequest
        from qwenctl.runtime.events import Finished, TextDelta

        request = ChatRequest(messages=messages, sampling=self._sampling, max_tokens=self._max_tokens)
        events = self._runner.chat(self._found.name, request, self._keep_alive_seconds)
        with closing(events):  # type: ignore[type-var] # a generator
            for event in events:
                if isinstance(event, TextDelta):
                    yield event.text
                elif isinstance(event, Finished):
                    self._finished = (event.reason, event.usage)


def _going_on(first: str, rest: Iterator[str]) -> Iterator[str]:
    """`first` and then `rest`, which is closed with this generator."""
    with closing(rest):  # type: ignore[type-var] # a generator
        yield first
        yield from rest


def _messages(text: str, system: str | None) -> "tuple[Message, ...]":
    from qwenctl.runtime.engine import Message

    said = Message(role="user", content=text)
    return (Message(role="system", content=system), said) if system else (said,)
