"""File systems in a file, mounted for a test, whose power can be cut.

ext4 and XFS have an ioctl that stops them at once without writing their journals; what is not on the disk by
then is lost. For others the disk is copied as it is between two writes, and the copy is mounted instead.

Source: Linux, fs/ext4/ext4.h (EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH) and fs/xfs/libxfs/xfs_fs.h
(XFS_IOC_GOINGDOWN); Documentation/block/stat.rst.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_SHUTDOWN: Final = 0x8004587D
_NO_LOG_FLUSH: Final = struct.pack("I", 2)
_MIB: Final = 1 << 20
_MAKERS: Final = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "ext4 without journal": ["mkfs.ext4", "-q", "-F", "-O", "^has_journal"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}
KINDS: Final = tuple(kind for kind in _MAKERS if kind != "ext4 without journal")


def require_root() -> None:
    """Skips the test for whom may not mount."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting needs Linux and root")


@contextmanager
def mounted(target: Path, *arguments: str) -> Iterator[Path]:
    """`mount ARGUMENTS target` while the block runs. Skips the test where that is not allowed."""
    require_root()
    target.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(target)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield target
    finally:
        _unmount(target)


def _unmount(target: Path) -> None:
    if subprocess.run(["umount", str(target)], capture_output=True).returncode:
        subprocess.run(["umount", "--lazy", str(target)], capture_output=True)


class LoopDisk:
    """A mounted file system at `path`."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.path = directory / "mounted"
        self.kind = kind
        self._image = directory / "image"

    def mount(self) -> None:
        """Mount it. Skips the test where that is not allowed."""
        self.path.mkdir(exist_ok=True)
        command = ["mount", "-o", "loop", str(self._image), str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no loop device can be mounted here: {done.stderr.strip()}")

    def unmount(self) -> None:
        """Unmount it, whoever uses it."""
        if self.path.is_mount():
            _unmount(self.path)

    def make(self, size_bytes: int) -> None:
        """A new file system."""
        program, *options = _MAKERS[self.kind]
        if shutil.which(program) is None:
            pytest.skip(f"`{program}` is not installed")
        with self._image.open("wb") as image:
            image.truncate(size_bytes)
        subprocess.run([program, *options, str(self._image)], check=True, capture_output=True)

    def cut_power(self, stop: Callable[[], None]) -> None:
        """Lose at once what is not on the disk; `stop` ends who is at work. Mounted again afterwards."""
        canary = self.path / "canary"
        canary.write_text("made durable by nobody")
        self._cut_power(stop)
        assert not canary.exists() or not canary.read_text().strip("\0"), "nothing was lost"

    def _cut_power(self, stop: Callable[[], None]) -> None:
        if self.kind == "btrfs":
            self._copy_and_change(stop)
            return
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(handle)
        stop()
        self._release()
        self.mount()

    def _copy_and_change(self, stop: Callable[[], None]) -> None:
        copy = self._image.with_name("copy")
        stop()
        while True:  # what is under way at the disk ends, or we look again
            before = self._writes()
            shutil.copyfile(self._image, copy)
            if self._writes() == before:
                break
        self._release()
        copy.replace(self._image)
        self.mount()

    def _release(self) -> None:
        end = time.monotonic() + 20
        while subprocess.run(["umount", str(self.path)], capture_output=True).returncode:
            assert time.monotonic() < end, f"`{self.path}` is still in use"
            time.sleep(0.02)

    def _writes(self) -> str:
        """The counts of what the loop device wrote, and what it is at."""
        device = self.path.stat().st_dev
        if self.kind == "btrfs":  # its own number is not the disk's
            found = subprocess.run(
                ["findmnt", "-n", "-o", "SOURCE", str(self.path)], capture_output=True, text=True, check=True
            )
            device = Path(found.stdout.strip()).stat().st_rdev
        numbers = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()
        return " ".join([numbers[4], numbers[6], numbers[8]])


@contextmanager
def loop_disk(directory: Path, kind: str, size_bytes: int = 400 * _MIB) -> Iterator[LoopDisk]:
    """A new file system of this kind, mounted. Skips the test where that cannot be."""
    require_root()
    disk = LoopDisk(directory, kind)
    disk.make(size_bytes)
    try:
        disk.mount()
        yield disk
    finally:
        disk.unmount()
