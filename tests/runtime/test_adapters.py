"""LoRA adapters laid over a model when it is opened."""

import random
import struct
from pathlib import Path

import pytest

from qwenctl.errors import FileMissing, LoadFailed
from qwenctl.runtime.engine import Adapter, CompletionRequest, EmbedRequest, EngineOptions
from qwenctl.runtime.local import LlamaEngine, open_engine
from qwenctl.runtime.sampling import Sampling
from tests.contracts.engine import run
from tests.runtime.runtime_builders import Pairs, f32, gguf, noise, text_value, tiny_model, write_tiny_model

_WIDTH, _RANK, _ALPHA = 64, 4, 8.0
_TARGET = "blk.0.attn_output.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model; tests must not change it."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "base.gguf")


def write_adapter(
    path: Path, *, architecture: str = "qwen2", further: Pairs = (), columns: int = _WIDTH
) -> Path:
    """An adapter for one matrix of the tiny model."""
    rng = random.Random(11)
    metadata = [
        ("general.type", text_value("adapter")),
        ("general.architecture", text_value(architecture)),
        ("adapter.type", text_value("lora")),
        ("adapter.lora.alpha", f32(_ALPHA)),
        *further,
    ]
    a = noise(rng, f"{_TARGET}.lora_a", columns, _RANK)
    b = noise(rng, f"{_TARGET}.lora_b", _RANK, _WIDTH)
    path.write_bytes(gguf(metadata, [a, b]))
    return path


def write_merged(path: Path, scale: float) -> Path:
    """The tiny model with the adapter's product added to its matrix: W + scale · alpha / rank · B A."""
    rng = random.Random(11)
    a = _numbers(noise(rng, "a", _WIDTH, _RANK)[2])
    b = _numbers(noise(rng, "b", _RANK, _WIDTH)[2])
    metadata, tensors = tiny_model()
    merged = []
    for name, shape, content in tensors:
        if name == _TARGET:
            weights = list(_numbers(content))
            for row in range(_WIDTH):
                for column in range(_WIDTH):
                    product = sum(b[row * _RANK + k] * a[k * _WIDTH + column] for k in range(_RANK))
                    weights[row * _WIDTH + column] += scale * _ALPHA / _RANK * product
            content = struct.pack(f"<{len(weights)}f", *weights)
        merged.append((name, shape, content))
    path.write_bytes(gguf(metadata, merged))
    return path


def _numbers(content: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(content) // 4}f", content)


def opened(path: Path, *adapters: Adapter) -> LlamaEngine:
    """An engine that sums in full precision."""
    return open_engine(EngineOptions(path=path, flash_attention="off", kv_type="f32", adapters=adapters))


def answer(engine: LlamaEngine) -> str:
    """A greedy answer; the engine is closed."""
    request = CompletionRequest(prompt="hello", sampling=Sampling(temperature=0), max_tokens=30)
    text = run(engine, request)[0]
    engine.close()
    return text


def vector(engine: LlamaEngine) -> tuple[float, ...]:
    """A vector; the engine is closed."""
    made = engine.embed(EmbedRequest(texts=("a text",)))
    engine.close()
    return _numbers(made.vectors[0])


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_an_adapter_is_as_its_product_in_the_weights(base: Path, tmp_path: Path, scale: float) -> None:
    """For answers and for vectors."""
    adapter = Adapter(str(write_adapter(tmp_path / "lora.gguf")), scale)
    merged = write_merged(tmp_path / "merged.gguf", scale)
    assert answer(opened(base, adapter)) == answer(opened(merged)) != answer(opened(base))
    assert vector(opened(base, adapter)) == pytest.approx(vector(opened(merged)), abs=1e-5)


def test_an_adapter_that_counts_nothing_changes_nothing(base: Path, tmp_path: Path) -> None:
    """Scale 0 is the model as it is."""
    adapter = Adapter(str(write_adapter(tmp_path / "lora.gguf")), 0.0)
    assert vector(opened(base, adapter)) == vector(opened(base))


def test_several_adapters_add_up(base: Path, tmp_path: Path) -> None:
    """Two halves of one are the whole."""
    paths = [str(write_adapter(tmp_path / name)) for name in ("one.gguf", "two.gguf")]
    halves = [Adapter(path, 0.5) for path in paths]
    whole = vector(opened(base, Adapter(paths[0])))
    assert vector(opened(base, *halves)) == pytest.approx(whole, abs=1e-5)


def test_what_is_no_adapter_for_this_model_is_refused(base: Path, tmp_path: Path) -> None:
    """Before llama.cpp sees it, in words that say what it is."""
    text = tmp_path / "readme.gguf"
    text.write_text("not a model")
    other = write_adapter(tmp_path / "llama.gguf", architecture="llama")
    for path, reason in (
        (base, "`base.gguf` is no LoRA adapter"),
        (other, "was made for a `llama` model, this one is `qwen2`"),
        (text, "`readme.gguf` is no adapter"),
    ):
        with pytest.raises(LoadFailed, match=reason):
            opened(base, Adapter(str(path)))
    for absent in ("absent.gguf", "zero\0byte"):
        with pytest.raises(FileMissing, match="no adapter"):
            opened(base, Adapter(str(tmp_path / absent)))
    with pytest.raises(LoadFailed, match="scale"):
        opened(base, Adapter(str(base), float("nan")))


def test_an_adapter_of_another_size_has_llama_cpps_reason(base: Path, tmp_path: Path) -> None:
    """The architecture is the same, the model is not."""
    adapter = write_adapter(tmp_path / "wide.gguf", columns=128)
    with pytest.raises(LoadFailed, match="incorrect shape"):
        opened(base, Adapter(str(adapter)))
