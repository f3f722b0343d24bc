"""What the README shows of `fit` is what the program prints."""

import re
from pathlib import Path

import pytest

from qwenctl.settings import FILE_KEYS, variable_of
from tests.cli.conftest import Command
from tests.sparse_models import sparse_store

README = Path(__file__).parent.parent.parent / "README.md"


def test_every_setting_is_in_the_readme(readme: str) -> None:
    """With its variable and its key in one row."""
    for key in FILE_KEYS:
        assert f"\n| `{variable_of(key)}` | `{key}` | " in readme, key


@pytest.fixture
def readme() -> str:
    """The text of the README."""
    return README.read_text()


def test_the_transcript_of_fit(qwenctl: Command, store_path: Path, tmp_path: Path, readme: str) -> None:
    """The example is run on the example's machine profile, on a model with Qwen2.5-7B's real shape."""
    shown = re.search(r"\$ qwenctl fit (\S+) --host box\.yaml\n(.*?)```", readme, re.DOTALL)
    profile = re.search(r"^    name: gaming PC\n(?:    .+\n)+", readme, re.MULTILINE)
    assert shown is not None
    assert profile is not None
    box = tmp_path / "box.yaml"
    box.write_text(profile[0].replace("\n    ", "\n").lstrip())
    sparse_store(store_path, (shown[1], "qwen2.5-7b", "Q4_K_M"))
    outcome = qwenctl("fit", shown[1], "--host", str(box))
    assert (outcome.status, outcome.out, outcome.err) == (0, shown[2], "")
