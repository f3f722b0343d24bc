"""What was probably meant: commands, options, models, tags, without regard to case."""

from pathlib import Path

import pytest

from qwenctl.cli.suggest import near
from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store
from tests.builders import model
from tests.cli.conftest import Command
from tests.registry.running import running_registry


@pytest.mark.parametrize(
    ("word", "meant"),
    [("pul", "pull"), ("lst", "list"), ("PULL", "pull"), ("comp", "completion"), ("frobnicate", None)],
)
def test_commands(qwenctl: Command, word: str, meant: str | None) -> None:
    """A near command is named; for nonsense there is the help. Status 2 either way."""
    shown = qwenctl(word, "x")
    hint = f"did you mean `{meant}`?" if meant else "see `qwenctl --help`"
    assert (shown.status, shown.out) == (2, "")
    assert shown.err == f"error: there is no command `{word}`\nhint: {hint}\n"


def test_commands_of_a_group(qwenctl: Command) -> None:
    """A group's own commands are what is near."""
    assert "did you mean `set` or" in qwenctl("config", "sett").err


def test_options(qwenctl: Command) -> None:
    """The options of this very command."""
    shown = qwenctl("pull", "guide", "--forse")
    assert shown.err == "error: there is no option `--forse`\nhint: did you mean `--force`?\n"


def test_near_is_at_most_three_and_best_first() -> None:
    """Likeness first, then what the word begins."""
    assert near("aab", ["aaa", "aac", "aad", "aae", "zzz"])[0] in {"aaa", "aac", "aad", "aae"}
    assert len(near("aab", ["aaa", "aac", "aad", "aae"])) == 3
    assert near("comp", ["completion", "pull"]) == ("completion",)
    assert near("x", ["xylophone"]) == ()


def test_a_tag_in_the_store_in_any_case(qwenctl: Command) -> None:
    """Every command that takes a stored model takes it so."""
    qwenctl("pull", "guide:Q4_K_M")
    assert qwenctl("inspect", "guide:q4_k_m", "--json").data["name"] == "guide:Q4_K_M"
    assert qwenctl("rm", "-q", "GUIDE:q4_K_m").out == "guide:Q4_K_M\n"


def test_a_tag_of_a_card_in_any_case(qwenctl: Command) -> None:
    """What is pulled, shown and asked about has the card's own spelling."""
    assert qwenctl("pull", "guide:q4_k_m", "--json").data["name"] == "guide:Q4_K_M"
    assert qwenctl("show", "qwen2.5:7b-q4_k_m", "--json").data["selected"] == "7B-Q4_K_M"
    assert qwenctl("fit", "guide:f16", "--json").data["name"] == "guide:F16"


def test_a_tag_of_a_registry_in_any_case(qwenctl: Command, store_path: Path) -> None:
    """Without a card the registry's own list of tags tells how it is spelled."""
    served = Store.open(store_path.parent / "served")
    with running_registry(served) as address:
        model().put(served, Reference.parse("me/tiny:7B-Q4_K_M"))
        shown = qwenctl("pull", f"{address}/me/tiny:7b-q4_k_m", "--json")
    assert shown.data["name"] == f"{address}/me/tiny:7B-Q4_K_M"


@pytest.mark.parametrize("command", ["pull", "fit", "show", "inspect", "rm"])
@pytest.mark.parametrize("name", ["guide:Q5_K_M", "guide:q4"])
def test_another_quantization_is_offered_never_taken(qwenctl: Command, command: str, name: str) -> None:
    """Status 3 and the near tags."""
    qwenctl("pull", "guide:Q8_0")
    shown = qwenctl(command, name)
    assert (shown.status, shown.out) == (3, "")
    assert "did you mean `guide:Q" in shown.err


def test_another_quantization_at_a_registry(qwenctl: Command, store_path: Path) -> None:
    """The near tags are those that the registry lists."""
    served = Store.open(store_path.parent / "served")
    with running_registry(served) as address:
        for tag in ("7B-Q4_K_M", "7B-F16", "latest"):
            model().put(served, Reference.parse(f"me/tiny:{tag}"))
        shown = qwenctl("pull", f"{address}/me/tiny:7B-Q5_K_M")
    assert shown.status == 3
    assert f"hint: did you mean `{address}/me/tiny:7B-Q4_K_M`" in shown.err


def test_tags_that_differ_in_case_alone_are_two(qwenctl: Command, store_path: Path) -> None:
    """Which of them was meant is not guessed."""
    store = Store.open(store_path)
    for tag in ("V1a", "v1A"):
        model().put(store, Reference.parse(f"me/tiny:{tag}"))
    assert qwenctl("inspect", "me/tiny:v1A", "--json").data["name"] == "me/tiny:v1A"
    assert qwenctl("inspect", "me/tiny:v1a").status == 3


def test_what_other_programs_call_it(qwenctl: Command) -> None:
    """Docker's and Ollama's words lead to ours."""
    assert "did you mean `tag`?" in qwenctl("cp", "a", "b").err
    assert "did you mean `package`?" in qwenctl("create", "a").err


def test_a_list_of_what_is_not_here(qwenctl: Command) -> None:
    """The model that is near, or where to look; an empty store is another thing."""
    assert qwenctl("list", "gide").err == "hint: the store is empty; try `qwenctl run guide`\n"
    qwenctl("pull", "guide")
    assert qwenctl("list", "gide").err.endswith("; did you mean `guide`?\n")
    assert qwenctl("list", "zzz").err.endswith("; `qwenctl list` has those there are\n")
