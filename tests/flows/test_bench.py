"""What samples add up to, and prompts of a wished length."""

import msgspec
import pytest

from qwenctl.errors import UsageError
from qwenctl.flows.bench import Prompts, Sample, parse_counts, percentile, result_of, results_of


def sample(first: float, end: float, *, number: int = 1, concurrency: int = 2, cached: int = 0) -> Sample:
    """A request of 100 prompt tokens with 11 tokens of answer."""
    return Sample(
        concurrency=concurrency,
        requested_prompt_tokens=100,
        round=number,
        prompt_tokens=100,
        cached_tokens=cached,
        completion_tokens=11,
        first_token_seconds=first,
        seconds=end,
        prompt_seconds=first,
        completion_seconds=end - first,
    )


def test_speeds_are_of_a_whole_round() -> None:
    """Prompts until the last first token, answers from the first of them on; the median of rounds."""
    fast = [sample(1.0, 3.0), sample(2.0, 5.0)]
    slow = [sample(2.0, 6.0, number=2), sample(4.0, 12.0, number=2)]
    result = result_of([*fast, *slow])
    assert (result.rounds, result.prompt_tokens) == (2, 100)
    assert (result.prompt_per_second.low, result.prompt_per_second.high) == (50.0, 100.0)
    assert (result.generated_per_second.low, result.generated_per_second.high) == (2.0, 5.0)
    assert result.generated_per_second.median == 3.5
    assert (result.first_token_p50_seconds, result.first_token_p95_seconds) == (2.0, 4.0)


def test_cached_tokens_are_no_speed() -> None:
    """What the template has in common with other prompts was not computed."""
    assert result_of([sample(1.0, 2.0, cached=20)]).prompt_per_second.median == 80.0


def test_cases_stay_apart_and_in_order() -> None:
    """As they were measured."""
    found = results_of([sample(1.0, 2.0, concurrency=4), sample(1.0, 2.0, concurrency=1)])
    assert [result.concurrency for result in found] == [4, 1]


def test_what_arrives_at_once_was_not_made_at_once() -> None:
    """A client that reads all tokens together takes the engine's word for their speed."""
    late = msgspec.structs.replace(sample(1.0, 1.0), completion_seconds=2.0)
    assert result_of([late]).generated_per_second.median == 5.0


def test_an_answer_in_no_time_has_no_speed() -> None:
    """A clock that did not move makes no division by zero."""
    result = result_of([sample(0.0, 0.0)])
    assert (result.prompt_per_second.median, result.generated_per_second.median) == (0.0, 0.0)


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.95, 4), (1.0, 4), (0.0, 1), (0.25, 1), (0.26, 2)])
def test_percentiles_are_values_that_occurred(share: float, value: float) -> None:
    """By the nearest rank."""
    assert percentile([4, 1, 3, 2], share) == value


def test_counts() -> None:
    """Each once, in order."""
    assert parse_counts("8, 1,4,1", "--concurrency") == (1, 4, 8)


@pytest.mark.parametrize("text", ["", "1,", "0", "-1", "a", "1.5", "99999999", "9" * 5000, "\u0661"])
def test_what_is_no_count(text: str) -> None:
    """The option is named."""
    with pytest.raises(UsageError, match="--concurrency"):
        parse_counts(text, "--concurrency")


def test_prompts_get_the_length_that_was_learnt() -> None:
    """With 20 tokens of the template and two of each word, 100 tokens are 40 words."""
    prompts = Prompts(seed=1)
    prompts.learn((8, 36), (72, 164))
    assert len(prompts.of_tokens(100).split()) == 40
    assert len(prompts.of_tokens(5).split()) == 1


def test_no_prompt_comes_twice() -> None:
    """Not in one run, nor in the next; a fixed text comes behind words that differ."""
    prompts, others = Prompts(seed=1), Prompts(seed=2)
    assert len({prompts.of_words(8) for _ in range(50)} | {others.of_words(8) for _ in range(50)}) == 100
    fixed = Prompts(seed=1, text="Why?")
    assert len({fixed.of_tokens(10) for _ in range(50)}) == 50
    assert fixed.of_tokens(10).endswith(": Why?")
