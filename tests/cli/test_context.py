"""`qwenctl context`: a server with a key, used from another home."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from qwenctl.cli.contexts import Context, ContextsFile, chosen
from qwenctl.cli.models import StoreModels
from qwenctl.cli.wiring import load_settings, open_library
from qwenctl.errors import InvalidSettings, NotFound
from qwenctl.oci.reference import Reference
from qwenctl.settings import Settings
from qwenctl.store.store import Store
from tests.builders import model
from tests.cli.conftest import Command
from tests.cli.schemas import check_output
from tests.runner.runner_builders import NamedModels, service

KEY = "a-key-that-nobody-sees"


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """`serve` with a key, a store and a state of its own; the URL."""
    settings = Settings(store=directory / "store", runtime=directory / "run", state=directory / "state")
    store = Store.open(settings.store)
    for name in NamedModels.NAMES:
        model().put(store, Reference("docker.io", f"ai/{name}", "latest"))
    library = partial(open_library, settings)
    with service(
        settings, StoreModels(settings), open_library=library, foreground=True, port=0, api_key=KEY
    ) as (_, ready):
        yield str(ready.url)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the server."""
    with server(tmp_path_factory.mktemp("box")) as address:
        yield address


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """With the server's key."""
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


@pytest.fixture
def box(qwenctl: Command, url: str, key_file: Path) -> Command:
    """The command line of another home, where the server is in use as `box`."""
    arguments = ("--url", url, "--api-key-file", str(key_file), "--use")
    assert qwenctl("context", "create", "box", *arguments).status == 0
    return qwenctl


def test_commands_speak_to_the_server(box: Command, store_path: Path) -> None:
    """Its models are run, listed, counted, stopped; there is no runner here, and no store is made."""
    assert box("run", "echo", "hi").out == "hi\n"
    reply = box("run", "echo", "hi", "--json").data
    assert (reply["model"], reply["id"][:7], reply["text"]) == ("echo", "sha256:", "hi")
    assert box("ps", "-q").out == "echo\n"
    assert [record["model"] for record in box("requests", "echo", "-n", "2", "--json").data["requests"]] == [
        "echo",
        "echo",
    ]
    assert box("stop", "echo").out == "stopped echo\n"
    assert not load_settings().runtime.joinpath("runner.sock").exists()
    assert not store_path.exists()


def test_status_tells_the_context(box: Command, url: str) -> None:
    """The runner is the server's, all else is of this machine."""
    data = box("status", "--json").data
    assert (data["context"], data["runner"]["url"]) == ("box", url)
    assert "Context:   box" in box("status").out


def test_a_model_that_is_not_there(box: Command) -> None:
    """Nothing is pulled, here or there."""
    shown = box("run", "nope", "hi")
    assert (shown.status, shown.out) == (3, "")
    assert "nope" in shown.err


def test_configure_is_kept_there(box: Command, clean_environment: Path) -> None:
    """It is set, shown and taken back on the server; nothing is written here."""
    assert box("configure", "echo", "--context", "256").out == "echo: context 256\n"
    assert box("configure", "echo", "--json").data["configured"] == {"context": 256}
    assert box("run", "echo", "--detach").status == 0
    assert box("ps", "--json").data["models"][0]["model"]["context_length"] == 256
    assert box("configure", "echo", "--temperature", "-1").status == 2
    assert box("configure", "echo", "--reset").out == "echo: nothing is set\n"
    assert box("configure", "nope", "--reset").status == 3
    assert not (load_settings().state / "models.json").exists()


def test_bench_measures_there(box: Command) -> None:
    """Its slots, its speed."""
    arguments = ("--concurrency", "2", "--prompt-tokens", "60", "--rounds", "1", "--generate-tokens", "2")
    data = box("bench", "echo", *arguments, "--json").data
    assert [(sample["round"], sample["completion_tokens"]) for sample in data["samples"]] == [(1, 2), (1, 2)]


def test_files_of_this_machine_stay_here(box: Command, tmp_path: Path) -> None:
    """An adapter cannot be laid over a model that is loaded elsewhere."""
    adapter = tmp_path / "a.gguf"
    adapter.write_bytes(b"GGUF")
    for command in (("run", "echo", "hi"), ("configure", "echo")):
        shown = box(*command, "--lora", str(adapter))
        assert shown.status == 2
        assert "file of this machine" in shown.err


@pytest.mark.parametrize("command", ["pull", "logs", "launch"])
def test_what_would_be_misunderstood_is_refused(box: Command, command: str) -> None:
    """Status 2, with the way to do it here."""
    shown = box(command, "--json")
    assert shown.document["errors"][0]["code"] == "conflict"
    assert f"QWENCTL_RUNNER=default qwenctl {command}" in shown.document["errors"][0]["hint"]
    assert box(command, "--help").status == 0


def test_what_is_about_the_store_says_so(box: Command) -> None:
    """On stderr for a person; a program gets the document alone."""
    assert "about this machine, not about `box`" in box("list").err
    assert box("list", "--json").err == ""
    os.environ["QWENCTL_RUNNER"] = "default"
    assert "box" not in box("list").err


def test_default_is_this_machine_again(box: Command) -> None:
    """`use default`, the variable, the flag and `rm` all lead back."""
    assert box("ps", "--context-url", "default", "--json").data == {"models": []}
    assert box("context", "use", "default").out == "using default\n"
    assert box("status", "--json").data["runner"] is None
    assert box("context", "use", "box").status == 0
    assert box("context", "rm", "box", "--json").data == {"name": "box", "in_use": "default"}
    assert box("status", "--json").data["runner"] is None
    assert box("context", "use", "box").status == 3


def test_an_address_without_a_context(qwenctl: Command, url: str) -> None:
    """By flag or variable, with the key in the environment; the flag goes before."""
    os.environ["QWENCTL_API_KEY"] = KEY
    assert qwenctl("run", "echo", "hi", "--context-url", url).out == "hi\n"
    os.environ["QWENCTL_RUNNER"] = url
    assert qwenctl("ps", "-q").out == "echo\n"
    assert qwenctl("status", "--context-url", "default", "--json").data["context"] == "default"
    del os.environ["QWENCTL_API_KEY"]
    shown = qwenctl("ps")
    assert (shown.status, "wants a key" in shown.err) == (4, True)


def test_a_key_goes_to_its_own_host(box: Command, url: str) -> None:
    """That of a context is not sent to an address that is typed, nor the environment's to a context."""
    assert box("ps", "--context-url", url).status == 4
    assert box("context", "create", "open", "--url", url, "--use").status == 0
    os.environ["QWENCTL_API_KEY"] = KEY
    assert box("ps").status == 4


def test_the_key_is_private_and_never_shown(box: Command, url: str) -> None:
    """Its file is for the user alone, and no command prints it."""
    path = ContextsFile(os.environ).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KEY in path.read_text()
    for command in (("list",), ("show",), ("show", "box"), ("use", "box"), ("rm", "box")):
        for flags in ((), ("--json",)):
            shown = box("context", *command, *flags)
            assert KEY not in shown.out + shown.err
    assert KEY not in repr(Context(url, KEY))


def test_what_the_commands_print(box: Command, url: str) -> None:
    """A table, an overview, and documents that follow their schemas."""
    rows = [line.split() for line in box("context", "list").out.splitlines()]
    assert rows == [
        ["NAME", "URL", "KEY", "IN", "USE"],
        ["default", "this", "machine", "-", "-"],
        ["box", url, "yes", "yes"],
    ]
    assert box("context", "show").out.splitlines()[:2] == ["Name:    box", f"URL:     {url}"]
    for command in ("list", "show"):
        check_output(f"context {command}", box("context", command, "--json").out)
    for arguments in (("create", "b2", "--url", url), ("use", "b2"), ("rm", "b2"), ("rm", "b2")):
        check_output(f"context {arguments[0]}", box("context", *arguments, "--json").out)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("create", "default", "--url", "http://box"), 2),
        (("create", "a/b", "--url", "http://box"), 2),
        (("create", "box", "--url", "box"), 2),
        (("create", "box", "--url", "http://me:pw@box"), 2),
        (("create", "box", "--url", "http://box", "--api-key-file", "/nowhere"), 3),
        (("use", "nope"), 3),
        (("show", "nope"), 3),
        (("rm", "nope"), 3),
        (("rm", "default"), 2),
    ],
)
def test_what_cannot_be(qwenctl: Command, arguments: tuple[str, ...], status: int) -> None:
    """Nothing is written by a command that fails."""
    shown = qwenctl("context", *arguments)
    assert (shown.status, shown.out) == (status, "")
    assert "pw" not in shown.err
    assert not ContextsFile(os.environ).path.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--url", "http://box:1"), "can read every text"),
        (("--url", "https://box", "--insecure"), "not verified"),
        (("--url", "https://box"), ""),
        (("--url", "http://localhost:1"), ""),
    ],
)
def test_who_could_listen_is_told(qwenctl: Command, arguments: tuple[str, ...], words: str) -> None:
    """A warning where the network can read along, or a stranger may answer."""
    shown = qwenctl("context", "create", "box", *arguments)
    assert shown.status == 0
    assert words in shown.err if words else shown.err == ""


def test_an_unknown_context_is_named(qwenctl: Command) -> None:
    """In the variable, too, with what was meant."""
    os.environ["QWENCTL_RUNNER"] = "defalt"
    with pytest.raises(NotFound) as caught:
        chosen()
    assert caught.value.hint == "did you mean `default`?"
    assert qwenctl("ps").status == 3


def test_a_damaged_file_is_told(qwenctl: Command) -> None:
    """With its place; it is not replaced."""
    path = ContextsFile(os.environ).path
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"contexts": 1}))
    with pytest.raises(InvalidSettings, match=str(path)):
        chosen()
    assert qwenctl("context", "create", "box", "--url", "http://box").status == 2
    assert path.read_text() == json.dumps({"contexts": 1})
