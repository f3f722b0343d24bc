"""From a challenge and a credential to an `Authorization` header, without I/O.

`token_flow` yields requests and is sent answers, so that it can be read and tested as a dialogue. Tokens are
kept by scope until shortly before they end.

Source: distribution's token specification (GET, POST for identity tokens), RFC 6749 section 6; a token
without an expiry lasts 60 seconds there.
"""

import json
from collections.abc import Generator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlencode, urlsplit

from qwenctl.errors import RegistryFailure, Unauthorized
from qwenctl.remote.challenge import Challenge
from qwenctl.remote.credentials import Credential
from qwenctl.remote.transport import Request, origin

_CLIENT_ID: Final = "qwenctl"
HUB_API: Final = "registry-1.docker.io"
"""The host that answers for Docker Hub."""
_DEFAULT_SECONDS: Final = 60.0
_USED_SHARE: Final = 0.8  # of a token's life; the rest is for clocks that differ and requests under way


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """A header value and how long it may be used. Its `repr` shows no secret."""

    header: str
    seconds: float

    def __repr__(self) -> str:
        return f"Token(…, {self.seconds:.0f} s)"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a request of the flow."""

    status: int
    body: bytes


Flow = Generator[Request, Answer, Token]


def token_flow(
    challenge: Challenge, scopes: tuple[str, ...], credential: Credential | None, base: str
) -> Flow:
    """The dialogue that ends in a token for `scopes` at the registry whose origin is `base`.

    Raises: Unauthorized when the credential is refused, or needed and missing; RegistryFailure for a realm
    that a secret must not be sent to, or an answer without a token.
    """
    if challenge.scheme == "basic":
        if credential is None or not credential.user:
            raise Unauthorized(f"`{base}` wants a user and a password", hint=login_hint(base))
        return Token(credential.basic, float("inf"))
    if credential is not None and credential.registry_token:
        return Token(f"Bearer {credential.registry_token}", float("inf"))
    realm = challenge.parameters.get("realm", "")
    _check_realm(realm, base)
    wanted = tuple(dict.fromkeys((*scopes, *challenge.parameters.get("scope", "").split())))
    service = challenge.parameters.get("service", "")
    if credential is not None and credential.identity_token:
        answer = yield _refresh_request(realm, service, wanted, credential)
    else:
        answer = yield _get_request(realm, service, wanted, credential)
    if answer.status in (401, 403):
        raise Unauthorized(f"`{origin(realm)}` refused the credentials for `{base}`", hint=login_hint(base))
    if answer.status != 200:
        raise RegistryFailure(f"`{origin(realm)}` gave no token: status {answer.status}")
    return _parse_token(answer.body, realm)


def login_hint(base: str) -> str:
    """How to log in to the registry whose origin is `base`; Docker Hub needs no name."""
    host = urlsplit(base).netloc
    return f"log in with `qwenctl login{'' if host == HUB_API else f' {host}'}`"


def _get_request(realm: str, service: str, scopes: tuple[str, ...], credential: Credential | None) -> Request:
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    query += [("client_id", _CLIENT_ID)]
    headers = {}
    if credential is not None and credential.user:
        query.append(("account", credential.user))
        headers["Authorization"] = credential.basic
    joint = "&" if urlsplit(realm).query else "?"
    return Request("GET", f"{realm}{joint}{urlencode(query)}", headers)


def _refresh_request(realm: str, service: str, scopes: tuple[str, ...], credential: Credential) -> Request:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": credential.identity_token,
        "service": service,
        "client_id": _CLIENT_ID,
        "scope": " ".join(scopes),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return Request("POST", realm, headers, urlencode(form).encode())


def _check_realm(realm: str, base: str) -> None:
    """A realm must be no less secure than the registry, and no bare address unless it is the registry's."""
    parts, registry = urlsplit(realm), urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise RegistryFailure(f"`{base}` names no usable token server")
    if registry.scheme == "https" and parts.scheme != "https":
        raise RegistryFailure(f"`{base}` names a token server without TLS: `{origin(realm)}`")
    if parts.hostname != registry.hostname and _is_address(parts.hostname):
        raise RegistryFailure(f"`{base}` names a bare address as its token server: `{origin(realm)}`")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _parse_token(body: bytes, realm: str) -> Token:
    try:
        document = json.loads(body)
        text = document.get("token") or document.get("access_token")
        seconds = float(document.get("expires_in") or _DEFAULT_SECONDS)
    except (ValueError, AttributeError, TypeError) as error:
        raise RegistryFailure(f"`{origin(realm)}` answered with no token") from error
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise RegistryFailure(f"`{origin(realm)}` answered with no token")
    return Token(f"Bearer {text}", seconds)


class TokenCache:
    """Tokens by scope, forgotten at 80 % of their life. The clock is an argument."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, ...], tuple[Token, float]] = {}

    def get(self, scopes: tuple[str, ...], now: float) -> str | None:
        """The header for `scopes`; None when there is none that lasts."""
        kept = self._tokens.get(scopes)
        return kept[0].header if kept and now < kept[1] else None

    def put(self, scopes: tuple[str, ...], token: Token, now: float) -> None:
        """Keep a token from `now` (seconds of any clock that only grows)."""
        self._tokens[scopes] = (token, now + token.seconds * _USED_SHARE)

    def forget(self, scopes: tuple[str, ...]) -> None:
        """Drop a token that was refused."""
        self._tokens.pop(scopes, None)
