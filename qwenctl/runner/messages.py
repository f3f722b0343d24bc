"""What the runner and its clients say to each other under `/qwenctl/v1`, as JSON.

    GET  status      → RunnerStatus
    GET  loaded      → [LoadedStatus, …]
    POST load        LoadCall → LoadedStatus, when the model is ready
    POST stop        StopCall → StopAnswer
    POST chat        ChatCall → lines (NDJSON) of events, `Finished` or `Failed` the last
    POST shutdown    ShutdownCall → RunnerStatus; the runner leaves when its requests are done

An error is a `Failed` (`runtime.wire`), with a status that fits.
"""

from typing import Final, Literal

import msgspec

from qwenctl.model.memory.configuration import FlashAttention, KvType
from qwenctl.model.memory.plan import Plan
from qwenctl.runtime.engine import ChatRequest, LoadedModel
from qwenctl.runtime.events import Event
from qwenctl.runtime.wire import Failed

PREFIX: Final = "/qwenctl/v1"
SOCKET_NAME: Final = "runner.sock"
LOG_NAME: Final = "runner.log"

ChatLine = Event | Failed
"""One line of the answer to a `ChatCall`."""


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The caller's wishes for opening a model; None leaves one to the model, the machine and the engine.

    `force` tries a load that does not fit by the plan.
    """

    context_length: int | None = None
    slots: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    flash_attention: FlashAttention | None = None
    kv_type: KvType | None = None
    force: bool = False

    def given(self) -> dict[str, object]:
        """The wishes that were made, by the names that `EngineOptions` has for them."""
        wishes = msgspec.structs.asdict(self)
        return {name: value for name, value in wishes.items() if value is not None and name != "force"}


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


class ShutdownCall(msgspec.Struct, frozen=True):
    """Leave. With `only_if_idle` a runner that works answers Conflict and stays."""

    only_if_idle: bool = False


class LoadedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A model in the runner. `model` and the memory are None while it loads.

    `plan` is what the load was planned to take, None where nobody could tell; `model.memory` is what it took.

    `requests` are on it now; `expires_seconds` from now it is unloaded, None while it works or for ever.
    """

    name: str
    id: str
    state: Literal["loading", "ready"]
    requests: int
    expires_seconds: float | None
    pid: int | None = None
    resident_bytes: int | None = None
    model: LoadedModel | None = None
    plan: Plan | None = None


class RunnerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers: version, process, whose models, where else it listens, what it does.

    `foreground` tells `qwenctl serve` from a runner that was started on demand. `url` is None without a
    TCP port. `requests` hold a model or wait for one. The fields without defaults are what a client of
    another version decides by: they stay.
    """

    version: str
    pid: int
    store: str
    foreground: bool
    url: str | None = None
    uptime_seconds: float = 0.0
    requests: int = 0
    models: int = 0
