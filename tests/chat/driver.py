"""A conversation with a scripted model, for the tests of the real terminal. Arguments: a directory, options.

The model says what it was asked, `count` counts until it is stopped, `fail` fails, `break` fails in
mid-answer, `ponder` thinks first, `code` writes Markdown.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from qwenctl.chat.archive import Archive
from qwenctl.chat.choices import Choices
from qwenctl.chat.session import Session
from qwenctl.chat.terminal import Conversation, Places
from qwenctl.errors import GenerationFailed, ReferenceUnknown
from qwenctl.runtime.engine import ChatRequest
from qwenctl.runtime.events import Event, Finished, PromptProcessed, TextDelta, Usage
from tests.chat.driver_texts import MARKDOWN


class Scripted:
    """See `ChatModel`."""

    def __init__(self) -> None:
        self.name = "scripted"
        self.context_length: int | None = 2048
        self.suggested: dict[str, float] = {"temperature": 0.7}

    def chat(self, request: ChatRequest) -> Iterator[Event]:
        said = str(request.messages[-1].content)
        yield PromptProcessed(len(request.messages), 0, 0.1)
        try:
            for text in self._script(said, request):
                yield TextDelta(text, 1)
            yield Finished("stop", Usage(20, 10, 5, 0.5, 2.0))
        finally:
            sys.stderr.write("<closed>\n")

    def _script(self, said: str, request: ChatRequest) -> Iterator[str]:
        match said:
            case "fail":
                raise GenerationFailed("it broke", hint="mend it")
            case "break":
                yield "half an answer"
                raise GenerationFailed("it broke")
            case "count":
                for number in range(1000):
                    yield f"{number} "
                    time.sleep(0.02)
            case "ponder":
                yield "<think>\nhm, "
                yield "let me see\n</think>\n\nit is so"
            case "code":
                yield from (MARKDOWN[start : start + 3] for start in range(0, len(MARKDOWN), 3))
            case "options":
                yield f"{request.sampling.temperature} {request.template_options}"
            case _:
                yield f"[{len(request.messages)}] {said!r} \x1b[31mdone"

    def about(self) -> list[tuple[str, str]]:
        return [("Model", self.name)]

    def template(self) -> str:
        return "{{ template }}"

    def names(self) -> Sequence[str]:
        return ["scripted", "another"]

    def switch(self, name: str) -> None:
        if name not in self.names():
            raise ReferenceUnknown(f"`{name}` is not here")
        self.name = name

    def reload(self, context_tokens: int) -> None:
        self.context_length = context_tokens


directory, flags = Path(sys.argv[1]), sys.argv[2:]
archive = Archive(directory / "chats")
resumed = archive.latest(None) if "--continue" in flags else None
session = Session("", Choices(), resumed.turns if resumed else ())
saved = "--no-save" not in flags
places = Places(archive, directory / "history") if saved else Places(None, None)
Conversation(session, Scripted(), places, plain="--plain" in flags, resumed=resumed).run("hello")
sys.stdout.write("left in order\n")
