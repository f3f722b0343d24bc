"""`qwenctl launch-service`: a server that lives as long as a program that `launch` started."""

import os
import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer

if TYPE_CHECKING:
    from qwenctl.runner.messages import RunnerStatus


def launch_service(json: Json = False) -> None:
    """Serve on a free port of 127.0.0.1 until stdin ends (for `qwenctl launch`)."""
    from qwenctl.cli.api_key import KEY_VARIABLE, key_of
    from qwenctl.cli.memory import MemoryPlanner
    from qwenctl.cli.models import StoreModels
    from qwenctl.cli.serve import Serving
    from qwenctl.cli.wiring import load_settings, open_library
    from qwenctl.runner.service import ServiceOptions, run

    printer = Printer("launch-service", json)
    settings = load_settings(host="127.0.0.1")  # whatever `serve` listens on: this one is for one program
    key = key_of(settings, os.environ)
    os.environ.pop(KEY_VARIABLE, None)

    def ready(status: "RunnerStatus") -> None:
        printer.event(Serving("ready", status.url, status.pid, status.address))
        threading.Thread(target=_leave_at_the_end, daemon=True).start()

    options = ServiceOptions(foreground=True, port=0, api_key=key)
    library = partial(open_library, settings)
    run(settings, StoreModels(settings), options, ready, MemoryPlanner(settings), library)


def _leave_at_the_end() -> None:
    """Begins the end when whoever holds the other end of stdin is gone, even by `kill -9`."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
