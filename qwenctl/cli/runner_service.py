"""`qwenctl runner-service`: the background service, as `RunnerClient` starts it. Not for people."""

from typing import Annotated

import typer

Text = Annotated[str | None, typer.Option(hidden=True)]


def runner_service(
    store: Text = None,
    runtime: Text = None,
    state: Text = None,
    registry: Text = None,
    keep_alive: Text = None,
    ggml_backends: Text = None,
) -> None:
    """Run the background service (started on demand; leaves when idle)."""
    from qwenctl.cli.memory import MemoryPlanner
    from qwenctl.cli.models import StoreModels
    from qwenctl.cli.wiring import load_settings
    from qwenctl.runner.service import ServiceOptions, run

    settings = load_settings(
        store=store,
        runtime=runtime,
        state=state,
        registry=registry,
        keep_alive_seconds=keep_alive,
        ggml_backends=ggml_backends,
    )
    _log_to_stderr()
    run(settings, StoreModels(settings), ServiceOptions(), planner=MemoryPlanner(settings))


def _log_to_stderr() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
