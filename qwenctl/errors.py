"""Every error that qwenctl raises on purpose, with its code for JSON and its exit status.

QwenctlError                          1   bug (only as a fallback; raise a subclass)
├── UsageError                        2   the request itself is wrong
│   ├── InvalidReference              2   a model name that the grammar refuses
│   ├── InvalidDigest                 2   `algorithm:hex` that we do not accept
│   ├── InvalidSettings               2   a settings value that cannot be used
│   ├── Conflict                      2   allowed in principle, not in this state
│   ├── AccessDenied                  2   the file system forbids it
│   ├── ForeignOrigin                 2   a request that a web page of another site may have made
│   └── InvalidApiKey                 2   a request to the server without its key
├── NotFound                          3
│   ├── ReferenceUnknown              3   no such model, tag or digest here or there
│   ├── BlobUnknown                   3   the content of a descriptor is absent
│   └── FileMissing                   3   a path the user named does not exist
├── RemoteError                       4
│   ├── Unreachable                   4   no connection, no answer
│   │   └── ConnectionBroken          4   a connection that was made and then failed
│   ├── Unauthorized                  4   401 or 403 after the credentials were tried
│   ├── RateLimited                   4   429 after the retries
│   └── RegistryFailure               4   an answer that the protocol does not allow
│       └── RangeIgnored              4   a piece was asked for, and all of it would come
├── IntegrityError                    5
│   ├── DigestMismatch                5   the bytes are not the ones the digest names
│   ├── SizeMismatch                  5   fewer or more bytes than the descriptor says
│   ├── Malformed                     5   a manifest, layout, header or config that breaks its format
│   └── StoreDamaged                  5   a check of the store found what is missing or damaged
├── DoesNotFit                        6
│   ├── DiskFull                      6
│   └── MemoryShort                   6
├── EngineError                       7
│   ├── LoadFailed                    7   llama.cpp refused the model
│   ├── GenerationFailed              7   a decode step failed
│   ├── InvalidRequest                7   a chat or completion request the engine cannot follow
│   │   └── BodyTooLarge              7   more bytes than a request may have
│   ├── PromptTooLong                 7   more tokens than the context holds
│   ├── WorkerDied                    7   the process of a loaded model ended
│   ├── Overloaded                    7   as many requests wait as may
│   ├── TimedOut                      7   a request took longer than it may
│   └── RunnerUnavailable             7   the background service does not start or answer
└── Interrupted                     130   Ctrl-C
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

Side = Literal["source", "target"]


class QwenctlError(Exception):
    """An error with a message for a person, a code for a program and an exit status for a shell.

    The message is lower case without a full stop, names the thing in backticks; `hint` is the next
    step that helps. Messages never carry credentials.
    """

    code: ClassVar[str] = "bug"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.report: object = None
        """What the command found all the same: the `data` of a failure's envelope."""


class UsageError(QwenctlError):
    """The request itself is wrong: arguments, names, settings."""

    code = "usage"
    exit_code = 2


class InvalidReference(UsageError):
    """A model name that the reference grammar refuses."""

    code = "invalid_reference"


class InvalidDigest(UsageError):
    """Text that is not a digest of an accepted algorithm."""

    code = "invalid_digest"


class InvalidSettings(UsageError):
    """A settings value, from flag, environment or file, that cannot be used."""

    code = "invalid_settings"


class Conflict(UsageError):
    """Allowed in principle, but not in the present state, such as removing a loaded model."""

    code = "conflict"


class AccessDenied(UsageError):
    """The file system forbids reading or writing a path."""

    code = "access_denied"


class ForeignOrigin(UsageError):
    """A request to our server whose `Host` or `Origin` a web page of another site would have."""

    code = "foreign_origin"


class InvalidApiKey(UsageError):
    """A request to our server without its key, or with another one."""

    code = "invalid_api_key"


class NotFound(QwenctlError):
    """The thing named does not exist."""

    code = "not_found"
    exit_code = 3


class ReferenceUnknown(NotFound):
    """No such model, tag or digest where it was looked for."""

    code = "model_unknown"


class BlobUnknown(NotFound):
    """The content that a descriptor names is absent."""

    code = "blob_unknown"


class FileMissing(NotFound):
    """A path that the user named does not exist."""

    code = "file_missing"


class RemoteError(QwenctlError):
    """A registry could not be used."""

    code = "remote"
    exit_code = 4


class Unreachable(RemoteError):
    """No connection could be made, or nothing answers there."""

    code = "unreachable"


class ConnectionBroken(Unreachable):
    """A connection that had been made failed: worth another try, and tried several times."""

    code = "connection_broken"


class Unauthorized(RemoteError):
    """The registry refused the request with the credentials at hand (401 or 403)."""

    code = "unauthorized"


class RateLimited(RemoteError):
    """The registry asked to come back later (429) for longer than we wait."""

    code = "rate_limited"


class RegistryFailure(RemoteError):
    """An answer that the distribution protocol does not allow, or a 5xx after the retries."""

    code = "registry_failure"


class RangeIgnored(RegistryFailure):
    """A server that knows no byte ranges was asked for a piece: it would send everything before it too."""

    code = "range_ignored"


class IntegrityError(QwenctlError):
    """Bytes that are not what they should be."""

    code = "integrity"
    exit_code = 5


class DigestMismatch(IntegrityError):
    """The bytes do not hash to the digest that names them."""

    code = "digest_mismatch"


class SizeMismatch(IntegrityError):
    """Fewer or more bytes than the descriptor says."""

    code = "size_mismatch"


class Malformed(IntegrityError):
    """A document (manifest, layout, GGUF header, model config) that breaks its format."""

    code = "malformed"


class StoreDamaged(IntegrityError):
    """Content of the store is missing, damaged or malformed; `report` says what."""

    code = "store_damaged"

    def __init__(self, message: str, *, hint: str | None = None, report: object = None) -> None:
        super().__init__(message, hint=hint)
        self.report = report


class DoesNotFit(QwenctlError):
    """Not enough of a resource; the message has both numbers."""

    code = "does_not_fit"
    exit_code = 6


class DiskFull(DoesNotFit):
    """Not enough free disk space."""

    code = "disk_full"


class MemoryShort(DoesNotFit):
    """Not enough RAM or VRAM."""

    code = "memory_short"


class EngineError(QwenctlError):
    """The engine, its worker process or the runner failed."""

    code = "engine"
    exit_code = 7


class LoadFailed(EngineError):
    """llama.cpp refused the model."""

    code = "load_failed"


class GenerationFailed(EngineError):
    """A decode step failed; other requests go on."""

    code = "generation_failed"


class InvalidRequest(EngineError):
    """A request that the engine cannot follow: its roles, its template, its options."""

    code = "invalid_request"


class BodyTooLarge(InvalidRequest):
    """A request whose body has more bytes than it may."""

    code = "body_too_large"


class PromptTooLong(EngineError):
    """The prompt has more tokens than the context holds; the message has both numbers."""

    code = "prompt_too_long"


class WorkerDied(EngineError):
    """The process of a loaded model ended; the next request loads it again."""

    code = "worker_died"


class Overloaded(EngineError):
    """As many requests wait for the model as may; a later one is welcome again."""

    code = "overloaded"


class TimedOut(EngineError):
    """A request took longer than the runner lets one take."""

    code = "timed_out"


class RunnerUnavailable(EngineError):
    """The background service does not start or does not answer."""

    code = "runner_unavailable"


class Interrupted(QwenctlError):
    """The user pressed Ctrl-C."""

    code = "interrupted"
    exit_code = 130


def error_classes(root: type[QwenctlError] = QwenctlError) -> Iterator[type[QwenctlError]]:
    """Every error class of the tree, `root` first, in the order of definition."""
    yield root
    for child in root.__subclasses__():
        yield from error_classes(child)


def error_class(code: str) -> type[QwenctlError]:
    """The class with this `code`; `QwenctlError` for a code we do not know (a newer peer)."""
    return next((cls for cls in error_classes() if cls.code == code), QwenctlError)
