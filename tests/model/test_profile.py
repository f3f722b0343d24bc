"""Machine profiles: every form that they may have, and that all else is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import Malformed, QwenctlError, UsageError
from qwenctl.model.host import Gpu, Host, Ram
from qwenctl.model.profile import PROFILE_LIMIT, SIZE_LIMIT, parse_host_profile

GIB = 1 << 30
MIB = 1 << 20

WHOLE = b"""
name: gaming PC
ram: {total: 32GiB, available: 28GiB}
cores: 8
gpus:
  - {name: CUDA0, description: RTX 4070, backend: cuda, total: 12GiB, free: 11.25GiB, overhead: 250MiB}
  - {name: Vulkan3, backend: vulkan, total: 8589934592, shares_ram: true, id: "0000:03:00.0"}
"""


def parse(text: str | bytes) -> Host:
    """The host in a profile."""
    return parse_host_profile(text if isinstance(text, bytes) else text.encode(), "p.yaml")


class TestForms:
    """What may be written."""

    def test_everything(self) -> None:
        """Every field has its place, and the machine is a simulated one."""
        assert parse(WHOLE) == Host(
            name="gaming PC",
            ram=Ram(total_bytes=32 * GIB, available_bytes=28 * GIB),
            cores=8,
            gpus=(
                Gpu(
                    name="CUDA0",
                    backend="cuda",
                    description="RTX 4070",
                    total_bytes=12 * GIB,
                    free_bytes=12 * GIB - 768 * MIB,
                    overhead_bytes=250 * MIB,
                ),
                Gpu(
                    name="Vulkan3",
                    backend="vulkan",
                    total_bytes=8 * GIB,
                    free_bytes=8 * GIB,
                    shares_ram=True,
                    id="0000:03:00.0",
                ),
            ),
            source="a machine profile",
            simulated=True,
        )

    def test_the_least(self) -> None:
        """RAM alone: all of it available, no GPU."""
        host = parse("ram: 16GiB")
        assert host.ram == Ram(total_bytes=16 * GIB, available_bytes=16 * GIB)
        assert (host.gpus, host.cores, host.simulated) == ((), 1, True)
        assert parse("{ram: 16GiB, gpus: }").gpus == parse("{ram: 16GiB, gpus: []}").gpus == ()

    def test_sizes_alone(self) -> None:
        """GPUs may be sizes: cards for CUDA with a typical context, all free."""
        gpus = parse("{ram: 17179869184, gpus: [12GiB, 8 GB, 128MiB]}").gpus
        assert [gpu.name for gpu in gpus] == ["CUDA0", "CUDA1", "CUDA2"]
        assert [gpu.free_bytes for gpu in gpus] == [12 * GIB, 8 * 10**9, 128 * MIB]
        assert [gpu.overhead_bytes for gpu in gpus] == [300 * MIB, 300 * MIB, 128 * MIB]
        assert {gpu.backend for gpu in gpus} == {"cuda"}

    def test_names_are_counted_for_each_backend(self) -> None:
        """As ggml names its devices."""
        backends = ("cuda", "vulkan", "cuda", "rocm", "metal", "other")
        gpus = ", ".join(f"{{backend: {backend}, total: 1GiB}}" for backend in backends)
        named = parse(f"{{ram: 1GiB, gpus: [{gpus}]}}").gpus
        assert [gpu.name for gpu in named] == ["CUDA0", "Vulkan0", "CUDA1", "ROCm0", "MTL0", "GPU0"]
        assert [gpu.overhead_bytes > 0 for gpu in named] == [True, False, True, False, False, False]
        assert [gpu.shares_ram for gpu in named] == [False, False, False, False, True, False]


REFUSED = {
    "nothing": ("", UsageError, "not a mapping"),
    "a list": ("[12GiB]", UsageError, "not a mapping"),
    "not YAML": ("ram: [", Malformed, "not YAML"),
    "a key twice": ("ram: 1GiB\nram: 2GiB", Malformed, "second time"),
    "no RAM": ("cores: 2", UsageError, "missing required field `ram`"),
    "unknown key": ("{ram: 1GiB, gpu: [1GiB]}", UsageError, "unknown key `gpu`"),
    "unknown key of the RAM": ("ram: {total: 1GiB, free: 1}", UsageError, "`ram` has the unknown key `free`"),
    "unknown key of a GPU": (
        "{ram: 1GiB, gpus: [1GiB, {total: 1GiB, fre: 1}]}",
        UsageError,
        "`gpus[1]` has the unknown key `fre`",
    ),
    "a key that is a number": ("{ram: 1GiB, 5: 1}", UsageError, "unknown key `5`"),
    "no total": ("{ram: 1GiB, gpus: [{free: 1GiB}]}", UsageError, "`$.gpus[0]`"),
    "not a size": ("{ram: 1GiB, gpus: [many]}", UsageError, "`gpus[0].total`: `many` is not a size"),
    "a fraction": ("ram: 1.5", UsageError, "$.ram"),
    "true": ("ram: true", UsageError, "$.ram"),
    "a date": ("ram: 2025-01-01", UsageError, "$.ram"),
    "negative": ("ram: -1", UsageError, "`ram`: -1 is not a size that a machine has"),
    "zero": ("{ram: 1GiB, gpus: [0]}", UsageError, "`gpus[0].total`: 0 is"),
    "too large": (f"ram: {SIZE_LIMIT + 1}", UsageError, "is not a size that a machine has"),
    "too long a number": (f"ram: 0x{'f' * 9000}", UsageError, "a number is not a size"),
    "available beyond": ("ram: {total: 1GiB, available: 2GiB}", UsageError, "`ram.available` is more"),
    "free beyond": ("{ram: 1GiB, gpus: [{total: 1, free: 2}]}", UsageError, "`gpus[0].free` is more"),
    "overhead beyond": (
        "{ram: 1, gpus: [{total: 1, overhead: 2}]}",
        UsageError,
        "`gpus[0].overhead` is more",
    ),
    "no cores": ("{ram: 1GiB, cores: 0}", UsageError, "`$.cores`"),
    "many cores": ("{ram: 1GiB, cores: 5000}", UsageError, "`$.cores`"),
    "many GPUs": (f"{{ram: 1GiB, gpus: [{'1GiB, ' * 17}]}}", UsageError, "`$.gpus`"),
    "backend": ("{ram: 1GiB, gpus: [{total: 1, backend: cudda}]}", UsageError, "`$.gpus[0].backend`"),
    "a name twice": ("{ram: 1, gpus: [1, {name: CUDA0, total: 1}]}", UsageError, "the name `CUDA0`"),
    "a long name": (f"{{ram: 1GiB, name: {'x' * 101}}}", UsageError, "`$.name`"),
    "a name with an escape": ('{ram: 1GiB, name: "\\e[31m"}', UsageError, "`name` has characters"),
    "an escape in a key": ('{ram: 1GiB, "\\e[31m": 1}', UsageError, "unknown key `?[31m`"),
}


class TestRefused:
    """What may not be written."""

    @pytest.mark.parametrize("case", REFUSED)
    def test_by_name(self, case: str) -> None:
        """The error names the file and the place."""
        text, error, words = REFUSED[case]
        with pytest.raises(error) as refused:
            parse(text)
        assert refused.value.message.startswith("machine profile `p.yaml`: ")
        assert words in refused.value.message
        assert refused.value.message.isprintable()
        assert len(refused.value.message) < 400

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            ("{ram: 1GiB, gpu: []}", "did you mean `gpus`?"),
            ("ram: {total: 1GiB, avail: 1}", "did you mean `available`?"),
            ("{ram: 1GiB, zzz: 1}", "known keys: ram, name, cores, gpus"),
            ("ram: lots", "write it like 512MiB, 4GiB or 4GB"),
        ],
    )
    def test_hints(self, text: str, hint: str) -> None:
        """The next step: the key that was meant, or the way to write a size."""
        with pytest.raises(UsageError) as refused:
            parse(text)
        assert refused.value.hint == hint

    def test_a_large_file(self) -> None:
        """Is not looked at."""
        with pytest.raises(Malformed, match="more than"):
            parse(b"#" * (PROFILE_LIMIT + 1))

    @given(st.binary(max_size=200))
    def test_any_bytes(self, raw: bytes) -> None:
        """A host or an error of ours."""
        try:
            assert isinstance(parse(raw), Host)
        except QwenctlError as error:
            assert error.message.isprintable()

    @given(st.data())
    def test_mutations(self, data: st.DataObject) -> None:
        """A profile with some bytes changed is read or refused; what is read keeps the rules."""
        raw = bytearray(WHOLE)
        for _ in range(data.draw(st.integers(1, 6))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(32, 126))
        try:
            host = parse(bytes(raw))
        except QwenctlError as error:
            assert error.message.isprintable()
        else:
            assert host.simulated
            assert all(0 <= gpu.free_bytes <= gpu.total_bytes <= SIZE_LIMIT for gpu in host.gpus)

    @given(
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=4),
                st.dictionaries(
                    st.sampled_from(("ram", "total", "free", "available", "gpus", "name", "cores", "x")),
                    inner,
                    max_size=6,
                ),
            ),
            max_leaves=12,
        )
    )
    def test_any_document(self, document: object) -> None:
        """Whatever YAML can say, known keys in the wrong places included."""
        import yaml

        raw = yaml.safe_dump(document, allow_unicode=True).encode()
        try:
            assert isinstance(parse(raw), Host)
        except QwenctlError as error:
            assert error.message.isprintable()
