"""Typed lines become actions; answers become history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.chat.session import (
    HELP,
    Action,
    Ask,
    Cleared,
    Incomplete,
    Leave,
    Nothing,
    Session,
    ShowHelp,
    Unknown,
)


def said(session: Session) -> list[tuple[str, object]]:
    """The conversation as pairs."""
    return [(message.role, message.content) for message in session.messages]


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("", Nothing()),
        ("   ", Nothing()),
        ("/help", ShowHelp(HELP)),
        ("/?", ShowHelp(HELP)),
        (" /bye ", Leave()),
        ("/exit", Leave()),
        ("/clear", Cleared()),
        ("/hepl", Unknown("/hepl", "/help")),
        ("/zzz", Unknown("/zzz", None)),
        ('"""', Incomplete()),
        ('"""begun', Incomplete()),
        ('""""""', Nothing()),
    ],
)
def test_lines_that_ask_nothing(line: str, action: Action) -> None:
    """Commands, empty lines and begun texts."""
    session = Session()
    assert session.feed(line) == action
    assert session.messages == ()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["hello"], "hello"),
        (["  hello  "], "hello"),
        (["//etc/passwd is what?"], "/etc/passwd is what?"),
        (['"""one', "two", 'three"""'], "one\ntwo\nthree"),
        (['"""', "one", "", "two", '"""'], "one\n\ntwo"),
        (['"""one line"""'], "one line"),
        (["pasted\nin two lines"], "pasted\nin two lines"),
        (["/not a command\nbut pasted"], "/not a command\nbut pasted"),
        (['"""a\nb\nc"""'], "a\nb\nc"),
        (['"""/bye', '"""'], "/bye"),
    ],
)
def test_messages(lines: list[str], message: str) -> None:
    """One line, several between quotes, or several pasted at once are one message."""
    session = Session()
    *begun, last = [session.feed(line) for line in lines]
    assert all(action == Incomplete() for action in begun)
    assert isinstance(last, Ask)
    assert said(session) == [("user", message)]
    assert last.messages == session.messages


def test_answers_are_remembered_and_the_system_message_stays_first() -> None:
    """The next question carries what was said; `/clear` forgets all but the system message."""
    session = Session("be brief")
    session.feed("one?")
    session.answered("1")
    session.feed("two?")
    assert said(session) == [("system", "be brief"), ("user", "one?"), ("assistant", "1"), ("user", "two?")]
    session.answered("2")
    session.feed("/clear")
    assert said(session) == [("system", "be brief")]


def test_a_stopped_answer_counts_as_far_as_it_came() -> None:
    """After Ctrl-C `go on` makes sense; without a word the question is taken back."""
    session = Session()
    session.feed("tell")
    session.stopped("once upon")
    assert said(session) == [("user", "tell"), ("assistant", "once upon")]
    session.feed("more")
    session.stopped("")
    assert said(session) == [("user", "tell"), ("assistant", "once upon")]


def test_a_failed_answer_takes_its_question_back() -> None:
    """The next question does not refer to one that was never answered."""
    session = Session()
    session.feed("too long")
    session.failed()
    assert session.messages == ()


def test_a_begun_text_can_be_given_up() -> None:
    """Ctrl-C in the middle of a text of several lines forgets it."""
    session = Session()
    session.feed('"""one')
    session.abandon()
    assert isinstance(session.feed("two"), Ask)
    assert said(session) == [("user", "two")]


@given(st.lists(st.text(alphabet=st.sampled_from('ab /"\t')), min_size=1, max_size=6))
def test_any_lines_between_quotes_are_one_message(lines: list[str]) -> None:
    """A text is the same typed line by line or pasted whole."""
    if any('"""' in line for line in lines) or any(line.endswith('"') for line in lines):
        return
    typed, pasted = Session(), Session()
    actions = [typed.feed(line) for line in ['"""', *lines, '"""']]
    whole = pasted.feed("\n".join(['"""', *lines, '"""']))
    assert actions[-1] == whole
    assert typed.messages == pasted.messages
