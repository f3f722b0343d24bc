"""What an answer cost, in OpenAI's words. Pure."""

from collections.abc import Iterable

import msgspec

from qwenctl.runtime.events import Usage


class PromptDetails(msgspec.Struct, frozen=True):
    """Of the prompt's tokens, those that were in the KV cache already."""

    cached_tokens: int


class AnswerDetails(msgspec.Struct, frozen=True):
    """Of the answers' tokens, those of reasoning."""

    reasoning_tokens: int


class UsageBlock(msgspec.Struct, frozen=True):
    """The token counts of one call."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: AnswerDetails

    @classmethod
    def of(
        cls, prompts: Iterable[Usage], answers: Iterable[Usage], reasoning_tokens: int = 0
    ) -> "UsageBlock":
        """The counts of `prompts` and of all `answers`: a prompt with several answers counts once."""
        asked = list(prompts)
        prompt = sum(one.prompt_tokens for one in asked)
        answer = sum(one.completion_tokens for one in answers)
        cached = PromptDetails(sum(one.cached_tokens for one in asked))
        return cls(prompt, answer, prompt + answer, cached, AnswerDetails(reasoning_tokens))
