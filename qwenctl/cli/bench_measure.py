"""The measuring itself: rounds of requests to a runner, all of a round at once, a thread for each."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qwenctl.errors import PromptTooLong, QwenctlError, TimedOut
from qwenctl.flows.bench import Case, Prompts, Sample
from qwenctl.runtime.engine import ChatRequest, LoadedModel, Message
from qwenctl.runtime.events import Finished, PromptProcessed, TextDelta, Usage
from qwenctl.runtime.sampling import Sampling

if TYPE_CHECKING:
    from qwenctl.runner.client import RunnerClient
    from qwenctl.runner.messages import LoadedStatus, LoadOptions

_FEW_WORDS: Final = 8
_MANY_WORDS: Final = 72
_NEVER: Final = -1e9  # added to the logit of a token that would end an answer before its length
_SLACK_TOKENS: Final = 64  # prompts are only about as long as they should be
_POLL_SECONDS: Final = 0.2
ROUNDS_LIMIT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: every case for `rounds`, or for `duration_seconds` where that is given.

    A request that takes longer than `timeout_seconds` fails the measurement.
    """

    cases: tuple[Case, ...]
    generate_tokens: int
    rounds: int
    duration_seconds: float | None
    timeout_seconds: float

    @property
    def context_tokens(self) -> int:
        """What the context of a request must hold, about."""
        return max(case.prompt_tokens for case in self.cases) + self.generate_tokens + _SLACK_TOKENS

    @property
    def slots(self) -> int:
        """Requests that must run side by side."""
        return max(case.concurrency for case in self.cases)


def load_for(runner: "RunnerClient", name: str, plan: Plan, options: "LoadOptions") -> "LoadedStatus":
    """The model, loaded with room for the plan; as it is where that suffices.

    Raises: what `RunnerClient.load` raises; PromptTooLong when the model has not the context.
    """
    from msgspec.structs import replace

    status = runner.load(name, options)
    slots, context = _room(status)
    if slots < plan.slots or context < plan.context_tokens:
        wanted = replace(
            options,
            slots=max(slots, plan.slots),
            context_length=options.context_length or max(context, plan.context_tokens),
        )
        status = runner.load(name, wanted)
        slots, context = _room(status)
    if context < plan.context_tokens:
        raise PromptTooLong(
            f"prompt and answer need about {plan.context_tokens} tokens, the context holds {context}",
            hint="give a larger `--context`, or shorter `--prompt-tokens`",
        )
    return status


def _room(status: "LoadedStatus") -> tuple[int, int]:
    """Slots of a loaded model, and tokens of each."""
    return (status.model.slots, status.model.context_length) if status.model else (0, 0)


class Meter:
    """Sends requests to a loaded model and takes the time. Not for several threads."""

    def __init__(self, runner: "RunnerClient", model: "LoadedStatus", prompts: Prompts, plan: Plan) -> None:
        self._runner, self._name, self._prompts, self._plan = runner, model.name, prompts, plan
        self._sampling = Sampling(temperature=0.0, logit_bias=_endless(model.model))

    def warm_up(self) -> None:
        """Requests that are not counted: how many tokens a word has, and what the first one pays for."""
        few = self._tokens_of(_FEW_WORDS)
        longest = max(case.prompt_tokens for case in self._plan.cases)
        words = min(_MANY_WORDS, _FEW_WORDS * longest // few)  # no longer than what the context has room for
        if words > _FEW_WORDS:
            self._prompts.learn((_FEW_WORDS, few), (words, self._tokens_of(words)))
        else:  # there is no telling words and template apart; the prompts get no longer than wished
            self._prompts.learn((0, 0), (_FEW_WORDS, few))

    def _tokens_of(self, words: int) -> int:
        call = _Call(self._runner, self._name, self._request(self._prompts.of_words(words), 1))
        return self._together([call])[0].usage.prompt_tokens

    def measure(self, case: Case) -> Iterator[list[Sample]]:
        """The samples of the case, round by round. Raises: EngineError, RemoteError; KeyboardInterrupt."""
        began = time.monotonic()
        for number in range(1, ROUNDS_LIMIT + 1):
            texts = [self._prompts.of_tokens(case.prompt_tokens) for _ in range(case.concurrency)]
            calls = [
                _Call(self._runner, self._name, self._request(text, self._plan.generate_tokens))
                for text in texts
            ]
            yield [answer.sample(case, number) for answer in self._together(calls)]
            limit = self._plan.duration_seconds
            if number >= self._plan.rounds if limit is None else time.monotonic() - began >= limit:
                return

    def _request(self, text: str, max_tokens: int) -> ChatRequest:
        messages = (Message("user", text),)
        return ChatRequest(messages=messages, sampling=self._sampling, max_tokens=max_tokens)

    def _together(self, calls: "list[_Call]") -> "list[_Answer]":
        """All answers, sent at the same moment. What is interrupted, or fails, stops the others too."""
        start = threading.Barrier(len(calls))
        threads = [threading.Thread(target=call.run, args=(start,), daemon=True) for call in calls]
        deadline = time.monotonic() + self._plan.timeout_seconds
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_POLL_SECONDS)  # in pieces: a Ctrl-C is heard between them
                    if time.monotonic() > deadline:
                        raise TimedOut("a request took longer than it may", hint="give a longer `--timeout`")
            return [call.result() for call in calls]
        finally:
            start.abort()
            for call in calls:
                call.stop()


@dataclass(frozen=True, slots=True)
class _Answer:
    """A request that was answered: when its first token came, and its last, from the common start."""

    first_token_seconds: float
    seconds: float
    usage: Usage

    def sample(self, case: Case, number: int) -> Sample:
        return Sample(
            concurrency=case.concurrency,
            requested_prompt_tokens=case.prompt_tokens,
            round=number,
            prompt_tokens=self.usage.prompt_tokens,
            cached_tokens=self.usage.cached_tokens,
            completion_tokens=self.usage.completion_tokens,
            first_token_seconds=self.first_token_seconds,
            seconds=self.seconds,
            prompt_seconds=self.usage.prompt_seconds,
            completion_seconds=self.usage.completion_seconds,
        )


class _Call:
    """One request on a thread of its own."""

    def __init__(self, runner: "RunnerClient", name: str, request: ChatRequest) -> None:
        self._runner, self._name, self._request = runner, name, request
        self._answer: _Answer | None = None
        self._error: BaseException | None = None
        self._stopped = False

    def run(self, start: threading.Barrier) -> None:
        """The thread: wait for the others, ask, listen to the end."""
        try:
            start.wait()
            self._answer = self._ask(time.perf_counter)
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to who waits
            self._error = error

    def _ask(self, clock: Callable[[], float]) -> _Answer | None:
        began = clock()
        first: float | None = None
        with closing(self._runner.chat(self._name, self._request)) as events:  # type: ignore[type-var]
            for event in events:
                match event:
                    case PromptProcessed() | TextDelta() if first is None:
                        first = clock() - began
                    case Finished(_, usage):
                        whole = clock() - began
                        return _Answer(whole if first is None else first, whole, usage)
                if self._stopped:
                    return None
        return None

    def result(self) -> _Answer:
        """What came of it, once the thread has ended. Raises: what the request raised."""
        if self._error is not None:
            raise self._error
        if self._answer is None:
            raise QwenctlError("a request ended without an answer")
        return self._answer

    def stop(self) -> None:
        """The answer is not wanted any more; without effect on one that came."""
        self._stopped = True


def _endless(model: LoadedModel | None) -> tuple[tuple[int, float], ...]:
    """A bias against the tokens that end an answer, so that all answers have the length that was wished."""
    ends = (model.end_of_sequence, model.end_of_turn) if model else ()
    return tuple({token.id: (token.id, _NEVER) for token in ends if token is not None}.values())
