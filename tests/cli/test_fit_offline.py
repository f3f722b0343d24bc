"""`qwenctl fit` where the registry cannot be reached: by the numbers on the card, and that is said."""

import os

import pytest

from tests.cli.conftest import Command
from tests.cli.schemas import check_output


@pytest.fixture(autouse=True)
def without_network() -> None:
    """A proxy at which nobody answers."""
    os.environ["HTTPS_PROXY"] = "http://127.0.0.1:1"


def test_one_model(qwenctl: Command) -> None:
    """The verdict, its numbers, a note with the reason; the document says how the header was had."""
    shown = qwenctl("fit", "qwen2.5")
    assert shown.status == 0
    assert "note: by the numbers on the model card, not by the file: cannot connect" in shown.out
    document = qwenctl("fit", "qwen2.5", "--json")
    check_output("fit", document.out)
    assert document.data["header"] == {"method": "card", "requests": 0, "bytes": 0}


def test_all_variants(qwenctl: Command) -> None:
    """All of them, and the reason once."""
    shown = qwenctl("fit", "qwen2.5", "--all").out
    assert shown.count("7 of 7 variants by the numbers on the model card") == 1
    assert shown.count("cannot connect") == 1
    assert "the largest that fits: " in shown


def test_what_no_card_describes(qwenctl: Command) -> None:
    """Status 4, and the near names."""
    shown = qwenctl("fit", "qwen2.5:7B-Q5_K_M")
    assert shown.status == 4 and "did you mean `qwen2.5:7B-Q4_K_M`" in shown.err
