"""Challenges, credentials, token dialogues, retries: the parts without a network."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import RegistryFailure, Unauthorized
from qwenctl.remote.auth import Answer, Token, TokenCache, token_flow
from qwenctl.remote.challenge import Challenge, best_challenge, parse_challenges
from qwenctl.remote.credentials import Credential, Credentials, load
from qwenctl.remote.retry import RetryPolicy, parse_retry_after
from qwenctl.remote.transport import Request

BASE = "https://registry.example"


class TestChallenges:
    """RFC 9110 section 11.6.1: one header may hold several, with commas inside quotes."""

    @pytest.mark.parametrize(
        ("header", "challenges"),
        [
            ("", ()),
            ("Basic", (Challenge("basic", {}),)),
            ('Basic realm="a, b"', (Challenge("basic", {"realm": "a, b"}),)),
            (
                'bearer REALM="https://a/t",service="s",scope="repository:x:pull,push"',
                (
                    Challenge(
                        "bearer",
                        {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"},
                    ),
                ),
            ),
            (
                'Basic realm="x", Bearer realm=https://a/t, service=s',
                (
                    Challenge("basic", {"realm": "x"}),
                    Challenge("bearer", {"realm": "https://a/t", "service": "s"}),
                ),
            ),
            (r'Basic realm="a\"b"', (Challenge("basic", {"realm": 'a"b'}),)),
        ],
    )
    def test_forms(self, header: str, challenges: tuple[Challenge, ...]) -> None:
        """Schemes and names in any case, quoted or not."""
        assert parse_challenges(header) == challenges

    def test_bearer_is_preferred(self) -> None:
        """Then Basic; anything else is none."""
        both = best_challenge('Basic realm="x", Bearer realm="https://a"')
        assert both is not None and both.scheme == "bearer"
        assert best_challenge("Negotiate") is None

    @given(st.text(max_size=60))
    def test_nonsense_is_survived(self, header: str) -> None:
        """Any text gives some challenges, never an error."""
        parse_challenges(header)


def run_flow(
    challenge: Challenge, answer: Answer, credential: Credential | None = None
) -> tuple[list[Request], Token]:
    """The requests of the dialogue and the token at its end."""
    flow = token_flow(challenge, ("repository:x:pull",), credential, BASE)
    requests = []
    try:
        requests.append(next(flow))
        while True:
            requests.append(flow.send(answer))
    except StopIteration as done:
        return requests, done.value


def bearer(realm: str = "https://auth.example/token", **more: str) -> Challenge:
    """A Bearer challenge."""
    return Challenge("bearer", {"realm": realm, "service": "s", **more})


def granted(**document: object) -> Answer:
    """An answer with a token."""
    return Answer(200, json.dumps({"token": "t", **document}).encode())


class TestTokenFlow:
    """The dialogue with the token server."""

    def test_anonymous(self) -> None:
        """A GET with service and scopes, and no secret."""
        (request,), token = run_flow(bearer(scope="repository:x:pull repository:y:pull"), granted())
        assert request.url == (
            "https://auth.example/token?service=s&scope=repository%3Ax%3Apull"
            "&scope=repository%3Ay%3Apull&client_id=qwenctl"
        )
        assert "Authorization" not in request.headers
        assert (token.header, token.seconds) == ("Bearer t", 60.0)

    def test_with_a_password(self) -> None:
        """Basic towards the token server, the account in the query."""
        (request,), _ = run_flow(bearer(), granted(), Credential("user", "pass"))
        assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"user:pass").decode()
        assert request.url.endswith("&account=user")

    def test_with_an_identity_token(self) -> None:
        """A POST with a form (OAuth2): a GET cannot carry it."""
        (request,), _ = run_flow(bearer(), granted(), Credential(identity_token="id"))
        assert request.method == "POST"
        assert isinstance(request.body, bytes) and b"refresh_token=id" in request.body

    def test_basic_needs_no_dialogue(self) -> None:
        """The header at once; without a password an error."""
        requests, token = run_flow(Challenge("basic", {}), granted(), Credential("u", "p"))
        assert requests == [] and token.header.startswith("Basic ")
        with pytest.raises(Unauthorized):
            run_flow(Challenge("basic", {}), granted())

    @pytest.mark.parametrize(
        "realm",
        [
            "http://auth.example/token",
            "https://169.254.169.254/token",
            "https://[::1]/token",
            "ftp://auth.example",
            "https://user:pass@auth.example/",
            "",
        ],
    )
    def test_token_servers_that_get_no_secret(self, realm: str) -> None:
        """Less secure than the registry, a bare address, or no server at all."""
        with pytest.raises(RegistryFailure):
            run_flow(bearer(realm), granted(), Credential("user", "pass"))

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (Answer(401, b""), Unauthorized),
            (Answer(500, b""), RegistryFailure),
            (Answer(200, b"no json"), RegistryFailure),
            (Answer(200, b"[]"), RegistryFailure),
            (Answer(200, b"{}"), RegistryFailure),
            (Answer(200, b'{"token":"two\\r\\nlines"}'), RegistryFailure),
        ],
    )
    def test_answers_without_a_token(self, answer: Answer, error: type[Exception]) -> None:
        """Each is an error of its own; a token cannot smuggle a header."""
        with pytest.raises(error):
            run_flow(bearer(), answer)

    def test_nothing_secret_is_shown(self) -> None:
        """Neither token nor credential in a repr."""
        assert "t" not in repr(Token("Bearer secret", 1)).replace("Token", "")
        assert "pass" not in repr(Credential("user", "pass", "id"))


def test_tokens_are_kept_for_most_of_their_life() -> None:
    """80 % of it; by scope; a refused one is forgotten."""
    cache = TokenCache()
    cache.put(("a",), Token("Bearer a", 100), now=0)
    assert cache.get(("a",), 79) == "Bearer a"
    assert cache.get(("a",), 81) is None
    assert cache.get(("b",), 0) is None
    cache.forget(("a",))
    assert cache.get(("a",), 0) is None


def config(home: Path, document: object) -> Credentials:
    """Credentials from a Docker config file with this content."""
    (home / ".docker").mkdir(parents=True, exist_ok=True)
    text = document if isinstance(document, str) else json.dumps(document)
    (home / ".docker/config.json").write_text(text)
    return load({}, home)


def shown(credential: Credential | None) -> tuple[str, str, str] | None:
    """The parts of a credential."""
    return (credential.user, credential.secret, credential.identity_token) if credential else None


AUTH = base64.b64encode(b"user:pa:ss").decode()


class TestCredentials:
    """Docker's `config.json` in the forms that are met."""

    @pytest.mark.parametrize(
        ("key", "registry"),
        [
            ("registry.example", "registry.example"),
            ("https://registry.example", "registry.example"),
            ("https://registry.example/v1/", "registry.example"),
            ("localhost:5000", "localhost:5000"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
        ],
    )
    def test_keys(self, tmp_path: Path, key: str, registry: str) -> None:
        """A registry is found under each of its names; the password may hold a colon."""
        found = config(tmp_path, {"auths": {key: {"auth": AUTH}}}).find(registry)
        assert shown(found) == ("user", "pa:ss", "")
        assert config(tmp_path, {"auths": {key: {"auth": AUTH}}}).find("other.example") is None

    @pytest.mark.parametrize(
        ("entry", "parts"),
        [
            ({"username": "u", "password": "p"}, ("u", "p", "")),
            ({"auth": AUTH, "identitytoken": "id"}, ("", "", "id")),
            ({"auth": "not base64!"}, None),
            ({}, None),
        ],
    )
    def test_entries(self, tmp_path: Path, entry: object, parts: object) -> None:
        """In clear, as an identity token, damaged, empty."""
        assert shown(config(tmp_path, {"auths": {"r.example": entry}}).find("r.example")) == parts

    @pytest.mark.parametrize("text", ["", "not json", "[]", '{"auths": 3}'])
    def test_damaged_files_are_empty(self, tmp_path: Path, text: str) -> None:
        """Public models need no credentials."""
        assert config(tmp_path, text).find("r.example") is None

    def test_places(self, tmp_path: Path) -> None:
        """`DOCKER_CONFIG`, and podman's file beside it."""
        (tmp_path / "config.json").write_text(json.dumps({"auths": {"a.example": {"auth": AUTH}}}))
        (tmp_path / "containers").mkdir()
        (tmp_path / "containers/auth.json").write_text(json.dumps({"auths": {"b.example": {"auth": AUTH}}}))
        environ = {"DOCKER_CONFIG": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        found = load(environ, tmp_path / "nowhere")
        assert found.find("a.example") and found.find("b.example")

    def test_helpers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A helper program is asked for its registry; a missing one means anonymous."""
        helper = tmp_path / "docker-credential-test"
        helper.write_text(
            '#!/bin/sh\nread host\n[ "$1 $host" = "get r.example" ] || exit 1\n'
            'echo \'{"ServerURL":"x","Username":"<token>","Secret":"id"}\'\n'
        )
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert shown(config(tmp_path, {"credsStore": "test"}).find("r.example")) == ("", "", "id")
        assert config(tmp_path, {"credsStore": "test"}).find("s.example") is None
        assert config(tmp_path, {"credHelpers": {"r.example": "missing"}}).find("r.example") is None


class TestRetryPolicy:
    """Exponential with jitter, within bounds."""

    NOW = datetime(2026, 1, 1, tzinfo=UTC)

    def test_waits_grow_up_to_a_bound_and_end(self) -> None:
        """Doubling from half a second; five attempts."""
        policy = RetryPolicy(longest_seconds=3)
        waits = [policy.delay(attempt, None, 1.0, self.NOW) for attempt in range(1, 6)]
        assert waits == [0.5, 1.0, 2.0, 3.0, None]
        assert policy.delay(1, None, 0.0, self.NOW) == 0.25

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            (None, None),
            ("", None),
            ("5", 5.0),
            ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
            ("Thu, 01 Jan 2025 00:00:30 GMT", 0.0),
            ("soon", None),
            ("-5", None),
        ],
    )
    def test_what_the_server_asks_for(self, header: str | None, seconds: float | None) -> None:
        """Seconds, a date, or nothing that makes sense."""
        assert parse_retry_after(header, self.NOW) == seconds

    @given(st.text(max_size=40))
    def test_nonsense_is_survived(self, header: str) -> None:
        """Any header gives seconds or none, never an error."""
        asked = parse_retry_after(header, self.NOW)
        assert asked is None or asked >= 0
