"""The settings file as people write it: one key is changed, all else stays as it is, comments too.

The text is edited at the places that YAML's own parser names, and read again before it is believed.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qwenctl.cli.output import reason_of
from qwenctl.errors import AccessDenied, Conflict, DiskFull
from qwenctl.settings import read_file

if TYPE_CHECKING:
    import yaml

_MODE: Final = 0o600  # of a new file: settings may name what is nobody else's business


def with_key(text: str, key: str, value: str) -> str:
    """`text` in which `key` has `value`, the one text of a setting. Raises: InvalidSettings, Conflict."""
    expected = read_file(text) | {key: value}
    found = _find(text, key)
    written = _as_yaml(key, value)
    if found:
        at, after = found[-1]
        edited = f"{text[: at.end_mark.index]}: {written}{text[_end(after) :]}"
    else:
        edited = f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{key}: {written}\n"
    return _proved(edited, expected)


def without_key(text: str, key: str) -> str:
    """`text` without `key`, and without the rest of its lines. Raises: InvalidSettings, Conflict."""
    expected = {name: value for name, value in read_file(text).items() if name != key}
    for at, after in reversed(_find(text, key)):
        begin = text.rfind("\n", 0, at.start_mark.index) + 1
        end = text.find("\n", max(_end(after), at.end_mark.index))
        text = text[:begin] + (text[end + 1 :] if end >= 0 else "")
    return _proved(text, expected)


def _find(text: str, key: str) -> "list[tuple[yaml.ScalarNode, yaml.Node]]":
    """The nodes of `key` and of its value, wherever it is at the top."""
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else ()
    return [(name, value) for name, value in pairs if name.value == key]


def _end(node: "yaml.Node") -> int:
    """Where a value ends; a block's own mark is behind the comments that follow it."""
    import yaml

    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _as_yaml(key: str, text: str) -> str:
    """The value in one line of YAML: numbers bare, lists and mappings as such."""
    import yaml

    value: Any = text
    if key == "mirrors":
        rows = [part.partition("=") for part in text.split(";") if part]
        value = {registry: [url for url in urls.split(",") if url] for registry, _, urls in rows}
    elif key in {"insecure_registries", "ggml_backends"} or "," in text:
        value = [part for part in text.split(",") if part]
    elif text.isascii() and text.isdigit() and str(int(text)) == text:
        value = int(text)
    dumped = str(yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True))
    return dumped.removesuffix("...\n").strip()


def _proved(text: str, expected: dict[str, str]) -> str:
    if {key: value for key, value in read_file(text).items() if value or key in expected} != expected:
        raise Conflict(
            "the settings file is written in a way that cannot be edited line by line",
            hint="`qwenctl config edit` opens it",
        )
    return text


@contextmanager
def opened(path: Path) -> Iterator[list[str]]:
    """The text of the file in a list of one, which is written when the block changed it, atomically.

    One process at a time; a link to the file stays a link. Raises: AccessDenied.
    """
    import fcntl

    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(target.parent, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = target.read_bytes().decode() if target.exists() else ""
            text = [before]
            yield text
            if text[0] != before:
                _replace(target, text[0].encode())
                os.fsync(lock)
        finally:
            os.close(lock)
    except (OSError, UnicodeDecodeError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        kind = DiskFull if full else AccessDenied
        raise kind(f"settings file `{path}` cannot be used: {reason_of(error)}") from error


def _replace(target: Path, content: bytes) -> None:
    """Write beside, then rename; the mode stays."""
    mode = target.stat().st_mode & 0o777 if target.exists() else _MODE
    draft = target.with_name(f".{target.name}.{os.urandom(4).hex()}.draft")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            os.fsync(handle)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
