"""`qwenctl run`: chat with a model, or answer one prompt."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qwenctl.cli import run_options as options
from qwenctl.cli.options import ContextUrl, InsecureRegistry, Json
from qwenctl.cli.output import Printer
from qwenctl.errors import UsageError

if TYPE_CHECKING:
    from qwenctl.cli.run_options import RunOptions
    from qwenctl.runtime.events import Usage
    from qwenctl.settings import Settings


class Reply(msgspec.Struct, frozen=True):
    """The data of `run --json`. `reason` is `stop` or `length`; with `--detach` `loaded`, without a `usage`.

    `thinking` is what the model thought before it answered.
    """

    model: str
    id: str
    text: str
    reason: str
    usage: "Usage | None"
    thinking: str = ""


def run(
    model: options.Model = None,
    prompt: options.Prompt = None,
    system: options.System = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    repeat_penalty: options.RepeatPenalty = None,
    seed: options.Seed = None,
    max_tokens: options.MaxTokens = None,
    form: options.Form = None,
    think: options.Think = None,
    continued: options.Continue = False,
    resume: options.Resume = None,
    no_save: options.NoSave = False,
    plain: options.Plain = False,
    stats: options.Stats = False,
    context: options.Context = None,
    kv: options.Kv = None,
    parallel: options.Parallel = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = None,
    lora: options.Lora = None,
    keep_alive: options.KeepAlive = None,
    detach: options.Detach = False,
    force: options.Force = False,
    insecure_registry: InsecureRegistry = None,
    context_url: ContextUrl = None,
    host: options.SimulatedHost = None,
    json: Json = False,
) -> None:
    """Chat with a model; with PROMPT, or text from a pipe, answer once and leave.

    Examples: qwenctl run guide · qwenctl run guide "What is a tag?" · git diff | qwenctl run qwen2.5 Explain
    """
    from qwenctl.cli.terminal import wants_colour
    from qwenctl.cli.wiring import load_settings
    from qwenctl.units import parse_duration

    settings = load_settings(insecure_registry)
    _refuse_host(model, host)
    _refuse(model, prompt, continued, resume, detach)
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p}
    more = {"repeat_penalty": repeat_penalty, "seed": seed}
    wishes = {"context_length": context, "slots": parallel, "threads": threads, "gpu_layers": gpu_layers}
    wanted = options.RunOptions(
        model=model,
        text=None if detach else _text(" ".join(prompt or []), json),
        system=system,
        choices=options.parse_choices({**sampling, **more}, max_tokens, form, think),
        load=options.parse_load(wishes, kv, lora, force),
        keep_alive_seconds=None if keep_alive is None else parse_duration(keep_alive),
        resume="" if continued else resume,
        save=settings.save_chats and not no_save,
        plain=plain or not wants_colour(),
        stats=stats,
        detach=detach,
    )
    _run(wanted, Printer("run", json), settings, context_url)


def _refuse_host(model: str | None, host: Path | None) -> None:
    """Raises: UsageError, for nothing runs on a machine that is only described."""
    if host is not None:
        raise UsageError(
            "a simulated machine loads nothing",
            hint=f"`qwenctl fit {model or 'MODEL'} --host {host}` says what would fit",
        )


def _refuse(
    model: str | None, prompt: list[str] | None, continued: bool, resume: str | None, detach: bool
) -> None:
    """Raises: UsageError for what contradicts itself."""
    if continued and resume is not None:
        raise UsageError("`--continue` and `--resume` name two chats", hint="leave one out")
    if detach and prompt:
        raise UsageError("`--detach` only loads: it has no prompt", hint="leave one of them out")
    if resume == "":
        raise UsageError("the id of the chat is empty", hint="`qwenctl chats list` lists them")
    if model is None and not continued and resume is None:
        raise UsageError("there is no model", hint="`qwenctl list` and `qwenctl show` have their names")


def _text(prompt: str, as_json: bool) -> str | None:
    """Prompt and piped text as one, the pipe's after a blank line; None where a person types instead.

    Raises: UsageError when there is neither.
    """
    from qwenctl.cli.terminal import interactive, piped_text

    at_terminal = interactive() and not as_json
    piped = None if at_terminal else piped_text()
    # A byte of an argument that is no UTF-8 is a lone surrogate, which cannot be sent.
    given = prompt.encode(errors="surrogateescape").decode(errors="replace")
    parts = [part for part in (given.strip(), (piped or "").strip("\n")) if part.strip()]
    if not parts and not at_terminal:
        raise UsageError("there is nothing to ask", hint="give a prompt, or pipe one in")
    return "\n\n".join(parts) if parts else None


def _run(
    wanted: "RunOptions", printer: Printer, settings: "Settings", context_url: str | None = None
) -> None:
    """From the wishes to the answer: chat → model, where it is kept → loaded → asked."""
    from qwenctl.cli.model_place import ThisMachine, place_of
    from qwenctl.cli.run_chat import converse, find_chat
    from qwenctl.cli.run_model import RunnerModel

    place = place_of(settings, printer, context_url, force=wanted.load.force)
    if wanted.load.adapters and not isinstance(place, ThisMachine):
        raise UsageError("an adapter is a file of this machine, the model is loaded elsewhere")

    chat = find_chat(wanted, None, settings) if wanted.resume or wanted.model is None else None
    name = wanted.model or (chat.model if chat else "")
    stored = place.find(name)
    chat = chat or find_chat(wanted, stored.name, settings)
    model = RunnerModel(stored, wanted.load, wanted.keep_alive_seconds, place)
    if wanted.detach:
        model.load()
        printer.result(Reply(model.name, model.id, "", "loaded", None), f"loaded {model.name}")
        return
    if wanted.text is None:
        converse(model, wanted, chat, settings)
        return
    from qwenctl.cli.run_answer import answer

    if model.must_be_loaded_first():
        model.load()
    heard = answer(model, wanted, chat, settings, shown=not printer.as_json)
    if heard.finished is not None:
        said, thought, end = "".join(heard.text), "".join(heard.thinking), heard.finished
        printer.result(Reply(model.name, model.id, said, end.reason, end.usage, thought))
