"""`qwenctl fit`: whether a model fits this machine, or another one, before it is downloaded or loaded."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

import typer

from qwenctl.cli.options import InsecureRegistry, Json
from qwenctl.cli.output import Printer
from qwenctl.errors import UsageError

if TYPE_CHECKING:
    from qwenctl.flows.fit import Machine
    from qwenctl.flows.fit_model import Asked
    from qwenctl.model.memory.plan import Wishes
    from qwenctl.settings import Settings

Method = Literal["auto", "computed", "measured"]

_LONGEST: Final = "max"


def fit(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="A model, pulled or not.")] = None,
    gguf: Annotated[Path | None, typer.Option("--gguf", metavar="FILE", help="A GGUF file instead.")] = None,
    all_variants: Annotated[bool, typer.Option("--all", "-a", help="Every variant of the model.")] = False,
    context: Annotated[
        str | None,
        typer.Option("--context", "-c", metavar="N|max", help="Tokens that one request may hold."),
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option("--parallel", metavar="S", help="Requests side by side."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="B", help="Tokens of one batch.")] = 512,
    ubatch: Annotated[int, typer.Option("--ubatch", metavar="U", help="Tokens computed at once.")] = 512,
    kv_type: Annotated[
        str, typer.Option("--kv-type", "--kv", metavar="TYPE", help="KV cache: f16, q8_0, q4_0, …")
    ] = "f16",
    flash_attention: Annotated[
        str, typer.Option("--flash-attention", metavar="on|off|auto", help="As llama.cpp has it.")
    ] = "auto",
    gpu_layers: Annotated[
        int | None,
        typer.Option("--gpu-layers", metavar="N", help="Layers on GPUs; -1 is all."),
    ] = None,
    host: Annotated[
        Path | None, typer.Option("--host", metavar="FILE", help="A machine profile instead of this machine.")
    ] = None,
    method: Annotated[
        str, typer.Option("--method", metavar="computed|measured", help="By us, or by llama.cpp itself.")
    ] = "auto",
    insecure_registry: InsecureRegistry = None,
    json: Json = False,
) -> None:
    """Say whether a model fits this machine: memory to the byte, from its header alone.

    Examples: qwenctl fit qwen2.5 · qwenctl fit qwen2.5 --all · qwenctl fit qwen2.5:7B-F16 --host box.yaml
    """
    from qwenctl.cli.fit_text import render
    from qwenctl.cli.memory import open_machine
    from qwenctl.cli.wiring import load_settings
    from qwenctl.flows.fit_model import report_on

    if (model is None) == (gguf is None):
        raise UsageError("give a MODEL, or a file with `--gguf`", hint="see `qwenctl fit --help`")
    if gguf is not None and all_variants:
        raise UsageError("a file has no variants", hint="leave `--all` out")
    wishes = _wishes(context, parallel, batch, ubatch, kv_type, flash_attention, gpu_layers)
    settings = load_settings(insecure_registry)
    machine = open_machine(settings, host, _one_of("--method", method.lower(), Method))
    asked = _ask(model, gguf, all_variants, wishes, machine, settings, longest=context == _LONGEST)
    Printer("fit", json).result(report_on(asked, machine.host), render(asked, machine.host))


def _ask(
    model: str | None,
    gguf: Path | None,
    all_variants: bool,
    wishes: "Wishes",
    machine: "Machine",
    settings: "Settings",
    *,
    longest: bool,
) -> "Asked":
    from qwenctl.cli.terminal import waiting
    from qwenctl.cli.wiring import open_catalog, open_source, open_store
    from qwenctl.flows.fit import subject_of_file
    from qwenctl.flows.fit_model import Asked, Judge, fit_model

    judge = Judge(machine, wishes, longest)
    if gguf is not None:
        verdict = judge(subject_of_file(gguf))
        return Asked(verdict, (verdict,))
    assert model is not None
    catalog, store = open_catalog(), open_store(settings)

    open_at = partial(open_source, settings=settings, catalog=catalog)
    with waiting(f"looking at {model} …"):
        return fit_model(model, judge, store, catalog, settings.registry, open_at, all_variants=all_variants)


def _wishes(
    context: str | None,
    parallel: int | None,
    batch: int,
    ubatch: int,
    kv_type: str,
    flash_attention: str,
    gpu_layers: int | None,
) -> "Wishes":
    """What the flags ask for. Raises: UsageError, with what the flag may be."""
    from qwenctl.model.memory.configuration import CONTEXT_LIMIT, MAX_SLOTS, FlashAttention, KvType
    from qwenctl.model.memory.hyperparameters import MAX_LAYERS
    from qwenctl.model.memory.plan import Wishes

    if parallel is not None and batch < parallel:
        raise UsageError(
            f"`--batch {batch}` is too little for `--parallel {parallel}`",
            hint="a batch has a token of each request at least",
        )
    return Wishes(
        context_tokens=None if context in (None, _LONGEST) else _tokens(str(context)),
        slots=None if parallel is None else _between("--parallel", parallel, 1, MAX_SLOTS),
        batch_tokens=_between("--batch", batch, 1, CONTEXT_LIMIT),
        ubatch_tokens=_between("--ubatch", ubatch, 1, CONTEXT_LIMIT),
        kv_type=_one_of("--kv-type", kv_type.lower(), KvType),
        flash_attention=_one_of("--flash-attention", flash_attention.lower(), FlashAttention),
        gpu_layers=None if gpu_layers is None else _between("--gpu-layers", gpu_layers, -1, MAX_LAYERS),
    )


def _tokens(text: str) -> int:
    from qwenctl.model.memory.configuration import CONTEXT_LIMIT

    if not text.isascii() or not text.isdigit() or len(text) > len(str(CONTEXT_LIMIT)):
        raise UsageError(
            f"`--context` is `{text}`, which is no number of tokens", hint="give one, such as 8192, or `max`"
        )
    return _between("--context", int(text), 1, CONTEXT_LIMIT)


def _between(flag: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise UsageError(f"`{flag}` cannot be {value}", hint=f"it is a number from {least} to {most}")
    return value


def _one_of(flag: str, value: str, choices: object) -> Any:
    known = get_args(choices)
    if value not in known:
        raise UsageError(f"`{flag}` cannot be `{value}`", hint=f"it is one of {', '.join(known)}")
    return value
