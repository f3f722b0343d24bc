"""One repository: names, authentication, uploads, lists."""

import pytest

from qwenctl.errors import (
    DigestMismatch,
    RateLimited,
    ReferenceUnknown,
    RegistryFailure,
    Unauthorized,
    Unreachable,
)
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import content_of
from qwenctl.remote.client import Client, base_url
from qwenctl.remote.credentials import Credential
from qwenctl.remote.repository import Repository
from qwenctl.remote.routes import is_loopback
from qwenctl.remote.transport import Transport, origin
from tests.builders import model
from tests.remote.conftest import Connect
from tests.remote.faulty_registry import FaultyRegistry

NAME = Reference.parse("me/model:v1")
MADE = model()
ROOT = MADE.manifest.descriptor


@pytest.fixture(autouse=True)
def tagged(faulty: FaultyRegistry) -> None:
    """The registry has a manifest under `v1` and by its digest."""
    for version in ("v1", str(ROOT.digest)):
        faulty.manifests["me/model", version] = MADE.manifest.raw


class TestResolving:
    """A HEAD where that is enough, else a GET that is hashed."""

    def test_by_head(self, connect: Connect, faulty: FaultyRegistry) -> None:
        """A HEAD does not count as a pull; all four manifest types are accepted."""
        assert connect().resolve(NAME) == ROOT
        (seen,) = faulty.seen
        assert seen.method == "HEAD"
        assert seen.headers["accept"].count("application/vnd.") == 4

    @pytest.mark.parametrize("fault", ["no_digest_header", "head_not_allowed"])
    def test_by_content(self, connect: Connect, faulty: FaultyRegistry, fault: str) -> None:
        """A registry that does not say the digest, or knows no HEAD."""
        setattr(faulty.faults, fault, True)
        assert connect().resolve(NAME) == ROOT

    def test_a_registry_that_answers_a_digest_with_another(
        self, connect: Connect, faulty: FaultyRegistry
    ) -> None:
        """A pinned reference is never something else, whatever headers say or bytes are."""
        faulty.faults.lying_digest = f"sha256:{'0' * 64}"
        with pytest.raises(RegistryFailure):
            connect().resolve(NAME.at(ROOT.digest))
        faulty.faults.lying_digest = None
        faulty.faults.head_not_allowed = True
        faulty.manifests["me/model", str(ROOT.digest)] = MADE.manifest.raw + b" "
        with pytest.raises(DigestMismatch):
            connect().resolve(NAME.at(ROOT.digest))

    def test_what_is_not_there(self, connect: Connect) -> None:
        """404 is a model that is unknown."""
        with pytest.raises(ReferenceUnknown) as caught:
            connect().resolve(NAME.tagged("v2"))
        assert caught.value.exit_code == 3

    def test_nobody_answers(self) -> None:
        """The address and what to try; at once, for there is nothing to wait for."""
        transport = Transport()
        repository = Repository(Client(transport, "http://127.0.0.1:1"), "me/model")
        with pytest.raises(Unreachable) as caught:
            repository.resolve(NAME)
        transport.close()
        assert "`http://127.0.0.1:1`" in caught.value.message
        assert caught.value.hint


class TestRetrying:
    """Statuses that may pass are asked again, with growing waits."""

    def test_a_server_that_is_busy_for_a_while(
        self, connect: Connect, faulty: FaultyRegistry, slept: list[float]
    ) -> None:
        """503 and 429, then the answer."""
        faulty.faults.statuses = [503, 429, 500]
        assert connect().resolve(NAME) == ROOT
        assert slept == [0.5, 1.0, 2.0]

    @pytest.mark.parametrize(
        ("after", "waits"),
        [("7", [7.0]), ("Thu, 01 Jan 2026 00:00:09 GMT", [9.0]), ("soon", [0.5])],
    )
    def test_it_may_say_when(
        self, connect: Connect, faulty: FaultyRegistry, slept: list[float], after: str, waits: list[float]
    ) -> None:
        """`Retry-After` in seconds or as a date."""
        faulty.faults.statuses, faulty.faults.retry_after = [429], after
        connect().resolve(NAME)
        assert slept == waits

    def test_it_may_ask_for_too_much(
        self, connect: Connect, faulty: FaultyRegistry, slept: list[float]
    ) -> None:
        """Longer than we wait: an error that says how long."""
        faulty.faults.statuses, faulty.faults.retry_after = [429] * 9, "3600"
        with pytest.raises(RateLimited) as caught:
            connect().exists(ROOT)
        assert "3600" in (caught.value.hint or "")
        assert slept == []

    def test_there_is_an_end(self, connect: Connect, faulty: FaultyRegistry, slept: list[float]) -> None:
        """Five attempts, then the error."""
        faulty.faults.statuses = [503] * 99
        with pytest.raises(RegistryFailure, match="503"):
            connect().exists(ROOT)
        assert len(slept) == 4


class TestAuthentication:
    """Nothing is shown before it is asked for; a refusal is not argued with."""

    def test_basic(self, connect: Connect, faulty: FaultyRegistry) -> None:
        """The credential after the challenge, then at once."""
        faulty.faults.basic = "user:pass"
        repository = connect(Credential("user", "pass"))
        repository.resolve(NAME)
        repository.resolve(NAME)
        assert ["authorization" in seen.headers for seen in faulty.seen] == [False, True, True]

    def test_tokens(self, connect: Connect, faulty: FaultyRegistry) -> None:
        """An anonymous token for the scope; it is used until it ends."""
        faulty.faults.bearer = True
        repository = connect()
        repository.resolve(NAME)
        repository.resolve(NAME)
        (asked,) = faulty.requests("GET", "/token")
        assert "scope=repository%3Ame%2Fmodel%3Apull" in asked.path
        assert "authorization" not in asked.headers

    def test_tokens_that_end(self, connect: Connect, faulty: FaultyRegistry) -> None:
        """A token that ended meanwhile is replaced, once a request."""
        faulty.faults.bearer = True
        repository = connect()
        repository.resolve(NAME)
        faulty.tokens.clear()
        repository.resolve(NAME)
        assert len(faulty.requests("GET", "/token")) == 2

    @pytest.mark.parametrize(
        ("credential", "error"),
        [(None, Unauthorized), (Credential("user", "wrong"), Unauthorized)],
    )
    def test_refusals(
        self,
        connect: Connect,
        faulty: FaultyRegistry,
        credential: Credential | None,
        error: type[Exception],
    ) -> None:
        """Exit status 4 and the way to log in; the secret is in no message."""
        faulty.faults.basic = "user:pass"
        with pytest.raises(error) as caught:
            connect(credential).resolve(NAME)
        assert "wrong" not in str(caught.value)

    def test_a_hub_that_hides_what_does_not_exist(self, connect: Connect, faulty: FaultyRegistry) -> None:
        """401 to an anonymous user means unknown, or not public: exit status 3, and the hint says so."""
        faulty.faults.bearer, faulty.faults.token_seconds = True, 0
        with pytest.raises(ReferenceUnknown) as caught:
            connect().resolve(NAME)
        assert f"qwenctl login {faulty.address}" in (caught.value.hint or "")


class TestPushing:
    """Mount, one PUT, or chunks."""

    RAW = bytes(range(256)) * 40_000  # ten MB: three chunks
    BLOB = Descriptor.of(RAW, "application/octet-stream")

    @pytest.mark.parametrize(
        "faults",
        [{}, {"absolute_location": True}, {"location_query": "?_state=a%3D"}, {"put_limit": 1_000_000}],
        ids=str,
    )
    def test_uploads(self, connect: Connect, faulty: FaultyRegistry, faults: dict[str, object]) -> None:
        """Whatever the registry wants, the bytes arrive; a second push moves none."""
        for name, value in faults.items():
            setattr(faulty.faults, name, value)
        repository = connect()
        repository.push(self.BLOB, content_of(self.RAW))
        assert faulty.blobs[str(self.BLOB.digest)] == self.RAW
        assert len(faulty.requests("PATCH")) == (3 if "put_limit" in faults else 0)
        count = len(faulty.seen)
        repository.push(self.BLOB, content_of(self.RAW))
        assert [seen.method for seen in faulty.seen[count:]] == ["HEAD"]

    def test_a_failed_upload_is_given_up(self, connect: Connect, faulty: FaultyRegistry) -> None:
        """What is damaged here is found out here; the session is deleted."""
        wrong = Descriptor.of(b"other", "x/y")
        with pytest.raises(DigestMismatch):
            connect().push(wrong, content_of(b"wrong"))
        assert len(faulty.requests("DELETE")) == 1
        assert faulty.uploads == {}

    def test_a_registry_that_loses_a_chunk(self, connect: Connect, faulty: FaultyRegistry) -> None:
        """What it says it stored is compared with what was sent."""
        faulty.faults.put_limit, faulty.faults.lose_chunk = 1_000_000, True
        with pytest.raises(RegistryFailure, match="kept"):
            connect().push(self.BLOB, content_of(self.RAW))

    def test_mounting(self, connect: Connect, faulty: FaultyRegistry) -> None:
        """What another repository has is taken over without its bytes; a refusal means an upload."""
        present = Descriptor.of(b"there", "x/y")
        faulty.manifests["me/model", "x"] = b""
        repository = connect(mount_from="you/model")
        faulty.faults.statuses = [404]  # the HEAD in this repository
        faulty.add(b"there")
        repository.push(present, content_of(b"there"))
        assert "mount=" in faulty.requests("POST")[0].path
        assert faulty.requests("PUT") == []
        repository.push(Descriptor.of(b"new", "x/y"), content_of(b"new"))
        assert str(Descriptor.of(b"new", "x/y").digest) in faulty.blobs

    def test_manifests_are_sent_verbatim_and_tagged(self, connect: Connect, faulty: FaultyRegistry) -> None:
        """By digest, then under the tag, with their type."""
        other = model(5).manifest
        repository = connect()
        repository.push(other.descriptor, content_of(other.raw))
        repository.tag(other.descriptor, NAME.tagged("v2"))
        assert faulty.manifests["me/model", "v2"] == other.raw
        assert {seen.headers["content-type"] for seen in faulty.requests("PUT")} == {other.media_type}


def test_tags_come_in_pages(connect: Connect, faulty: FaultyRegistry) -> None:
    """The links are followed to the end."""
    for tag in ("a", "b", "c", "d"):
        faulty.manifests["me/model", tag] = b""
    assert list(connect().tags()) == ["a", "b", "c", "d", "v1"]
    faulty.manifests.clear()
    with pytest.raises(ReferenceUnknown):
        list(connect().tags())


@pytest.mark.parametrize(
    ("registry", "insecure", "base"),
    [
        ("docker.io", (), "https://registry-1.docker.io"),
        ("ghcr.io", (), "https://ghcr.io"),
        ("localhost:5000", (), "http://localhost:5000"),
        ("127.0.0.9:5000", (), "http://127.0.0.9:5000"),
        ("[::1]:5000", (), "http://[::1]:5000"),
        ("10.0.0.1:5000", (), "https://10.0.0.1:5000"),
        ("10.0.0.1:5000", ("10.0.0.1:5000",), "http://10.0.0.1:5000"),
        ("localhost.example", (), "https://localhost.example"),
        ("127.0.0.1.example", (), "https://127.0.0.1.example"),
    ],
)
def test_plain_http_is_for_loopback_and_the_users_word(
    registry: str, insecure: tuple[str, ...], base: str
) -> None:
    """Everything else is HTTPS."""
    assert base_url(registry, frozenset(insecure)) == base
    assert is_loopback("localhost") and not is_loopback("example.org")


def test_an_origin_has_nothing_secret() -> None:
    """Scheme, host and port; neither user nor query."""
    assert origin("https://user:pass@h.example:444/path?token=x") == "https://h.example:444"
    assert origin("http://[::1]:5/x") == "http://[::1]:5"
