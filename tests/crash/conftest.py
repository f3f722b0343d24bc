"""The real program, of which nothing is left at work after a test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.crash_builders import Program

Install = Callable[..., Program]


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Install]:
    """Gives the program with a home of this name, and a store in it or at another path."""
    with ExitStack() as stack:

        def new(name: str = "home", store: Path | None = None, **environ: str) -> Program:
            home = tmp_path / name
            home.mkdir()
            return stack.enter_context(Program(home, store or home / "store", dict(environ)))

        yield new
