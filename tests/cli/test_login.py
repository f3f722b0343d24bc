"""`login` and `logout` against real registries on loopback, with and without a terminal."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from qwenctl.errors import UsageError
from qwenctl.remote.credentials import Credential
from qwenctl.remote.login import parse_registry
from tests.cli.conftest import Command
from tests.cli.login_builders import SECRET, found, log_in
from tests.remote.account_registry import AccountRegistry, account_registry, basic
from tests.remote.helper_programs import working_helper


class TestLogin:
    """What is proved is saved, and nothing else."""

    def test_a_script(self, qwenctl: Command, registry: AccountRegistry, config: Path) -> None:
        """One line on stdout; where it is kept, unencrypted, on stderr."""
        host = registry.address
        shown = log_in(qwenctl, host)
        assert (shown.status, shown.out) == (0, f"logged in to {host} as me\n")
        warning, hint = shown.err.splitlines()
        assert warning == f"warning: the password is stored unencrypted in {config}"
        assert hint.startswith("hint: ") and "credsStore" in hint
        assert found(host) == Credential("me", SECRET)
        assert basic("me", SECRET) in registry.shown

    def test_json(self, qwenctl: Command, registry: AccountRegistry, config: Path) -> None:
        """The envelope alone, without the secret."""
        shown = log_in(qwenctl, registry.address, "--json")
        assert shown.err == ""
        assert shown.document["command"] == "login"
        assert shown.data == {
            "registry": registry.address,
            "user": "me",
            "checked": True,
            "saved": True,
            "file": str(config),
            "credential_helper": None,
        }

    def test_then_a_pull_is_let_in(self, qwenctl: Command, registry: AccountRegistry) -> None:
        """Before it, the hint names the command; after it, the registry is asked and has no such model."""
        name = f"{registry.address}/me/model"
        assert f"qwenctl login {registry.address}`" in qwenctl("pull", name).err
        log_in(qwenctl, registry.address)
        registry.seen.clear()
        assert qwenctl("pull", name).status == 3
        assert registry.seen[-1].authorization

    @pytest.mark.parametrize("flags", [(), ("--json",)], ids=["text", "json"])
    def test_a_wrong_password(
        self, qwenctl: Command, registry: AccountRegistry, config: Path, flags: tuple[str, ...]
    ) -> None:
        """Exit status 4; nothing is saved, and what was there before still is."""
        log_in(qwenctl, registry.address)
        before = config.read_bytes()
        registry.echo = True
        shown = log_in(qwenctl, registry.address, *flags, password="not-the-secret")
        assert shown.status == 4
        assert "not-the-secret" not in shown.out + shown.err
        assert "access token" in shown.out + shown.err
        assert config.read_bytes() == before
        assert list(config.parent.iterdir()) == [config]
        if flags:
            assert shown.document["errors"][0]["code"] == "unauthorized"

    def test_a_registry_that_repeats_what_it_got(self, qwenctl: Command) -> None:
        """Its words are shown, the password in them is not, in clear or encoded."""
        with account_registry(echo=True) as talkative:
            shown = log_in(qwenctl, talkative.address, password="hidden-secret")
        assert shown.status == 4
        assert "UNAUTHORIZED: bad Basic …" in shown.err
        assert "hidden-secret" not in shown.err
        assert basic("me", "hidden-secret").removeprefix("Basic ") not in shown.err

    def test_a_registry_without_accounts(self, qwenctl: Command) -> None:
        """It is a login, as for Docker; but it is said that nothing was checked."""
        with account_registry(scheme="") as anybody:
            shown = log_in(qwenctl, anybody.address)
            assert (shown.status, shown.out) == (0, f"logged in to {anybody.address} as me\n")
            assert "lets anybody in: user and password were not checked" in shown.err
            assert log_in(qwenctl, anybody.address, "--json").data["checked"] is False
            assert found(anybody.address) == Credential("me", SECRET)

    def test_what_is_no_registry(self, qwenctl: Command, config: Path) -> None:
        """Nobody there, no `/v2/`, an error, a page of somebody else: exit status 4, nothing saved."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            nobody = f"127.0.0.1:{free.getsockname()[1]}"
        shown = log_in(qwenctl, nobody, "--json")
        assert (shown.status, shown.document["errors"][0]["code"]) == (4, "unreachable")
        with (
            account_registry(scheme="") as portal,
            account_registry(redirect=f"http://{portal.address}") as moved,
        ):
            assert f"redirects to `http://{portal.address}`" in log_in(qwenctl, moved.address).err
            portal.statuses = [404]
            assert "not a registry" in log_in(qwenctl, portal.address).err
            portal.statuses = [400]
            assert log_in(qwenctl, portal.address).status == 4
        assert not config.parent.exists()

    def test_a_helper_keeps_it(self, qwenctl: Command, registry: AccountRegistry, config: Path) -> None:
        """No warning; the helper is named in JSON; the secret was in no argument."""
        helper = working_helper(config.parent)
        config.write_text('{"credsStore": "test"}')
        shown = log_in(qwenctl, registry.address)
        assert (shown.status, shown.err) == (0, "")
        assert [call["argv"] for call in helper.calls] == [["store"]]
        assert SECRET not in config.read_text()
        assert (
            log_in(qwenctl, registry.address, "--json").data["credential_helper"] == "docker-credential-test"
        )
        assert found(registry.address) == Credential("me", SECRET)

    def test_a_damaged_file(self, qwenctl: Command, registry: AccountRegistry, config: Path) -> None:
        """Exit status 5, left alone."""
        config.parent.mkdir()
        config.write_text("{not json")
        shown = log_in(qwenctl, registry.address)
        assert (shown.status, config.read_text()) == (5, "{not json")
        assert str(config) in shown.err

    def test_another_place(self, qwenctl: Command, registry: AccountRegistry, tmp_path: Path) -> None:
        """`DOCKER_CONFIG` is a directory; one that does not exist is made."""
        os.environ["DOCKER_CONFIG"] = str(tmp_path / "a/b")
        assert log_in(qwenctl, registry.address).status == 0
        assert (tmp_path / "a/b/config.json").exists()

    def test_a_file_that_goes_first(
        self, qwenctl: Command, registry: AccountRegistry, tmp_path: Path
    ) -> None:
        """`REGISTRY_AUTH_FILE` with another account for the same registry is told."""
        first = tmp_path / "auth.json"
        first.write_text(json.dumps({"auths": {registry.address: {"username": "u", "password": "p"}}}))
        os.environ["REGISTRY_AUTH_FILE"] = str(first)
        assert (
            f"warning: {first} has credentials for {registry.address} too"
            in log_in(qwenctl, registry.address).err
        )


class TestStored:
    """Without user and password: what is stored is tried, as Docker does."""

    def test_it_is_good_still(self, qwenctl: Command, registry: AccountRegistry, config: Path) -> None:
        """Nothing is written; how to change the account is said."""
        log_in(qwenctl, registry.address)
        before = config.stat().st_mtime_ns
        shown = qwenctl("login", registry.address)
        assert (shown.status, shown.out) == (
            0,
            f"logged in to {registry.address} as me, with what is stored\n",
        )
        assert "--username" in shown.err
        assert qwenctl("login", registry.address, "--json").data["saved"] is False
        assert config.stat().st_mtime_ns == before

    def test_it_is_not(self, qwenctl: Command, registry: AccountRegistry) -> None:
        """Without a terminal it ends there, with the reason."""
        log_in(qwenctl, registry.address)
        registry.users = {"me": "changed"}
        shown = qwenctl("login", registry.address)
        assert shown.status == 2
        assert "not taken any more" in shown.err and "--password-stdin" in shown.err


class TestArguments:
    """What is asked for, and what is refused before anybody is asked."""

    @pytest.mark.parametrize(
        ("text", "host"),
        [
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("GHCR.io", "ghcr.io"),
            ("https://r.example/v2/", "r.example"),
            ("http://r.example:5000", "r.example:5000"),
            ("r.example/team", "r.example"),
            ("localhost", "localhost"),
            ("localhost:5000", "localhost:5000"),
            ("[::1]:5000", "[::1]:5000"),
        ],
    )
    def test_registries(self, text: str, host: str) -> None:
        """Of an address the host is taken, as Docker does."""
        assert parse_registry(text) == host

    @pytest.mark.parametrize(
        "text",
        ["", "myhost", "a b", "https://", "ftp://r.example", "me:hidden@r.example", "https://me:hidden@r.example/",
         "r.example:99999", "r.example:", "qwenctl.internal", "r.example?x", "-r.example", "r.example\n"],
    )  # fmt: skip
    def test_what_is_no_registry(self, text: str) -> None:
        """Refused, without repeating a password that stands in it."""
        if text == "r.example\n":
            assert parse_registry(text) == "r.example"
            return
        with pytest.raises(UsageError) as caught:
            parse_registry(text)
        assert "hidden" not in f"{caught.value.message} {caught.value.hint}"

    @pytest.mark.parametrize(
        ("flags", "piped", "said"),
        [
            ((), "", "there is no user, and no terminal"),
            (("-u", "me"), "", "there is no password, and no terminal"),
            (("-p", "hidden"), "", "there is no user, and no terminal"),
            (("--password-stdin",), "hidden", "needs a user"),
            (("-u", "me", "-p", "hidden", "--password-stdin"), "hidden", "two passwords"),
            (("-u", "me", "--password-stdin"), "", "the password is empty"),
            (("-u", "me", "--password-stdin"), "\n", "the password is empty"),
            (("-u", "me", "-p", ""), "", "the password is empty"),
            (("-u", "m:e", "-p", "hidden"), "", "no colon"),
            (("-u", "m\ne", "-p", "hidden"), "", "no control characters"),
            (("-u", "me", "-p", "hidden\udcff"), "", "not text in UTF-8"),
            (("-u", "me", "--password-stdin"), "hidden" * 20_000, "too long"),
        ],
    )
    def test_too_little_or_too_much(
        self, qwenctl: Command, flags: tuple[str, ...], piped: str, said: str
    ) -> None:
        """Exit status 2, nobody is asked, and the password is in neither stream."""
        with account_registry() as registry:
            shown = qwenctl("login", registry.address, *flags, piped=piped)
            assert shown.status == 2
            assert said in shown.err and "hidden" not in shown.err + shown.out
            as_json = qwenctl("login", registry.address, *flags, "--json", piped=piped)
            assert (as_json.document["errors"][0]["code"], as_json.err) == ("usage", "")
            assert registry.seen == []

    def test_a_password_that_is_no_text(self, store_path: Path) -> None:
        """Exit status 2; its bytes are not shown."""
        program = [sys.executable, "-m", "qwenctl", "login", "r.example", "-u", "me", "--password-stdin"]
        done = subprocess.run(program, input=b"hidden\xff", capture_output=True)
        assert done.returncode == 2
        assert b"hidden" not in done.stderr and b"UTF-8" in done.stderr

    def test_in_the_arguments(self, qwenctl: Command, registry: AccountRegistry) -> None:
        """It works, with a warning."""
        shown = qwenctl("login", registry.address, "-u", "me", "-p", SECRET)
        assert shown.status == 0
        assert "warning: --password is seen" in shown.err
        assert SECRET not in shown.err + shown.out

    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_the_line_break_is_not_part_of_it(
        self, qwenctl: Command, registry: AccountRegistry, end: str
    ) -> None:
        """One at the end; those inside belong to it, as in a key of a service account."""
        registry.users = {"_json_key": '{\n "key": "ä"\n}'}
        flags = ("login", registry.address, "-u", "_json_key", "--password-stdin")
        assert qwenctl(*flags, piped=registry.users["_json_key"] + end).status == 0
        assert found(registry.address) == Credential("_json_key", registry.users["_json_key"])


class TestLogout:
    """Nothing is found afterwards; nobody is asked."""

    def test_round_trip(self, qwenctl: Command, registry: AccountRegistry, config: Path) -> None:
        """Once it is a logout, and then it is none: exit status 0 both times."""
        host = registry.address
        log_in(qwenctl, host)
        count = len(registry.seen)
        assert qwenctl("logout", f"https://{host}/v2/").out == f"logged out of {host}\n"
        assert found(host) is None
        shown = qwenctl("logout", host)
        assert (shown.status, shown.out, shown.err) == (0, f"not logged in to {host}\n", "")
        assert qwenctl("logout", host, "--json").data == {
            "registry": host,
            "was_logged_in": False,
            "still_in": None,
        }
        assert len(registry.seen) == count
        assert json.loads(config.read_text()) == {"auths": {}}

    def test_docker_hub_by_default(self, qwenctl: Command, config: Path) -> None:
        """Under the key that Docker uses."""
        config.parent.mkdir()
        config.write_text('{"auths": {"https://index.docker.io/v1/": {"auth": "bWU6cw=="}}}')
        assert qwenctl("logout").out == "logged out of docker.io\n"
        assert found("docker.io") is None

    def test_what_another_program_has(self, qwenctl: Command, clean_environment: Path) -> None:
        """Podman's file is podman's; that it still counts is said."""
        path = clean_environment / "containers/auth.json"
        path.parent.mkdir()
        path.write_text('{"auths": {"r.example": {"auth": "bWU6cw=="}}}')
        shown = qwenctl("logout", "r.example")
        assert shown.out == "not logged in to r.example\n"
        assert str(path) in shown.err
        assert qwenctl("logout", "r.example", "--json").data["still_in"] == str(path)


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("docker") is None, reason="Docker's command line is not installed")
def test_what_docker_saved_is_good(qwenctl: Command, registry: AccountRegistry) -> None:
    """Logged in with Docker, we are; logged out here, Docker's file has nothing."""
    flags = ["login", "-u", "me", "--password-stdin", registry.address]
    subprocess.run(["docker", *flags], input=SECRET.encode(), check=True, capture_output=True, timeout=60)
    assert "with what is stored" in qwenctl("login", registry.address).out
    assert qwenctl("logout", registry.address).out == f"logged out of {registry.address}\n"
