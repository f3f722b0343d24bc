"""The house's walls: layers, what the pure layer may touch, who may print, what a start may load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "qwenctl"

LAYERS = {
    "errors": 0,
    "units": 0.1,
    "settings": 0.2,  # L0 has an order of its own
    "oci": 1,
    "model": 1,
    "store": 2,
    "remote": 2,
    "runtime": 2,
    "flows": 3,
    "registry": 3,
    "runner": 3,
    "api": 3,
    "chat": 3,
    "cli": 4,
    "__main__": 5,
}
SIBLINGS_ALLOWED = {
    ("runner", "api"),  # the runner mounts the HTTP surfaces; api sees it through a protocol of its own
    ("model", "oci"),  # an artifact is made of descriptors
}
IMPURE = {"os", "socket", "subprocess", "time", "shutil", "tempfile", "threading", "asyncio"}
PURE_EXCEPTIONS = {("oci/target.py", "threading")}  # MemoryTarget keeps the contract for several threads
HEAVY = (
    "rich",
    "httpx",
    "asyncio",
    "numpy",
    "pydantic",
    "llama_cpp",
    "prompt_toolkit",
    "starlette",
    "uvicorn",
    "jinja2",
    "yaml",
    "psutil",
)


def modules() -> list[Path]:
    """Every source file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Full names of what a file imports, also inside functions, without typing-only blocks."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module


def part(path: Path) -> str:
    """The package (or L0 module) that a file belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    """A module imports lower layers and its own package, never a sibling package of its layer."""
    here = part(path)
    if here == "__init__":
        assert list(imports(path)) == []
        return
    for name in imports(path):
        if not name.startswith("qwenctl."):
            continue
        there = name.split(".")[1]
        allowed = LAYERS[there] < LAYERS[here] or there == here or (here, there) in SIBLINGS_ALLOWED
        assert allowed, f"{path.name} ({here}) imports {name}"


@pytest.mark.parametrize("package", ["oci", "model"])
def test_the_pure_layer_touches_no_system(package: str) -> None:
    """L1 imports nothing that reaches files, sockets, processes or clocks."""
    for path in (PACKAGE / package).rglob("*.py"):
        for name in imports(path):
            top = name.split(".")[0]
            exception = (str(path.relative_to(PACKAGE)), top) in PURE_EXCEPTIONS
            assert top not in IMPURE or exception, f"{path}: {name}"


def test_foreign_libraries_stay_in_their_module() -> None:
    """`llama_cpp` is imported in `runtime/` alone, the HTTP library in the transport."""
    for path in modules():
        relative = str(path.relative_to(PACKAGE))
        for name in imports(path):
            if name.split(".")[0] == "llama_cpp":
                assert relative.startswith("runtime/"), relative
            if name.split(".")[0] in {"httpx", "httpcore"}:
                assert relative == "remote/transport.py", relative


def test_only_the_edge_talks_to_the_person() -> None:
    """`print`, `input`, `sys.exit` and `os.environ` appear only in `cli/`, the terminal and the entry."""
    for path in modules():
        relative = str(path.relative_to(PACKAGE))
        if relative.startswith("cli/") or relative == "__main__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"print", "input"}, f"{relative}:{node.lineno}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used = f"{node.value.id}.{node.attr}"
                assert used not in {"sys.exit", "os.environ"}, f"{relative}:{node.lineno}"


def test_files_and_functions_stay_readable() -> None:
    """A file has at most 400 lines and a function at most 60."""
    for path in modules():
        text = path.read_text()
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 60, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_starting_loads_nothing_heavy() -> None:
    """After `import qwenctl.cli` no library is loaded that a quick command does not need."""
    program = f"import sys, qwenctl.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout.strip() == "[]"
