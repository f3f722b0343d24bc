"""The journal of a partial file: what of it can be relied on after its writer is gone.

    ingest/sha256-<hex>            the bytes
    ingest/sha256-<hex>.journal    {"boot": …, "ordered": true, "spans": [[0, 33554432]]}

After a `kill` the kernel still has every byte that was written, so a file that grew in order is good to its
end. After a crash of the machine, or where several pieces grew side by side, only the spans count: each was
made durable before the journal said so. A partial file without a journal is small or from an older version;
like everything else that is kept it is hashed again before it is believed.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from qwenctl.store.disk import Disk
from qwenctl.store.spans import Spans

SUFFIX: Final = ".journal"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_LIMIT: Final = 1 << 20  # bytes of a journal; a span takes some twenty


@cache
def boot_id() -> str:
    """What names this run of the kernel; empty where the system has no name for it."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal beside the partial file `path`."""

    disk: Disk
    path: Path
    boot: str

    @classmethod
    def beside(cls, disk: Disk, partial: Path) -> "Journal":
        """The journal of a partial file, there or not."""
        return cls(disk, partial.with_name(partial.name + SUFFIX), boot_id())

    def trusted(self, length: int) -> Spans:
        """What counts of a partial file that is `length` bytes long now. A damaged journal trusts nothing."""
        try:
            with self.path.open("rb") as file:
                document = json.loads(file.read(_LIMIT))
            spans = Spans((max(0, int(first)), int(end)) for first, end in document["spans"])
            if document["ordered"] and self.boot and document["boot"] == self.boot:
                spans.add(0, length)
        except FileNotFoundError:
            return Spans([(0, length)])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return Spans()
        return spans.within(length)

    def write(self, spans: Spans, *, ordered: bool) -> None:
        """Say that `spans` are durable; the caller has made them so. `ordered`: the file has no holes.

        Raises: DiskFull, AccessDenied.
        """
        document = {"boot": self.boot, "ordered": ordered, "spans": list(spans)}
        self.disk.replace_file(self.path, json.dumps(document).encode())

    def remove(self) -> None:
        """Forget, with drafts of killed writers: the partial file is gone, or has a name of its own now."""
        if self.path.exists():
            for path in (self.path, *self.path.parent.glob(f".{self.path.name}.*")):
                self.disk.unlink(path)
