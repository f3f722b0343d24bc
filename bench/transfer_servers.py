"""The servers of the transfer benchmark: Debian's docker-registry, with and without TLS, and our own."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measured import RunFailed

_START_SECONDS = 10
_SAID = 800  # characters of a failed server's last words
_TLS_NAME = "127.1"
"""Loopback in two parts: to qwenctl a host like any other, while 127.0.0.1 is spoken to without TLS."""

_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: 127.0.0.1:{port}{tls}}}
"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of an authority of our own, for loopback."""

    authority: Path
    """The authority's certificate, in a directory that has nothing else."""
    chain: Path
    """The key and the certificate of the server."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running registry. `registry` is its name in qwenctl's references."""

    address: str
    registry: str
    pid: int
    certificate: Certificate | None = None

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self.certificate else 'http'}://{self.address}"


def make_certificate(directory: Path) -> Certificate:
    """A new authority and a certificate of it, below `directory`."""
    import trustme

    authority = trustme.CA()
    (directory / "authority").mkdir(parents=True)
    made = Certificate(directory / "authority" / "authority.crt", directory / "server.pem")
    authority.cert_pem.write_to_path(str(made.authority))
    authority.issue_cert("127.0.0.1", _TLS_NAME).private_key_and_cert_chain_pem.write_to_path(str(made.chain))
    return made


@contextmanager
def docker_registry(root: Path, certificate: Certificate | None = None) -> Iterator[Server]:
    """Debian's docker-registry over the files in `root`, on a free port, until the block ends.

    Raises: RunFailed when it ended before.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tls = f", tls: {{certificate: {certificate.chain}, key: {certificate.chain}}}" if certificate else ""
    config = root.with_name(f"{root.name}-{port}.yml")
    config.write_text(_CONFIG.format(root=root, port=port, tls=tls))
    log = config.with_suffix(".log")
    with log.open("wb") as output:
        child = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=output, stderr=output)
    try:
        _wait_until_open(port, child)
        host = _TLS_NAME if certificate else "127.0.0.1"
        yield Server(f"127.0.0.1:{port}", f"{host}:{port}", child.pid, certificate)
    finally:
        early = child.poll()
        child.terminate()
        child.wait()
        if early is not None:
            said = log.read_text(errors="replace")[-_SAID:].strip()
            raise RunFailed(f"docker-registry ended by itself with {early}: {said}")


@contextmanager
def embedded_registry(program: str, store: Path, environ: Mapping[str, str]) -> Iterator[Server]:
    """`qwenctl registry serve` over `store`, on a free port, until the block ends.

    Raises: RunFailed when it does not start.
    """
    command = [program, "registry", "serve", "--json", "--port", "0", "--store", str(store)]
    child = subprocess.Popen(
        command, env=dict(environ), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdout is not None
    with child.stdout:
        try:
            ready = json.loads(child.stdout.readline() or "{}")
            if "address" not in ready:
                raise RunFailed(f"`qwenctl registry serve` does not start over `{store}`")
            address = ready["address"]
            yield Server(address, address, child.pid)
        finally:
            child.send_signal(signal.SIGINT)
            child.wait()


def _wait_until_open(port: int, child: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline or child.poll() is not None:
                raise
            time.sleep(0.02)
