"""Tables in terminals that are too narrow for them."""

import pytest

from qwenctl.cli.output import narrowed
from tests.cli.terminals import at_terminal

HEADERS = ("NAME", "LONG ONE", "SIZE")
ROWS = [("guide", "something", "1 B")]


@pytest.mark.parametrize(
    ("columns", "headers"),
    [
        (None, "NAME   LONG ONE   SIZE"),
        (22, "NAME   LONG ONE   SIZE"),
        (21, "NAME   SIZE"),
        (10, "NAME"),
        (1, "NAME"),
    ],
)
def test_columns_are_left_out(columns: int | None, headers: str) -> None:
    """One by one, in the order that is given; the others stay, and in a pipe all."""
    assert narrowed(HEADERS, ROWS, ("LONG ONE", "SIZE"), columns).splitlines()[0] == headers


def test_list_fits_a_terminal(store_path: object) -> None:
    """No line of `qwenctl list` is broken in two."""
    at_terminal("pull", "guide")
    assert max(map(len, at_terminal("list").shown.splitlines())) <= 80
