"""Requests to one registry: authentication, redirects and retries around the transport.

    send → authenticate on 401, once → follow redirects, credentials only to their origin → retry

A secret leaves this module only towards the registry's own origin, or to its token server once `auth`
has agreed.
"""

import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from qwenctl.errors import (
    ConnectionBroken,
    QwenctlError,
    RateLimited,
    RegistryFailure,
    Unauthorized,
    Unreachable,
)
from qwenctl.oci.protocol import parse_errors
from qwenctl.oci.reference import DOCKER_HUB
from qwenctl.remote.auth import HUB_API, Answer, TokenCache, token_flow
from qwenctl.remote.challenge import Challenge, best_challenge
from qwenctl.remote.credentials import Credential
from qwenctl.remote.retry import RETRIED_STATUSES, RetryPolicy
from qwenctl.remote.routes import is_loopback
from qwenctl.remote.transport import Headers, Request, Response, Transport, origin
from qwenctl.units import render_duration

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REDIRECT_LIMIT: Final = 5
_SAFE: Final = frozenset({"GET", "HEAD"})
_STALE: Final = frozenset({400, 401, 403, 404, 410})  # what an expired address answers


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and dice, as arguments."""

    now: Callable[[], float] = time.monotonic
    today: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep
    dice: Callable[[], float] = random.random


def base_url(registry: str, insecure: frozenset[str]) -> str:
    """The origin of a registry's API: plain HTTP for loopback and where the user said so, else HTTPS.

    Docker Hub is never insecure.
    """
    if registry == DOCKER_HUB:
        return f"https://{HUB_API}"
    scheme = "http" if is_loopback(registry) or registry in insecure else "https"
    return f"{scheme}://{registry}"


def find_base(transport: Transport, registry: str, insecure: frozenset[str]) -> str:
    """The origin of a registry's API, for one of `insecure` whichever works.

    TLS is tried first, with a certificate that nobody verifies, and plain HTTP only where that fails.
    Credentials filed under such a registry are sent to it either way: who lists it trusts the network that
    it is on. Source: Docker's `dockerd` reference, "Insecure registries".
    """
    plain = base_url(registry, insecure)
    if registry not in insecure or plain.startswith("https:"):
        return plain
    secure = f"https://{registry}"
    try:
        transport.send(Request("GET", f"{secure}/v2/")).close()
    except ConnectionBroken:
        return secure  # TLS was spoken before that
    except Unreachable:
        return plain
    return secure


class Client:
    """One registry as this user sees it. Any thread may send."""

    def __init__(
        self,
        transport: Transport,
        base: str,
        credential: Credential | None = None,
        policy: RetryPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.base = base
        self.policy = policy or RetryPolicy()
        self.clock = clock or Clock()
        self._transport = transport
        self.challenged = False  # whether the registry has asked who we are
        self._credential = credential
        self._tokens = TokenCache()
        self._asking = Lock()

    @property
    def anonymous(self) -> bool:
        """Whether there is nothing to show to this registry."""
        return self._credential is None

    def resolve_url(self, location: str, request_url: str = "") -> str:
        """An absolute address from a `Location`, relative or not, its query kept."""
        return urljoin(request_url or self.base, location)

    def send(
        self, request: Request, scopes: tuple[str, ...] = (), *, read_limit: int | None = None
    ) -> Response:
        """The final answer: not a redirect, not a status that a later attempt may change.

        `request.url` is absolute or a path at the registry. 401 is returned only after the credentials
        were tried. With `read_limit` the body, at most so many bytes, is here too: it counts as part of the
        attempt, and an address that expired is asked for anew.

        Raises: Unreachable, Unauthorized, RegistryFailure.
        """
        request = replace(request, url=self.resolve_url(request.url))
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._send_once(request, scopes)
                if read_limit is not None and response.status < 400:
                    response.keep(read_limit)
            except ConnectionBroken as error:
                delay = self.delay(attempt) if request.method in _SAFE or request.repeatable else None
                if delay is None and attempt == 1:
                    raise
                if delay is None:
                    raise _tired(error, attempt) from error
                if attempt > 1:  # once without: a kept connection that the server had closed meanwhile
                    self.clock.sleep(delay)
                continue
            response.attempts = attempt
            expired = read_limit is not None and self.is_expired(response)
            if response.status not in RETRIED_STATUSES and not expired:
                return response
            delay = self.delay(attempt, response.headers.get("retry-after"))
            if delay is None:
                return response
            response.close()
            self.clock.sleep(delay)

    def is_expired(self, response: Response) -> bool:
        """Whether an address elsewhere, that the registry gave, says no: a new one may do better."""
        return response.status in _STALE and origin(response.url) != self.base

    def delay(self, attempt: int, retry_after: str | None = None) -> float | None:
        """Seconds until the next attempt after number `attempt` failed; None to give up."""
        return self.policy.delay(attempt, retry_after, self.clock.dice(), self.clock.today())

    def _send_once(self, request: Request, scopes: tuple[str, ...]) -> Response:
        shown = self._tokens.get(scopes, self.clock.now())
        response = self._follow(request, scopes)
        if response.status != 401 or origin(response.url) != self.base:
            return response
        challenge = best_challenge(response.headers.get("www-authenticate", ""))
        if challenge is None:
            return response
        response.close()
        self.challenged = True
        with self._asking:  # one thread asks; those that waited have its token
            if self._tokens.get(scopes, self.clock.now()) in (None, shown):
                self._renew(challenge, scopes)
        return self._follow(request, scopes)

    def _renew(self, challenge: Challenge, scopes: tuple[str, ...]) -> None:
        """Get a token for `scopes`. Raises: Unauthorized, RegistryFailure, RateLimited, Unreachable."""
        self._tokens.forget(scopes)
        flow = token_flow(challenge, scopes, self._credential, self.base)
        try:
            asked = next(flow)
            while True:
                asked = flow.send(self._ask_token_server(asked))
        except StopIteration as done:
            self._tokens.put(scopes, done.value, self.clock.now())

    def _ask_token_server(self, asked: Request) -> Answer:
        """What it says in the end. Raises: RateLimited, RegistryFailure, Unreachable."""
        attempt = 0
        while True:
            attempt += 1
            with self._transport.send(asked) as response:
                response.attempts, response.now = attempt, self.clock.now
                if response.status not in RETRIED_STATUSES:
                    return Answer(response.status, response.read())
                delay = self.delay(attempt, response.headers.get("retry-after"))
                if delay is None:
                    raise failure(response, "the question for a token")
            self.clock.sleep(delay)

    def _follow(self, request: Request, scopes: tuple[str, ...]) -> Response:
        for _ in range(_REDIRECT_LIMIT + 1):
            response = self._transport.send(self._authorized(request, scopes))
            response.now = self.clock.now
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            target = urljoin(request.url, location)
            if urlsplit(request.url).scheme == "https" and urlsplit(target).scheme != "https":
                raise RegistryFailure(f"`{origin(request.url)}` redirects to `{origin(target)}` without TLS")
            request = replace(request, url=target)
        raise RegistryFailure(f"`{self.base}` redirects more than {_REDIRECT_LIMIT} times")

    def _authorized(self, request: Request, scopes: tuple[str, ...]) -> Request:
        token = self._tokens.get(scopes, self.clock.now())
        if token is None or origin(request.url) != self.base:
            return request
        return replace(request, headers={**request.headers, "Authorization": token})


def _tired(error: ConnectionBroken, attempts: int) -> ConnectionBroken:
    """The error of the last attempt, with their number."""
    return ConnectionBroken(f"{error.message}, {attempts} attempts", hint=error.hint)


def failure(response: Response, what: str) -> QwenctlError:
    """The error for an answer that says no; reads and closes it. `what` is what was tried."""
    status, where = response.status, origin(response.url)
    errors: tuple[Any, ...] = ()
    with suppress(Unreachable):  # the connection broke while it was explaining itself
        errors = tuple(parse_errors(response.read()))
    said = "; ".join(f"{e.code}: {e.message}" if e.message else e.code for e in errors[:3])
    detail = f" ({said[:300]})" if said else ""
    times = f", {response.attempts} attempts" if response.attempts > 1 else ""
    if status in (401, 403):
        return Unauthorized(
            f"`{where}` refuses {what}{detail}",
            # no host here: it may be one that the registry redirected to, and nobody should log in there
            hint="log in with `qwenctl login HOST`; a private model needs an account that may read it"
            + ("" if said or status == 401 else "; a proxy on the way may be what refuses"),
        )
    if status == 429:
        login = "`qwenctl login`" if where == f"https://{HUB_API}" else "`qwenctl login HOST`"
        return RateLimited(
            f"`{where}` has had too many requests{_quota(response.headers)}{detail}{times}: refused {what}",
            hint=f"{_come_back(response.headers.get('retry-after'))}; an account may ask more often: {login}",
        )
    return RegistryFailure(f"`{where}` answers {what} with status {status}{detail}{times}")


def _come_back(retry_after: str | None) -> str:
    """When a server wants to be asked again. Source: RFC 9110 section 10.2.3, seconds or a date."""
    text = (retry_after or "").strip()
    if text.isdecimal() and len(text) < 10:
        return f"come back in {text} seconds ({render_duration(int(text))})"
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return "come back later"
    return f"come back at {moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _quota(headers: Headers) -> str:
    """How many pulls are left of how many, as Docker Hub tells: `100;w=21600` is 100 in six hours."""
    limit = re.fullmatch(r"([0-9]{1,9})(?:;w=([0-9]{1,9}))?", headers.get("ratelimit-limit", ""))
    left = re.match(r"[0-9]{1,9}(?=;|$)", headers.get("ratelimit-remaining", ""))
    if limit is None or left is None:
        return ""
    window = f" in {render_duration(int(limit[2]))}" if limit[2] else ""
    return f": {left[0]} of {limit[1]} pulls are left{window}"
