"""OpenAI's chat completions, streamed (server-sent events) or whole."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwenctl.api.choices import Said, answers
from qwenctl.api.exchange import EventStream, answering, json_response, read_as, unless_disconnected
from qwenctl.api.host import ModelHost, keep_alive_seconds
from qwenctl.api.openai_chat_wire import (
    AnswerMessage,
    AnswerToolCall,
    CalledFunction,
    ChatCompletion,
    ChatCompletionCall,
    Choice,
    Chunk,
    ChunkChoice,
    Delta,
    Logprobs,
    finish_reason,
)
from qwenctl.api.openai_errors import DONE, failed, refusal, sent
from qwenctl.api.openai_forms import likelihoods
from qwenctl.api.openai_usage import UsageBlock
from qwenctl.api.sampling_wire import seeded
from qwenctl.runtime.answers import Call, Content, Part, Reasoning
from qwenctl.runtime.events import Finished, TokenLogprob

EVENTS: Final = "text/event-stream"


def routes(host: ModelHost) -> list[Route]:
    """The route of chat completions."""

    @answering(refusal)
    async def chat_completions(http: Request) -> Response:
        call = await read_as(http, ChatCompletionCall)
        keep_alive = keep_alive_seconds(call.keep_alive)
        asked = seeded(call.request((await host.find(call.model)).sampling), call.choices)
        steps = await answers(
            http,
            host,
            call.model,
            asked,
            keep_alive_seconds=keep_alive,
            may_call=call.may_call,
            split_reasoning=call.splits_reasoning,
            one_call=call.parallel_tool_calls is False,
        )
        answer = _Answer(call)
        if call.stream:
            return EventStream(answer.chunks(steps), EVENTS, failed)
        return json_response(await unless_disconnected(http, answer.whole(steps)))

    return [Route("/v1/chat/completions", chat_completions, methods=["POST"])]


class _Answer:
    """The answer to one call under construction: its choices, and the values that all of its parts share."""

    def __init__(self, call: ChatCompletionCall) -> None:
        self._call = call
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._choices = [_Choice(index, bool(call.logprobs)) for index in range(call.choices)]

    async def whole(self, steps: AsyncGenerator[Said]) -> ChatCompletion:
        """The answer in one piece, once it is finished."""
        async with aclosing(steps):
            async for said in steps:
                self._choices[said.index].add(said)
        return ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._call.model,
            choices=tuple(choice.whole() for choice in self._choices),
            usage=self._usage(),
        )

    async def chunks(self, steps: AsyncGenerator[Said]) -> AsyncGenerator[bytes]:
        """The answer as server-sent events."""
        async with aclosing(steps):
            for choice in self._choices:
                yield self._chunk(ChunkChoice(Delta(role="assistant", content=""), index=choice.index))
            async for said in steps:
                yield self._chunk(self._choices[said.index].add(said))
            if self._call.wants_usage:
                yield self._chunk(usage=self._usage())
            yield DONE

    def _usage(self) -> UsageBlock:
        usages = [choice.finished.usage for choice in self._choices if choice.finished]
        return UsageBlock.of(usages[:1], usages, sum(choice.reasoning_tokens for choice in self._choices))

    def _chunk(self, *choices: ChunkChoice, usage: UsageBlock | msgspec.UnsetType = msgspec.UNSET) -> bytes:
        return sent(
            Chunk(id=self._id, created=self._created, model=self._call.model, choices=choices, usage=usage)
        )


class _Choice:
    """One choice: what it consists of so far."""

    def __init__(self, index: int, with_logprobs: bool) -> None:
        self.index = index
        self.finished: Finished | None = None
        self.reasoning_tokens = 0
        self._with_logprobs = with_logprobs
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[AnswerToolCall] = []
        self._logprobs: list[TokenLogprob] = []

    def add(self, said: Said) -> ChunkChoice:
        """Takes the next step; what a stream says about it."""
        self._logprobs += said.logprobs
        logprobs = Logprobs(likelihoods(said.logprobs)) if said.logprobs else None
        if isinstance(said.part, Finished):
            self.finished = said.part
            return ChunkChoice(Delta(), self._reason(said.part), self.index, logprobs)
        if isinstance(said.part, Reasoning):
            self.reasoning_tokens += said.tokens
        return ChunkChoice(self._delta(said.part), None, self.index, logprobs)

    def whole(self) -> Choice:
        """The choice when it is finished."""
        assert self.finished is not None, "an engine ends with Finished or an error"
        text = "".join(self._text)
        message = AnswerMessage(
            text or None if self._calls else text,
            reasoning_content="".join(self._thoughts) or msgspec.UNSET,
            tool_calls=tuple(self._calls) or msgspec.UNSET,
        )
        logprobs = Logprobs(likelihoods(self._logprobs)) if self._with_logprobs else None
        return Choice(message, self._reason(self.finished), self.index, logprobs)

    def _reason(self, end: Finished) -> str:
        return finish_reason(end.reason, bool(self._calls))

    def _delta(self, part: Part) -> Delta:
        match part:
            case Content(text):
                self._text.append(text)
                return Delta(content=text)
            case Reasoning(text):
                self._thoughts.append(text)
                return Delta(reasoning_content=text)
            case Call(name, arguments):
                call = AnswerToolCall(
                    id=f"call_{secrets.token_hex(12)}", function=CalledFunction(name, arguments)
                )
                self._calls.append(call)
                numbered = msgspec.structs.replace(call, index=len(self._calls) - 1)
                return Delta(tool_calls=(numbered,))
