"""`qwenctl configure`: what is set for one model, and that the runner loads it so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.cli.wiring import load_settings
from qwenctl.runner.client import RunnerClient
from tests.cli.conftest import Command
from tests.runner.runner_builders import eventually


@pytest.fixture(autouse=True)
def pulled(qwenctl: Command) -> Iterator[None]:
    """The guide model is there; a runner that a test started ends with it."""
    qwenctl("pull", "guide")
    yield
    settings = load_settings()
    if runner := RunnerClient.running(settings):
        runner.stop()
        runner.shutdown()
        eventually(lambda: RunnerClient.running(settings) is None)


def test_set_show_and_take_back(qwenctl: Command) -> None:
    """What is set adds up, is shown without a change, and is taken back one by one, or all at once."""
    shown = qwenctl("configure", "guide", "--context", "512", "--kv", "Q8_0", "--keep-alive", "1h")
    assert shown.out == "guide: context 512, kv q8_0, keep-alive 1h\n"
    assert "next load" in shown.err
    added = qwenctl("configure", "guide", "--temperature", "0", "--flash-attention", "on", "--json").data
    assert added["changed"]
    assert added["configured"] == {
        "context": 512,
        "flash-attention": "on",
        "kv": "q8_0",
        "temperature": 0.0,
        "keep-alive": "1h",
    }
    assert qwenctl("configure", "guide", "--show", "--json").data == added | {"changed": False}
    taken = qwenctl("configure", "guide", "--unset", "keep-alive", "--unset", "--kv", "--unset", "context")
    assert taken.out == "guide: flash-attention on, temperature 0.0\n"
    assert qwenctl("configure", "guide", "--reset", "--slots", "2").out == "guide: slots 2\n"
    assert qwenctl("configure", "guide", "--reset").out == "guide: nothing is set\n"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--kv", "q9"), "usage"),
        (("--flash-attention", "maybe"), "usage"),
        (("--keep-alive", "soon"), "usage"),
        (("--temperature", "-1"), "usage"),
        (("--context", "0"), "usage"),
        (("--speculation", "magic"), "usage"),
        (("--unset", "colour"), "usage"),
        (("--show", "--reset"), "usage"),
        (("--lora", "/nowhere.gguf"), "file_missing"),
        (("--draft", "/nowhere.gguf"), "file_missing"),
        (("--draft", "nowhere"), "model_unknown"),
    ],
)
def test_what_cannot_be_set(qwenctl: Command, options: tuple[str, ...], code: str) -> None:
    """It is refused, and nothing is set."""
    shown = qwenctl("configure", "guide", *options, "--json")
    assert shown.document["errors"][0]["code"] == code
    assert qwenctl("configure", "guide", "--json").data["configured"] == {}


def test_files_are_kept_by_their_whole_path(qwenctl: Command, tmp_path: Path) -> None:
    """The runner stands in another directory; a model of the store is named by its weights."""
    adapter = tmp_path / "adapter.gguf"
    adapter.touch()
    data = qwenctl("configure", "guide", "--lora", f"{adapter}:0.5", "--draft", "guide", "--json").data
    assert data["configured"]["lora"] == [{"path": str(adapter), "scale": 0.5}]
    assert Path(data["configured"]["draft"]).is_file()
    assert data["configured"]["speculation"] == "draft"


def test_an_unknown_model(qwenctl: Command) -> None:
    """Only a model that is here can be configured: exit status 3."""
    assert qwenctl("configure", "nowhere", "--context", "512").status == 3


def test_the_runner_loads_it_so(qwenctl: Command) -> None:
    """The next load has what is set; a flag goes before; `ps` and `show` tell."""
    qwenctl("configure", "guide", "--context", "512", "--keep-alive", "-1")
    assert qwenctl("run", "guide", "What is a tag?").status == 0
    [loaded] = qwenctl("ps", "--json").data["models"]
    assert (loaded["model"]["context_length"], loaded["expires_seconds"]) == (512, None)
    assert "guide is configured: context_length, keep_alive" in qwenctl("ps").out
    assert "guide is configured: context 512, keep-alive -1" in qwenctl("show", "guide").out
    assert qwenctl("show", "guide", "--json").data["configured"]["guide"]["context"] == 512
    qwenctl("run", "guide", "What is a tag?", "--context", "1024")
    [loaded] = qwenctl("ps", "--json").data["models"]
    assert loaded["model"]["context_length"] == 1024


def test_it_outlives_the_model(qwenctl: Command) -> None:
    """A model that is removed and comes back is loaded as before."""
    qwenctl("configure", "guide", "--context", "512")
    qwenctl("rm", "guide")
    qwenctl("pull", "guide")
    assert qwenctl("configure", "guide").out == "guide: context 512\n"
