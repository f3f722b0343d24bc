"""llama.cpp's own measurement in a child process: what it says, what it refuses, and what it leaves behind.

Whether the figures are right is the matter of `test_exactness.py`.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.hyperparameters import Unknown
from qwenctl.runtime.measure import Call, measure, run_child, write_skeleton
from tests.model.memory.memory_builders import GIB, TINY, changed, gpus, known_shape, retensored, shape_of
from tests.runtime.truth import simulated
from tests.simgpu.build import simgpu_or_skip

SMALL = Configuration(context_tokens=512, gpu_layers=0)


def test_an_answer_for_each_configuration_in_their_order() -> None:
    """The cache shows which is which: 24 layers, 2 heads of 64, K and V, 2 bytes."""
    contexts = (4096, 512, 1024)
    series = [Configuration(context_tokens=tokens, gpu_layers=0) for tokens in contexts]
    made = measure(known_shape("qwen2.5-0.5b"), series, ())
    by_token = 24 * 2 * 2 * 64 * 2
    assert [item.host.kv_cache_bytes for item in made] == [tokens * by_token for tokens in contexts]
    assert {(item.method, item.devices, item.gpu_layers, item.layers) for item in made} == {
        ("measured", (), 0, 25)
    }


def test_nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The skeleton is gone, also when llama.cpp refuses the model."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    measure(shape_of(TINY), [SMALL], ())
    with pytest.raises(Unknown):
        measure(retensored(shape_of(TINY), without="output_norm.weight"), [SMALL], ())
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_llama_cpp_refuses_has_its_reason() -> None:
    """In llama.cpp's words."""
    with pytest.raises(Unknown, match="output_norm"):
        measure(retensored(shape_of(TINY), without="output_norm.weight"), [SMALL], ())
    with pytest.raises(Unknown, match="unknown model architecture"):
        measure(changed(shape_of(TINY), {"general.architecture": "nonsense"}), [SMALL], ())


def test_one_refused_configuration_does_not_spoil_the_others(tmp_path: Path) -> None:
    """Its place is empty, and its reason is among the problems. Heads of 80 are no blocks of 32."""
    outline = replace(TINY, embedding_length=160, key_length=80, value_length=80)
    path = tmp_path / "model.gguf"
    write_skeleton(shape_of(outline), path)
    bad = Configuration(context_tokens=512, gpu_layers=0, kv_type="q8_0")
    answer = run_child(Call(path=path, configurations=[SMALL, bad, SMALL], devices=()))
    first, second, third = answer.estimates
    assert first == third and first is not None
    assert second is None
    assert len(answer.problems) == 1 and "does not divide" in answer.problems[0]


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    """Not a traceback."""
    answer = run_child(Call(path=tmp_path / "absent", configurations=[SMALL], devices=()))
    assert answer.estimates == [None] and "no file" in answer.problems[0]


def test_a_child_that_dies_has_a_reason(tmp_path: Path) -> None:
    """A backend that is no library ends it before it answers."""
    call = Call(path=tmp_path / "x", configurations=[SMALL], backends=[tmp_path / "none.so"])
    with pytest.raises(Unknown, match="ended over this model"):
        run_child(call)


def test_a_skeleton_takes_no_room_on_the_disk(tmp_path: Path) -> None:
    """A file as long as a 72B model, of a few ten kilobytes."""
    path = tmp_path / "model.gguf"
    write_skeleton(known_shape("qwen2.5-72b"), path)
    assert path.stat().st_size > 40 * GIB
    assert path.stat().st_blocks * 512 < 1 << 18


@pytest.mark.timeout(600)
def test_devices_are_those_that_were_named() -> None:
    """Of two GPUs the second alone; or none, and then none is touched; an unknown one is refused."""
    library = simgpu_or_skip()
    with simulated(gpus(8, 8)):
        whole = Configuration(context_tokens=512)
        (second,) = measure(shape_of(TINY), [whole], ("CUDA1",), [library])
        (both,) = measure(shape_of(TINY), [whole], None, [library])
        (none,) = measure(shape_of(TINY), [whole], (), [library])
        with pytest.raises(Unknown, match="no device `CUDA7`"):
            measure(shape_of(TINY), [whole], ("CUDA7",), [library])
    assert [device.name for device in second.devices] == ["CUDA1"]
    assert [device.name for device in both.devices] == ["CUDA0", "CUDA1"]
    assert both.pipeline and not second.pipeline
    assert none.devices == () and none.gpu_layers == 0
