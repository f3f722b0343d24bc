"""The words between a runner and a worker process: messages, and frames to carry them over a pipe.

A frame is a 4-byte big-endian length and that many bytes of msgpack. Commands go in on the worker's stdin,
reports come back on its stdout. Ids are the runner's choice, unique among the requests that are not over.

    Load      → Loaded | Failed(id None)           once, first
    Generate  → Emitted… with Finished last | Failed(id)
    Cancel    → (the request's Emitted(Finished) follows, or Failed of texts, unless it was over)
    Count     → Counted | Failed(id)
    Embed     → Embedded | Failed(id)
    Rerank    → Ranked | Failed(id)
    ReadStats → Stats
    Shutdown  → the process ends; so does the end of stdin
"""

from pathlib import Path
from typing import Final

import msgspec

from qwenctl.errors import EngineError, QwenctlError, error_class
from qwenctl.runtime.engine import (
    Embeddings,
    EmbedRequest,
    EngineOptions,
    EngineStats,
    LoadedModel,
    Request,
    RerankRequest,
    Scores,
)
from qwenctl.runtime.events import Event

_LENGTH_BYTES: Final = 4
# A request carries whole conversations; a million tokens of text are about 5 MB.
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Open a model; the first command a worker gets."""

    options: EngineOptions


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """Run a request under this id."""

    id: int
    request: Request


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """End the request of this id; unknown ids are ignored, for they may just be over."""

    id: int


class Count(msgspec.Struct, frozen=True, tag="count"):
    """Count the prompt tokens of a request without running it."""

    id: int
    request: Request


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """Turn texts into vectors."""

    id: int
    request: EmbedRequest


class Rerank(msgspec.Struct, frozen=True, tag="rerank"):
    """Score documents."""

    id: int
    request: RerankRequest


class ReadStats(msgspec.Struct, frozen=True, tag="read_stats"):
    """Ask for the counters."""

    id: int


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """End the process in order."""


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model is open and takes requests."""

    model: LoadedModel


class Emitted(msgspec.Struct, frozen=True, tag="emitted"):
    """One event of the request with this id."""

    id: int
    event: Event


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """The answer to `Count`."""

    id: int
    tokens: int


class Embedded(msgspec.Struct, frozen=True, tag="embedded"):
    """The answer to `Embed`."""

    id: int
    embeddings: Embeddings


class Ranked(msgspec.Struct, frozen=True, tag="ranked"):
    """The answer to `Rerank`."""

    id: int
    scores: Scores


class Stats(msgspec.Struct, frozen=True, tag="stats"):
    """The answer to `ReadStats`; `resident_bytes` is the memory of the whole worker process."""

    id: int
    engine: EngineStats
    resident_bytes: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """An error that ends the request with this id, or the load where it is None."""

    id: int | None
    code: str
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, id: int | None, error: QwenctlError) -> "Failed":
        """The report of `error`."""
        return cls(id, error.code, error.message, error.hint)

    def error(self) -> QwenctlError:
        """The error to raise on this side of the pipe, of the same class as on the other."""
        return error_class(self.code)(self.message, hint=self.hint)


Command = Load | Generate | Cancel | Count | Embed | Rerank | ReadStats | Shutdown
Report = Loaded | Emitted | Counted | Embedded | Ranked | Stats | Failed


class FrameReader:
    """Cuts a byte stream into frames; feed it what arrives, in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The bodies of the frames that `chunk` completes, in order.

        Raises: EngineError for a length beyond `MAX_FRAME_BYTES`; the stream is lost then.
        """
        self._buffer += chunk
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH_BYTES:
            body = start + _LENGTH_BYTES
            length = int.from_bytes(self._buffer[start:body], "big")
            if length > MAX_FRAME_BYTES:
                raise EngineError(f"a frame of {length} bytes between runner and worker is too long")
            if len(self._buffer) - body < length:
                break
            start = body + length
            bodies.append(bytes(self._buffer[body:start]))
        del self._buffer[:start]
        return bodies


def encode(message: Command | Report) -> bytes:
    """`message` as one frame. Raises: EngineError when it is longer than a frame may be."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise EngineError(f"a message of {len(body)} bytes is too long for the worker")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def decode_command(body: bytes) -> Command:
    """The command in a frame. Raises: EngineError when it is none; InvalidRequest for values out of range."""
    try:
        return _commands.decode(body)
    except msgspec.MsgspecError as error:
        raise EngineError(f"the runner sent no command: {error}") from error


def decode_report(body: bytes) -> Report:
    """The report in a frame. Raises: EngineError when it is none."""
    try:
        return _reports.decode(body)
    except msgspec.MsgspecError as error:
        raise EngineError(f"the worker sent no report: {error}") from error


def _to_builtin(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value)} does not travel")


def _from_builtin(kind: type, value: object) -> object:
    """Paths travel as text; `object` marks JSON that is nobody's business here."""
    return Path(str(value)) if kind is Path else value


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_to_builtin)
_commands: Final[msgspec.msgpack.Decoder[Command]] = msgspec.msgpack.Decoder(Command, dec_hook=_from_builtin)
_reports: Final[msgspec.msgpack.Decoder[Report]] = msgspec.msgpack.Decoder(Report, dec_hook=_from_builtin)
