"""What can go wrong while a blob is uploaded; `faults.py` has what can happen to any request."""

from typing import Final
from urllib.parse import urlsplit

from tests.remote.fault_messages import Answer
from tests.remote.fault_proxy import Exchange

_FRONT_BYTES: Final = 1000


def reset_in_the_request(exchange: Exchange) -> None:
    """The connection is aborted while the client is still sending."""
    exchange.read_some(_FRONT_BYTES)
    exchange.reset()


def too_large(exchange: Exchange) -> None:
    """413 for every request with a body; those without are served."""
    if exchange.body():
        exchange.send(Answer(413).holding(b"<html>too large</html>"))
    else:
        exchange.serve()


def continues_elsewhere(exchange: Exchange) -> None:
    """The upload goes on at the other origin."""
    assert exchange.proxy.elsewhere is not None
    _relocate(exchange, exchange.proxy.elsewhere.base)


def continues_without_tls(exchange: Exchange) -> None:
    """The upload goes on over HTTP."""
    _relocate(exchange, f"http://{exchange.proxy.upstream}")


def loses_half_of_the_request(exchange: Exchange) -> None:
    """Only the front of a chunk arrives, and the registry says so."""
    body = exchange.body()
    half = body[: len(body) // 2]
    first = int((exchange.request.headers.get("content-range") or "0-").partition("-")[0])
    exchange.send(exchange.forward(body=half, content_range=f"{first}-{first + len(half) - 1}"))


def _relocate(exchange: Exchange, base: str) -> None:
    answer = exchange.answer()
    place = urlsplit(answer.headers.get("location", ""))
    exchange.send(answer.having(location=f"{base}{place.path}?{place.query}"))
