"""Random words, names, cities and model names, and the noise of fast typing."""

from __future__ import annotations

import random
from dataclasses import dataclass

import frames


@dataclass(slots=True)
class Words:
    """Draws from the word lists with one shared random source."""

    rng: random.Random

    def word(self) -> str:
        """An English word, an invented one or just letters: copying must work for words never seen."""
        rng = self.rng
        chance = rng.random()
        if chance < 0.25:
            return rng.choice(frames.WORDS)
        if chance < 0.5:
            return rng.choice(frames.ENGLISH)
        if chance < 0.6:
            return "".join(rng.choices(frames.LETTERS, k=rng.randint(2, 7)))
        return "".join(
            rng.choice(frames.ONSETS) + rng.choice(frames.VOWELS) + rng.choice(frames.ENDINGS)
            for _ in range(rng.randint(1, 3))
        )

    def phrase(self) -> str:
        """One to four words."""
        return " ".join(self.word() for _ in range(self.rng.choices([1, 2, 3, 4], [3, 3, 2, 1])[0]))

    def name(self) -> str:
        """A person's name, sometimes invented."""
        return self.rng.choice(frames.NAMES) if self.rng.random() < 0.6 else self._invented_name()

    def city(self) -> str:
        """A city's name, sometimes of two words, sometimes invented."""
        chance = self.rng.random()
        if chance < 0.6:
            return self.rng.choice(frames.CITIES)
        return self.rng.choice(frames.LONG_CITIES) if chance < 0.7 else self._invented_name()

    def _invented_name(self) -> str:
        """One or two invented words put together, with a capital letter."""
        return "".join(self.word() for _ in range(self.rng.choice([1, 1, 2]))).capitalize()

    def model(self) -> str:
        """A model reference: real families and tags, invented names, other registries."""
        rng = self.rng
        chance = rng.random()
        size, quantization = rng.choice(frames.SIZES), rng.choice(frames.QUANTIZATIONS)
        if rng.random() < 0.3:
            size = size.lower()
        if rng.random() < 0.2:
            quantization = quantization.lower()
        family = rng.choice(frames.FAMILIES)
        if chance < 0.22:
            return f"{family}:{size}"
        if chance < 0.46:
            return f"{family}:{size}-{rng.choice(['', '', '', 'instruct-'])}{quantization}"
        if chance < 0.60:
            return family
        if chance < 0.66:
            return f"{family}:{rng.choice(['latest', quantization, self.word()])}"
        if chance < 0.76:
            host = rng.choice(
                [
                    "localhost:5000",
                    "registry.example.com",
                    f"{self.word()}.{self.word()}.com",
                    f"localhost:{rng.randint(1024, 9999)}",
                    "ghcr.io",
                ]
            )
            return f"{host}/{self.word()}/{self.word()}" + rng.choice(
                ["", ":latest", f":v{rng.randint(1, 9)}"]
            )
        if chance < 0.82:
            return f"{rng.choice([self.word(), 'ai', 'me'])}/{self.word()}" + rng.choice(
                ["", f":{size}", f"-{rng.randint(1, 70)}B"]
            )
        base = rng.choice(["-", "", "_"]).join(self.word() for _ in range(rng.randint(1, 2)))
        return base + rng.choice(
            [
                "",
                "",
                f":{rng.randint(1, 70)}b",
                ":latest",
                f":{rng.randint(1, 70)}B-{quantization}",
                f"{rng.randint(1, 9)}",
                f"-{rng.choice(['r', 'v'])}{rng.randint(1, 9)}:{rng.randint(1, 70)}b",
                f":{self.word()}",
            ]
        )

    def noisy(self, text: str) -> str:
        """The text as people type it: case, end mark, missing small words, slips of the finger.

        A slot such as {m} is left alone.
        """
        rng = self.rng
        if rng.random() < 0.25:
            text = text[:1].lower() + text[1:]
        if rng.random() < 0.15:
            text = text.lower()
        elif rng.random() < 0.3:
            text = text[:1].upper() + text[1:]
        if rng.random() < 0.3:
            text = text.rstrip("?.! ")
        elif text and text[-1] not in "?.!" and rng.random() < 0.6:
            text += rng.choice([".", "?", "?", "!"])
        if rng.random() < 0.14:
            text = self._without_small_word(text)
        if rng.random() < 0.07:
            text = self._with_slip(text)
        if rng.random() < 0.05:
            parts = text.split(" ")
            parts.insert(rng.randint(0, len(parts)), self.word())
            text = " ".join(parts)
        if rng.random() < 0.05:
            text = self._with_strange_word(text)
        return text

    def _with_strange_word(self, text: str) -> str:
        """One word of a longer text replaced: no single word may decide."""
        parts = text.split(" ")
        plain = [place for place, part in enumerate(parts) if "{" not in part]
        if len(parts) >= 7 and plain:
            parts[self.rng.choice(plain)] = self.word()
        return " ".join(parts)

    def _without_small_word(self, text: str) -> str:
        parts = text.split(" ")
        small = [place for place, part in enumerate(parts) if part.lower() in frames.DROPPABLE]
        if small and len(parts) > 3:
            parts.pop(self.rng.choice(small))
        return " ".join(parts)

    def _with_slip(self, text: str) -> str:
        """Swap, drop or double one letter of one longer word."""
        parts = text.split(" ")
        long = [place for place, part in enumerate(parts) if len(part) >= 5 and part.isalpha()]
        if not long:
            return text
        place = self.rng.choice(long)
        part = parts[place]
        at = self.rng.randint(1, len(part) - 2)
        parts[place] = self.rng.choice(
            [
                part[:at] + part[at + 1] + part[at] + part[at + 2 :],
                part[:at] + part[at + 1 :],
                part[:at] + part[at] + part[at:],
            ]
        )
        return " ".join(parts)
