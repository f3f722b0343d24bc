"""`qwenctl chats`: what `run` saved."""

import json
from pathlib import Path

import pytest

from qwenctl.chat.archive import Archive, Chat, read_chat
from qwenctl.chat.session import Turn
from qwenctl.cli.wiring import load_settings
from tests.cli.conftest import Command


@pytest.fixture
def archive() -> Archive:
    """Two chats, the later one with an answer that was stopped."""
    saved = Archive(load_settings().state / "chats")
    saved.write(Chat.of("guide", "be brief", [Turn("user", "one?"), Turn("assistant", "1")]))
    saved.write(
        Chat.of(
            "qwen3", "", [Turn("user", "two\x1b[31m?"), Turn("assistant", "2", (), "hm", interrupted=True)]
        )
    )
    return saved


@pytest.fixture
def ids(archive: Archive) -> list[str]:
    """Their ids, the latest first."""
    return [chat.id for chat in archive.chats()[0]]


def test_list(qwenctl: Command, ids: list[str]) -> None:
    """The latest first; no control characters."""
    assert qwenctl("chats", "list").out == (
        "CHAT ID   MODEL  MESSAGES  UPDATED   TITLE\n"
        f"{ids[0]}  qwen3  2         just now  two?\n"
        f"{ids[1]}  guide  2         just now  one?\n"
    )
    assert qwenctl("chats", "list", "--quiet").out == f"{ids[0]}\n{ids[1]}\n"
    rows = qwenctl("chats", "list", "--json").data["chats"]
    assert [(row["id"], row["title"], row["messages"]) for row in rows] == [
        (ids[0], "two?", 2),
        (ids[1], "one?", 2),
    ]


def test_show(qwenctl: Command, ids: list[str]) -> None:
    """As Markdown for a person, as it is for a program."""
    shown = qwenctl("chats", "show", ids[0][:4]).out
    assert "## You\n\ntwo?\n\n## Model\n\n2\n\n(interrupted)\n" in shown
    data = qwenctl("chats", "show", ids[0], "--json").data
    assert data["turns"][1] == {
        "role": "assistant",
        "text": "2",
        "files": [],
        "thinking": "hm",
        "interrupted": True,
    }


def test_rm(qwenctl: Command, archive: Archive, ids: list[str]) -> None:
    """The chats that are named, or all; a slip removes nothing."""
    assert qwenctl("chats", "rm", ids[0], "zzz").status == 2
    assert len(archive.ids()) == 2
    assert qwenctl("chats", "rm", ids[0][:5]).out == f"removed {ids[0]}\n"
    refused = qwenctl("chats", "rm", "--all")
    assert (refused.status, "give --force" in refused.err) == (2, True)
    assert qwenctl("chats", "rm", "--all", "--force", "--json").data == {"removed": [ids[1]]}
    assert archive.ids() == []
    assert qwenctl("chats", "rm").status == 2
    assert qwenctl("chats", "rm", ids[0]).status == 3


def test_export(qwenctl: Command, archive: Archive, ids: list[str], tmp_path: Path) -> None:
    """Markdown or JSON, to stdout or into a new file that `/load` reads."""
    assert qwenctl("chats", "export", ids[1]).out.startswith("# one?\n\nguide · ")
    path = tmp_path / "chat.json"
    assert qwenctl("chats", "export", ids[1], "--format", "json", "-o", str(path)).out == f"wrote {path}\n"
    assert read_chat(path) == archive.read(ids[1])
    again = qwenctl("chats", "export", ids[1], "-o", str(path))
    assert (again.status, again.out) == (2, "")
    data = qwenctl("chats", "export", ids[1], "--format", "json", "--json").data
    assert json.loads(data["text"])["id"] == ids[1]


def test_a_damaged_chat_hides_no_other(qwenctl: Command, archive: Archive, ids: list[str]) -> None:
    """It is told on stderr; asked for, it is an integrity error."""
    archive.path("bad00000").write_text("{")
    shown = qwenctl("chats", "list")
    assert (shown.status, len(shown.out.splitlines())) == (0, 3)
    assert "bad00000.json` is not a saved chat" in shown.err
    assert qwenctl("chats", "show", "bad").status == 5
