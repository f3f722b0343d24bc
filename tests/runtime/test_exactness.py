"""Our arithmetic against llama.cpp: what it would allocate, what it does allocate, how much it can do with.

These tests are the guard against drift. The arithmetic follows one version of llama.cpp; when
llama-cpp-python is upgraded they say whether it still holds. If they fail then: compare llama.cpp's sources
named in `qwenctl/model/memory/` with the old ones, change the arithmetic, and only then
`qwenctl.model.memory.PINNED`. `make bench` compares more, and shows where it differs most.
"""

import importlib.metadata
import random
import sys
from pathlib import Path

import msgspec
import pytest

from qwenctl.model.host import Backend
from qwenctl.model.memory import PINNED
from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.outline import Outline
from qwenctl.runtime.cpu import repacked_types
from tests.runtime.truth import (
    MAYBE_REPACKED,
    Comparison,
    Model,
    compare,
    invent,
    of_shape,
    open_truth,
    repacked_by_llama_cpp,
    sample,
    sample_gpus,
    skeleton_of,
    truths,
)
from tests.shape_models import write_shape_model
from tests.simgpu.build import simgpu_or_skip

# The first use ever of simulated GPUs fetches 77 MB and compiles.
pytestmark = pytest.mark.timeout(600)

_EXACT = ("qwen2.5-0.5b", "qwen2.5-7b", "qwen3-0.6b", "qwen3-8b")
_CLOSE = ("qwen3-30b-a3b", "llama-3.2-1b", "gemma-2-2b", "gemma-3-1b")
_LARGE = ("qwen2.5-3b", "qwen2.5-14b", "qwen2.5-32b", "qwen2.5-72b", "qwen3-4b", "qwen3-32b")
_TOLERANCE = 0.03


@pytest.fixture(scope="module")
def library() -> Path:
    """The compiled backend of simulated GPUs."""
    return simgpu_or_skip()


@pytest.fixture(scope="module")
def repacked(tmp_path_factory: pytest.TempPathFactory) -> frozenset[int]:
    """The types that this machine's CPU stores in another order."""
    return repacked_by_llama_cpp(tmp_path_factory.mktemp("repacked"))


def assert_identical(comparisons: list[Comparison]) -> None:
    """All figures agree, or the failure shows the first that do not."""
    wrong = [item.describe() for item in comparisons if item.differences]
    assert not wrong, f"{len(wrong)} of {len(comparisons)} differ:\n" + "\n".join(wrong[:5])


def invented(chance: random.Random, path: Path, architecture: str) -> Model:
    """A small model whose shape nobody has, heads that CUDA has no kernel for included."""
    kv = chance.choice((1, 2, 4, 8))
    heads = kv * chance.choice((1, 2, 3, 4, 7))
    length = chance.choice((32, 64, 96, 128, 256))
    mixture = architecture == "qwen3moe"
    outline = Outline(
        architecture,
        chance.choice((1, 2, 3, 5, 9)),
        heads * length if architecture in ("qwen2", "llama") else chance.choice((256, 896, 1280)),
        chance.choice((256, 512, 1376, 3072)),
        heads,
        kv,
        length,
        length,
        chance.choice((256, 1000, 32_000)),
        architecture.startswith("gemma") or chance.random() < 0.5,
        expert_count=16 if mixture else 0,
        expert_feed_forward_length=256 if mixture else 0,
    )
    further = {"expert_used_count": chance.choice((1, 2, 8))} if mixture else {}
    further |= {"attention.sliding_window": 512} if architecture.startswith("gemma") else {}
    return invent(path, outline, chance.choice(("F16", "Q8_0", "Q4_K_M")), further)


def test_the_arithmetic_is_of_the_installed_llama_cpp() -> None:
    """`PINNED` names the version that the figures were compared with."""
    installed = importlib.metadata.version("llama-cpp-python")
    assert installed == PINNED, (
        f"llama-cpp-python is {installed}, the arithmetic of memory follows {PINNED}: run this file and "
        "`make bench`; where figures differ, follow llama.cpp's sources; then set `PINNED`"
    )


def test_what_the_cpu_repacks_is_known(repacked: frozenset[int]) -> None:
    """The table by features of the processor says what llama.cpp does on this machine."""
    assert repacked_types() & MAYBE_REPACKED == repacked


@pytest.mark.parametrize("shape", _EXACT)
def test_dense_qwen_on_the_cpu_is_identical(tmp_path: Path, shape: str, repacked: frozenset[int]) -> None:
    """Weights, cache and compute buffer, to the byte."""
    model = of_shape(tmp_path, shape, "Q4_K_M")
    configurations = sample(random.Random(shape), model, (), 10)
    assert_identical(compare(model, configurations, repacked=repacked))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", _EXACT)
def test_dense_qwen_on_gpus_is_identical(tmp_path: Path, library: Path, shape: str, count: int) -> None:
    """All figures of every GPU and the host, full and partial offload, any split."""
    chance = random.Random(f"{shape} {count}")
    model, gpus = of_shape(tmp_path, shape, "Q8_0"), sample_gpus(chance, count)
    assert_identical(compare(model, sample(chance, model, gpus, 12), gpus, library))


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("shape", _CLOSE)
def test_other_families_are_close(tmp_path: Path, library: Path, shape: str, count: int) -> None:
    """Within 3 % in total. So far they are identical; a difference is printed."""
    chance = random.Random(f"{shape} {count}")
    model, gpus = of_shape(tmp_path, shape, "Q4_K_M"), sample_gpus(chance, count)
    comparisons = compare(model, sample(chance, model, gpus, 8), gpus, library)
    sys.stdout.writelines(f"{item.describe()}\n" for item in comparisons if item.differences)
    assert max(abs(item.error) for item in comparisons) <= _TOLERANCE


@pytest.mark.parametrize("backend", ["vulkan", "metal"])
@pytest.mark.parametrize("shape", ["qwen2.5-3b", "qwen3-8b"])
def test_other_backends_have_rules_of_their_own(
    tmp_path: Path, library: Path, repacked: frozenset[int], shape: str, backend: Backend
) -> None:
    """Vulkan allocates in pieces of 1 GiB; Metal keeps more for attention, and leaves repacked weights be."""
    chance = random.Random(f"{shape} {backend}")
    model, gpus = of_shape(tmp_path, shape, "Q4_K_M"), sample_gpus(chance, chance.choice((1, 2)), backend)
    assert_identical(compare(model, sample(chance, model, gpus, 12), gpus, library, repacked=repacked))


@pytest.mark.parametrize("seed", range(8))
def test_any_dense_qwen_is_identical(
    tmp_path: Path, library: Path, repacked: frozenset[int], seed: int
) -> None:
    """Shapes that no model has, with tied and untied output."""
    chance = random.Random(seed)
    gpus = sample_gpus(chance, seed % 4)
    model = invented(chance, tmp_path / "invented.gguf", chance.choice(("qwen2", "qwen3")))
    configurations = sample(chance, model, gpus, 8)
    assert_identical(compare(model, configurations, gpus, library, repacked=repacked))


@pytest.mark.parametrize("count", [0, 1, 2, 3])
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_a_real_load_takes_exactly_that(
    tmp_path: Path, library: Path, repacked: frozenset[int], architecture: str, count: int
) -> None:
    """llama.cpp allocates all of it; norms are bound, and generation has its say beside the prompt."""
    chance = random.Random(f"load {architecture} {count}")
    gpus = sample_gpus(chance, count)
    model = invented(chance, tmp_path / "invented.gguf", architecture)
    configurations = sample(chance, model, gpus, 10, longest_tokens=4096)
    assert_identical(compare(model, configurations, gpus, library, allocate=True, repacked=repacked))


def test_a_gpu_with_exactly_that_much_memory_suffices(tmp_path: Path, library: Path) -> None:
    """The model loads when the card has the computed bytes, and fails with a byte less."""
    chance = random.Random(3)
    gpus = sample_gpus(chance, 1)
    model = of_shape(tmp_path, "qwen2.5-0.5b", "Q4_K_M")
    configuration = Configuration(context_tokens=4096, slots=2, gpu_layers=20)
    (fits,) = compare(model, [configuration], gpus, library)
    needed = fits.computed.devices[0].total_bytes
    for free, loads in ((needed, True), (needed - 1, False)):
        card = [msgspec.structs.replace(gpus[0], free_bytes=free)]
        ((truth, reason),) = truths(model, [configuration], card, library, allocate=True)
        assert (truth is not None) == loads, reason


def test_a_skeleton_measures_as_the_whole_file(tmp_path: Path) -> None:
    """llama.cpp's figures do not depend on the vocabulary, nor on anything else that a skeleton lacks."""
    whole = open_truth(write_shape_model(tmp_path / "whole.gguf", "qwen2.5-0.5b", "Q4_K_M"))
    configurations = sample(random.Random(5), whole, (), 6)
    assert truths(skeleton_of(whole, tmp_path), configurations) == truths(whole, configurations)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2, 3])
@pytest.mark.parametrize("quantization", ["F16", "Q4_K_M", "Q2_K", "IQ4_XS"])
@pytest.mark.parametrize("shape", _LARGE)
def test_more_dense_qwen_is_identical(
    tmp_path: Path, library: Path, repacked: frozenset[int], shape: str, quantization: str, count: int
) -> None:
    """The larger models, in more quantizations."""
    chance = random.Random(f"{shape} {quantization} {count}")
    model, gpus = of_shape(tmp_path, shape, quantization), sample_gpus(chance, count)
    assert_identical(compare(model, sample(chance, model, gpus, 15), gpus, library, repacked=repacked))


@pytest.mark.slow
@pytest.mark.parametrize("allocate", [False, True])
@pytest.mark.parametrize("seed", range(100, 140))
def test_more_invented_models_are_identical(
    tmp_path: Path, library: Path, repacked: frozenset[int], seed: int, allocate: bool
) -> None:
    """All families, measured and loaded."""
    chance = random.Random(seed)
    families = ("qwen2", "qwen3", "qwen3moe", "llama", "gemma2", "gemma3")
    gpus = sample_gpus(chance, seed % 4, chance.choice(("cuda", "cuda", "vulkan", "metal")))
    model = invented(chance, tmp_path / "invented.gguf", families[seed % len(families)])
    longest = 2048 if allocate else 131_072
    configurations = sample(chance, model, gpus, 15, longest_tokens=longest)
    assert_identical(compare(model, configurations, gpus, library, allocate=allocate, repacked=repacked))
