"""A worker process whose engine does what the name of the model file says; the runner's tests run it."""

import logging
import os
import time

from qwenctl.errors import LoadFailed
from qwenctl.runtime.engine import Engine, EngineOptions
from qwenctl.runtime.scripted import ScriptedEngine
from qwenctl.runtime.worker import main

PAUSES = {"slow": 0.02}
DELAYS = {"late": 0.4, "very-late": 30.0}


def open_engine(options: EngineOptions) -> Engine:
    """An echoing engine, quick, slow or late; or the end that the name asks for."""
    behaviour = options.path.stem
    logging.info("opening %s with context %s", behaviour, options.context_length)
    if behaviour == "refused":
        raise LoadFailed("`refused` is not a model", hint="pull it again")
    if behaviour == "crashing":
        os.abort()
    time.sleep(DELAYS.get(behaviour, 0.0))
    return ScriptedEngine(
        slots=options.slots,
        context_length=options.context_length or 2048,
        pause_seconds=PAUSES.get(behaviour, 0.0),
    )


if __name__ == "__main__":
    main(open_engine)
