"""What a person may set about answers, and the request that follows from it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import msgspec

from qwenctl.errors import InvalidRequest, UsageError
from qwenctl.runtime.engine import ChatRequest, Message
from qwenctl.runtime.sampling import Sampling

Thinking = Literal["default", "on", "off", "hide"]
"""Whether the model thinks before it answers; `default` leaves it to the model, `hide` shows none of it."""

SAMPLING: Final[Mapping[str, type[int] | type[float]]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "typical_p": float,
    "repeat_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "seed": int,
}
CONTEXT: Final = "context"
PARAMETERS: Final = (*SAMPLING, "max_tokens", "stop", "format", "think", CONTEXT, "system")
"""The names that `/set` takes."""

# As Ollama calls them.
_OTHER_NAMES: Final = {"num_ctx": CONTEXT, "num_predict": "max_tokens", "temp": "temperature"}
_DEFAULT: Final = "default"


def parameter_name(text: str) -> str:
    """The parameter that `text` means: `top-p` and `num_ctx` are understood."""
    plain = text.lower().replace("-", "_")
    return _OTHER_NAMES.get(plain, plain)


@dataclass(frozen=True, slots=True)
class Choices:
    """What was set; what was not is the model's. `sampling` has fields of `Sampling`.

    `grammar` holds answers to a form; `max_tokens` None is until the context is full.
    """

    sampling: Mapping[str, float | int] = field(default_factory=dict)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    grammar: str = ""
    thinking: Thinking = "default"

    def changed(self, name: str, text: str) -> "Choices":
        """These choices with one more, as `/set NAME TEXT` says it; `default` takes one back.

        Raises: UsageError for a name or a value that is none.
        """
        if name in SAMPLING:
            return self._sampled(name, text)
        match name:
            case "max_tokens":
                return replace(self, max_tokens=None if text == _DEFAULT else _count(name, text))
            case "stop":
                return replace(self, stop=() if text == _DEFAULT else (*self.stop, text))
            case "format":
                return replace(self, grammar=_form(text))
            case "think":
                return replace(self, thinking=_thinking(text))
        raise UsageError(f"there is no parameter `{name}`", hint=f"it is one of {', '.join(PARAMETERS)}")

    def request(self, messages: tuple[Message, ...], suggested: Mapping[str, float]) -> ChatRequest:
        """The request; `suggested` is the model's own sampling, which what was set goes before.

        Raises: UsageError for values outside their ranges.
        """
        chosen = {**suggested, **self.sampling}
        try:
            sampling = msgspec.convert({**chosen, "grammar": self.grammar}, Sampling)
            return ChatRequest(
                messages=messages,
                sampling=sampling,
                max_tokens=self.max_tokens,
                stop=self.stop,
                template_options=self._template_options(),
            )
        except (InvalidRequest, msgspec.ValidationError) as error:
            raise UsageError(str(error)) from error

    def rows(self, suggested: Mapping[str, float]) -> list[tuple[str, str]]:
        """Name and value of what is in force, for a person."""
        sampling = self.request((), suggested).sampling
        rows = [(name, _value(getattr(sampling, name))) for name in SAMPLING]
        rows += [("max_tokens", _value(self.max_tokens)), ("think", self.thinking)]
        rows += [("stop", " ".join(map(repr, self.stop))), ("format", "json" if self.grammar else "")]
        return [(name, value) for name, value in rows if value]

    def _template_options(self) -> dict[str, bool | int | float | str]:
        return {} if self.thinking == "default" else {"enable_thinking": self.thinking != "off"}

    def _sampled(self, name: str, text: str) -> "Choices":
        rest = {key: value for key, value in self.sampling.items() if key != name}
        if text == _DEFAULT:
            return replace(self, sampling=rest)
        try:
            value = SAMPLING[name](text)
        except ValueError:
            raise UsageError(f"`{text}` is not a number") from None
        changed = replace(self, sampling={**rest, name: value})
        changed.request((), {})  # its range is known before it is used
        return changed


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:12]) > 0):
        raise UsageError(f"`{name}` is a number of tokens, not `{text}`")
    return int(text)


def parse_context(text: str) -> int:
    """A context length as it is typed: `8192`, `8k`. Raises: UsageError."""
    plain = text.lower()
    return _count(CONTEXT, plain.removesuffix("k")) * (1024 if plain.endswith("k") else 1)


def _form(text: str) -> str:
    from qwenctl.runtime.schema import ANY_OBJECT

    match text.lower():
        case "json":
            return ANY_OBJECT
        case "text" | "default":
            return ""
    raise UsageError(f"there is no format `{text}`", hint="it is json or text")


def _thinking(text: str) -> Thinking:
    match text.lower():
        case "on" | "off" | "hide" | "default" as mode:
            return mode
    raise UsageError(f"thinking is on, off or hide, not `{text}`")


def _value(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
