"""Which API an address belongs to."""

import pytest

from qwenctl.api.doors import door_of


@pytest.mark.parametrize(
    ("path", "door"),
    [
        ("/", "ollama"),
        ("/api", "ollama"),
        ("/api/chat", "ollama"),
        ("/apiary", "openai"),
        ("/v1/chat/completions", "openai"),
        ("/rerank", "openai"),
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/messagesx", "openai"),
        ("/anthropic/v1/models", "anthropic"),
        ("/models", "docker"),
        ("/models/create", "docker"),
        ("/version", "docker"),
        ("/engines/status", "docker"),
        ("/engines/_configure", "docker"),
        ("/engines/llama.cpp/_configure", "docker"),
        ("/engines/v1/models", "openai"),
        ("/engines/llama.cpp/v1/chat/completions", "openai"),
        ("/engines/rerank", "openai"),
        ("/engines/v1/messages", "anthropic"),
        ("/engines/llama.cpp/v1/messages/count_tokens", "anthropic"),
        ("/qwenctl/v1/status", "qwenctl"),
        ("/health", "qwenctl"),
        ("/metrics", "qwenctl"),
        ("/nowhere", "openai"),
        ("", "openai"),
    ],
)
def test_every_address_has_its_door(path: str, door: str) -> None:
    """By whole steps of the path; what stands under `/engines` counts as what it is without."""
    assert door_of(path) == door
