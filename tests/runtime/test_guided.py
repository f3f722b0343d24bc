"""Grammars, biases and the further samplers, on a small model that talks at random."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.errors import GenerationFailed, InvalidRequest
from qwenctl.runtime.engine import CompletionRequest, EngineOptions
from qwenctl.runtime.events import Finished, TextDelta
from qwenctl.runtime.llama import LlamaModel
from qwenctl.runtime.local import LlamaEngine, open_engine
from qwenctl.runtime.sampling import MAX_GRAMMAR_LENGTH, Sampling
from tests.runtime.runtime_builders import write_tiny_model

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> EngineOptions:
    """How the model is opened."""
    path: Path = write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")
    return EngineOptions(path=path, context_length=256, slots=2, gpu_layers=0, flash_attention="off")


@pytest.fixture(scope="module")
def engine(options: EngineOptions) -> Iterator[LlamaEngine]:
    """The open model."""
    engine = open_engine(options)
    yield engine
    engine.close()


def say(
    engine: LlamaEngine, max_tokens: int = 24, prompt: str = "Say: ", **sampling: object
) -> tuple[str, str]:
    """The text, and why it ended."""
    values = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **sampling}
    request = CompletionRequest(prompt=prompt, sampling=Sampling(**values), max_tokens=max_tokens)  # type: ignore[arg-type]
    text, reason = "", ""
    for event in engine.generate(request):
        if isinstance(event, TextDelta):
            text += event.text
        elif isinstance(event, Finished):
            reason = event.reason
    return text, reason


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("grammar", "expected"),
    [
        ('root ::= "yes" | "no"', "yes|no"),
        ("root ::= [0-9]{3,5}", "[0-9]{3,5}"),
        (
            'root ::= "{" pair ("," pair){0,1} "}"\npair ::= [a-c]+ ":" [0-9]',
            r"\{[a-c]+:[0-9](,[a-c]+:[0-9])?\}",
        ),
        ('root ::= "äöü🦙"', "äöü🦙"),
    ],
)
def test_only_what_the_grammar_derives_is_said(
    engine: LlamaEngine, grammar: str, expected: str, seed: int
) -> None:
    """From a model that would say anything; it ends by itself where the grammar ends."""
    text, reason = say(engine, max_tokens=200, grammar=grammar, seed=seed)
    if reason == "stop":
        assert re.fullmatch(expected, text), text
    else:  # a run of letters without end is a right beginning
        assert "+" in expected and reason == "length"


@pytest.fixture(scope="module")
def letters(options: EngineOptions) -> tuple[tuple[int, float], ...]:
    """Biases that leave hardly anything but small letters to be said; one token each in this model."""
    model = LlamaModel(options)
    tokens = [model.vocabulary.tokenize(letter)[-1] for letter in LETTERS]
    model.close()
    return tuple((token, 30.0) for token in tokens)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_grammar_that_forbids_nothing_changes_nothing(
    engine: LlamaEngine, letters: tuple[tuple[int, float], ...], temperature: float
) -> None:
    """The draws are the same with it and without it, token by token."""
    free = say(engine, temperature=temperature, seed=5, logit_bias=letters)
    assert re.fullmatch("[a-z]{24}", free[0])
    guided = say(engine, temperature=temperature, seed=5, logit_bias=letters, grammar="root ::= [a-z]*")
    assert guided == free


def test_the_same_seed_gives_the_same_under_a_grammar(engine: LlamaEngine) -> None:
    """Also where draws are refused and drawn again."""
    grammar = "root ::= [a-z]{20}"
    first = say(engine, grammar=grammar, seed=7)
    assert first == say(engine, grammar=grammar, seed=7)
    assert len({say(engine, grammar=grammar, seed=seed)[0] for seed in range(6)}) > 1


@pytest.mark.parametrize("grammar", ['root ::= "a', "start ::= [a]", "root ::= missing", "root ::= root"])
def test_a_broken_grammar_is_refused(engine: LlamaEngine, grammar: str) -> None:
    """With llama.cpp's reason; the next request is answered."""
    with pytest.raises(InvalidRequest, match="grammar"):
        say(engine, grammar=grammar)
    assert say(engine, grammar='root ::= "ok"') == ("ok", "stop")


def test_a_grammar_without_a_way_on_fails_alone(engine: LlamaEngine) -> None:
    """Where no token can follow the request fails; the process, and a neighbour, go on."""
    grammar = 'root ::= "a" [b-a]'
    neighbour = engine.generate(CompletionRequest(prompt="Say: ", sampling=Sampling(seed=1), max_tokens=60))
    next(neighbour)
    with pytest.raises(GenerationFailed, match="no token"):
        say(engine, grammar=grammar)
    assert [event for event in neighbour if isinstance(event, Finished)]
    assert say(engine, grammar='root ::= "ok"') == ("ok", "stop")


def test_grammars_have_a_bound() -> None:
    """What is larger is refused before it is read."""
    with pytest.raises(InvalidRequest, match="grammar"):
        Sampling(grammar="x" * (MAX_GRAMMAR_LENGTH + 1))


def test_biases_decide(
    options: EngineOptions, engine: LlamaEngine, letters: tuple[tuple[int, float], ...]
) -> None:
    """A token that is wanted much is always said, one that is banned never; a token must exist."""
    model = LlamaModel(options)
    try:
        wanted = model.vocabulary.tokenize("Q")[-1]
        size = model.vocabulary.size
    finally:
        model.close()
    text, _ = say(engine, max_tokens=5, logit_bias=((wanted, 100.0),), seed=1)
    assert text == "Q" * 5
    free, _ = say(engine, max_tokens=40, seed=1, logit_bias=letters)
    common = max(LETTERS, key=free.count)
    without = tuple(pair for pair, letter in zip(letters, LETTERS, strict=True) if letter != common)
    banned, _ = say(engine, max_tokens=40, seed=1, logit_bias=without)
    assert free.count(common) > 1 and common not in banned
    for token in (-1, size):
        with pytest.raises(InvalidRequest, match="no token"):
            say(engine, logit_bias=((token, 1.0),))


@pytest.mark.parametrize(
    "sampling",
    [
        {"dry_multiplier": 5.0, "dry_allowed_length": 1},
        {"xtc_probability": 1.0, "xtc_threshold": 0.0},
        {"mirostat": 1, "mirostat_tau": 1.0},
        {"mirostat": 2, "mirostat_tau": 1.0},
    ],
)
def test_the_further_samplers_have_an_effect(engine: LlamaEngine, sampling: dict[str, object]) -> None:
    """Each changes what is said, the same for the same seed."""
    prompt = "abc abc abc abc abc abc "
    changed = [say(engine, 40, prompt, seed=seed, **sampling) for seed in (3, 4, 5)]
    assert changed == [say(engine, 40, prompt, seed=seed, **sampling) for seed in (3, 4, 5)]
    assert changed != [say(engine, 40, prompt, seed=seed) for seed in (3, 4, 5)]
