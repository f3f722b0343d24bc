"""What a start of qwenctl costs, in CPU milliseconds (user + system), next to what Python alone costs.

Runs each command several times in turns, so that all meet the same machine; prints medians and the
ratio to `python -c pass`. `hf cache ls` (huggingface_hub) and `ramalama ls` run beside them where they are on
the path. Then what ten thousand names in the store add to `qwenctl list`.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import typer": [sys.executable, "-c", "import typer"],
    "qwenctl --help": [sys.executable, "-m", "qwenctl", "--help"],
    "qwenctl list": [sys.executable, "-m", "qwenctl", "list"],
    "qwenctl version": [sys.executable, "-m", "qwenctl", "version"],
    "Tab: a command": [sys.executable, "-m", "qwenctl", "complete-words", "--", "pu"],
    "Tab: a model": [sys.executable, "-m", "qwenctl", "complete-words", "--", "pull", "qwen"],
}
PEERS = {"hf cache ls": ["hf", "cache", "ls"], "ramalama ls": ["ramalama", "--nocontainer", "ls"]}
LIMIT_MS = 120.0
"""What `qwenctl --help`, `list` and a Tab may take."""


def cpu_milliseconds(arguments: list[str], environ: dict[str, str]) -> float:
    """User and system time of one run, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(arguments, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def store_with_names(directory: Path, count: int) -> dict[str, str]:
    """The environment of a store in which one small model has so many names."""
    from qwenctl.oci.descriptor import REF_NAME
    from qwenctl.oci.reference import Reference
    from qwenctl.store.store import Store
    from tests.builders import model

    store = Store.open(directory / str(count))
    root = model().put(store, Reference.parse("first"))
    rows = [
        root.annotate(**{REF_NAME: f"docker.io/ai/model-{number % 97}:v{number}"}).render()
        for number in range(count)
    ]
    index = store.path / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"manifests": rows}))
    return dict(os.environ, QWENCTL_STORE=str(store.path))


def measure_names() -> None:
    """Print what `qwenctl list` takes with few and with many names."""
    with tempfile.TemporaryDirectory() as directory:
        environs = {count: store_with_names(Path(directory), count) for count in (10, 10_000)}
        times: dict[int, list[float]] = {count: [] for count in environs}
        for _ in range(ROUNDS):
            for count, environ in environs.items():
                times[count].append(cpu_milliseconds(COMMANDS["qwenctl list"], environ))
    few, many = (statistics.median(values) for values in times.values())
    print(f"\nqwenctl list with 10 names {few:.0f} ms, with 10,000 {many:.0f} ms: x {many / few:.1f}")


def main() -> None:
    """Measure in turns and print the tables."""
    commands = COMMANDS | {name: argv for name, argv in PEERS.items() if shutil.which(argv[0])}
    with tempfile.TemporaryDirectory() as store:
        environ = dict(
            os.environ, QWENCTL_STORE=f"{store}/qwenctl", HF_HOME=store, RAMALAMA_STORE=f"{store}/ramalama"
        )
        environ["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"
        (Path(store) / "hub").mkdir()  # hf lists no cache that is not there
        for arguments in commands.values():  # the first run makes directories and bytecode
            cpu_milliseconds(arguments, environ)
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, arguments in commands.items():
                times[name].append(cpu_milliseconds(arguments, environ))
    floor = statistics.median(times["python -c pass"])
    print(f"{'COMMAND':18}  {'MEDIAN':>8}  {'BEST':>8}  {'x PYTHON':>8}")
    for name, values in times.items():
        median = statistics.median(values)
        over = "  over the limit" if name.startswith(("qwenctl", "Tab")) and median > LIMIT_MS else ""
        print(f"{name:18}  {median:5.0f} ms  {min(values):5.0f} ms  {median / floor:8.1f}{over}")
    measure_names()


if __name__ == "__main__":
    main()
