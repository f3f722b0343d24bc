"""Contexts beyond the trained one: what llama.cpp computes there, and what is said about it."""

import struct
from math import hypot
from pathlib import Path

import pytest

from qwenctl.errors import LoadFailed
from qwenctl.runtime.engine import CompletionRequest, EmbedRequest, EngineOptions
from qwenctl.runtime.local import LlamaEngine, open_engine
from qwenctl.runtime.sampling import Sampling
from tests.contracts.engine import run
from tests.runtime.runtime_builders import f32, text_value, u32, write_tiny_model

TRAINED, STRETCHED = 256, 1024
TEXT = "a text whose tokens have positions"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A qwen2 trained with 256 tokens, whose file says nothing of scaling."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "plain.gguf", context_length=TRAINED)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, whose file says what its makers recommend for four times as many."""
    key = "qwen2.rope.scaling"
    scaling = [
        (f"{key}.type", text_value("yarn")),
        (f"{key}.factor", f32(STRETCHED / TRAINED)),
        (f"{key}.original_context_length", u32(TRAINED)),
    ]
    path = tmp_path_factory.mktemp("models") / "said.gguf"
    return write_tiny_model(path, context_length=STRETCHED, further=scaling)


def opened(path: Path, context_length: int | None) -> LlamaEngine:
    """An engine that sums in full precision."""
    options = EngineOptions(
        path=path, context_length=context_length, slots=1, flash_attention="off", kv_type="f32"
    )
    return open_engine(options)


def answer(engine: LlamaEngine, prompt: str, tokens: int = 20) -> str:
    """What comes after the prompt, greedily."""
    request = CompletionRequest(prompt=prompt, sampling=Sampling(temperature=0), max_tokens=tokens)
    return run(engine, request)[0]


def vector(engine: LlamaEngine, text: str) -> tuple[float, ...]:
    """What the model makes of a text."""
    made = engine.embed(EmbedRequest(texts=(text,)))
    return struct.unpack(f"<{made.dimensions}f", made.vectors[0])


def test_it_is_what_a_file_says_that_has_it(plain: Path, said: Path) -> None:
    """Vectors and answers, short and beyond the trained length, are those of llama.cpp by the file."""
    ours, theirs = opened(plain, STRETCHED), opened(said, STRETCHED)
    for text in (TEXT, TEXT * 20):
        assert len(text) < STRETCHED
        assert vector(ours, text) == pytest.approx(vector(theirs, text), abs=1e-5)
        assert answer(ours, text) == answer(theirs, text)
    ours.close()
    theirs.close()


def test_positions_are_stretched_for_short_texts_too(plain: Path) -> None:
    """One token has no position to be seen by; more have. Without need nothing is stretched."""
    whole, stretched, short = opened(plain, TRAINED), opened(plain, STRETCHED), opened(plain, 100)
    assert vector(stretched, "x") == pytest.approx(vector(whole, "x"), abs=1e-5)
    assert _distance(vector(stretched, TEXT), vector(whole, TEXT)) > 1e-3
    assert vector(short, TEXT) == pytest.approx(vector(whole, TEXT), abs=1e-5)
    for engine in (whole, stretched, short):
        engine.close()


def test_whoever_loads_it_is_told(plain: Path) -> None:
    """With both numbers; and the trained context stays what the file says."""
    engine = opened(plain, STRETCHED)
    assert (engine.model.context_length, engine.model.trained_context_length) == (STRETCHED, TRAINED)
    (note,) = engine.model.notes
    assert "1024 tokens" in note and "256 of the training" in note and "YaRN" in note
    engine.close()


@pytest.mark.parametrize("context_length", [None, TRAINED])
def test_without_need_there_is_nothing_to_tell(plain: Path, context_length: int | None) -> None:
    """The default context is the trained one."""
    engine = opened(plain, context_length)
    assert engine.model.context_length == TRAINED
    assert engine.model.notes == ()
    engine.close()


def test_beyond_four_times_it_is_refused_with_the_numbers(plain: Path) -> None:
    """And the hint says how far it goes."""
    with pytest.raises(LoadFailed, match=r"1025 tokens .* trained with 256 and stretched to 1024") as caught:
        opened(plain, STRETCHED + 1)
    assert caught.value.hint == "ask for at most 1024"


def _distance(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return hypot(*(a - b for a, b in zip(one, other, strict=True)))
