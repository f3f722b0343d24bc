"""Builds llama.cpp's own server out of the source that llama-cpp-python ships, as the peer of `bench.engine`.

    python -m bench.llama_server [DIRECTORY]

DIRECTORY is `build/llama-server` by default; CMake and a C++ compiler must be there. The source is that of
the installed version, so that both servers compute with the same llama.cpp. It is built for this processor
(`GGML_NATIVE`), as our own is, and without what is not measured: TLS, the web page.
Prints the path of the binary. Takes some minutes; a second call finds what the first one built.
"""

import argparse
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

PACKAGE = "llama-cpp-python"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)


def build(directory: Path, jobs: int) -> Path:
    """The binary in `directory`, built if it is not there. Raises: CalledProcessError, FileNotFoundError."""
    binary = directory / version(PACKAGE) / "bin" / "llama-server"
    if binary.exists():
        return binary
    source = _source(directory)
    tree = binary.parent.parent
    subprocess.run(["cmake", "-S", source, "-B", tree, *OPTIONS], stdout=sys.stderr, check=True)
    subprocess.run(
        ["cmake", "--build", tree, "--target", "llama-server", "--parallel", str(jobs)],
        stdout=sys.stderr,
        check=True,
    )
    return binary


def _source(directory: Path) -> Path:
    """llama.cpp's source as the package's sdist has it."""
    pin = f"{PACKAGE}=={version(PACKAGE)}"
    directory.mkdir(parents=True, exist_ok=True)
    archive = directory / f"{PACKAGE.replace('-', '_')}-{version(PACKAGE)}.tar.gz"
    if not archive.exists():
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE]
        subprocess.run([*pip, "--dest", str(directory), pin], stdout=sys.stderr, check=True)
    unpacked = directory / archive.name.removesuffix(".tar.gz")
    if not unpacked.exists():
        with tarfile.open(archive) as packed:
            packed.extractall(directory, filter="data")
    return unpacked / "vendor" / "llama.cpp"


def main() -> None:
    """Build, and print where it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, nargs="?", default=Path("build/llama-server"))
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    sys.stdout.write(f"{build(arguments.directory.absolute(), arguments.jobs)}\n")


if __name__ == "__main__":
    main()
