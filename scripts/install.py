"""Makes the virtual environment and installs qwenctl into it, showing that the long step moves.

    install.py VENV

`CMAKE_ARGS` in the environment goes to llama.cpp's build, after our own options: `-DGGML_CUDA=on`, say.

Only the standard library, and no import of qwenctl: nothing is installed yet when this runs. The log
of the build stays in VENV/install.log; all output goes to stderr.
"""

import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of llama.cpp only the library is built: no image support, no TLS, no code for its programs.
OPTIONS = (
    "-DLLAVA_BUILD=OFF",
    "-DLLAMA_OPENSSL=OFF",
    f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={ROOT / 'scripts' / 'llama.cmake'}",
)
STEP = re.compile(rb"\[(\d+)/(\d+)\]")
TICK_SECONDS = 10.0  # between progress lines when nobody watches a terminal


def say(text: str) -> None:
    """One line for the person who waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def pinned_llama() -> str:
    """The requirement of llama-cpp-python as `pyproject.toml` pins it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return next(item for item in project["dependencies"] if item.startswith("llama-cpp-python"))


def run(arguments: list[str], log: Path, environ: dict[str, str]) -> int:
    """Run a program with its output in `log`; its compile steps move a counter on stderr."""
    watched, last, begun = sys.stderr.isatty(), 0.0, time.monotonic()
    with (
        log.open("ab") as record,
        subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ, cwd=ROOT
        ) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            record.write(line)
            step, now = STEP.search(line), time.monotonic()
            if step and now - last >= (0.2 if watched else TICK_SECONDS):
                last = now
                text = f"  llama.cpp: step {int(step[1])} of {int(step[2])}, {now - begun:.0f} s"
                sys.stderr.write(f"\r{text}\x1b[K" if watched else f"{text}\n")
                sys.stderr.flush()
    if watched and last:
        sys.stderr.write("\r\x1b[K")
    return child.returncode


def failed(step: str, log: Path) -> int:
    """Say what broke, with the end of the log."""
    tail = log.read_text(errors="replace").splitlines()[-25:]
    say("\n".join(tail))
    say(f"error: {step} failed; the whole log is {log}")
    say("hint: a C and C++ compiler, make and a way to the Python package index are needed")
    return 1


def main(target: Path) -> int:
    """Install everything; the exit status."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the person may have called an old interpreter
        say(f"error: Python 3.11 or later is needed, this is {sys.version.split()[0]}")
        return 1
    begun = time.monotonic()
    python, log = target / "bin" / "python", target / "install.log"
    environ = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    environ["CMAKE_ARGS"] = f"{shlex.join(OPTIONS)} {os.environ.get('CMAKE_ARGS', '')}".strip()
    environ.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 2))
    pip = [str(python), "-m", "pip", "install"]
    if not python.exists():
        say(f"setting up {target.name}: a virtual environment of its own, nothing else is touched")
        try:
            venv.create(target, with_pip=True)
        except subprocess.CalledProcessError:
            say("error: this Python cannot make virtual environments with pip in them")
            say("hint: on Debian and Ubuntu: apt-get install python3-venv")
            return 1
    log.write_bytes(b"")
    say("setting up: pip, then llama.cpp from source (two to six minutes, once)")
    if run([*pip, "--quiet", "--upgrade", "pip"], log, environ):
        return failed("upgrading pip", log)
    if run([*pip, "--verbose", pinned_llama()], log, environ):
        return failed("building llama-cpp-python", log)
    say("setting up: qwenctl and its other packages")
    if run([*pip, "--quiet", "--editable", "."], log, environ):
        return failed("installing qwenctl", log)
    say(f"set up in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
