"""A conversation that has begun, in a real terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chat.screens import Screen, screen_of

DRIVER = Path(__file__).with_name("driver.py")

Open = Callable[..., Screen]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the conversations of this test are kept; not made yet."""
    return tmp_path / "state"


@pytest.fixture
def open_chat(state: Path) -> Iterator[Open]:
    """Begins conversations, with options of the driver and variables, each in a terminal of its own."""
    with ExitStack() as stack:

        def begin(*flags: str, **variables: str) -> Screen:
            screen = stack.enter_context(
                screen_of([sys.executable, str(DRIVER), str(state), *flags], **variables)
            )
            screen.prompt()
            return screen

        yield begin


@pytest.fixture
def screen(open_chat: Open) -> Screen:
    """A conversation that has begun."""
    return open_chat()
