"""The places of a runner: its private directory, the lock that makes it the only one, its sockets."""

import errno
import fcntl
import ipaddress
import os
import resource
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qwenctl.errors import AccessDenied, Conflict, InvalidSettings, UsageError

LOOPBACK: Final = "127.0.0.1"
_UNSPECIFIED: Final = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - all addresses, and how to reach them

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


@dataclass(frozen=True, slots=True)
class Address:
    """An address of this machine to listen on, as the kernel takes it."""

    family: int
    where: tuple[str | int, ...]

    @property
    def host(self) -> str:
        """The numeric address, without the zone of one that is valid on one link only."""
        return str(self.where[0]).partition("%")[0]

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def is_unspecified(self) -> bool:
        """Whether it stands for all addresses of this machine."""
        return self.host in _UNSPECIFIED


def resolve_address(host: str, port: int) -> Address:
    """The address that `host` names: a literal of IPv4 or IPv6 (in brackets or not), or a name.

    Raises: UsageError for what is no address.
    """
    plain = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        found = socket.getaddrinfo(plain, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"`{host}` is no address", hint="give one of this machine's, or 0.0.0.0 for all of them"
        ) from error
    # `localhost` is both: IPv4 is what clients try that were written for Docker Model Runner.
    family, _, _, _, where = min(found, key=lambda item: item[0] != socket.AF_INET)
    return Address(family, tuple(str(part) if isinstance(part, bytes) else part for part in where))


def bind_tcp(address: Address) -> socket.socket:
    """A listening TCP socket; port 0 lets the kernel choose. `::` takes connections over IPv4 too.

    Raises: Conflict when the port is taken. UsageError when the address is not this machine's. AccessDenied
    when it is not for us.
    """
    listener = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by the connections: asyncio leaves it off for sockets made like this one, and then each
        # piece of a stream waits 40 ms for the client's acknowledgement of the one before.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not address.is_unspecified)
        listener.bind(address.where)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _not_bound(error, address) from error
    return listener


def _not_bound(error: OSError, address: Address) -> UsageError:
    port = address.where[1]
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"port {port} is in use", hint="choose another with `--port`, or 0 for a free one")
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(
            f"`{address.host}` is not an address of this machine", hint="`0.0.0.0` is all of them"
        )
    return AccessDenied(f"port {port} on `{address.host}` cannot be used: {error.strerror}")


def url_of(listener: socket.socket) -> str:
    """Where a client on this machine reaches a TCP socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{_authority(_UNSPECIFIED.get(host, host), port)}"


def authority_of(listener: socket.socket) -> str:
    """The `HOST:PORT` that a TCP socket is bound to."""
    return _authority(*listener.getsockname()[:2])


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def allow_connections(count: int) -> None:
    """This process may have so many files open, or as many as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a limit beside the one that it tells
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def answers(path: Path) -> bool:
    """Whether somebody accepts connections on the Unix socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
