"""Leases: what a running pull relies on, so that a removal beside it does not take it away.

A lease is a file of digests, locked by the process that holds it. The kernel frees the lock with the
process, so the lease of a killed pull is void at once.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qwenctl.errors import InvalidDigest
from qwenctl.oci.digest import Digest
from qwenctl.store.disk import translated, try_lock
from qwenctl.store.layout import Layout


@contextmanager
def lease(layout: Layout, digests: Iterable[Digest]) -> Iterator[None]:
    """Hold a lease on `digests` while the block runs.

    It is written under the lock of the index: a removal sees it, or has ended before the holder looks
    what is there.
    """
    path = layout.leases / f"{os.getpid()}-{os.urandom(6).hex()}"
    with layout.lock(), translated(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try_lock(handle)
        os.write(handle, "\n".join(str(digest) for digest in digests).encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def leased(layout: Layout) -> frozenset[Digest]:
    """The digests of all live leases; void ones are removed. The caller holds the lock of the index."""
    found: set[Digest] = set()
    if not layout.leases.is_dir():
        return frozenset()
    for path in sorted(layout.leases.iterdir()):
        with translated(path):
            found |= _read(path)
    return frozenset(found)


def _read(path: Path) -> set[Digest]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return set()  # it ended just now
    with os.fdopen(handle, "rb") as file:
        if try_lock(handle):
            path.unlink(missing_ok=True)
            return set()
        return {digest for line in file.read().decode().split() if (digest := _parse(line))}


def _parse(line: str) -> Digest | None:
    try:
        return Digest.parse(line)
    except InvalidDigest:
        return None
