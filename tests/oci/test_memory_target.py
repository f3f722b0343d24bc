"""`MemoryTarget` keeps the contract of targets; what belongs to reading small content."""

from collections.abc import Callable

import pytest

from qwenctl.errors import BlobUnknown, DigestMismatch, Malformed, SizeMismatch
from qwenctl.oci.descriptor import OCI_EMPTY, OCI_MANIFEST, Descriptor
from qwenctl.oci.manifest import build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import (
    MemoryTarget,
    Reader,
    Target,
    content_of,
    read_bytes,
    read_document,
    read_verified,
)
from tests.contracts import target as contract

REFERENCE = Reference.parse("localhost:5000/me/model:v1")


def open_memory() -> tuple[Target, Reference]:
    """A fresh one."""
    return MemoryTarget(), REFERENCE


@pytest.mark.parametrize("clause", contract.SUITE, ids=lambda clause: clause.__name__)
def test_contract(clause: Callable[[contract.Open], None]) -> None:
    """Memory is a target like any other."""
    clause(open_memory)


@pytest.mark.parametrize("limit", [0, 1, 9, 10, 11, 3 << 20])
def test_a_read_is_bounded(limit: int) -> None:
    """At most one byte more than the limit is read, so that the excess is seen but not loaded."""
    assert len(read_bytes(content_of(bytes(10))(0), limit)) == min(10, limit + 1)


@pytest.mark.parametrize(("size", "error"), [(9, SizeMismatch), (11, SizeMismatch), (10, DigestMismatch)])
def test_small_content_is_proved(size: int, error: type[Exception]) -> None:
    """Content that is not what its descriptor says is not given out."""

    class Liar(MemoryTarget):
        def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None) -> Reader:
            return content_of(bytes(10))(offset)

    with pytest.raises(error):
        read_verified(Liar(), Descriptor(OCI_EMPTY, Descriptor.of(b"x" * 10, OCI_EMPTY).digest, size))


def test_a_document_over_the_limit_is_not_loaded() -> None:
    """A manifest that claims to be larger than the limit ends in SizeMismatch after the limit."""
    target = MemoryTarget()
    descriptor = contract.push_bytes(target, b"x" * 100)
    with pytest.raises(SizeMismatch):
        read_verified(target, descriptor, limit=50)


def test_documents_are_parsed_after_proof() -> None:
    """A manifest comes back parsed; content that is none raises Malformed, absent content BlobUnknown."""
    target = MemoryTarget()
    manifest = contract.push_artifact(target)
    assert read_document(target, manifest.descriptor) == manifest
    raw = b"no manifest"
    contract.push_bytes(target, raw)
    with pytest.raises(Malformed):
        read_document(target, Descriptor.of(raw, OCI_MANIFEST))
    with pytest.raises(BlobUnknown):
        read_document(target, build_manifest(Descriptor.of(b"", OCI_EMPTY), ()).descriptor)
