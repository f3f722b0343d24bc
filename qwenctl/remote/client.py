"""Requests to one registry: authentication, redirects and retries around the transport.

    send → authenticate on 401, once → follow redirects, credentials only to their origin → retry

A secret leaves this module only towards the registry's own origin, or to its token server once `auth`
has agreed.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urljoin, urlsplit

from qwenctl.errors import ConnectionBroken, QwenctlError, RateLimited, RegistryFailure, Unauthorized
from qwenctl.oci.protocol import parse_errors
from qwenctl.oci.reference import DOCKER_HUB
from qwenctl.remote.auth import Answer, TokenCache, token_flow
from qwenctl.remote.challenge import best_challenge
from qwenctl.remote.credentials import Credential
from qwenctl.remote.retry import RETRIED_STATUSES, RetryPolicy
from qwenctl.remote.transport import Request, Response, Transport, is_loopback, origin

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REDIRECT_LIMIT: Final = 5
_HUB_API: Final = "registry-1.docker.io"
_SAFE: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and dice, as arguments."""

    now: Callable[[], float] = time.monotonic
    today: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep
    dice: Callable[[], float] = random.random


def base_url(registry: str, insecure: frozenset[str]) -> str:
    """The origin of a registry's API: plain HTTP for loopback and where the user said so, else HTTPS."""
    if registry == DOCKER_HUB:
        return f"https://{_HUB_API}"
    scheme = "http" if is_loopback(registry) or registry in insecure else "https"
    return f"{scheme}://{registry}"


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
        self._credential = credential
        self._tokens = TokenCache()

    @property
    def anonymous(self) -> bool:
        """Whether there is nothing to show to this registry."""
        return self._credential is None

    def resolve_url(self, location: str, request_url: str = "") -> str:
        """An absolute address from a `Location`, relative or not, its query kept."""
        return urljoin(request_url or self.base, location)

    def send(self, request: Request, scopes: tuple[str, ...] = ()) -> Response:
        """The final answer: not a redirect, not a status that a later attempt may change.

        `request.url` is absolute or a path at the registry. 401 is returned only after the credentials
        were tried. Raises: Unreachable, Unauthorized, RegistryFailure.
        """
        request = replace(request, url=self.resolve_url(request.url))
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._send_once(request, scopes)
            except ConnectionBroken:
                if request.method not in _SAFE or attempt > 1:
                    raise
                continue  # a kept connection that the server had closed meanwhile
            if response.status not in RETRIED_STATUSES:
                return response
            delay = self.delay(attempt, response.headers.get("retry-after"))
            if delay is None:
                return response
            response.close()
            self.clock.sleep(delay)

    def delay(self, attempt: int, retry_after: str | None = None) -> float | None:
        """Seconds until the next attempt after number `attempt` failed; None to give up."""
        return self.policy.delay(attempt, retry_after, self.clock.dice(), self.clock.today())

    def _send_once(self, request: Request, scopes: tuple[str, ...]) -> Response:
        response = self._follow(request, scopes)
        if response.status != 401 or origin(response.url) != self.base:
            return response
        challenge = best_challenge(response.headers.get("www-authenticate", ""))
        if challenge is None:
            return response
        response.close()
        self._tokens.forget(scopes)
        flow = token_flow(challenge, scopes, self._credential, self.base)
        try:
            asked = next(flow)
            while True:
                with self._transport.send(asked) as answer:
                    asked = flow.send(Answer(answer.status, answer.read()))
        except StopIteration as done:
            self._tokens.put(scopes, done.value, self.clock.now())
        return self._follow(request, scopes)

    def _follow(self, request: Request, scopes: tuple[str, ...]) -> Response:
        for _ in range(_REDIRECT_LIMIT + 1):
            response = self._transport.send(self._authorized(request, scopes))
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


def failure(response: Response, what: str) -> QwenctlError:
    """The error for an answer that says no; reads and closes it. `what` is what was tried."""
    status, where = response.status, origin(response.url)
    errors = parse_errors(response.read())
    said = "; ".join(f"{e.code}: {e.message}" if e.message else e.code for e in errors[:3])
    detail = f" ({said[:300]})" if said else ""
    if status in (401, 403):
        return Unauthorized(
            f"`{where}` refuses {what}{detail}",
            hint="log in with `docker login`; a private model needs an account that may read it",
        )
    if status == 429:
        after = response.headers.get("retry-after")
        wait = f"come back in {after} seconds" if after and after.isdecimal() else "come back later"
        return RateLimited(f"`{where}` has had too many requests{detail}", hint=wait)
    return RegistryFailure(f"`{where}` answers {what} with status {status}{detail}")
