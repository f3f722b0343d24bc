"""The library of simulated GPUs, compiled on demand, and the environment that describes them.

    path = simgpu_or_skip()                     in a fixture of a module or session
    environment = simulate(Card(total=GIB), Card(total=2 * GIB))
    … a child process in that environment calls `load_backends([path])` before it loads a model

    python -m tests.simgpu.build                prints the path, for trying things by hand

Headers come from the source package of the installed llama-cpp-python, which pip fetches once: the installed
package has libraries and public headers, but a backend needs the internal ones. What is fetched and compiled
stays in `build/simgpu/`.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

GIB: Final = 1 << 30
MIB: Final = 1 << 20

_SOURCES: Final = Path(__file__).parent
_CACHE: Final = _SOURCES.parent.parent / "build" / "simgpu"
_PACKAGE: Final = "llama-cpp-python"
_HEADERS: Final = ("vendor/llama.cpp/ggml/include", "vendor/llama.cpp/ggml/src")
_FLAGS: Final = (
    *("-std=c++17", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden"),
    # With them the header's own macros export the entry points that ggml looks for in a backend.
    *("-DGGML_BACKEND_DL", "-DGGML_BACKEND_SHARED"),
)
# By SONAME, which is what llama.cpp has loaded when ggml opens the backend. Nothing may stay undefined.
_LIBRARIES: Final = ("-l:libggml-base.so.0", "-l:libggml.so.0", "-Wl,-z,defs")
# Tests run in an environment of their own; pip needs the developer's, for its indexes and certificates.
_ENVIRONMENT: Final = dict(os.environ)


class Unavailable(Exception):
    """Simulated GPUs cannot be had here; the text says why."""


@dataclass(frozen=True, slots=True)
class Card:
    """A simulated GPU; simgpu.cpp explains the fields. Sizes are bytes; `free` None is all of `total`."""

    total: int
    free: int | None = None
    context: int = 0
    name: str | None = None
    kind: Literal["cuda", "vulkan", "metal"] = "cuda"
    type: Literal["gpu", "igpu"] = "gpu"

    def describe(self) -> str:
        """The card as an entry of `SIMGPU`."""
        entries = [f"total={self.total}", f"ctx={self.context}", f"kind={self.kind}", f"type={self.type}"]
        if self.free is not None:
            entries.append(f"free={self.free}")
        if self.name is not None:
            entries.append(f"name={self.name}")
        return ",".join(entries)


def simulate(
    *cards: Card, ledger: Path | None = None, fail_compute_after: int = 0, abort_compute_after: int = 0
) -> dict[str, str]:
    """The environment in which the library has these cards.

    Processes with the same `ledger` share them. Computations from number `fail_compute_after` of a process
    on fail for want of memory; number `abort_compute_after` ends the process for it. 0 is never.
    """
    environment = {"SIMGPU": ";".join(card.describe() for card in cards)}
    if ledger is not None:
        environment["SIMGPU_LEDGER"] = str(ledger)
    if fail_compute_after:
        environment["SIMGPU_FAIL_COMPUTE_AFTER"] = str(fail_compute_after)
    if abort_compute_after:
        environment["SIMGPU_ABORT_COMPUTE_AFTER"] = str(abort_compute_after)
    return environment


def simgpu_or_skip() -> Path:
    """The compiled library; skips the test without it, or fails where peers are demanded."""
    import pytest  # benchmarks use this module without it

    try:
        return ensure_built()
    except Unavailable as unavailable:
        if _ENVIRONMENT.get("QWENCTL_TEST_REQUIRE_PEERS"):
            pytest.fail(str(unavailable))
        pytest.skip(str(unavailable))


def ensure_built() -> Path:
    """`libsimgpu.so` for the installed llama-cpp-python; compiled once for each state of the sources.

    Safe when several processes call it at once: the last one to finish wins, with the same content.

    Raises: Unavailable on another system than Linux, without a compiler, or without the source package.
    """
    if not sys.platform.startswith("linux"):
        raise Unavailable("simulated GPUs need Linux")
    compiler = shutil.which("g++")
    if compiler is None:
        raise Unavailable("`g++` is not installed (Debian: apt-get install g++)")
    version = importlib.metadata.version(_PACKAGE)
    built = _CACHE / _key(compiler, version) / "libsimgpu.so"
    if not built.is_file():
        headers = _ensure_headers(version)
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
            made = Path(scratch) / built.name
            _run(compile_command(compiler, headers, made), "does not compile")
            built.parent.mkdir(exist_ok=True)
            made.replace(built)
    return built


def compile_command(compiler: str, headers: Path, target: Path) -> list[str]:
    """The command that makes the library `target`."""
    libraries = _libraries()
    # As headers of the system, their warnings do not count.
    includes = [argument for directory in _HEADERS for argument in ("-isystem", str(headers / directory))]
    source, linking = str(_SOURCES / "simgpu.cpp"), [f"-L{libraries}", f"-Wl,-rpath-link,{libraries}"]
    return [compiler, *_FLAGS, *includes, source, "-o", str(target), *linking, *_LIBRARIES]


def _key(compiler: str, version: str) -> str:
    """Differs where the result could."""
    parts = [path.read_bytes() for path in sorted(_SOURCES.glob("*.cpp")) + sorted(_SOURCES.glob("*.h"))]
    parts += [version.encode(), _run([compiler, "--version"], "does not start").encode()]
    parts += [" ".join(compile_command(compiler, Path("headers"), Path("library"))).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _libraries() -> Path:
    """The directory of ggml's libraries, without importing the package."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("llama-cpp-python is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "lib"


def _ensure_headers(version: str) -> Path:
    """The directory that stands for the root of the source package, with ggml's headers alone."""
    kept = _CACHE / f"headers-{version}"
    if kept.is_dir():
        return kept
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        unpacked = Path(scratch) / "headers"
        _unpack(_download(version, Path(scratch)), unpacked)
        try:
            unpacked.rename(kept)
        except OSError:  # another process was faster
            if not kept.is_dir():
                raise
    return kept


def _download(version: str, target: Path) -> Path:
    """The source package. pip also asks its build backend for metadata; there is no way to stop it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(target)]
    _run([*command, "--no-binary", _PACKAGE, f"{_PACKAGE}=={version}"], "is not to be had from the index")
    found = next(target.glob("*.tar.gz"), None)
    if found is None:
        raise Unavailable(f"pip found no source package of {_PACKAGE} {version}")
    return found


def _unpack(package: Path, target: Path) -> None:
    """Copies the headers directly under `_HEADERS` into `target`."""
    for directory in _HEADERS:
        (target / directory).mkdir(parents=True)
    with tarfile.open(package, "r|gz") as archive:
        for member in archive:
            inner = Path(*Path(member.name).parts[1:])  # the archive has a top directory of its own
            wanted = member.isfile() and inner.suffix == ".h" and str(inner.parent) in _HEADERS
            content = archive.extractfile(member) if wanted else None
            if content is not None:
                (target / inner).write_bytes(content.read())
    if not all(any((target / directory).iterdir()) for directory in _HEADERS):
        raise Unavailable(f"`{package.name}` has no headers of ggml")


def _run(command: Sequence[str], complaint: str) -> str:
    """Its output. Raises: Unavailable with the end of what it said."""
    done = subprocess.run(command, capture_output=True, text=True, env=_ENVIRONMENT)
    if done.returncode != 0:
        raise Unavailable(f"simulated GPUs: {command[-1]} {complaint}: {done.stderr.strip()[-600:]}")
    return done.stdout


if __name__ == "__main__":
    sys.stdout.write(f"{ensure_built()}\n")
