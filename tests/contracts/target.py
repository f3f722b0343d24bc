"""What every target does, as functions that take a way to open one. No pytest here.

`Open()` gives a fresh, empty target and a tagged reference that it can hold: for a repository behind the
network one of its own names.
"""

import threading
from collections.abc import Callable
from functools import cache
from io import BytesIO

from qwenctl.errors import BlobUnknown, DigestMismatch, QwenctlError, ReferenceUnknown, SizeMismatch
from qwenctl.oci.descriptor import DOCKER_MANIFEST, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest, build_index, build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Content, Reader, Source, Target, content_of, read_bytes, read_document

Open = Callable[[], tuple[Target, Reference]]

BLOB = "application/octet-stream"
_SIZE = 3 * (1 << 20) + 17  # bytes: more than one piece, and not a whole number of them


class BrokenOff(Exception):
    """What the content of an interrupted push raises."""


class Interrupted(BytesIO):
    """A reader that breaks off after its bytes instead of ending."""

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # as `Reader` has it
        """Fill `buffer`, or break off at the end."""
        count = super().readinto(buffer)
        if not count:
            raise BrokenOff
        return count


@cache
def some_bytes(seed: int = 0, size: int = _SIZE) -> bytes:
    """Bytes of a size that tell every position apart."""
    return b"".join(b"%d.%d;" % (seed, number) for number in range(size // 4))[:size]


def untouchable(offset: int) -> Reader:
    """Content that must not be asked for."""
    raise AssertionError(f"asked for the content from {offset}")


def refuses(kind: type[QwenctlError], act: Callable[[], object]) -> None:
    """`act` raises `kind`, exactly this class."""
    try:
        act()
    except QwenctlError as error:
        assert type(error) is kind, f"expected {kind.__name__}, got {error!r}"
    else:
        raise AssertionError(f"expected {kind.__name__}")


def is_absent(source: Source, descriptor: Descriptor) -> None:
    """The content is neither there nor to be had."""
    assert not source.exists(descriptor)
    refuses(BlobUnknown, lambda: source.fetch(descriptor).close())


def push_bytes(target: Target, raw: bytes, media_type: str = BLOB) -> Descriptor:
    """Push bytes; their descriptor."""
    descriptor = Descriptor.of(raw, media_type)
    target.push(descriptor, content_of(raw))
    return descriptor


def push_artifact(target: Target, seed: int = 0) -> Manifest:
    """Push a small artifact, in the order that the contract asks for."""
    config = push_bytes(target, b'{"seed":%d}' % seed, "application/vnd.docker.ai.model.config.v0.1+json")
    layer = push_bytes(target, some_bytes(seed, 1000), "application/vnd.docker.ai.gguf.v3")
    manifest = build_manifest(config, (layer,))
    target.push(manifest.descriptor, content_of(manifest.raw))
    return manifest


def content_comes_back(open_target: Open) -> None:
    """What was pushed exists, and can be read whole or from any offset, the end included."""
    target, _ = open_target()
    raw = some_bytes()
    descriptor = push_bytes(target, raw)
    assert target.exists(descriptor)
    for offset in (0, 1, 1 << 20, len(raw) - 1, len(raw)):
        assert read_bytes(target.fetch(descriptor, offset), len(raw)) == raw[offset:], offset


def pieces_can_be_read(open_target: Open) -> None:
    """A piece is the bytes from its offset on, cut off at its length or at the end, also of a manifest."""
    target, _ = open_target()
    raw = some_bytes()
    descriptor = push_bytes(target, raw)
    ends = ((0, 0), (0, 1), (0, 1 << 20), (7, 1 << 21), (len(raw) - 5, 5), (len(raw) - 5, 50), (len(raw), 9))
    for offset, length in ends:
        piece = read_bytes(target.fetch(descriptor, offset, length), len(raw))
        assert piece == raw[offset : offset + length], (offset, length)
    manifest = push_artifact(target)
    piece = read_bytes(target.fetch(manifest.descriptor, 10, 20), len(manifest.raw))
    assert piece == manifest.raw[10:30]
    refuses(BlobUnknown, lambda: target.fetch(Descriptor.of(b"never", BLOB), 1, 2).close())


def readers_can_be_left(open_target: Open) -> None:
    """A reader can be closed in the middle, and twice; the next one starts anew."""
    target, _ = open_target()
    raw = some_bytes()
    descriptor = push_bytes(target, raw)
    reader = target.fetch(descriptor)
    assert reader.readinto(memoryview(bytearray(10))) > 0
    reader.close()
    reader.close()
    assert read_bytes(target.fetch(descriptor), len(raw)) == raw


def empty_content_is_content(open_target: Open) -> None:
    """A blob of no bytes can be pushed and read, and bytes under its name are refused."""
    target, _ = open_target()
    empty = Descriptor.of(b"", BLOB)
    refuses(SizeMismatch, lambda: target.push(empty, content_of(b"x")))
    assert not target.exists(empty)
    assert push_bytes(target, b"") == empty
    assert target.exists(empty)
    assert read_bytes(target.fetch(empty), 10) == b""


def other_digests_work(open_target: Open) -> None:
    """Content named by sha512 is verified and kept like any other."""
    target, _ = open_target()
    raw = some_bytes(size=5000)
    descriptor = Descriptor(BLOB, Digest.of(raw, "sha512"), len(raw))
    refuses(DigestMismatch, lambda: target.push(descriptor, content_of(raw[::-1])))
    target.push(descriptor, content_of(raw))
    assert read_bytes(target.fetch(descriptor), len(raw)) == raw


def the_absent_is_unknown(open_target: Open) -> None:
    """Content, tags and digests that never came are unknown."""
    target, reference = open_target()
    never = Descriptor.of(b"never", BLOB)
    is_absent(target, never)
    is_absent(target, Descriptor.of(b"never", OCI_MANIFEST))
    refuses(ReferenceUnknown, lambda: target.resolve(reference))
    refuses(ReferenceUnknown, lambda: target.resolve(reference.at(never.digest)))


def another_size_is_absent(open_target: Open) -> None:
    """Content exists only with the size that its descriptor says."""
    target, _ = open_target()
    raw = some_bytes(size=100)
    digest = push_bytes(target, raw).digest
    assert not target.exists(Descriptor(BLOB, digest, 99))
    assert not target.exists(Descriptor(BLOB, digest, 101))


def damaged_content_is_refused(open_target: Open) -> None:
    """Wrong bytes raise DigestMismatch, leave nothing, and do not stand in the way of the right ones."""
    target, _ = open_target()
    raw = some_bytes()
    descriptor = Descriptor.of(raw, BLOB)
    damaged = bytearray(raw)
    damaged[len(raw) // 2] ^= 1
    refuses(DigestMismatch, lambda: target.push(descriptor, content_of(bytes(damaged))))
    is_absent(target, descriptor)
    target.push(descriptor, content_of(raw))
    assert target.exists(descriptor)


def wrong_lengths_are_refused(open_target: Open) -> None:
    """Too few and too many bytes raise SizeMismatch, leave nothing, and the next push works."""
    raw = some_bytes()
    descriptor = Descriptor.of(raw, BLOB)
    for wrong in (raw[:-1], b"", raw + b"x", raw * 2):
        target, _ = open_target()
        refuses(SizeMismatch, lambda: target.push(descriptor, content_of(wrong)))  # noqa: B023 # called at once
        is_absent(target, descriptor)
        target.push(descriptor, content_of(raw))
        assert read_bytes(target.fetch(descriptor), len(raw)) == raw


def an_interrupted_push_goes_on(open_target: Open) -> None:
    """An error of the content passes through, nothing is visible, and the next push completes."""
    target, _ = open_target()
    raw = some_bytes()
    descriptor, seen = Descriptor.of(raw, BLOB), len(raw) // 2
    try:
        target.push(descriptor, lambda offset: Interrupted(raw[offset:seen]))
    except BrokenOff:
        is_absent(target, descriptor)
    else:
        raise AssertionError("the push cannot have ended")
    offsets: list[int] = []

    def rest(offset: int) -> Reader:
        offsets.append(offset)
        return content_of(raw)(offset)

    target.push(descriptor, rest)
    assert read_bytes(target.fetch(descriptor), len(raw)) == raw
    assert all(0 <= offset <= seen for offset in offsets) and offsets


def a_damaged_start_is_found_out(open_target: Open) -> None:
    """Wrong bytes kept from an interrupted push do not spoil the next one, whose content is right."""
    target, _ = open_target()
    raw = some_bytes()
    descriptor = Descriptor.of(raw, BLOB)
    wrong: Content = lambda offset: Interrupted(bytes(len(raw) // 2 - offset))  # noqa: E731
    try:
        target.push(descriptor, wrong)
    except BrokenOff:
        target.push(descriptor, content_of(raw))
    assert read_bytes(target.fetch(descriptor), len(raw)) == raw


def pushing_again_moves_nothing(open_target: Open) -> None:
    """A push of what is there already ends without asking for the content."""
    target, _ = open_target()
    raw = some_bytes(size=100)
    target.push(push_bytes(target, raw), untouchable)
    manifest = push_artifact(target)
    target.push(manifest.descriptor, untouchable)


def manifests_come_last(open_target: Open) -> None:
    """A manifest with an absent successor raises BlobUnknown and stays out until the successor came."""
    target, reference = open_target()
    config = push_bytes(target, b"{}", OCI_EMPTY)
    raw = some_bytes(size=100)
    manifest = build_manifest(config, (Descriptor.of(raw, BLOB),))
    refuses(BlobUnknown, lambda: target.push(manifest.descriptor, content_of(manifest.raw)))
    is_absent(target, manifest.descriptor)
    refuses(ReferenceUnknown, lambda: target.resolve(reference.at(manifest.descriptor.digest)))
    push_bytes(target, raw)
    target.push(manifest.descriptor, content_of(manifest.raw))
    assert target.exists(manifest.descriptor)


def manifests_keep_their_bytes(open_target: Open) -> None:
    """A manifest comes back byte for byte, unknown fields and white space included."""
    target, reference = open_target()
    config = push_bytes(target, b"{}", OCI_EMPTY)
    raw = (
        b'{ "schemaVersion": 2, "x": [1e2],\n "mediaType": "%s", "layers": [], "config":'
        b' {"mediaType": "%s", "digest": "%s", "size": 2} }'
    ) % (OCI_MANIFEST.encode(), OCI_EMPTY.encode(), str(config.digest).encode())
    descriptor = push_bytes(target, raw, OCI_MANIFEST)
    found = target.resolve(reference.at(descriptor.digest))
    assert (found.digest, found.size, found.media_type) == (descriptor.digest, len(raw), OCI_MANIFEST)
    assert read_document(target, found).raw == raw


def indexes_are_manifests(open_target: Open) -> None:
    """An index follows its manifests and is resolved as an index."""
    target, reference = open_target()
    manifests = tuple(push_artifact(target, seed).descriptor for seed in (1, 2))
    absent = build_manifest(Descriptor.of(b"{}", OCI_EMPTY), ()).descriptor
    early = build_index((*manifests, absent))
    refuses(BlobUnknown, lambda: target.push(early.descriptor, content_of(early.raw)))
    index = build_index(manifests)
    target.push(index.descriptor, content_of(index.raw))
    target.tag(index.descriptor, reference)
    assert target.resolve(reference).media_type == OCI_INDEX
    assert read_document(target, target.resolve(reference)).successors == manifests


def dockers_manifests_are_manifests(open_target: Open) -> None:
    """Docker's older manifest type is kept as it is."""
    target, reference = open_target()
    config = push_bytes(target, b"{}", "application/vnd.docker.container.image.v1+json")
    raw = (
        b'{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s","digest":"%s","size":2},"layers":[]}'
    ) % (DOCKER_MANIFEST.encode(), config.media_type.encode(), str(config.digest).encode())
    target.tag(push_bytes(target, raw, DOCKER_MANIFEST), reference)
    assert target.resolve(reference).media_type == DOCKER_MANIFEST


def layers_that_may_not_travel_may_be_absent(open_target: Open) -> None:
    """A manifest is accepted without its non-distributable layers."""
    target, reference = open_target()
    config = push_bytes(target, b"{}", OCI_EMPTY)
    foreign = Descriptor.of(b"elsewhere", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    manifest = build_manifest(config, (foreign,))
    target.push(manifest.descriptor, content_of(manifest.raw))
    target.tag(manifest.descriptor, reference)
    assert target.resolve(reference).digest == manifest.descriptor.digest


def tags_name_and_move(open_target: Open) -> None:
    """A tag names what it was given last, tagging twice changes nothing, other tags stay."""
    target, reference = open_target()
    old, new = (push_artifact(target, seed).descriptor for seed in (1, 2))
    other = reference.tagged("Other_tag.2")
    for name, descriptor in ((reference, old), (other, old), (reference, new), (reference, new)):
        target.tag(descriptor, name)
        assert target.resolve(name).digest == descriptor.digest
    assert target.resolve(other).digest == old.digest
    refuses(ReferenceUnknown, lambda: target.resolve(reference.tagged("other_tag.2")))


def tags_need_content(open_target: Open) -> None:
    """Tagging what is not there raises BlobUnknown, and the tag keeps what it named."""
    target, reference = open_target()
    here = push_artifact(target).descriptor
    target.tag(here, reference)
    absent = build_manifest(Descriptor.of(b"{}", OCI_EMPTY), ()).descriptor
    refuses(BlobUnknown, lambda: target.tag(absent, reference))
    assert target.resolve(reference).digest == here.digest


def digests_resolve_to_manifests(open_target: Open) -> None:
    """Every manifest that was pushed resolves by its digest, tagged or not; other blobs do not."""
    target, reference = open_target()
    manifest = push_artifact(target)
    found = target.resolve(reference.at(manifest.descriptor.digest))
    assert (found.digest, found.size) == (manifest.descriptor.digest, len(manifest.raw))
    for blob in manifest.successors:
        refuses(ReferenceUnknown, lambda: target.resolve(reference.at(blob.digest)))  # noqa: B023


def a_pin_moves_no_tag(open_target: Open) -> None:
    """A reference with a digest names that content; its tag stays where it was."""
    target, reference = open_target()
    old, new = (push_artifact(target, seed).descriptor for seed in (1, 2))
    target.tag(old, reference)
    pinned = Reference(reference.registry, reference.repository, reference.tag, new.digest)
    target.tag(new, pinned)
    assert target.resolve(pinned).digest == new.digest
    assert target.resolve(reference).digest == old.digest


def protection_lasts_a_block(open_target: Open) -> None:
    """Content may be protected before it comes, twice at once, and errors leave the block unchanged."""
    target, reference = open_target()
    coming = Descriptor.of(b"{}", OCI_EMPTY)
    with target.protect([coming]), target.protect([coming, Descriptor.of(b"", BLOB)]), target.protect([]):
        push_bytes(target, b"{}", OCI_EMPTY)
        assert target.exists(coming)
    try:
        with target.protect([coming]):
            raise BrokenOff
    except BrokenOff:
        target.tag(push_artifact(target).descriptor, reference)


def many_threads_may_push(open_target: Open) -> None:
    """Threads that push the same and different content, and tag it, at the same time all succeed."""
    target, reference = open_target()
    failures: list[BaseException] = []
    names = [reference.tagged(f"thread-{number}") for number in range(6)]

    def work(number: int) -> None:
        try:
            push_bytes(target, some_bytes())
            target.tag(push_artifact(target, number % 3).descriptor, names[number])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures, failures
    assert target.exists(Descriptor.of(some_bytes(), BLOB))
    found = [target.resolve(name).digest for name in names]
    assert found[:3] == found[3:] and len(set(found)) == 3


SUITE: tuple[Callable[[Open], None], ...] = (
    content_comes_back,
    pieces_can_be_read,
    readers_can_be_left,
    empty_content_is_content,
    other_digests_work,
    the_absent_is_unknown,
    another_size_is_absent,
    damaged_content_is_refused,
    wrong_lengths_are_refused,
    an_interrupted_push_goes_on,
    a_damaged_start_is_found_out,
    pushing_again_moves_nothing,
    manifests_come_last,
    manifests_keep_their_bytes,
    indexes_are_manifests,
    dockers_manifests_are_manifests,
    layers_that_may_not_travel_may_be_absent,
    tags_name_and_move,
    tags_need_content,
    digests_resolve_to_manifests,
    a_pin_moves_no_tag,
    protection_lasts_a_block,
    many_threads_may_push,
)
