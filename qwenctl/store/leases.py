"""Leases: what a running pull relies on, so that a removal beside it does not take it away.

A lease is a file of descriptors, one JSON object a line, locked by the process that holds it. The kernel
frees the lock with the process, so the lease of a killed pull is void at once.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from qwenctl.errors import Malformed
from qwenctl.oci.descriptor import Descriptor
from qwenctl.store.disk import translated, try_lock
from qwenctl.store.layout import Layout


@contextmanager
def lease(layout: Layout, descriptors: Iterable[Descriptor]) -> Iterator[None]:
    """Hold a lease on `descriptors`, and on what is under them, while the block runs.

    It is written under the lock of the index: a removal sees it, or has ended before the holder looks
    what is there.
    """
    text = "".join(json.dumps(descriptor.render()) + "\n" for descriptor in descriptors)
    path = layout.disk.make_directory(layout.leases) / f"{os.getpid()}-{os.urandom(6).hex()}"
    with layout.lock(), translated(path):
        file = path.open("xb", buffering=0)
        _write(layout, file, text)
    try:
        yield
    finally:
        layout.disk.unlink(path)
        file.close()


def _write(layout: Layout, file: FileIO, text: str) -> None:
    try:
        try_lock(file.fileno())
        layout.disk.write(file, memoryview(text.encode()))
    except BaseException:
        file.close()  # void from now on
        raise


@dataclass(frozen=True, slots=True)
class Leases:
    """What is leased at this moment, and the files of leases that ended without their holder's doing."""

    held: tuple[Descriptor, ...]
    void: tuple[Path, ...]


def leased(layout: Layout) -> tuple[Descriptor, ...]:
    """The descriptors of all live leases; void ones are removed. The caller holds the lock of the index.

    Raises: Malformed for a live lease that cannot be understood: then nothing may be collected.
    """
    leases = read_leases(layout)
    for path in leases.void:
        layout.disk.unlink(path)
    return leases.held


def read_leases(layout: Layout) -> Leases:
    """The leases, live and void; nothing is removed. The caller holds the lock of the index.

    Without that lock a lease that is just being written would be taken for a void one, and become one.
    Raises: Malformed for a live lease that cannot be understood.
    """
    held: list[Descriptor] = []
    void: list[Path] = []
    if layout.leases.is_dir():
        with translated(layout.leases):
            paths = sorted(layout.leases.iterdir())
        for path in paths:
            descriptors = _read(path)
            if descriptors is None:
                void.append(path)
            else:
                held += descriptors
    return Leases(tuple(held), tuple(void))


def _read(path: Path) -> list[Descriptor] | None:
    """The descriptors of a live lease; None for a void one."""
    with translated(path):
        try:
            file = path.open("r+b", buffering=0)
        except FileNotFoundError:
            return []  # it ended just now
        with file:
            if try_lock(file.fileno()):
                return None
            lines = file.read().splitlines()
    try:
        return [Descriptor.parse(json.loads(line), f"`{path}`") for line in lines]
    except ValueError as error:
        raise Malformed(f"`{path}` is not JSON") from error
