"""llama.cpp's own list of devices: asked in a child, and cut down as llama.cpp does it."""

import os
import sys
from pathlib import Path

import pytest

from qwenctl.errors import EngineError
from qwenctl.runtime.gpus_ggml import (
    Device,
    ask_llama,
    backends_among,
    backends_in,
    built_backends,
    main,
    usable_devices,
)
from tests.simgpu.build import GIB, MIB, Card, simgpu_or_skip, simulate


def device(name: str, kind: str = "gpu", device_id: str | None = None) -> Device:
    """A device of which only name, type and address matter."""
    return Device(name=name, description="", type=kind, free_bytes=0, total_bytes=0, device_id=device_id)  # type: ignore[arg-type]


class TestAsking:
    """`ask_llama`."""

    def test_the_installed_llama_tells_its_devices(self) -> None:
        """The child answers with the processor at least; a llama.cpp for the CPU alone has no GPU."""
        devices = ask_llama()
        assert "cpu" in {device.type for device in devices}
        assert built_backends(os.environ) or not usable_devices(devices)

    def test_further_backends(self) -> None:
        """The libraries given are loaded in the child, and their devices are in the list."""
        library = simgpu_or_skip()
        os.environ.update(simulate(Card(total=4 * GIB, free=3 * GIB, context=200 * MIB), Card(total=GIB)))
        first, second = usable_devices(ask_llama([library]))
        assert (first.type, first.total_bytes, first.free_bytes) == ("gpu", 4 * GIB, 3 * GIB - 200 * MIB)
        assert second.total_bytes == GIB

    def test_a_library_that_is_none(self, tmp_path: Path) -> None:
        """The reason that the child gives is in the error."""
        with pytest.raises(EngineError, match=r"libnone\.so"):
            ask_llama([tmp_path / "libnone.so"])

    @pytest.mark.parametrize(
        ("program", "words"),
        [
            ("raise SystemExit('no driver \\x1b[31m')", r"no driver \[31m"),
            ("raise SystemExit(3)", "exit status 3"),
            ("import os; os.abort()", "signal 6"),
            ("print('hello')", "exit status 0"),
            ("print('[{}]')", "exit status 0"),
            ("import sys; sys.stdout.buffer.write(b'\"\\xff\"')", "exit status 0"),
            ("", "exit status 0"),
        ],
    )
    def test_a_child_that_fails(self, program: str, words: str) -> None:
        """However it ends without an answer, it is an EngineError that says what is known."""
        with pytest.raises(EngineError, match=words):
            ask_llama(argv=(sys.executable, "-c", program))

    def test_a_child_that_hangs_or_cannot_start(self) -> None:
        """Both are EngineErrors; the child does not outlive the first."""
        with pytest.raises(EngineError, match="within 0 seconds"):
            ask_llama(argv=(sys.executable, "-c", "import time; time.sleep(60)"), seconds=0.05)
        with pytest.raises(EngineError, match="No such file"):
            ask_llama(argv=("/nonexistent/python",))

    def test_drivers_may_print_before(self) -> None:
        """The last line of the output is the answer."""
        program = "print('libfoo: some warning'); print('[]')"
        assert ask_llama(argv=(sys.executable, "-c", program)) == ()

    def test_the_program_reports_its_failure(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """On stderr, with the exit status of the engine."""
        assert main(["--backend", str(tmp_path / "libnone.so")]) == 7
        assert "libnone.so" in capsys.readouterr().err


class TestUsable:
    """`usable_devices`, as `llama_prepare_model_devices` of llama.cpp has it."""

    @pytest.mark.parametrize(
        ("devices", "names"),
        [
            ([], ""),
            ([device("CPU", "cpu"), device("BLAS", "accel")], ""),
            ([device("CUDA0"), device("CUDA1"), device("CPU", "cpu")], "CUDA0 CUDA1"),
            ([device("CUDA0", device_id="a"), device("Vulkan0", device_id="a")], "CUDA0"),
            (
                [
                    device("CUDA0", device_id="a"),
                    device("Vulkan0", device_id="b"),
                    device("Vulkan1", device_id="a"),
                ],
                "CUDA0 Vulkan0",
            ),
            ([device("CUDA0"), device("Vulkan0", device_id="a")], "CUDA0 Vulkan0"),
            ([device("Vulkan0", "igpu"), device("CUDA0")], "CUDA0"),
            ([device("Vulkan0", "igpu")], "Vulkan0"),
            ([device("ROCm0", "igpu"), device("Vulkan0", "igpu"), device("ROCm1", "igpu")], "ROCm0 ROCm1"),
        ],
        ids=[
            "nothing",
            "no GPU",
            "in order",
            "one card of two backends",
            "two cards of two backends",
            "no address is no other's",
            "integrated beside another",
            "integrated alone",
            "integrated of one backend",
        ],
    )
    def test_which_count(self, devices: list[Device], names: str) -> None:
        """The rules of llama.cpp, one by one."""
        assert " ".join(device.name for device in usable_devices(devices)) == names


class TestBuilt:
    """The backends that a llama.cpp was built with, by its files."""

    @pytest.mark.parametrize(
        ("files", "backends"),
        [
            ("libggml.so libggml-base.so.0 libggml-cpu.so libllama.so", set()),
            ("libggml-cpu-haswell.so libggml-blas.so libggml-rpc.so", set()),
            ("libggml-cuda.so libggml-cuda.so.0 libggml-cuda.so.0.25.3", {"cuda"}),
            ("libggml-hip.so libggml-vulkan.so libggml-sycl.so", {"hip", "vulkan", "sycl"}),
            ("libggml-metal.dylib libggml-blas.dylib", {"metal"}),
            ("ggml-cuda.dll ggml-cpu.dll", {"cuda"}),
            ("ggml-metal.metal libggml-cuda.txt libfoo-cuda.so", set()),
        ],
    )
    def test_by_their_names(self, tmp_path: Path, files: str, backends: set[str]) -> None:
        """Every system's spelling; what computes on the CPU or elsewhere is no GPU backend."""
        for name in files.split():
            (tmp_path / name).touch()
        assert backends_in(tmp_path) == backends
        assert backends_among([Path(name) for name in files.split()]) == backends
        assert built_backends({"LLAMA_CPP_LIB_PATH": str(tmp_path)}) == backends

    def test_no_directory(self, tmp_path: Path) -> None:
        """Nothing is there, nothing was built."""
        assert backends_in(tmp_path / "absent") == frozenset()
