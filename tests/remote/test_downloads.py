"""Downloads from registries that break, lie and redirect."""

from pathlib import Path

import pytest

from qwenctl.errors import (
    BlobUnknown,
    ConnectionBroken,
    DigestMismatch,
    RangeIgnored,
    RegistryFailure,
    SizeMismatch,
)
from qwenctl.flows.copy import copy
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import read_bytes
from qwenctl.remote.credentials import Credential
from qwenctl.store.store import Store
from tests.builders import Model, model
from tests.remote.conftest import Connect
from tests.remote.faulty_registry import FaultyRegistry, faulty_registry

RAW = bytes(range(256)) * 4000  # about a MiB
NAME = Reference.parse("me/model:v1")


@pytest.fixture
def blob(faulty: FaultyRegistry) -> Descriptor:
    """A blob of about a MiB at the registry."""
    faulty.add(RAW)
    return Descriptor.of(RAW, "application/octet-stream")


@pytest.fixture
def stored(faulty: FaultyRegistry) -> Model:
    """A whole model at the registry, under `v1`."""
    made = model(padding=300_000)
    for raw in made.contents.values():
        faulty.add(raw)
    for version in ("v1", str(made.manifest.descriptor.digest)):
        faulty.manifests["me/model", version] = made.manifest.raw
    return made


@pytest.mark.parametrize("offset", [0, 1, 500_000, len(RAW) - 1, len(RAW)])
def test_from_any_byte_on(connect: Connect, faulty: FaultyRegistry, blob: Descriptor, offset: int) -> None:
    """A closed range asks for the rest; nothing is asked when there is none."""
    assert read_bytes(connect().fetch(blob, offset), len(RAW)) == RAW[offset:]
    asked = [seen.headers.get("range") for seen in faulty.requests("GET")]
    if offset == len(RAW):
        assert asked == []
    else:
        assert asked == [f"bytes={offset}-{len(RAW) - 1}" if offset else None]


def test_a_server_without_ranges(connect: Connect, faulty: FaultyRegistry, blob: Descriptor) -> None:
    """It sends all; what is here already is read and dropped."""
    faulty.faults.ignore_range = True
    assert read_bytes(connect().fetch(blob, 700_000), len(RAW)) == RAW[700_000:]


def test_a_server_that_refuses_ranges(connect: Connect, faulty: FaultyRegistry, blob: Descriptor) -> None:
    """After a 416 the whole is asked for."""
    faulty.faults.refuse_range = True
    assert read_bytes(connect().fetch(blob, 700_000), len(RAW)) == RAW[700_000:]


@pytest.mark.parametrize(("offset", "length"), [(0, 1000), (1, 1000), (500_000, 200_000), (len(RAW) - 9, 99)])
def test_pieces(connect: Connect, faulty: FaultyRegistry, blob: Descriptor, offset: int, length: int) -> None:
    """A piece is asked for by its closed range, once."""
    assert read_bytes(connect().fetch(blob, offset, length), len(RAW)) == RAW[offset : offset + length]
    last = min(offset + length, len(RAW)) - 1
    assert [seen.headers.get("range") for seen in faulty.requests("GET")] == [f"bytes={offset}-{last}"]


@pytest.mark.parametrize("fault", ["ignore_range", "refuse_range"])
def test_pieces_of_a_server_without_ranges(
    connect: Connect, faulty: FaultyRegistry, blob: Descriptor, fault: str
) -> None:
    """The front is read and the rest left alone; what is further behind is refused, not waded to."""
    setattr(faulty.faults, fault, True)
    assert read_bytes(connect().fetch(blob, 0, 1000), len(RAW)) == RAW[:1000]
    with pytest.raises(RangeIgnored):
        connect().fetch(blob, 1, 1000)


def test_a_piece_goes_on_after_a_break(
    connect: Connect, faulty: FaultyRegistry, blob: Descriptor, slept: list[float]
) -> None:
    """What is missing of the piece is asked for, and nothing beyond it."""
    faulty.faults.drop_after, faulty.faults.drops = 100_000, 1
    assert read_bytes(connect().fetch(blob, 50_000, 300_000), len(RAW)) == RAW[50_000:350_000]
    assert [seen.headers.get("range") for seen in faulty.requests("GET")] == [
        "bytes=50000-349999",
        "bytes=150000-349999",
    ]


def test_a_server_that_sends_another_range(
    connect: Connect, faulty: FaultyRegistry, blob: Descriptor
) -> None:
    """Bytes from elsewhere are not believed: the whole is asked for, and its start dropped."""
    faulty.faults.wrong_range = True
    assert read_bytes(connect().fetch(blob, 5), len(RAW)) == RAW[5:]
    with pytest.raises(RangeIgnored):
        connect().fetch(blob, 5, 100)


def test_broken_connections_go_on_where_they_broke(
    connect: Connect, faulty: FaultyRegistry, blob: Descriptor, slept: list[float]
) -> None:
    """As long as there is progress there is no end to the patience; no byte comes twice."""
    faulty.faults.drop_after, faulty.faults.drops = 100_000, 8
    assert read_bytes(connect().fetch(blob), len(RAW)) == RAW
    firsts = [seen.headers.get("range", "bytes=0").split("-")[0] for seen in faulty.requests("GET")]
    assert firsts == [f"bytes={100_000 * n}" for n in range(9)]
    assert len(slept) == 8


def test_a_connection_that_never_holds_is_given_up(
    connect: Connect, faulty: FaultyRegistry, blob: Descriptor, slept: list[float]
) -> None:
    """The error names the blob, the server and the attempts; the waits grow."""
    faulty.faults.drop_after, faulty.faults.drops = 0, 99
    with pytest.raises(ConnectionBroken) as caught:
        read_bytes(connect().fetch(blob), len(RAW))
    assert str(blob.digest) in caught.value.message
    assert faulty.address in caught.value.message
    assert "5 attempts" in caught.value.message
    assert slept == sorted(slept) and len(slept) == 4


def test_unknown_content(connect: Connect) -> None:
    """404 is reported as what it is."""
    with pytest.raises(BlobUnknown):
        connect().fetch(Descriptor.of(b"absent", "x/y"))


def test_a_redirect_elsewhere_gets_no_credentials(
    connect: Connect, faulty: FaultyRegistry, blob: Descriptor
) -> None:
    """Another origin is asked without `Authorization`, but with the range."""
    with faulty_registry() as elsewhere:
        elsewhere.add(RAW)
        faulty.faults.basic = "user:pass"
        faulty.faults.redirect_blobs = f"http://{elsewhere.address}"
        repository = connect(Credential("user", "pass"))
        assert read_bytes(repository.fetch(blob, 9), len(RAW)) == RAW[9:]
        (seen,) = elsewhere.requests("GET")
        assert "authorization" not in seen.headers
        assert seen.headers["range"] == f"bytes=9-{len(RAW) - 1}"


def test_a_signed_address_is_not_used_twice(
    connect: Connect, faulty: FaultyRegistry, blob: Descriptor
) -> None:
    """After a break the registry is asked again for where the content is."""
    with faulty_registry() as elsewhere:
        elsewhere.add(RAW)
        elsewhere.faults.drop_after, elsewhere.faults.drops = 100_000, 2
        faulty.faults.redirect_blobs = f"http://{elsewhere.address}"
        assert read_bytes(connect().fetch(blob), len(RAW)) == RAW
        assert len(faulty.requests("GET")) == len(elsewhere.requests("GET")) == 3


def test_redirects_have_an_end(connect: Connect, faulty: FaultyRegistry, blob: Descriptor) -> None:
    """A circle is left with an error."""
    faulty.faults.redirect_blobs = f"http://{faulty.address}"
    with pytest.raises(RegistryFailure, match="redirects"):
        connect().fetch(blob)


class TestCopies:
    """Whole models from misbehaving registries: an error or the right bytes, never wrong ones."""

    def test_a_flipped_bit(
        self, connect: Connect, faulty: FaultyRegistry, stored: Model, tmp_path: Path
    ) -> None:
        """Exit status 5, nothing visible; the next copy finishes."""
        store = Store.open(tmp_path / "store")
        faulty.faults.flip = True
        with pytest.raises(DigestMismatch):
            copy(connect(), NAME, store)
        assert store.tags() == ()
        faulty.faults.flip = False
        copy(connect(), NAME, store)
        assert store.resolve(NAME) == stored.manifest.descriptor

    def test_a_body_that_is_short_and_says_so(
        self, connect: Connect, faulty: FaultyRegistry, stored: Model, tmp_path: Path
    ) -> None:
        """The size is found wrong after the attempts: exit status 5, nothing visible."""
        store = Store.open(tmp_path / "store")
        faulty.faults.short_by, faulty.faults.ignore_range = 10, True
        with pytest.raises(SizeMismatch) as caught:
            copy(connect(), NAME, store)
        assert caught.value.exit_code == 5
        assert store.tags() == ()
        faulty.faults.short_by = 0
        copied = copy(connect(), NAME, store)
        assert store.resolve(NAME) == copied.root

    def test_breaks_are_survived(
        self, connect: Connect, faulty: FaultyRegistry, stored: Model, tmp_path: Path
    ) -> None:
        """A copy over a bad line moves every byte once."""
        store = Store.open(tmp_path / "store")
        faulty.faults.drop_after, faulty.faults.drops = 50_000, 5
        copied = copy(connect(), NAME, store)
        assert copied.moved_bytes == sum(map(len, stored.contents.values()))
        assert store.blob_path(stored.manifest.layers[0]).read_bytes() == stored.weights
