"""The held-out questions: what the model must answer and never sees in training."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HELDOUT_PATH = Path(__file__).parent / "heldout.txt"
AFTERWARDS_PATH = Path(__file__).parent / "afterwards.txt"

_NOT_WORDS = re.compile(r"[^\w:@/.-]+")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One question with the intents that answer it rightly and the model it names, if any."""

    split: str
    intents: tuple[str, ...]
    model: str
    question: str

    @property
    def wording(self) -> str:
        """The question without case, punctuation and spacing, {m} standing for the model it names."""
        return normalised(self.question.replace(self.model, "{m}") if self.model else self.question)


def normalised(question: str) -> str:
    """The words of a question without case, punctuation and spacing: equal for the same wording."""
    return _NOT_WORDS.sub(" ", question.lower()).strip(" .")


@cache
def held_out_questions(path: Path = HELDOUT_PATH) -> tuple[HeldOut, ...]:
    """Return all held-out questions, in the order of the file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(_parse(line) for line in lines if line and not line.startswith("#"))


def _parse(line: str) -> HeldOut:
    split, intents, model, question = line.split("|", 3)
    return HeldOut(split, tuple(intents.split(",")), model, question)
