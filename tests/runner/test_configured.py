"""What is set for single models: on disk, read when it changed, applied at the next load."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.errors import InvalidSettings
from qwenctl.runner.configured import FILE_NAME, Configurations, Configured
from qwenctl.runner.messages import LoadOptions
from qwenctl.runner.models import FoundModel
from tests.runner.runner_builders import NamedModels, ask, service, settings_in

SMALL = Configured(options=LoadOptions(context_length=512), keep_alive="-1")


class Kept(NamedModels):
    """A source whose models are configured on disk, by their names."""

    def __init__(self, state: Path) -> None:
        self._configurations = Configurations(state)

    def find(self, name: str) -> FoundModel:
        """See `ModelSource`."""
        found = super().find(name)
        return replace(found, configured=self._configurations.of(found.name))


def test_what_is_set_is_there_for_others(tmp_path: Path) -> None:
    """Another process reads what one wrote, also after it had read before; what is taken back is gone."""
    mine, other = Configurations(tmp_path / "state"), Configurations(tmp_path / "state")
    assert other.of("m") == Configured()
    assert mine.change("m", lambda _: SMALL) == SMALL
    assert other.of("m") == SMALL
    mine.change("m", lambda before: replace_context(before, 1024))
    assert other.of("m").options.context_length == 1024
    mine.change("m", lambda _: Configured())
    assert other.all() == {}


def replace_context(before: Configured, tokens: int) -> Configured:
    """The same with another context."""
    return Configured(options=LoadOptions(context_length=tokens), keep_alive=before.keep_alive)


def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    """Writers wait for each other; nobody's change is lost."""

    def change(number: int) -> None:
        Configurations(tmp_path).change(f"m{number}", lambda _: SMALL)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Configurations(tmp_path).all()) == 12
    assert not list(tmp_path.glob("*.draft"))


@pytest.mark.parametrize(
    "content", [b"{", b'{"models": []}', b'{"models": {"m": {"keep_alive": 1}}}', b"\xff"]
)
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes) -> None:
    """It is neither ignored nor written over."""
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(InvalidSettings, match=FILE_NAME):
        Configurations(tmp_path).of("m")
    with pytest.raises(InvalidSettings):
        Configurations(tmp_path).change("m", lambda _: SMALL)
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_it_holds_from_the_next_load_on(tmp_path: Path) -> None:
    """A model that is loaded stays as it is; loaded again it has what is set, and says so."""
    settings = settings_in(tmp_path)
    with service(settings, Kept(settings.state)) as (client, _):
        assert context(client.load("echo").model) == 2048
        Configurations(settings.state).change("echo", lambda _: SMALL)
        list(client.chat("echo", ask("hi")))
        assert context(client.loaded()[0].model) == 2048
        client.stop("echo")
        list(client.chat("echo", ask("hi")))
        [status] = client.loaded()
        assert context(status.model) == 512
        assert status.expires_seconds is None
        assert status.configured == ("context_length", "keep_alive")
        assert status.options == SMALL.options


def test_a_request_goes_before(tmp_path: Path) -> None:
    """Wishes and a keep-alive that a client has are above what is set; the rest of that still holds."""
    settings = settings_in(tmp_path)
    both = Configured(options=LoadOptions(context_length=512, slots=2), keep_alive="-1")
    Configurations(settings.state).change("echo", lambda _: both)
    with service(settings, Kept(settings.state)) as (client, _):
        status = client.load("echo", LoadOptions(context_length=1024), keep_alive_seconds=60)
        assert status.model is not None
        assert (status.model.context_length, status.model.slots) == (1024, 2)
        assert status.expires_seconds is not None
        assert client.load("echo").pid == status.pid


def context(model: object) -> object:
    """The context of a loaded model."""
    return getattr(model, "context_length", None)
