"""The options of `run`: how they are declared, and the one frozen value that is made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

from qwenctl.errors import FileMissing, InvalidRequest, UsageError

if TYPE_CHECKING:
    from qwenctl.chat.choices import Choices, Thinking
    from qwenctl.model.memory.configuration import KvType
    from qwenctl.runner.messages import LoadOptions
    from qwenctl.runtime.engine import Adapter

_SCHEMA_LIMIT_BYTES: Final = 1024 * 1024

Model = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="A model; pulled first when it is missing.", show_default=False),
]
Prompt = Annotated[list[str] | None, typer.Argument(metavar="[PROMPT]", help="Answer this and leave.")]
System = Annotated[str | None, typer.Option("--system", "-s", help="The system message.")]
Temperature = Annotated[float | None, typer.Option("--temperature", help="0 is always the likeliest token.")]
TopP = Annotated[float | None, typer.Option("--top-p", help="Share of probability kept.")]
TopK = Annotated[int | None, typer.Option("--top-k", help="Tokens kept; 0 is all.")]
MinP = Annotated[float | None, typer.Option("--min-p", help="Least share of the likeliest.")]
RepeatPenalty = Annotated[
    float | None, typer.Option("--repeat-penalty", help="Above 1 makes repetition less likely.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Makes sampling repeatable.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", "-n", help="Longest answer, in tokens.")]
Form = Annotated[
    str | None,
    typer.Option("--format", metavar="json|SCHEMA", help="Answer in JSON, or by a JSON Schema's file."),
]
Think = Annotated[
    bool | None, typer.Option("--think/--no-think", help="Let the model think first; --no-think: not.")
]
Stats = Annotated[bool, typer.Option("--stats", help="What the answer cost, on stderr.")]
Plain = Annotated[bool, typer.Option("--plain", help="No colours in the chat.")]
Continue = Annotated[bool, typer.Option("--continue", help="Go on with the last chat.")]
Resume = Annotated[
    str | None, typer.Option("--resume", metavar="ID", help="Go on with this chat (`qwenctl chats list`).")
]
NoSave = Annotated[
    bool,
    typer.Option("--no-save", envvar="QWENCTL_NO_SAVE", show_envvar=False, help="Keep nothing of the chat."),
]
Context = Annotated[
    int | None, typer.Option("--context", "-c", help="Context length in tokens; reloads the model.")
]
Kv = Annotated[str | None, typer.Option("--kv", help="KV cache: f16, q8_0 (half the memory), q4_0; reloads.")]
Parallel = Annotated[
    int | None, typer.Option("--parallel", "--slots", help="Requests side by side; reloads.")
]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads; reloads.")]
GpuLayers = Annotated[
    int | None, typer.Option("--gpu-layers", help="Layers on GPUs; 0 is none, -1 all; reloads.")
]
Lora = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="FILE[:SCALE]", help="A LoRA adapter (GGUF); repeatable; reloads."),
]
KeepAlive = Annotated[str | None, typer.Option("--keep-alive", help="How long it stays loaded: 5m, 0, -1.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Load the model and leave.")]
SimulatedHost = Annotated[
    Path | None, typer.Option("--host", hidden=True, help="Refused: see `qwenctl fit --host`.")
]
Force = Annotated[bool, typer.Option("--force", help="Load it even if it does not fit.")]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """One call of `run`. `model` None is that of the chat that goes on; `text` None is a chat at a terminal.

    `resume` is the id of a saved chat, empty for the last one, None for none. Without `save` nothing is kept.
    """

    model: str | None
    text: str | None
    system: str | None
    choices: "Choices"
    load: "LoadOptions"
    keep_alive_seconds: float | None
    resume: str | None
    save: bool
    plain: bool
    stats: bool
    detach: bool


def parse_choices(
    sampling: Mapping[str, float | int | None],
    max_tokens: int | None,
    form: str | None,
    think: bool | None,
) -> "Choices":
    """What is set about answers. Raises: UsageError, FileMissing."""
    from qwenctl.chat.choices import Choices

    grammar = "" if form is None else _grammar(form)
    if think is None and grammar:
        think = False  # a form leaves no room for thoughts before it
    thinking: Thinking = "default" if think is None else "on" if think else "off"
    choices = Choices(
        sampling={name: value for name, value in sampling.items() if value is not None},
        max_tokens=max_tokens,
        grammar=grammar,
        thinking=thinking,
    )
    try:
        choices.request((), {})  # what is out of range is told before anything is pulled
    except UsageError as error:
        raise UsageError(error.message, hint="see `qwenctl run --help`") from error
    return choices


def parse_load(
    wishes: Mapping[str, Any], kv: str | None, lora: list[str] | None, force: bool
) -> "LoadOptions":
    """How to load the model; `wishes` has fields of `LoadOptions`. Raises: UsageError, FileMissing."""
    from qwenctl.model.memory.configuration import KV_TYPES
    from qwenctl.runner.messages import LoadOptions

    if kv is not None and kv.lower() not in KV_TYPES:
        raise UsageError(f"`--kv` cannot be `{kv}`", hint=f"it is one of {', '.join(KV_TYPES)}")
    for name, value in wishes.items():
        if value is not None and value < (-1 if name == "gpu_layers" else 1):
            least = "-1, which is all of them" if name == "gpu_layers" else "1"
            raise UsageError(f"`--{_FLAGS[name]}` cannot be `{value}`", hint=f"the least is {least}")
    adapters = tuple(_adapter(text) for text in lora or ())
    kv_type = cast("KvType | None", kv and kv.lower())
    return LoadOptions(**wishes, adapters=adapters, kv_type=kv_type, force=force)


_FLAGS: Final = {
    "context_length": "context",
    "slots": "parallel",
    "threads": "threads",
    "gpu_layers": "gpu-layers",
}


def _adapter(text: str) -> "Adapter":
    """A LoRA adapter as it is typed: `FILE`, `FILE:0.5`; absolute, for the runner is elsewhere."""
    from qwenctl.runtime.engine import Adapter

    path, colon, scale = text.rpartition(":")
    if not colon or Path(text).exists():
        path, scale = text, "1"
    try:
        factor = float(scale)
    except ValueError:
        path, factor = text, 1.0
    whole = Path(path).expanduser().absolute()
    if not whole.is_file():
        raise FileMissing(f"the adapter `{path}` does not exist")
    return Adapter(path=str(whole), scale=factor)


def _grammar(form: str) -> str:
    """The grammar of `json`, or of the JSON Schema in a file."""
    import json

    from qwenctl.runtime.schema import ANY_OBJECT, grammar_of

    if form.lower() == "json":
        return ANY_OBJECT
    try:
        with Path(form).expanduser().open("rb") as file:
            raw = file.read(_SCHEMA_LIMIT_BYTES)
        return grammar_of(json.loads(raw))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FileMissing(
            f"the schema `{form}` cannot be read: {reason}",
            hint="--format takes `json`, or the path of a JSON Schema",
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"`{form}` is not JSON: {error}") from error
    except InvalidRequest as error:
        raise UsageError(f"`{form}`: {error.message}", hint=error.hint) from error
