"""What a word may become, for a shell at Tab: quick, silent, without typer.

`qwenctl complete-words -- WORD…` gets the words behind `qwenctl` up to the cursor, the last one unfinished,
and prints a candidate a line, behind a tab what it is. The line `:files` asks the shell for its own files.
Commands, options and the catalogue's models are read from `completion.json`, which is made from the tree of
commands and the cards; the store's names from its index. Nothing that goes wrong is said: a completion is no
place for errors.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from qwenctl.errors import QwenctlError

SPEC_PATH: Final = Path(__file__).with_name("completion.json")
"""The generated tree; see `completion_spec`."""
FILES: Final = ":files"

Candidate = tuple[str, str]
"""A word, and what it is."""


def complete_words(argv: Sequence[str]) -> int:
    """Print the candidates for the words in `argv`; the exit status, which is always 0."""
    import sys

    words = list(argv[1:] if argv[:1] == ["--"] else argv) or [""]
    try:
        lines = [f"{word}\t{text}" if text else word for word, text in complete(words)]
        sys.stdout.write("".join(f"{line}\n" for line in lines if line.replace("\t", " ").isprintable()))
        sys.stdout.flush()
    except (QwenctlError, OSError, ValueError, LookupError, AttributeError):
        pass
    return 0


def complete(words: Sequence[str]) -> list[Candidate]:
    """The candidates for the last of `words`. Raises: QwenctlError, OSError, ValueError."""
    node = _spec()
    *before, word = words
    position, waiting, plain = 0, "", False
    for earlier in before:
        if waiting:  # the value of the option before it
            waiting = ""
        elif earlier == "--":
            plain = True
        elif earlier.startswith("-") and not plain:
            waiting = node["options"].get(earlier, ("",))[0]
        elif "commands" in node:
            name = node.get("aliases", {}).get(earlier, earlier)
            if name not in node["commands"]:
                return []
            node = node["commands"][name]
        else:
            position += 1
    return list(_matching(word, _offered(node, word, waiting, position, plain)))


def _offered(
    node: dict[str, Any], word: str, waiting: str, position: int, plain: bool
) -> Iterable[Candidate]:
    """All that may stand at this place."""
    name, equals, _ = word.partition("=")
    if waiting:
        return _values(waiting)
    if equals and name in node["options"]:
        kind = node["options"][name][0]
        return [(f"{name}={value}" if value != FILES else value, text) for value, text in _values(kind)]
    if word.startswith("-") and not plain:
        return ((option, text) for option, (_, text) in node["options"].items() if len(option) > 2)
    if "commands" in node:
        return ((name, below["summary"]) for name, below in node["commands"].items())
    kinds = node["arguments"]
    if position >= len(kinds) and not node["many"]:
        return ()
    return _values(kinds[min(position, len(kinds) - 1)]) if kinds else ()


def _matching(word: str, offered: Iterable[Candidate]) -> Iterator[Candidate]:
    wanted = word.casefold()
    for name, text in offered:
        if name == FILES or name.casefold().startswith(wanted):
            yield name, text


def _values(kind: str) -> Iterable[Candidate]:
    match kind:
        case "file":
            return [(FILES, "")]
        case "setting":
            from qwenctl.settings import FILE_KEYS

            return [(key, "") for key in FILE_KEYS]
        case "command":
            return [(name, below["summary"]) for name, below in _spec()["commands"].items()]
        case "stored":
            return [(name, "in the store") for name in _stored()]
        case "model":
            return _models()
        case "context":
            return _contexts()
        case "registry":
            return _registries()
        case "chat":
            return _chats()
    return [(choice, "") for choice in kind.split("|") if "|" in kind]


def _models() -> list[Candidate]:
    here = _stored()
    known = [name for name in _spec()["models"] if name not in here]
    return sorted([*((name, "in the store") for name in here), *((name, "to pull") for name in known)])


def _stored() -> list[str]:
    """The names of the store, none where there is no store: a completion makes nothing.

    Only the index is read, not by the store's own code, which takes as long to load as all of this.
    """
    return sorted(filter(None, map(_familiar, _names_in_store())))


def _names_in_store() -> list[object]:
    from qwenctl.cli.wiring import load_settings
    from qwenctl.oci.descriptor import REF_NAME

    rows = _read_json(load_settings().store / "index.json").get("manifests", [])
    return [row.get("annotations", {}).get(REF_NAME) for row in rows]


def _contexts() -> list[Candidate]:
    """`default`, and those that were made, each with its address."""
    import os

    from qwenctl.cli.wiring import directories

    made = _read_json(directories(os.environ).config / "contexts.json").get("contexts", {})
    return [("default", "this machine"), *((name, made[name].get("url", "")) for name in sorted(made))]


def _registries() -> list[Candidate]:
    """Docker Hub, those that Docker's file has an account for, and those of the names in the store."""
    import os

    from qwenctl.oci.reference import BUILT_IN

    directory = os.environ.get("DOCKER_CONFIG")
    document = _read_json((Path(directory) if directory else Path.home() / ".docker") / "config.json")
    accounts = {host for key in ("auths", "credHelpers") for host in document.get(key) or ()}
    accounts = {"docker.io" if "index.docker.io" in host else host for host in accounts}
    stored = {str(name).partition("/")[0] for name in _names_in_store() if name}
    further = {host for host in stored - {BUILT_IN} if "." in host or ":" in host}
    rest = ({"docker.io"} | further) - accounts
    return sorted([*((host, "an account is known") for host in accounts), *((host, "") for host in rest)])


def _chats() -> list[Candidate]:
    """The ids of the saved chats, the latest first."""
    from qwenctl.cli.wiring import load_settings

    files = (load_settings().state / "chats").glob("[0-9a-f]*.json")
    return [(file.stem, "a saved chat") for file in sorted(files, key=_changed, reverse=True)]


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file, empty where there is none."""
    import json

    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    return document if isinstance(document, dict) else {}


def _familiar(name: object) -> str | None:
    """The short form of a name in the index; None for what other programs call theirs."""
    from qwenctl.oci.reference import Reference

    try:
        return Reference.parse(name).familiar() if isinstance(name, str) else None
    except QwenctlError:
        return None


@cache
def _spec() -> dict[str, Any]:
    import json

    spec: dict[str, Any] = json.loads(SPEC_PATH.read_text(encoding="utf-8"))
    return spec
