"""Leases: what a running pull relies on, so that a removal beside it does not take it away.

A lease is a file of descriptors, one JSON object a line, locked by the process that holds it. The kernel
frees the lock with the process, so the lease of a killed pull is void at once.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


def leased(layout: Layout) -> tuple[Descriptor, ...]:
    """The descriptors of all live leases; void ones are removed. The caller holds the lock of the index.

    Raises: Malformed for a live lease that cannot be understood: then nothing may be collected.
    """
    if not layout.leases.is_dir():
        return ()
    with translated(layout.leases):
        paths = sorted(layout.leases.iterdir())
    return tuple(descriptor for path in paths for descriptor in _read(layout, path))


def _read(layout: Layout, path: Path) -> list[Descriptor]:
    with translated(path):
        try:
            file = path.open("r+b", buffering=0)
        except FileNotFoundError:
            return []  # it ended just now
        with file:
            if try_lock(file.fileno()):
                layout.disk.unlink(path)
                return []
            lines = file.read().splitlines()
    try:
        return [Descriptor.parse(json.loads(line), f"`{path}`") for line in lines]
    except ValueError as error:
        raise Malformed(f"`{path}` is not JSON") from error
