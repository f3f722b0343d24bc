"""The server below the protocol: its socket, and what a client that goes away leaves."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.target import Reader, content_of
from qwenctl.registry.server import bind
from qwenctl.store.layout import Layout
from qwenctl.store.store import Store
from tests.registry.conftest import HastyDisk
from tests.registry.running import running_registry


class WatchedStore(Store):
    """Remembers the readers that it gave."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.readers: list[Reader] = []

    def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None) -> Reader:
        """As a store, remembered."""
        self.readers.append(super().fetch(descriptor, offset, length))
        return self.readers[-1]


def all_closed(readers: list[Reader]) -> bool:
    """Whether all of them are closed, or are so within 5 seconds."""
    end = time.monotonic() + 5
    while any(not getattr(reader, "closed") for reader in readers):  # noqa: B009
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_answers_are_not_held_back() -> None:
    """Nagle's algorithm is off: it would keep the body until the client has acknowledged the head."""
    with (
        bind(0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_client_that_goes_away_in_the_middle(tmp_path: Path) -> None:
    """The file is closed, and the server goes on."""
    store = WatchedStore.open(tmp_path / "store", disk=HastyDisk())
    raw = bytes(64 << 20)
    descriptor = Descriptor.of(raw, "application/octet-stream")
    store.push(descriptor, content_of(raw))
    with running_registry(store) as address, httpx.Client(base_url=f"http://{address}") as http:
        path = f"/v2/me/model/blobs/{descriptor.digest}"
        with http.stream("GET", path) as answer:
            next(answer.iter_raw())
        assert all_closed(store.readers)
        assert http.get(path, headers={"Range": "bytes=0-9"}).content == bytes(10)
        assert all_closed(store.readers)


def test_an_upload_that_breaks_off_goes_on_from_there(tmp_path: Path) -> None:
    """The session tells how far it got; the client sends the rest."""
    store = Store.open(tmp_path / "store", disk=HastyDisk())
    raw = bytes(range(256)) * (12 << 10)
    with running_registry(store) as address, httpx.Client(base_url=f"http://{address}") as http:
        location = http.post("/v2/me/model/blobs/uploads/").headers["location"]
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n"
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port))) as broken:
            broken.sendall(head.encode() + raw[: 2 << 20])
            wait_for_first_byte(http, location)
        kept = wait_for_session(http, location)
        assert 1 << 20 < kept <= 2 << 20
        headers = {"Content-Range": f"{kept}-{len(raw) - 1}"}
        digest = str(Digest.of(raw))
        answer = http.put(location, params={"digest": digest}, content=raw[kept:], headers=headers)
        assert answer.status_code == 201
        assert http.get(answer.headers["location"]).content == raw


def wait_for_first_byte(http: httpx.Client, location: str) -> None:
    """Until some of what was sent is stored."""
    end = time.monotonic() + 5
    while http.get(location).headers["range"] == "0-0":
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for_session(http: httpx.Client, location: str) -> int:
    """Until the broken request has let go of the session; the bytes that it has."""
    end = time.monotonic() + 5
    while http.patch(location, content=b"").status_code == 409:
        assert time.monotonic() < end
        time.sleep(0.01)
    return int(http.get(location).headers["range"].partition("-")[2]) + 1


def test_two_requests_do_not_write_to_one_session(tmp_path: Path) -> None:
    """The second is told to wait with 409; the bytes of the first are not mixed."""
    store = Store.open(tmp_path / "store", disk=HastyDisk())
    going_on = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"first "
        going_on.wait(5)
        yield b"second"

    with running_registry(store) as address, httpx.Client(base_url=f"http://{address}") as http:
        location = http.post("/v2/me/model/blobs/uploads/").headers["location"]
        results: list[int] = []

        def patch() -> None:
            results.append(httpx.patch(f"http://{address}{location}", content=slowly()).status_code)

        writer = threading.Thread(target=patch)
        writer.start()
        end = time.monotonic() + 5
        while http.patch(location, content=b"").status_code != 409:
            assert time.monotonic() < end
        going_on.set()
        writer.join()
        assert results == [202]
        answer = http.put(location, params={"digest": str(Digest.of(b"first second"))})
        assert answer.status_code == 201
