"""The corpus of the guide model says only what is true of qwenctl, and never what is held out."""

from __future__ import annotations

import json
import random
import re

import pytest
from cases import GROUPS
from corpus import BY_NAME, INTENTS, Conversations, texts
from grammar import Intent, count, expand, gerund
from heldout import held_out_questions, normalised

COMMANDS = frozenset(
    [
        "pull",
        "run",
        "list",
        "show",
        "inspect",
        "tag",
        "rm",
        "push",
        "package",
        "ps",
        "stop",
        "serve",
        "registry",
        "status",
        "version",
        "COMMAND",
    ]
)
FLAGS = frozenset(
    [
        "--help",
        "--json",
        "--system",
        "--temperature",
        "--top-p",
        "--top-k",
        "--min-p",
        "--seed",
        "--max-tokens",
        "--context",
        "--port",
        "--store",
        "--all",
        "--gguf",
    ]
)
SAMPLE = list(texts(seed=1000, number=4000))


def _code(intent: Intent) -> list[str]:
    """The pieces of the answers that a reader would type."""
    quoted = re.findall(r"`([^`]*)`", f"{intent.answer}\n{intent.more}")
    return [*quoted, intent.short] if intent.short.startswith("qwenctl ") else quoted


@pytest.mark.parametrize("intent", INTENTS, ids=lambda intent: intent.name)
def test_answers_name_only_what_qwenctl_has(intent: Intent) -> None:
    """Every command and flag in an answer exists in the product."""
    for code in _code(intent):
        assert set(re.findall(r"\bqwenctl ([a-zA-Z]+)", code)) <= COMMANDS
        assert set(re.findall(r"(?<!\S)--[a-z-]+", code)) <= FLAGS


@pytest.mark.parametrize("intent", INTENTS, ids=lambda intent: intent.name)
def test_intents_are_whole(intent: Intent) -> None:
    """Every intent has an answer, a short answer and at least eight ways to ask for it."""
    assert intent.answer and intent.short
    patterns = intent.verbs + intent.nouns + intent.questions
    assert sum(count(pattern) for pattern in patterns) >= 8
    for pattern in patterns:
        assert expand(pattern, random.Random(0))
        assert not re.search(r"<[A-Z]+[:>]", pattern), "an unknown macro"


def test_held_out_questions_are_never_drawn() -> None:
    """No held-out question occurs in the corpus, whatever its case and punctuation."""
    held_out = {normalised(item.question) for item in held_out_questions()}
    asked = {
        normalised(text)
        for conversation in SAMPLE
        for text in re.findall(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", conversation, re.DOTALL)
    }
    assert len(asked) > 4000
    assert not asked & held_out


def test_held_out_wordings_are_never_drawn() -> None:
    """Not even with another model's name in it is a held-out question drawn."""
    source = Conversations(6)
    wordings = {item.wording for item in held_out_questions()}
    for intent in INTENTS:
        assert not wordings & {normalised(source.question(intent)) for _ in range(100)}


def test_held_out_questions_have_known_intents() -> None:
    """Each held-out question has an answer to be held against, and the test split is large."""
    known = set(BY_NAME) | {"ood"}
    questions = held_out_questions()
    assert all(set(item.intents) <= known for item in questions)
    assert sum(item.split == "test" for item in questions) >= 160
    assert len({normalised(item.question) for item in questions}) == len(questions)
    assert all(item.model in item.question for item in questions)


def test_test_questions_cover_the_intents() -> None:
    """All but a few intents are asked for in the test split."""
    covered = {name for item in held_out_questions() if item.split == "test" for name in item.intents}
    assert len(set(BY_NAME) - covered) <= 8


def test_the_corpus_is_seeded() -> None:
    """The same seed gives the same conversations."""
    assert list(texts(seed=3, number=20)) == list(texts(seed=3, number=20))


def test_tool_calls_fit_their_definitions() -> None:
    """A call names an offered function and exactly its parameters."""
    source, seen = Conversations(4), 0
    for _ in range(600):
        messages, tools = source.draw()
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools or []}
        for message in messages:
            for call in message.get("tool_calls", []):
                seen += 1
                properties = offered[call["function"]["name"]]["properties"]
                assert set(call["function"]["arguments"]) == set(properties)
    assert seen > 50


def test_json_answers_parse() -> None:
    """An answer that begins as JSON is JSON."""
    found = re.findall(r"<\|im_start\|>assistant\n(\{.*?)<\|im_end\|>", "".join(SAMPLE), re.DOTALL)
    assert len(found) > 100
    for text in found:
        assert isinstance(json.loads(text), dict)


def test_cases_end_with_a_question() -> None:
    """Every case of the evaluation ends where the assistant must speak."""
    for cases in GROUPS.values():
        assert all(case.messages[-1]["role"] in ("user", "tool") for case in cases)


@pytest.mark.parametrize(
    ("verb", "form"),
    [
        ("get a model", "getting a model"),
        ("remove it", "removing it"),
        ("chat", "chatting"),
        ("see", "seeing"),
    ],
)
def test_gerund(verb: str, form: str) -> None:
    """Verb phrases get their -ing form."""
    assert gerund(verb) == form
