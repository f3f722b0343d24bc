"""The kinds of functions that tooling.py offers, each with requests for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import frames
from grammar import expand
from words import Words

Arguments = dict[str, Any]
Request = tuple[str, Arguments]

VERBS = [
    "get", "find", "create", "update", "check", "open", "close", "start", "book", "order", "play", "cancel",
    "turn_on", "lookup",
]  # fmt: skip
THINGS = [
    "user", "order", "ticket", "song", "flight", "room", "product", "event", "note", "door", "light",
    "lamp", "account",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Function:
    """A kind of function: what it may be called, its parameters, and an endless source of requests for it.

    `properties` maps each parameter to its JSON type and description; `ask` returns a request with the
    arguments it asks for.
    """

    names: list[str]
    descriptions: list[str]
    properties: dict[str, tuple[str, str]]
    ask: Callable[[], Request]


def _asking(
    rng: random.Random, patterns: list[str], key: str, draw: Callable[[], Any]
) -> Callable[[], Request]:
    """Requests with one argument, which stands at {x} in the patterns."""

    def ask() -> Request:
        value = draw()
        return expand(rng.choice(patterns), rng).replace("{x}", str(value)), {key: value}

    return ask


def _weather(rng: random.Random, words: Words) -> Function:
    key = rng.choice(["city", "location", "place"])
    return Function(
        [
            "get_weather",
            "get_current_weather",
            "weather",
            "weather_lookup",
            "get_current_temperature",
            "getWeather",
        ],
        ["Get the current weather", "Get the weather in a city", "Current temperature at a location"],
        {key: ("string", rng.choice(["The city", "City name", "The location"]))},
        _asking(rng, frames.WEATHER, key, words.city),
    )


def _time(rng: random.Random, words: Words) -> Function:
    key = rng.choice(["timezone", "city", "location", "place"])
    return Function(
        ["get_time", "get_current_time", "current_time", "clock", "get_local_time"],
        ["Get the current time", "Current time in a city", "Current time in a timezone"],
        {key: ("string", "City or zone")},
        _asking(rng, frames.TIME, key, words.city),
    )


def _sum(rng: random.Random, words: Words) -> Function:
    del words
    a, b = rng.choice([("a", "b"), ("x", "y"), ("first", "second")])
    name, spoken = rng.choice([("add", "(+|plus)"), ("multiply", "(*|times)"), ("subtract", "(-|minus)")])
    kind = rng.choice(["number", "integer"])

    def ask() -> Request:
        first, second = rng.randint(0, 10 ** rng.randint(1, 3)), rng.randint(0, 10 ** rng.randint(1, 3))
        text = expand(
            f"(What is|calculate|compute|how much is|what's|please compute|) {first} {spoken} {second}[?]|"
            f"[please] {name} {first} and {second}",
            rng,
        )
        return text, {a: first, b: second}

    return Function(
        [name, f"{name}_numbers"],
        [f"{name.capitalize()} two numbers", f"{name} a and b"],
        {a: (kind, "a number"), b: (kind, "a number")},
        ask,
    )


def _search(rng: random.Random, words: Words) -> Function:
    key = rng.choice(["query", "q", "text", "keywords"])
    return Function(
        ["search", "web_search", "search_web", "find_documents", "search_docs"],
        ["Search the web", "Search for a text", "Find documents"],
        {key: ("string", "What to search for")},
        _asking(rng, frames.SEARCH, key, words.phrase),
    )


def _read_file(rng: random.Random, words: Words) -> Function:
    key = rng.choice(["path", "file", "filename"])

    def path() -> str:
        folder = rng.choice(["", "/tmp/", "/etc/", "docs/", "./", "src/"])
        name = words.word().upper() if rng.random() < 0.1 else words.word()
        return folder + name + rng.choice([".txt", ".md", ".py", ".json", ".log", ".csv", ""])

    return Function(
        ["read_file", "open_file", "load_file", "get_file_contents"],
        ["Read a file", "Return the contents of a file", "Open a text file"],
        {key: ("string", "Path of the file")},
        _asking(rng, frames.READ, key, path),
    )


def _message(rng: random.Random, words: Words) -> Function:
    to, body = rng.choice(["to", "recipient"]), rng.choice(["body", "text", "message"])

    def ask() -> Request:
        name, text = words.name(), words.phrase()
        request = rng.choice(frames.MESSAGE).replace("{to}", name).replace("{x}", text)
        return request, {to: name, body: text}

    return Function(
        ["send_email", "send_message", "notify"],
        ["Send an email", "Send a message to someone"],
        {to: ("string", "The recipient"), body: ("string", "The text")},
        ask,
    )


def _timer(rng: random.Random, words: Words) -> Function:
    del words
    key = rng.choice(["minutes", "duration"])
    return Function(
        ["set_timer", "start_timer", "timer"],
        ["Set a timer", "Start a countdown"],
        {key: (rng.choice(["integer", "number"]), "Minutes")},
        _asking(rng, frames.TIMER, key, lambda: rng.randint(1, 120)),
    )


def _on_model(rng: random.Random, words: Words) -> Function:
    key = rng.choice(["model", "name", "tag"])
    name, verbs, description = rng.choice(
        [
            ("pull_model", "(download|pull|fetch|get|install)", "Download a model"),
            ("remove_model", "(delete|remove|uninstall|erase)", "Delete a local model"),
            ("show_model", "(show|inspect|show details of|describe)", "Show details of a model"),
            ("stop_model", "(stop|unload|halt)", "Unload a model"),
        ]
    )
    patterns = [f"[please|can you|could you|I want to|now] {verbs} [the model] {{x}} [please|for me|now]"]
    return Function(
        [name],
        [description, name.replace("_", " a ").capitalize()],
        {key: ("string", "The model name")},
        _asking(rng, patterns, key, words.model),
    )


def _list_models(rng: random.Random, words: Words) -> Function:
    del words
    return Function(
        ["list_models", "get_models", "list_local_models"],
        ["List the installed models", "List local models"],
        {},
        lambda: (expand(rng.choice(frames.MODELS), rng), {}),
    )


def _anything(rng: random.Random, words: Words) -> Function:
    """A made-up function, so that names are copied rather than remembered."""
    verb, thing = rng.choice([*VERBS, words.word()]), rng.choice([*THINGS, words.word()])
    key = rng.choice(["id", "name", "title", f"{thing}_id", "key", "value", thing, "number", words.word()])
    counted = rng.random() < 0.35
    spoken = verb.replace("_", " ")
    slots = {"{verb}": spoken, "{thing}": thing, "{key}": key}

    def value() -> str | int:
        if counted:
            return rng.randint(1, 10 ** rng.randint(1, 4))
        return rng.choice([words.word(), words.name(), words.phrase(), words.city()])

    patterns = []
    for pattern in frames.FUNCTION:
        for slot, text in slots.items():
            pattern = pattern.replace(slot, text)
        patterns.append(pattern)
    return Function(
        [f"{verb}_{thing}", f"{verb}_{thing}", f"{thing}_{verb}"],
        [f"{spoken.capitalize()} a {thing}", f"{spoken.capitalize()} the {thing}"],
        {key: ("integer" if counted else "string", f"The {key}")},
        _asking(rng, patterns, key, value),
    )


KINDS: list[Callable[[random.Random, Words], Function]] = [
    _weather, _time, _sum, _search, _read_file, _message, _timer, _on_model, _list_models,
    _anything, _anything, _anything,
]  # fmt: skip
