"""Directory, lock and sockets: only the user gets in, and only one runner lives."""

import multiprocessing
import socket
import stat
from pathlib import Path

import pytest

from qwenctl.errors import AccessDenied, Conflict, InvalidSettings
from qwenctl.runner.listen import (
    answers,
    bind_tcp,
    bind_unix,
    ensure_private_directory,
    resolve_address,
    sole_runner,
)


def never() -> bool:
    """A runner that does not give up."""
    return False


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    """A directory that is made is open to its owner alone; one that is there is left as it is."""
    path = tmp_path / "a" / "run"
    ensure_private_directory(path)
    ensure_private_directory(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_shared_directory_is_refused(tmp_path: Path) -> None:
    """Where others may write they could replace the socket; a file or a link is no directory of ours."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("shared", "file", "link"):
        with pytest.raises(AccessDenied):
            ensure_private_directory(tmp_path / name)


def test_the_socket_is_private_and_replaces_a_stale_one(tmp_path: Path) -> None:
    """A socket that a killed runner left is taken over, with rights for the user alone."""
    path = tmp_path / "runner.sock"
    bind_unix(path).close()
    assert path.exists()
    assert not answers(path)
    with bind_unix(path):
        assert answers(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_path_that_no_kernel_takes_is_refused(tmp_path: Path) -> None:
    """A socket path beyond the limit names the setting that shortens it."""
    with pytest.raises(InvalidSettings) as caught:
        bind_unix(tmp_path / ("x" * 108))
    assert "QWENCTL_RUNTIME" in str(caught.value.hint)


def test_a_taken_port_is_a_conflict() -> None:
    """A port in use is refused by its number; port 0 takes a free one, on loopback."""
    with bind_tcp(resolve_address("127.0.0.1", 0)) as taken:
        host, port = taken.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(Conflict, match=str(port)):
            bind_tcp(resolve_address("127.0.0.1", port))


def test_one_holder_of_the_lock(tmp_path: Path) -> None:
    """A second runner does not get the lock, and stops asking when it is told to give up."""
    path = tmp_path / "lock"
    with sole_runner(path, 0, never) as first, sole_runner(path, 0.05, never) as second:
        assert (first, second) == (True, False)
        with sole_runner(path, 60, lambda: True) as third:
            assert not third
    with sole_runner(path, 0, never) as later:
        assert later


def _hold(path: Path, ready: "multiprocessing.Queue[bool]") -> None:
    with sole_runner(path, 0, never) as held:
        ready.put(held)
        socket.create_server(("127.0.0.1", 0)).accept()


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    """After a SIGKILL of its holder the lock is free."""
    spawning = multiprocessing.get_context("spawn")
    ready = spawning.Queue()
    holder = spawning.Process(target=_hold, args=(tmp_path / "lock", ready))
    holder.start()
    assert ready.get(timeout=20)
    with sole_runner(tmp_path / "lock", 0, never) as held:
        assert not held
    holder.kill()
    with sole_runner(tmp_path / "lock", 10, never) as held:
        assert held
    holder.join()
    holder.close()


def test_small_pieces_are_sent_at_once() -> None:
    """Nagle's algorithm is off for the listener, whose connections inherit that."""
    with bind_tcp(resolve_address("127.0.0.1", 0)) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
