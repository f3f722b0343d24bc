"""Docker Model Runner's flags where it has them, and `-q` on what makes, moves or names a model."""

import json
from pathlib import Path

import pytest

from qwenctl.store.store import Store
from tests.builders import model
from tests.cli.conftest import Command
from tests.registry.running import running_registry


def test_list_as_openai_has_it(qwenctl: Command) -> None:
    """`list --openai`: one document of OpenAI's shape; not together with the other forms."""
    qwenctl("pull", "guide")
    document = json.loads(qwenctl("list", "--openai").out)
    assert (document["object"], [row["id"] for row in document["data"]]) == ("list", ["guide"])
    assert {"id", "object", "created", "owned_by"} == set(document["data"][0])
    assert qwenctl("list", "--openai", "-q").status == 2
    assert qwenctl("list", "--openai", "--json").status == 2


def test_inspect_as_openai_has_it(qwenctl: Command) -> None:
    """`inspect --openai`: the object of one model."""
    qwenctl("pull", "guide")
    document = json.loads(qwenctl("inspect", "--openai", "guide").out)
    assert (document["id"], document["object"]) == ("guide", "model")
    assert qwenctl("inspect", "--openai", "--remote", "guide").status == 2


def test_inspect_at_the_registry(qwenctl: Command, store_path: Path, tmp_path: Path) -> None:
    """`inspect -r`: the documents come, no weights do, and the tag may be in any case."""
    gguf = tmp_path / "tiny.gguf"
    gguf.write_bytes(model().weights)
    with running_registry(Store.open(tmp_path / "served")) as address:
        name = f"{address}/me/tiny:V1"
        qwenctl("package", "--gguf", str(gguf), name, "--push")
        stored = qwenctl("inspect", name, "--json").data
        qwenctl("rm", name)
        shown = qwenctl("inspect", "-r", f"{address}/me/tiny:v1", "--json")
    assert shown.data == stored
    assert qwenctl("list", "-q").out == ""
    assert list((store_path / "blobs/sha256").iterdir()) == []


@pytest.mark.parametrize("command", ["pull", "tag", "package", "push"])
def test_quiet_is_the_digest_alone(qwenctl: Command, tmp_path: Path, command: str) -> None:
    """For `$(…)` in a script: nothing else on either stream."""
    gguf = tmp_path / "tiny.gguf"
    gguf.write_bytes(model().weights)
    with running_registry(Store.open(tmp_path / "served")) as address:
        name = f"{address}/me/tiny:v1"
        made = qwenctl("package", "--gguf", str(gguf), name, "--json").data["id"]
        arguments = {
            "package": ("package", "-q", "--gguf", str(gguf), name),
            "push": ("push", "-q", name),
            "tag": ("tag", "-q", name, "mine"),
            "pull": ("pull", "-q", name),
        }
        if command == "pull":
            qwenctl("push", name)
            qwenctl("rm", name)
        shown = qwenctl(*arguments[command])
    assert (shown.status, shown.out, shown.err) == (0, f"{made}\n", "")


def test_quiet_is_the_names_alone(qwenctl: Command) -> None:
    """`rm -q` says what went, `list -q` what is here by its short id."""
    digest = qwenctl("pull", "-q", "guide").out
    assert qwenctl("list", "-q").out.strip() == digest.partition(":")[2][:12]
    shown = qwenctl("rm", "-qf", "guide")
    assert (shown.status, shown.out, shown.err) == (0, "guide\n", "")
