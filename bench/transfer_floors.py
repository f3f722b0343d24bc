"""The floors of a transfer: its bytes hashed, or written, and nothing else. Run as a program of its own.

    python -m bench.transfer_floors hash SIZE COUNT
    python -m bench.transfer_floors write SIZE COUNT DIRECTORY

COUNT contents of SIZE bytes, in pieces of a MiB; each file is synced at its end. Prints one JSON object
with the seconds of wall clock and CPU, without the start of Python.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PIECE = 1 << 20
POOL = 64 << 20  # bytes that are hashed and written in turn: more than the caches of the processor hold


def main() -> None:
    """Do what the arguments say and print what it took."""
    kind, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pool = memoryview(os.urandom(min(POOL, max(size, PIECE))))
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        if kind == "hash":
            hash_once(pool, size)
        else:
            write_once(pool, size, Path(sys.argv[4]) / str(number))
    figures = {
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }
    print(json.dumps(figures))


def hash_once(pool: memoryview, size: int) -> None:
    """SHA-256 over `size` bytes."""
    verifier = hashlib.sha256()
    for piece in pieces(pool, size):
        verifier.update(piece)
    verifier.digest()


def write_once(pool: memoryview, size: int, path: Path) -> None:
    """A file of `size` bytes, durable."""
    with path.open("wb", buffering=0) as file:
        for piece in pieces(pool, size):
            file.write(piece)
        os.fsync(file.fileno())


def pieces(pool: memoryview, size: int) -> Iterator[memoryview]:
    """`size` bytes out of the pool, over and over."""
    position = 0
    while size:
        count = min(PIECE, size)
        if position + count > len(pool):
            position = 0
        yield pool[position : position + count]
        position, size = position + count, size - count


if __name__ == "__main__":
    main()
