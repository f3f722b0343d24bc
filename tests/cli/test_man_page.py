"""The man page is one that groff and man read."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qwenctl.cli.tree import read
from qwenctl.settings import FILE_KEYS, variable_of

PAGE = Path(__file__).parent.parent.parent / "docs/qwenctl.1"


@pytest.fixture(scope="module")
def shown() -> str:
    """The page as a person reads it."""
    if shutil.which("man") is None or shutil.which("groff") is None:
        if os.environ.get("QWENCTL_TEST_REQUIRE_PEERS"):
            pytest.fail("man is not installed")
        pytest.skip("man is not installed")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-P", "cat", "-l", str(PAGE)],
        env={**os.environ, "MANWIDTH": "400", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)


def test_every_command_option_and_example_is_there(shown: str) -> None:
    """As the commands have them, after the way through roff: hyphens, quotes, dots and backslashes."""
    for command in read().leaves():
        assert f"qwenctl {command.name}" in shown
        for option in command.options:
            assert ", ".join(option.names) in shown
        for example in command.examples:
            assert example in shown


def test_statuses_and_variables_are_there(shown: str) -> None:
    """What a script and an administrator look up."""
    assert re.search(r"^ +130 +interrupted$", shown, re.MULTILINE)
    for key in FILE_KEYS:
        assert variable_of(key) in shown
