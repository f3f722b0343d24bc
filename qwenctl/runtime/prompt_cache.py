"""Conversations that lost their place in the KV cache, kept in RAM as long as there is plenty."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from qwenctl.runtime.batches import State
from qwenctl.runtime.host import read_ram
from qwenctl.runtime.slots import WORTH_SAVING_TOKENS, common_prefix

# The decode thread copies, and everybody waits: at a few GB/s this is a fifth of a second.
LARGEST_STATE_BYTES: Final = 512 * 1024 * 1024
_SHARE_OF_RAM: Final = 4


def open_prompt_cache(limit_bytes: int) -> "PromptCache | None":
    """A cache in this machine's RAM; None for a limit of 0."""
    return PromptCache(limit_bytes, lambda: read_ram().available_bytes) if limit_bytes > 0 else None


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """The state of a sequence that held `tokens`."""

    tokens: list[int]
    state: State


class PromptCache:
    """States of sequences, at most `limit_bytes` of them and never more than a quarter of the available RAM.

    Whoever was used least recently goes first. `available_bytes` reads the RAM that is available now.
    """

    def __init__(self, limit_bytes: int, available_bytes: Callable[[], int]) -> None:
        self._limit_bytes = limit_bytes
        self._available_bytes = available_bytes
        self._conversations: list[Conversation] = []  # the least recently used first
        self.held_bytes = 0

    def make_room(self, size_bytes: int) -> bool:
        """Whether a state of so many bytes may come in; forgets others for it, or where RAM got short."""
        if not 0 < size_bytes <= min(self._limit_bytes, LARGEST_STATE_BYTES):
            return False
        quarter = (self._available_bytes() + self.held_bytes) // _SHARE_OF_RAM
        limit = min(self._limit_bytes, quarter)
        fits = size_bytes <= limit
        while self._conversations and self.held_bytes + (size_bytes if fits else 0) > limit:
            self._forget(self._conversations[0])
        return fits

    def add(self, tokens: list[int], state: State) -> None:
        """Keeps a state for which there is room; what is only the beginning of it goes."""
        for known in [*self._conversations]:
            if known.tokens == tokens[: len(known.tokens)]:
                self._forget(known)
        self._conversations.append(Conversation(tokens, state))
        self.held_bytes += len(state)

    def holds(self, tokens: Sequence[int]) -> bool:
        """Whether a state begins with all of `tokens`."""
        return any(common_prefix(known.tokens, tokens) == len(tokens) for known in self._conversations)

    def find(self, prompt: Sequence[int], *, rewinds: bool = True) -> tuple[Conversation, int] | None:
        """The conversation with the longest common beginning, and how long that is.

        Without `rewinds` only one that `prompt` goes on with as a whole will do.
        """
        best: tuple[Conversation, int] | None = None
        for known in self._conversations:
            shared = min(common_prefix(known.tokens, prompt), len(prompt) - 1)
            usable = rewinds or shared == len(known.tokens)
            if usable and shared > (best[1] if best else 0):
                best = known, shared
        return best

    def use(self, conversation: Conversation, shared: int) -> None:
        """It was restored: what goes on in a slot goes from here, what only lent its beginning stays."""
        self._forget(conversation)
        if shared < len(conversation.tokens) - WORTH_SAVING_TOKENS:
            self._conversations.append(conversation)
            self.held_bytes += len(conversation.state)

    def clear(self) -> None:
        """Forgets everything."""
        self._conversations.clear()
        self.held_bytes = 0

    def _forget(self, conversation: Conversation) -> None:
        self._conversations.remove(conversation)
        self.held_bytes -= len(conversation.state)
