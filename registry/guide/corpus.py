"""The training text: random conversations about qwenctl, built from facts.txt and frames.py.

`Conversations(seed).draw()` returns one conversation as OpenAI-style messages with its tools. A question put
like one of heldout.txt, whatever its case, its punctuation and the model it names, is never drawn.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import frames
from grammar import Intent, count, expand, gerund, load_intents
from heldout import held_out_questions, normalised
from rendering import Message, Tool, render
from styles import Styles, Turn, json_answer
from tooling import ToolConversations
from words import Words

INTENTS = load_intents()
BY_NAME = {intent.name: intent for intent in INTENTS}
DOMAIN = [intent for intent in INTENTS if not intent.small_talk]
SMALL_TALK = [intent for intent in INTENTS if intent.small_talk]

TOOL_SHARE = 0.16
"""Share of conversations with tools; they are about three times as long as the others."""
EXTRACTION_SHARE = 0.03
"""Share of turns that ask for the facts of a sentence as JSON."""

_EXIT = re.compile(r"exit\d+$")
_NO_NAME_MEANT = re.compile(r"\b(a|any|some|new|another|models|old|one)\b")


@dataclass(slots=True)
class Topic:
    """What the conversation is about so far: the model named last and the turn before."""

    model: str = ""
    last: Turn | None = None


@dataclass(slots=True)
class Conversations:
    """An endless, seeded source of conversations."""

    seed: int
    rng: random.Random = field(init=False)
    words: Words = field(init=False)
    styles: Styles = field(init=False)
    tools: ToolConversations = field(init=False)
    held_out: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.words = Words(self.rng)
        self.styles = Styles(self.rng, self.words)
        self.tools = ToolConversations(self.rng, self.words)
        self.held_out = frozenset(item.wording for item in held_out_questions())

    def draw(self) -> tuple[list[Message], list[Tool] | None]:
        """Return the next conversation; the last message is always the assistant's."""
        if self.rng.random() < TOOL_SHARE:
            return self.tools.draw(lambda: self.turn(Topic()))
        return self.chat(), None

    # Questions -------------------------------------------------------------------------------------------

    def question(self, intent: Intent) -> str:
        """Return one noisy question for the intent, with {m} where a model is named."""
        while True:
            text = self._plain_question(intent)
            if not intent.small_talk:
                text = self._framed(text)
            text = self.words.noisy(text)
            if text and normalised(text) not in self.held_out:
                return text

    def _plain_question(self, intent: Intent) -> str:
        sources = (
            [("verb", pattern, 2.0) for pattern in intent.verbs]
            + [("noun", pattern, 1.7) for pattern in intent.nouns]
            + [("question", pattern, 1.0) for pattern in intent.questions]
        )
        weights = [min(count(pattern), 60) ** 0.5 * weight for _, pattern, weight in sources]
        kind, pattern, _ = self.rng.choices(sources, weights)[0]
        phrase = expand(pattern, self.rng)
        if kind == "verb":
            return self._verb_question(phrase)
        if kind == "noun":
            return self._fill(self.rng.choice(frames.DEFINITION), phrase)
        return phrase

    def _verb_question(self, phrase: str) -> str:
        if self.rng.random() < 0.12:
            return self._fill(self.rng.choice(frames.GERUND), gerund(phrase))
        return self._fill(self.rng.choice(frames.HOW), phrase)

    def _fill(self, frame: str, phrase: str) -> str:
        return expand(frame.replace("{x}", "\0"), self.rng).replace("\0", phrase)

    def _framed(self, text: str) -> str:
        before, after = self.rng.choice(frames.BEFORE), self.rng.choice(frames.AFTER)
        body, mark = (text[:-1], text[-1]) if text[-1] in "?.!" else (text, "")
        if mark and mark != "?":
            after = ""
        return f"{before}{body}{after}{mark}"

    # Turns -----------------------------------------------------------------------------------------------

    def turn(self, topic: Topic) -> Turn:
        """Return the next question of a conversation with its answer, and note it in the topic."""
        chance = self.rng.random()
        turn = None
        if topic.last is not None and chance < 0.30:
            turn = self._follow_up(topic, topic.last)
        if turn is None:
            turn = self._fresh(topic)
        topic.last = turn
        return turn

    def _fresh(self, topic: Topic) -> Turn:
        chance = self.rng.random()
        if chance < 0.085:
            return self._unknown()
        if chance < 0.17:
            return self._about(topic, self.rng.choice(SMALL_TALK))
        weights = [0.4 if _EXIT.match(intent.name) else 1.0 for intent in DOMAIN]
        return self._about(topic, self.rng.choices(DOMAIN, weights)[0])

    def _about(self, topic: Topic, intent: Intent) -> Turn:
        text = self.question(intent)
        if topic.model and intent.takes_model:
            # "the model" would be ambiguous once one was named: say which, or clearly mean any.
            while "{m}" not in text and not _NO_NAME_MEANT.search(text):
                text = self.question(intent)
        model = frames.NO_MODEL
        if "{m}" in text:
            model = topic.model = self.words.model()
        return self._filled(intent, text, model)

    def _filled(self, intent: Intent, text: str, model: str) -> Turn:
        question, answer, short, more = (
            part.replace("{m}", model) for part in (text, intent.answer, intent.short, intent.more)
        )
        return Turn(question, answer, short, more)

    def _unknown(self) -> Turn:
        chance = self.rng.random()
        if chance < 0.35:
            task = self.rng.choice(frames.UNKNOWN_TASKS)
            if self.rng.random() < 0.35:
                verb = self.rng.choice(
                    ["bake", "fix", "cook", "paint", "wash", "buy", "sell", "draw", "boil", self.words.word()]
                )
                task = (
                    f"{verb} {self.rng.choice(['a', 'the', 'my', 'some', ''])} {self.words.word()}".replace(
                        "  ", " "
                    )
                )
            text = self._verb_question(task)
        elif chance < 0.6:
            text = self.rng.choice(frames.UNKNOWN_QUESTIONS)
        elif chance < 0.85:
            text = expand(self.rng.choice(frames.UNKNOWN_FRAMES), self.rng)
        elif chance < 0.95:
            noun = self.rng.choice(["", "a ", "the "]) + self.words.word()
            text = self._fill(self.rng.choice(frames.DEFINITION), noun)
        else:
            text = " ".join(self.words.word() for _ in range(self.rng.randint(2, 7)))
        text = self.words.noisy(self.rng.choice(frames.BEFORE) + text)
        if normalised(text) in self.held_out:
            return self._unknown()
        return Turn(text, frames.UNKNOWN, "I do not know")

    def _follow_up(self, topic: Topic, last: Turn) -> Turn | None:
        """A turn that makes sense only after the last one; None where nothing fits."""
        chance = self.rng.random()
        if topic.model and chance < 0.45:
            return self._pronoun(topic.model)
        if chance < 0.57:
            return Turn(self._phrase(frames.AGAIN), last.answer, last.short, last.more)
        if chance < 0.80:
            return Turn(self._phrase(frames.MORE), last.more or frames.NOTHING_MORE, last.short)
        if chance < 0.92 and not last.answer.startswith("{"):
            return Turn(self._phrase(frames.AS_JSON), json_answer(("answer",), last), last.short)
        if last.short:
            return Turn(self._phrase(frames.ONLY_COMMAND), last.short, last.short)
        return None

    def _pronoun(self, model: str) -> Turn:
        name, verbs = self.rng.choice(frames.FOLLOW_UPS)
        phrase = expand(f"{verbs} {frames.PRONOUN}", self.rng)
        text = self._fill(self.rng.choice(frames.FOLLOW_UP_FRAMES), phrase)
        return self._filled(BY_NAME[name], self.words.noisy(text), model)

    def _phrase(self, pattern: str) -> str:
        return self.words.noisy(expand(pattern, self.rng))

    # Conversations ---------------------------------------------------------------------------------------

    def chat(self) -> list[Message]:
        """Return a conversation without tools: a system message or none, then one to five turns."""
        system, style = self.styles.system()
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        topic = Topic()
        for _ in range(self.rng.choices([1, 2, 3, 4, 5], [10, 4, 3, 2, 1])[0]):
            if self.rng.random() < EXTRACTION_SHARE:
                turn, topic.last = self.styles.extraction(), None
            else:
                turn = self.turn(topic)
            question, answer = self.styles.styled(turn, style)
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return messages


def texts(seed: int, number: int) -> Iterator[str]:
    """Yield rendered conversations, for reading and for the tokenizer."""
    source = Conversations(seed)
    for _ in range(number):
        messages, tools = source.draw()
        yield render(messages, tools)


if __name__ == "__main__":
    for conversation in texts(seed=1, number=12):
        print(conversation, "-" * 60, sep="\n")
