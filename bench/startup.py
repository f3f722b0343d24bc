"""What a start of qwenctl costs, in CPU milliseconds (user + system), next to what Python alone costs.

Runs each command several times in turns, so that all meet the same machine; prints medians and the
ratio to `python -c pass`.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile

ROUNDS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import typer": [sys.executable, "-c", "import typer"],
    "qwenctl --help": [sys.executable, "-m", "qwenctl", "--help"],
    "qwenctl list": [sys.executable, "-m", "qwenctl", "list"],
    "qwenctl version": [sys.executable, "-m", "qwenctl", "version"],
}


def cpu_milliseconds(arguments: list[str], environ: dict[str, str]) -> float:
    """User and system time of one run, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(arguments, env=environ, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def main() -> None:
    """Measure in turns and print the table."""
    with tempfile.TemporaryDirectory() as store:
        environ = dict(os.environ, QWENCTL_STORE=store)
        subprocess.run(COMMANDS["qwenctl list"], env=environ, stdout=subprocess.DEVNULL, check=True)
        times: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(ROUNDS):
            for name, arguments in COMMANDS.items():
                times[name].append(cpu_milliseconds(arguments, environ))
    floor = statistics.median(times["python -c pass"])
    print(f"{'COMMAND':18}  {'MEDIAN':>8}  {'BEST':>8}  {'x PYTHON':>8}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:18}  {median:5.0f} ms  {min(values):5.0f} ms  {median / floor:8.1f}")


if __name__ == "__main__":
    main()
