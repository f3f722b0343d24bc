"""Where in an answer a grammar begins to rule: behind reasoning, or behind a text that it waits for. Pure."""

from collections.abc import Sequence
from typing import Final

from qwenctl.runtime.answers import END_THINK, THINK
from qwenctl.runtime.gbnf import literal, until
from qwenctl.runtime.sampling import Sampling

_START: Final = "qwenctl-answer"
_REASONING: Final = "qwenctl-reasoning"


class TriggerWatch:
    """Waits, piece by piece, for one of `triggers`. In reasoning at the beginning of the answer none counts.

    `reasoning`: whether the answer begins inside of it, because the prompt opened it.
    """

    def __init__(self, triggers: Sequence[str], *, reasoning: bool = False) -> None:
        self._triggers = [trigger.encode() for trigger in triggers]
        self._longest = max(map(len, self._triggers), default=1)
        self._begun, self._inside = reasoning, reasoning
        self._held = b""

    def feed(self, piece: bytes) -> bytes | None:
        """The text behind the first trigger once one has come, else None."""
        self._held += piece
        if not self._begun:
            start = self._held.lstrip()
            if THINK.encode().startswith(start) and len(start) < len(THINK):
                return None
            self._begun, self._inside = True, start.startswith(THINK.encode())
        if self._inside:
            before, ended, after = self._held.partition(END_THINK.encode())
            self._held = after if ended else before[-len(END_THINK) :]
            self._inside = not ended
        if self._inside:
            return None
        found = [(place, text) for text in self._triggers if (place := self._held.find(text)) >= 0]
        if not found:
            self._held = self._held[-self._longest :]
            return None
        place, text = min(found)
        behind, self._held = self._held[place + len(text) :], b""
        return behind


def ruling(sampling: Sampling) -> tuple[str, str]:
    """The grammar that llama.cpp gets, and the name of its first rule."""
    if sampling.grammar_triggers or sampling.grammar_reasoning == "ruled":
        return sampling.grammar, "root"
    return behind_reasoning(sampling.grammar, opened=sampling.grammar_reasoning == "open")


def behind_reasoning(grammar: str, *, opened: bool) -> tuple[str, str]:
    """`grammar` with rules for reasoning before what its rule `root` allows, and the name of the first rule.

    `opened`: the prompt has opened the reasoning, so that the answer begins inside of it.
    """
    rules = [
        (_START, _REASONING if opened else f"root | {literal(THINK)} {_REASONING}"),
        *until(_REASONING, END_THINK, "[ \\n]{0,4} root"),
    ]
    return "\n".join([grammar, *(f"{name} ::= {body}" for name, body in rules)]) + "\n", _START
