"""The line that is typed: prompt_toolkit with our keys, history, completion. Imported when a chat starts."""

import os
import re
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import CompletionState
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_processor import KeyPressEvent
from prompt_toolkit.styles import Style

from qwenctl.chat.archive import write_private
from qwenctl.chat.commands import unfinished
from qwenctl.chat.completion import Sources, candidates, is_completed_while_typing

_PLACEHOLDER: Final = "Send a message (/? for help)"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_CONTINUATION: Final = "... "
_HISTORY_LIMIT_BYTES: Final = 1024 * 1024


class Key(Enum):
    """What a person may do instead of sending a line."""

    CLEARED = "cleared"
    """Ctrl-C: the line that was begun is given up."""
    INTERRUPTED = "interrupted"
    """Ctrl-C on an empty line."""
    ENDED = "ended"
    """Ctrl-D, or the terminal is gone."""


class Prompt:
    """Reads what is typed. `history` None keeps nothing on the disk."""

    def __init__(self, history: Path | None, sources: Sources, *, plain: bool) -> None:
        style = [] if plain else [("placeholder", "fg:ansibrightblack"), ("prompt", "bold")]
        self._session: PromptSession[str] = PromptSession(
            history=_open_history(history),
            completer=_Completer(sources),
            complete_while_typing=Condition(
                lambda: is_completed_while_typing(get_app().current_buffer.document.text_before_cursor)
            ),
            complete_in_thread=True,  # a directory may be far away
            reserve_space_for_menu=6,
            key_bindings=_keys(),
            multiline=True,
            prompt_continuation=lambda width, line, wrapped: "" if wrapped else _CONTINUATION,
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            style=Style(style),
        )

    def read(self) -> str | Key:
        """The next text."""
        return self._read("")

    def edit(self, text: str) -> str | Key:
        """The same, after the person had `text` in the editor; Enter sends what is left of it."""
        return self._read(text, lambda: get_app().current_buffer.open_in_editor())

    def _read(self, default: str, before: Callable[[], object] | None = None) -> str | Key:
        def begin() -> None:
            if before is not None:
                before()

        try:
            return self._session.prompt(
                [("class:prompt", ">>> ")],
                default=default,
                placeholder=[("class:placeholder", _PLACEHOLDER)],
                pre_run=begin,
            )
        except EOFError:
            return Key.ENDED
        except KeyboardInterrupt:
            return Key.CLEARED if self._session.default_buffer.text else Key.INTERRUPTED


class _Completer(Completer):
    """`candidates`, as prompt_toolkit wants them."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """See `Completer`."""
        for candidate in candidates(document.text_before_cursor, self._sources):
            yield Completion(candidate.text, -candidate.replaced, display_meta=candidate.note)


def _keys() -> KeyBindings:
    keys = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)

    @keys.add("enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        """Takes a candidate, breaks a line that is quoted, sends any other."""
        buffer = event.current_buffer
        if not buffer.text.isascii() and (text := _SURROGATE.sub("\ufffd", buffer.text)) != buffer.text:
            buffer.text = text  # bytes that were no UTF-8: they can be neither kept nor sent
        if _is_chosen(buffer.complete_state):
            buffer.complete_state = None
        elif unfinished(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _is_chosen(state: CompletionState | None) -> bool:
    """Whether Enter is for the list: a candidate stands in it among others."""
    return state is not None and state.current_completion is not None and len(state.completions) > 1


def _open_history(path: Path | None) -> History:
    """What was typed before, readable for its owner alone, and not longer than anyone reads through."""
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.chmod(0o600)
        if path.stat().st_size > _HISTORY_LIMIT_BYTES:
            _shorten(path)
        if not os.access(path, os.R_OK | os.W_OK):
            return InMemoryHistory()
    except OSError:  # a chat without a history is still a chat
        return InMemoryHistory()
    return FileHistory(str(path))


def _shorten(path: Path) -> None:
    """Leaves the later half; each entry begins with an empty line and `# `, its time."""
    half = path.read_bytes()[-_HISTORY_LIMIT_BYTES // 2 :]
    start = half.find(b"\n\n# ")
    write_private(path, half[start + 1 :] if start >= 0 else b"")
