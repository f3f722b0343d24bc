"""What all doors need between a socket and a typed value: bounded bodies, decoding, streams that stop."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from qwenctl.api.failures import CLIENT_CLOSED_REQUEST, http_headers
from qwenctl.api.guard import ERROR
from qwenctl.errors import BodyTooLarge, InvalidRequest, QwenctlError

BODY_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""Thirty times the text of a 128k-token context; what is larger is a mistake."""
BODY_SECONDS: Final = 60.0
"""A body must be here by then; loopback brings the largest in a fraction of a second."""

Endpoint = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")

_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")  # shorter ones have 64 bits at the most
_MOST_DIGITS: Final = 20
_LOGGED_CHARACTERS: Final = 200  # a path is the client's to choose
_TOO_DEEP: Final = "the body is nested too deeply"
_log: Final = logging.getLogger("qwenctl.api")


async def read_as(request: Request, wanted: type[T]) -> T:
    """The JSON body of `request` as a `wanted`; fields that the type does not name are ignored.

    Raises: BodyTooLarge. InvalidRequest for one that does not arrive in time, is not JSON, has a wrong type
    somewhere, or is nested or has numbers beyond measure.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        hint = "send it as it is, without `Content-Encoding`"
        raise InvalidRequest(f"a body in the encoding `{encoding[:100]}` is not understood", hint=hint)
    body = bytes(await _read_body(request) or b"{}")
    try:
        value = msgspec.json.decode(body, type=wanted, dec_hook=_any_json)
        if _LONG_NUMBER.search(body):
            json.loads(body, parse_int=_whole_number)
        return value
    except msgspec.DecodeError as error:
        raise InvalidRequest(_complaint(error)) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest("the body is not UTF-8") from error
    except RecursionError as error:
        raise InvalidRequest(_TOO_DEEP) from error


def _whole_number(digits: str) -> int:
    """Larger ones than 64 bits no engine takes, and no other form than JSON carries."""
    if len(digits) > _MOST_DIGITS or not -(2**63) <= (value := int(digits)) < 2**64:
        raise InvalidRequest(f"the number {digits[:_MOST_DIGITS]}… is larger than 64 bits")
    return value


def read_query(query: Mapping[str, str], wanted: type[T]) -> T:
    """The parameters in an address as a `wanted`. Raises: InvalidRequest for a wrong type somewhere."""
    try:
        return msgspec.convert(dict(query), wanted, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_complaint(error)) from error


async def _read_body(request: Request) -> bytearray:
    too_large = BodyTooLarge(f"the body is larger than {BODY_LIMIT_BYTES} bytes")
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced) > BODY_LIMIT_BYTES:
        raise too_large  # before it is sent, where the client waits for a word
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > BODY_LIMIT_BYTES:
                    raise too_large
    except TimeoutError as error:
        raise InvalidRequest(f"the body did not arrive within {BODY_SECONDS:.0f} seconds") from error
    return body


def blamed_field(error: QwenctlError) -> str | None:
    """The path of the field (`messages[0].content`) whose type was wrong, if that was the error."""
    match = re.search(r" - at `\$\.?([^`]*)`$", str(error.__cause__))
    return match[1] or None if match else None


def _any_json(_: type, value: object) -> object:
    return value  # fields of type `object` hold the caller's JSON, for others to judge


def _complaint(error: msgspec.DecodeError) -> str:
    text = str(error)
    begin = text[:1] if text[:4] == "JSON" else text[:1].lower()
    return f"the request is not valid: {begin}{text[1:]}"


def json_response(value: object, status: int = 200) -> Response:
    """`value` (a msgspec structure, a dataclass, plain containers) as a JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def answering(render: Callable[[QwenctlError], Response]) -> Callable[[Endpoint], Endpoint]:
    """A decorator for endpoints: errors become responses in the shape of the door that `render` draws."""

    def decorate(endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except QwenctlError as error:
                return refuse(request, error)
            except ClientDisconnect:
                return Response(status_code=CLIENT_CLOSED_REQUEST)
            except RecursionError:  # what a client's JSON nests is walked here in many ways
                return refuse(request, InvalidRequest(_TOO_DEEP))
            except Exception:  # noqa: BLE001 - the loop of a server: one bad request must not end it
                return refuse(request, _bug(request.scope))

        return answer

    def refuse(request: Request, error: QwenctlError) -> Response:
        request.scope[ERROR] = error
        response = render(error)
        response.headers.update(http_headers(error))
        return response

    return decorate


def _bug(scope: Scope) -> QwenctlError:
    """The exception that is under way, which nobody expected, for the log; what the client hears of it."""
    _log.exception("%s %s", scope["method"], scope["path"][:_LOGGED_CHARACTERS])
    return QwenctlError("the runner met a bug", hint="its log has the details")


async def unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client leaves first. The body must be read before.

    Raises: ClientDisconnect.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def started(request: Request, stream: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """`stream` again, once its first item is there: what fails until then still gets a status of its own.

    The result owns `stream`: closing the one closes the other.
    """
    try:
        first = await unless_disconnected(request, anext(stream))
    except BaseException:
        await stream.aclose()
        raise
    return _chained(first, stream)


async def _chained(first: T, rest: AsyncGenerator[T]) -> AsyncGenerator[T]:
    async with aclosing(rest):
        yield first
        async for item in rest:
            yield item


class EventStream(StreamingResponse):
    """A streamed answer that closes its generator at once, whoever ends it: the generator, or the client.

    A failure under way is the last of its chunks, as `fail` says it. A plain `StreamingResponse` leaves a
    generator that waits at a `yield` to the garbage collector.
    """

    def __init__(
        self, chunks: AsyncGenerator[bytes], media_type: str, fail: Callable[[QwenctlError], bytes]
    ) -> None:
        super().__init__(chunks, media_type=media_type, headers={"cache-control": "no-cache"})
        self._chunks: AsyncGenerator[Any] = chunks
        self._fail = fail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the chunks until they end or the client leaves."""
        async with aclosing(self._chunks), aclosing(self._with_failure(scope)) as chunks:
            self.body_iterator = chunks
            await super().__call__(scope, receive, send)

    async def _with_failure(self, scope: Scope) -> AsyncGenerator[bytes]:
        try:
            async for chunk in self._chunks:
                yield chunk
        except QwenctlError as error:
            scope[ERROR] = error
            yield self._fail(error)
        except Exception:  # noqa: BLE001 - a stream that breaks off says nothing to its client
            scope[ERROR] = bug = _bug(scope)
            yield self._fail(bug)
