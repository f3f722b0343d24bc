"""The chat in a real terminal: typing, stopping, leaving, pasting."""

from pathlib import Path

import pytest

from qwenctl.chat.archive import Archive
from tests.chat.conftest import Open
from tests.chat.driver_texts import MARKDOWN
from tests.chat.screens import COLOUR, Screen


def test_a_question_is_answered_and_remembered(screen: Screen) -> None:
    """The answer is shown without control sequences; the next question carries the first two turns."""
    screen.keys("hi\r")
    screen.wait("[1] 'hi' done")
    assert "\x1b[31m" not in screen.raw
    screen.wait("<closed>")
    screen.keys("again\r")
    screen.wait("[3] 'again' done")


def test_ctrl_c_stops_an_answer_and_the_chat_goes_on(screen: Screen, state: Path) -> None:
    """The model is told to stop, what it said is kept as interrupted, and the prompt is back."""
    screen.keys("count\r")
    screen.wait("5 ")
    screen.keys("\x03")
    screen.wait("<closed>")
    screen.wait("stopped; Ctrl-C again leaves")
    screen.prompt()
    (chat,) = Archive(state / "chats").chats()[0]
    assert chat.turns[-1].interrupted
    assert chat.turns[-1].text.startswith("0 1 2 3 4 5 ")
    screen.keys("still there?\r")
    screen.wait("[3] 'still there?' done")


def test_a_second_ctrl_c_leaves(screen: Screen) -> None:
    """Behind one that stopped an answer, and behind one on an empty line."""
    screen.keys("count\r")
    screen.wait("5 ")
    screen.keys("\x03")
    screen.wait("Ctrl-C again leaves")
    screen.prompt()
    screen.keys("\x03")
    screen.wait("left in order")
    assert screen.end() == 0


def test_ctrl_c_clears_a_line_and_once_does_not_leave(screen: Screen) -> None:
    """What was typed is given up; on an empty line it is told how to leave."""
    screen.keys("some words\x03")
    screen.prompt()
    screen.keys("\x03")
    screen.wait("Ctrl-D or /bye leaves")
    screen.prompt()
    screen.keys("hi\r")
    screen.wait("[1] 'hi' done")


def test_ctrl_d_leaves(screen: Screen) -> None:
    """In order."""
    screen.keys("\x04")
    screen.wait("left in order")
    assert screen.end() == 0


@pytest.mark.parametrize(
    "keys",
    ['"""one\rtwo"""\r', "one\x1b\rtwo\r", "\x1b[200~one\ntwo\x1b[201~\r"],
    ids=["quotes", "alt-enter", "paste"],
)
def test_several_lines_are_one_message(screen: Screen, keys: str) -> None:
    """Between quotes, broken with Alt-Enter, or pasted."""
    screen.keys(keys)
    assert "... two" in screen.wait(r"[1] 'one\ntwo' done")


def test_what_was_typed_is_there_again(open_chat: Open, state: Path) -> None:
    """The history outlives the conversation, and is its owner's alone."""
    first = open_chat()
    first.keys("remember me\r")
    first.wait("done")
    first.prompt()
    first.keys("\x04")
    first.end()
    history = state / "history"
    assert history.stat().st_mode & 0o777 == 0o600
    second = open_chat()
    second.keys("\x1b[A\r")
    second.wait("[1] 'remember me' done")


def test_typing_ahead_is_not_shown_in_an_answer(screen: Screen) -> None:
    """It waits for the prompt, and is answered then."""
    screen.keys("count\r")
    screen.wait("5 ")
    screen.keys("later")
    screen.wait("15 ")
    screen.keys("\x03")
    shown = screen.wait("<closed>")
    assert "later" not in shown
    screen.prompt()


def test_an_answer_that_fails_is_reported_and_the_chat_goes_on(screen: Screen) -> None:
    """Message and hint, then the prompt; the failed question is forgotten."""
    screen.keys("fail\r")
    shown = screen.wait("hint: mend it")
    assert "error: it broke" in shown
    screen.prompt()
    screen.keys("hi\r")
    screen.wait("[1] 'hi' done")


def test_half_an_answer_is_kept(screen: Screen, state: Path) -> None:
    """As interrupted, so that the next question may refer to it."""
    screen.keys("break\r")
    screen.wait("error: it broke")
    screen.prompt()
    screen.keys("hi\r")
    screen.wait("[3] 'hi' done")
    (chat,) = Archive(state / "chats").chats()[0]
    assert [(turn.text, turn.interrupted) for turn in chat.turns[:2]] == [
        ("break", False),
        ("half an answer", True),
    ]


def test_a_quiet_line_behind_each_answer(screen: Screen) -> None:
    """Tokens, their rate, and what the conversation took of the context."""
    screen.keys("hi\r")
    screen.wait("10 tokens · 5.0 tokens/s · context 30 of 2048")


def test_markdown_is_coloured_and_nothing_else(screen: Screen) -> None:
    """Without its colours, the answer is to the letter what the model wrote."""
    screen.keys("code\r")
    screen.wait("<closed>")
    answer = screen.raw[screen.raw.index("\x1b[2m#") : screen.raw.index("<closed>")]
    assert COLOUR.sub("", answer).replace("\r\n", "\n") == MARKDOWN
    assert "\x1b[1mbol" in answer


@pytest.mark.parametrize(("flags", "variables"), [(("--plain",), {}), ((), {"NO_COLOR": "1"})])
def test_plain(open_chat: Open, flags: tuple[str, ...], variables: dict[str, str]) -> None:
    """No colours at all: the driver leaves `NO_COLOR` to prompt_toolkit, `--plain` is ours."""
    screen = open_chat(*flags, **variables)
    screen.keys("hi\r")
    screen.wait("[1] 'hi' done")
    screen.wait("context 30 of 2048")
    answer = screen.raw[screen.raw.index("[1]") :]
    assert flags == () or not COLOUR.search(answer[: answer.index("2048")])


def test_thoughts_are_dim_and_apart(screen: Screen, state: Path) -> None:
    """They end before the answer begins, and are kept apart from it."""
    screen.keys("ponder\r")
    screen.wait("hm, let me see\r\n\r\nit is so")
    assert "\x1b[2mhm,\x1b[0m" in screen.raw
    screen.prompt()
    (chat,) = Archive(state / "chats").chats()[0]
    assert (chat.turns[-1].text, chat.turns[-1].thinking) == ("it is so", "hm, let me see")


def test_hidden_thoughts_are_a_line(screen: Screen) -> None:
    """`/think hide` lets the model think and shows for how long."""
    screen.keys("/think hide\r")
    screen.wait("think: hide")
    screen.prompt()
    screen.keys("ponder\r")
    shown = screen.wait("it is so")
    assert "thought for" in shown
    assert "hm" not in shown.replace("ponder", "")


def test_bytes_that_are_no_text(screen: Screen) -> None:
    """Pasted from a file in another encoding: they are shown as such, and nothing breaks."""
    screen.bytes(b"caf\xe9 \xff\r")
    screen.wait("[1] 'caf\ufffd \ufffd' done")
    screen.prompt()


def test_a_resize_does_not_garble(screen: Screen) -> None:
    """In mid-answer nothing is drawn again; while typing, the line is whole afterwards."""
    screen.keys("count\r")
    screen.wait("5 ")
    begun = len(screen.raw)
    screen.resize(10, 30)
    screen.wait("25 ")
    assert "\x1b" not in screen.raw[begun:]
    screen.keys("\x03")
    screen.prompt()
    screen.keys("a line that is longer than thirty columns")
    screen.wait("columns")
    screen.resize(40, 120)
    screen.wait("a line that is longer than thirty columns")
    screen.keys("\r")
    screen.wait("'a line that is longer than thirty columns' done")


def test_killed_in_mid_answer(open_chat: Open, state: Path) -> None:
    """What was said before is there, and so is the question; `/retry` asks it again."""
    screen = open_chat()
    screen.keys("hi\r")
    screen.wait("context 30 of 2048")
    screen.prompt()
    screen.keys("count\r")
    screen.wait("5 ")
    screen.child.kill()
    screen.child.wait()
    (chat,) = Archive(state / "chats").chats()[0]
    assert [turn.text for turn in chat.turns][::2] == ["hi", "count"]
    assert [path.name for path in (state / "chats").iterdir()] == [f"{chat.id}.json"]
    again = open_chat("--continue")
    again.keys("/retry\r")
    again.wait("5 ")


def test_nothing_is_kept_when_nothing_shall_be(open_chat: Open, state: Path) -> None:
    """No chat, no history."""
    screen = open_chat("--no-save")
    screen.keys("secret\r")
    screen.wait("context 30 of 2048")
    screen.prompt()
    screen.keys("\x04")
    screen.end()
    assert not state.exists()
