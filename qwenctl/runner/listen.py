"""The places of a runner: its private directory, the lock that makes it the only one, its sockets."""

import errno
import fcntl
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from qwenctl.errors import AccessDenied, Conflict, InvalidSettings

LOOPBACK: Final = "127.0.0.1"

# Source: sockaddr_un.sun_path of Linux (108) and of the BSDs and macOS (104), less the final zero.
_PATH_LIMIT_BYTES: Final = 107 if sys.platform == "linux" else 103
_LOCK_POLL_SECONDS: Final = 0.02
_BACKLOG: Final = 128


def ensure_private_directory(path: Path) -> None:
    """The directory exists, is ours, and nobody else can put a socket of theirs into it.

    Raises: AccessDenied.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise AccessDenied(f"`{path}` cannot be made: {error.strerror}") from error
    others_may_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or others_may_write:
        raise AccessDenied(
            f"`{path}` is not a directory that you alone can write to",
            hint="set QWENCTL_RUNTIME to one that is, or that does not exist yet",
        )


@contextmanager
def sole_runner(path: Path, wait_seconds: float, give_up: Callable[[], bool]) -> Iterator[bool]:
    """Whether this process holds the lock at `path`, asked for until `wait_seconds` are over or `give_up`.

    The kernel drops the lock with the process, however that ends, so it never outlives its holder.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_seconds
    try:
        while not (held := _try_lock(descriptor)) and time.monotonic() < deadline and not give_up():
            time.sleep(_LOCK_POLL_SECONDS)
        yield held
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def bind_unix(path: Path) -> socket.socket:
    """A listening socket at `path`, for the user alone. Only the holder of the lock may call this.

    What lies there is left over from a runner that was killed, and is replaced.
    Raises: InvalidSettings for a path that the kernel cannot take. AccessDenied.
    """
    if len(os.fsencode(path)) > _PATH_LIMIT_BYTES:
        raise InvalidSettings(
            f"the socket path `{path}` is too long", hint="set QWENCTL_RUNTIME to a shorter one"
        )
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)  # the file must never be there with wider rights
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise AccessDenied(f"`{path}` cannot be listened on: {error.strerror}") from error
    finally:
        os.umask(previous)
    return listener


def bind_loopback(port: int) -> socket.socket:
    """A listening TCP socket that only this machine reaches; port 0 lets the kernel choose.

    Raises: Conflict when the port is taken. AccessDenied when it is not for us.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by the connections: asyncio leaves it off for sockets made like this one, and then each
        # piece of a stream waits 40 ms for the client's acknowledgement of the one before.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"port {port} is in use", hint="choose another with `--port`, or 0 for a free one"
            ) from error
        raise AccessDenied(f"port {port} cannot be used: {error.strerror}") from error
    return listener


def answers(path: Path) -> bool:
    """Whether somebody accepts connections on the Unix socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
