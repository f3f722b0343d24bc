"""The hash that follows a growing file: pieces in any order, told in any order."""

import os
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

from qwenctl.errors import DigestMismatch, Interrupted
from qwenctl.oci.digest import Digest, Verifier
from qwenctl.oci.target import PIECE
from qwenctl.store.follow import Follower
from tests.contracts.target import some_bytes

RAW = some_bytes(size=3 * PIECE + 5)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FileIO]:
    """A file to be written."""
    with (tmp_path / "partial").open("w+b", buffering=0) as opened:
        yield opened


def write(file: FileIO, follower: Follower, number: int) -> tuple[memoryview, int, int]:
    """Write one piece into a buffer and the file; what the follower is to be told."""
    piece, buffer = RAW[number * PIECE : (number + 1) * PIECE], follower.buffer()
    buffer[: len(piece)] = piece
    os.pwrite(file.fileno(), piece, number * PIECE)
    return buffer, len(piece), number * PIECE


def finish(follower: Follower) -> bool:
    """Whether the hash comes to its end, and is right."""
    ended: list[bool] = []

    def wait() -> None:
        follower.finish()
        ended.append(True)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(10)
    return bool(ended)


def test_pieces_in_order(file: FileIO) -> None:
    """From the hand of who writes them."""
    follower = Follower(file, Verifier(Digest.of(RAW), len(RAW)))
    for number in range(4):
        buffer, count, position = write(file, follower, number)
        follower.wrote(buffer, count, position, position + count)
    assert finish(follower)


def test_what_is_told_late_takes_nothing_back(file: FileIO) -> None:
    """Of two that write, the one that was first may tell last how far everything is there."""
    follower = Follower(file, Verifier(Digest.of(RAW), len(RAW)))
    told = [write(file, follower, number) for number in range(4)]
    follower.wrote(*told[3], 0)
    follower.wrote(*told[2], 0)
    follower.wrote(*told[1], len(RAW))  # it looked after the other one had written its piece …
    follower.wrote(*told[0], PIECE)  # … which tells only now what it saw before
    assert finish(follower)


def test_a_file_that_is_there_already(file: FileIO) -> None:
    """It is read back."""
    file.write(RAW)
    follower = Follower(file, Verifier(Digest.of(RAW), len(RAW)))
    follower.begin(len(RAW))
    assert finish(follower)


def test_a_file_that_is_another(file: FileIO) -> None:
    """Wrong bytes are found out."""
    file.write(RAW[::-1])
    follower = Follower(file, Verifier(Digest.of(RAW), len(RAW)))
    follower.begin(len(RAW))
    with pytest.raises(DigestMismatch):
        follower.finish()


def test_given_up(file: FileIO) -> None:
    """Who waits for a buffer is told."""
    follower = Follower(file, Verifier(Digest.of(RAW), len(RAW)))
    follower.give_up()
    with pytest.raises(Interrupted):
        follower.buffer()
