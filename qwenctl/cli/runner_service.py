"""`qwenctl runner-service`: the background service, as `RunnerClient` starts it. Not for people."""

from functools import partial
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
    max_models: Text = None,
    max_queue: Text = None,
    request_timeout: Text = None,
) -> None:
    """Run the background service (started on demand; leaves when idle)."""
    from qwenctl.cli.memory import MemoryPlanner
    from qwenctl.cli.models import StoreModels
    from qwenctl.cli.wiring import load_settings, open_library
    from qwenctl.runner.service import ServiceOptions, run

    settings = load_settings(
        store=store,
        runtime=runtime,
        state=state,
        registry=registry,
        keep_alive_seconds=keep_alive,
        ggml_backends=ggml_backends,
        max_models=max_models,
        max_queue=max_queue,
        request_timeout_seconds=request_timeout,
    )
    library = partial(open_library, settings)
    planner = MemoryPlanner(settings)
    run(settings, StoreModels(settings), ServiceOptions(), planner=planner, open_library=library)
