"""OpenAI's completions, by the public client: streamed and whole."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from qwenctl.api.openai_completions_wire import CompletionCall, Offsets
from qwenctl.errors import GenerationFailed, InvalidRequest
from qwenctl.runtime.engine import CompletionRequest, Request
from qwenctl.runtime.events import Likelihood, TokenLogprob
from tests.api.api_builders import ScriptedHost

openai = pytest.importorskip("openai", reason="the `openai` package is not installed")


def prompt_and_seed(request: Request) -> Sequence[str]:
    """An answer that tells what was asked, character by character."""
    assert isinstance(request, CompletionRequest)
    return tuple(f"{request.prompt}/{request.sampling.seed}")


def complete(client: Any, prompt: Any = "Once", **fields: Any) -> Any:
    """One completion."""
    return client.completions.create(model="tiny", prompt=prompt, **fields)


def test_whole(client: Any, host: ScriptedHost) -> None:
    """The text that follows, the reason and the counts; the engine got the prompt as it was."""
    answer = complete(client, "Once <|im_end|>", max_tokens=9, stop=["x"], temperature=0)
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
        "text_completion",
        "Hello wörld",
        "stop",
    )
    assert answer.usage.total_tokens == 10
    asked = host.asked[-1][0]
    assert isinstance(asked, CompletionRequest)
    assert (asked.prompt, asked.max_tokens, asked.stop) == ("Once <|im_end|>", 9, ("x",))


@pytest.mark.parametrize("echo", [False, True])
def test_streams_give_the_same(client: Any, host: ScriptedHost, echo: bool) -> None:
    """The same texts, reasons and counts, for several prompts with several answers each."""
    host.script = prompt_and_seed
    asked: dict[str, Any] = {"prompt": ["a", "b"], "n": 2, "seed": 3, "echo": echo}
    whole = complete(client, **asked)
    chunks = list(complete(client, **asked, stream=True, stream_options={"include_usage": True}))
    texts: dict[int, str] = defaultdict(str)
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.text
    assert [texts[choice.index] for choice in whole.choices] == [choice.text for choice in whole.choices]
    expected = ["a/3", "a/4", "b/3", "b/4"]
    assert [choice.text for choice in whole.choices] == [f"{t[0] if echo else ''}{t}" for t in expected]
    assert chunks[-1].usage == whole.usage
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (14, 12)


def test_nothing_is_taken_out(client: Any, host: ScriptedHost) -> None:
    """What looks like reasoning or a call is text here."""
    host.deltas = ("<think>", "x", "</think>\n", '<tool_call>{"name": "now"}</tool_call>')
    assert complete(client).choices[0].text == "".join(host.deltas)
    assert "".join(chunk.choices[0].text for chunk in complete(client, stream=True)) == "".join(host.deltas)


def test_logprobs(client: Any, host: ScriptedHost) -> None:
    """Tokens, their likelihoods, the alternatives, where each begins; streamed they add up to the same."""
    logprobs = complete(client, logprobs=2).choices[0].logprobs
    assert logprobs.tokens == ["Hel", "lo ", "wörld"]
    assert logprobs.token_logprobs == [-0.5] * 3
    assert logprobs.top_logprobs[0] == {"Hel": -0.5, "1": -1.5}
    assert logprobs.text_offset == [0, 3, 6]
    chunks = [chunk.choices[0].logprobs for chunk in complete(client, logprobs=2, stream=True)]
    assert [at for one in chunks if one for at in one.text_offset] == [0, 3, 6]
    assert [token for one in chunks if one for token in one.tokens] == logprobs.tokens


def test_a_token_that_is_part_of_a_character() -> None:
    """Offsets count characters: the second half of one begins behind it no sooner than the next does."""
    pieces = ["é".encode()[:1], "é".encode()[1:], b"x"]
    rated = [TokenLogprob(Likelihood(n, piece, float("-inf"))) for n, piece in enumerate(pieces)]
    made = Offsets().rated(rated)
    assert made.text_offset == [0, 0, 1]
    assert made.token_logprobs == [-9999.0] * 3


def test_a_failure_under_way(client: Any, host: ScriptedHost) -> None:
    """Is raised by the client, after the text that was there."""
    host.error, host.error_after = GenerationFailed("a decode step failed"), 1
    with pytest.raises(openai.APIError, match="a decode step failed"):
        list(complete(client, stream=True))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [1, 2, 3]}, "prompt[0]"),
        ({"prompt": [[1, 2], [3]]}, "prompt[0]"),
        ({"prompt": ["a", 5]}, "prompt[1]"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 2049}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 4}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"logprobs": 21}, "logprobs"),
        ({"n": 99}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_we_cannot_do_is_refused(
    client: Any, host: ScriptedHost, fields: dict[str, Any], param: str
) -> None:
    """With the field that is to blame; nothing reaches the engine."""
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, **fields)
    assert caught.value.param == param
    assert host.asked == []


def test_a_prompt_is_needed() -> None:
    """None, or an object, is no prompt."""
    for prompt in (None, {"text": "x"}):
        with pytest.raises(InvalidRequest, match="`prompt`"):
            CompletionCall(model="tiny", prompt=prompt).requests()
