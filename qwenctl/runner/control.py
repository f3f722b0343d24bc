"""The runner's own door: what `messages` says, as routes. The command line uses it, and any program may."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwenctl.api.exchange import (
    EventStream,
    answering,
    json_response,
    read_as,
    read_query,
    started,
    unless_disconnected,
)
from qwenctl.api.failures import http_status
from qwenctl.api.guard import is_unix
from qwenctl.api.host import keep_alive_seconds
from qwenctl.api.library import Library
from qwenctl.errors import NotFound, QwenctlError, UsageError
from qwenctl.runner.messages import (
    PREFIX,
    ChatCall,
    ChatLine,
    ConfigureAnswer,
    ConfigureCall,
    LoadCall,
    ModelReport,
    ModelsQuery,
    RequestsQuery,
    RunnerStatus,
    ShutdownCall,
    StopAnswer,
    StopCall,
)
from qwenctl.runner.pool import Pool
from qwenctl.runtime.events import Event
from qwenctl.runtime.wire import Failed


class Life(Protocol):
    """What a client may know and decide about the service itself."""

    def status(self) -> RunnerStatus:
        """Who answers."""
        ...

    def leave(self, *, only_if_idle: bool) -> None:
        """Begins the end: running requests are finished, new ones refused.

        Raises: Conflict when `only_if_idle` and requests are running.
        """
        ...


def refusal(error: QwenctlError) -> Response:
    """`error` as this door says it."""
    return json_response(Failed.of(None, error), http_status(error))


def routes(pool: Pool, life: Life, library: Library | None = None) -> list[Route]:
    """The routes under `PREFIX`, `/health` and `/metrics`."""
    return [*_service_routes(pool, life), *_model_routes(pool, library)]


def _service_routes(pool: Pool, life: Life) -> list[Route]:
    """What is asked about the service itself, and done to it."""

    async def health(_: Request) -> Response:
        return json_response({"status": "ok"})

    @answering(refusal)
    async def metrics(_: Request) -> Response:
        from qwenctl.runner.metrics import CONTENT_TYPE, render_metrics  # its library is for scrapes alone

        text = render_metrics(await pool.loaded(), pool.ledger.totals)
        return Response(text, media_type=CONTENT_TYPE)

    @answering(refusal)
    async def status(_: Request) -> Response:
        return json_response(life.status())

    @answering(refusal)
    async def requests(request: Request) -> Response:
        query = read_query(request.query_params, RequestsQuery)
        if query.bodies and not is_unix(request.scope):
            raise UsageError(
                "texts of requests are given over the private socket only",
                hint="`qwenctl requests --bodies` asks there",
            )
        model = query.model and (await pool.find(query.model)).name
        records = pool.ledger.records(model, limit=query.limit, after=query.after, bodies=query.bodies)
        return json_response(records)

    @answering(refusal)
    async def shutdown(request: Request) -> Response:
        call = await read_as(request, ShutdownCall)
        life.leave(only_if_idle=call.only_if_idle)
        return json_response(life.status())

    return [
        Route("/health", health, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        Route(f"{PREFIX}/status", status, methods=["GET"]),
        Route(f"{PREFIX}/requests", requests, methods=["GET"]),
        Route(f"{PREFIX}/shutdown", shutdown, methods=["POST"]),
    ]


def _model_routes(pool: Pool, library: Library | None) -> list[Route]:
    """What is asked of models, and done to them."""

    @answering(refusal)
    async def models(request: Request) -> Response:
        name = read_query(request.query_params, ModelsQuery).model
        found = await pool.models() if name is None else [await pool.find(name)]
        return json_response([ModelReport(one.name, one.id, dict(one.sampling)) for one in found])

    @answering(refusal)
    async def configure(request: Request) -> Response:
        call = await read_as(request, ConfigureCall)
        if library is None:
            raise NotFound("this runner keeps no settings of models")
        changed = bool(call.given or call.unset or call.reset)
        now = await library.change(call.model, call.given, call.unset, reset=call.reset)
        return json_response(
            ConfigureAnswer(
                model=now.name, reference=now.reference, configured=dict(now.values), changed=changed
            )
        )

    @answering(refusal)
    async def loaded(_: Request) -> Response:
        return json_response(await pool.loaded())

    @answering(refusal)
    async def load(request: Request) -> Response:
        call = await read_as(request, LoadCall)
        loading = pool.load(call.model, call.options, keep_alive_seconds=keep_alive_seconds(call.keep_alive))
        return json_response(await unless_disconnected(request, loading))

    @answering(refusal)
    async def stop(request: Request) -> Response:
        call = await read_as(request, StopCall)
        return json_response(StopAnswer(await pool.stop(call.model)))

    @answering(refusal)
    async def chat(request: Request) -> Response:
        call = await read_as(request, ChatCall)
        keep_alive = keep_alive_seconds(call.keep_alive)
        events = pool.generate(call.model, call.request, keep_alive_seconds=keep_alive)
        return EventStream(_lines(await started(request, events)), "application/x-ndjson", _failed)

    return [
        Route(f"{PREFIX}/models", models, methods=["GET"]),
        Route(f"{PREFIX}/configure", configure, methods=["POST"]),
        Route(f"{PREFIX}/loaded", loaded, methods=["GET"]),
        Route(f"{PREFIX}/load", load, methods=["POST"]),
        Route(f"{PREFIX}/stop", stop, methods=["POST"]),
        Route(f"{PREFIX}/chat", chat, methods=["POST"]),
    ]


async def _lines(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for event in events:
            yield _line(event)


def _failed(error: QwenctlError) -> bytes:
    return _line(Failed.of(None, error))


def _line(value: ChatLine) -> bytes:
    return msgspec.json.encode(value) + b"\n"
