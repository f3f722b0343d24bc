"""What files take on disk."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from qwenctl.store.footprint import freed_disk_bytes, measure, total_disk_bytes, walk


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files, one with holes, one with two names, links, directories."""
    root = tmp_path / "root"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "plain").write_bytes(os.urandom(100_000))
    (root / "deep" / "twin").hardlink_to(root / "plain")
    with (root / "deep" / "er" / "holes").open("wb") as file:
        file.write(b"x" * 5000)
        file.truncate(50 << 20)
    (root / "link").symlink_to(root / "deep")
    (root / "dangling").symlink_to("nowhere")
    os.sync()
    return root


@pytest.mark.skipif(shutil.which("du") is None, reason="needs du")
def test_the_total_is_what_du_says(tree: Path) -> None:
    """Every file once, holes not at all, directories too, links not followed."""
    said = subprocess.run(["du", "-sk", str(tree)], capture_output=True, text=True, check=True)
    total = total_disk_bytes(walk(tree))
    assert abs(total - int(said.stdout.split()[0]) * 1024) < 1024


def test_what_is_there_of_a_file_with_holes(tree: Path) -> None:
    """Its size is what it will have, what is present is what was written."""
    holes = measure(tree / "deep" / "er" / "holes")
    assert holes is not None
    assert holes.size_bytes == 50 << 20
    assert 5000 <= holes.present_bytes < 1 << 20


def test_freeing_one_of_two_names_frees_nothing(tree: Path) -> None:
    """Only the last name gives the blocks back."""
    plain, twin = measure(tree / "plain"), measure(tree / "deep" / "twin")
    assert plain is not None and twin is not None
    assert freed_disk_bytes([plain]) == 0
    assert freed_disk_bytes([plain, twin]) == total_disk_bytes([plain, twin]) == plain.disk_bytes


def test_what_is_not_there(tmp_path: Path) -> None:
    """Takes nothing."""
    assert measure(tmp_path / "nothing") is None
    assert list(walk(tmp_path / "nothing")) == []
