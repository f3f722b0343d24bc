"""Text files that go with a message: how they are named in it, and how the model sees them. Pure."""

import re
from typing import Final

import msgspec

_MENTION: Final = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|([^\s"]+))')


class AttachedFile(msgspec.Struct, frozen=True):
    """A text file as it was read; `name` is the path as it was typed."""

    name: str
    text: str

    def render(self) -> str:
        """The file as the model sees it: its name, and the text between fences longer than any in it."""
        longest = max((len(run) for run in re.findall("`+", self.text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{self.name}:\n{fence}\n{self.text.removesuffix(chr(10))}\n{fence}"

    def summary(self) -> str:
        """Name and size, for the person."""
        lines = self.text.count("\n") + (not self.text.endswith("\n"))
        return f"{self.name} ({lines} {'line' if lines == 1 else 'lines'})"


def mentions(text: str) -> tuple[str, ...]:
    """The paths behind an `@` at the beginning of a word, each once: `@notes.txt`, `@"two words.txt"`."""
    found = (match[1] or match[2] for match in _MENTION.finditer(text))
    return tuple(dict.fromkeys(found))
