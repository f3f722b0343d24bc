"""What can go wrong between a client and a registry, each thing small and by its name.

A function that takes an exchange is a fault; one that takes something else makes a fault.
"""

import gzip
import random
import time
from typing import Final

from qwenctl.oci.protocol import parse_content_range
from tests.remote.fault_messages import Answer
from tests.remote.fault_proxy import Exchange, Fault

MORE_BYTES: Final = 1000
DRIP_SECONDS: Final = 4.0
"""How long a drip goes on in all, over all connections, before the client counts as endless."""
_DRIP_PAUSE_SECONDS: Final = 0.05
_HEADERS_LIMIT: Final = 32 * 1024 * 1024
_EXPIRED: Final = (
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
)


def in_turn(*faults: Fault) -> Fault:
    """The first fault at the first use, the second at the second; the last one from then on."""

    def fault(exchange: Exchange) -> None:
        faults[min(exchange.turn, len(faults)) - 1](exchange)

    return fault


def serve(exchange: Exchange) -> None:
    """Nothing at all."""
    exchange.serve()


# --- the connection ----------------------------------------------------------------------------


def stall_before_headers(exchange: Exchange) -> None:
    """Never an answer."""
    exchange.body()
    exchange.stall()


def stall_half_way(exchange: Exchange) -> None:
    """Half of the body, then nothing for ever."""
    answer = exchange.answer()
    exchange.send_head(answer)
    exchange.send_body(answer.body[: len(answer.body) // 2])
    exchange.stall()


def stall_after_ten(exchange: Exchange) -> None:
    """Ten bytes of the body, then nothing for ever: no progress worth the name."""
    answer = exchange.answer()
    exchange.send_head(answer)
    exchange.send_body(answer.body[:10])
    exchange.stall()


def drip(exchange: Exchange) -> None:
    """A byte now and then. Once this has gone on for long enough, the client counts as endless."""
    if not _drip(exchange, DRIP_SECONDS):
        exchange.proxy.endless = True
        exchange.proxy.go_down()
    exchange.end()


def drip_a_while(exchange: Exchange) -> None:
    """A byte now and then, and soon the end of the connection."""
    _drip(exchange, 10 * _DRIP_PAUSE_SECONDS)
    exchange.end()


def reset_before_answer(exchange: Exchange) -> None:
    """The connection is aborted instead of an answer."""
    exchange.body()
    exchange.reset()


def reset_half_way(exchange: Exchange) -> None:
    """The connection is aborted in the middle of the body."""
    _cut(exchange, share=0.5, reset=True)


def reset_after_ten(exchange: Exchange) -> None:
    """The connection is aborted after ten bytes: no progress worth the name."""
    _cut(exchange, length=10, reset=True)


def end_half_way(exchange: Exchange) -> None:
    """The connection is closed in the middle of what was promised."""
    _cut(exchange, share=0.5)


def end_after_ten(exchange: Exchange) -> None:
    """The connection is closed after ten bytes: no progress worth the name."""
    _cut(exchange, length=10)


def go_down_half_way(exchange: Exchange) -> None:
    """The server goes away in the middle of the body; further connections are refused."""
    exchange.proxy.go_down()
    _cut(exchange, share=0.5)


def go_down(exchange: Exchange) -> None:
    """The server goes away; this connection is aborted, further ones are refused."""
    exchange.proxy.go_down()
    exchange.reset()


def garbage_instead_of_http(exchange: Exchange) -> None:
    """No status line."""
    exchange.body()
    exchange.send_raw(b"\x00\xff what is this\r\n\r\n" * 20)
    exchange.end()


def line_feeds_only(exchange: Exchange) -> None:
    """Headers that end in LF, as some limiter of a large registry sent them."""
    answer = exchange.answer()
    exchange.seen.status = answer.status
    exchange.send_raw(answer.head().replace(b"\r\n", b"\n"))
    if exchange.request.method != "HEAD":
        exchange.send_body(answer.body)


def endless_headers(exchange: Exchange) -> None:
    """Headers, and never their end."""
    exchange.body()
    exchange.send_raw(b"HTTP/1.1 200 OK\r\n")
    line = b"X-More: " + b"m" * 1000 + b"\r\n"
    for _ in range(_HEADERS_LIMIT // len(line)):
        exchange.send_raw(line)
    exchange.proxy.endless = True
    exchange.end()


# --- lengths and encodings ---------------------------------------------------------------------


def shortened(exchange: Exchange) -> None:
    """Half of the body, and a `Content-Length` that agrees: a proxy that truncates."""
    answer = exchange.answer()
    exchange.send(answer.holding(answer.body[: len(answer.body) // 2]))


def shortened_to_ten(exchange: Exchange) -> None:
    """Ten bytes of the body, and a `Content-Length` that agrees."""
    answer = exchange.answer()
    exchange.send(answer.holding(answer.body[:10]))


def promises_more(exchange: Exchange) -> None:
    """A `Content-Length` larger than the content, which comes whole; then the end."""
    answer = exchange.answer()
    exchange.send(answer.having(content_length=str(len(answer.body) + MORE_BYTES)))
    exchange.end()


def sends_more(exchange: Exchange) -> None:
    """Garbage at the end of the body, and a `Content-Length` that agrees."""
    answer = exchange.answer()
    exchange.send(answer.holding(answer.body + b"?" * MORE_BYTES))


def sends_more_in_chunks(exchange: Exchange) -> None:
    """Garbage at the end of a body in chunks, so that no header says it."""
    answer = exchange.answer()
    _send_chunked(exchange, answer.holding(answer.body + b"?" * MORE_BYTES))


def goes_on_behind_the_end(exchange: Exchange) -> None:
    """Garbage on the connection behind a body of the right length."""
    exchange.serve()
    exchange.send_raw(b"?" * MORE_BYTES)


def chunked(exchange: Exchange) -> None:
    """Chunks instead of a length: allowed."""
    _send_chunked(exchange, exchange.answer())


def gzipped(exchange: Exchange) -> None:
    """Compressed although nobody asked, and without ranges, as some content networks do."""
    answer = exchange.forward(range=None)
    exchange.send(answer.holding(gzip.compress(answer.body, 1)).having(content_encoding="gzip"))


# --- statuses ----------------------------------------------------------------------------------


def status(number: int, body: bytes = b"", **headers: str) -> Fault:
    """This status instead of the answer."""
    told = {key.replace("_", "-"): text for key, text in headers.items()}

    def fault(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(Answer(number, told).holding(body))

    return fault


def token_expired(exchange: Exchange) -> None:
    """All tokens end at this moment, before their time."""
    exchange.proxy.expire_tokens()
    exchange.serve()


def no_token_is_good(exchange: Exchange) -> None:
    """Whatever is shown is refused."""
    exchange.body()
    exchange.send(exchange.proxy.challenge())


# --- redirects ---------------------------------------------------------------------------------


def redirect_signed(exchange: Exchange) -> None:
    """To the other origin, with a signature that is good for one use."""
    assert exchange.proxy.elsewhere is not None
    _redirect(exchange, exchange.proxy.elsewhere.base, f"{next(exchange.proxy.numbers)}")


def redirect_expired(exchange: Exchange) -> None:
    """To the other origin, with a signature that has expired already."""
    assert exchange.proxy.elsewhere is not None
    _redirect(exchange, exchange.proxy.elsewhere.base, "expired")


def redirect_in_a_circle(exchange: Exchange) -> None:
    """To where it came from."""
    exchange.send(Answer(307, {"location": exchange.request.path, "content-length": "0"}))


def redirect_without_tls(exchange: Exchange) -> None:
    """From HTTPS to HTTP."""
    _redirect(exchange, f"http://{exchange.proxy.upstream}", "1")


def checking_signatures(fault: Fault) -> Fault:
    """At the other origin: 403 for a signature that was used or has expired, else `fault`."""

    def check(exchange: Exchange) -> None:
        signature = exchange.request.query("signature") or "expired"
        if signature == "expired" or not exchange.proxy.is_first_use(signature):
            return exchange.send(Answer(403, {"content-type": "application/xml"}).holding(_EXPIRED))
        return fault(exchange)

    return check


# --- ranges ------------------------------------------------------------------------------------


def ignores_range(exchange: Exchange) -> None:
    """200 and the whole."""
    exchange.send(exchange.forward(range=None))


def other_range(exchange: Exchange) -> None:
    """206 with an honest `Content-Range` that is not the one asked for."""
    first, last = _asked(exchange)
    exchange.send(exchange.forward(range=f"bytes={first + 100}-{last}"))


def bytes_from_elsewhere(exchange: Exchange) -> None:
    """206 with the right `Content-Range`, and bytes from another place."""
    first, last = _asked(exchange)
    shift = -100 if first >= 100 else 1
    there = exchange.forward(range=f"bytes={first + shift}-{last + shift}")
    exchange.send(there.having(content_range=exchange.answer().headers["content-range"]))


def wrong_total(exchange: Exchange) -> None:
    """206 with the right bytes of content that is said to be larger."""
    answer = exchange.answer()
    part = parse_content_range(answer.headers.get("content-range"))
    assert part is not None and part[2] is not None
    exchange.send(answer.having(content_range=f"bytes {part[0]}-{part[1]}/{part[2] + 5}"))


def no_content_range(exchange: Exchange) -> None:
    """206 that does not say of what."""
    exchange.send(exchange.answer().having(content_range=None))


def refuses_range(exchange: Exchange) -> None:
    """416, whatever the range."""
    exchange.send(Answer(416, {"content-range": "bytes */*"}).holding(b""))


def multipart(exchange: Exchange) -> None:
    """206 as `multipart/byteranges`, RFC 9110 section 14.6."""
    answer = exchange.answer()
    said = answer.headers.get("content-range", "bytes 0-0/1")
    part = b"--cut\r\nContent-Range: %s\r\n\r\n%s\r\n--cut--\r\n" % (said.encode(), answer.body)
    exchange.send(
        answer.holding(part).having(content_range=None, content_type="multipart/byteranges; boundary=cut")
    )


# --- content -----------------------------------------------------------------------------------


def flipped_bit(exchange: Exchange) -> None:
    """One bit in the middle is another."""
    answer = exchange.answer()
    body = bytearray(answer.body)
    if body:
        body[len(body) // 2] ^= 1
    exchange.send(answer.holding(bytes(body)))


def other_content(exchange: Exchange) -> None:
    """Other bytes, as many."""
    answer = exchange.answer()
    exchange.send(answer.holding(random.Random(1).randbytes(len(answer.body))))


def other_path(path: str) -> Fault:
    """What is at another path of the registry."""

    def fault(exchange: Exchange) -> None:
        exchange.send(exchange.forward(path))

    return fault


def says(**headers: str | None) -> Fault:
    """The answer with other headers; None takes one away."""

    def fault(exchange: Exchange) -> None:
        exchange.send(exchange.answer().having(**headers))

    return fault


def _cut(exchange: Exchange, *, share: float = 0.0, length: int = 0, reset: bool = False) -> None:
    answer = exchange.answer()
    exchange.send_head(answer)
    if exchange.request.method != "HEAD":
        exchange.send_body(answer.body[: int(len(answer.body) * share) or length])
    if reset:
        exchange.reset()
    else:
        exchange.end()


def _drip(exchange: Exchange, seconds: float) -> bool:
    """Whether all of the body was sent in `seconds`."""
    answer, stop = exchange.answer(), time.monotonic() + seconds
    exchange.send_head(answer)
    for value in answer.body:
        exchange.send_body(bytes([value]))
        time.sleep(_DRIP_PAUSE_SECONDS)
        if time.monotonic() > stop:
            return False
    return True


def _send_chunked(exchange: Exchange, answer: Answer) -> None:
    exchange.send_head(answer.having(content_length=None, transfer_encoding="chunked"))
    if exchange.request.method == "HEAD":
        return
    middle = len(answer.body) // 2
    for piece in (answer.body[:middle], answer.body[middle:]):
        exchange.send_raw(b"%x\r\n" % len(piece))
        exchange.send_body(piece)
        exchange.send_raw(b"\r\n")
    exchange.send_raw(b"0\r\n\r\n")


def _redirect(exchange: Exchange, base: str, signature: str) -> None:
    exchange.body()
    target = f"{base}{exchange.request.path}?signature={signature}"
    exchange.send(Answer(307, {"location": target, "content-length": "0"}))


def _asked(exchange: Exchange) -> tuple[int, int]:
    """First and last byte of the closed range that was asked for."""
    first, _, last = (exchange.request.range or "bytes=0-0").removeprefix("bytes=").partition("-")
    return int(first), int(last)
