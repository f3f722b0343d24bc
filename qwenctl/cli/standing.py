"""How far a copy is, blob by blob and in all, from the events of `flows.copy`. Pure."""

from qwenctl.flows.copy import (
    BlobFinished,
    BlobProgress,
    BlobShared,
    BlobSkipped,
    BlobsPlanned,
    BlobStarted,
    CopyEvent,
)
from qwenctl.oci.digest import Digest


class Standing:
    """The sum of the events so far. Positions never go back: what was shown once stays true.

    `kept_bytes` came before, or by another process: they are there, but no speed of this copy.
    """

    def __init__(self) -> None:
        self.blobs = 0
        self.finished = 0
        self.kept_bytes = 0
        self._planned_bytes = 0
        self._sizes: dict[Digest, int] = {}
        self._positions: dict[Digest, int] = {}

    def take(self, event: CopyEvent) -> None:
        """One event more."""
        match event:
            case BlobsPlanned(blobs, size_bytes):
                self.blobs, self._planned_bytes = blobs, size_bytes
            case BlobStarted(descriptor, position) | BlobShared(descriptor, position):
                self._sizes[descriptor.digest] = descriptor.size
                self.kept_bytes += self._advance(descriptor.digest, min(position, descriptor.size))
            case BlobProgress(descriptor, position):
                self._advance(descriptor.digest, position)
            case BlobFinished(descriptor):
                self._sizes[descriptor.digest] = descriptor.size
                self._advance(descriptor.digest, descriptor.size)
                self.finished += 1
            case BlobSkipped(descriptor):
                self._sizes[descriptor.digest] = descriptor.size
                self.kept_bytes += self._advance(descriptor.digest, descriptor.size)
                self.finished += 1

    @property
    def done_bytes(self) -> int:
        """What is there, of all blobs."""
        return sum(self._positions.values())

    @property
    def total_bytes(self) -> int:
        """The size of all blobs, as far as it is known."""
        return max(self._planned_bytes, sum(self._sizes.values()))

    def position(self, digest: Digest) -> int:
        """How far one blob is."""
        return self._positions.get(digest, 0)

    def _advance(self, digest: Digest, position: int) -> int:
        """By how many bytes it went on."""
        before = self.position(digest)
        self._positions[digest] = max(before, position)
        return self._positions[digest] - before
