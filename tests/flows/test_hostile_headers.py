"""Hostile and damaged headers from a remote: refused, or right for the file, in bounded memory."""

import random
import resource
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import pytest

from qwenctl.errors import Malformed
from qwenctl.model.gguf import read_front, read_header
from qwenctl.model.table import FRONT_BYTES, WINDOW_BYTES, find_header
from tests.flows.header_builders import BOUND, SMALL, SMALL_METADATA, Served, small_tensors
from tests.model.gguf_builders import gguf_file

MEMORY = 256 * 1024 * 1024
"""Bytes that a hostile header may cost."""

HUGE = (1 << 20, 1 << 31, 1 << 32, 1 << 53, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def hostile_files() -> dict[str, bytes]:
    """Headers that announce what they do not have, by what is wrong with them."""
    front = SMALL[:4096]
    files = {"empty": b"", "short": SMALL[:20], "only the front": front}
    files |= {f"{count} tensors": SMALL[:8] + count.to_bytes(8, "little") + SMALL[16:] for count in HUGE}
    files |= {f"{count} keys": SMALL[:16] + count.to_bytes(8, "little") + SMALL[24:] for count in HUGE}
    for key in ("qwen2.block_count", "qwen2.embedding_length", "qwen2.attention.head_count"):
        at = SMALL.index(key.encode()) + len(key) + 4
        for value in (0, 255, 256, (1 << 31) - 1, (1 << 32) - 1):
            files[f"{key} {value}"] = SMALL[:at] + value.to_bytes(4, "little") + SMALL[at + 4 :]
    at = SMALL.index(b"tokenizer.ggml.tokens") + 21 + 8
    files |= {f"{count} tokens": SMALL[:at] + count.to_bytes(8, "little") + SMALL[at + 8 :] for count in HUGE}
    overlapping = (replace(small_tensors()[0], offset=0), replace(small_tensors()[1], offset=32))
    files["overlapping tensors"] = gguf_file(SMALL_METADATA, (*overlapping, *small_tensors()[2:]))
    absurd = replace(small_tensors()[1], offset=1 << 62)
    files["an absurd offset"] = gguf_file(SMALL_METADATA, (small_tensors()[0], absurd, *small_tensors()[2:]))
    return files


@pytest.mark.parametrize("name", hostile_files())
def test_hostile_headers_are_refused_within_bounds(name: str) -> None:
    """Malformed, or a header that holds for the file; a fraction of the permitted memory."""
    tracemalloc.start()
    try:
        check(hostile_files()[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY / 4


@pytest.mark.parametrize("count", [1, 1000, 65_536])
def test_a_window_full_of_beginnings_is_given_up(count: int) -> None:
    """A table of which every row could be the first costs a few tries, not one for each."""
    row = (9).to_bytes(8, "little") + b"an.x.bias" + bytes(4) + bytes(4) + bytes(8)
    window = (row * (WINDOW_BYTES // len(row) + 1))[:WINDOW_BYTES]
    front = replace(read_front(BytesIO(SMALL)), tensor_count=count)
    assert find_header(window, FRONT_BYTES, front, 1 << 40) is None


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Damaged copies of a small valid file: in the front, around the table, anywhere; flipped, cut, moved."""
    dice = random.Random(seed)
    header = read_header(BytesIO(SMALL))
    front, table = read_front(BytesIO(SMALL)).size_bytes, header.size_bytes
    for _ in range(count):
        raw = bytearray(SMALL)
        low, high = dice.choice(((0, 32), (0, front), (table - 1500, table), (0, table)))
        for _ in range(dice.choice((1, 1, 2, 5))):
            mutate(dice, raw, dice.randrange(low, high))
        yield bytes(raw)


def mutate(dice: random.Random, raw: bytearray, at: int) -> None:
    """One damage at about `at`."""
    match dice.randrange(6):
        case 0:
            raw[at : at + 1] = bytes([dice.randrange(256)])
        case 1:
            raw[at : at + 8] = dice.choice((*HUGE, 0, 1, dice.getrandbits(64))).to_bytes(8, "little")
        case 2:
            raw[at : at + 4] = dice.choice((0, 1, 9, 0xFFFF_FFFF, dice.getrandbits(32))).to_bytes(4, "little")
        case 3:
            del raw[at : at + dice.randrange(1, 64)]
        case 4:
            raw[at:at] = raw[at : at + dice.randrange(1, 64)]
        case _:
            del raw[at + dice.randrange(len(raw)) :]


def check(raw: bytes) -> str:
    """Read a damaged file: Malformed, or a header that holds for the file. Says which."""
    try:
        read = Served(raw).read(size=len(raw))
    except Malformed as error:
        assert error.exit_code == 5
        return "malformed"
    header = read.header
    assert header.file_bytes <= len(raw)
    assert all(tensor.offset % header.alignment == 0 for tensor in header.tensors)
    if read.method == "two ranges":
        assert read.bytes_read <= BOUND
        assert len(raw) - header.file_bytes < header.alignment
    return read.method


def check_mutations(seed: int, count: int) -> None:
    """All of them, in bounded memory; every outcome occurs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {check(raw) for raw in mutations(seed, count)}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert outcomes == {"malformed", "stream", "two ranges"}
    assert grown * 1024 < MEMORY


def test_damaged_headers_are_refused_or_right() -> None:
    """Three thousand mutations."""
    check_mutations(1, 3000)


@pytest.mark.slow
def test_many_damaged_headers_are_refused_or_right() -> None:
    """Ten thousand more."""
    check_mutations(2, 10_000)
