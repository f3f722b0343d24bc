"""Which of the APIs an address belongs to, for whoever answers there or writes down what was asked. Pure."""

from typing import Final, Literal

Door = Literal["openai", "anthropic", "ollama", "docker", "qwenctl"]

ENGINE: Final = "llama.cpp"
"""What Docker Model Runner calls the engine, the only one."""
MOUNTS: Final = (f"/engines/{ENGINE}", "/engines")
"""Where Docker Model Runner has the APIs of OpenAI and Anthropic, too."""

_DOORS: Final[tuple[tuple[str, Door], ...]] = (
    ("/qwenctl/v1", "qwenctl"),
    ("/health", "qwenctl"),
    ("/metrics", "qwenctl"),
    ("/v1/messages", "anthropic"),
    ("/anthropic", "anthropic"),
    ("/api", "ollama"),
    ("/models", "docker"),
    ("/engines", "docker"),
    ("/version", "docker"),
)


def door_of(path: str) -> Door:
    """The API that `path` belongs to; OpenAI's where nothing else says so."""
    if path == "/":
        return "ollama"
    for mount in MOUNTS:
        rest = path.removeprefix(mount)
        if rest != path and (_is_under(rest, "/v1") or _is_under(rest, "/rerank")):
            path = rest
            break
    return next((door for start, door in _DOORS if _is_under(path, start)), "openai")


def _is_under(path: str, start: str) -> bool:
    return path == start or path.startswith(f"{start}/")
