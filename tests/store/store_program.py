"""A process that pulls, removes and sweeps in a store at random until it is told to stop, or killed.

python -m tests.store.store_program PATH SEED SECONDS
"""

import sys
import time
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random

from qwenctl.errors import ReferenceUnknown
from qwenctl.oci.descriptor import OCI_EMPTY, Descriptor
from qwenctl.oci.manifest import Manifest, build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Content, content_of
from qwenctl.store.gc import collect
from qwenctl.store.store import Store
from tests.contracts.target import BLOB

MODELS = 5


class Trickle(BytesIO):
    """A reader as slow as a network, so that a process can be killed in the middle of a blob."""

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # as `Reader` has it
        """Some of the next bytes, after a while."""
        time.sleep(0.001)
        return super().readinto(buffer[: 64 << 10])


def trickle(raw: bytes) -> Content:
    """Content that comes slowly."""
    return lambda offset: Trickle(raw[offset:])


@cache
def layer(number: int) -> bytes:
    """The content of one layer."""
    return Random(number % MODELS).randbytes((1 + number % 3) << 20)


@cache
def model(number: int) -> tuple[Manifest, list[bytes]]:
    """A model that shares each of its layers with a neighbour, and all the content in order."""
    contents = [b"{}", layer(number), layer(number + 1)]
    config = Descriptor.of(contents[0], OCI_EMPTY)
    manifest = build_manifest(config, tuple(Descriptor.of(raw, BLOB) for raw in contents[1:]))
    return manifest, contents


def pull(store: Store, number: int, open_content: Callable[[bytes], Content] = content_of) -> None:
    """Bring a model in as the flows do: protected, skipping what is there, the tag last."""
    manifest, contents = model(number)
    with store.protect([manifest.descriptor, *manifest.successors]):
        for descriptor, raw in zip(manifest.successors, contents, strict=True):
            if not store.exists(descriptor):
                store.push(descriptor, open_content(raw))
        store.push(manifest.descriptor, content_of(manifest.raw))
        store.tag(manifest.descriptor, Reference.parse(f"model:{number}"))


def remove(store: Store, chance: Random) -> None:
    """Take one of the names away, and what only it needed."""
    tags = store.tags()
    if not tags:
        return
    reference, _ = chance.choice(tags)
    try:
        gone = store.untag(reference)
    except ReferenceUnknown:
        return  # another process was faster
    collect(store, candidates=[gone])


def main(path: Path, seed: int, seconds: float) -> None:
    """Work at random, and say when it begins."""
    store, chance = Store.open(path), Random(seed)
    for number in range(MODELS):
        model(number)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        verb = chance.choice(("pull", "pull", "remove", "sweep"))
        if verb == "pull":
            pull(store, chance.randrange(MODELS), trickle)
        elif verb == "remove":
            remove(store, chance)
        else:
            collect(store)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
