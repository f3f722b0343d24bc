"""The runner as a program, as a client of the tests spawns it: `service_program.py IDLE_SECONDS OPTION…`."""

import argparse
import logging
from pathlib import Path

from qwenctl.runner.service import ServiceOptions, run
from qwenctl.settings import Settings
from qwenctl.units import parse_duration
from tests.runner.runner_builders import SCRIPTED_WORKER, NamedModels

parser = argparse.ArgumentParser()
parser.add_argument("idle_seconds", type=float)
for option in ("store", "runtime", "state"):
    parser.add_argument(f"--{option}", type=Path, required=True)
parser.add_argument("--registry", required=True)
parser.add_argument("--keep-alive", type=parse_duration, required=True)
parser.add_argument("--max-models", type=int, required=True)
parser.add_argument("--max-queue", type=int, required=True)
parser.add_argument("--request-timeout", type=parse_duration, required=True)
given = parser.parse_args()

logging.basicConfig(level=logging.INFO)
options = ServiceOptions(idle_seconds=given.idle_seconds, worker_argv=SCRIPTED_WORKER, drain_seconds=20)
settings = Settings(
    store=given.store,
    runtime=given.runtime,
    state=given.state,
    keep_alive_seconds=given.keep_alive,
    max_models=given.max_models,
    max_queue=given.max_queue,
    request_timeout_seconds=given.request_timeout,
)
run(settings, NamedModels(), options)
