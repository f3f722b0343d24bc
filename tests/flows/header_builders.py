"""A small model file with a vocabulary, and a source that serves whatever bytes as a layer."""

from io import BytesIO

from qwenctl.errors import RangeIgnored
from qwenctl.flows.header import ReadHeader, read_remote_header
from qwenctl.model.artifact import ModelConfig
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.target import MemoryTarget, Reader, piece_of
from tests.model.gguf_builders import F16, F32, Many, Value, Weights, gguf_file

BOUND = 256 * 1024
"""Bytes that two ranges may cost."""


class Served(MemoryTarget):
    """A source of one content, whatever the digest; `ranged` false: it gives no pieces behind the front."""

    def __init__(self, raw: bytes, *, ranged: bool = True) -> None:
        super().__init__()
        self.raw = raw
        self.ranged = ranged
        self.given = 0

    def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None) -> Reader:
        """See `Source.fetch`."""
        if offset and length is not None and not self.ranged:
            raise RangeIgnored("no ranges here")
        return piece_of(BytesIO(self.raw[offset:]), length)

    def read(self, size: int | None = None, hint: ModelConfig | None = None) -> ReadHeader:
        """The header of the content."""
        layer = Descriptor("x/y", Digest.of(b"made up"), len(self.raw) if size is None else size)
        return read_remote_header(self, layer, hint)


WORDS = 6000
SMALL_METADATA: dict[str, Value] = {
    "general.architecture": "qwen2",
    "general.file_type": 1,
    "qwen2.block_count": 1,
    "qwen2.context_length": 128,
    "qwen2.embedding_length": 64,
    "qwen2.feed_forward_length": 96,
    "qwen2.attention.head_count": 2,
    "qwen2.attention.head_count_kv": 1,
    "tokenizer.ggml.tokens": tuple(f"word number {number}" for number in range(WORDS)),
    "tokenizer.ggml.token_type": Many(5, (1,) * WORDS),
    "tokenizer.chat_template": "{{ messages }}",
}


def small_tensors(kind: int = F16) -> tuple[Weights, ...]:
    """The tensors of a Qwen2 of one layer, all matrices of one type."""
    matrices = {"attn_q": (64, 64), "attn_k": (64, 32), "attn_v": (64, 32), "attn_output": (64, 64)}
    matrices |= {"ffn_gate": (64, 96), "ffn_up": (64, 96), "ffn_down": (96, 64)}
    biases = {"attn_q": 64, "attn_k": 32, "attn_v": 32}
    return (
        Weights("output_norm.weight", (64,), F32),
        Weights("token_embd.weight", (64, WORDS), kind),
        *(Weights(f"blk.0.{name}.weight", sizes, kind) for name, sizes in matrices.items()),
        *(Weights(f"blk.0.{name}.bias", (size,), F32) for name, size in biases.items()),
        *(Weights(f"blk.0.{name}.weight", (64,), F32) for name in ("attn_norm", "ffn_norm")),
    )


SMALL = gguf_file(SMALL_METADATA, small_tensors())
