"""How an answer is wanted: plain, short or as JSON, by the system message or by words beside the question."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

import frames
from grammar import expand
from words import Words

KEYS = ["answer", "text", "reply", "response", "result", "message", "output"]
KEY_PAIRS = [("command", "answer"), ("command", "explanation"), ("answer", "command"), ("command", "text")]


@dataclass(frozen=True, slots=True)
class Turn:
    """One question with its full answer, its short answer, and what to add when asked for more."""

    question: str
    answer: str
    short: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Style:
    """How the system message asks for answers: plain, short, or JSON with these keys."""

    short: bool = False
    keys: tuple[str, ...] = ()


def json_answer(keys: tuple[str, ...], turn: Turn) -> str:
    """The JSON form of an answer: a key named `command` holds the short answer, any other the full one."""
    values = {key: turn.short if key == "command" else turn.answer for key in keys}
    return json.dumps(values, ensure_ascii=False)


@dataclass(slots=True)
class Styles:
    """Draws system messages, and requests for another form of one answer."""

    rng: random.Random
    words: Words

    def system(self) -> tuple[str, Style]:
        """A system message, or an empty one, with the style that it asks for."""
        chance = self.rng.random()
        if chance < 0.60:
            return "", Style()
        if chance < 0.82:
            return self._text(frames.SYSTEM_PLAIN), Style()
        if chance < 0.88:
            return self._text(frames.SYSTEM_SHORT), Style(short=True)
        lead = self.rng.choice(["", "", "You are a helpful assistant. "])
        if chance < 0.95:
            return lead + self._text(frames.SYSTEM_JSON), Style(keys=("answer",))
        keys = self._keys()
        return lead + self._key_request(keys), Style(keys=keys)

    def styled(self, turn: Turn, style: Style) -> tuple[str, str]:
        """The question and answer as the style, or a request in the question itself, wants them."""
        chance = self.rng.random()
        if turn.answer.startswith("{"):
            return turn.question, turn.answer
        if style.keys:
            return turn.question, json_answer(style.keys, turn)
        if style.short:
            return turn.question, turn.short
        if chance < 0.035:
            return self._beside(turn.question, self._text(frames.ASK_JSON)), json_answer(("answer",), turn)
        if chance < 0.07:
            keys = self._keys()
            return self._beside(turn.question, self._key_request(keys)), json_answer(keys, turn)
        if chance < 0.10:
            return self._beside(turn.question, self._text(frames.ASK_SHORT)), turn.short
        return turn.question, turn.answer

    def extraction(self) -> Turn:
        """Facts of one sentence asked for as JSON."""
        name, age, city = self.words.name(), self.rng.randint(2, 99), self.words.city()
        kinds: list[tuple[str, dict[str, str | int]]] = [
            (f"{name} is {age} years old and lives in {city}.", {"name": name, "age": age, "city": city}),
            (f"{name} lives in {city}.", {"name": name, "city": city}),
            (f"{name} is {age} years old.", {"name": name, "age": age}),
            (f"{name}, {age}, {city}", {"name": name, "age": age, "city": city}),
        ]
        sentence, values = self.rng.choice(kinds)
        wanted = self.rng.sample(list(values), 2) if self.rng.random() < 0.3 else list(values)
        listed = f"{', '.join(wanted[:-1])} and {wanted[-1]}"
        question = self.rng.choice(
            [
                f"Extract {listed} as JSON: {sentence}",
                f"{sentence} Extract {listed} as JSON.",
                f"Return JSON with {listed}. Text: {sentence}",
                f"Give me {listed} as JSON from this text: {sentence}",
            ]
        )
        answer = json.dumps({key: values[key] for key in wanted}, ensure_ascii=False)
        return Turn(question, answer, answer)

    def _text(self, patterns: list[str]) -> str:
        return expand(self.rng.choice(patterns), self.rng)

    def _beside(self, question: str, request: str) -> str:
        """The request behind or before the question, both ending like sentences."""
        gap = self.rng.choice([" ", " ", "\n"])
        if question[-1] not in "?.!":
            question += self.rng.choice(["?", ".", "?"])
        if self.rng.random() < 0.6:
            return f"{question}{gap}{request}"
        return f"{request.removesuffix('.')}.{gap}{question}"

    def _keys(self) -> tuple[str, ...]:
        chance = self.rng.random()
        if chance < 0.4:
            return ("command",)
        if chance < 0.7:
            return self.rng.choice(KEY_PAIRS)
        return (self.rng.choice([*KEYS, self.words.word()]),)

    def _key_request(self, keys: tuple[str, ...]) -> str:
        quote = self.rng.choice(['"', '"', ""])
        listed = " and ".join(f"{quote}{key}{quote}" for key in keys)
        kind = self.rng.choice(["key", "key", "field"]) + ("s" if len(keys) > 1 else "")
        return self._text(frames.ASK_KEYS).replace("{keys}", f"{kind} {listed}")
