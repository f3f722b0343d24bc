"""Files of a message: named in it, read, shown to the model."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.chat.attachments import AttachedFile, mentions
from qwenctl.chat.files import LIMIT_BYTES, existing, read_text_file
from qwenctl.errors import AccessDenied, FileMissing, QwenctlError, UsageError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("look at @notes.txt", ("notes.txt",)),
        ("@a @b @a", ("a", "b")),
        ('@"two words.txt" and more', ("two words.txt",)),
        ("me@example.com", ()),
        ("@", ()),
        ("(@a)", ()),
        ("see\n@~/x/y.py, please", ("~/x/y.py,",)),
    ],
)
def test_mentions(text: str, names: tuple[str, ...]) -> None:
    """A path behind an `@` that begins a word."""
    assert mentions(text) == names


def test_punctuation_behind_a_path_is_none_of_it(tmp_path: Path) -> None:
    """Unless there is a file of that name."""
    (tmp_path / "a").write_text("")
    assert existing(f"{tmp_path}/a,") == f"{tmp_path}/a"
    assert existing(f"{tmp_path}/b") is None
    assert existing(str(tmp_path)) is None
    (tmp_path / "a,").write_text("")
    assert existing(f"{tmp_path}/a,") == f"{tmp_path}/a,"


def test_text_is_read_as_it_is(tmp_path: Path) -> None:
    """In UTF-8, with or without its mark."""
    (tmp_path / "a").write_bytes("\ufeffäö\n".encode())
    assert read_text_file(f"{tmp_path}/a") == AttachedFile(f"{tmp_path}/a", "äö\n")
    assert read_text_file(f"{tmp_path}/a").summary().endswith("/a (1 line)")


@pytest.mark.parametrize("content", [b"\x7fELF\0\0", b"\xff\xfe\x00", b"caf\xe9", b"a\0b"])
def test_binaries_are_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever is no text in UTF-8, or has zero bytes."""
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UsageError, match="not a text file"):
        read_text_file(f"{tmp_path}/a")


def test_the_bound_is_exact(tmp_path: Path) -> None:
    """So much goes, and one byte more does not."""
    (tmp_path / "a").write_bytes(b"x" * LIMIT_BYTES)
    assert len(read_text_file(f"{tmp_path}/a").text) == LIMIT_BYTES
    (tmp_path / "a").write_bytes(b"x" * (LIMIT_BYTES + 1))
    with pytest.raises(UsageError, match="too long"):
        read_text_file(f"{tmp_path}/a")


def test_what_is_no_file(tmp_path: Path) -> None:
    """A directory, a pipe that nobody writes to, a device without an end, nothing at all."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises((UsageError, AccessDenied)):
            read_text_file(str(path))
    with pytest.raises(FileMissing):
        read_text_file(f"{tmp_path}/absent")
    with pytest.raises(QwenctlError):
        read_text_file("a\0b")


@given(st.text(alphabet="a`\n", max_size=20))
def test_no_text_ends_its_own_fence(text: str) -> None:
    """The fence is longer than any run of backticks in the file."""
    first, *inside, last = AttachedFile("a", text).render().splitlines()[1:]
    assert first == last
    assert all(first not in line for line in inside)
