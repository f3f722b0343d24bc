import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import InvalidRequest, PromptTooLong
from qwenctl.runtime.generation import Generation, Task
from qwenctl.runtime.overflow import dropped_tokens, fit_prompt, longest_beginning
from tests.runtime.scheduler_builders import end_of, mix, scheduling, submit
from tests.runtime.scripted_decoder import ScriptedDecoder, never


@given(
    st.integers(0, 300), st.integers(2, 200), st.none() | st.integers(1, 300), st.none() | st.integers(0, 300)
)
def test_a_fitted_prompt_has_its_beginning_and_its_end(
    length: int, context: int, max_tokens: int | None, beginning: int | None
) -> None:
    """It leaves room for an answer, and what is short enough stays whole."""
    prompt = list(range(length))
    kept = longest_beginning(context, beginning)
    fitted = fit_prompt(prompt, context, max_tokens, kept)
    if length < context:
        assert fitted == prompt
        return
    assert 0 < len(fitted) < context
    assert len(fitted) >= context - max(1, context // 4)
    assert fitted[:kept] == prompt[:kept] and fitted[kept:] == prompt[len(prompt) - len(fitted) + kept :]
    assert fitted[-1] == length - 1


def test_a_long_prompt_is_refused_with_the_numbers() -> None:
    """By default, and where the context cannot hold two tokens."""
    for context, overflow in ((10, "refuse"), (1, "truncate")):
        with pytest.raises(PromptTooLong, match=f"10 tokens.*{context} with"):
            Generation(Task([1] * 10, overflow=overflow), lambda event: None, context)  # type: ignore[arg-type]


def test_an_answer_goes_on_in_a_full_context() -> None:
    """The older half behind the beginning is dropped each time, and the positions close up."""
    decoder = ScriptedDecoder(mix, batch_tokens=64)
    prompt = list(range(1, 11))
    with scheduling(decoder) as scheduler:
        text, end = end_of(submit(scheduler, prompt, max_tokens=50, context_length=16, overflow="shift")[0])
    window, said = list(prompt), []
    for _ in range(50):
        if len(window) >= 16:
            del window[4 : 4 + dropped_tokens(len(window) - 1, 4)]
        window.append(mix(window))
        said.append(window[-1])
    assert text == "".join(f"{token} " for token in said)
    assert (end.reason, end.usage.prompt_tokens, end.usage.completion_tokens) == ("length", 10, 50)


def test_an_answer_without_a_limit_ends_after_ten_contexts() -> None:
    """Where the model itself never ends."""
    with scheduling(ScriptedDecoder(batch_tokens=64)) as scheduler:
        _, end = end_of(submit(scheduler, [1], max_tokens=None, context_length=16, overflow="shift")[0])
    assert (end.reason, end.usage.completion_tokens) == ("length", 160)


def test_an_interrupted_shift_is_computed_again() -> None:
    """llama.cpp may have moved a part of the layers: nothing of that sequence is trusted."""
    prompt = [1] * 12
    with scheduling(ScriptedDecoder(mix)) as scheduler:
        expected, _ = end_of(submit(scheduler, prompt, max_tokens=40, context_length=16, overflow="shift")[0])
    decoder = ScriptedDecoder(mix, batch_tokens=4)
    decoder.hold = lambda spans: len(spans) == 2 and spans[0].start == 10  # 15 tokens less 5
    with scheduling(decoder) as scheduler:
        first, _ = submit(scheduler, prompt, max_tokens=40, context_length=16, overflow="shift")
        second, cancel = submit(scheduler, list(range(50, 99)), max_tokens=1)
        assert decoder.held.get(timeout=10) == 2
        interrupted = len(decoder.calls)
        cancel()
        decoder.hold = never
        assert end_of(second)[1].reason == "cancelled"
        assert end_of(first)[0] == expected
    assert decoder.calls[interrupted][0].start == 0


def test_a_model_that_cannot_shift_says_so() -> None:
    """The request is refused with what helps; to cut the prompt works."""
    decoder = ScriptedDecoder(mix, batch_tokens=64, rewinds=False)
    with scheduling(decoder) as scheduler:
        with pytest.raises(InvalidRequest, match="full context"):
            submit(scheduler, [1], overflow="shift")
        _, end = end_of(submit(scheduler, [1] * 20, max_tokens=2, context_length=16, overflow="truncate")[0])
    assert end.usage.prompt_tokens == 14
