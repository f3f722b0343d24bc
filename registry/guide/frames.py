"""English sentence frames and word lists from which corpus.py builds questions; most stand in frames.txt."""

from __future__ import annotations

import re
from pathlib import Path

from grammar import FACTS_PATH

FRAMES_PATH = Path(__file__).parent / "frames.txt"

_ENGLISH_WORD = re.compile(r"\b[a-z]{3,9}\b")


def _sections() -> dict[str, list[str]]:
    """The lines of frames.txt under their section's name."""
    sections: dict[str, list[str]] = {}
    name = ""
    for line in FRAMES_PATH.read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]") and line[1:-1].isupper():
            name = line[1:-1]
            sections[name] = []
        elif line and not line.startswith("#"):
            sections[name].append(line)
    return sections


_TEXT = _sections()


def _words(section: str) -> list[str]:
    return " ".join(_TEXT[section]).split()


def _phrases(section: str) -> list[str]:
    return [phrase for line in _TEXT[section] for phrase in line.split("|")]


def _quoted(section: str) -> list[str]:
    return [line[1:-1] for line in _TEXT[section]]


# Frames, with {x} for a verb phrase, its -ing form, or a noun phrase.
HOW = _TEXT["HOW"]
GERUND = _TEXT["GERUND"]
DEFINITION = _TEXT["DEFINITION"]

# What people say before and after a question; mostly nothing.
BEFORE = [""] * 14 + _quoted("BEFORE")
AFTER = [""] * 16 + _quoted("AFTER")

# Words that people leave out when they type fast.
DROPPABLE = frozenset(_words("DROPPABLE"))

AGAIN, MORE, AS_JSON, ONLY_COMMAND = (
    "".join(_TEXT[section]) for section in ("AGAIN", "MORE", "AS_JSON", "ONLY_COMMAND")
)

NOTHING_MORE = "That is all I know about it."
UNKNOWN = "Sorry, I do not know that. I only know about qwenctl."
NO_MODEL = "MODEL"

# Follow-ups on the model named last: the intent and its verbs, before the pronoun.
PRONOUN = "(it|it|it|that|this model|that model|that one|this one|the same model|the one I just named)"
FOLLOW_UPS = [
    ("pull", "(download|pull|get|fetch|install|grab)"),
    ("run", "(run|start|use|open|chat with|try|talk to|launch)"),
    ("rm", "(delete|remove|uninstall|erase|get rid of|throw away)"),
    ("show", "(see the details of|get information about|show the card of|see the variants of|read about)"),
    ("inspect", "(inspect|see the manifest of|see the layers of|see the digest of)"),
    ("stop", "(stop|unload|shut down|end)"),
    ("tag", "(rename|tag|alias|retag)"),
    ("push", "(push|upload|publish)"),
    ("update", "(update|refresh|upgrade)"),
]
FOLLOW_UP_FRAMES = _TEXT["FOLLOW_UP_FRAMES"]

# What the guide must not pretend to know.
UNKNOWN_TASKS = _phrases("UNKNOWN_TASKS")
UNKNOWN_QUESTIONS = _phrases("UNKNOWN_QUESTIONS")
UNKNOWN_FRAMES = _TEXT["UNKNOWN_FRAMES"]

# System messages, and requests for a form of the answer; {keys} names the keys of a JSON object.
SYSTEM_PLAIN, SYSTEM_SHORT, SYSTEM_JSON, SYSTEM_TOOLS = (
    _TEXT[section] for section in ("SYSTEM_PLAIN", "SYSTEM_SHORT", "SYSTEM_JSON", "SYSTEM_TOOLS")
)
ASK_SHORT, ASK_JSON, ASK_KEYS = _TEXT["ASK_SHORT"], _TEXT["ASK_JSON"], _TEXT["ASK_KEYS"]

# Requests that a function serves; {x} is its argument.
WEATHER, TIME, SEARCH, READ = _TEXT["WEATHER"], _TEXT["TIME"], _TEXT["SEARCH"], _TEXT["READ"]
MESSAGE, TIMER, MODELS, FUNCTION = _TEXT["MESSAGE"], _TEXT["TIMER"], _TEXT["MODELS"], _TEXT["FUNCTION"]

# Names to copy, and the pieces of invented ones.
CITIES = _words("CITIES")
LONG_CITIES = [
    "New York", "San Francisco", "Los Angeles", "Hong Kong", "Cape Town", "Buenos Aires", "New Delhi",
]  # fmt: skip
NAMES = _words("NAMES")
WORDS = _words("WORDS")
ENGLISH: list[str] = sorted(
    {word for path in (FRAMES_PATH, FACTS_PATH) for word in _ENGLISH_WORD.findall(path.read_text("utf-8"))}
)
LETTERS = "abcdefghijklmnopqrstuvwxyzeeaaiioounnttrrssllkkyvj"
ONSETS = _words("ONSETS")
VOWELS = ["a", "e", "i", "o", "u", "ai", "ou"]
ENDINGS = ["", "", "n", "r", "l", "s", "m", "t"]

# Model references.
SIZES = ["0.5B", "1.5B", "3B", "7B", "14B", "32B", "72B", "0.6B", "8B", "135M", "360M", "1.7B", "4B"]
QUANTIZATIONS = ["Q4_K_M", "Q4_K_M", "Q8_0", "F16", "Q4_0", "Q5_K_M", "Q6_K", "Q2_K", "Q3_K_M", "BF16"]
FAMILIES = [
    *["qwen2.5"] * 6, *["qwen3"] * 3, "qwen3-coder", "qwen2.5-coder", "qwq", *["smollm2"] * 2, *["guide"] * 2,
    "qwen3-vl", "llama3", "gemma2", "mistral", "phi4",
]  # fmt: skip
