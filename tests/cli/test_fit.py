"""`qwenctl fit`: transcripts, the document, flags and what they refuse, and that nothing is downloaded."""

import os
import unicodedata
from pathlib import Path

import pytest

from qwenctl.model.gguf import read_header
from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.estimate import Estimator
from qwenctl.model.profile import parse_host_profile
from qwenctl.model.shape import Shape
from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store
from tests.cli.conftest import Command, Outcome
from tests.flows.fit_builders import foreign_file, put_files, split_files, write
from tests.registry.counted import counted_registry
from tests.shape_models import write_shape_model
from tests.sparse_models import put_sparse_model, sparse_store

GAMING = """
name: gaming PC
ram: {total: 32GiB, available: 28GiB}
gpus: [{description: RTX 4060, total: 8GiB, free: 7.6GiB}]
"""
TWO_CARDS = """
name: two cards
ram: {total: 32GiB, available: 28GiB}
gpus: [{description: RTX 3060, total: 6GiB, free: 5GiB}, {description: RTX 3060, total: 6GiB, free: 5GiB}]
"""
SMALL = "{name: small, ram: {total: 8GiB, available: 3GiB}}"
OFFICE = "{name: office, ram: {total: 16GiB, available: 12GiB}}"
MAC = "{name: Mac, ram: {total: 16GiB, available: 10GiB}, gpus: [{backend: metal, total: 10.6GiB}]}"

FAMILY = [
    ("0.5B-F16", "qwen2.5-0.5b", "F16"),
    ("1.5B-F16", "qwen2.5-1.5b", "F16"),
    ("3B-F16", "qwen2.5-3b", "F16"),
    ("3B-Q4_K_M", "qwen2.5-3b", "Q4_K_M"),
    ("7B-F16", "qwen2.5-7b", "F16"),
    ("7B-Q4_0", "qwen2.5-7b", "Q4_0"),
    ("7B-Q4_K_M", "qwen2.5-7b", "Q4_K_M"),
]

ONE = """\
qwen2.5:7B-Q4_K_M · 7.62 B parameters · Q4_K_M · qwen2 · 4.36 GiB
trained for 32768 tokens of context; 32768 fit here
its card says 4.83 GiB VRAM, 4.36 GiB size

gaming PC (simulated): 28.0 GiB of 32.0 GiB RAM free, CUDA0 RTX 4060 7.60 GiB of 8.00 GiB free

32k context · 1 request at a time · KV f16 · 29/29 layers on GPU · computed, exact

       WEIGHTS   KV CACHE  COMPUTE   OTHER    TOTAL     FREE
CUDA0  4.07 GiB  1.75 GiB  164 MiB   300 MiB  6.27 GiB  7.60 GiB  █████████████▓▓▓▓▓▒░····
RAM    292 MiB   0 B       46.0 MiB  129 MiB  467 MiB   28.0 GiB  ························

█ weights  ▓ KV cache  ▒ compute  ░ driver, process  · free  ! too much

on the GPU: all 29 layers fit on CUDA0, which leaves 1.33 GiB free
"""

SHORT = """\
qwen2.5:7B-Q4_K_M · 7.62 B parameters · Q4_K_M · qwen2 · 4.36 GiB
trained for 32768 tokens of context
its card says 4.83 GiB VRAM, 4.36 GiB size

small (simulated): 3.00 GiB of 8.00 GiB RAM free, no GPU

4k context · 1 request at a time · KV f16 · on the CPU · computed, exact

     WEIGHTS   KV CACHE  COMPUTE  OTHER    TOTAL     FREE
RAM  4.36 GiB  224 MiB   143 MiB  129 MiB  4.84 GiB  3.00 GiB  ███████████████!!!!!!!!!

█ weights  ▓ KV cache  ▒ compute  ░ driver, process  · free  ! too much

does not fit: needs 4.84 GiB of RAM, 2.60 GiB can be used; choose a smaller variant
"""

TWO = """\
qwen2.5:7B-Q4_K_M · 7.62 B parameters · Q4_K_M · qwen2 · 4.36 GiB
trained for 32768 tokens of context; 32768 fit here
its card says 4.83 GiB VRAM, 4.36 GiB size

two cards (simulated): 28.0 GiB of 32.0 GiB RAM free
  CUDA0 RTX 3060 5.00 GiB of 6.00 GiB free
  CUDA1 RTX 3060 5.00 GiB of 6.00 GiB free

32k context · 4 requests at a time · KV q8_0 · 29/29 layers on GPU · computed, exact

       WEIGHTS   KV CACHE  COMPUTE  OTHER    TOTAL     FREE
CUDA0  1.95 GiB  1.99 GiB  440 MiB  300 MiB  4.66 GiB  5.00 GiB  █████████▓▓▓▓▓▓▓▓▓▓▒▒░··
CUDA1  2.12 GiB  1.73 GiB  440 MiB  300 MiB  4.57 GiB  5.00 GiB  ██████████▓▓▓▓▓▓▓▓▒▒▒░··
RAM    292 MiB   0 B       163 MiB  130 MiB  586 MiB   28.0 GiB  ························

█ weights  ▓ KV cache  ▒ compute  ░ driver, process  · free  ! too much

on 2 GPUs: all 29 layers fit on CUDA0, CUDA1, which leaves 344 MiB free
"""

ALL = """\
gaming PC (simulated): 28.0 GiB of 32.0 GiB RAM free, CUDA0 RTX 4060 7.60 GiB of 8.00 GiB free

   VARIANT            SIZE      VERDICT       CONTEXT  NEEDS     CARD VRAM
*  qwen2.5:7B-Q4_K_M  4.36 GiB  on the GPU    1 x 32k  6.27 GiB  4.83 GiB   ██████████▓▓▓▓░···
   qwen2.5:7B-Q4_0    4.12 GiB  on the GPU    1 x 32k  6.04 GiB  4.60 GiB   █████████▓▓▓▓▒····
   qwen2.5:7B-F16     14.2 GiB  13/29 on GPU  1 x 8k   6.95 GiB  13.9 GiB   ███████████████▒··
   qwen2.5:3B-Q4_K_M  1.79 GiB  on the GPU    4 x 32k  6.69 GiB  2.37 GiB   ████▓▓▓▓▓▓▓▓▓▓▓░··
   qwen2.5:3B-F16     5.75 GiB  on the GPU    1 x 32k  7.27 GiB  6.33 GiB   ██████████████▓▓▒·
   qwen2.5:1.5B-F16   2.88 GiB  on the GPU    4 x 32k  6.76 GiB  3.39 GiB   ███████▓▓▓▓▓▓▓▓░··
   qwen2.5:0.5B-F16   945 MiB   on the GPU    4 x 32k  2.78 GiB  1.38 GiB   ██▓▓▓▓░···········

█ weights  ▓ KV cache  ▒ compute  ░ driver, process  · free  ! too much

qwen2.5:7B-Q4_K_M: on the GPU: all 29 layers fit on CUDA0, which leaves 1.33 GiB free
the largest that fits: qwen2.5:7B-Q4_K_M
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all of Docker's Qwen2.5, with holes for their tensors; `fit` only reads it."""
    path = tmp_path_factory.mktemp("family") / "store"
    sparse_store(path, *((f"ai/qwen2.5:{tag}", shape, kind) for tag, shape, kind in FAMILY))
    return path


@pytest.fixture
def family(store_path: Path, shared: Path) -> None:
    """The commands of this test use the shared store."""
    os.environ["QWENCTL_STORE"] = str(shared)


@pytest.fixture
def profile(tmp_path: Path) -> str:
    """The path of a machine's profile, which a test writes."""
    path = tmp_path / "box.yaml"
    path.write_text(GAMING)
    return str(path)


def is_tidy(outcome: Outcome) -> None:
    """No line is wider than a hundred columns, and none has characters that a terminal obeys."""
    for line in (outcome.out + outcome.err).splitlines():
        assert len(line) <= 100, line
        assert not any(unicodedata.category(character) == "Cc" for character in line)


class TestTranscripts:
    """What a person sees; the machine is a profile, so the numbers stay the same."""

    @pytest.mark.parametrize(
        ("machine", "flags", "shown"),
        [(GAMING, (), ONE), (TWO_CARDS, ("--kv", "q8_0"), TWO), (SMALL, (), SHORT)],
        ids=["one card", "two cards", "too small"],
    )
    def test_one_model(
        self, qwenctl: Command, family: None, tmp_path: Path, machine: str, flags: tuple[str, ...], shown: str
    ) -> None:
        """What it is, the machine, the configuration, each place with its parts, and one sentence."""
        box = write(tmp_path / "box.yaml", machine.encode())
        outcome = qwenctl("fit", "qwen2.5:7B-Q4_K_M", "--host", str(box), *flags)
        assert (outcome.status, outcome.out, outcome.err) == (0, shown, "")
        is_tidy(outcome)

    def test_all_variants(self, qwenctl: Command, family: None, profile: str) -> None:
        """A table with a bar of the place with the least room, and the sentence on the one asked for."""
        outcome = qwenctl("fit", "qwen2.5:7B-Q4_K_M", "--all", "--host", profile)
        assert (outcome.status, outcome.out, outcome.err) == (0, ALL, "")
        is_tidy(outcome)

    @pytest.mark.parametrize("machine", [GAMING, TWO_CARDS, SMALL, OFFICE, MAC])
    @pytest.mark.parametrize(
        "flags",
        [(), ("-c", "max"), ("--parallel", "8", "--kv", "q8_0")],
    )
    def test_no_line_is_wide(
        self, qwenctl: Command, family: None, tmp_path: Path, machine: str, flags: tuple[str, ...]
    ) -> None:
        """A hundred columns suffice on every machine, whatever is asked."""
        box = write(tmp_path / "box.yaml", machine.encode())
        outcome = qwenctl("fit", "qwen2.5:7B-Q4_K_M", "--host", str(box), *flags)
        assert outcome.status == 0
        is_tidy(outcome)

    def test_this_machine(self, qwenctl: Command) -> None:
        """Without a profile it is this one, and not simulated."""
        outcome = qwenctl("fit", "guide")
        assert outcome.status == 0
        assert "this machine: " in outcome.out and "simulated" not in outcome.out
        assert outcome.out.startswith("guide · 1.97 M parameters · Q8_0 · qwen2 · 2.06 MiB\n")

    def test_what_nobody_knows(self, qwenctl: Command, tmp_path: Path) -> None:
        """No table, but the reason; the status is 0, for the question was answered."""
        path = write(tmp_path / "odd.gguf", foreign_file("nonsense"))
        outcome = qwenctl("fit", "--gguf", str(path))
        assert (outcome.status, outcome.err) == (0, "")
        assert "WEIGHTS" not in outcome.out
        assert outcome.out.splitlines()[-1].startswith("its memory is unknown: llama.cpp refused")
        data = qwenctl("fit", "--gguf", str(path), "--json").data
        assert (data["verdict"], data["devices"], data["host"]) == ("unknown", [], None)
        assert "nonsense" in data["reason"]

    def test_variants_with_problems(self, qwenctl: Command, store_path: Path, tmp_path: Path) -> None:
        """Below the table each has a line with the reason; the columns of the card are left out."""
        remote = Store.open(tmp_path / "remote")
        put_sparse_model(remote, Reference.parse("me/m:good"), "qwen2.5-0.5b", "Q4_K_M", "real-size")
        put_files(remote, "me/m:odd", foreign_file("nonsense"))
        put_files(remote, "me/m:safe", foreign_file(), media_type="application/vnd.docker.ai.safetensors")
        with counted_registry(remote) as wire:
            shown = qwenctl("fit", f"{wire.address}/me/m:good", "--all")
        assert shown.status == 0
        assert "CARD VRAM" not in shown.out
        assert f"\n{wire.address}/me/m:odd: its memory is unknown: llama.cpp" in shown.out
        assert f"\n{wire.address}/me/m:safe: `{wire.address}/me/m:safe` holds" in shown.out
        conclusion, largest = shown.out.splitlines()[-2:]
        assert conclusion.startswith(f"{wire.address}/me/m:good: runs on the CPU with")
        assert largest == f"the largest that fits: {wire.address}/me/m:good"


class TestDocument:
    """`--json`."""

    @pytest.mark.parametrize("machine", [GAMING, TWO_CARDS, OFFICE])
    def test_the_figures_are_those_of_the_estimate(
        self, qwenctl: Command, family: None, tmp_path: Path, machine: str
    ) -> None:
        """For each device and the host, byte for byte, with the totals, the method and the verdict."""
        box = write(tmp_path / "box.yaml", machine.encode())
        data = qwenctl("fit", "qwen2.5:7B-Q4_K_M", "--host", str(box), "--json").data
        path = tmp_path / "model.gguf"
        with write_shape_model(path, "qwen2.5-7b", "Q4_K_M").open("rb") as file:
            shape = Shape.of(read_header(file))
        gpus = parse_host_profile(machine.encode(), "box").gpus
        given = {**data["configuration"], "tensor_split": tuple(data["configuration"]["tensor_split"])}
        estimate = Estimator(shape, gpus).estimate(Configuration(**given))
        for device, expected in zip(data["devices"], estimate.devices, strict=True):
            parts = (device["name"], device["weights"], device["kv_cache"], device["compute"])
            shown = (expected.name, expected.weights_bytes, expected.kv_cache_bytes, expected.compute_bytes)
            assert parts == shown
            assert device["total"] == expected.total_bytes + device["overhead"]
        host, ram = estimate.host, data["host"]
        assert (ram["weights"], ram["kv_cache"]) == (host.weights_bytes, host.kv_cache_bytes)
        assert (ram["compute"], ram["output"]) == (host.compute_bytes, host.output_bytes)
        assert data["totals"]["total"] == estimate.total_bytes
        assert (data["method"], data["exact"], data["simulated"]) == ("computed", True, True)
        assert (
            data["machine"]["ram"]["total_bytes"]
            == parse_host_profile(machine.encode(), "box").ram.total_bytes
        )
        assert data["variants"][0]["totals"] == data["totals"]

    def test_all_variants(self, qwenctl: Command, family: None, profile: str) -> None:
        """Each has what a single one has; the one asked for is at the top, too."""
        data = qwenctl("fit", "qwen2.5:3B-F16", "--all", "--host", profile, "--json").data
        assert [item["name"].partition(":")[2] for item in data["variants"]] == [
            "7B-Q4_K_M", "7B-Q4_0", "7B-F16", "3B-Q4_K_M", "3B-F16", "1.5B-F16", "0.5B-F16",
        ]  # fmt: skip
        assert data["name"] == "qwen2.5:3B-F16" and data["problems"] == []
        single = qwenctl("fit", "qwen2.5:7B-F16", "--host", profile, "--json").data
        same = next(item for item in data["variants"] if item["name"] == "qwen2.5:7B-F16")
        assert all(single[key] == value for key, value in same.items())

    def test_measured_is_what_is_computed(self, qwenctl: Command, tmp_path: Path) -> None:
        """llama.cpp itself has the same figures for a file."""
        path = write_shape_model(tmp_path / "m.gguf", "qwen3-0.6b", "Q8_0")
        asked = ("fit", "--gguf", str(path), "-c", "4096", "--parallel", "2", "--json")
        computed, measured = (qwenctl(*asked, "--method", method).data for method in ("computed", "measured"))
        assert (computed["method"], measured["method"]) == ("computed", "measured")
        for key in ("totals", "configuration", "verdict", "gpu_layers", "layers", "flash_attention", "exact"):
            assert computed[key] == measured[key]


class TestNothingIsDownloaded:
    """The header alone."""

    def test_a_remote_model(self, qwenctl: Command, store_path: Path, tmp_path: Path) -> None:
        """Two pieces of 256 KiB in all, and the store stays empty."""
        remote = Store.open(tmp_path / "remote")
        put_sparse_model(remote, Reference.parse("me/m:v1"), "qwen2.5-7b", "F16", "real-size")
        with counted_registry(remote) as wire:
            data = qwenctl("fit", f"{wire.address}/me/m:v1", "--json").data
        assert data["header"] == {"method": "two ranges", "requests": 2, "bytes": data["header"]["bytes"]}
        assert data["header"]["bytes"] <= 256 * 1024
        assert wire.body_bytes < data["header"]["bytes"] + 16 * 1024 < data["file_bytes"] / 10_000
        assert qwenctl("list", "--json").data["models"] == []
        assert list(store_path.rglob("blobs/sha256/*")) == []

    def test_every_variant_of_a_remote_model(
        self, qwenctl: Command, store_path: Path, tmp_path: Path
    ) -> None:
        """`--all` reads headers, too."""
        remote = Store.open(tmp_path / "remote")
        for tag, shape in (("a", "qwen2.5-0.5b"), ("b", "qwen2.5-1.5b")):
            put_sparse_model(remote, Reference.parse(f"me/m:{tag}"), shape, "Q8_0", "real-size")
        with counted_registry(remote) as wire:
            data = qwenctl("fit", f"{wire.address}/me/m:a", "--all", "--json").data
        assert len(data["variants"]) == 2 and data["problems"] == []
        assert list(store_path.rglob("blobs/sha256/*")) == []


class TestFlags:
    """What may be asked for."""

    def asked(self, qwenctl: Command, profile: str, *flags: str) -> dict[str, object]:
        """The configuration of a verdict."""
        outcome = qwenctl("fit", "qwen2.5:7B-Q4_K_M", "--host", profile, "--json", *flags)
        assert outcome.status == 0, outcome.out
        configuration = outcome.data["configuration"]
        assert isinstance(configuration, dict)
        return configuration

    @pytest.mark.parametrize(
        ("flags", "field", "value"),
        [
            (("--context", "5000"), "context_tokens", 5000),
            (("-c", "max"), "context_tokens", 32_768),
            (("--parallel", "3"), "slots", 3),
            (("--batch", "2048"), "batch_tokens", 2048),
            (("--ubatch", "128"), "ubatch_tokens", 128),
            (("--kv-type", "q8_0"), "kv_type", "q8_0"),
            (("--kv", "Q4_0"), "kv_type", "q4_0"),
            (("--flash-attention", "off"), "flash_attention", "off"),
            (("--flash-attention", "ON"), "flash_attention", "on"),
            (("--gpu-layers", "7"), "gpu_layers", 7),
            (("--gpu-layers", "0"), "gpu_layers", 0),
            (("--gpu-layers", "-1", "-c", "4096"), "gpu_layers", -1),
        ],
    )
    def test_each_flag(
        self,
        qwenctl: Command,
        family: None,
        profile: str,
        flags: tuple[str, ...],
        field: str,
        value: object,
    ) -> None:
        """It is in the configuration as it was asked for."""
        assert self.asked(qwenctl, profile, *flags)[field] == value

    @pytest.mark.parametrize(
        ("flags", "named"),
        [
            (("--context", "0"), "--context"),
            (("--context", "-1"), "--context"),
            (("--context", "many"), "--context"),
            (("--context", "99999999"), "--context"),
            (("--context", "٣"), "--context"),
            (("--parallel", "0"), "--parallel"),
            (("--parallel", "257"), "--parallel"),
            (("--parallel", "x"), "--parallel"),
            (("--parallel", "9", "--batch", "8"), "--batch 8"),
            (("--batch", "0"), "--batch"),
            (("--ubatch", "-5"), "--ubatch"),
            (("--kv-type", "q9"), "--kv-type"),
            (("--kv", ""), "--kv-type"),
            (("--kv", "q8_0", "--flash-attention", "off"), "flash attention"),
            (("--flash-attention", "maybe"), "--flash-attention"),
            (("--gpu-layers", "-2"), "--gpu-layers"),
            (("--gpu-layers", "100000"), "--gpu-layers"),
            (("--method", "guessed"), "--method"),
        ],
    )
    def test_bad_values(
        self, qwenctl: Command, family: None, profile: str, flags: tuple[str, ...], named: str
    ) -> None:
        """Exit status 2, the flag, and what it may be."""
        outcome = qwenctl("fit", "qwen2.5:7B-Q4_K_M", "--host", profile, *flags)
        assert (outcome.status, outcome.out) == (2, "")
        error, hint = outcome.err.splitlines()
        assert error.startswith("error: ") and named in error
        assert hint.startswith("hint: ")

    @pytest.mark.parametrize(
        "arguments",
        [(), ("guide", "--gguf", "x.gguf"), ("--gguf", "x.gguf", "--all"), ("UPPER CASE",)],
    )
    def test_what_to_judge(self, qwenctl: Command, arguments: tuple[str, ...]) -> None:
        """Either a model or a file, and a file has no variants."""
        outcome = qwenctl("fit", *arguments)
        assert outcome.status == 2 and "hint: " in outcome.err

    def test_a_simulated_machine_is_not_measured(self, qwenctl: Command, family: None, profile: str) -> None:
        """llama.cpp can only be asked about this machine."""
        outcome = qwenctl("fit", "qwen2.5:7B-Q4_K_M", "--host", profile, "--method", "measured")
        assert outcome.status == 2 and "hint: " in outcome.err

    @pytest.mark.parametrize(
        ("content", "status"),
        [
            (None, 3),
            ("[", 5),
            ("ram: [1]", 2),
            ("ram: 4GiB\ngpu: [1GiB]", 2),
            ("a: &a [*a, *a]", 5),
            ("ram: 0", 2),
        ],
    )
    def test_bad_profiles(self, qwenctl: Command, tmp_path: Path, content: str | None, status: int) -> None:
        """Missing is 3, no YAML is 5, no machine is 2; each names the file."""
        box = tmp_path / "box.yaml"
        if content is not None:
            box.write_text(content)
        outcome = qwenctl("fit", "guide", "--host", str(box))
        assert (outcome.status, outcome.out) == (status, "")
        assert str(box) in outcome.err

    @pytest.mark.parametrize(
        ("raw", "status"),
        [(None, 3), (b"GGUF but not really", 5), (b"", 5), (foreign_file()[:-64], 5)],
        ids=["absent", "no model", "empty", "cut short"],
    )
    def test_bad_files(self, qwenctl: Command, tmp_path: Path, raw: bytes | None, status: int) -> None:
        """Missing is 3, broken is 5."""
        path = tmp_path / "model.gguf"
        if raw is not None:
            path.write_bytes(raw)
        outcome = qwenctl("fit", "--gguf", str(path), "--json")
        assert outcome.status == status
        assert outcome.document["errors"][0]["message"]

    def test_models_that_are_not_there(self, qwenctl: Command) -> None:
        """An unknown name is 3 with near ones, a registry that is away is 4."""
        unknown = qwenctl("fit", "guide:Q8")
        assert unknown.status == 3 and "`guide:Q8_0`" in unknown.err
        assert qwenctl("fit", "127.0.0.1:1/me/model").status == 4
        assert qwenctl("fit", "0123456789ab").status == 3

    def test_a_model_that_is_not_in_gguf(self, qwenctl: Command, store_path: Path) -> None:
        """Exit status 2: another variant is wanted."""
        other = "application/vnd.docker.ai.safetensors"
        put_files(Store.open(store_path), "me/safe:v1", foreign_file(), media_type=other)
        outcome = qwenctl("fit", "me/safe:v1")
        assert outcome.status == 2 and "hint: choose a GGUF variant" in outcome.err

    def test_a_model_in_several_files(self, qwenctl: Command, store_path: Path) -> None:
        """It is judged as a whole."""
        files = split_files()
        put_files(Store.open(store_path), "me/split:v1", *files)
        data = qwenctl("fit", "me/split:v1", "--json").data
        assert data["file_bytes"] == sum(map(len, files))
