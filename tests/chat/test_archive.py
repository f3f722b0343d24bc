"""Saved chats: private files that are whole at every moment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qwenctl.chat.archive import Archive, Chat, Keeper, encode, read_chat, transcript
from qwenctl.chat.attachments import AttachedFile
from qwenctl.chat.session import Turn
from qwenctl.errors import AccessDenied, Conflict, FileMissing, Malformed, NotFound, UsageError

TURNS = (Turn("user", "why?", (AttachedFile("a.txt", "tea"),)), Turn("assistant", "so", (), "hm", True))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """One without chats, not made yet."""
    return Archive(tmp_path / "state" / "chats")


def test_a_chat_is_read_as_it_was_written(archive: Archive, tmp_path: Path) -> None:
    """By the beginning of its id; file and directory are the owner's alone, and nothing else is there."""
    chat = Chat.of("guide", "be brief", TURNS)
    archive.write(chat)
    assert archive.read(chat.id[:3]) == chat
    path = archive.path(chat.id)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(path.parent.iterdir()) == [path]


def test_ids_that_name_no_chat(archive: Archive) -> None:
    """Unknown, ambiguous, and what is no id: nothing leaves the directory."""
    with pytest.raises(NotFound):
        archive.read("3f2a")
    for name in ("../../etc/passwd", "", "x", "0" * 9, "3F2A"):
        with pytest.raises(UsageError):
            archive.read(name)
    for name in ("aa000000", "aa111111"):
        archive.write(
            Chat(
                id=name, model="m", created=Chat.of("m", "", ()).created, updated=Chat.of("m", "", ()).created
            )
        )
    with pytest.raises(Conflict, match="2 chats"):
        archive.read("aa")


def test_the_latest_of_a_model(archive: Archive) -> None:
    """Or of anyone."""
    first, second, third = (Chat.of(model, "", TURNS) for model in ("a", "b", "a"))
    for chat in (third, first, second):
        archive.write(chat)
    assert archive.latest("a") == third
    assert archive.latest("b") == second
    assert archive.latest(None) == third
    assert archive.latest("c") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"id": 1}', b"\xff\xfe", b'{"a":' * 100_000, encode(Chat.of("m", "", ()))[:-40]],
    ids=["empty", "cut", "list", "fields", "bytes", "deep", "half"],
)
def test_a_damaged_file_is_told_and_hides_no_other(archive: Archive, content: bytes) -> None:
    """It is Malformed when it is asked for, and a problem in the list."""
    good = Chat.of("m", "", TURNS)
    archive.write(good)
    archive.path("bad00000").write_bytes(content)
    chats, problems = archive.chats()
    assert chats == [good]
    assert [type(problem) for problem in problems] == [Malformed]
    with pytest.raises(Malformed):
        archive.read("bad")


def test_a_keeper_saves_as_it_goes(archive: Archive) -> None:
    """Nothing before the first word; then one file, replaced each time, its beginning kept."""
    keeper = Keeper(archive)
    keeper.save("m", "", ())
    assert keeper.id is None
    keeper.save("m", "", TURNS[:1])
    first = archive.read(keeper.id or "")
    keeper.save("n", "s", TURNS)
    (chat,) = archive.chats()[0]
    assert (chat.id, chat.created, chat.model, chat.system, chat.turns) == (
        first.id,
        first.created,
        "n",
        "s",
        TURNS,
    )


def test_a_chat_that_another_program_wrote_is_not_overwritten(archive: Archive) -> None:
    """The keeper goes on under an id of its own; so it does when the file is gone."""
    mine, theirs = Keeper(archive), Keeper(archive)
    mine.save("m", "", TURNS[:1])
    theirs.begin(archive.read(mine.id or ""))
    theirs.save("m", "theirs", TURNS)
    mine.save("m", "mine", TURNS)
    assert {chat.system for chat in archive.chats()[0]} == {"mine", "theirs"}
    assert mine.id != theirs.id
    archive.remove(mine.id or "")
    mine.save("m", "again", TURNS)
    assert "again" in {chat.system for chat in archive.chats()[0]}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """Is told as such."""
    (tmp_path / "file").write_text("")
    with pytest.raises(AccessDenied):
        Archive(tmp_path / "file" / "chats").write(Chat.of("m", "", ()))
    with pytest.raises(FileMissing):
        read_chat(tmp_path / "absent.json")


def test_a_transcript_is_markdown() -> None:
    """Questions, files, answers; what was thought is left out."""
    text = transcript(Chat.of("guide", "be brief", TURNS))
    assert text.startswith("# why?\n\nguide · ")
    assert (
        "## System\n\nbe brief\n\n## You\n\nwhy?\n\na.txt:\n```\ntea\n```\n\n## Model\n\nso\n\n(interrupted)"
        in text
    )
    assert "hm" not in text


def test_the_file_is_json_for_others() -> None:
    """With a schema's number, times in RFC 3339, and no empty fields in its turns."""
    document = json.loads(encode(Chat.of("guide", "", TURNS)))
    assert document["schema"] == 1
    assert document["created"].endswith("Z")
    assert document["turns"][1] == {"role": "assistant", "text": "so", "thinking": "hm", "interrupted": True}


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """The file is the chat as it was before or after a save, never between."""
    program = (
        "import sys; from pathlib import Path; from qwenctl.chat.archive import Archive, Keeper;"
        "from qwenctl.chat.session import Turn\n"
        "keeper, turns = Keeper(Archive(Path(sys.argv[1]))), []\n"
        "while True:\n"
        "    turns.append(Turn('user', 'x' * 10000)); keeper.save('m', '', turns)\n"
        "    print(len(turns), flush=True)\n"
    )
    for number in range(1, 6):
        directory = tmp_path / str(number)
        child = subprocess.Popen([sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        saved = [int(child.stdout.readline()) for _ in range(3 * number)][-1]
        child.kill()
        child.communicate()
        chats, problems = Archive(directory).chats()
        assert (len(chats), problems) == (1, [])
        assert len(chats[0].turns) >= saved


def test_what_a_crash_left_goes_with_the_next_chat(archive: Archive, tmp_path: Path) -> None:
    """An old draft is deleted; one that another process may be writing stays."""
    archive.write(Chat.of("guide", "", TURNS))
    old, new = (tmp_path / "state/chats" / f".a.json.{name}.draft" for name in ("old", "new"))
    for draft in (old, new):
        draft.write_text("{")
    os.utime(old, (0, 0))
    archive.write(Chat.of("guide", "", TURNS))
    assert (old.exists(), new.exists()) == (False, True)


def test_a_file_with_the_id_of_another_is_none(archive: Archive) -> None:
    """It would be saved in a place that it names itself."""
    chat = Chat.of("m", "", TURNS)
    archive.write(chat)
    archive.path("aaaaaaaa").write_bytes(encode(chat).replace(chat.id.encode(), b"../../x"))
    with pytest.raises(Malformed, match="id of another"):
        archive.read("aaaa")
