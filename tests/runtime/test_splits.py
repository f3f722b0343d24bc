"""Weights in several files, under names that llama.cpp would not find by itself."""

import struct
from pathlib import Path

import pytest

from qwenctl.errors import FileMissing, LoadFailed
from qwenctl.flows.fit import Machine, planner_for, subject_of_file
from qwenctl.model.memory.configuration import Configuration
from qwenctl.runtime.engine import CompletionRequest, EngineOptions
from qwenctl.runtime.local import open_engine
from qwenctl.runtime.measure import measure
from qwenctl.runtime.sampling import Sampling
from tests.contracts.engine import run
from tests.model.memory.plan_builders import machine
from tests.runtime.runtime_builders import gguf, text_value, tiny_model, write_tiny_model

_U16, _I32 = 2, 5


def split_model(count: int = 3) -> list[bytes]:
    """The tiny model as llama.cpp's `gguf-split` would cut it: the metadata are in the first file."""
    metadata, tensors = tiny_model()
    size = -(-len(tensors) // count)
    files = []
    for number in range(count):
        own = [
            ("split.no", struct.pack("<IH", _U16, number)),
            ("split.count", struct.pack("<IH", _U16, count)),
            ("split.tensors.count", struct.pack("<Ii", _I32, len(tensors))),
        ]
        front = metadata if number == 0 else [("general.architecture", text_value("qwen2"))]
        files.append(gguf([*front, *own], tensors[number * size : (number + 1) * size]))
    return files


def write_files(directory: Path, *names: str) -> list[Path]:
    """The split model under these names."""
    paths = [directory / name for name in names]
    for path, content in zip(paths, split_model(len(names)), strict=True):
        path.write_bytes(content)
    return paths


def answer(options: EngineOptions) -> str:
    """A greedy answer."""
    engine = open_engine(options)
    request = CompletionRequest(prompt="hello", sampling=Sampling(temperature=0), max_tokens=20)
    text = run(engine, request)[0]
    engine.close()
    return text


def test_files_of_a_split_answer_as_the_whole(tmp_path: Path) -> None:
    """Whatever they are called: in a store they have their digests for names."""
    first, *rest = write_files(tmp_path, "2c26b46b", "fcde2b2e", "ba7816bf")
    whole = write_tiny_model(tmp_path / "whole.gguf")
    assert answer(EngineOptions(path=first, splits=tuple(rest))) == answer(EngineOptions(path=whole))


def test_names_of_a_split_are_found_without_being_told(tmp_path: Path) -> None:
    """As llama.cpp itself does."""
    names = [f"tiny-{number:05d}-of-00002.gguf" for number in (1, 2)]
    first, _ = write_files(tmp_path, *names)
    assert answer(EngineOptions(path=first)) == answer(EngineOptions(path=write_tiny_model(tmp_path / "w")))


def test_files_in_a_wrong_order_or_too_few_are_refused(tmp_path: Path) -> None:
    """In llama.cpp's words; a missing file in ours."""
    one, two, three = write_files(tmp_path, "one", "two", "three")
    with pytest.raises(LoadFailed, match="invalid split file idx"):
        open_engine(EngineOptions(path=one, splits=(three, two)))
    with pytest.raises(LoadFailed, match="split count"):
        open_engine(EngineOptions(path=one, splits=(two,)))
    with pytest.raises(FileMissing, match="absent"):
        open_engine(EngineOptions(path=one, splits=(two, tmp_path / "absent")))


@pytest.mark.parametrize("told", [True, False])
def test_its_memory_is_that_of_the_whole(tmp_path: Path, told: bool) -> None:
    """Computed and measured; files beside the first are found by their names."""
    names = [f"tiny-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]
    first, *rest = write_files(tmp_path, *names)
    split = subject_of_file(first, rest if told else ())
    whole = subject_of_file(write_tiny_model(tmp_path / "whole.gguf"))
    configuration = Configuration(context_tokens=256, gpu_layers=0)
    assert measure(split.shape, [configuration], ()) == measure(whole.shape, [configuration], ())
    of_split, of_whole = (planner_for(one.shape, Machine(machine(8))) for one in (split, whole))
    assert of_split.estimating(configuration, ()) == of_whole.estimating(configuration, ())
    assert split.file_bytes == sum(path.stat().st_size for path in (first, *rest))
