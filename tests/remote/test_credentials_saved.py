"""Docker's `config.json` as it is written: what is entered, what stays, what a crash cannot break."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenctl.errors import AccessDenied, Malformed
from qwenctl.remote.credentials import Credential
from qwenctl.remote.docker_config import DockerConfig
from tests.remote.credential_builders import found, mode, read, write
from tests.remote.helper_programs import script_helper, working_helper

ROOT = Path(__file__).parent.parent.parent
ME = Credential("me", "pa:ss")
AUTH = {"auth": base64.b64encode(b"me:pa:ss").decode()}
HUB = "https://index.docker.io/v1/"


class TestPlain:
    """Without a helper: the entry itself."""

    def test_a_first_login(self, config: DockerConfig) -> None:
        """File and directory are for the user alone, and nothing else is left there."""
        assert config.save("r.example:5000", ME) is None
        assert read(config) == {"auths": {"r.example:5000": AUTH}}
        assert (mode(config.path), mode(config.path.parent)) == (0o600, 0o700)
        assert list(config.path.parent.iterdir()) == [config.path]
        assert found(config, "r.example:5000") == ME

    def test_docker_hub_has_its_old_key(self, config: DockerConfig) -> None:
        """The one under which Docker looks."""
        config.save("docker.io", ME)
        assert read(config) == {"auths": {HUB: AUTH}}
        assert found(config, "docker.io") == ME

    def test_everything_else_stays(self, config: DockerConfig) -> None:
        """Keys that nobody knows, their order, numbers, other registries."""
        text = (
            '{"zeta": 1, "HttpHeaders": {"X": "\\u00e9"}, "auths": {"b.example": {"auth": "x", "mail": 1}},'
            ' "big": 123456789012345678901234567890, "half": 0.1, "alpha": [null, true], "odd": "\\ud800"}'
        )
        write(config, text)
        config.save("a.example", ME)
        expected = json.loads(text)
        expected["auths"]["a.example"] = AUTH
        assert list(read(config)) == list(expected)
        assert read(config) == expected
        config.remove("a.example")
        assert read(config) == json.loads(text)

    @settings(max_examples=30, deadline=None)
    @given(
        st.dictionaries(
            st.text(max_size=5).filter(lambda key: key not in ("auths", "credHelpers", "credsStore")),
            st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists),
            max_size=5,
        )
    )
    def test_any_other_content(self, tmp_path_factory: pytest.TempPathFactory, others: object) -> None:
        """Login and logout leave it as it was."""
        config = DockerConfig(tmp_path_factory.mktemp("docker") / "config.json")
        write(config, others)
        config.save("r.example", ME)
        assert config.remove("r.example")
        assert {key: value for key, value in read(config).items() if key != "auths"} == others

    @pytest.mark.parametrize(
        "old",
        [
            {"r.example": {"auth": "old"}},
            {"https://r.example": {"auth": "old"}, "r.example": {"auth": "old"}, "R.example/v1/": {}},
        ],
    )
    def test_a_later_login_replaces_the_earlier(self, config: DockerConfig, old: dict[str, object]) -> None:
        """In all spellings; what is for a namespace, and for others, stays."""
        others = {"r.example/team": {"auth": "team"}, "s.example": {"auth": "s"}}
        write(config, {"auths": {**old, **others}})
        config.save("r.example", ME)
        assert read(config) == {"auths": {"r.example": AUTH, **others}}

    def test_an_identity_token(self, config: DockerConfig) -> None:
        """As Docker keeps one."""
        config.save("r.example", Credential(identity_token="id"))
        assert found(config, "r.example") == Credential(identity_token="id")

    @pytest.mark.parametrize("text", ["", " \n", "{}", '{"auths": null}'])
    def test_files_with_nothing_in_them(self, config: DockerConfig, text: str) -> None:
        """Are as good as none."""
        write(config, text)
        config.save("r.example", ME)
        assert read(config)["auths"] == {"r.example": AUTH}

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            "null",
            '{"auths": []}',
            '{"credHelpers": "x"}',
            '{"x": NaN}',
            '{"x": 1e999}',
            "[" * 100_000,
            '{"credsStore": "../x"}',
            '{"credsStore": 5}',
            '{"credHelpers": {"r.example": "a b"}}',
        ],
        ids=lambda text: text[:25],
    )
    def test_files_that_are_not_understood(self, config: DockerConfig, text: str) -> None:
        """Exit status 5, and not a byte of them is changed."""
        before = write(config, text)
        with pytest.raises(Malformed) as caught:
            config.save("r.example", ME)
        assert caught.value.exit_code == 5
        assert str(config.path) in caught.value.message
        assert config.path.read_bytes() == before
        assert list(config.path.parent.iterdir()) == [config.path]

    def test_a_damaged_file_is_not_quoted(self, config: DockerConfig) -> None:
        """It may hold secrets: neither the error nor its causes show it."""
        write(config, '{"auths": {"r.example": {"auth": "hidden"')
        with pytest.raises(Malformed) as caught:
            config.remove("r.example")
        assert "hidden" not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"

    def test_it_becomes_private(self, config: DockerConfig) -> None:
        """Also when nothing else changes."""
        write(config, {"auths": {"r.example": AUTH}})
        config.path.chmod(0o644)
        config.save("r.example", ME)
        assert mode(config.path) == 0o600

    @pytest.mark.parametrize("exists", [True, False], ids=["to a file", "dangling"])
    def test_a_symbolic_link_stays(self, config: DockerConfig, tmp_path: Path, exists: bool) -> None:
        """What it points at is replaced, in its own directory."""
        target = tmp_path / "dotfiles/docker.json"
        config.path.parent.mkdir()
        config.path.symlink_to("../dotfiles/docker.json")
        if exists:
            target.parent.mkdir()
            target.write_text('{"keep": 1}')
        config.save("r.example", ME)
        assert config.path.is_symlink() and not target.is_symlink()
        assert json.loads(target.read_text())["auths"] == {"r.example": AUTH}
        assert list(target.parent.iterdir()) == [target]
        assert found(config, "r.example") == ME

    def test_a_draft_that_a_crash_left(self, config: DockerConfig) -> None:
        """Is no obstacle, and nothing of it gets into the file."""
        write(config, {"keep": 1})
        draft = config.path.parent / ".config.json.draft"
        draft.write_text("x" * 10_000)
        draft.chmod(0o644)
        config.save("r.example", ME)
        assert read(config) == {"keep": 1, "auths": {"r.example": AUTH}}
        assert mode(config.path) == 0o600
        assert list(config.path.parent.iterdir()) == [config.path]

    def test_places_that_cannot_be_used(self, tmp_path: Path) -> None:
        """Exit status 2, naming the file and the way out."""
        (tmp_path / "file").write_text("")
        (tmp_path / "as-directory/config.json").mkdir(parents=True)
        for path in (tmp_path / "file/config.json", tmp_path / "as-directory/config.json"):
            with pytest.raises(AccessDenied) as caught:
                DockerConfig(path).save("r.example", ME)
            assert str(path) in caught.value.message
            assert "DOCKER_CONFIG" in (caught.value.hint or "")
            assert not path.with_name(".config.json.draft").exists()


class TestHelpers:
    """With `credsStore` or `credHelpers`: the helper has the secret, the file an empty entry."""

    def test_store(self, config: DockerConfig, tmp_path: Path) -> None:
        """The secret goes over stdin alone; an older plain entry is gone, as with Docker."""
        helper = working_helper(tmp_path / "bin")
        write(
            config, {"auths": {"r.example": {"auth": "old"}, "https://r.example": {}}, "credsStore": "test"}
        )
        assert config.save("r.example", ME) == "docker-credential-test"
        assert read(config) == {"auths": {"r.example": {}}, "credsStore": "test"}
        assert [call["argv"] for call in helper.calls] == [["store"]]
        assert helper.kept == {
            "r.example": {"ServerURL": "r.example", "Username": "me", "Secret": "pa:ss"},
        }
        assert found(config, "r.example") == ME

    def test_store_for_docker_hub(self, config: DockerConfig, tmp_path: Path) -> None:
        """Under Docker's old key there too."""
        helper = working_helper(tmp_path / "bin")
        write(config, {"credsStore": "test"})
        config.save("docker.io", ME)
        assert list(helper.kept) == [HUB]
        assert read(config) == {"credsStore": "test", "auths": {HUB: {}}}

    def test_an_identity_token(self, config: DockerConfig, tmp_path: Path) -> None:
        """By the user name that helpers know it by."""
        helper = working_helper(tmp_path / "bin")
        write(config, {"credsStore": "test"})
        config.save("r.example", Credential(identity_token="id"))
        assert helper.kept["r.example"]["Username"] == "<token>"
        assert found(config, "r.example") == Credential(identity_token="id")

    def test_the_hosts_own_helper_goes_first(self, config: DockerConfig, tmp_path: Path) -> None:
        """And an empty name means the file, for that host."""
        general, own = working_helper(tmp_path / "a", "general"), working_helper(tmp_path / "b", "own")
        write(config, {"credsStore": "general", "credHelpers": {"r.example": "own", "s.example": ""}})
        assert config.save("r.example", ME) == "docker-credential-own"
        assert config.save("s.example", ME) is None
        assert config.save("t.example", ME) == "docker-credential-general"
        assert (list(own.kept), list(general.kept)) == (["r.example"], ["t.example"])
        assert read(config)["auths"] == {"r.example": {}, "s.example": AUTH, "t.example": {}}

    @pytest.mark.parametrize(
        ("script", "said"),
        [
            ("#!/bin/sh\ncat >&2; echo 'the keychain is locked' >&2; exit 1\n", "the keychain is locked"),
            ("#!/bin/sh\ncat; exit 1\n", "…"),
            ("#!/bin/sh\nexit 4\n", "status 4"),
            ("#!/bin/sh\nexec sleep 60\n", "has not answered for 0.3 seconds"),
            (None, "is not on PATH"),
        ],
        ids=["complains", "repeats", "silent", "hangs", "missing"],
    )
    def test_helpers_that_fail(
        self, config: DockerConfig, tmp_path: Path, script: str | None, said: str
    ) -> None:
        """What it says is shown, never the secret; nothing is saved, least of all in plain text."""
        if script:
            script_helper(tmp_path / "bin", "test", script)
        before = write(config, {"auths": {"r.example": {"auth": "old"}}, "credsStore": "test"})
        secret = 'top"secret/1'
        with pytest.raises(AccessDenied) as caught:
            DockerConfig(config.path, helper_seconds=0.3).save("r.example", Credential("me", secret))
        assert said in caught.value.message
        assert str(config.path) in (caught.value.hint or "")
        assert "secret" not in f"{caught.value.message} {caught.value.hint} {caught.value.__cause__!r}"
        assert config.path.read_bytes() == before


class TestRemoving:
    """Logout: nothing is found afterwards."""

    @pytest.mark.parametrize(
        ("registry", "key"),
        [
            ("r.example", "r.example"),
            ("r.example", "https://r.example/v1/"),
            ("r.example", "http://r.example"),
            ("docker.io", HUB),
            ("docker.io", "registry-1.docker.io"),
            ("docker.io", f"{HUB}access-token"),
        ],
    )
    def test_plain_in_every_spelling(self, config: DockerConfig, registry: str, key: str) -> None:
        """The others stay."""
        write(config, {"auths": {key: AUTH, "s.example": AUTH}, "keep": 1})
        assert config.remove(registry)
        assert read(config) == {"auths": {"s.example": AUTH}, "keep": 1}
        assert found(config, registry) is None
        assert not config.remove(registry)

    def test_from_the_helper(self, config: DockerConfig, tmp_path: Path) -> None:
        """Under the key that it was stored under, and under what Docker left as a sign."""
        helper = working_helper(tmp_path / "bin")
        write(config, {"credsStore": "test", "auths": {"https://r.example": {}}})
        helper.keep("https://r.example", "old", "s")
        helper.keep("r.example", "new", "s")
        helper.keep("s.example", "other", "s")
        assert config.remove("r.example")
        assert list(helper.kept) == ["s.example"]
        assert read(config) == {"credsStore": "test", "auths": {}}
        assert found(config, "r.example") is None

    def test_what_only_the_helper_knows(self, config: DockerConfig, tmp_path: Path) -> None:
        """Is a login too, and the file stays as it is."""
        helper = working_helper(tmp_path / "bin")
        before = write(config, {"credsStore": "test"})
        helper.keep("r.example", "me", "s")
        assert config.remove("r.example")
        assert helper.kept == {}
        assert config.path.read_bytes() == before

    def test_nothing_to_do(self, config: DockerConfig, tmp_path: Path) -> None:
        """Makes no file and no directory, and leaves a file alone, with a helper or without."""
        assert not config.remove("r.example")
        assert not config.path.parent.exists()
        working_helper(tmp_path / "bin")
        for document in (
            {},
            {"auths": {"s.example": AUTH}},
            {"credsStore": "test"},
            {"credsStore": "missing"},
        ):
            before = write(config, document)
            assert not config.remove("r.example")
            assert config.path.read_bytes() == before

    @pytest.mark.parametrize("auths", [{"r.example": AUTH}, {}], ids=["plain too", "helper alone"])
    def test_a_helper_that_keeps_it(
        self, config: DockerConfig, tmp_path: Path, auths: dict[str, object]
    ) -> None:
        """An error that says so, after the file's own entry is gone."""
        answer = '{"ServerURL":"x","Username":"me","Secret":"s"}'
        script = f"#!/bin/sh\n[ $1 = get ] && echo '{answer}' && exit\necho locked; exit 1\n"
        script_helper(tmp_path / "bin", "test", script)
        write(config, {"credsStore": "test", "auths": auths})
        with pytest.raises(AccessDenied, match="locked") as caught:
            config.remove("r.example")
        assert "may still be there" in (caught.value.hint or "")
        assert read(config)["auths"] == {}

    @pytest.mark.parametrize(
        "document",
        [{"credsStore": "missing", "auths": {"r.example": {}}}, {"credHelpers": {"r.example": "missing"}}],
        ids=["signed", "named"],
    )
    def test_a_helper_that_is_not_there_any_more(self, config: DockerConfig, document: object) -> None:
        """The secret may still be in the keychain: that is no success."""
        write(config, document)
        with pytest.raises(AccessDenied, match="not on PATH"):
            config.remove("r.example")
