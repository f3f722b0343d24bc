"""llama-cpp-python's ctypes functions, loaded on first use, and llama.cpp's log. Nothing else imports them.

Only the low-level module is used: its `Llama` holds one request and detokenizes everything again per token.
"""

import ctypes
import importlib
import importlib.util
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from qwenctl.errors import LoadFailed, MemoryShort

_PACKAGE: Final = "llama_cpp"
# Source: ggml.h, enum ggml_log_level.
_LEVEL_DEBUG: Final = 1
_LEVEL_ERROR: Final = 4
_LEVEL_CONTINUE: Final = 5

# Source: ggml-cuda.cu (`cudaMalloc failed: out of memory`), ggml-alloc.c and ggml-backend.cpp (`failed to
# allocate`), ggml-vulkan.cpp (`ErrorOutOfDeviceMemory`), llama-model.cpp (`unable to allocate`); Metal's
# `Insufficient Memory (…:kIOGPUCommandBufferCallbackErrorOutOfMemory)`, which ggml-metal-context.m logs.
_OUT_OF_MEMORY: Final = re.compile(
    r"out of memory|OutOf(?:Device|Host)?Memory|insufficient memory|unable to allocate|failed to allocate",
    re.IGNORECASE,
)
_MEMORY_HINT: Final = "a smaller context, fewer slots, `--kv q8_0` or a smaller variant need less memory"

_once: Final = threading.Lock()
_opened: "Library | None" = None


class Library:
    """The bindings' functions as attributes of `api`, and what llama.cpp logged lately.

    `api` is typed Any on purpose: the bindings carry no types, and only `llama` and `decoder` touch it.
    """

    def __init__(self, api: Any) -> None:
        self.api = api
        self.log = Log()
        self._abort_callback: object = None
        # llama.cpp keeps the pointer, so the callback object must live as long as the process.
        self._callback = api.llama_log_callback(self.log.write)
        api.llama_log_set(self._callback, None)
        api.llama_backend_init()

    def on_abort(self, end: Callable[[str], None]) -> None:
        """Calls `end` with the reason where ggml gives up and aborts the process, as CUDA's errors make it.

        It is called on whatever thread computed; the process is aborted after it returns.
        Source: ggml.c, `ggml_abort`.
        """
        kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
        self._abort_callback = kind(lambda reason: end(reason.decode(errors="replace")))
        self.ggml("ggml_set_abort_callback", ctypes.c_void_p, kind)(self._abort_callback)

    def ggml(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        """The function `name` of ggml with its ctypes, from the very library that llama.cpp uses.

        The package has libggml.so and libggml.so.0 as two files; opened by path, the wrong one comes with a
        registry of its own, without devices. A look-up through libllama also searches what it is linked to.
        """
        return ctypes.CFUNCTYPE(result, *arguments)((name, self.api._lib))


class Log:
    """The last lines of llama.cpp's log, so that an error can carry its reason. Silent without `echo`."""

    def __init__(self, lines: int = 400) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=lines)
        self._partial = ""
        self._level = 0
        self.echo: Callable[[str], None] | None = None

    def write(self, level: int, text: bytes, _user: object) -> None:
        """llama.cpp's log callback; text without a newline goes on in the next call."""
        if level != _LEVEL_CONTINUE:
            self._level = level
        if self._level == _LEVEL_DEBUG:  # thousands of lines for a graph
            return
        *whole, self._partial = (self._partial + text.decode(errors="replace")).split("\n")
        for line in filter(None, whole):
            self._lines.append((self._level, line))
            if self.echo is not None:
                self.echo(line)

    def clear(self) -> None:
        """Forgets the lines, so that `error` tells about what comes next."""
        self._lines.clear()

    def has(self, words: str) -> bool:
        """Whether a line since `clear` has these words."""
        return any(words in line for _, line in list(self._lines))

    def failure(self, what: str, hint: str) -> LoadFailed | MemoryShort:
        """The error that `what` failed, with llama.cpp's reason: memory that is short, or anything else."""
        short = self.shortage()
        if short is not None:
            return MemoryShort(f"{what}: {short}", hint=_MEMORY_HINT)
        return LoadFailed(f"{what}: {self.error()}", hint=hint)

    def shortage(self) -> str | None:
        """The first line since `clear` that says that memory is short, in the form of `error`; else None."""
        lines = (line for _, line in list(self._lines) if _OUT_OF_MEMORY.search(line))
        return next(map(_without_function, lines), None)

    def error(self) -> str:
        """The first error since `clear`, without the name of the C++ function in front."""
        errors = [line for level, line in list(self._lines) if level == _LEVEL_ERROR]
        if not errors:
            return "it gave no reason"
        return _without_function(errors[0])


def _without_function(line: str) -> str:
    """A line of the log without the name of the C++ function in front."""
    function, colon, reason = line.partition(": ")
    return reason if colon and " " not in function else line


def library() -> Library:
    """The one library of this process. Raises: LoadFailed when llama-cpp-python is missing or broken."""
    global _opened
    with _once:
        if _opened is None:
            _opened = Library(_import_low_level())
        return _opened


def load_backends(paths: Sequence[Path]) -> None:
    """Adds the devices of further ggml backends, each a shared library, to this process for its life.

    Call it before the first model is loaded. A path that was loaded before adds nothing.

    Raises: LoadFailed, naming the file, where ggml refuses it; those before it stay loaded.
    """
    opened = library()
    load = opened.ggml("ggml_backend_load", ctypes.c_void_p, ctypes.c_char_p)
    for path in paths:
        opened.log.clear()
        # Absolute, or the dynamic linker would look for a bare name in the directories of the system.
        if not load(os.fsencode(path.absolute())):
            raise LoadFailed(
                f"ggml refused the backend `{path}`: {opened.log.error()}",
                hint="a backend must be built for the llama.cpp that is installed",
            )


def _import_low_level() -> ModuleType:
    """`llama_cpp.llama_cpp` without the package around it, whose `__init__` loads numpy, jinja2 and a disk
    cache for the high-level class: 30 instead of 170 ms, and 30 MB less.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise LoadFailed("llama-cpp-python is not installed", hint="reinstall qwenctl with its dependencies")
    stand_in = _PACKAGE not in sys.modules
    if stand_in:
        package = ModuleType(_PACKAGE)
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules[_PACKAGE] = package
    try:
        return importlib.import_module(f"{_PACKAGE}.llama_cpp")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise LoadFailed(
            f"llama-cpp-python does not load: {error}", hint="reinstall qwenctl, so that it compiles again"
        ) from error
    finally:
        if stand_in:
            del sys.modules[_PACKAGE]
