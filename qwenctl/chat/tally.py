"""What answers cost, in words. Pure."""

from dataclasses import dataclass, field

from qwenctl.runtime.events import Usage
from qwenctl.units import render_duration


def speed(tokens: int, seconds: float) -> str:
    """Tokens per second; empty where that says nothing."""
    return f"{tokens / seconds:.1f} tokens/s" if tokens > 1 and seconds > 0 else ""


def context_text(used_tokens: int, context_length: int | None) -> str:
    """`context 812 of 8192`."""
    return f"context {used_tokens}" + (f" of {context_length}" if context_length else "")


def usage_rows(usage: Usage) -> list[tuple[str, str]]:
    """One answer in figures."""
    fresh = usage.prompt_tokens - usage.cached_tokens
    prompt = f"{usage.prompt_tokens} tokens, {usage.cached_tokens} of them cached"
    answer = [f"{usage.completion_tokens} tokens", render_duration(usage.completion_seconds)]
    return [
        (
            "Prompt",
            _joined(prompt, render_duration(usage.prompt_seconds), speed(fresh, usage.prompt_seconds)),
        ),
        ("Answer", _joined(*answer, speed(usage.completion_tokens, usage.completion_seconds))),
    ]


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


@dataclass(slots=True)
class Tally:
    """The answers of one conversation."""

    last: Usage | None = None
    answers: int = 0
    completion_tokens: int = 0
    completion_seconds: float = field(default=0.0)

    def count(self, usage: Usage) -> None:
        """One more answer."""
        self.last = usage
        self.answers += 1
        self.completion_tokens += usage.completion_tokens
        self.completion_seconds += usage.completion_seconds

    @property
    def used_tokens(self) -> int:
        """What the conversation took of the context when it was last measured."""
        return self.last.prompt_tokens + self.last.completion_tokens if self.last else 0

    def line(self, context_length: int | None) -> str:
        """The quiet line behind an answer; empty before the first."""
        if self.last is None:
            return ""
        tokens = self.last.completion_tokens
        counted = f"{tokens} {'token' if tokens == 1 else 'tokens'}"
        rate = speed(tokens, self.last.completion_seconds)
        return _joined(counted, rate, context_text(self.used_tokens, context_length))

    def context(self, context_length: int | None) -> str:
        """How full the context is."""
        if self.last is None:
            return "nothing was answered yet" + (
                f"; the context holds {context_length}" if context_length else ""
            )
        share = f", {self.used_tokens * 100 // context_length} %" if context_length else ""
        return f"{context_text(self.used_tokens, context_length)} tokens{share}"

    def rows(self) -> list[tuple[str, str]]:
        """The last answer and all of them, in figures."""
        if self.last is None:
            return []
        answers = f"{self.answers} {'answer' if self.answers == 1 else 'answers'}"
        total = _joined(
            f"{self.completion_tokens} tokens in {answers}",
            speed(self.completion_tokens, self.completion_seconds),
        )
        return [*usage_rows(self.last), ("All", total)]
