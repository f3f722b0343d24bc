"""Models to be judged: small ones in several files, ones that we do not know."""

from io import BytesIO
from pathlib import Path
from typing import Any

from qwenctl.model.artifact import CONFIG_V01, WEIGHTS_TYPE, describe
from qwenctl.model.gguf import read_header
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.manifest import build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import content_of
from qwenctl.store.store import Store
from tests.builders import CREATED
from tests.flows.header_builders import SMALL_METADATA, small_tensors
from tests.model.gguf_builders import F16, F32, Many, Value, Weights, gguf_file


def put_files(store: Store, name: str, *files: bytes, media_type: str = WEIGHTS_TYPE) -> Descriptor:
    """A model of these GGUF files."""
    shape = Shape.of(*(read_header(BytesIO(raw)) for raw in files))
    layers = [Descriptor.of(raw, media_type) for raw in files]
    for layer, raw in zip(layers, files, strict=True):
        store.push(layer, content_of(raw))
    config = describe(shape, layers[0].digest, CREATED)
    described = Descriptor.of(config, CONFIG_V01)
    manifest = build_manifest(described, tuple(layers))
    store.push(described, content_of(config))
    store.push(manifest.descriptor, content_of(manifest.raw))
    store.tag(manifest.descriptor, Reference.parse(name))
    return manifest.descriptor


def split_files() -> tuple[bytes, bytes]:
    """A small Qwen2 in two files, as llama.cpp splits them: the metadata are in the first."""
    tensors = small_tensors()
    counts: dict[str, Value] = {"split.count": 2, "split.tensors.count": len(tensors)}
    first = {**SMALL_METADATA, **counts, "split.no": 0}
    second = {"general.architecture": "qwen2", **counts, "split.no": 1}
    return gguf_file(first, tensors[:4]), gguf_file(second, tensors[4:])


def foreign_file(architecture: str = "internlm2", without: str = "") -> bytes:
    """A small model of a family that llama.cpp knows and the computation does not."""
    words = 600
    matrices = {"attn_q": (64, 64), "attn_k": (64, 32), "attn_v": (64, 32), "attn_output": (64, 64)}
    matrices |= {"ffn_gate": (64, 96), "ffn_up": (64, 96), "ffn_down": (96, 64)}
    tensors = (
        Weights("token_embd.weight", (64, words), F16),
        Weights("output_norm.weight", (64,), F32),
        Weights("output.weight", (64, words), F16),
        *(Weights(f"blk.0.{name}.weight", sizes, F16) for name, sizes in matrices.items()),
        *(Weights(f"blk.0.{name}.weight", (64,), F32) for name in ("attn_norm", "ffn_norm")),
    )
    own: dict[str, Any] = {
        "block_count": 1,
        "context_length": 2048,
        "embedding_length": 64,
        "feed_forward_length": 96,
        "attention.head_count": 2,
        "attention.head_count_kv": 1,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    metadata = {
        "general.architecture": architecture,
        "general.file_type": 1,
        **{f"{architecture}.{key}": value for key, value in own.items()},
        "tokenizer.ggml.tokens": tuple(f"word {number}" for number in range(words)),
        "tokenizer.ggml.token_type": Many(5, (1,) * words),
    }
    return gguf_file(metadata, [tensor for tensor in tensors if tensor.name != without])


def write(path: Path, raw: bytes) -> Path:
    """A file with these bytes; its path."""
    path.write_bytes(raw)
    return path
