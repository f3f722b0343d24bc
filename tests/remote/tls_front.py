"""TLS before a plain server of loopback, as a reverse proxy has it."""

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def tls_front(context: ssl.SSLContext, plain: str, bind: str = "127.0.0.1") -> Iterator[int]:
    """A port that speaks TLS and passes the bytes on to the `host:port` in `plain`."""
    host, _, port = plain.rpartition(":")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                context.wrap_socket(self.request, server_side=True) as secure,
                socket.create_connection((host, int(port))) as behind,
            ):
                back = threading.Thread(target=_pump, args=(behind, secure), daemon=True)
                back.start()
                _pump(secure, behind)
                back.join()

    server = _Server((bind, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """A client that does not believe the certificate goes away; so does one that does not speak TLS."""


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Bytes in one direction, then the end of the stream."""
    try:
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    except OSError:
        pass
    finally:
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
