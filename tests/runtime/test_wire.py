from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import DoesNotFit, EngineError, LoadFailed, PromptTooLong, QwenctlError, error_classes
from qwenctl.runtime import wire
from qwenctl.runtime.engine import (
    ChatRequest,
    CompletionRequest,
    EngineOptions,
    EngineStats,
    Message,
    TextPart,
    ToolCall,
)
from qwenctl.runtime.events import Finished, PromptProcessed, TextDelta, Usage
from qwenctl.runtime.sampling import Sampling

CHAT = ChatRequest(
    messages=(Message("user", (TextPart("é"),)), Message("assistant", None, (ToolCall("f", "{}"),))),
    tools=({"b": 1, "a": [None, {"c": 2.5}]},),
    template_options={"enable_thinking": False},
    sampling=Sampling(seed=1),
    stop=("x",),
)
COMMANDS: list[wire.Command] = [
    wire.Load(EngineOptions(path=Path("/models/é.gguf"), context_length=5)),
    wire.Generate(1, CHAT),
    wire.Generate(2, CompletionRequest(prompt="p", max_tokens=3)),
    wire.Count(3, CHAT),
    wire.Cancel(1),
    wire.ReadStats(4),
    wire.Shutdown(),
]
REPORTS: list[wire.Report] = [
    wire.Emitted(1, PromptProcessed(3, 1, 0.5)),
    wire.Emitted(1, TextDelta("é", 2)),
    wire.Emitted(1, Finished("stop", Usage(1, 2, 3, 0.1, 0.2))),
    wire.Counted(3, 17),
    wire.Stats(
        4,
        EngineStats(
            slots=1,
            running=0,
            waiting=0,
            prompt_tokens=0,
            cached_tokens=0,
            completion_tokens=0,
            decode_calls=0,
        ),
        9,
    ),
    wire.Failed(None, "load_failed", "m", "h"),
]


def test_commands_come_back_as_they_went() -> None:
    """Every command survives a frame, paths and tools included."""
    reader = wire.FrameReader()
    bodies = reader.feed(b"".join(map(wire.encode, COMMANDS)))
    assert [wire.decode_command(body) for body in bodies] == COMMANDS


def test_reports_come_back_as_they_went() -> None:
    """Every report survives a frame."""
    bodies = wire.FrameReader().feed(b"".join(map(wire.encode, REPORTS)))
    assert [wire.decode_report(body) for body in bodies] == REPORTS


@given(st.lists(st.integers(1, 40), min_size=1))
def test_frames_may_arrive_in_any_pieces(sizes: list[int]) -> None:
    """The cut of the stream does not matter, and a frame is given as soon as it is whole."""
    stream = b"".join(map(wire.encode, REPORTS))
    reader, bodies, at = wire.FrameReader(), [], 0
    for turn in range(len(stream)):
        size = sizes[turn % len(sizes)]
        bodies += reader.feed(stream[at : at + size])
        at += size
    assert [wire.decode_report(body) for body in bodies] == REPORTS


def test_absurd_lengths_are_refused_at_once() -> None:
    """Nothing is gathered for a frame that is too long."""
    with pytest.raises(EngineError, match="too long"):
        wire.FrameReader().feed((wire.MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x81\xa4type\xa3abc", b"\xff" * 9])
def test_what_is_no_message_is_an_engine_error(body: bytes) -> None:
    """In both directions."""
    with pytest.raises(EngineError):
        wire.decode_command(body)
    with pytest.raises(EngineError):
        wire.decode_report(body)


@pytest.mark.parametrize("cls", [PromptTooLong, LoadFailed, DoesNotFit])
def test_errors_cross_with_class_message_and_hint(cls: type[QwenctlError]) -> None:
    """What is raised on one side is raised on the other."""
    error = wire.Failed.of(5, cls("what", hint="then")).error()
    assert (type(error), error.message, error.hint) == (cls, "what", "then")
    assert cls in error_classes()
