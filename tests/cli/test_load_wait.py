"""What a person is told while a runner is waited for."""

from typing import Any

import pytest

from qwenctl.cli.load_wait import stage
from qwenctl.runner.messages import LoadedStatus


def _model(name: str, state: Any, **fields: Any) -> LoadedStatus:
    return LoadedStatus(
        name=name, id="sha256:0", state=state, expires_seconds=None, **{"requests": 0, **fields}
    )


@pytest.mark.parametrize(
    ("loaded", "told"),
    [
        ([], "loading a …"),
        ([_model("a", "loading", pid=1)], "loading a …"),
        ([_model("b", "ready")], "loading a …"),
        ([_model("a", "loading"), _model("b", "loading", pid=1)], "waiting: b is loaded first …"),
        (
            [_model("b", "ready", requests=2, pid=1), _model("c", "ready", requests=1, pid=2)],
            "waiting for a place in memory; at work: b (2 requests), c (1 request) …",
        ),
        ([_model("a", "ready", requests=5, waiting=1)], "waiting: a has 5 requests, 1 without a slot …"),
        ([_model("a", "ready", requests=1)], "a reads the prompt …"),
    ],
)
def test_stages(loaded: list[LoadedStatus], told: str) -> None:
    """Who is before it, or what it does itself."""
    assert stage("a", loaded) == told
