"""Credential helpers as small programs on PATH: one that works and writes down its calls, and any other."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WORKING = """\
#!{python}
import json, sys
from pathlib import Path
here, action, sent = Path({directory!r}), sys.argv[1], sys.stdin.read()
with (here / "calls").open("a") as calls:
    calls.write(json.dumps({{"argv": sys.argv[1:], "stdin": sent}}) + "\\n")
kept = json.loads((here / "kept").read_text())
if action == "store":
    entry = json.loads(sent)
    kept[entry["ServerURL"]] = entry
elif sent not in kept:
    print("credentials not found in native keychain")
    sys.exit(1)
elif action == "get":
    print(json.dumps(kept[sent]))
else:
    del kept[sent]
(here / "kept").write_text(json.dumps(kept))
"""


@dataclass(frozen=True)
class HelperProgram:
    """A helper that keeps what it is given in a file."""

    directory: Path

    @property
    def calls(self) -> list[dict[str, Any]]:
        """How it was called: `argv` and `stdin`."""
        path = self.directory / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def kept(self) -> dict[str, dict[str, str]]:
        """What it keeps, by server."""
        kept: dict[str, dict[str, str]] = json.loads((self.directory / "kept").read_text())
        return kept

    def keep(self, server: str, user: str, secret: str) -> None:
        """Put something into it."""
        entry = {"ServerURL": server, "Username": user, "Secret": secret}
        (self.directory / "kept").write_text(json.dumps({**self.kept, server: entry}))


def working_helper(directory: Path, name: str = "test") -> HelperProgram:
    """`docker-credential-NAME` in a directory that is now on PATH."""
    directory.mkdir(exist_ok=True)
    (directory / "kept").write_text("{}")
    script_helper(directory, name, _WORKING.format(python=sys.executable, directory=str(directory)))
    return HelperProgram(directory)


def script_helper(directory: Path, name: str, script: str) -> None:
    """`docker-credential-NAME` with any text as its program."""
    directory.mkdir(exist_ok=True)
    program = directory / f"docker-credential-{name}"
    program.write_text(script)
    program.chmod(0o755)
    if str(directory) not in os.environ["PATH"].split(":"):
        os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"
