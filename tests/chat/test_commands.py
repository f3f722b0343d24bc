"""The commands of the chat, in a real terminal."""

from pathlib import Path

import pytest

from qwenctl.chat.archive import Archive
from tests.chat.conftest import Open
from tests.chat.screens import Screen


def say(screen: Screen, line: str, shown: str) -> str:
    """Type a line, wait for what it brings, and for the next prompt; what came before it."""
    screen.keys(f"{line}\r")
    before = screen.wait(shown)
    screen.prompt()
    return before


def test_help_and_a_slip(screen: Screen) -> None:
    """`/help` lists the commands, a slip gets the near one, `/bye` leaves."""
    say(screen, "/help", "take back the last question")
    say(screen, "/hepl", "did you mean /help?")
    say(screen, "/frobnicate", "/help lists them")
    screen.keys("/bye\r")
    screen.wait("left in order")


def test_tab_completes_a_command_and_its_argument(screen: Screen) -> None:
    """The candidates are shown while a command is typed; Tab takes them."""
    screen.keys("/mo")
    screen.wait("go on with another model")
    screen.keys("\t ano")
    screen.wait("ano")
    screen.keys("\t")
    screen.wait("ther")
    screen.keys("\r")
    screen.wait("another answers from here on")


def test_tab_completes_a_path_in_a_message(screen: Screen, tmp_path: Path) -> None:
    """Behind an `@`."""
    (tmp_path / "notes.txt").write_text("tea at five\n")
    screen.keys(f"when? @{tmp_path}/no")
    screen.wait("notes.txt")
    screen.keys("\t")
    screen.wait("tes.txt")
    screen.keys("\r")
    screen.wait("notes.txt (1 line)")
    screen.wait("tea at five")


def test_a_file_in_a_message(screen: Screen, tmp_path: Path) -> None:
    """Its text goes with the message, and the person is told; one that is not there stays text."""
    (tmp_path / "two words.txt").write_text("tea")
    screen.keys(f'read @"{tmp_path}/two words.txt"\r')
    screen.wait("two words.txt (1 line)")
    screen.wait("tea")
    screen.prompt()
    say(screen, "read @./absent.txt", "there is no file ./absent.txt")


def test_a_file_with_the_next_message(screen: Screen, tmp_path: Path) -> None:
    """`/file` reads it at once."""
    path = tmp_path / "a.txt"
    path.write_text("tea")
    say(screen, f"/file {path}", "goes with the next message")
    path.write_text("coffee")
    screen.keys("what?\r")
    assert "coffee" not in screen.wait("tea")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\x7fELF\0\1", "is not a text file"),
        (b"x" * 1_100_000, "is too long for a message"),
        (None, "not exist"),
    ],
)
def test_files_that_do_not_go(screen: Screen, tmp_path: Path, content: bytes | None, complaint: str) -> None:
    """Binaries, what is too long, what is absent: a clear word, and nothing is asked."""
    if content is not None:
        (tmp_path / "f").write_bytes(content)
    say(screen, f"/file {tmp_path}/f", complaint)
    if content is not None:
        assert "[1]" not in say(screen, f"look: @{tmp_path}/f", complaint)


def test_retry_undo_and_edit(screen: Screen, tmp_path: Path) -> None:
    """The last question again, away, and in other words: the conversation does not grow."""
    say(screen, "one", "[1] 'one' done")
    say(screen, "/retry", "[1] 'one' done")
    say(screen, "two", "[3] 'two' done")
    say(screen, "/undo", "took back: two")
    say(screen, "three", "[3] 'three' done")


def test_edit_opens_the_editor(open_chat: Open, tmp_path: Path) -> None:
    """On the last question; Enter sends what comes out of it in its place."""
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/one/won/ "$1"\n')
    editor.chmod(0o755)
    screen = open_chat(VISUAL=str(editor))
    say(screen, "one", "[1] 'one' done")
    screen.keys("/edit\r")
    screen.wait("won")
    screen.keys("\r")
    screen.wait("[1] 'won' done")


def test_what_is_set_reaches_the_model(screen: Screen) -> None:
    """Sampling, thinking; a value that is none is refused with its range."""
    say(screen, "/set temperature 0.5", "temperature: 0.5")
    say(screen, "/think off", "think: off")
    say(screen, "options", "0.5 {'enable_thinking': False}")
    say(screen, "/set temperature default", "temperature: default")
    say(screen, "options", "0.7 {'enable_thinking': False}")
    say(screen, "/set temperature -1", "outside 0 to 100")
    say(screen, "/set num_ctx 4k", "context: 4096")
    say(screen, "/set", "temperature")


def test_the_system_message(screen: Screen) -> None:
    """It goes first from the next question on, and is shown."""
    say(screen, "/system be brief", "the system message is set")
    say(screen, "hi", "[2] 'hi' done")
    say(screen, "/show system", "be brief")
    say(screen, "/show messages", "user: hi")


def test_about_the_model_and_the_context(screen: Screen) -> None:
    """`/show`, `/tokens`, `/stats`."""
    say(screen, "/tokens", "the context holds 2048")
    say(screen, "hi", "context 30 of 2048")
    say(screen, "/tokens", "context 30 of 2048 tokens, 1 %")
    say(screen, "/stats", "20 tokens, 5 of them cached")
    say(screen, "/show", "2 messages")
    say(screen, "/show template", "{{ template }}")


def test_another_model(screen: Screen, state: Path) -> None:
    """It goes on with the conversation; one that is not there changes nothing."""
    say(screen, "hi", "[1] 'hi' done")
    say(screen, "/model nope", "`nope` is not here")
    say(screen, "/model another", "another answers from here on")
    say(screen, "again", "[3] 'again' done")
    (chat,) = Archive(state / "chats").chats()[0]
    assert (chat.model, len(chat.turns)) == ("another", 4)


def test_a_cleared_conversation_is_a_new_chat(screen: Screen, state: Path) -> None:
    """The one before stays as it was."""
    say(screen, "hi", "[1] 'hi' done")
    say(screen, "/clear", "this is a new chat")
    say(screen, "new", "[1] 'new' done")
    assert sorted(chat.turns[0].text for chat in Archive(state / "chats").chats()[0]) == ["hi", "new"]


def test_save_and_load(screen: Screen, tmp_path: Path, state: Path) -> None:
    """A chat in a file, private; it is loaded by its path, or by its id; nothing is overwritten unasked."""
    say(screen, "hi", "[1] 'hi' done")
    say(screen, f"/save {tmp_path}/chat.json", "wrote")
    say(screen, f"/save {tmp_path}/chat.md", "wrote")
    assert (tmp_path / "chat.json").stat().st_mode & 0o777 == 0o600
    assert "## You\n\nhi\n" in (tmp_path / "chat.md").read_text()
    (tmp_path / "other").write_text("precious")
    say(screen, f"/save {tmp_path}/other", "exists")
    assert (tmp_path / "other").read_text() == "precious"
    (chat,) = Archive(state / "chats").chats()[0]
    say(screen, "/clear", "new chat")
    say(screen, f"/load {chat.id[:4]}", ">>> hi")
    say(screen, "more", "[3] 'more' done")
    say(screen, f"/load {tmp_path}/chat.json", ">>> hi")
    say(screen, "again", "[3] 'again' done")
    say(screen, "/load zzz", "there is no chat and no file")
    say(screen, "/save", "it is saved as it goes, as")


def test_two_terminals_with_one_chat(open_chat: Open, state: Path) -> None:
    """The second to speak goes on in a chat of its own: nothing that was said is lost."""
    first = open_chat()
    say(first, "hi", "[1] 'hi' done")
    second = open_chat("--continue")
    say(second, "from the second", "[3] 'from the second' done")
    say(first, "from the first", "[3] 'from the first' done")
    last = {chat.turns[2].text for chat in Archive(state / "chats").chats()[0]}
    assert last == {"from the first", "from the second"}
