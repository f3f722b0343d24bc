"""Random schedules: whatever meets in one decoder, every answer is the one that its request has alone."""

import random
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import Queue

import pytest

from qwenctl.errors import GenerationFailed, MemoryShort, QwenctlError
from qwenctl.runtime.batches import Outcome, Sampler, Span, State
from qwenctl.runtime.engine import Cancel, Overflow
from qwenctl.runtime.events import Event, Finished, TextDelta
from qwenctl.runtime.generation import Generation, Task
from qwenctl.runtime.overflow import dropped_tokens, fit_prompt, longest_beginning
from qwenctl.runtime.prompt_cache import PromptCache
from qwenctl.runtime.sampling import Sampling
from qwenctl.runtime.scheduler import Drafting, Scheduler
from qwenctl.runtime.speculation import Drafter, Guess, Lookup
from tests.runtime.scheduler_builders import mix
from tests.runtime.scripted_decoder import ScriptedDecoder

POISON = 666
FAMILIES = [[1000 * family + place for place in range(700)] for family in range(1, 4)]


@dataclass
class Wish:
    """A request, and what came of it."""

    prompt: list[int]
    max_tokens: int
    context_length: int
    overflow: Overflow
    text: str = ""
    end: Finished | QwenctlError | None = None
    cancel: Cancel | None = None

    def expected(self) -> str:
        """The text of the request alone, in a window that a list is."""
        kept = longest_beginning(self.context_length, None)
        window = fit_prompt(self.prompt, self.context_length, self.max_tokens, kept)
        said: list[int] = []
        while len(said) < self.max_tokens:
            if len(window) >= self.context_length:
                if self.overflow != "shift":
                    break
                del window[kept : kept + dropped_tokens(len(window) - 1, kept)]
            window.append(mix(window))
            said.append(window[-1])
        return "".join(f"{token} " for token in said)


class Prophet:
    """A drafter that is mostly right."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def draft(self, guesses: Sequence[Guess]) -> list[list[int]]:
        """See `Drafter`."""
        return [self._one(guess) for guess in guesses]

    def _one(self, guess: Guess) -> list[int]:
        tokens = list(guess.tokens)
        for _ in range(self._chance.randint(0, guess.count)):
            tokens.append(mix(tokens) if self._chance.random() < 0.8 else 77)
        return tokens[len(guess.tokens) :]

    def close(self) -> None:
        """See `Drafter`."""


class Capricious(ScriptedDecoder):
    """Fails now and then, in every way that it may, and lets requests come and go in the midst of a decode.

    It knows what of a sequence was computed after exactly the tokens before it: nothing else may be lent.
    """

    def __init__(self, chance: random.Random, play: "Play", *, batch_tokens: int, rewinds: bool) -> None:
        super().__init__(mix, batch_tokens=batch_tokens, rewinds=rewinds)
        self.poison = POISON
        self._chance, self._play = chance, play
        self._pure: defaultdict[int, int] = defaultdict(int)  # how many of the first tokens
        self._dropped: dict[int, int] = {}  # where, since the last decode
        self._lends = False  # whether the next `keep` is for a request that begins

    def decode(self, spans: Sequence[Span]) -> Outcome:
        """See `Decoder`."""
        self._play.happens()
        luck = self._chance.random()
        if luck < 0.03:
            self._hold(spans[: self._chance.randint(0, len(spans))])
        if luck < 0.002:
            for sequence in self._held:
                self._spoil(sequence, 0)
            raise ArithmeticError("caprice")
        if luck < 0.03:
            outcome = self._chance.choice((Outcome.FAILED, Outcome.NO_MEMORY))
        else:
            outcome = super().decode(spans)
        if outcome is not Outcome.DONE:  # in the midst of moving up what stood behind a gap
            for sequence, start in self._dropped.items():
                self._spoil(sequence, start)
        self._dropped.clear()
        return outcome

    def _spoil(self, sequence: int, start: int) -> None:
        held = self._held[sequence]
        held[start:] = [88] * len(held[start:])

    def _hold(self, spans: Sequence[Span]) -> None:
        for span in spans:
            self._pure[span.sequence] += len(span.tokens) * (self._pure[span.sequence] == span.start)
        super()._hold(spans)

    def keep(self, sequence: int, length: int) -> bool:
        """See `Decoder`."""
        assert not self._lends or length <= self._pure[sequence], "what is lent is as it would be alone"
        self._lends = False
        whole = super().keep(sequence, length)
        self._pure[sequence] = min(self._pure[sequence], len(self._held[sequence]))
        return whole

    def drop(self, sequence: int, start: int, count: int) -> None:
        """See `Decoder`."""
        super().drop(sequence, start, count)
        self._pure[sequence] = min(self._pure[sequence], start)
        self._dropped[sequence] = start

    def copy(self, source: int, target: int) -> None:
        """See `Decoder`."""
        super().copy(source, target)
        self._pure[target], self._lends = self._pure[source], True

    def save(self, sequence: int) -> State | None:
        """See `Decoder`."""
        state = super().save(sequence)
        if state is None or self._chance.random() < 0.2:
            return None
        return bytearray(array("i", [self._pure[sequence]]).tobytes()) + state

    def restore(self, sequence: int, state: State) -> bool:
        """See `Decoder`."""
        self._pure[sequence] = array("i", bytes(state[:4]))[0]
        self._lends = True
        super().restore(sequence, state[4:])
        if fails := self._chance.random() < 0.2:
            self._spoil(sequence, 0)
        return not fails

    def sampler(self, sampling: Sampling, history: Sequence[int]) -> Sampler:
        """See `Decoder`."""
        self._lends = True  # a request is about to sit down
        return super().sampler(sampling, history)


@dataclass
class Play:
    """A schedule that a seed decides: nothing depends on when a thread runs."""

    chance: random.Random
    coming: list[Wish]
    scheduler: Scheduler | None = None
    alive: list[Wish] = field(default_factory=list)
    over: "Queue[None]" = field(default_factory=Queue)

    def happens(self) -> None:
        """Perhaps a request comes, perhaps one is cancelled. On the decode thread, like all else here."""
        while self.coming and self.chance.random() < 0.4:
            self.enter()
        if self.alive and self.chance.random() < 0.04:
            cancel = self.chance.choice(self.alive).cancel
            if cancel is not None:
                cancel()

    def enter(self) -> None:
        """The next request comes."""
        assert self.scheduler is not None
        wish = self.coming.pop()
        task = Task(wish.prompt, max_tokens=wish.max_tokens, overflow=wish.overflow)
        self.alive.append(wish)
        wish.cancel = self.scheduler.submit(
            Generation(task, lambda item: self.note(wish, item), wish.context_length)
        )

    def note(self, wish: Wish, item: Event | QwenctlError) -> None:
        """An event of a request."""
        assert wish.end is None, "nothing follows the last event"
        if isinstance(item, TextDelta):
            wish.text += item.text
        elif isinstance(item, Finished | QwenctlError):
            wish.end = item
            self.alive.remove(wish)
            if not self.alive:
                self.enter() if self.coming else self.over.put(None)


def wishes(chance: random.Random, rewinds: bool) -> list[Wish]:
    """Requests that have much in common, some of them too long."""
    made = []
    context_length = chance.choice((40, 150, 900, 900))
    for _ in range(chance.randint(2, 14)):
        family = chance.choice(FAMILIES)
        prompt = [
            *family[: chance.choice((0, 30, 100, 400, 600, 700))],
            *(chance.randint(1, 9) for _ in range(chance.randint(1, 80))),
        ]
        if chance.random() < 0.1:
            prompt.insert(chance.randrange(len(prompt)), POISON)
        overflow: Overflow = chance.choice(("truncate", "shift")) if rewinds else "truncate"
        made.append(Wish(prompt, chance.randint(1, 40), context_length, overflow))
    return made


def play(seed: int) -> None:
    """One schedule, and what must hold of it."""
    chance = random.Random(seed)
    rewinds = chance.random() < 0.85
    slots = chance.randint(1, 5)
    all_wishes = wishes(chance, rewinds)
    stage = Play(chance, [*all_wishes])
    batch = chance.choice((slots, slots + 3, 20, 64, 512))
    decoder = Capricious(chance, stage, batch_tokens=batch, rewinds=rewinds)
    cache = PromptCache(chance.choice((3000, 10_000)), lambda: 1_000_000) if chance.random() < 0.7 else None
    drafter: Drafter = chance.choice((Prophet(chance), Lookup()))
    drafting = Drafting(drafter, chance.randint(1, 8)) if chance.random() < 0.6 else None
    stage.scheduler = scheduler = Scheduler(decoder, slots, cache, drafting)
    stage.enter()
    stage.over.get(timeout=60)
    scheduler.close()
    assert decoder.samplers_open == 0
    for number, wish in enumerate(all_wishes):
        place = f"request {number} of seed {seed}"
        expected = wish.expected()
        if isinstance(wish.end, Finished) and wish.end.reason != "cancelled":
            assert wish.text == expected, place
            assert wish.end.usage.cached_tokens < wish.end.usage.prompt_tokens, place
        else:
            assert expected.startswith(wish.text), place
            assert isinstance(wish.end, Finished | GenerationFailed | MemoryShort), place
            assert "inside" not in str(wish.end) or "caprice" in str(wish.end), f"{place}: {wish.end}"


@pytest.mark.parametrize("start", range(0, 40, 20))
def test_any_schedule_gives_every_request_its_own_answer(start: int) -> None:
    """Shared beginnings, saved states, guesses, shifts, cancels and failures, each seed another mixture."""
    for seed in range(start, start + 20):
        play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 2000, 100))
def test_many_schedules_give_every_request_its_own_answer(start: int) -> None:
    """The same, a thousand times."""
    for seed in range(start, start + 100):
        play(seed)
