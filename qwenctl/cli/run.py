"""`qwenctl run`: chat with a model, or answer one prompt."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import msgspec
import typer

from qwenctl.cli.options import InsecureRegistry, Json
from qwenctl.cli.output import Printer
from qwenctl.errors import UsageError

if TYPE_CHECKING:
    from qwenctl.flows.catalog import Catalog
    from qwenctl.flows.find import Found
    from qwenctl.model.memory.configuration import KvType
    from qwenctl.runner.client import RunnerClient
    from qwenctl.runner.messages import LoadedStatus, LoadOptions
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
    kv: Annotated[
        str | None, typer.Option("--kv", help="KV cache: f16, q8_0 (half the memory), q4_0; reloads.")
    ] = None,
    keep_alive: Annotated[
        str | None, typer.Option("--keep-alive", help="How long it stays loaded: 5m, 0, -1.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Load it even if it does not fit.")] = False,
    insecure_registry: InsecureRegistry = None,
    host: Annotated[
        Path | None, typer.Option("--host", hidden=True, help="Refused: see `qwenctl fit --host`.")
    ] = None,
    json: Json = False,
) -> None:
    """Chat with a model; with PROMPT, or text from a pipe, answer once and leave.

    Examples: qwenctl run guide · qwenctl run guide "What is a tag?" · git diff | qwenctl run qwen2.5 Explain
    """
    from qwenctl.cli.terminal import interactive, piped_text
    from qwenctl.cli.wiring import load_settings
    from qwenctl.units import parse_duration

    if host is not None:
        raise UsageError(
            "a simulated machine loads nothing",
            hint=f"`qwenctl fit {model} --host {host}` says what would fit",
        )
    given = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p, "seed": seed}
    printer = Printer("run", json)
    text = _joined(" ".join(prompt or []), None if interactive() and not json else piped_text())
    if text is None and (json or not interactive()):
        raise UsageError("there is nothing to ask", hint="give a prompt, or pipe one in")
    _sampling({key: value for key, value in given.items() if value is not None})
    keep = None if keep_alive is None else parse_duration(keep_alive)
    settings = load_settings(insecure_registry)
    chat = _open(model, given, max_tokens, _load_options(context, kv, force), keep, printer, settings)
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
    options: "LoadOptions",
    keep_alive_seconds: float | None,
    printer: Printer,
    settings: "Settings",
) -> "_Chat":
    """The model, pulled if it is missing, and a runner that has it loaded where that was asked for."""
    from qwenctl.cli.terminal import waiting
    from qwenctl.runner.client import RunnerClient

    found, suggested, quantization = _ensure(model, settings, printer, options.force)
    chosen = {**suggested, **{key: value for key, value in given.items() if value is not None}}
    sampling = _sampling(chosen)
    runner = RunnerClient.connect(settings)
    if options.given() or options.force or sys.stderr.isatty():
        with waiting(f"loading {found.name} …"):
            status = runner.load(found.name, options, keep_alive_seconds)
        _tell(status, quantization)
    return _Chat(runner, found, sampling, max_tokens, keep_alive_seconds, settings)


def _tell(status: "LoadedStatus", quantization: str) -> None:
    """The line on what the load took, for a person at a terminal."""
    from qwenctl.cli.output import complain
    from qwenctl.model.memory.words import load_line

    if status.plan is not None and sys.stderr.isatty():
        complain(load_line(quantization, status.plan))


def _load_options(context: int | None, kv: str | None, force: bool) -> "LoadOptions":
    from qwenctl.model.memory.configuration import KV_TYPES
    from qwenctl.runner.messages import LoadOptions

    if kv is not None and kv.lower() not in KV_TYPES:
        raise UsageError(f"`--kv` cannot be `{kv}`", hint=f"it is one of {', '.join(KV_TYPES)}")
    return LoadOptions(context_length=context, kv_type=cast("KvType | None", kv and kv.lower()), force=force)


def _ensure(
    model: str, settings: "Settings", printer: Printer, force: bool
) -> "tuple[Found, dict[str, float], str]":
    """The model in the store, pulled when it is not there, the sampling that its maker suggests, and its
    quantization.
    """
    from qwenctl.cli.pull import Checks, pull_with_progress
    from qwenctl.cli.wiring import open_catalog, open_store
    from qwenctl.flows.find import Found
    from qwenctl.flows.names import parse_name
    from qwenctl.flows.views import read_artifact, suggested_sampling

    catalog, store = open_catalog(), open_store(settings)
    found = _look_up(model, store, catalog, settings.registry)
    if found is None:
        reference = parse_name(model, catalog, settings.registry)
        checks = Checks(force=force, quiet=True)
        pulled, _ = pull_with_progress(reference, settings, catalog, store, _Silent(printer), checks)
        found = Found(reference, pulled.root)
    config = read_artifact(store, found.root).config
    return found, suggested_sampling(config), config.quantization


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
