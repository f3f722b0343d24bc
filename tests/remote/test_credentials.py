"""Finding credentials: keys in all spellings, namespaces, helpers that work, fail and hang."""

import base64
import json
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import AccessDenied
from qwenctl.remote.credential_helper import CredentialHelper, redacted
from qwenctl.remote.credentials import Credential, CredentialFile, Credentials, Located, load, place_of
from tests.remote.helper_programs import script_helper, working_helper


def auth(user: str, secret: str = "s") -> dict[str, str]:
    """An entry of `auths`."""
    return {"auth": base64.b64encode(f"{user}:{secret}".encode()).decode()}


def credentials(document: object, helper_seconds: float = 30) -> Credentials:
    """Credentials in one file with this content."""
    assert isinstance(document, dict)
    return Credentials((CredentialFile(Path("config.json"), document),), helper_seconds)


def user(found: Credential | None) -> str | None:
    """Whose credential it is."""
    return found.user if found else None


class TestKeys:
    """What a key of `auths` stands for."""

    @pytest.mark.parametrize(
        ("key", "place"),
        [
            ("r.example", "r.example"),
            ("R.Example:5000", "r.example:5000"),
            ("http://r.example", "r.example"),
            ("https://r.example/v2/", "r.example"),
            ("https://r.example/some/path", "r.example"),
            ("r.example/v1/", "r.example"),
            ("r.example/team/model", "r.example/team/model"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("index.docker.io/me", "docker.io/me"),
            ("https://index.docker.io/v1/refresh-token", "https://index.docker.io/v1/refresh-token"),
            ("", ""),
        ],
    )
    def test_places(self, key: str, place: str) -> None:
        """An address stands for its host, a bare path for a namespace (containers-auth.json(5))."""
        assert place_of(key) == place

    @given(st.text(max_size=40))
    def test_any_key_has_a_place(self, key: str) -> None:
        """Never an error."""
        place_of(key)

    def test_dockers_own_spelling_goes_first(self) -> None:
        """Whatever the order of the file."""
        auths = {
            "https://r.example/v1/": auth("old"),
            "http://r.example": auth("older"),
            "r.example": auth("new"),
        }
        assert user(credentials({"auths": auths}).find("r.example")) == "new"
        hub = {"docker.io": auth("podman"), "https://index.docker.io/v1/": auth("docker")}
        assert user(credentials({"auths": hub}).find("docker.io")) == "docker"
        assert user(credentials({"auths": hub}).find("index.docker.io")) == "docker"

    def test_dockers_browser_tokens_are_no_passwords(self) -> None:
        """They lie beside the account's entry, and are never shown to a registry."""
        auths = {"https://index.docker.io/v1/refresh-token": auth("me", "refresh")}
        assert credentials({"auths": auths}).find("docker.io") is None


class TestNamespaces:
    """Podman's keys with a path: the longest that is a whole prefix of the repository wins."""

    AUTHS: ClassVar = {
        "r.example": auth("host"),
        "r.example/team": auth("team"),
        "r.example/team/model": auth("model"),
        "docker.io/ai": auth("hub-ai"),
        "other.example/team": auth("other"),
    }

    @pytest.mark.parametrize(
        ("registry", "repository", "whose"),
        [
            ("r.example", "", "host"),
            ("r.example", "team", "team"),
            ("r.example", "team/model", "model"),
            ("r.example", "team/model/more", "model"),
            ("r.example", "team/mode", "team"),
            ("r.example", "teammate/model", "host"),
            ("docker.io", "ai/qwen", "hub-ai"),
            ("docker.io", "library/x", None),
            ("other.example", "", None),
            ("other.example", "x", None),
        ],
    )
    def test_the_longest_wins(self, registry: str, repository: str, whose: str | None) -> None:
        """Component by component, never in the middle of a word."""
        assert user(credentials({"auths": self.AUTHS}).find(registry, repository)) == whose

    def test_a_helper_for_a_namespace(self, tmp_path: Path) -> None:
        """`credHelpers` knows namespaces too; it is asked with that key."""
        helper = working_helper(tmp_path)
        helper.keep("r.example/team", "kept", "s")
        found = credentials({"credHelpers": {"r.example/team": "test"}, "auths": self.AUTHS})
        assert user(found.find("r.example", "team/x")) == "kept"
        assert [call["stdin"] for call in helper.calls] == ["r.example/team"]


class TestEntries:
    """The forms of an entry that others write."""

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            ({"registrytoken": "abc"}, Credential(registry_token="abc")),
            ({"registrytoken": "two\r\nlines"}, None),
            ({"auth": "", "username": "u", "password": "p"}, Credential("u", "p")),
            ({"auth": base64.b64encode(b"nocolon").decode()}, None),
            ({"auth": base64.b64encode(b"u:p\0\0").decode()}, Credential("u", "p")),
            ({"auth": base64.b64encode(b"<token>:id").decode()}, Credential(identity_token="id")),
            ({"auth": base64.b64encode(b"\xff:p").decode()}, None),
            ({"username": 3, "password": ["x"]}, None),
            ("text", None),
            (None, None),
        ],
    )
    def test_forms(self, entry: object, expected: Credential | None) -> None:
        """Tokens, passwords in clear, damage."""
        assert credentials({"auths": {"r.example": entry}}).find("r.example") == expected

    def test_secrets_are_in_no_repr(self) -> None:
        """Neither of a credential nor of what leads to it."""
        credential = Credential("u", "hidden", "hidden", "hidden")
        file = CredentialFile(Path("f"), {"auths": {"r": auth("u", "hidden")}})
        for value in (credential, file, Credentials((file,)), Located(credential, Path("f"), None)):
            assert "hidden" not in repr(value)
            assert auth("u", "hidden")["auth"] not in repr(value)

    @pytest.mark.parametrize("text", ["[" * 100_000, "{", '{"auths": {"r.example": ' * 50_000, "\ud800"])
    def test_damaged_files_are_empty(self, tmp_path: Path, text: str) -> None:
        """However deep the damage."""
        (tmp_path / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
        assert load({"DOCKER_CONFIG": str(tmp_path)}, tmp_path).find("r.example") is None

    def test_podmans_other_file(self, tmp_path: Path) -> None:
        """`~/.config/containers/auth.json`, which is not lost with the session."""
        (tmp_path / ".config/containers").mkdir(parents=True)
        (tmp_path / ".config/containers/auth.json").write_text(
            json.dumps({"auths": {"r.example": auth("u")}})
        )
        located = load({}, tmp_path).locate("r.example")
        assert located is not None and located.path == tmp_path / ".config/containers/auth.json"


class TestHelpers:
    """`docker-credential-NAME get`."""

    def test_one_question_when_nothing_is_known(self, tmp_path: Path) -> None:
        """A pull of a public model runs the helper once, with Docker's own key."""
        helper = working_helper(tmp_path)
        found = credentials({"credsStore": "test"})
        assert found.find("docker.io", "ai/qwen2.5") is None
        assert found.find("r.example:5000", "a/b/c") is None
        assert [call["stdin"] for call in helper.calls] == ["https://index.docker.io/v1/", "r.example:5000"]

    def test_the_empty_entry_tells_the_spelling(self, tmp_path: Path) -> None:
        """Docker before 28 kept the address as it was typed."""
        helper = working_helper(tmp_path)
        helper.keep("https://r.example", "me", "s")
        found = credentials({"credsStore": "test", "auths": {"https://r.example": {}}})
        assert user(found.find("r.example")) == "me"

    def test_the_host_has_its_own_before_the_general_one(self, tmp_path: Path) -> None:
        """And an empty name exempts it, as for Docker (getConfiguredCredentialStore)."""
        general, own = working_helper(tmp_path / "a", "general"), working_helper(tmp_path / "b", "own")
        general.keep("r.example", "general", "s")
        own.keep("r.example", "own", "s")
        document = {"credsStore": "general", "credHelpers": {"r.example": "own", "s.example": ""}}
        assert user(credentials(document).find("r.example")) == "own"
        general.keep("s.example", "general", "s")
        assert credentials(document).find("s.example") is None

    @pytest.mark.parametrize(
        "script",
        [
            "#!/bin/sh\nexit 3\n",
            "#!/bin/sh\necho not json\n",
            "#!/bin/sh\necho '[]'\n",
            '#!/bin/sh\necho \'{"ServerURL":"x","Username":"","Secret":""}\'\n',
            '#!/bin/sh\necho \'{"Username":"u","Secret":7}\'\n',
            '#!/bin/sh\necho \'{"Username":"u","Secret":""}\'\n',
            "#!/nonexistent/interpreter\n",
            "#!/bin/sh\nexec sleep 60\n",
        ],
        ids=["fails", "no JSON", "no object", "empty", "no text", "no secret", "cannot start", "hangs"],
    )
    def test_what_is_no_answer_leaves_us_anonymous(self, tmp_path: Path, script: str) -> None:
        """Also one that hangs; what the file itself has is used then."""
        script_helper(tmp_path, "test", script)
        assert credentials({"credsStore": "test"}, 0.3).find("r.example") is None
        plain = {"credsStore": "test", "auths": {"r.example": auth("plain")}}
        assert user(credentials(plain, 0.3).find("r.example")) == "plain"

    def test_a_helper_that_fails_is_not_asked_again(self, tmp_path: Path) -> None:
        """A hanging one would cost its time for each spelling."""
        script_helper(tmp_path, "test", f"#!/bin/sh\necho x >> {tmp_path}/asked\nexit 3\n")
        auths: dict[str, object] = {"r.example": {}, "https://r.example": {}, "http://r.example": {}}
        assert credentials({"credsStore": "test", "auths": auths}).find("r.example") is None
        assert (tmp_path / "asked").read_text() == "x\n"

    @pytest.mark.parametrize("name", ["missing", "../test", "a b", "", 3, None, ["test"]])
    def test_names_that_lead_nowhere(self, name: object) -> None:
        """A program that is not there, and what is no name at all, are not fatal."""
        assert credentials({"credsStore": name}).find("r.example") is None
        assert credentials({"credHelpers": {"r.example": name}}).find("r.example") is None

    def test_complaints_are_shown_without_the_secret(self, tmp_path: Path) -> None:
        """In no form in which a careless program may repeat it, and without control characters."""
        script_helper(tmp_path, "test", "#!/bin/sh\nprintf 'no: \\033[31m'; cat; exit 1\n")
        with pytest.raises(AccessDenied) as caught:
            CredentialHelper("test").store("r.example", "me", 'hid"den/1')
        assert caught.value.message.startswith("`docker-credential-test store` fails: no: [31m")
        assert "hid" not in caught.value.message and "\x1b" not in caught.value.message
        assert "hid" not in repr(caught.value.__cause__)

    @given(st.text(min_size=8, max_size=20), st.text(max_size=20), st.text(max_size=20))
    def test_redaction_leaves_nothing(self, secret: str, before: str, after: str) -> None:
        """Whatever stands around it."""
        shown = redacted(f"{before}{secret}{after}", "me", secret)
        assert secret not in shown or secret in before + "…" + after
