"""Whether what is missing will find room on the disk, before the first byte of it is moved."""

from collections.abc import Iterable

from qwenctl.errors import DiskFull
from qwenctl.oci.descriptor import Descriptor
from qwenctl.store.disk import free_bytes
from qwenctl.store.footprint import measure
from qwenctl.store.ingest import present
from qwenctl.store.layout import Layout
from qwenctl.units import render_bytes


def missing_bytes(layout: Layout, descriptors: Iterable[Descriptor]) -> int:
    """How many bytes of `descriptors` the disk does not hold yet, neither whole nor as partial files."""
    distinct = {item.digest: item for item in descriptors}.values()
    return sum(item.size - _held(layout, item) for item in distinct if not present(layout, item))


def ensure_room(layout: Layout, descriptors: Iterable[Descriptor]) -> None:
    """Raises: DiskFull, with both numbers, when more of `descriptors` is missing than is free."""
    missing, free = missing_bytes(layout, descriptors), free_bytes(layout.root)
    if missing > free:
        raise DiskFull(
            f"{render_bytes(missing)} are missing, and `{layout.root}` has {render_bytes(free)} free",
            hint="`qwenctl prune` and `qwenctl rm` free space; QWENCTL_STORE names a store on another disk",
        )


def _held(layout: Layout, descriptor: Descriptor) -> int:
    """Bytes for which a partial file has blocks already."""
    found = measure(layout.partial(descriptor.digest))
    return min(descriptor.size, found.disk_bytes) if found else 0
