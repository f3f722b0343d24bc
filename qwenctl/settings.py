"""The user's settings: one frozen value, resolved once from flags, environment, file and defaults.

`resolve` is pure: the environment, the text of the file and the platform's directories are arguments.
A flag wins over the environment, the environment over the file, the file over the default.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from qwenctl.errors import InvalidSettings, UsageError
from qwenctl.units import parse_duration

DEFAULT_PORT: Final = 12434
"""The port of Docker Model Runner, so that what was written for it finds us."""


@dataclass(frozen=True, slots=True)
class Directories:
    """Where the platform wants a program's files (XDG on Linux, `~/Library` on macOS)."""

    config: Path
    data: Path
    state: Path
    runtime: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user decided. Each field is settable by flag, environment or file."""

    store: Path
    """The OCI layout that holds the models (`QWENCTL_STORE`)."""
    runtime: Path
    """Directory of the runner's socket and lock; private to the user (`QWENCTL_RUNTIME`)."""
    state: Path
    """Directory of logs and histories (`QWENCTL_STATE`)."""
    registry: str = "docker.io"
    """The registry of names that name none (`QWENCTL_REGISTRY`)."""
    insecure_registries: frozenset[str] = frozenset()
    """`host[:port]`s that need no certificate, nor TLS at all (`QWENCTL_INSECURE_REGISTRIES`)."""
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Per registry the addresses that are asked before it, in order (`QWENCTL_MIRRORS`)."""
    ca_bundle: Path | None = None
    """Certificates that count beside the system's, PEM (`QWENCTL_CA_BUNDLE`, else `SSL_CERT_FILE`)."""
    keep_alive_seconds: float = 300.0
    """How long an idle model stays loaded; infinity is forever (`QWENCTL_KEEP_ALIVE`)."""
    port: int = DEFAULT_PORT
    """TCP port of `qwenctl serve` (`QWENCTL_PORT`)."""
    ggml_backends: tuple[Path, ...] = ()
    """Further ggml backend libraries to load beside llama.cpp's own (`QWENCTL_GGML_BACKENDS`)."""


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise UsageError("the path is empty" if not text else "the path has a zero byte")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"the home directory in `{text}` is not known") from error


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(_path(part.strip()) for part in text.split(",") if part.strip())


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise UsageError(f"`{text}` is not a port", hint="a port is a number from 0 to 65535")
    return int(text)


def _hosts(text: str) -> frozenset[str]:
    hosts = frozenset(host.strip().lower() for host in text.split(",") if host.strip())
    for host in hosts:
        if not re.fullmatch(r"[^\s/@?#]+", host):
            raise UsageError(f"`{host.rpartition('@')[2]}` is not a registry", hint="write HOST[:PORT]")
    return hosts


def _host(text: str) -> str:
    if "/" in text or not ("." in text or ":" in text or text.lower() == "localhost"):
        raise UsageError(f"`{text}` is not a registry", hint="write HOST.DOMAIN or HOST:PORT")
    return text.lower()


def _mirrors(text: str) -> dict[str, tuple[str, ...]]:
    """`REGISTRY=URL,URL;REGISTRY=URL`; a registry without an address has no mirrors."""
    if "@" in text:  # whatever else is wrong with it: the message must not repeat a password
        raise UsageError("the address of a mirror has a user in it", hint="use `qwenctl login HOST`")
    found: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        registry, equals, addresses = part.partition("=")
        if not equals:
            raise UsageError("a mirror belongs to a registry", hint="write REGISTRY=URL,URL;REGISTRY=URL")
        urls = tuple(_mirror(url.strip()) for url in addresses.split(",") if url.strip())
        found[_host(registry.strip())] = urls
    return found


def _mirror(url: str) -> str:
    """An address of a mirror as it is used: no slash at its end."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable or parts.query or parts.fragment or re.search(r"\s", url):
        raise UsageError(f"`{url}` is not a mirror", hint="write http[s]://HOST[:PORT][/PREFIX]")
    return url.rstrip("/")


_PARSERS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "store": ("QWENCTL_STORE", _path),
    "runtime": ("QWENCTL_RUNTIME", _path),
    "state": ("QWENCTL_STATE", _path),
    "registry": ("QWENCTL_REGISTRY", _host),
    "insecure_registries": ("QWENCTL_INSECURE_REGISTRIES", _hosts),
    "mirrors": ("QWENCTL_MIRRORS", _mirrors),
    "ca_bundle": ("QWENCTL_CA_BUNDLE", _path),
    "keep_alive_seconds": ("QWENCTL_KEEP_ALIVE", parse_duration),
    "port": ("QWENCTL_PORT", _port),
    "ggml_backends": ("QWENCTL_GGML_BACKENDS", _paths),
}

FILE_KEYS: Final = {
    "store": "store",
    "runtime": "runtime",
    "state": "state",
    "registry": "registry",
    "insecure_registries": "insecure_registries",
    "mirrors": "mirrors",
    "ca_bundle": "ca_bundle",
    "keep_alive": "keep_alive_seconds",
    "port": "port",
    "ggml_backends": "ggml_backends",
}
"""The keys of the settings file, each with the field that it sets; flags are spelled like them."""
_CERTIFICATES: Final = "SSL_CERT_FILE"
_KEYS: Final = {field: key for key, field in FILE_KEYS.items()}


def resolve(
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    file_text: str,
    directories: Directories,
) -> Settings:
    """The settings in force. `flags` has field names; `None` and absent mean not given.

    Raises: InvalidSettings, naming where the unusable value came from.
    """
    values: dict[str, Any] = {
        "store": directories.data / "store",
        "runtime": directories.runtime,
        "state": directories.state,
    }
    if environ.get(_CERTIFICATES):  # OpenSSL ignores one that is not there; here the file must be usable
        values["ca_bundle"] = _parse("ca_bundle", environ[_CERTIFICATES], f"${_CERTIFICATES}")
    for key, text in _read_file(file_text).items():
        if key not in FILE_KEYS:
            known = ", ".join(FILE_KEYS)
            raise InvalidSettings(f"settings file: unknown key `{key}`", hint=f"known keys: {known}")
        values[FILE_KEYS[key]] = _parse(FILE_KEYS[key], text, f"settings file: `{key}`")
    for name, (variable, _) in _PARSERS.items():
        if environ.get(variable):
            values[name] = _parse(name, environ[variable], f"${variable}")
    for name, flag in flags.items():
        if flag is not None:
            values[name] = _parse(name, flag, f"--{_KEYS[name].replace('_', '-')}")
    assert values.keys() <= {field.name for field in fields(Settings)}
    return Settings(**values)


def also_insecure(settings: Settings, hosts: Iterable[str]) -> Settings:
    """The settings with further insecure registries, as the flag names them. Raises: InvalidSettings."""
    named = frozenset[str]().union(
        *(_parse("insecure_registries", host, "--insecure-registry") for host in hosts)
    )
    return replace(settings, insecure_registries=settings.insecure_registries | named)


def _parse(name: str, text: str, origin: str) -> Any:
    try:
        return _PARSERS[name][1](text)
    except UsageError as error:
        raise InvalidSettings(f"{origin}: {error.message}", hint=error.hint) from error


def _read_file(text: str) -> dict[str, str]:
    if not text.strip():
        return {}
    import yaml  # 20 ms that only users with a settings file pay

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: such as a 13th month
        raise InvalidSettings(f"settings file is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise InvalidSettings("settings file is not a mapping", hint="write `key: value` lines")
    return {str(key): _as_text(key, value) for key, value in document.items()}


def _as_text(key: object, value: object) -> str:
    if isinstance(value, dict) and key == "mirrors":
        return ";".join(f"{registry}={_as_text(registry, urls)}" for registry, urls in value.items())
    if isinstance(value, dict):
        raise InvalidSettings(f"settings file: `{key}` is not a single value")
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "" if value is None else str(value)
