"""`qwenctl configure`: what a single model is to be loaded and run with, kept until it is taken back."""

from typing import Annotated, Any

import msgspec
import typer

from qwenctl.cli import run_options as options
from qwenctl.cli.options import ContextUrl, Json, Model
from qwenctl.cli.output import Printer
from qwenctl.errors import UsageError

FlashAttention = Annotated[
    str | None, typer.Option("--flash-attention", metavar="MODE", help="on, off or auto.")
]
Speculation = Annotated[
    str | None, typer.Option("--speculation", metavar="HOW", help="Guess ahead: lookup, draft or off.")
]
Draft = Annotated[
    str | None, typer.Option("--draft", metavar="MODEL", help="The small model, or its file, that guesses.")
]
DraftTokens = Annotated[int | None, typer.Option("--draft-tokens", min=1, help="Tokens guessed at a time.")]
RecordBodies = Annotated[
    bool | None,
    typer.Option("--record-bodies/--no-record-bodies", help="Keep texts for `requests --bodies`."),
]
Unset = Annotated[
    list[str] | None, typer.Option("--unset", metavar="NAME", help="Take one back; repeatable.")
]
Reset = Annotated[bool, typer.Option("--reset", help="Take all back, then set what else is given.")]
Show = Annotated[bool, typer.Option("--show", help="Only show what is set; so without options, too.")]


class ConfigureReport(msgspec.Struct, frozen=True):
    """The data of `configure --json`: all that is set for the model now, by the names of the options.

    `reference` is what it is filed under. `changed` is false where the command only showed it.
    """

    model: str
    reference: str
    configured: dict[str, Any]
    changed: bool


def configure(
    model: Model,
    context: options.Context = None,
    kv: options.Kv = None,
    parallel: options.Parallel = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = None,
    flash_attention: FlashAttention = None,
    lora: options.Lora = None,
    speculation: Speculation = None,
    draft: Draft = None,
    draft_tokens: DraftTokens = None,
    keep_alive: options.KeepAlive = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    repeat_penalty: options.RepeatPenalty = None,
    record_bodies: RecordBodies = None,
    unset: Unset = None,
    reset: Reset = False,
    show: Show = False,
    context_url: ContextUrl = None,
    json: Json = False,
) -> None:
    """Set what a model is loaded and run with; a flag or a request that says otherwise goes before.

    It holds from the next load on, for every client, and stays when the model is pulled again.

    Examples: qwenctl configure qwen2.5 --context 16384 --keep-alive 1h · qwenctl configure qwen2.5 --reset
    """
    from qwenctl.cli.configure_values import spelled, told
    from qwenctl.runner.configured import Configured

    wishes = {"context_length": context, "slots": parallel, "threads": threads, "gpu_layers": gpu_layers}
    others: dict[str, Any] = {
        "flash-attention": flash_attention,
        "speculation": speculation or ("draft" if draft else None),
        "draft": draft,
        "draft-tokens": draft_tokens,
        "keep-alive": keep_alive,
        "record-bodies": record_bodies,
        "temperature": temperature,
        "top-p": top_p,
        "top-k": top_k,
        "min-p": min_p,
        "repeat-penalty": repeat_penalty,
    }
    given = spelled(Configured(options=options.parse_load(wishes, kv, lora, force=False)))
    given |= {name: value for name, value in others.items() if value is not None}
    if show and (given or unset or reset):
        raise UsageError("`--show` changes nothing", hint="leave it out: what is set is shown anyway")
    printer = Printer("configure", json)
    report = _change(model, given, unset or [], reset, context_url)
    printer.result(report, f"{report.model}: {told(report.configured)}")
    if report.changed:
        printer.note(f"it holds from the next load on; `qwenctl stop {report.model}` unloads it now")


def _change(
    model: str, given: dict[str, Any], unset: list[str], reset: bool, context_url: str | None
) -> ConfigureReport:
    """What is set afterwards; without a change it is only read."""
    from qwenctl.cli.configure_values import change_settings
    from qwenctl.cli.contexts import chosen, client_of
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store
    from qwenctl.runner.messages import ConfigureCall

    settings = load_settings()
    where, context = chosen(context_url)
    if context is None:
        store, catalog = open_store(settings), open_catalog()
        now = change_settings(model, given, unset, reset, settings, store, catalog)
        changed = bool(given or unset or reset)
        return ConfigureReport(now.name, now.reference, dict(now.values), changed)
    if "lora" in given:
        raise UsageError(
            f"an adapter is a file of this machine, and `{where}` is in use", hint="configure there"
        )
    call = ConfigureCall(model=model, given=given, unset=unset, reset=reset)
    answer = client_of(context, settings).configure(call)
    return ConfigureReport(answer.model, answer.reference, answer.configured, answer.changed)
