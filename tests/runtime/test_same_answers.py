"""With a seed, an answer is the same alone and in company, computed, copied, restored or guessed ahead."""

import threading
from pathlib import Path

import msgspec
import pytest

from qwenctl.errors import LoadFailed, PromptTooLong
from qwenctl.runtime.engine import ChatRequest, CompletionRequest, EngineOptions, EngineStats, Message
from qwenctl.runtime.events import Finished, Usage
from qwenctl.runtime.local import open_engine
from qwenctl.runtime.sampling import Sampling
from tests.contracts.engine import text_of
from tests.runtime.runtime_builders import write_tiny_model

SYSTEM = "".join(f"rule {number}: be brief and kind. " for number in range(12))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file; tests must not change it."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf", context_length=2048)


def exact(path: Path, **options: object) -> EngineOptions:
    """Options without half precision in attention, which would round by how prompts are cut."""
    known = EngineOptions(path=path, context_length=1024, threads=1, flash_attention="off")
    return msgspec.structs.replace(known, **options)


def request(prompt: str, seed: int = 3, max_tokens: int = 30, **more: object) -> CompletionRequest:
    """A request whose answer depends on every logit, but for the seed."""
    sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed)
    return CompletionRequest(prompt=prompt, sampling=sampling, max_tokens=max_tokens, **more)  # type: ignore[arg-type]


def alone(path: Path, wanted: CompletionRequest) -> str:
    """The answer of an engine that never did anything else."""
    return run(exact(path, slots=1), [wanted])[0][0][0]


def run(
    options: EngineOptions, wanted: list[CompletionRequest], *, together: bool = False
) -> tuple[list[tuple[str, Usage]], EngineStats]:
    """Text and usage of each request, one after the other or all at once."""
    engine = open_engine(options)
    answers: list[tuple[str, Usage] | None] = [None] * len(wanted)

    def one(number: int) -> None:
        events = list(engine.generate(wanted[number]))
        assert isinstance(events[-1], Finished)
        answers[number] = text_of(events), events[-1].usage

    if together:
        threads = [threading.Thread(target=one, args=(number,)) for number in range(len(wanted))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for number in range(len(wanted)):
            one(number)
    stats = engine.stats()
    engine.close()
    return [answer for answer in answers if answer is not None], stats


def test_a_copied_beginning_changes_nothing(tiny: Path) -> None:
    """A burst with one system prompt: each has the answer that it has alone, most have the prompt copied."""
    wanted = [request(f"{SYSTEM}question {number}", seed=number) for number in range(6)]
    answers, stats = run(exact(tiny), wanted, together=True)
    assert [text for text, _ in answers] == [alone(tiny, one) for one in wanted]
    assert sum(usage.cached_tokens for _, usage in answers) == stats.cached_tokens
    assert sum(usage.cached_tokens >= len(SYSTEM) for _, usage in answers) == 5


def test_a_restored_conversation_changes_nothing(tiny: Path) -> None:
    """One slot, another chat between two turns: the second turn computes only what is new."""
    first = request(f"{SYSTEM}how are you?")
    text = alone(tiny, first)
    second = request(f"{first.prompt}{text} and tomorrow?")
    other = request("x" * 400)
    answers, _ = run(exact(tiny, slots=1), [first, other, second])
    assert answers[2][1].cached_tokens >= len(first.prompt.encode())
    assert answers[2][0] == alone(tiny, second)
    answers, _ = run(exact(tiny, slots=1, prompt_cache_bytes=0), [first, other, second])
    assert answers[2][1].cached_tokens == 0


@pytest.mark.parametrize("speculation", ["lookup", "draft"])
def test_guessing_ahead_changes_nothing(tiny: Path, speculation: str) -> None:
    """Greedy or drawn with a seed, alone or together, with a grammar: the texts are those without guesses."""
    greedy = Sampling(temperature=0)
    guided = Sampling(temperature=0.7, seed=2, grammar='root ::= ("ab" | "cd" | "abc")+')
    wanted = [
        CompletionRequest(prompt="again and again and again and", sampling=greedy, max_tokens=60),
        CompletionRequest(prompt="one two three", sampling=guided, max_tokens=40),
        request("aaaaaaaaaaaaaaaa", max_tokens=50),
        request("to be or not to be", max_tokens=50, stop=("a",)),
    ]
    options = exact(tiny, speculation=speculation, draft=tiny)
    plain, _ = run(exact(tiny), wanted)
    answers, stats = run(options, wanted)
    assert [text for text, _ in answers] == [text for text, _ in plain]
    assert 0 < stats.accepted_tokens <= stats.drafted_tokens
    answers, _ = run(options, wanted, together=True)
    assert [text for text, _ in answers] == [text for text, _ in plain]
    assert [usage.completion_tokens for _, usage in answers] == [
        usage.completion_tokens for _, usage in plain
    ]


def test_a_good_draft_saves_decodes(tiny: Path) -> None:
    """The model as its own draft is always right: a step in nine remains."""
    wanted = CompletionRequest(prompt="hello", sampling=Sampling(temperature=0), max_tokens=90)
    _, stats = run(exact(tiny, speculation="draft", draft=tiny), [wanted])
    assert stats.accepted_tokens == stats.drafted_tokens
    assert stats.decode_calls <= 12


def test_a_draft_of_another_vocabulary_is_refused(tiny: Path) -> None:
    """So is a missing one, and a senseless number of tokens."""
    guide = max(
        (Path(__file__).parents[2] / "registry/blobs/sha256").iterdir(), key=lambda blob: blob.stat().st_size
    )
    with pytest.raises(LoadFailed, match="vocabulary"):
        open_engine(exact(tiny, speculation="draft", draft=guide))
    with pytest.raises(LoadFailed, match="needs one"):
        open_engine(exact(tiny, speculation="draft"))
    with pytest.raises(LoadFailed, match="draft_tokens"):
        open_engine(exact(tiny, speculation="lookup", draft_tokens=0))


def test_a_full_context_moves_on(tiny: Path) -> None:
    """Refused, cut, or shifted as the request says; the usage has the tokens that were really read."""
    long = request("abc " * 50, max_tokens=100)
    with pytest.raises(PromptTooLong, match=r"200 tokens.*128"):
        run(exact(tiny, context_length=128), [long])
    for overflow, completed in (("truncate", 32), ("shift", 100)):
        wanted = request("abc " * 50, max_tokens=100, overflow=overflow)
        ((_, usage),), _ = run(exact(tiny, context_length=128), [wanted])
        assert (usage.prompt_tokens, usage.completion_tokens) == (96, completed)


def test_a_cut_chat_keeps_its_system_prompt(tiny: Path) -> None:
    """Of a conversation that is too long: the next one with the same system prompt finds it in the cache."""
    system = Message("system", "be kind " * 10)
    engine = open_engine(exact(tiny, slots=1, context_length=512))
    for letter, cached in (("x", 0), ("y", len("<|im_start|>system\n") - len("<|im_start|>") + 1 + 80)):
        chat = ChatRequest(
            messages=(system, Message("user", letter * 1000)), max_tokens=3, overflow="truncate"
        )
        last = list(engine.generate(chat))[-1]
        assert isinstance(last, Finished)
        assert last.usage.cached_tokens == cached
        assert last.usage.prompt_tokens == 509
    engine.close()


def test_a_shifted_sequence_lends_only_what_was_not_shifted(tiny: Path) -> None:
    """What stands behind the gap was computed with other tokens before it: a later prompt does not get it."""
    first = request("abcdefgh" * 10, max_tokens=100, overflow="shift")
    engine_options = exact(tiny, context_length=128, slots=1)
    second = request("abcdefgh" * 10 + "more", max_tokens=10)
    answers, _ = run(engine_options, [first, second])
    assert answers[1][1].cached_tokens == 32
    assert answers[1][0] == run(engine_options, [second])[0][0][0]
