"""The user's settings: one frozen value, resolved once from flags, environment, file and defaults.

`resolve` is pure: the environment, the text of the file and the platform's directories are arguments.
A flag wins over the environment, the environment over the file, the file over the default.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal
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
    host: str = "127.0.0.1"
    """Address that `qwenctl serve` listens on; beyond this machine it needs a key (`QWENCTL_HOST`)."""
    api_key_file: Path | None = None
    """File with the key that clients of `qwenctl serve` must have (`QWENCTL_API_KEY_FILE`)."""
    cors: tuple[str, ...] = ()
    """Origins of web pages that may use `qwenctl serve`; `*` is all (`QWENCTL_CORS`)."""
    max_models: int = 3
    """Models in memory at the same time (`QWENCTL_MAX_MODELS`)."""
    max_queue: int = 512
    """Requests that wait for one model (`QWENCTL_MAX_QUEUE`)."""
    request_timeout_seconds: float = float("inf")
    """How long a request may take, waiting included; infinity is no limit (`QWENCTL_REQUEST_TIMEOUT`)."""
    hub: str = "https://hub.docker.com"
    """Docker Hub's catalogue, which `search` asks; empty is never (`QWENCTL_HUB`)."""
    save_chats: bool = True
    """Whether `run` saves chats, and the history of what was typed (`QWENCTL_SAVE_CHATS`)."""


Origin = Literal["default", "file", "environment", "flag"]
"""Where the value of a setting comes from."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting in force: its key in the file, its variable, its value as both take it, and its origin."""

    key: str
    variable: str
    text: str
    origin: Origin


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


def _address(text: str) -> str:
    if not text or re.search(r"[\s/@?#]", text):
        raise UsageError(f"`{text}` is not an address", hint="write it like 127.0.0.1, ::1 or 0.0.0.0")
    return text


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(dict.fromkeys(part.strip().rstrip("/") for part in text.split(",") if part.strip()))
    for origin in origins:
        if origin not in {"*", "null"} and not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/@?#]+", origin):
            raise UsageError(f"`{origin}` is not an origin", hint="write SCHEME://HOST[:PORT], or * for all")
    return origins


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) == 0:
        raise UsageError(f"`{text}` is not a number of things", hint="write a number from 1 to 999999")
    return int(text)


def _timeout(text: str) -> float:
    seconds = parse_duration(text)
    if seconds == 0:
        raise UsageError("no request can be answered in no time", hint="write it like 90s or 5m; -1 is none")
    return seconds


def _hub(text: str) -> str:
    return "" if text.lower() in {"", "none"} else _mirror(text)


def _yes(text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise UsageError(f"`{text}` is neither yes nor no", hint="write true or false")
    return text.lower() in _YES


_YES: Final = frozenset({"true", "yes", "on", "1"})
_NO: Final = frozenset({"false", "no", "off", "0"})

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
    "host": ("QWENCTL_HOST", _address),
    "api_key_file": ("QWENCTL_API_KEY_FILE", _path),
    "cors": ("QWENCTL_CORS", _origins),
    "max_models": ("QWENCTL_MAX_MODELS", _count),
    "max_queue": ("QWENCTL_MAX_QUEUE", _count),
    "request_timeout_seconds": ("QWENCTL_REQUEST_TIMEOUT", _timeout),
    "hub": ("QWENCTL_HUB", _hub),
    "save_chats": ("QWENCTL_SAVE_CHATS", _yes),
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
    "host": "host",
    "api_key_file": "api_key_file",
    "cors": "cors",
    "max_models": "max_models",
    "max_queue": "max_queue",
    "request_timeout": "request_timeout_seconds",
    "hub": "hub",
    "save_chats": "save_chats",
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
    return _resolve(flags, environ, file_text, directories)[0]


def _resolve(
    flags: Mapping[str, str | None], environ: Mapping[str, str], file_text: str, directories: Directories
) -> tuple[Settings, dict[str, Origin]]:
    """The settings in force, and where those that are no default come from."""
    values: dict[str, Any] = {
        "store": directories.data / "store",
        "runtime": directories.runtime,
        "state": directories.state,
    }
    origins: dict[str, Origin] = {}
    if environ.get(_CERTIFICATES):  # OpenSSL ignores one that is not there; here the file must be usable
        values["ca_bundle"] = _parse("ca_bundle", environ[_CERTIFICATES], f"${_CERTIFICATES}")
        origins["ca_bundle"] = "environment"
    for key, text in read_file(file_text).items():
        name = field_of(key, "settings file: ")
        values[name], origins[name] = _parse(name, text, f"settings file: `{key}`"), "file"
    for name, (variable, _) in _PARSERS.items():
        if environ.get(variable):
            values[name] = _parse(name, environ[variable], f"${variable}")
            origins[name] = "environment"
    for name, flag in flags.items():
        if flag is not None:
            values[name] = _parse(name, flag, f"--{_KEYS[name].replace('_', '-')}")
            origins[name] = "flag"
    assert values.keys() <= {field.name for field in fields(Settings)}
    return Settings(**values), origins


def explain(environ: Mapping[str, str], file_text: str, directories: Directories) -> tuple[Setting, ...]:
    """Every setting in force with its origin, in the order of the keys. Raises: InvalidSettings."""
    settings, origins = _resolve({}, environ, file_text, directories)
    found = []
    for key, name in FILE_KEYS.items():
        variable = _PARSERS[name][0]
        if name == "ca_bundle" and not environ.get(variable) and environ.get(_CERTIFICATES):
            variable = _CERTIFICATES
        found.append(Setting(key, variable, render(getattr(settings, name)), origins.get(name, "default")))
    return tuple(found)


def canonical(key: str, text: str) -> str:
    """`text` as the setting `key` understands it, written the one way. Raises: InvalidSettings."""
    return render(_parse(field_of(key), text, f"`{key}`"))


def field_of(key: str, where: str = "") -> str:
    """The field that a key sets. Raises: InvalidSettings with the known keys."""
    if key not in FILE_KEYS:
        raise InvalidSettings(f"{where}unknown key `{key}`", hint=f"known keys: {', '.join(FILE_KEYS)}")
    return FILE_KEYS[key]


def variable_of(key: str) -> str:
    """The environment variable that goes before the file for `key`. Raises: InvalidSettings."""
    return _PARSERS[field_of(key)][0]


def render(value: object) -> str:
    """The text that a value is parsed from: the inverse of the parsers."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return _duration(value)
        case tuple():
            return ",".join(str(item) for item in value)
        case frozenset():
            return ",".join(sorted(str(item) for item in value))
        case Mapping():
            return ";".join(f"{registry}={','.join(urls)}" for registry, urls in value.items())
        case _:
            return str(value)


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "-1"
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:g}s"


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


def read_file(text: str) -> dict[str, str]:
    """The keys of a settings file, each with the text that its parser takes. Raises: InvalidSettings."""
    if not text.strip():
        return {}
    import yaml  # 20 ms that only users with a settings file pay

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: such as a 13th month
        raise InvalidSettings(f"settings file is not YAML: {error}") from error
    if document is None:  # comments alone
        return {}
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
