"""The share of held-out questions and conversations that the guide answers rightly, through llama.cpp.

Greedy decoding. An answer is right when it equals the canonical answer of the question's intent, with the
model that the question names (or MODEL where it names none); a case of cases.py says itself what is right.
The exit status is 1 where less than 90 % of the held-out questions, or of everything together, are right.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import frames
import llama_cpp
from cases import GROUPS, Case
from grammar import load_intents
from heldout import AFTERWARDS_PATH, HELDOUT_PATH, HeldOut, held_out_questions
from rendering import Message, Tool, render

BAR = 0.90
MAX_TOKENS = 160


@dataclass(slots=True)
class Score:
    """How many answers of a group were right, and those that were not."""

    right: int = 0
    total: int = 0
    wrong: list[tuple[str, str, str]] = field(default_factory=list)

    def count(self, question: str, wanted: str, answer: str, right: bool) -> None:
        """Add one answer."""
        self.total += 1
        self.right += right
        if not right:
            self.wrong.append((question, wanted, answer))

    @property
    def share(self) -> float:
        """Right answers per question."""
        return self.right / max(1, self.total)


class GreedyModel:
    """A GGUF file in llama.cpp, always choosing the likeliest token."""

    def __init__(self, path: Path) -> None:
        self.llama = llama_cpp.Llama(str(path), n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False)
        self.tokens = 0
        self.seconds = 0.0

    def answer(self, messages: list[Message], tools: list[Tool] | None = None) -> str:
        """The answer without its end mark; an answer that does not end says so."""
        prompt = self.llama.tokenize(
            render(messages, tools, generate=True).encode(), add_bos=False, special=True
        )
        end = self.llama.token_eos()
        started = time.monotonic()
        said: list[int] = []
        self.llama.reset()
        for token in self.llama.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0):
            if token == end or len(said) == MAX_TOKENS:
                break
            said.append(token)
        self.tokens += len(said)
        self.seconds += time.monotonic() - started
        text: str = self.llama.detokenize(said, special=True).decode(errors="replace")
        return text if len(said) < MAX_TOKENS else text + " [no end]"


def wanted_answers(item: HeldOut, answers: dict[str, str]) -> list[str]:
    """The canonical answers that are right for a held-out question."""
    model = item.model or frames.NO_MODEL
    return [answers[intent].replace("{m}", model) for intent in item.intents]


def held_out_score(model: GreedyModel, split: str) -> Score:
    """Ask every question of a split."""
    answers = {intent.name: intent.answer for intent in load_intents()} | {"ood": frames.UNKNOWN}
    score = Score()
    path = AFTERWARDS_PATH if split == "after" else HELDOUT_PATH
    for item in held_out_questions(path):
        if item.split == split:
            wanted = wanted_answers(item, answers)
            answer = model.answer([{"role": "user", "content": item.question}])
            score.count(item.question, wanted[0], answer, answer in wanted)
    return score


def case_score(model: GreedyModel, cases: list[Case]) -> Score:
    """Run a group of conversations."""
    score = Score()
    for case in cases:
        answer = model.answer(case.messages, case.tools)
        score.count(str(case.messages[-1]["content"]), case.wanted, answer, case.accepts(answer))
    return score


def evaluate(path: Path, *, split: str = "test", verbose: bool = False) -> bool:
    """Print the scores of one file; return whether it reaches the bar."""
    model = GreedyModel(path)
    scores = {f"held-out {split}": held_out_score(model, split)}
    scores |= {name: case_score(model, cases) for name, cases in GROUPS.items()}
    for name, score in scores.items():
        print(f"{path.name}: {name}: {score.right} of {score.total} = {score.share:.1%}")
        if verbose:
            for question, wanted, answer in score.wrong:
                print(f"    {question!r}\n        wanted {wanted!r}\n        got    {answer!r}")
    right, total = (sum(getattr(score, name) for score in scores.values()) for name in ("right", "total"))
    print(f"{path.name}: everything: {right} of {total} = {right / total:.1%}")
    print(f"{path.name}: {model.tokens / model.seconds:.0f} tokens/s on one thread, prompts included")
    return scores[f"held-out {split}"].share >= BAR and right / total >= BAR


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--split", choices=["dev", "test", "after"], default="test")
    parser.add_argument("--verbose", action="store_true", help="print the wrong answers")
    arguments = parser.parse_args()
    results = [evaluate(path, split=arguments.split, verbose=arguments.verbose) for path in arguments.models]
    sys.exit(0 if all(results) else 1)
