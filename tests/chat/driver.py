"""A conversation with a slow scripted model, for the tests of the real terminal. Arguments: history file."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from qwenctl.chat.session import Session
from qwenctl.chat.terminal import converse
from qwenctl.errors import GenerationFailed
from qwenctl.runtime.engine import Message


def ask(messages: tuple[Message, ...]) -> Iterator[str]:
    """Echo the last message slowly; `count` counts until it is stopped, `fail` fails."""
    said = str(messages[-1].content)
    try:
        if said == "fail":
            raise GenerationFailed("it broke", hint="mend it")
        if said == "count":
            for number in range(1000):
                yield f"{number} "
                time.sleep(0.02)
        yield f"[{len(messages)}] {said!r} \x1b[31mdone"
    finally:
        sys.stderr.write("<closed>\n")


converse(Session(), ask, greeting="hello", history_path=Path(sys.argv[1]))
sys.stdout.write("left in order\n")
