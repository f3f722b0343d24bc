"""Conversations with tools: which function to call with which arguments, and what to say to its result."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import frames
from functions import KINDS, Function
from grammar import expand
from rendering import Message, Tool
from styles import Turn
from words import Words

RESULT_KEYS = [
    "temperature", "result", "status", "condition", "price", "value", "count", "time", "name", "answer",
    "message",
]  # fmt: skip
SKIES = ["sunny", "rain", "cloudy", "snow", "light rain"]


@dataclass(slots=True)
class ToolConversations:
    """Draws conversations in which functions are offered."""

    rng: random.Random
    words: Words

    def draw(self, ordinary: Callable[[], Turn]) -> tuple[list[Message], list[Tool] | None]:
        """Return a conversation with one to three tools; `ordinary` gives turns that need none."""
        rng = self.rng
        kinds = rng.sample(KINDS, rng.choices([1, 2, 3], [5, 4, 2])[0])
        offered: dict[str, tuple[Tool, Function]] = {}
        for kind in kinds:
            function = kind(rng, self.words)
            tool = self._tool(function)
            offered[tool["function"]["name"]] = (tool, function)
        messages = self._system()
        for _ in range(rng.choices([1, 2, 3], [5, 3, 1])[0]):
            if rng.random() < 0.22:
                turn = ordinary()
                messages += [_said("user", turn.question), _said("assistant", turn.answer)]
            else:
                name = rng.choice(list(offered))
                messages += self._called(name, offered[name][1])
        return messages, [tool for tool, _ in offered.values()]

    def _system(self) -> list[Message]:
        if self.rng.random() > 0.3:
            return []
        text = expand(self.rng.choice(frames.SYSTEM_TOOLS), self.rng)
        return [_said("system", text)]

    def _tool(self, kind: Function) -> Tool:
        """The definition of a function, in one of the forms that clients send."""
        rng = self.rng
        name = rng.choice(kind.names)
        if rng.random() < 0.15:
            name = f"{name}_{self.words.word()}"
        properties: dict[str, dict[str, str]] = {}
        for key, (type_name, description) in kind.properties.items():
            properties[key] = {"type": type_name}
            if rng.random() < 0.5:
                properties[key]["description"] = description
        parameters: dict[str, Any] = {"type": "object", "properties": properties}
        if properties and rng.random() < 0.9:
            parameters["required"] = list(properties)
        function: dict[str, Any] = {"name": name}
        if rng.random() < 0.9:
            function["description"] = rng.choice(kind.descriptions)
        function["parameters"] = parameters
        tool: Tool = {"type": "function", "function": function}
        if rng.random() < 0.15:
            tool = json.loads(json.dumps(tool, sort_keys=True))
        return tool

    def _called(self, name: str, function: Function) -> list[Message]:
        """A request that this function serves, the call, its result and the answer."""
        text, arguments = function.ask()
        # The arguments are copied letter by letter, so that no noise may touch them.
        request = _said("user", text[:1].upper() + text[1:] if self.rng.random() < 0.4 else text)
        called: Message = {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}],
        }
        if self.rng.random() < 0.35:
            result, answer = "ok", "Here is the result: ok."
        else:
            result, answer = self._result()
        return [request, called, _said("tool", result), _said("assistant", answer)]

    def _result(self) -> tuple[str, str]:
        """What a function returned, and the sentence that reports it."""
        rng, words = self.rng, self.words
        chance = rng.random()
        if chance < 0.45:
            keys = rng.sample([*RESULT_KEYS, words.word()], rng.randint(1, 3))
            values = {key: rng.choice([rng.randint(0, 999), words.city(), words.phrase()]) for key in keys}
            listed = ", ".join(f"{key} is {value}" for key, value in values.items())
            return json.dumps(values, ensure_ascii=False), f"Here is the result: {listed}."
        if chance < 0.55:
            reason = words.phrase()
            failed = [f"error: {reason}", f"Error: {reason}", json.dumps({"error": reason})]
            return rng.choice(failed), f"The tool failed: {reason}."
        result = rng.choice(
            [
                f"{rng.randint(-20, 40)} {rng.choice(['degrees', 'C'])}, {rng.choice(SKIES)}",
                str(rng.randint(0, 9999)),
                words.phrase(),
                f"{rng.randint(0, 23)}:{rng.randint(10, 59)}",
                ", ".join(words.model() for _ in range(rng.randint(1, 2))),
            ]
        )
        return result, f"Here is the result: {result}."


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}
