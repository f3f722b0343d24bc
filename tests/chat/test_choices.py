"""What `/set` takes, and what it makes of a request."""

import pytest

from qwenctl.chat.choices import Choices, parameter_name
from qwenctl.errors import UsageError
from qwenctl.runtime.schema import ANY_OBJECT


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temperature", "hot"),
        ("temperature", "nan"),
        ("top_p", "2"),
        ("top_k", "1.5"),
        ("seed", "-1"),
        ("max_tokens", "0"),
        ("max_tokens", "٣"),
        ("format", "xml"),
        ("think", "maybe"),
        ("frob", "1"),
    ],
)
def test_values_that_are_none(name: str, text: str) -> None:
    """Each is refused, and the choices stay."""
    with pytest.raises(UsageError):
        Choices().changed(name, text)


def test_a_choice_can_be_taken_back() -> None:
    """`default` leaves it to the model again."""
    chosen = Choices()
    for name, text in (
        ("seed", "7"),
        ("max_tokens", "9"),
        ("stop", "X"),
        ("format", "json"),
        ("think", "on"),
    ):
        chosen = chosen.changed(name, text)
    assert chosen.grammar == ANY_OBJECT
    for name in ("seed", "max_tokens", "stop", "format", "think"):
        chosen = chosen.changed(name, "default")
    assert chosen == Choices()


def test_names_as_others_have_them() -> None:
    """Ollama's, and with dashes."""
    assert [parameter_name(name) for name in ("num_ctx", "num_predict", "Top-P", "seed")] == [
        "context",
        "max_tokens",
        "top_p",
        "seed",
    ]


def test_what_is_in_force_is_listed() -> None:
    """What was set, what the model suggests, what is nobody's."""
    rows = dict(Choices().changed("seed", "7").rows({"temperature": 0.6}))
    assert (rows["temperature"], rows["seed"], rows["top_k"]) == ("0.6", "7", "40")
    assert "stop" not in rows


@pytest.mark.parametrize(
    ("thinking", "options"),
    [("default", {}), ("on", {"enable_thinking": True}), ("off", {"enable_thinking": False})],
)
def test_thinking_is_an_option_of_the_template(thinking: str, options: dict[str, bool]) -> None:
    """`default` says nothing to it."""
    assert Choices().changed("think", thinking).request((), {}).template_options == options
