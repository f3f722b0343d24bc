"""Fit of models that are opened in other ways: for vectors, beyond the trained context, with adapters."""

from pathlib import Path

import msgspec
import pytest

from qwenctl.errors import UsageError
from qwenctl.flows.fit import Machine, Subject, fit, planner_for, subject_of_file
from qwenctl.flows.fit_model import Judge
from qwenctl.model.memory.configuration import Configuration, for_texts
from qwenctl.model.memory.estimate import estimate
from qwenctl.model.memory.plan import Wishes
from qwenctl.model.purpose import Use
from qwenctl.runtime.cpu import repacked_types
from qwenctl.runtime.engine import EngineOptions
from qwenctl.runtime.local import open_engine
from qwenctl.runtime.measure import measure
from tests.model.memory.memory_builders import changed, gpus, known_shape
from tests.model.memory.plan_builders import machine
from tests.runtime.runtime_builders import write_tiny_model
from tests.runtime.text_models import MEAN, RANK, write_bert, write_qwen3

KIB = 1024


@pytest.fixture(scope="module")
def qwen() -> Subject:
    """Qwen2.5 0.5B, whose file says 32,768 tokens and whose card 131,072."""
    shape = changed(known_shape("qwen2.5-0.5b"), {"qwen2.context_length": 32_768})
    return Subject("qwen", shape, 400 << 20)


def test_a_context_beyond_the_trained_one_is_counted_and_noted(qwen: Subject) -> None:
    """128k of Qwen2.5: 24 layers, two heads of 64 numbers, keys and values of two bytes."""
    verdict = fit(qwen, Machine(machine(64)), Wishes(context_tokens=131_072, slots=1))
    assert verdict.totals is not None and verdict.totals.kv_cache == 131_072 * 24 * 2 * 2 * 64 * 2
    assert verdict.context_max == 131_072
    (note,) = verdict.notes
    assert "YaRN" in note and "131072" in note and "32768" in note


def test_up_to_the_trained_context_there_is_nothing_to_note(qwen: Subject) -> None:
    """And the longest context is the trained one, which costs no quality."""
    verdict = fit(qwen, Machine(machine(64)), Wishes())
    assert (verdict.notes, verdict.context_max) == ([], 32_768)
    longest = Judge(Machine(machine(64)), Wishes(), longest=True)(qwen)
    assert longest.configuration is not None and longest.configuration.context_tokens == 32_768


def test_a_context_that_no_setting_reaches_is_refused_with_the_numbers(qwen: Subject) -> None:
    """Memory does not matter then."""
    with pytest.raises(UsageError, match=r"200000 tokens .* 32768 and stretched to 131072") as caught:
        fit(qwen, Machine(machine(640)), Wishes(context_tokens=200_000))
    assert caught.value.hint == "ask for at most 131072"


def test_llama_cpp_measures_such_a_context_as_it_is_computed(qwen: Subject) -> None:
    """To the byte."""
    configuration = Configuration(context_tokens=131_072, gpu_layers=0)
    (measured,) = measure(qwen.shape, [configuration], ())
    computed = estimate(qwen.shape, configuration)
    assert measured.host == computed.host


@pytest.mark.parametrize("kind", ["bert", "bert-rank", "qwen3-last", "qwen3-mean", "qwen3-rank"])
def test_a_model_for_texts_is_planned_as_it_is_opened(tmp_path: Path, kind: str) -> None:
    """What the plan says is what llama.cpp says of the opened model."""
    path = tmp_path / "model.gguf"
    {
        "bert": lambda: write_bert(path),
        "bert-rank": lambda: write_bert(path, pooling=RANK, ranks=True),
        "qwen3-last": lambda: write_qwen3(path),
        "qwen3-mean": lambda: write_qwen3(path, pooling=MEAN),
        "qwen3-rank": lambda: write_qwen3(path, pooling=RANK, labels=("yes", "no")),
    }[kind]()
    plan = planner_for(subject_of_file(path).shape, Machine(machine(8), repacked=repacked_types())).plan(
        Wishes()
    )
    assert plan.verdict == "cpu"
    configuration = plan.configuration
    engine = open_engine(
        EngineOptions(
            path=path,
            context_length=configuration.context_tokens,
            slots=configuration.slots,
            gpu_layers=0,
        )
    )
    loaded = engine.model.memory
    engine.close()
    if loaded is not None:
        planned = plan.estimate.host
        assert planned.weights_bytes == loaded.host.weights_bytes
        assert planned.kv_cache_bytes == loaded.host.kv_cache_bytes
        assert planned.output_bytes == loaded.host.output_bytes
        assert abs(planned.compute_bytes - loaded.host.compute_bytes) < 80 * KIB


def test_an_embedding_model_has_one_cache_for_all_its_texts() -> None:
    """Not one for each slot: 28 layers, 8 heads of 128 numbers."""
    shape = changed(known_shape("qwen3-0.6b"), {"qwen3.pooling_type": 3, "qwen3.context_length": 32_768})
    made = planner_for(shape, Machine(machine(64))).estimating(
        Configuration(context_tokens=8192, slots=4), ()
    )
    assert made.host.kv_cache_bytes == 8192 * 28 * 2 * 8 * 128 * 2
    assert not made.exact


def test_texts_in_one_piece_make_the_batch_as_long_as_the_context() -> None:
    """Each token then has a row of outputs; in pieces only the last of each text has."""
    asked = Configuration(context_tokens=2048, slots=4)
    whole = for_texts(asked, Use("embedding", "mean", whole=True))
    assert (whole.batch_tokens, whole.ubatch_tokens, whole.outputs, whole.unified) == (2048, 2048, 0, True)
    pieces = for_texts(asked, Use("embedding", "last", whole=False))
    assert (pieces.batch_tokens, pieces.ubatch_tokens, pieces.outputs) == (512, 512, pieces.slots)
    assert (
        for_texts(msgspec.structs.replace(asked, context_tokens=8), Use("ranking", "rank", whole=True)).slots
        == 8
    )


@pytest.mark.parametrize("cards", [(), (24,), (24, 24)])
def test_adapters_are_counted_with_the_weights(tmp_path: Path, cards: tuple[float, ...]) -> None:
    """Where those are, in their parts; a byte of rounding for each place."""
    shape = subject_of_file(write_tiny_model(tmp_path / "tiny.gguf")).shape
    host, more = Machine(machine(8, *cards), method="computed"), 1_000_000
    configuration = Configuration(context_tokens=256, slots=1, tensor_split=(1.0,) * len(cards))
    plain = planner_for(shape, host).estimating(configuration, gpus(*cards))
    adapted = planner_for(shape, host, more).estimating(configuration, gpus(*cards))
    assert 0 <= adapted.total_bytes - plain.total_bytes - more <= len(cards) + 1
