"""Grammars that begin to rule within an answer, on a model that talks at random and on the guide model."""

import json
import random
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from qwenctl.runtime.answers import AnswerSplitter, Call, Content, Part, Reasoning
from qwenctl.runtime.engine import (
    ChatRequest,
    CompletionRequest,
    EngineOptions,
    Message,
    TextPart,
    ToolCall,
)
from qwenctl.runtime.events import PromptProcessed, TextDelta
from qwenctl.runtime.guidance import tool_guidance
from qwenctl.runtime.llama import LlamaModel
from qwenctl.runtime.local import LlamaEngine, open_engine
from qwenctl.runtime.sampling import Sampling
from qwenctl.runtime.schema import grammar_of
from tests.runtime.runtime_builders import CHATML, write_tiny_model

Bias = tuple[tuple[int, float], ...]

BLOBS = Path(__file__).parents[2] / "registry/blobs/sha256"
GUIDE = max(BLOBS.iterdir(), key=lambda blob: blob.stat().st_size)
TAGS = ("<think>", "</think>", "</tool_call>", ">{[")
THINKING = CHATML.replace("assistant\\n'", "assistant\\n' ~ ('<think>\\n' if open is defined else '')")


def options(path: Path, **values: Any) -> EngineOptions:
    """With four slots, and answers that are the same in any company."""
    return EngineOptions(path=path, slots=4, gpu_layers=0, **{"flash_attention": "off", **values})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that talks at random, a byte a token, with a template that may open a thought."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    return write_tiny_model(path, context_length=1024, template=THINKING, tags=TAGS)


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[LlamaEngine]:
    """That model, open."""
    engine = open_engine(options(tiny, context_length=1024))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def guide() -> Iterator[LlamaEngine]:
    """The guide model, which was taught to call."""
    engine = open_engine(options(GUIDE, context_length=2048))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def bias(tiny: Path) -> Any:
    """Makes biases: how much each of some characters is wanted."""
    model = LlamaModel(options(tiny))
    tokens = {chr(code): model.vocabulary.tokenize(chr(code))[-1] for code in range(32, 127)}
    tokens["\n"] = model.vocabulary.tokenize("\n")[-1]
    tokens |= {tag: model.vocabulary.tokenize(tag)[-1] for tag in ("<tool_call>", *TAGS)}
    model.close()
    return lambda amount, *texts: tuple((tokens[text], amount) for text in texts)


def said(engine: LlamaEngine, request: ChatRequest | CompletionRequest) -> tuple[str, bool]:
    """The text of an answer, and whether the prompt had opened a thought."""
    text, opened = "", False
    for event in engine.generate(request):
        if isinstance(event, TextDelta):
            text += event.text
        elif isinstance(event, PromptProcessed):
            opened = event.reasoning
    return text, opened


def complete(engine: LlamaEngine, max_tokens: int = 60, **sampling: Any) -> str:
    """The text of a completion that is drawn freely."""
    values = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **sampling}
    request = CompletionRequest(prompt="Say: ", sampling=Sampling(**values), max_tokens=max_tokens)
    return said(engine, request)[0]


@pytest.mark.parametrize("seed", range(6))
def test_before_the_trigger_all_is_as_without_a_grammar(engine: LlamaEngine, bias: Any, seed: int) -> None:
    """The same draws, to the token; behind it the grammar rules, and ends the answer."""
    wanted = bias(12.0, *"abc")
    free = complete(engine, seed=seed, logit_bias=wanted)
    guided = complete(
        engine, seed=seed, logit_bias=wanted, grammar='root ::= "!" [0-9]{3}', grammar_triggers=("ab", "cc")
    )
    start = min((free + "abcc").index("ab"), (free + "abcc").index("cc")) + 2
    assert guided.startswith(free[:start])
    if start < len(free):
        assert re.fullmatch("![0-9]{3}", guided[start:]), guided


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_trigger_that_does_not_come_changes_nothing(engine: LlamaEngine, temperature: float) -> None:
    """Greedy or drawn."""
    free = complete(engine, temperature=temperature, seed=3)
    assert free == complete(
        engine, temperature=temperature, seed=3, grammar='root ::= "x"', grammar_triggers=("<call>",)
    )


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "open",
            "parameters": {
                "type": "object",
                "properties": {
                    "door": {"type": "integer", "minimum": 1, "maximum": 40},
                    "how": {"type": "string", "pattern": "^[a-c]{1,3}$"},
                },
                "required": ["door"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
PARAMETERS = TOOLS[0]["function"]["parameters"]  # type: ignore[index]


def parts_of(text: str, **values: bool) -> list[Part]:
    """An answer's parts."""
    splitter = AnswerSplitter(**values)
    return [*splitter.feed(text), *splitter.finish()]


def right(call: Call) -> bool:
    """Whether a call follows what was offered."""
    arguments = json.loads(call.arguments)
    if call.name == "open":
        jsonschema.validate(arguments, PARAMETERS)
    return call.name in ("open", "now") and isinstance(arguments, dict)


@pytest.mark.parametrize("seed", range(6))
def test_calls_of_a_model_that_talks_at_random(engine: LlamaEngine, bias: Any, seed: int) -> None:
    """Every call is right, with text before, between and behind; streamed or whole it is the same."""
    wanted = (*bias(20.0, "<tool_call>"), *bias(15.0, *'"}o'))
    text = complete(engine, 400, seed=seed, logit_bias=wanted, **tool_guidance(TOOLS, "auto"))
    whole = parts_of(text)
    assert any(isinstance(part, Call) for part in whole)
    assert all(right(part) for part in whole if isinstance(part, Call))
    splitter, streamed = AnswerSplitter(), list[Part]()
    for piece in text:
        streamed += splitter.feed(piece)
    streamed += splitter.finish()
    assert text_of(streamed) == text_of(whole)
    calls = [part for part in streamed if isinstance(part, Call)]
    assert calls == [part for part in whole if isinstance(part, Call)]


def text_of(parts: Sequence[Part]) -> str:
    """All content."""
    return "".join(part.text for part in parts if isinstance(part, Content))


def test_a_tag_made_of_many_tokens_is_one(engine: LlamaEngine, bias: Any) -> None:
    """A trigger is a text, not a token."""
    text = complete(
        engine,
        seed=1,
        logit_bias=bias(40.0, "a"),
        grammar='root ::= "b" "c"',
        grammar_triggers=("aaa",),
    )
    assert text == "aaabc"


def test_a_token_that_ends_the_trigger_and_goes_on_wrongly_is_none(engine: LlamaEngine, bias: Any) -> None:
    """What the grammar refuses has not called it: the text goes on freely; else it has begun."""
    sampling = {"logit_bias": bias(200.0, ">{["), "grammar_triggers": (">",)}
    assert complete(engine, 20, grammar='root ::= "x"', **sampling) == ">{[" * 20
    assert complete(engine, 20, grammar='root ::= "{" [^a] "b"', **sampling) == ">{[b"


def thoughts(engine: LlamaEngine, seed: int, opens: bool, sampling: Any) -> tuple[str, bool]:
    """An answer in a chat whose template opens a thought or not."""
    values = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": seed, **sampling}
    request = ChatRequest(
        messages=(Message("user", "hi"),),
        template_options={"open": True} if opens else {},
        sampling=Sampling(**values),
        max_tokens=700,
    )
    return said(engine, request)


@pytest.mark.parametrize("opens", [True, False])
def test_a_form_is_not_that_of_the_reasoning(engine: LlamaEngine, bias: Any, opens: bool) -> None:
    """An open thought goes on freely until it is closed; the answer behind it has the form."""
    grammar = grammar_of({"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]})
    wanted = (*bias(15.0, "<think>"), *bias(11.0, "</think>"))
    answers = [thoughts(engine, seed, opens, {"grammar": grammar, "logit_bias": wanted}) for seed in range(8)]
    ended = thought = 0
    for text, opened in answers:
        assert opened == opens
        parts = parts_of(text, reasoning=opened)
        if answer := text_of(parts):
            assert json.loads(answer) in ({"a": 1}, {"a": 2})
            ended += 1
        thought += any(isinstance(part, Reasoning) for part in parts)
    assert ended and thought


def test_no_trigger_counts_in_an_open_thought(engine: LlamaEngine, bias: Any) -> None:
    """A call that is only thought of is not guided."""
    sampling = {"grammar": 'root ::= "!"', "grammar_triggers": ("a",), "logit_bias": bias(80.0, *"ab")}
    inside, _ = thoughts(engine, 1, True, sampling)
    assert re.fullmatch("[ab]{700}", inside)
    outside, _ = thoughts(engine, 1, False, sampling)
    assert re.fullmatch("b*a!", outside)


def test_a_model_without_reasoning_is_held_to_the_form(tmp_path: Path) -> None:
    """Where the template knows no thoughts, and in a plain completion, none may come before the answer."""
    path = write_tiny_model(tmp_path / "plain.gguf", context_length=256)
    model = LlamaModel(options(path))
    wanted = tuple((model.vocabulary.tokenize(letter)[-1], 30.0) for letter in "<think>")
    model.close()
    engine = open_engine(options(path, context_length=256))
    try:
        sampling = Sampling(grammar='root ::= "yes"', logit_bias=wanted)
        chat = ChatRequest(messages=(Message("user", "hi"),), sampling=sampling, max_tokens=50)
        assert said(engine, chat)[0] == "yes"
        assert said(engine, CompletionRequest(prompt="hi", sampling=sampling, max_tokens=50))[0] == "yes"
    finally:
        engine.close()


def weather(city: object) -> dict[str, Any]:
    """The tool that the guide model knows best."""
    parameters = {"type": "object", "properties": {"city": city}, "required": ["city"]}
    function = {"name": "get_weather", "description": "Get the current weather for a city"}
    return {"type": "function", "function": {**function, "parameters": parameters}}


ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


def ask(
    engine: LlamaEngine,
    turns: Sequence[Message],
    tools: Sequence[dict[str, Any]],
    choice: str = "auto",
    **sampling: Any,
) -> list[Part]:
    """What the model answers, likeliest tokens first, in parts; neighbouring texts joined."""
    values = {"temperature": 0.0, **sampling, **tool_guidance(tools, choice)}
    return parts_of(said(engine, chat(turns, tools, Sampling(**values)))[0])


def chat(turns: Sequence[Message], tools: Sequence[dict[str, Any]], sampling: Sampling) -> ChatRequest:
    """A request with room for a longer answer."""
    return ChatRequest(messages=tuple(turns), tools=tuple(tools), sampling=sampling, max_tokens=200)


QUESTION = Message("user", "What is the weather in Potsdam?")


def test_the_round_trip_of_a_call(guide: LlamaEngine) -> None:
    """A call, its result in the next turn, and the answer made of it; the content in parts too."""
    tools = [weather({"type": "string"}), ADD]
    (call,) = ask(guide, [QUESTION], tools)
    assert call == Call("get_weather", '{"city": "Potsdam"}')
    called = Message("assistant", None, (ToolCall(call.name, call.arguments, "c1"),))
    result = '{"temperature": 22, "condition": "sunny"}'
    for content in (result, (TextPart(result),)):
        answer = ask(guide, [QUESTION, called, Message("tool", content, tool_call_id="c1")], tools)
        assert answer == [Content("Here is the result: temperature is 22, condition is sunny.")]


def test_a_question_that_needs_no_tool(guide: LlamaEngine) -> None:
    """Tools on offer do not force a call, and change no word of the answer."""
    turns = [Message("user", "Hello!")]
    tools = [weather({"type": "string"})]
    answer = ask(guide, turns, tools)
    assert text_of(answer) and not any(isinstance(part, Call) for part in answer)
    assert said(guide, chat(turns, tools, Sampling(temperature=0)))[0] == text_of(answer)


def test_the_schema_decides_about_the_arguments(guide: LlamaEngine) -> None:
    """Where the model would say something else, with a free choice as well as on demand."""
    tools = [weather({"enum": ["Oslo", "Rome"]})]
    for choice in ("auto", "required", "get_weather"):
        (call,) = ask(guide, [QUESTION], tools, choice)
        assert isinstance(call, Call) and json.loads(call.arguments)["city"] in ("Oslo", "Rome")


def test_a_demanded_tool_is_called_whatever_is_said(guide: LlamaEngine) -> None:
    """The one that is named, though another would suit."""
    (call,) = ask(guide, [QUESTION], [weather({"type": "string"}), ADD], "add")
    assert isinstance(call, Call) and call.name == "add"
    assert {key: type(value) for key, value in json.loads(call.arguments).items()} == {"a": int, "b": int}


def test_several_calls_in_one_answer(guide: LlamaEngine) -> None:
    """A model that wants to go on calling may; each of the calls is right."""
    end = guide.model.end_of_turn or guide.model.end_of_sequence
    assert end is not None
    tools = [weather({"type": "string"}), ADD]
    for choice in ("auto", "required"):
        parts = ask(guide, [QUESTION], tools, choice, logit_bias=((end.id, -30.0),))
        calls = [part for part in parts if isinstance(part, Call)]
        assert calls[0] == Call("get_weather", '{"city": "Potsdam"}')
        assert all(call.name in ("get_weather", "add") for call in calls)
        if choice == "required":
            assert len(calls) > 1


def test_alone_and_in_company(guide: LlamaEngine) -> None:
    """With a seed a guided answer is the same beside others, guided and not."""
    tools = [weather({"type": "string", "maxLength": 12}), ADD]

    def request(seed: int) -> ChatRequest:
        guidance = tool_guidance(tools, random.Random(seed).choice(["auto", "required", "none"]))
        sampling = Sampling(temperature=1.5, seed=seed, **guidance)
        return ChatRequest(messages=(QUESTION,), tools=tuple(tools), sampling=sampling, max_tokens=80)

    alone = [said(guide, request(seed))[0] for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: said(guide, request(seed))[0], range(12)))
    assert together == alone
