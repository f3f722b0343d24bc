"""Models as OCI artifacts: the roles of layers, and the model config in Docker's and CNCF's forms.

Docker's format is what we write; its versions 0.1 and 0.2 and CNCF ModelPack with raw layers are read.
In all of them a layer is one file, uncompressed, so that a layer's digest is the file's.

Source: docker/model-spec (spec.md, config.md) and docker/model-runner `pkg/distribution/types/config.go`;
modelpack/model-spec `specs-go/v1`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Final

from qwenctl.errors import Malformed, UsageError
from qwenctl.model.quantization import parse_quantization
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest
from qwenctl.units import render_bytes, render_count

CONFIG_V01: Final = "application/vnd.docker.ai.model.config.v0.1+json"
CONFIG_V02: Final = "application/vnd.docker.ai.model.config.v0.2+json"
CONFIG_CNCF: Final = "application/vnd.cncf.model.config.v1+json"
CONFIG_LIMIT: Final = 8 * 1024 * 1024
"""Bytes of a model config that are read; real ones have some KiB."""

FILE_PATH: Final = "org.cncf.model.filepath"
FILE_METADATA: Final = "org.cncf.model.file.metadata+json"


class Role(StrEnum):
    """What a layer is for."""

    WEIGHTS = "weights"
    SAFETENSORS = "safetensors"
    DDUF = "dduf"
    PROJECTOR = "projector"
    ADAPTER = "adapter"
    LICENSE = "license"
    CHAT_TEMPLATE = "chat template"
    FILE = "file"
    VLLM_CONFIG = "vllm config"
    DIRECTORY = "directory"


ROLES: Final[Mapping[str, Role]] = {
    "application/vnd.docker.ai.gguf.v3": Role.WEIGHTS,
    "application/vnd.docker.ai.safetensors": Role.SAFETENSORS,
    "application/vnd.docker.ai.dduf": Role.DDUF,
    "application/vnd.docker.ai.license": Role.LICENSE,
    "application/vnd.docker.ai.mmproj": Role.PROJECTOR,
    "application/vnd.docker.ai.gguf.v3.mmproj": Role.PROJECTOR,
    "application/vnd.docker.ai.gguf.v3.lora": Role.ADAPTER,
    "application/vnd.docker.ai.chat.template.jinja": Role.CHAT_TEMPLATE,
    "application/vnd.docker.ai.model.file": Role.FILE,
    "application/vnd.docker.ai.vllm.config.tar": Role.VLLM_CONFIG,
    "application/vnd.docker.ai.dir.tar": Role.DIRECTORY,
    "application/vnd.cncf.model.weight.v1.gguf": Role.WEIGHTS,
    "application/vnd.cncf.model.weight.v1.safetensors": Role.SAFETENSORS,
    "application/vnd.cncf.model.weight.config.v1.raw": Role.FILE,
    "application/vnd.cncf.model.code.v1.raw": Role.FILE,
    "application/vnd.cncf.model.dataset.v1.raw": Role.FILE,
}
"""By media type. CNCF's `…weight.v1.raw` and `…doc.v1.raw` say less: there the file's name decides."""

WEIGHTS_TYPE: Final = "application/vnd.docker.ai.gguf.v3"
LICENSE_TYPE: Final = "application/vnd.docker.ai.license"
CHAT_TEMPLATE_TYPE: Final = "application/vnd.docker.ai.chat.template.jinja"
_CNCF_WEIGHT: Final = "application/vnd.cncf.model.weight.v1."
_CNCF_RAW: Final = f"{_CNCF_WEIGHT}raw"
_CNCF_PACKED: Final = tuple(f"{_CNCF_WEIGHT}{packing}" for packing in ("tar", "tar+gzip", "tar+zstd"))
_CNCF_DOC: Final = "application/vnd.cncf.model.doc.v1.raw"

_TEXT_LIMIT: Final = 200  # characters of a field that is shown in a table
_GGUF_LIMIT: Final = 4096  # characters of one GGUF value, and entries of the map
_INT32: Final = (1 << 31) - 1  # `context_size` is an int32
_DIGITS: Final = re.compile(r"[0-9]{1,10}")
_PATH: Final = re.compile(r"[^\\:]{1,1024}")  # nothing that Windows would take for a drive or a separator


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The config blob: what the model says of itself. Empty text and None are what it does not say."""

    format: str = ""
    quantization: str = ""
    parameters: str = ""
    architecture: str = ""
    context_size: int | None = None
    created: datetime | None = None
    gguf: Mapping[str, str] | None = None

    @property
    def context_length(self) -> int | None:
        """Tokens: the config's own figure, else the GGUF's, under whatever architecture."""
        if self.context_size:
            return self.context_size
        text = (self.gguf or {}).get(f"{self.architecture}.context_length", "")
        length = int(text) if _DIGITS.fullmatch(text) else 0
        return length if 0 < length <= _INT32 else None


@dataclass(frozen=True, slots=True)
class ModelArtifact:
    """A manifest whose config and layers are understood."""

    manifest: Manifest
    config: ModelConfig

    def layers(self, role: Role) -> tuple[Descriptor, ...]:
        """The layers of one role; weights in several files are several, in the order of the files' names
        where all have one, else of the manifest.
        """
        layers = [layer for layer in self.manifest.layers if self.role(layer) is role]
        named = role is Role.WEIGHTS and all(map(_file_name, layers))
        return tuple(sorted(layers, key=_file_name) if named else layers)

    def role(self, layer: Descriptor) -> Role | None:
        """What a layer is for; None for a media type that we do not know."""
        if layer.media_type == _CNCF_RAW:
            return self._weight_role(layer)
        if layer.media_type == _CNCF_DOC:
            return Role.LICENSE if _file_name(layer).startswith(("licen", "copying")) else Role.FILE
        return ROLES.get(layer.media_type)

    @property
    def size_bytes(self) -> int:
        """Bytes of config and layers."""
        return self.manifest.content_size

    def _weight_role(self, layer: Descriptor) -> Role:
        name = _file_name(layer)
        if "mmproj" in name:
            return Role.PROJECTOR
        if name.endswith(".dduf"):
            return Role.DDUF
        by_name = name.endswith((".gguf", ".safetensors"))
        kind = name.rpartition(".")[2] if by_name else self.config.format.lower()
        return Role.SAFETENSORS if kind == "safetensors" else Role.WEIGHTS


def layer_path(layer: Descriptor) -> PurePosixPath | None:
    """Where the layer's file belongs, below the directory of the model; None when it does not say.

    Raises: Malformed for a path that could lead out of that directory.
    """
    text = layer.annotations.get(FILE_PATH)
    if not text:
        return None
    path = PurePosixPath(text)
    plain = text.isprintable() and _PATH.fullmatch(text)
    if not plain or path.is_absolute() or ".." in path.parts or not path.parts:
        raise Malformed(f"layer `{layer.digest}` has the path `{_clean(text)}`, which is not allowed")
    return path


def _file_name(layer: Descriptor) -> str:
    return layer.annotations.get(FILE_PATH, "").rpartition("/")[2].lower()


def parse_artifact(manifest: Manifest, config: bytes) -> ModelArtifact:
    """The model in a manifest with its config blob.

    Raises: Malformed when it is not a model, naming the media type, or when its config is damaged.
    """
    kind = manifest.config.media_type
    if kind not in (CONFIG_V01, CONFIG_V02, CONFIG_CNCF):
        raise Malformed(
            f"this is not a model: its config is of type `{_clean(kind)}`",
            hint="an image for containers, or a format that this version does not know",
        )
    for layer in manifest.layers:
        if layer.media_type in _CNCF_PACKED:
            raise Malformed(
                f"layer `{layer.digest}` is packed as `{layer.media_type}`; only raw layers can be run",
                hint="ask its maker for raw layers (`.raw`)",
            )
    document = _decode(config)
    parsed = _cncf_config(document) if kind == CONFIG_CNCF else _docker_config(document)
    return ModelArtifact(manifest, parsed)


def describe(shape: Shape, weights: Digest, created: datetime, extra: tuple[Digest, ...] = ()) -> bytes:
    """The config blob, in Docker's version 0.1, of an artifact with these weights and further layers.

    Deterministic: the same arguments give the same bytes.
    """
    config: dict[str, Any] = {
        "format": "gguf",
        "quantization": shape.quantization or "unknown",
        "parameters": render_count(shape.parameters),
        "architecture": shape.architecture,
        "size": render_bytes(shape.weights_bytes).replace(" ", ""),
        "gguf": dict(shape.summary),
    }
    if shape.context_length is not None:
        config["context_size"] = shape.context_length
    document = {
        "config": config,
        "descriptor": {"created": created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
        "rootfs": {"type": "rootfs", "diff_ids": [str(digest) for digest in (weights, *extra)]},
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _decode(raw: bytes) -> dict[str, Any]:
    if len(raw) > CONFIG_LIMIT:
        raise Malformed(f"model config of {len(raw)} bytes is over the limit of {CONFIG_LIMIT}")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Malformed("model config is not JSON") from error
    if not isinstance(document, dict):
        raise Malformed("model config is not a JSON object")
    return document


def _docker_config(document: dict[str, Any]) -> ModelConfig:
    config, descriptor = _section(document, "config"), _section(document, "descriptor")
    context = config.get("context_size")
    return ModelConfig(
        format=_text(config, "format"),
        quantization=_quantization(_text(config, "quantization")),
        parameters=_text(config, "parameters"),
        architecture=_text(config, "architecture"),
        context_size=context if type(context) is int and 0 < context <= _INT32 else None,
        created=_moment(descriptor.get("created") or descriptor.get("createdAt")),
        gguf=_metadata(config.get("gguf")),
    )


def _cncf_config(document: dict[str, Any]) -> ModelConfig:
    config, descriptor = _section(document, "config"), _section(document, "descriptor")
    return ModelConfig(
        format=_text(config, "format"),
        quantization=_quantization(_text(config, "quantization")),
        parameters=_text(config, "paramSize"),
        architecture=_text(config, "architecture"),
        created=_moment(descriptor.get("createdAt")),
    )


def _section(document: dict[str, Any], key: str) -> dict[str, Any]:
    section = document.get(key)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise Malformed(f"model config has a `{key}` that is not an object")
    return section


def _metadata(value: object) -> Mapping[str, str] | None:
    if not isinstance(value, dict):
        return None
    pairs = ((key, text) for key, text in list(value.items())[:_GGUF_LIMIT] if isinstance(text, str))
    return {_clean(key): "\n".join(map(_clean, text[:_GGUF_LIMIT].split("\n"))) for key, text in pairs}


def _text(section: dict[str, Any], key: str) -> str:
    value = section.get(key)
    return _clean(value) if isinstance(value, str) else ""


def _clean(text: str) -> str:
    """One line of a stranger's text, fit for a terminal: no control characters, no halves of characters."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text[:_TEXT_LIMIT])


def _quantization(text: str) -> str:
    try:
        return parse_quantization(text)
    except UsageError:
        return text


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
