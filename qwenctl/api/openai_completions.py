"""OpenAI's completions, streamed (server-sent events) or whole."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwenctl.api.choices import Said, answers
from qwenctl.api.exchange import EventStream, answering, json_response, read_as, unless_disconnected
from qwenctl.api.host import ModelHost, keep_alive_seconds
from qwenctl.api.openai_chat_wire import finish_reason
from qwenctl.api.openai_completions_wire import Completion, CompletionCall, CompletionChoice, Offsets
from qwenctl.api.openai_errors import DONE, failed, refusal, sent
from qwenctl.api.openai_usage import UsageBlock
from qwenctl.runtime.answers import Content
from qwenctl.runtime.events import Finished, TokenLogprob


def routes(host: ModelHost) -> list[Route]:
    """The route of completions."""

    @answering(refusal)
    async def completions(http: Request) -> Response:
        call = await read_as(http, CompletionCall)
        keep_alive = keep_alive_seconds(call.keep_alive)
        asked = call.requests((await host.find(call.model)).sampling)
        steps = await answers(
            http,
            host,
            call.model,
            asked,
            keep_alive_seconds=keep_alive,
            may_call=False,
            split_reasoning=False,
        )
        answer = _Answer(call)
        if call.stream:
            return EventStream(answer.chunks(steps), "text/event-stream", failed)
        return json_response(await unless_disconnected(http, answer.whole(steps)))

    return [Route("/v1/completions", completions, methods=["POST"])]


class _Answer:
    """The answer to one call under construction: its choices, and the values that all of its parts share."""

    def __init__(self, call: CompletionCall) -> None:
        self._call = call
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        prompts = [prompt for prompt in call.prompts for _ in range(call.choices)]
        self._choices = [_Choice(index, call, prompt) for index, prompt in enumerate(prompts)]

    async def whole(self, steps: AsyncGenerator[Said]) -> Completion:
        """The answer in one piece, once it is finished."""
        async with aclosing(steps):
            async for said in steps:
                self._choices[said.index].add(said)
        return self._completion(*(choice.whole() for choice in self._choices), usage=self._usage())

    async def chunks(self, steps: AsyncGenerator[Said]) -> AsyncGenerator[bytes]:
        """The answer as server-sent events."""
        async with aclosing(steps):
            for choice in self._choices if self._call.echo else ():
                yield sent(self._completion(choice.echo()))
            async for said in steps:
                yield sent(self._completion(self._choices[said.index].add(said)))
            if self._call.wants_usage:
                yield sent(self._completion(usage=self._usage()))
            yield DONE

    def _usage(self) -> UsageBlock:
        usages = [choice.finished.usage for choice in self._choices if choice.finished]
        return UsageBlock.of(usages[:: self._call.choices], usages)

    def _completion(
        self, *choices: CompletionChoice, usage: UsageBlock | msgspec.UnsetType = msgspec.UNSET
    ) -> Completion:
        return Completion(
            id=self._id, created=self._created, model=self._call.model, choices=choices, usage=usage
        )


class _Choice:
    """One choice: its text so far."""

    def __init__(self, index: int, call: CompletionCall, prompt: str) -> None:
        self.finished: Finished | None = None
        self._index = index
        self._prompt = prompt
        self._with_logprobs = call.logprobs is not None
        self._text = [prompt] if call.echo else []
        self._logprobs: list[TokenLogprob] = []
        self._offsets = Offsets()

    def echo(self) -> CompletionChoice:
        """The prompt as the beginning of a stream."""
        return CompletionChoice(text=self._prompt, index=self._index)

    def add(self, said: Said) -> CompletionChoice:
        """Takes the next step; what a stream says about it."""
        self._logprobs += said.logprobs
        logprobs = self._offsets.rated(said.logprobs) if said.logprobs else None
        text, reason = "", None
        if isinstance(said.part, Finished):
            self.finished = said.part
            reason = finish_reason(said.part.reason)
        elif isinstance(said.part, Content):
            text = said.part.text
            self._text.append(text)
        return CompletionChoice(text=text, index=self._index, logprobs=logprobs, finish_reason=reason)

    def whole(self) -> CompletionChoice:
        """The choice when it is finished."""
        assert self.finished is not None, "an engine ends with Finished or an error"
        return CompletionChoice(
            text="".join(self._text),
            index=self._index,
            logprobs=Offsets().rated(self._logprobs) if self._with_logprobs else None,
            finish_reason=finish_reason(self.finished.reason),
        )
