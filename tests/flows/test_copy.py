"""The one mover: order of effects, skipping, stopping, verification."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import pytest

from qwenctl.errors import BlobUnknown, DigestMismatch, ReferenceUnknown, SizeMismatch, Unreachable
from qwenctl.flows.copy import (
    BlobFinished,
    BlobProgress,
    BlobSkipped,
    BlobsPlanned,
    BlobStarted,
    CopyEvent,
    copy,
)
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Content, MemoryTarget, Reader, content_of
from qwenctl.store.store import Store
from tests.builders import index_of, model

NAME = Reference.parse("me/model:v1")


class Recorder(MemoryTarget):
    """A target that notes the order of what becomes visible, and can fail at the n-th effect."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.effects: list[str] = []
        self.protected: set[str] = set()
        self._fail_at = fail_at

    def _effect(self, what: str) -> None:
        if self._fail_at is not None and len(self.effects) == self._fail_at:
            raise Unreachable("the target went away")
        self.effects.append(what)

    def push(self, descriptor: Descriptor, content: Content) -> None:
        self._effect("manifest" if descriptor.is_manifest else "blob")
        super().push(descriptor, content)

    def tag(self, descriptor: Descriptor, reference: Reference) -> None:
        self._effect("tag")
        super().tag(descriptor, reference)

    def protect(self, descriptors: Iterable[Descriptor]) -> AbstractContextManager[None]:
        @contextmanager
        def held() -> Iterator[None]:
            self.protected = {str(item.digest) for item in descriptors}
            yield

        return held()


class Damaged(MemoryTarget):
    """A source that sends other bytes than it promised, or fewer."""

    def __init__(self, damage: str) -> None:
        super().__init__()
        self._damage = damage

    def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None) -> Reader:
        with super().fetch(descriptor, offset, length) as reader:
            buffer = memoryview(bytearray(descriptor.size + 1))
            raw = bytes(buffer[: reader.readinto(buffer)])
        if descriptor.is_manifest or not raw:
            return BytesIO(raw)
        return BytesIO(raw[:-1] if self._damage == "short" else raw[:-1] + bytes([raw[-1] ^ 1]))


def test_blobs_come_before_the_manifest_and_the_tag_is_last() -> None:
    """Nothing is named before all that it needs is there, and all of it is protected meanwhile."""
    source, target, made = MemoryTarget(), Recorder(), model()
    made.put(source, NAME)
    copied = copy(source, NAME, target)
    assert target.effects == ["blob", "blob", "blob", "manifest", "tag"]
    assert target.protected == {str(made.manifest.descriptor.digest), *(str(d.digest) for d in made.contents)}
    assert target.resolve(NAME) == copied.root == made.manifest.descriptor
    assert (copied.blobs_moved, copied.blobs_present) == (3, 0)
    assert copied.moved_bytes == sum(map(len, made.contents.values()))


def test_a_second_copy_moves_nothing() -> None:
    """What is there is skipped; the result says so."""
    source, target = MemoryTarget(), MemoryTarget()
    model().put(source, NAME)
    copy(source, NAME, target)
    again = copy(source, NAME, target)
    assert (again.moved_bytes, again.blobs_moved, again.blobs_present) == (0, 0, 3)


@pytest.mark.parametrize("step", range(5))
def test_stopping_after_any_step_leaves_no_tag_and_the_next_copy_finishes(step: int) -> None:
    """Whatever was visible is whole; what came over is not fetched again."""
    source, target = MemoryTarget(), Recorder(fail_at=step)
    made = model()
    made.put(source, NAME)
    with pytest.raises(Unreachable):
        copy(source, NAME, target, jobs=1)
    with pytest.raises(ReferenceUnknown):
        target.resolve(NAME)
    target._fail_at = None
    again = copy(source, NAME, target, jobs=1)
    assert again.blobs_present == min(step, 3)
    assert target.resolve(NAME) == made.manifest.descriptor


@pytest.mark.parametrize(("damage", "error"), [("bit", DigestMismatch), ("short", SizeMismatch)])
def test_damaged_content_is_refused(tmp_path: Path, damage: str, error: type[Exception]) -> None:
    """A flipped bit or a missing byte in flight: an error, and nothing is visible under the name."""
    source, target = Damaged(damage), Store.open(tmp_path / "store")
    made = model()
    made.put(source, NAME)
    with pytest.raises(error):
        copy(source, NAME, target)
    assert target.tags() == ()
    assert not any(target.exists(item) for item in made.contents)


def test_an_index_is_copied_with_all_that_is_under_it() -> None:
    """Children come before the index; what two of them share moves once."""
    source, target = MemoryTarget(), Recorder()
    one, two = model(1), model(2)
    one.put(source)
    two.put(source)
    index = index_of(one, two)
    source.push(index.descriptor, content_of(index.raw))
    source.tag(index.descriptor, NAME)
    copied = copy(source, NAME, target)
    assert target.effects[-4:] == ["manifest", "manifest", "manifest", "tag"]
    assert target.resolve(NAME) == index.descriptor
    assert copied.blobs_moved == len({*one.contents, *two.contents})


def test_a_pinned_reference_moves_no_tag_but_keeps_the_content(tmp_path: Path) -> None:
    """A digest pins: the tag of the same name stays where it was."""
    source, target = MemoryTarget(), Store.open(tmp_path / "store")
    old, new = model(1), model(2)
    old.put(target, NAME)
    new.put(source)
    pinned = NAME.at(new.manifest.descriptor.digest)
    copy(source, pinned, target)
    assert target.resolve(NAME) == old.manifest.descriptor
    assert target.resolve(pinned).digest == new.manifest.descriptor.digest
    assert [e.repository for e in target.entries() if e.reference is None] == ["docker.io/me/model"]


def test_events_tell_the_whole_story() -> None:
    """Each moved blob starts, goes forward and finishes; each present one is skipped."""
    source, target, events = MemoryTarget(), MemoryTarget(), list[CopyEvent]()
    made = model(padding=3_000_000)
    made.put(source, NAME)
    weights, license_ = made.manifest.layers
    target.push(license_, content_of(made.license))
    copy(source, NAME, target, observe=events.append)
    planned, *rest = events
    assert isinstance(planned, BlobsPlanned)
    of_weights = [event for event in rest if getattr(event, "descriptor", None) == weights]
    assert of_weights[0] == BlobStarted(weights, 0)
    assert of_weights[-1] == BlobFinished(weights, weights.size)
    positions = [event.position for event in of_weights if isinstance(event, BlobProgress)]
    assert positions == sorted(positions) and positions[-1] == weights.size
    assert BlobSkipped(license_) in events


def test_a_missing_blob_at_the_source_stops_the_copy() -> None:
    """A source that promised what it does not have is reported as such."""
    source, target = MemoryTarget(), MemoryTarget()
    made = model()
    made.put(source, NAME)
    del source._content[made.manifest.layers[0].digest]
    with pytest.raises(BlobUnknown):
        copy(source, NAME, target)


def test_interrupted_content_is_resumed_where_it_stopped(tmp_path: Path) -> None:
    """The next copy asks the source for the rest alone."""
    store, made = Store.open(tmp_path / "store"), model(padding=5_000_000)

    class Breaking(MemoryTarget):
        """A source whose connection breaks in the middle of the weights, once."""

        asked: ClassVar[list[int]] = []

        def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None) -> Reader:
            reader = super().fetch(descriptor, offset, length)
            if descriptor != made.manifest.layers[0]:
                return reader
            self.asked.append(offset)
            return _Breaks(made.weights[offset:], 2_500_000) if len(self.asked) == 1 else reader

    source = Breaking()
    made.put(source, NAME)
    with pytest.raises(Unreachable):
        copy(source, NAME, store)
    copied = copy(source, NAME, store)
    assert source.asked[0] == 0 and source.asked[1] >= 2_000_000
    assert copied.moved_bytes < len(made.weights) - 2_000_000
    assert store.blob_path(made.manifest.layers[0]).read_bytes() == made.weights


class _Breaks(BytesIO):
    """Gives some bytes and then fails like a connection."""

    def __init__(self, raw: bytes, limit: int) -> None:
        super().__init__(raw)
        self._limit = limit

    def readinto(self, buffer: object, /) -> int:
        if self.tell() >= self._limit:
            raise Unreachable("the connection broke")
        return super().readinto(memoryview(buffer)[:100_000])  # type: ignore[arg-type]
