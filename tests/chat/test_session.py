"""What is typed becomes actions; answers become history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.chat import actions
from qwenctl.chat.actions import Action, Nothing, Say, Send
from qwenctl.chat.attachments import AttachedFile
from qwenctl.chat.commands import COMMANDS, help_text, near_command, unfinished
from qwenctl.chat.session import Session, Turn, title


def said(session: Session) -> list[tuple[str, object]]:
    """The conversation as pairs."""
    return [(message.role, message.content) for message in session.messages]


def held() -> Session:
    """Two questions, answered."""
    session = Session("be brief")
    for question, answer in (("one?", "1"), ("two?", "2")):
        session.ask(question)
        session.answered(answer)
    return session


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("", Nothing()),
        ("   ", Nothing()),
        ('""""""', Nothing()),
        ("/help", Say(help_text())),
        ("/?", Say(help_text())),
        (" /bye ", actions.Leave()),
        ("/exit", actions.Leave()),
        ("/quit", actions.Leave()),
        ("/clear", actions.Cleared()),
        ("/hepl", actions.Unknown("/hepl", "/help")),
        ("/zzz", actions.Unknown("/zzz", None)),
        ("/etc/passwd is what?", actions.Unknown("/etc/passwd", None)),
        ("/model qwen3", actions.SwitchModel("qwen3")),
        ("/model", actions.ShowModel("")),
        ("/show", actions.ShowModel("")),
        ("/show template", actions.ShowModel("template")),
        ("/show system", Say("there is no system message")),
        ("/show frob", Say("there is no `frob` to show; it is system, parameters, messages or template")),
        ("/file a b.txt", actions.Attach("a b.txt")),
        ("/file", Say("write /file PATH")),
        ("/load", Say("write /load ID|PATH")),
        ("/load 3f2a", actions.Load("3f2a")),
        ("/save x.md", actions.Save("x.md")),
        ("/save", actions.Save("")),
        ("/tokens", actions.ShowTokens()),
        ("/stats", actions.ShowStats()),
        ("/set", actions.ShowModel("parameters")),
        ("/set context 8k", actions.SetContext(8192)),
        ("/set parameter num_ctx 512", actions.SetContext(512)),
        ("/set context x", Say("`context` is a number of tokens, not `x`")),
        ("/set seed", Say("write /set seed VALUE; `default` takes it back")),
        ("/set think off", Say("think: off")),
        ("/think", Say("think: default")),
        ("/system be kind", actions.Changed("the system message is set")),
        ("/system", Say("there is no system message")),
        ("/retry", Say("nothing was asked yet")),
        ("/undo", Say("nothing was asked yet")),
        ("/edit", actions.Edit("")),
    ],
)
def test_texts_that_ask_nothing(text: str, action: Action) -> None:
    """Commands and empty lines."""
    session = Session()
    assert session.feed(text) == action
    assert session.turns == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "hello"),
        ("  hello  ", "hello"),
        ("//etc/passwd is what?", "/etc/passwd is what?"),
        ('"""one\ntwo\nthree"""', "one\ntwo\nthree"),
        ('"""\none\n\ntwo\n"""', "one\n\ntwo"),
        ('"""one line"""', "one line"),
        ("pasted\nin two lines", "pasted\nin two lines"),
        ("/not a command\nbut pasted", "/not a command\nbut pasted"),
        ('"""/bye"""', "/bye"),
        ('"""never ended', "never ended"),
    ],
)
def test_messages(text: str, message: str) -> None:
    """One line, several between quotes, or several pasted at once are one message."""
    assert Session().feed(text) == Send(message)


@pytest.mark.parametrize(
    ("text", "more"),
    [('"""', True), ('"""a', True), (' """a\nb', True), ('"""a"""', False), ('a """', False), ("", False)],
)
def test_a_text_between_quotes_goes_on(text: str, more: bool) -> None:
    """Until the closing ones."""
    assert unfinished(text) is more


def test_answers_are_remembered_and_the_system_message_stays_first() -> None:
    """The next question carries what was said; `/clear` forgets all but the system message."""
    session = held()
    session.ask("three?")
    assert said(session) == [
        ("system", "be brief"),
        ("user", "one?"),
        ("assistant", "1"),
        ("user", "two?"),
        ("assistant", "2"),
        ("user", "three?"),
    ]
    session.feed("/clear")
    assert said(session) == [("system", "be brief")]
    session.feed("/system -")
    assert said(session) == []


def test_a_stopped_answer_counts_as_far_as_it_came() -> None:
    """So `go on` makes sense."""
    session = Session()
    session.ask("tell")
    session.answered("once upon", interrupted=True)
    assert session.turns[-1] == Turn("assistant", "once upon", interrupted=True)


def test_a_question_without_an_answer_is_taken_back() -> None:
    """The next one does not refer to it."""
    session = Session()
    session.ask("too long")
    session.failed()
    assert session.messages == ()


def test_what_was_thought_is_not_told_again() -> None:
    """It is kept, and not sent."""
    session = Session()
    session.ask("why?")
    session.answered("so", "hm")
    assert session.turns[-1].thinking == "hm"
    assert "hm" not in str(session.messages)


def test_retry_sets_the_answer_aside() -> None:
    """It is replaced by the new one, and is back when there is none."""
    session = held()
    assert session.feed("/retry") == actions.Retry()
    assert session.unanswered
    session.failed()
    assert said(session)[-1] == ("assistant", "2")
    session.feed("/retry")
    session.answered("two")
    assert said(session)[-1] == ("assistant", "two")
    assert len(session.turns) == 4


def test_undo_takes_question_and_answer() -> None:
    """One pair after the other."""
    session = held()
    assert session.feed("/undo") == actions.Changed("took back: two?")
    assert session.feed("/undo") == actions.Changed("took back: one?")
    assert session.turns == ()


def test_edit_changes_nothing_before_it_is_sent() -> None:
    """Then the question goes, and its files stay at hand."""
    session = Session()
    session.ask("one", [AttachedFile("a.txt", "tea")])
    session.answered("1")
    assert session.feed("/edit") == actions.Edit("one")
    assert len(session.turns) == 2
    session.take_back()
    session.ask("won")
    assert list(session.turns) == [Turn("user", "won", (AttachedFile("a.txt", "tea"),))]


def test_a_question_that_was_never_answered_makes_place() -> None:
    """Templates want the roles to take turns."""
    session = Session(turns=[Turn("user", "lost")])
    assert session.unanswered
    session.ask("found")
    assert said(session) == [("user", "found")]


def test_files_go_with_one_message() -> None:
    """Those that were attached, and those that it mentions, behind its text. An empty line sends them."""
    session = Session()
    session.attach(AttachedFile("a", "1\n"))
    assert session.feed("") == Send("")
    session.ask("look", [AttachedFile("b", "2")])
    assert said(session) == [("user", "look\n\na:\n```\n1\n```\n\nb:\n```\n2\n```")]
    session.answered("so")
    session.ask("more")
    assert said(session)[-1] == ("user", "more")


def test_the_request_has_what_was_set() -> None:
    """What was set goes before what the model suggests."""
    session = held()
    session.feed("/set temperature 0")
    session.feed("/set max_tokens 5")
    session.feed("/set stop END")
    session.feed("/think hide")
    request = session.request({"temperature": 0.7, "top_p": 0.5})
    assert (request.sampling.temperature, request.sampling.top_p) == (0, 0.5)
    assert (request.max_tokens, request.stop) == (5, ("END",))
    assert request.template_options == {"enable_thinking": True}


def test_every_command_is_in_the_help_and_near_to_its_slips() -> None:
    """A letter that is missing or doubled leads to it."""
    for command in COMMANDS:
        assert f"{command.name} " in help_text()
        name = command.name
        for slip in (name[:-1], name + name[-1]):
            assert near_command(slip) == name, slip


def test_a_chat_is_known_by_its_first_question() -> None:
    """In one line, not too long."""
    assert title([Turn("user", "a\nb"), Turn("user", "c")]) == "a b"
    assert len(title([Turn("user", "word " * 100)])) == 60
    assert title([]) == ""


@given(st.text(alphabet=st.sampled_from('ab /"@\t\n'), max_size=20))
def test_any_text_is_one_action(text: str) -> None:
    """Nothing that can be typed fails, or changes the conversation by itself."""
    session = held()
    before = session.turns
    session.feed(text)
    assert session.turns == before
