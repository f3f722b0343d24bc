"""What the runner and its clients say to each other under `/qwenctl/v1`, as JSON.

    GET  status      → RunnerStatus
    GET  loaded      → [LoadedStatus, …]
    POST load        LoadCall → LoadedStatus, when the model is ready
    POST stop        StopCall → StopAnswer
    POST chat        ChatCall → lines (NDJSON) of events, `Finished` or `Failed` the last
    GET  requests    → [RequestRecord, …], the newest last; ?model=NAME&limit=N&after=NUMBER&bodies=true
    GET  models      → [ModelReport, …]; ?model=NAME is the one of that name
    POST configure   ConfigureCall → ConfigureAnswer
    POST shutdown    ShutdownCall → RunnerStatus; the runner leaves when its requests are done

An error is a `Failed` (`runtime.wire`), with a status that fits.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from qwenctl.model.memory.configuration import FlashAttention, KvType
from qwenctl.model.memory.plan import Plan
from qwenctl.runtime.engine import Adapter, ChatRequest, LoadedModel, Speculation
from qwenctl.runtime.events import Event
from qwenctl.runtime.wire import Failed

PREFIX: Final = "/qwenctl/v1"
SOCKET_NAME: Final = "runner.sock"
LOG_NAME: Final = "runner.log"

ChatLine = Event | Failed
"""One line of the answer to a `ChatCall`."""


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The caller's wishes for opening a model; None leaves one to the model, the machine and the engine.

    `adapters` are laid over the model. `speculation` guesses tokens and verifies them together, up to
    `draft_tokens` at a time; `draft` is the path of the small model that guesses. `force` tries a load that
    does not fit by the plan.
    """

    context_length: int | None = None
    slots: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    flash_attention: FlashAttention | None = None
    kv_type: KvType | None = None
    adapters: tuple[Adapter, ...] = ()
    speculation: Speculation | None = None
    draft_tokens: int | None = None
    draft: str | None = None
    force: bool = False

    def given(self) -> dict[str, object]:
        """The wishes that were made, by the names that `EngineOptions` has for them."""
        wishes = msgspec.structs.asdict(self)
        return {name: value for name, value in wishes.items() if value not in (None, ()) and name != "force"}

    def over(self, others: "LoadOptions") -> "LoadOptions":
        """These wishes, and the `others` where these say nothing."""
        return msgspec.structs.replace(others, **self.given(), force=self.force or others.force)


class LoadCall(msgspec.Struct, frozen=True, kw_only=True):
    """Load a model and keep it for `keep_alive` after its last request."""

    model: str
    options: LoadOptions = LoadOptions()
    keep_alive: str | int | float | None = None


class ChatCall(msgspec.Struct, frozen=True, kw_only=True):
    """Run a conversation on a model, which is loaded first if need be."""

    model: str
    request: ChatRequest
    keep_alive: str | int | float | None = None


class StopCall(msgspec.Struct, frozen=True):
    """Unload a model, or all of them; requests that run on it fail."""

    model: str | None = None


class StopAnswer(msgspec.Struct, frozen=True):
    """The names of the models that were unloaded."""

    stopped: list[str]


class ModelsQuery(msgspec.Struct, frozen=True):
    """Which models: the one of this name or id, else all."""

    model: str | None = None


class ModelReport(msgspec.Struct, frozen=True):
    """A model that can be asked for; `sampling` is what its maker suggests, or the user has set."""

    name: str
    id: str
    sampling: dict[str, float] = {}


class ConfigureCall(msgspec.Struct, frozen=True, kw_only=True):
    """Change what a model is loaded and run with: `given` by the names of `configure`'s options, `unset` back
    to nothing, all of it after a `reset`. A call that changes nothing is a question. Paths are the runner's.
    """

    model: str
    given: dict[str, Any] = {}
    unset: list[str] = []
    reset: bool = False


class ConfigureAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All that is set for the model now, by the names of the options, and the name it is filed under."""

    model: str
    reference: str
    configured: dict[str, Any]
    changed: bool


class ShutdownCall(msgspec.Struct, frozen=True):
    """Leave. With `only_if_idle` a runner that works answers Conflict and stays."""

    only_if_idle: bool = False


class LoadedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A model in the runner. `model` and the memory are None while it loads.

    `plan` is what the load was planned to take, None where nobody could tell; `model.memory` is what it took.

    `requests` are on it now, `waiting` of them for a slot, or for the load; `expires_seconds` from now it is
    unloaded, None while it works or for ever. `options` are the wishes it was loaded with; `configured` names
    what `configure` had set by then.
    """

    name: str
    id: str
    state: Literal["loading", "ready"]
    requests: int
    expires_seconds: float | None
    waiting: int = 0
    pid: int | None = None
    resident_bytes: int | None = None
    model: LoadedModel | None = None
    plan: Plan | None = None
    options: LoadOptions = LoadOptions()
    configured: tuple[str, ...] = ()


class RequestsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests: the last `limit`, of a model, that ended `after` the one with this number."""

    model: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1)] = 1000
    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    bodies: bool = False


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A request that a door got, as far as it is known.

    `number` counts the requests that are over, in the order of their ends; 0 while it is under way. `ended`
    is `stop`, `length` or `cancelled`, `done` for one without a text, or the code of its error; None while it
    is under way. `model` is None where it did not come so far, `status` that of HTTP, None over no door.
    Seconds count from its arrival: to the first token, waiting and loading included, and to the end, or until
    now. `request` (as the engine got it) and `answer` are there only where the user had bodies recorded.
    """

    id: int
    number: int
    time: datetime
    door: str
    method: str
    path: str
    model: str | None
    kind: str | None
    status: int | None
    ended: str | None
    error: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token_seconds: float | None
    seconds: float
    tokens_per_second: float | None
    request: object = None
    answer: str | None = None


class RunnerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers: version, process, whose models, where else it listens, what it does.

    `foreground` tells `qwenctl serve` from a runner that was started on demand. `url` is None without a
    TCP port; `address` is what it is bound to. `requests` hold a model or wait for one. The fields without
    defaults are what a client of another version decides by: they stay.
    """

    version: str
    pid: int
    store: str
    foreground: bool
    url: str | None = None
    address: str | None = None
    uptime_seconds: float = 0.0
    requests: int = 0
    models: int = 0
