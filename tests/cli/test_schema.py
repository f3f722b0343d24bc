"""`qwenctl schema`, and what every command prints held against its schema."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from qwenctl.cli.contract import CONTRACTS
from qwenctl.cli.tree import read
from qwenctl.store.store import Store
from tests.builders import model
from tests.cli.conftest import Command
from tests.cli.schemas import check_output, schema_of
from tests.registry.running import running_registry

ROOT = Path(__file__).parent.parent.parent

OUTPUTS = [
    ("completion", ("completion", "bash")),
    ("completion", ("completion", "csh")),
    ("config list", ("config", "list")),
    ("config get", ("config", "get", "port")),
    ("config get", ("config", "get", "nope")),
    ("config set", ("config", "set", "port", "1")),
    ("config set", ("config", "set", "port", "x")),
    ("config unset", ("config", "unset", "port")),
    ("config path", ("config", "path")),
    ("config edit", ("config", "edit")),
    ("df", ("df",)),
    ("fit", ("fit", "guide", "--all")),
    ("fit", ("fit", "nope")),
    ("help", ("help", "pull")),
    ("help", ("help", "pul")),
    ("host", ("host",)),
    ("inspect", ("inspect", "guide")),
    ("inspect", ("inspect", "--remote", "guide")),
    ("inspect", ("inspect", "nope")),
    ("list", ("ls",)),
    ("list", ("list", "--nope")),
    ("logout", ("logout", "a.b")),
    ("login", ("login", "a.b")),
    ("prune", ("prune", "--dry-run")),
    ("ps", ("ps",)),
    ("pull", ("pull", "guide:Q4_K_M")),
    ("pull", ("pull", "guide:nope")),
    ("purge", ("purge",)),
    ("purge", ("purge", "--yes")),
    ("rm", ("rm", "guide")),
    ("run", ("run", "a b", "hi")),
    ("schema", ("schema",)),
    ("schema", ("schema", "list")),
    ("search", ("search", "qwen", "--offline")),
    ("show", ("show", "qwen2.5")),
    ("show", ("show", "guide")),
    ("status", ("status",)),
    ("stop", ("stop", "--all")),
    ("stop", ("stop",)),
    ("tag", ("tag", "guide", "mine:1")),
    ("verify", ("verify",)),
    ("version", ("version",)),
    ("chats list", ("chats", "list")),
    ("chats show", ("chats", "show", "nope")),
]


def _named(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else "-".join(value[1:])


@pytest.fixture
def stored(qwenctl: Command) -> Command:
    """The command line over a store that has the guide model."""
    os.environ["EDITOR"] = "true"
    assert qwenctl("pull", "guide").status == 0
    return qwenctl


@pytest.mark.parametrize(("command", "arguments"), OUTPUTS, ids=_named)
def test_what_is_printed_is_what_the_schema_says(
    stored: Command, command: str, arguments: tuple[str, ...]
) -> None:
    """Success and failure, streams line by line, with no field that the schema does not know."""
    check_output(command, stored(*arguments, "--json").out)


def test_a_push_a_package_and_a_damaged_store(stored: Command, tmp_path: Path, store_path: Path) -> None:
    """The streams to a registry, and the report that a failing `verify` carries."""
    gguf = tmp_path / "tiny.gguf"
    gguf.write_bytes(model().weights)
    with running_registry(Store.open(tmp_path / "registry")) as address:
        name = f"{address}/me/tiny:v1"
        check_output("package", stored("package", "--gguf", str(gguf), name, "--push", "--json").out)
        check_output("push", stored("push", name, "--json").out)
    largest = max((store_path / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    largest.chmod(0o644)
    largest.write_bytes(b"x" * largest.stat().st_size)
    shown = stored("verify", "--json")
    assert shown.status == 5
    assert shown.data["damaged"]
    check_output("verify", shown.out)


def test_every_command_has_a_contract() -> None:
    """No command is without one, and no contract without a command."""
    assert sorted(command.name for command in read().leaves()) == sorted(CONTRACTS)


@pytest.mark.parametrize("name", ["envelope", *CONTRACTS])
def test_the_schemas_are_schemas(name: str) -> None:
    """By the rules of the dialect that they name, 2020-12."""
    assert schema_of(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema_of(name))


def test_what_is_generated_is_what_is_shipped() -> None:
    """Completions, man page and schemas are as `make generate` makes them from the code now."""
    done = subprocess.run(
        [sys.executable, "scripts/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0), "run `make generate`"


def test_the_schema_is_printed(qwenctl: Command) -> None:
    """As JSON for a person, in the envelope for a program; without a command all names."""
    shown = qwenctl("schema", "config", "list")
    assert json.loads(shown.out)["title"] == "qwenctl config list --json"
    assert qwenctl("schema", "ls", "--json").data["document"] == schema_of("list")
    assert qwenctl("schema").out.splitlines() == ["envelope", *CONTRACTS]


def test_an_unknown_schema_has_a_near_name(qwenctl: Command) -> None:
    """Exit status 2 and what was meant."""
    shown = qwenctl("schema", "lst")
    assert (shown.status, shown.err) == (
        2,
        "error: there is no schema for `lst`\nhint: did you mean `list`?\n",
    )


def test_an_unknown_command_keeps_to_the_envelope(qwenctl: Command) -> None:
    """Words that are no command, and options before one, still give one document."""
    for arguments in (("pul", "--json"), ("--nope", "--json"), ("config", "--json", "nope")):
        shown = qwenctl(*arguments)
        Draft202012Validator(schema_of("envelope")).validate(shown.document)
        assert (shown.status, shown.err) == (2, "")
