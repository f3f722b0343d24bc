"""`qwenctl config`: settings with their origins, and a file that stays as its owner wrote it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.cli.settings_file import with_key, without_key
from qwenctl.settings import FILE_KEYS, read_file
from tests.cli.conftest import Command

FILE = """\
# mine
keep_alive: 5m   # a while

mirrors:  # of the office
  docker.io:
    - http://a.example   # near
    - http://b.example
  # more to come

# the port
"port": 1234
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The settings file, named by the environment."""
    path = tmp_path / "own/settings.yaml"
    path.parent.mkdir()
    path.write_text(FILE)
    os.environ["QWENCTL_CONFIG"] = str(path)
    return path


def _origins(shown: object) -> dict[str, str]:
    return {row["key"]: row["origin"] for row in shown["settings"]}  # type: ignore[index]


def test_list_has_every_setting_and_its_origin(qwenctl: Command, file: Path) -> None:
    """Of several places the one that wins; a variable is named in the text."""
    os.environ["QWENCTL_PORT"] = "5"
    data = qwenctl("config", "list", "--json").data
    assert set(_origins(data)) == set(FILE_KEYS)
    assert _origins(data) | {"port": "environment", "keep_alive": "file", "registry": "default"} == _origins(
        data
    )
    lines = qwenctl("config", "list").out.splitlines()
    assert lines[0].split() == ["KEY", "VALUE", "ORIGIN"]
    assert [line.split() for line in lines if line.startswith("port")] == [["port", "5", "QWENCTL_PORT"]]


def test_a_value_that_get_prints_is_one_that_set_takes(qwenctl: Command, file: Path) -> None:
    """For every setting, and it changes nothing in force."""
    before = qwenctl("config", "list", "--json").data["settings"]
    for row in before:
        value = qwenctl("config", "get", row["key"]).out.rstrip("\n")
        if value:
            assert qwenctl("config", "set", row["key"], value).status == 0
    after = qwenctl("config", "list", "--json").data["settings"]
    assert [row["value"] for row in after] == [row["value"] for row in before]


def test_set_changes_its_line_alone(qwenctl: Command, file: Path) -> None:
    """Comments, order and quotes of everything else stay."""
    assert qwenctl("config", "set", "keep-alive", "90").out == "keep_alive is 90s\n"
    assert file.read_text() == FILE.replace("5m ", "90s ")
    qwenctl("config", "set", "port", "80")
    assert file.read_text() == FILE.replace("5m ", "90s ").replace("1234", "80")


def test_set_adds_what_is_not_there(qwenctl: Command, file: Path) -> None:
    """At the end, also after a file without a line break at its end; lists as lists."""
    file.write_text("port: 1")
    qwenctl("config", "set", "insecure_registries", "b:2", "A:1")
    assert file.read_text() == "port: 1\ninsecure_registries: ['a:1', 'b:2']\n"


def test_unset_takes_a_block_away(qwenctl: Command, file: Path) -> None:
    """All lines of the value, and no comment that follows them."""
    assert qwenctl("config", "unset", "mirrors", "--json").data["changed"] is True
    text = file.read_text()
    assert yaml.safe_load(text) == {"keep_alive": "5m", "port": 1234}
    assert "# more to come" in text
    assert qwenctl("config", "unset", "mirrors").out == "mirrors was not set\n"


def test_a_key_that_nobody_knows(qwenctl: Command, file: Path) -> None:
    """It cannot be set, a near one is named; in the file it can be removed."""
    shown = qwenctl("config", "set", "prot", "1")
    assert (shown.status, shown.err) == (2, "error: unknown key `prot`\nhint: did you mean `port`?\n")
    file.write_text(f"{FILE}prot: 1\n")
    assert qwenctl("list").status == 2
    assert qwenctl("config", "unset", "prot").status == 0
    assert file.read_text() == FILE


def test_a_value_that_cannot_be_used_is_not_written(qwenctl: Command, file: Path) -> None:
    """Status 2 by the same parser that reads it."""
    shown = qwenctl("config", "set", "port", "99999")
    assert (shown.status, shown.err.splitlines()[0]) == (2, "error: `port`: `99999` is not a port")
    assert file.read_text() == FILE


def test_a_variable_that_goes_before_the_file_is_told(qwenctl: Command, file: Path) -> None:
    """What was set is not what is in force."""
    os.environ["QWENCTL_PORT"] = "5"
    shown = qwenctl("config", "set", "port", "6")
    assert shown.err == "warning: $QWENCTL_PORT is set and goes before the file\n"
    assert qwenctl("config", "set", "port", "6", "--json").data["in_force"] is False


def test_the_file_is_made_when_it_is_not_there(qwenctl: Command, clean_environment: Path) -> None:
    """With its directory, for its owner alone, where `path` says."""
    path = Path(qwenctl("config", "path").out.rstrip("\n"))
    assert not path.exists()
    qwenctl("config", "set", "port", "1")
    assert path.read_text() == "port: 1\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_link_and_its_mode_stay(qwenctl: Command, file: Path, tmp_path: Path) -> None:
    """Who keeps the file elsewhere finds it changed there."""
    elsewhere = tmp_path / "dotfiles.yaml"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    elsewhere.chmod(0o640)
    qwenctl("config", "set", "port", "1")
    assert file.is_symlink()
    assert "1" in elsewhere.read_text()
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o640


def test_a_file_in_one_line_is_left_alone(qwenctl: Command, file: Path) -> None:
    """What cannot be edited line by line is not edited: status 2, and the way to do it by hand."""
    file.write_text("{port: 1}\n")
    assert qwenctl("config", "set", "port", "2").status == 0
    shown = qwenctl("config", "set", "keep_alive", "1m")
    assert (shown.status, file.read_text()) == (2, "{port: 2}\n")


def test_two_at_once_lose_nothing(file: Path) -> None:
    """Several processes that set different keys all find theirs in the file."""
    values = {"port": "1", "keep_alive": "1m", "registry": "a.b", "hub": "none", "store": "/s", "state": "/t"}
    children = [
        subprocess.Popen([sys.executable, "-m", "qwenctl", "config", "set", *pair], stdout=subprocess.DEVNULL)
        for pair in values.items()
    ]
    assert [child.wait() for child in children] == [0] * len(values)
    assert values.keys() <= yaml.safe_load(file.read_text()).keys()


class TestEdit:
    """`qwenctl config edit`."""

    def test_saved(self, qwenctl: Command, file: Path) -> None:
        """What the editor leaves is what is there."""
        os.environ["EDITOR"] = "sed -i s/1234/80/"
        assert qwenctl("config", "edit").out == "saved\n"
        assert file.read_text() == FILE.replace("1234", "80")

    def test_what_cannot_be_used_is_not_saved(self, qwenctl: Command, file: Path) -> None:
        """The text is kept where the hint says."""
        os.environ["VISUAL"] = "sed -i s/1234/x/"
        shown = qwenctl("config", "edit")
        assert (shown.status, file.read_text()) == (2, FILE)
        kept = Path(shown.err.split()[-1])
        assert "x" in kept.read_text()
        kept.unlink()

    @pytest.mark.parametrize("editor", ["false", "/no/such/editor", "'"])
    def test_an_editor_that_fails(self, qwenctl: Command, file: Path, editor: str) -> None:
        """Nothing is changed."""
        os.environ["EDITOR"] = editor
        assert qwenctl("config", "edit").status == 2
        assert file.read_text() == FILE


@given(
    st.dictionaries(st.sampled_from(["keep_alive", "port", "a", "b"]), st.text("ab,:#'\" 1-", max_size=6)),
    st.sampled_from(["keep_alive", "port", "registry"]),
    st.sampled_from(["1", "5m", "-1", "x.y:1", "a,b", "true", "null", "#", ""]),
)
def test_an_edit_does_what_it_says(rows: dict[str, str], key: str, value: str) -> None:
    """Whatever stands there: one key has the value, or has none, and the rest reads as before."""
    text = "".join(f"# {name}\n{yaml.safe_dump({name: row})}" for name, row in rows.items())
    before = read_file(text)
    assert read_file(with_key(text, key, value)) == before | {key: value}
    left = {name: row for name, row in before.items() if name != key}
    assert read_file(without_key(text, key)) == left
