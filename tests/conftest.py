"""A clean world for every test: no environment of the developer, a home of its own, 80 columns, UTC."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "CI", "QWENCTL_TEST_REQUIRE_PEERS")


@pytest.fixture(autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Replace the environment by a small fixed one; gives the home directory."""
    before = dict(os.environ)
    home = tmp_path_factory.mktemp("home")
    kept = {key: before[key] for key in KEPT if key in before}
    os.environ.clear()
    os.environ.update(
        kept,
        HOME=str(home),
        XDG_RUNTIME_DIR=str(home),
        COLUMNS="80",
        LINES="24",
        TZ="UTC",
        TERM="xterm-256color",
        PYTHONPATH=str(Path(__file__).parent.parent),
    )
    time.tzset()
    yield home
    os.environ.clear()
    os.environ.update(before)
    time.tzset()
