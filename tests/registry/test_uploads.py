"""Upload sessions below HTTP: which chunk fits, what a failure leaves, what goes with time."""

import os
from io import FileIO
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import DiskFull
from qwenctl.oci.digest import Digest
from qwenctl.registry.answers import Refusal
from qwenctl.registry.uploads import STALE_SECONDS, Upload, Uploads, fits
from qwenctl.store.store import Store
from tests.registry.conftest import HastyDisk
from tests.registry.running import running_registry


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


class SmallDisk(HastyDisk):
    """Full after some bytes of content, until it is given room: half of the last write is on it then."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, file: FileIO, piece: memoryview, needed_bytes: int | None = None) -> None:
        """As a disk does that fills up in the middle."""
        if "upload-" not in str(file.name) or len(piece) <= self.room:
            return super().write(file, piece, needed_bytes)
        super().write(file, piece[: self.room])
        raise DiskFull("no space left")


def append(uploads: Uploads, upload: Upload, raw: bytes) -> None:
    """One request's bytes."""
    with uploads.opened(upload) as file:
        uploads.append(upload, file, raw)


class TestFits:
    """The table of chunks: (stored so far, Content-Range, Content-Length) → may it be appended?

    Source: distribution-spec v1.1.1, "Pushing a blob in chunks".
    """

    @pytest.mark.parametrize(
        ("offset", "content_range", "length", "may"),
        [
            (0, None, None, True),  # streamed
            (7, None, 5, True),
            (0, "0-4", 5, True),
            (5, "5-9", 5, True),
            (5, "5-5", 1, True),
            (5, "5-9", None, True),  # Transfer-Encoding: chunked
            (5, "bytes 5-9/10", 5, True),  # as some clients write it
            (5, "0-4", 5, False),  # sent again
            (5, "6-9", 4, False),  # one is missing
            (5, "5-9", 4, False),  # the lengths disagree
            (5, "5-4", 0, False),
            (0, "", 0, False),
            (0, "-", 0, False),
            (0, "0-", 1, False),
            (0, "a-b", 1, False),
            (0, "0-99999999999999999999", 1, False),
        ],
    )
    def test_table(self, offset: int, content_range: str | None, length: int | None, may: bool) -> None:
        """Each row."""
        assert fits(offset, content_range, length) is may

    @given(st.integers(0, 2**40), st.integers(1, 2**40), st.integers(0, 2**40))
    def test_only_the_next_byte_fits(self, first: int, length: int, offset: int) -> None:
        """Whatever the numbers, a chunk begins where the last one ended."""
        assert fits(offset, f"{first}-{first + length - 1}", length) is (first == offset)

    @given(st.text(max_size=40))
    def test_nothing_that_a_client_sends_breaks_it(self, content_range: str) -> None:
        """Any text is an answer, not an error."""
        assert fits(0, content_range, None) in (True, False)


@pytest.mark.parametrize(("offset", "shown"), [(0, "0-0"), (1, "0-0"), (2, "0-1"), (1024, "0-1023")])
def test_the_range_of_a_session(offset: int, shown: str) -> None:
    """Inclusive; the specification has no way to say that nothing is there."""
    assert Upload("id", "me/model", Path("data"), offset).range == shown


def test_sessions_go_after_a_day_without_bytes(store: Store) -> None:
    """The one that somebody sends to stays; the file goes with the session."""
    clock = Clock(1e9)
    uploads = Uploads(store, clock)
    left, used = uploads.start("me/model"), uploads.start("me/model")
    clock.seconds += STALE_SECONDS - 1
    append(uploads, used, b"bytes")
    clock.seconds += 2
    uploads.start("me/model")
    assert uploads.get("me/model", used.id) is used
    assert not left.path.exists()
    with pytest.raises(Refusal) as refused:
        uploads.get("me/model", left.id)
    assert refused.value.status == 404


def test_a_start_sweeps_what_a_killed_server_left_long_ago(store: Store) -> None:
    """Not what is young: another server may write it."""
    before = Uploads(store)
    old, young = before.start("me/model"), before.start("me/model")
    then = old.path.stat().st_mtime - STALE_SECONDS - 60
    os.utime(old.path, (then, then))
    Uploads(store)
    assert (old.path.exists(), young.path.exists()) == (False, True)


def test_wrong_bytes_under_a_digest_that_is_there(store: Store) -> None:
    """They are refused too, although the store has no need of them."""
    uploads = Uploads(store)
    for raw in (b"right", b"wrong", b"longer"):
        upload = uploads.start("me/model")
        append(uploads, upload, raw)
        if raw == b"right":
            uploads.finish(upload, Digest.of(b"right"))
            continue
        with pytest.raises(Refusal) as refused:
            uploads.finish(upload, Digest.of(b"right"))
        assert refused.value.status == 400
        assert not upload.path.exists()


def test_a_full_disk_leaves_the_session_where_it_was(tmp_path: Path) -> None:
    """507 with the JSON body; once there is room the client goes on from the last whole piece."""
    disk = SmallDisk(10)
    store = Store.open(tmp_path / "store", disk=disk)
    raw = b"the bytes of a blob"
    with running_registry(store) as address, httpx.Client(base_url=f"http://{address}") as http:
        location = http.post("/v2/me/model/blobs/uploads/").headers["location"]
        assert http.patch(location, content=raw[:7]).status_code == 202
        refused = http.patch(location, content=raw[7:])
        assert (refused.status_code, refused.json()["errors"][0]["message"]) == (507, "no space left")
        assert http.get(location).headers["range"] == "0-6"
        disk.room = 100
        answer = http.put(location, params={"digest": str(Digest.of(raw))}, content=raw[7:])
        assert answer.status_code == 201
        assert http.get(answer.headers["location"]).content == raw
