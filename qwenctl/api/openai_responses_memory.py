"""The last responses, kept in memory so that a call can go on from one. They are gone with the runner."""

from dataclasses import dataclass
from typing import Final

import msgspec

from qwenctl.api.openai_responses_wire import Item
from qwenctl.errors import NotFound

MAX_RESPONSES: Final = 256
MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """A response as JSON, what the client said in its call, and the whole conversation with the answer."""

    id: str
    body: bytes
    input: tuple[Item, ...]
    conversation: tuple[Item, ...]


class ResponseMemory:
    """Responses by id, bounded in number and size: those used least recently are forgotten first."""

    def __init__(self, max_responses: int = MAX_RESPONSES, max_bytes: int = MAX_BYTES) -> None:
        self._max_responses, self._max_bytes = max_responses, max_bytes
        self._kept: dict[str, tuple[KeptResponse, int]] = {}  # in the order of use
        self._bytes = 0

    def keep(self, response: KeptResponse) -> None:
        """Remembers it, unless it alone is larger than all may be."""
        # Conversations share their items, so what they take is less than this sum: the bound holds.
        size = len(response.body) + len(msgspec.msgpack.encode(response.conversation))
        if size > self._max_bytes:
            return
        self._kept[response.id] = response, size
        self._bytes += size
        while len(self._kept) > self._max_responses or self._bytes > self._max_bytes:
            self.forget(next(iter(self._kept)))

    def find(self, id: str) -> KeptResponse:
        """The response. Raises: NotFound."""
        if id not in self._kept:
            hint = f"the last {self._max_responses} are kept until the runner ends; send all turns as `input`"
            raise NotFound(f"the response `{id[:100]}` is not here", hint=hint)
        self._kept[id] = self._kept.pop(id)
        return self._kept[id][0]

    def forget(self, id: str) -> None:
        """Forgets the response. Raises: NotFound."""
        self.find(id)
        self._bytes -= self._kept.pop(id)[1]
