"""Fit: a header and a machine → a verdict with its numbers, or the reason why there is none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from qwenctl.errors import AccessDenied, FileMissing, Malformed, UsageError
from qwenctl.flows.fit import Machine, Subject, fit, planner_for, subject_of_file, subject_of_model
from qwenctl.flows.fit_report import Fit
from qwenctl.model.host import Gpu, Host, Ram
from qwenctl.model.memory.estimate import Estimator
from qwenctl.model.memory.figures import DeviceMemory, Estimate, HostMemory
from qwenctl.model.memory.hyperparameters import Unknown
from qwenctl.model.memory.plan import PROCESS_BYTES, Wishes
from qwenctl.model.shape import Shape
from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store
from tests.builders import model
from tests.flows.fit_builders import foreign_file, put_files, split_files, write
from tests.model.memory.memory_builders import changed
from tests.model.memory.plan_builders import GIB, machine
from tests.shape_models import write_shape_model
from tests.sparse_models import put_sparse_model

SAFETENSORS = "application/vnd.docker.ai.safetensors"


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Qwen2.5 7B in Q4_K_M, from a file."""
    path = tmp_path_factory.mktemp("shapes") / "qwen2.5-7b.gguf"
    return subject_of_file(write_shape_model(path, "qwen2.5-7b", "Q4_K_M"))


@pytest.fixture
def foreign(tmp_path: Path) -> Callable[..., Subject]:
    """Makes a model of a family that the computation does not know."""

    def make(architecture: str = "internlm2", without: str = "") -> Subject:
        return subject_of_file(write(tmp_path / "model.gguf", foreign_file(architecture, without)))

    return make


def judged(subject: Subject, host: Host, **wishes: object) -> Fit:
    """The verdict by the method that suits."""
    return fit(subject, Machine(host), msgspec.convert(wishes, Wishes))


class TestSubjects:
    """Where a header comes from."""

    def test_a_file(self, seven: Subject) -> None:
        """Its name, size and quantization; the header cost nothing on a network."""
        assert (seven.name, seven.quantization) == ("qwen2.5-7b.gguf", "Q4_K_M")
        assert seven.file_bytes == pytest.approx(4.36 * GIB, rel=0.01)
        assert (seven.id, seven.header_method, seven.header_requests) == (None, "file", 0)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        """What is absent is missing; a directory in its place is there, but cannot be read."""
        with pytest.raises(FileMissing, match=r"absent\.gguf` does not exist"):
            subject_of_file(tmp_path / "absent.gguf")
        with pytest.raises(AccessDenied, match=tmp_path.name):
            subject_of_file(tmp_path)

    @pytest.mark.parametrize("raw", [b"", b"GGUF", b"not a model at all, but a text"])
    def test_a_file_that_is_no_model(self, tmp_path: Path, raw: bytes) -> None:
        """Malformed, whatever is wrong."""
        with pytest.raises(Malformed):
            subject_of_file(write(tmp_path / "x.gguf", raw))

    def test_a_file_that_was_cut_short(self, tmp_path: Path) -> None:
        """The tensors reach beyond the end, and both sizes are told."""
        whole = foreign_file()
        with pytest.raises(Malformed, match=f"ends after {len(whole) - 64} bytes") as caught:
            subject_of_file(write(tmp_path / "x.gguf", whole[:-64]))
        assert caught.value.hint

    def test_a_stored_model(self, tmp_path: Path) -> None:
        """By its id, from its file."""
        store = Store.open(tmp_path / "store")
        root = put_sparse_model(store, Reference.parse("me/model:v1"), "qwen2.5-7b", "Q4_K_M")
        subject = subject_of_model("me/model:v1", root, store)
        assert (subject.id, subject.header_method) == (str(root.digest), "file")
        assert (subject.header_requests, subject.header_bytes) == (0, 0)
        assert (subject.shape.parameters, subject.quantization) == (7_615_616_512, "Q4_K_M")

    def test_a_model_in_several_files(self, tmp_path: Path) -> None:
        """It is one model with all tensors, and as large as the files together."""
        store, files = Store.open(tmp_path / "store"), split_files()
        subject = subject_of_model("split", put_files(store, "me/split:v1", *files), store)
        assert subject.file_bytes == sum(map(len, files))
        assert len(subject.shape.tensors) == 14
        verdict = judged(subject, machine(8))
        assert verdict.totals is not None
        assert verdict.totals.weights >= subject.shape.weights_bytes

    def test_a_model_that_lacks_a_file(self, tmp_path: Path) -> None:
        """One of two is no model."""
        store = Store.open(tmp_path / "store")
        root = put_files(store, "me/split:v1", split_files()[0])
        subject = subject_of_model("split", root, store)
        assert judged(subject, machine(8)).verdict == "unknown"

    def test_a_model_that_is_not_in_gguf(self, tmp_path: Path) -> None:
        """A usage error with its format, for nothing about its memory can be read."""
        store = Store.open(tmp_path / "store")
        root = put_files(store, "me/safe:v1", foreign_file(), media_type=SAFETENSORS)
        with pytest.raises(UsageError, match="not GGUF weights") as caught:
            subject_of_model("me/safe:v1", root, store)
        assert caught.value.hint


class TestVerdict:
    """The report on a plan."""

    @pytest.mark.parametrize("host", [machine(28, 8), machine(28, 4), machine(28, 4, 4), machine(28)])
    def test_the_same_numbers_everywhere(self, seven: Subject, host: Host) -> None:
        """The report has the figures of the estimate for its own configuration, each once, and adds up."""
        verdict = judged(seven, host)
        assert verdict.configuration is not None and verdict.host is not None and verdict.totals is not None
        gpus = [gpu for gpu in host.gpus if gpu.name in {device.name for device in verdict.devices}]
        estimate = Estimator(seven.shape, gpus).estimate(verdict.configuration)
        for shown, device, gpu in zip(verdict.devices, estimate.devices, gpus, strict=True):
            buffers = (device.weights_bytes, device.kv_cache_bytes, device.compute_bytes)
            assert (shown.weights, shown.kv_cache, shown.compute) == buffers
            assert shown.total == sum(buffers) + gpu.overhead_bytes
            assert shown.total + shown.margin <= shown.free == gpu.free_bytes
        ram, memory = verdict.host, estimate.host
        buffers = (memory.weights_bytes, memory.kv_cache_bytes, memory.compute_bytes)
        assert (ram.weights, ram.kv_cache, ram.compute, ram.output) == (*buffers, memory.output_bytes)
        assert (ram.process, ram.shared) == (PROCESS_BYTES, 0)
        assert ram.total == memory.total_bytes + PROCESS_BYTES
        assert ram.total + ram.margin <= ram.available
        totals = verdict.totals
        assert totals.total == totals.weights + totals.kv_cache + totals.compute + totals.output
        assert totals.total == estimate.total_bytes

    def test_a_gpu_without_memory_of_its_own(self, seven: Subject) -> None:
        """What it takes is counted in RAM, too, and shown apart."""
        verdict = judged(seven, machine(28, 20, shares_ram=True))
        assert verdict.verdict == "gpu" and verdict.host is not None
        assert verdict.host.shared == verdict.devices[0].total
        assert verdict.host.total > verdict.host.shared

    def test_what_does_not_fit(self, seven: Subject) -> None:
        """It has no context, a shortage with both numbers, and the figures of the last attempt."""
        verdict = judged(seven, machine(3))
        assert (verdict.verdict, verdict.fits, verdict.context_max) == ("no", False, 0)
        assert verdict.shortage is not None and verdict.host is not None
        assert verdict.shortage.needed_bytes == verdict.host.total
        assert verdict.shortage.budget_bytes == verdict.host.available - verdict.host.margin

    def test_loaded_models_of_ours_are_remedies(self, seven: Subject) -> None:
        """What they hold is not free, and is known to come back."""
        held = Estimate(
            method="loaded",
            devices=(DeviceMemory(name="CUDA0", weights_bytes=2 * GIB),),
            host=HostMemory(),
            gpu_layers=1,
            layers=1,
            flash_attention=True,
        )
        wishes = Wishes(context_tokens=8192, slots=1)
        verdict = fit(seven, Machine(machine(28, 4), {"other": held}), wishes)
        assert [(remedy.kind, remedy.subject) for remedy in verdict.remedies] == [("unload", "other")]
        assert verdict.advice.endswith("; `qwenctl stop other` puts all layers on the GPU")

    def test_a_plan_alone(self, seven: Subject) -> None:
        """A load gets the plan that the verdict describes."""
        host = machine(28, 4)
        plan, verdict = planner_for(seven.shape, Machine(host)).plan(Wishes()), judged(seven, host)
        assert (plan.verdict, plan.configuration) == (verdict.verdict, verdict.configuration)

    @pytest.mark.parametrize(
        ("host", "sentence"),
        [
            (machine(28, 8), "all 29 layers fit on CUDA0, which leaves 1.73 GiB free"),
            (machine(28, 4, 4), "all 29 layers fit on CUDA0, CUDA1, which leaves 504 MiB free"),
            (machine(28, 4), "20 of 29 layers fit on CUDA0, 9 run on the CPU, slower"),
            (machine(28), "runs on the CPU with 6.38 GiB of RAM, 28.0 GiB are available"),
            (machine(4), "needs 4.84 GiB of RAM, 3.60 GiB can be used; choose a smaller variant"),
        ],
    )
    def test_the_sentence(self, seven: Subject, host: Host, sentence: str) -> None:
        """One for each verdict, in the same words every time."""
        assert judged(seven, host).advice == sentence

    def test_the_sentence_with_a_remedy(self, seven: Subject) -> None:
        """The change that would help most stands at its end."""
        partial = judged(seven, machine(28, 6), context_tokens=32_768, slots=1)
        assert partial.advice == (
            "26 of 29 layers fit on CUDA0, 3 run on the CPU, slower; `--kv q8_0` puts all layers on the GPU"
        )
        no = judged(seven, machine(5.6), context_tokens=32_768)
        assert no.advice == ("needs 6.40 GiB of RAM, 5.10 GiB can be used; `--context 8192` makes it fit")


class TestMethods:
    """By whose word."""

    def test_computed_and_measured_are_the_same(self, seven: Subject) -> None:
        """llama.cpp itself says what was computed, to the byte."""
        computed, measured = (
            fit(seven, Machine(machine(28), method=method), Wishes()) for method in ("computed", "measured")
        )
        assert (computed.method, measured.method) == ("computed", "measured")
        assert msgspec.structs.replace(measured, method="computed") == computed

    def test_a_family_that_is_not_computed_is_measured(self, foreign: Callable[..., Subject]) -> None:
        """llama.cpp knows more families than we do, and is asked without being told to."""
        verdict = judged(foreign(), machine(28))
        assert (verdict.verdict, verdict.method, verdict.architecture) == ("cpu", "measured", "internlm2")
        assert verdict.totals is not None and verdict.totals.kv_cache == 4 * 2048 * 32 * 2 * 2

    def test_the_computation_alone_knows_nothing_of_it(self, foreign: Callable[..., Subject]) -> None:
        """`computed` is no hint but an order."""
        with pytest.raises(Unknown, match="`internlm2`"):
            planner_for(foreign().shape, Machine(machine(28), method="computed")).plan(Wishes())

    @pytest.mark.parametrize(
        ("architecture", "without", "reason"),
        [
            ("nonsense", "", "unknown model architecture: 'nonsense'"),
            ("internlm2", "output_norm.weight", "output_norm.weight"),
        ],
    )
    def test_what_llama_cpp_refuses_is_unknown(
        self, foreign: Callable[..., Subject], architecture: str, without: str, reason: str
    ) -> None:
        """No numbers, and llama.cpp's own reason; it may be tried all the same."""
        verdict = judged(foreign(architecture, without), machine(28))
        assert (verdict.verdict, verdict.method, verdict.fits) == ("unknown", "unknown", True)
        assert verdict.reason is not None and reason in verdict.reason
        assert verdict.advice == f"its memory is unknown: {verdict.reason}"
        assert (verdict.devices, verdict.host, verdict.totals, verdict.configuration) == (
            [],
            None,
            None,
            None,
        )

    def test_a_simulated_machine_cannot_be_asked(
        self, seven: Subject, foreign: Callable[..., Subject]
    ) -> None:
        """A family that we do not compute is unknown there; to measure there is a usage error."""
        host = msgspec.structs.replace(machine(28), simulated=True)
        verdict = judged(foreign(), host)
        assert verdict.verdict == "unknown" and "`internlm2`" in (verdict.reason or "")
        with pytest.raises(UsageError) as caught:
            fit(seven, Machine(host, method="measured"), Wishes())
        assert caught.value.hint

    def test_a_backend_that_was_not_proved_is_computed_at_last(self, seven: Subject) -> None:
        """llama.cpp is asked first; it has no such GPU here, so the computation answers, and is not exact."""
        gpu = Gpu(name="Vulkan7", backend="vulkan", total_bytes=16 * GIB, free_bytes=16 * GIB)
        verdict = judged(seven, Host(ram=Ram(total_bytes=32 * GIB, available_bytes=28 * GIB), gpus=(gpu,)))
        assert (verdict.verdict, verdict.method, verdict.exact) == ("gpu", "computed", False)

    def test_what_the_header_does_not_say(self, seven: Subject) -> None:
        """Without layers or a context there is nothing to plan."""
        for key, reason in (("qwen2.block_count", "layers"), ("qwen2.context_length", "context")):
            subject = replace(seven, shape=changed(seven.shape, {key: None}))
            assert reason in (judged(subject, machine(28)).reason or "")


class TestHostileHeaders:
    """A header says whatever its maker likes."""

    def test_an_absurd_context(self, seven: Subject) -> None:
        """It is bounded, not an error: the model may well run with less."""
        subject = replace(seven, shape=changed(seven.shape, {"qwen2.context_length": (1 << 31) - 1}))
        verdict = judged(subject, machine(28, 8))
        assert (verdict.verdict, verdict.trained_context) == ("gpu", (1 << 31) - 1)
        assert 32_768 <= (verdict.context_max or 0) < 100_000

    @pytest.mark.parametrize("key", ["embedding_length", "attention.head_count", "block_count"])
    @pytest.mark.parametrize("value", [0, 1, (1 << 32) - 1, (1 << 64) - 1])
    def test_absurd_numbers(self, seven: Subject, key: str, value: int) -> None:
        """A verdict in every case, soon, and never a crash."""
        subject = replace(seven, shape=changed(seven.shape, {f"qwen2.{key}": value}))
        assert judged(subject, machine(28)).verdict in ("unknown", "cpu", "no")

    def test_texts_cannot_paint_on_the_terminal(self, foreign: Callable[..., Subject]) -> None:
        """What the file calls itself is shown without control characters."""
        named = changed(foreign().shape, {"general.architecture": "evil\x1b[2J\n"})
        keys = {
            key.replace("internlm2", named.architecture): item for key, item in named.header.metadata.items()
        }
        verdict = judged(replace(foreign(), name="a\tb", shape=changed(named, keys)), machine(28))
        assert (verdict.architecture, verdict.name) == ("evil?[2J?", "a?b")
        assert verdict.reason is not None and "evil" in verdict.reason
        assert all(text.isprintable() for text in (verdict.reason, verdict.advice))

    def test_no_tensors(self, seven: Subject) -> None:
        """A header alone is no model."""
        shape = Shape.of(replace(seven.shape.header, tensors=()))
        assert judged(replace(seven, shape=shape), machine(28)).verdict == "unknown"


def test_a_reference_is_not_needed_for_a_model_in_memory(tmp_path: Path) -> None:
    """A tiny model from a store, for all it takes: the process and nothing more."""
    store = Store.open(tmp_path / "store")
    root = model().put(store, Reference.parse("me/tiny:v1"))
    verdict = judged(subject_of_model("tiny", root, store), machine(1))
    assert verdict.verdict in ("cpu", "unknown")
