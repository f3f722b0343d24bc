"""What a typed line asks for: a closed set of values, made by `session`, carried out by `terminal`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Send:
    """Ask the model this; the files that it mentions (`@file`), as typed, belong to it if they are there."""

    text: str
    mentions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """Ask the last question again; its answer is set aside already."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Let the person edit this text in an editor, and then send it."""

    text: str


@dataclass(frozen=True, slots=True)
class Say:
    """Show this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The conversation is another one now, and is to be saved; show this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Cleared:
    """The conversation is forgotten, the system message not: what follows is a new chat."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The person wants to go."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No such command; `suggestion` is the one that was probably meant."""

    command: str
    suggestion: str | None


@dataclass(frozen=True, slots=True)
class Nothing:
    """An empty line."""


@dataclass(frozen=True, slots=True)
class SwitchModel:
    """Go on with this model."""

    name: str


@dataclass(frozen=True, slots=True)
class SetContext:
    """Load the model again with this context length."""

    tokens: int


@dataclass(frozen=True, slots=True)
class Attach:
    """Read this file; it goes with the next message."""

    path: str


@dataclass(frozen=True, slots=True)
class Save:
    """Write the conversation to this path; without one, tell where it is kept."""

    path: str


@dataclass(frozen=True, slots=True)
class Load:
    """Go on with a saved chat, by its id or a path."""

    source: str


@dataclass(frozen=True, slots=True)
class ShowModel:
    """Tell about the model: a topic of `/show`."""

    topic: str


@dataclass(frozen=True, slots=True)
class ShowTokens:
    """Tell how full the context is."""


@dataclass(frozen=True, slots=True)
class ShowStats:
    """Tell what the last answer and all of them cost."""


Action = (
    Send
    | Retry
    | Edit
    | Say
    | Changed
    | Cleared
    | Leave
    | Unknown
    | Nothing
    | SwitchModel
    | SetContext
    | Attach
    | Save
    | Load
    | ShowModel
    | ShowTokens
    | ShowStats
)
