"""Logging in on a terminal: what is asked, and what is not shown."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from qwenctl.remote.credentials import Credential
from tests.cli.conftest import Command
from tests.cli.login_builders import SECRET, found, log_in
from tests.remote.account_registry import AccountRegistry


class Terminal:
    """`qwenctl` on a terminal of its own: what a person sees, and types."""

    PROGRAM = (
        "import os, sys; os.login_tty(0);"
        "os.execv(sys.executable, [sys.executable, '-m', 'qwenctl', *sys.argv[1:]])"
    )

    def __init__(self, *arguments: str) -> None:
        self.seen = ""
        self.handle, inner = pty.openpty()
        command = [sys.executable, "-c", self.PROGRAM, *arguments]
        self.child = subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner)
        os.close(inner)

    def wait_for(self, text: str) -> None:
        """Until it is on the screen."""
        deadline = time.monotonic() + 30
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self._read()

    def type(self, text: str) -> None:
        """As the keys give it."""
        os.write(self.handle, text.encode())

    def wait_for_silence(self) -> None:
        """Until what is typed is not echoed any more."""
        deadline = time.monotonic() + 30
        while termios.tcgetattr(self.handle)[3] & termios.ECHO:
            assert time.monotonic() < deadline, self.seen
            time.sleep(0.01)

    def end(self) -> int:
        """The exit status, once all is read."""
        while self._read():
            pass
        os.close(self.handle)
        return self.child.wait(30)

    def _read(self) -> bool:
        if not select.select([self.handle], [], [], 0.2)[0]:
            return True
        try:
            piece = os.read(self.handle, 4096)
        except OSError:  # Linux ends a terminal so
            return False
        self.seen += piece.decode()
        return bool(piece)


class TestTerminal:
    """A person is asked."""

    def test_user_and_password(self, registry: AccountRegistry) -> None:
        """The user is shown as it is typed, the password is not."""
        terminal = Terminal("login", registry.address)
        terminal.wait_for("Username: ")
        terminal.type("me\n")
        terminal.wait_for("Password: ")
        terminal.wait_for_silence()
        terminal.type(f"{SECRET}\n")
        assert terminal.end() == 0
        assert "Username: me" in terminal.seen and SECRET not in terminal.seen
        assert f"logged in to {registry.address} as me" in terminal.seen
        assert found(registry.address) == Credential("me", SECRET)

    def test_the_stored_user_is_offered(self, qwenctl: Command, registry: AccountRegistry) -> None:
        """When its password is not taken any more: Enter keeps it."""
        log_in(qwenctl, registry.address)
        registry.users = {"me": "changed"}
        terminal = Terminal("login", registry.address)
        terminal.wait_for("Username (me): ")
        terminal.type("\n")
        terminal.wait_for("Password: ")
        terminal.wait_for_silence()
        terminal.type("changed\n")
        assert terminal.end() == 0
        assert found(registry.address) == Credential("me", "changed")

    @pytest.mark.parametrize("flags", [(), ("-u", "me")], ids=["at the user", "at the password"])
    def test_an_interrupt(self, registry: AccountRegistry, config: Path, flags: tuple[str, ...]) -> None:
        """Exit status 130 on a line of its own, the terminal echoes again, nobody was asked."""
        terminal = Terminal("login", registry.address, *flags)
        terminal.wait_for("Password: " if flags else "Username: ")
        if flags:
            terminal.wait_for_silence()
        terminal.type("\x03")
        terminal.wait_for("error: interrupted")
        assert termios.tcgetattr(terminal.handle)[3] & termios.ECHO
        assert terminal.end() == 130
        assert re.search(r"\nerror: interrupted", terminal.seen)
        assert registry.seen == [] and not config.exists()

    def test_the_end_of_the_input(self, registry: AccountRegistry) -> None:
        """Ctrl-D is no password: exit status 2."""
        terminal = Terminal("login", registry.address, "-u", "me")
        terminal.wait_for("Password: ")
        terminal.wait_for_silence()
        terminal.type("\x04")
        assert terminal.end() == 2
        assert "the password is empty" in terminal.seen

    def test_json_asks_nothing(self, registry: AccountRegistry) -> None:
        """A program cannot answer, also where it has a terminal."""
        terminal = Terminal("login", registry.address, "--json")
        assert terminal.end() == 2
        assert '"code":"usage"' in terminal.seen
