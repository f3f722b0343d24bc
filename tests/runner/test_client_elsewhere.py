"""A runner on another machine, by URL and key: what it takes, what it refuses, and where the key goes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from qwenctl.errors import NotFound, ReferenceUnknown, Unauthorized, Unreachable, UsageError
from qwenctl.runner.client import RunnerClient
from qwenctl.runner.messages import ConfigureCall, LoadOptions
from qwenctl.runner.transport import UrlTransport, parse_runner_url
from qwenctl.settings import Settings
from tests.remote.tls import make_authority
from tests.remote.tls_front import tls_front
from tests.runner.runner_builders import ask, service, settings_in, text_of

KEY = "k1-not-to-be-shown"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with a key."""
    settings = settings_in(tmp_path_factory.mktemp("served"))
    with service(settings, foreground=True, port=0, api_key=KEY) as (_, ready):
        yield str(ready.url)


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """Settings of a user who has no runner."""
    return settings_in(tmp_path)


class _Elsewhere(HTTPServer):
    """A server that is none of ours: it answers all with one status, and remembers the headers."""

    status = 200
    location: str | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _Elsewhere

    def do_GET(self) -> None:
        self.server.seen.append(f"{self.path} {self.headers.get('authorization')}")
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("location", self.server.location)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"hi")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def elsewhere() -> Iterator[_Elsewhere]:
    """Such a server."""
    with _Elsewhere() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_with_the_key_all_calls_work(served: str, here: Settings) -> None:
    """Chat, load, ps, stop, requests: as over the socket; no runner of one's own is started."""
    client = RunnerClient(here, UrlTransport(served, KEY))
    assert client.status().url == served
    assert text_of(list(client.chat("echo", ask("hi")))) == "hi"
    assert client.load("other", LoadOptions(context_length=512)).name == "other"
    assert {status.name for status in client.loaded()} == {"echo", "other"}
    assert client.requests("echo")[0].completion_tokens == 2
    assert set(client.stop()) == {"echo", "other"}
    assert not here.runtime.exists()


def test_models_are_the_runners(served: str, here: Settings) -> None:
    """They are listed and found by another name; one that is not there is told as there."""
    client = RunnerClient(here, UrlTransport(served, KEY))
    assert "echo" in [report.name for report in client.models()]
    assert client.model("alias").name == "echo"
    with pytest.raises(ReferenceUnknown, match="`nope` is not here"):
        client.model("nope")


def test_a_runner_without_a_store_configures_nothing(served: str, here: Settings) -> None:
    """Where doors may do nothing to a store, it says so."""
    with pytest.raises(NotFound, match="keeps no settings"):
        RunnerClient(here, UrlTransport(served, KEY)).configure(ConfigureCall(model="echo"))


@pytest.mark.parametrize(("key", "words"), [(None, "wants a key"), ("another", "refuses this key")])
def test_without_the_right_key(served: str, here: Settings, key: str | None, words: str) -> None:
    """Unauthorized, which names the address and the next step, and never a key."""
    with pytest.raises(Unauthorized, match=words) as caught:
        RunnerClient(here, UrlTransport(served, key)).status()
    assert "api-key-file" in str(caught.value.hint)
    assert "another" not in f"{caught.value.message}{caught.value.hint}"


def test_a_redirect_is_not_followed(here: Settings) -> None:
    """The key goes to the host that it is for, and to nobody that this host names."""
    with elsewhere() as thief, elsewhere() as server:
        server.status, server.location = 302, f"{thief.url}/qwenctl/v1/status"
        with pytest.raises(Unreachable, match="HTTP 302 of no qwenctl runner"):
            RunnerClient(here, UrlTransport(server.url, KEY)).status()
    assert server.seen == [f"/qwenctl/v1/status Bearer {KEY}"]
    assert thief.seen == []


def test_a_server_of_another_kind(here: Settings) -> None:
    """What answers otherwise than a runner is told as such, whatever its status."""
    with elsewhere() as server:
        for status in (200, 404):
            server.status = status
            with pytest.raises(Unreachable, match="does not answer"):
                RunnerClient(here, UrlTransport(server.url)).status()


def test_a_prefix_goes_before_each_path(here: Settings) -> None:
    """A reverse proxy may have the runner below a path."""
    with elsewhere() as server, pytest.raises(Unreachable):
        RunnerClient(here, UrlTransport(parse_runner_url(f"{server.url}/llm/"))).status()
    assert server.seen == ["/llm/qwenctl/v1/status None"]


def test_nobody_is_there(here: Settings) -> None:
    """Status 4, with the address; another class than for the runner of this machine."""
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:1` does not answer"):
        RunnerClient(here, UrlTransport("http://127.0.0.1:1", KEY)).status()


def test_certificates_are_verified(served: str, here: Settings, tmp_path: Path) -> None:
    """By the CA bundle of the settings; without it nothing is sent, unless the user wants it so."""
    authority = make_authority(tmp_path)
    with tls_front(authority.server, served.removeprefix("http://")) as port:
        way = UrlTransport(f"https://127.0.0.1:{port}", KEY)
        with pytest.raises(Unreachable, match="does not answer") as caught:
            RunnerClient(here, way).status()
        assert "QWENCTL_CA_BUNDLE" in str(caught.value.hint)
        for trusting in (replace(way, ca_bundle=authority.bundle), replace(way, insecure=True)):
            assert RunnerClient(here, trusting).status().foreground
            assert text_of(list(RunnerClient(here, trusting).chat("echo", ask("hi")))) == "hi"


@pytest.mark.parametrize(
    "text",
    ["box", "ftp://box", "http://", "http://me:pw@box", "http://box?x", "http://box/ x", "http://[", ""],
)
def test_what_is_no_address(text: str) -> None:
    """Refused; a password in it is not repeated."""
    with pytest.raises(UsageError) as caught:
        parse_runner_url(text)
    assert "pw" not in caught.value.message


def test_the_key_is_in_no_repr() -> None:
    """Nor in what a debugger shows."""
    assert KEY not in repr(UrlTransport("http://box", KEY))
