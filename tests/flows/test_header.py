"""The header without the download: two pieces and a proof, or the header alone; whatever the file is."""

import mmap
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import cast

import pytest

from qwenctl.errors import BlobUnknown, Malformed
from qwenctl.flows.header import ReadHeader, read_remote_header
from qwenctl.model.artifact import ModelConfig
from qwenctl.model.gguf import Array, Header, ValueType, read_front, read_header
from qwenctl.model.shape import Shape
from qwenctl.model.table import FRONT_BYTES, WINDOW_BYTES, find_header, predict_window
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.remote.client import Client
from qwenctl.remote.repository import Repository
from qwenctl.remote.transport import Transport
from qwenctl.store.store import Store
from tests.flows.header_builders import BOUND, SMALL, SMALL_METADATA, WORDS, Served, small_tensors
from tests.model.gguf_builders import F32, gguf_file
from tests.registry.running import running_registry
from tests.remote.faulty_registry import FaultyRegistry, faulty_registry
from tests.shape_models import write_shape_model

STREAMED = 8 << 20
"""Bytes that the whole header of a Qwen2.5 may cost."""


@dataclass(frozen=True)
class Remote:
    """A model file behind the embedded registry."""

    repository: Repository
    layer: Descriptor
    path: Path

    @property
    def expected(self) -> Header:
        """The header as a reader of the file finds it."""
        with self.path.open("rb") as file:
            return read_header(file)


Publish = Callable[..., Remote]


@pytest.fixture
def publish(tmp_path: Path) -> Iterator[Publish]:
    """Puts shape models into a registry on loopback. Their digests are made up: nobody could hash a hole."""
    store = Store.open(tmp_path / "store")
    with running_registry(store) as address, closing(Transport()) as transport:

        def put(
            shape: str = "qwen2.5-7b",
            quantization: str = "Q4_K_M",
            retyped: Mapping[str, str] | None = None,
        ) -> Remote:
            digest = Digest.of(f"{shape} {quantization} {retyped}".encode())
            path = store.layout.blob(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_shape_model(path, shape, quantization, vocabulary="real-size", retyped=retyped)
            repository = Repository(Client(transport, f"http://{address}"), "me/model")
            return Remote(repository, Descriptor("x/y", digest, path.stat().st_size), path)

        yield put


def is_the_header(read: ReadHeader, expected: Header) -> None:
    """Two ranges gave what the whole header says: the same table, and the scalars that stand in front."""
    header = read.header
    assert read.method == "two ranges" and read.requests == 2
    assert read.bytes_read <= BOUND
    assert header.tensors == expected.tensors
    assert (header.version, header.alignment, header.size_bytes) == (3, 32, expected.size_bytes)
    assert header.metadata.items() <= expected.metadata.items()
    assert Shape.of(header).vocabulary_size == Shape.of(expected).vocabulary_size
    assert Shape.of(header).context_length == Shape.of(expected).context_length


class TestTwoRanges:
    """At a registry that answers ranges."""

    @pytest.mark.parametrize(
        ("shape", "quantization"),
        [
            ("qwen2.5-0.5b", "Q4_K_M"),
            ("qwen2.5-7b", "Q4_K_M"),
            ("qwen2.5-7b", "F16"),
            ("qwen2.5-72b", "IQ4_XS"),
            ("qwen3-8b", "Q8_0"),
            ("qwen3-30b-a3b", "Q5_K_M"),
            ("llama-3.2-1b", "Q4_0"),
            ("llama-3.1-8b", "Q6_K"),
            ("gemma-3-4b", "Q3_K_L"),
            ("gemma-2-2b", "BF16"),
        ],
    )
    def test_a_quarter_of_a_mebibyte_is_enough(self, publish: Publish, shape: str, quantization: str) -> None:
        """Instead of a header of 6 to 8 MB; nobody said the quantization in front of the vocabulary."""
        remote = publish(shape, quantization)
        is_the_header(read_remote_header(remote.repository, remote.layer), remote.expected)

    @pytest.mark.parametrize("shape", ["qwen2.5-0.5b", "qwen2.5-7b", "qwen2.5-72b", "llama-3.2-1b"])
    def test_a_mix_of_ones_own_is_found_by_its_tokenizer(self, publish: Publish, shape: str) -> None:
        """The types are not as predicted, but the family's vocabulary says where the table lies."""
        remote = publish(shape, "Q4_K_M", {"ffn_up.weight": "Q8_0", "attn_v.weight": "F16"})
        is_the_header(read_remote_header(remote.repository, remote.layer), remote.expected)

    def test_a_wrong_hint_does_no_harm(self, publish: Publish) -> None:
        """What the model's config says is a guess like any other."""
        remote = publish()
        for quantization in ("Q2_K", "IQ2_XXS/Q4_K_M", "nonsense", ""):
            hint = ModelConfig(quantization=quantization)
            is_the_header(read_remote_header(remote.repository, remote.layer, hint), remote.expected)

    def test_what_is_not_there_is_unknown(self, publish: Publish) -> None:
        """As for any content."""
        with pytest.raises(BlobUnknown):
            read_remote_header(publish().repository, Descriptor.of(b"absent", "x/y"))


class TestStore:
    """What is here already is a file."""

    def test_a_stored_layer_is_read_as_a_file(self, tmp_path: Path) -> None:
        """All metadata, one opening, no more than the header."""
        store, digest = Store.open(tmp_path / "store"), Digest.of(b"made up")
        path = store.layout.blob(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_shape_model(path, "qwen2.5-0.5b", "Q4_K_M", vocabulary="real-size")
        read = read_remote_header(store, Descriptor("x/y", digest, path.stat().st_size))
        with path.open("rb") as file:
            assert read.header == read_header(file)
        assert (read.method, read.requests) == ("file", 1)
        assert read.bytes_read <= STREAMED


@pytest.fixture
def faulty() -> Iterator[FaultyRegistry]:
    """A registry that misbehaves."""
    with faulty_registry() as registry:
        yield registry


class TestMisbehavingServers:
    """A header comes from them too, and never with gigabytes before it."""

    @pytest.fixture
    def remote(self, faulty: FaultyRegistry, tmp_path: Path) -> Iterator[Remote]:
        """A 0.5B at the misbehaving registry, mapped, as it is 400 MB long."""
        path = write_shape_model(tmp_path / "m.gguf", "qwen2.5-0.5b", "Q4_K_M", vocabulary="real-size")
        layer = Descriptor("x/y", Digest.of(b"made up"), path.stat().st_size)
        with (
            path.open("rb") as file,
            closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as content,
            closing(Transport()) as transport,
        ):
            faulty.blobs[str(layer.digest)] = cast("bytes", content)
            repository = Repository(Client(transport, f"http://{faulty.address}"), "me/model")
            yield Remote(repository, layer, path)
            del faulty.blobs[str(layer.digest)]

    def test_ranges_are_closed(self, faulty: FaultyRegistry, remote: Remote) -> None:
        """Two requests on the wire, each for its piece alone."""
        is_the_header(read_remote_header(remote.repository, remote.layer), remote.expected)
        asked = [seen.headers["range"] for seen in faulty.requests("GET")]
        ends = [tuple(map(int, text.removeprefix("bytes=").split("-"))) for text in asked]
        assert ends[0] == (0, FRONT_BYTES - 1)
        assert len(ends) == 2 and ends[1][1] - ends[1][0] < WINDOW_BYTES

    @pytest.mark.parametrize("fault", ["ignore_range", "refuse_range"])
    def test_without_ranges_the_header_is_streamed(
        self, faulty: FaultyRegistry, remote: Remote, fault: str
    ) -> None:
        """From the front, and left behind the header."""
        setattr(faulty.faults, fault, True)
        read = read_remote_header(remote.repository, remote.layer)
        assert read.header == remote.expected
        assert read.method == "stream"
        assert read.bytes_read <= STREAMED

    def test_a_broken_connection_goes_on(self, faulty: FaultyRegistry, remote: Remote) -> None:
        """A piece that breaks off is completed."""
        faulty.faults.drop_after, faulty.faults.drops = 20_000, 1
        is_the_header(read_remote_header(remote.repository, remote.layer), remote.expected)


class TestProof:
    """A table is taken only when the file can have no other."""

    def test_a_small_file_is_found(self) -> None:
        """A vocabulary that no family has; the types alone say where the table is."""
        read = Served(SMALL).read()
        is_the_header(read, read_header(BytesIO(SMALL)))
        tokens = read.header.metadata["tokenizer.ggml.tokens"]
        assert tokens == Array(ValueType.STRING, WORDS, None)

    def test_an_unknown_mix_is_streamed(self) -> None:
        """Neither types nor tokenizer are known: the whole header is read, and everything is there."""
        tensors = (*small_tensors()[:1], *small_tensors(F32)[1:2], *small_tensors()[2:])
        raw = gguf_file(SMALL_METADATA, tensors)
        read = Served(raw).read()
        assert read.method == "stream"
        assert read.header == read_header(BytesIO(raw))

    def test_a_header_in_the_first_piece_costs_one_request(self) -> None:
        """A tiny file has no vocabulary to leave out."""
        read = Served(gguf_file()).read()
        assert (read.method, read.requests, read.bytes_read) == ("stream", 1, len(gguf_file()))

    def test_a_source_without_pieces_is_streamed(self) -> None:
        """A refusal of the second piece is no error."""
        read = Served(SMALL, ranged=False).read()
        assert (read.method, read.requests) == ("stream", 3)
        assert read.header == read_header(BytesIO(SMALL))

    @pytest.mark.parametrize("cut", [1, 32, 1000])
    def test_a_file_of_another_length_is_not_proved(self, cut: int) -> None:
        """Tensors that do not end where the file ends: streamed, and a file that is too short is refused."""
        read = Served(SMALL + bytes(cut)).read()
        assert read.method == "stream"
        with pytest.raises(Malformed, match="beyond the file's end"):
            Served(SMALL[:-cut]).read()

    def test_a_table_elsewhere_is_not_taken(self) -> None:
        """A piece with another table in it, or with the table cut off, proves nothing."""
        front = read_front(BytesIO(SMALL))
        window = predict_window(front, len(SMALL))
        assert window is not None
        piece = SMALL[window.offset : window.offset + window.length]
        assert find_header(piece, window.offset, front, len(SMALL)) is not None
        assert find_header(piece, window.offset + 32, front, len(SMALL)) is None
        assert find_header(piece[:-64], window.offset, front, len(SMALL)) is None
        fewer = replace(front, tensor_count=front.tensor_count - 1)
        assert find_header(piece, window.offset, fewer, len(SMALL)) is None

    def test_the_hint_decides_between_possible_mixes(self, tmp_path: Path) -> None:
        """Types that leave a possible header both ways are tried in the order: stated, hinted, others."""
        path = write_shape_model(tmp_path / "m.gguf", "gemma-3-1b", "Q4_K_S", vocabulary="real-size")
        with path.open("rb") as file:
            read = read_front(BytesIO(file.read(FRONT_BYTES)))
            file.seek(0)
            end = read_header(file).size_bytes
        unknown = replace(read, metadata={"tokenizer.ggml.pre": "mine"} | dict(read.metadata))
        strange = {**unknown.metadata, "tokenizer.ggml.model": "mine"}
        tokens = strange.pop("tokenizer.ggml.tokens")
        front = replace(read, metadata={**strange, "tokenizer.ggml.tokens": tokens})
        window = predict_window(front, path.stat().st_size, "Q4_K_S")
        assert window is not None
        assert window.offset + window.length == end
