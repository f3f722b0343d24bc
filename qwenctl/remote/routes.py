"""The way to an address: through which proxy, and whose word proves who answers there.

Pure but for `environment_proxies`. Loopback is never proxied, as in Go's programs (Docker, skopeo, oras) and
unlike curl: a proxy cannot reach this machine's own registry.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import SplitResult, urlsplit

from qwenctl.errors import InvalidSettings
from qwenctl.settings import Settings

Proof = Literal["none", "certificate", "nothing"]
"""What proves a server: plain HTTP has none, a certificate, or TLS that is not verified (`nothing`)."""

_SCHEMES: Final = frozenset({"http", "https", "socks5", "socks5h"})
_PORTS: Final = {"http": 80, "https": 443}
_ENTRY: Final = re.compile(r"\[?(?P<host>[^\[\]]+?)\]?(?::(?P<port>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class Route:
    """How one address is reached. The proxy's address may hold a password: it is in no `repr`."""

    proof: Proof
    proxy: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Networks:
    """What is between us and the registries.

    `proxies` has `http`, `https`, `all` and `no` as the environment's `*_PROXY` variables have them.
    Servers of the `host[:port]`s in `insecure` need no certificate. `ca_bundle` is a file of certificates
    that count beside the system's.
    """

    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: frozenset[str] = frozenset()
    ca_bundle: Path | None = None

    def route(self, url: str) -> Route:
        """The way to `url`. Raises: InvalidSettings for a proxy that cannot be used."""
        parts = urlsplit(url)
        if parts.scheme != "https":
            return Route("none", self._proxy(parts))
        return Route("nothing" if is_insecure(url, self.insecure) else "certificate", self._proxy(parts))

    def _proxy(self, parts: SplitResult) -> str | None:
        address = self.proxies.get(parts.scheme) or self.proxies.get("all")
        host = parts.hostname or ""
        if not address or is_loopback(parts.netloc.rpartition("@")[2]):
            return None
        if _exempt(host, _port(parts), self.proxies.get("no", "")):
            return None
        return _checked(address if "://" in address else f"http://{address}", parts.scheme)


def networks_of(settings: Settings) -> Networks:
    """What the user's settings and environment say about the networks."""
    return Networks(environment_proxies(), settings.insecure_registries, settings.ca_bundle)


def environment_proxies() -> dict[str, str]:
    """The user's proxies: the environment's variables, on macOS else the system's settings."""
    from urllib.request import getproxies

    return getproxies()


def is_insecure(url: str, insecure: frozenset[str]) -> bool:
    """Whether the server of `url` is one of `insecure`; the scheme's own port need not be written."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    port = _port(parts)
    return f"{shown}:{port}" in insecure or (port == _PORTS.get(parts.scheme) and shown in insecure)


def is_loopback(host: str) -> bool:
    """Whether `host[:port]` is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _exempt(host: str, port: int | None, listed: str) -> bool:
    """Whether `NO_PROXY` names the host.

    Source: golang.org/x/net/http/httpproxy, `Config.NoProxy`: addresses, CIDR, names with their subdomains,
    `.name` for the subdomains alone, each perhaps with a port; `*` is everything.
    """
    return any(_is_named(host, port, entry) for entry in re.split(r"[\s,]+", listed.lower()) if entry)


def _is_named(host: str, port: int | None, entry: str) -> bool:
    if entry == "*":
        return True
    if (network := _network(entry)) is not None:
        return _in(host, network)
    match = _ENTRY.fullmatch(entry)
    if match is None or (match["port"] and int(match["port"]) != port):
        return False
    if (network := _network(match["host"])) is not None:
        return _in(host, network)
    name = match["host"].removeprefix("*")
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def _in(host: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None


def _checked(address: str, scheme: str) -> str:
    """The proxy's address if it is one. The message does not repeat it: it may hold a password."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidSettings(
            f"the proxy for {scheme} addresses is not an address that can be used",
            hint=f"write {scheme.upper()}_PROXY=http://[USER:PASSWORD@]HOST:PORT",
        )
    return address
