"""The fault proxy itself: it changes nothing unless told, sees all, and may be asked from many sides."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.registry.running import running_registry
from tests.remote.fault_builders import REPOSITORY, Content, content_named, open_store, upload
from tests.remote.fault_messages import Kind
from tests.remote.fault_proxy import FaultProxy, Rule, fault_proxy
from tests.remote.faults import end_half_way, status

SIZE_BYTES = 200_000


@pytest.fixture
def content() -> Content:
    """What the registry has."""
    return content_named("proxied", SIZE_BYTES)


@pytest.fixture
def proxy(tmp_path: Path, content: Content) -> Iterator[FaultProxy]:
    """A proxy in front of a registry."""
    with running_registry(open_store(tmp_path / "store")) as address:
        upload(address, content)
        with fault_proxy(address) as running:
            yield running


@pytest.fixture
def http(proxy: FaultProxy) -> Iterator[httpx.Client]:
    """A client of the proxy."""
    with httpx.Client(base_url=proxy.base, trust_env=False, timeout=10) as client:
        yield client


def blob(content: Content) -> str:
    """The path of the large blob."""
    return f"/v2/{REPOSITORY}/blobs/{content.weights.digest}"


def test_without_rules(proxy: FaultProxy, http: httpx.Client, content: Content) -> None:
    """Answers pass unchanged, connections are kept, and both requests are recorded."""
    answers = [http.get(blob(content)), http.get(blob(content), headers={"Range": "bytes=5-9"})]
    assert [answer.status_code for answer in answers] == [200, 206]
    assert answers[1].content == content.blobs[content.weights][5:10]
    assert answers[0].headers["docker-content-digest"] == str(content.weights.digest)
    seen = proxy.asked(kind=Kind.BLOB)
    assert [(one.range, one.sent_bytes, one.status) for one in seen] == [
        (None, SIZE_BYTES, 200),
        ("bytes=5-9", 5, 206),
    ]
    assert seen[0].connection == seen[1].connection
    assert not any(one.faulted or one.authorized for one in seen)


def test_ranges_side_by_side(proxy: FaultProxy, content: Content) -> None:
    """Several connections are served at once, and a rule that is for one request meets one."""
    proxy.rules.append(Rule(status(500), Kind.BLOB, ranged=True, first=2, times=1))
    firsts = range(0, SIZE_BYTES, 20_000)

    def ask(first: int) -> httpx.Response:
        wanted = {"Range": f"bytes={first}-{first + 19_999}", "Authorization": "Basic eDp5"}
        return httpx.get(proxy.base + blob(content), headers=wanted, trust_env=False)

    with ThreadPoolExecutor(len(firsts)) as pool:
        answers = list(pool.map(ask, firsts))
    raw = content.blobs[content.weights]
    good = [first for first, answer in zip(firsts, answers, strict=True) if answer.status_code == 206]
    assert len(good) == len(firsts) - 1
    assert all(answers[first // 20_000].content == raw[first : first + 20_000] for first in good)
    seen = proxy.asked(kind=Kind.BLOB)
    assert len({one.connection for one in seen}) == len(firsts)
    assert [one.faulted for one in seen].count(True) == 1
    assert all(one.authorized for one in seen)


def test_a_body_that_is_cut(proxy: FaultProxy, http: httpx.Client, content: Content) -> None:
    """The record has what was sent, not what was promised."""
    proxy.rules.append(Rule(end_half_way, Kind.BLOB))
    with pytest.raises(httpx.RemoteProtocolError):
        http.get(blob(content))
    assert proxy.asked()[0].sent_bytes == SIZE_BYTES // 2


def test_tokens(tmp_path: Path) -> None:
    """A registry that wants a token gives one, and forgets it when told."""
    with (
        running_registry(open_store(tmp_path / "store")) as address,
        fault_proxy(address, tokens=True) as proxy,
        httpx.Client(base_url=proxy.base, trust_env=False) as client,
    ):
        assert client.get("/v2/").status_code == 401
        shown = {"Authorization": f"Bearer {client.get('/token').json()['token']}"}
        assert client.get("/v2/", headers=shown).status_code == 200
        proxy.expire_tokens()
        assert client.get("/v2/", headers=shown).status_code == 401


def test_going_down(proxy: FaultProxy) -> None:
    """The system itself refuses connections afterwards."""
    proxy.go_down()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(proxy.address.rpartition(":")[2])), 5)


def test_a_client_that_does_not_stop(proxy: FaultProxy) -> None:
    """After many requests it is refused, and the proxy says so."""
    with pytest.raises(httpx.TransportError):
        for _ in range(1000):
            httpx.get(f"{proxy.base}/v2/", trust_env=False)
    assert proxy.endless
