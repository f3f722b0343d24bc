"""A model that no machine has room for, and a registry that has it and never sends it."""

from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from qwenctl.model.artifact import CONFIG_V01, WEIGHTS_TYPE, describe
from qwenctl.model.gguf import read_header
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import content_of
from qwenctl.store.store import Store
from tests.builders import CREATED
from tests.flows.header_builders import SMALL_METADATA
from tests.model.gguf_builders import F32, Weights, gguf_header

_WIDTH, _INNER, _WORDS = 1 << 17, 1 << 20, 1 << 12


def vast_header() -> bytes:
    """A Qwen2 of one layer, and of more than a tebibyte: no machine has room for it."""
    sizes = {"embedding_length": _WIDTH, "feed_forward_length": _INNER, "attention.head_count": 1024}
    own = {f"qwen2.{key}": value for key, value in (sizes | {"attention.head_count_kv": 8}).items()}
    cache = _WIDTH // 1024 * 8
    matrices = {
        "attn_q": (_WIDTH, _WIDTH),
        "attn_k": (_WIDTH, cache),
        "attn_v": (_WIDTH, cache),
        "attn_output": (_WIDTH, _WIDTH),
        "ffn_gate": (_WIDTH, _INNER),
        "ffn_up": (_WIDTH, _INNER),
        "ffn_down": (_INNER, _WIDTH),
    }
    tensors = (
        Weights("token_embd.weight", (_WIDTH, _WORDS)),
        Weights("output_norm.weight", (_WIDTH,)),
        *(Weights(f"blk.0.{name}.weight", shape) for name, shape in matrices.items()),
        *(Weights(f"blk.0.{name}.bias", (matrices[name][1],)) for name in ("attn_q", "attn_k", "attn_v")),
        *(Weights(f"blk.0.{name}.weight", (_WIDTH,)) for name in ("attn_norm", "ffn_norm")),
    )
    words = tuple(f"{number:x}" for number in range(_WORDS))
    assert all(tensor.type == F32 for tensor in tensors)
    return gguf_header({**SMALL_METADATA, **own, "tokenizer.ggml.tokens": words}, tensors)


def put_vast(store: Store, name: str) -> Descriptor:
    """The vast model in a store: its weights are a hole, their digest is made up."""
    header, digest = vast_header(), Digest.of(b"vast")
    path = store.layout.blob(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w+b") as file:
        file.write(header)
        file.seek(0)
        found = read_header(file)
        file.truncate(found.file_bytes)
    config = describe(Shape.of(found), digest, CREATED)
    described = Descriptor.of(config, CONFIG_V01)
    manifest = build_manifest(described, (Descriptor(WEIGHTS_TYPE, digest, found.file_bytes),))
    store.push(described, content_of(config))
    store.push(manifest.descriptor, content_of(manifest.raw))
    store.tag(manifest.descriptor, Reference.parse(name))
    return manifest.descriptor


@dataclass
class Guarded:
    """A registry that gives pieces of the vast model and never all of it: no test transfers a tebibyte."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        ranged = any(name == b"range" and not value.endswith(b"-") for name, value in scope["headers"])
        if Digest.of(b"vast").short in scope["path"] and scope["method"] == "GET" and not ranged:
            await Response("not whole", 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)
