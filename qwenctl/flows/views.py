"""Views: what a stored model says of itself, for `list`, `show`, `inspect` and the runner."""

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from qwenctl.errors import BlobUnknown, IntegrityError, LoadFailed, Malformed, StoreDamaged
from qwenctl.flows.find import Found
from qwenctl.model.artifact import CONFIG_LIMIT, ModelArtifact, ModelConfig, Role, parse_artifact
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Index, Manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Source, read_document, read_verified
from qwenctl.store.layout import Entry
from qwenctl.store.store import Store

_SAMPLING_KEYS = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
}
_TEXT_LIMIT = 4 * 1024 * 1024  # bytes of a chat template or licence that are read


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `list --json`. Empty text and null are what the model does not say.

    `created` is RFC 3339; `size_bytes` counts config and layers. `problem` tells why the rest is
    missing when content of the model is absent or damaged.
    """

    name: str
    reference: str | None
    id: str
    parameters: str = ""
    quantization: str = ""
    architecture: str = ""
    format: str = ""
    created: str | None = None
    context_length: int | None = None
    size_bytes: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model with what is needed to run it. `further_paths` follow the first file of a split model."""

    artifact: ModelArtifact
    weights_path: Path
    chat_template: str | None
    further_paths: tuple[Path, ...] = ()


def read_artifact(source: Source, root: Descriptor) -> ModelArtifact:
    """The model under `root`: its manifest (of an index the first that is a model) and its config.

    Raises: BlobUnknown, IntegrityError.
    """
    document = read_document(source, root)
    if isinstance(document, Index):
        if not document.manifests:
            raise Malformed(f"index `{root.digest}` lists no manifests")
        return read_artifact(source, document.manifests[0])
    assert isinstance(document, Manifest)
    return parse_artifact(document, read_verified(source, document.config, CONFIG_LIMIT))


def view(found: Found, source: Source) -> ModelView:
    """What there is to say about a model; content that cannot be read becomes its `problem`."""
    reference = str(found.reference) if found.reference else None
    digest = str(found.root.digest)
    try:
        artifact = read_artifact(source, found.root)
    except (BlobUnknown, IntegrityError) as error:
        return ModelView(name=found.name, reference=reference, id=digest, problem=error.message)
    config = artifact.config
    return ModelView(
        name=found.name,
        reference=reference,
        id=digest,
        parameters=config.parameters,
        quantization=config.quantization,
        architecture=config.architecture,
        format=config.format,
        created=config.created.isoformat().replace("+00:00", "Z") if config.created else None,
        context_length=config.context_length,
        size_bytes=artifact.size_bytes,
    )


def list_models(store: Store) -> list[ModelView]:
    """Every tag of the store, and what is kept by its digest alone, as views, by name."""
    entries = [(entry, entry.reference) for entry in store.entries()]  # each time it is parsed anew
    tagged = {entry.descriptor.digest for entry, reference in entries if reference is not None}
    views: dict[Digest, ModelView] = {}  # a model is read once for all its names
    rows = []
    for entry, tag in entries:
        if (reference := tag or _pinned(entry, tagged)) is None:
            continue
        found, digest = Found(reference, entry.descriptor), entry.descriptor.digest
        if digest not in views:
            views[digest] = view(found, store)
        rows.append(replace(views[digest], name=found.name, reference=str(reference)))
    return sorted(rows, key=lambda row: row.name)


def _pinned(entry: Entry, tagged: Set[Digest]) -> Reference | None:
    """The name of content that is kept without a tag; None when it has one, or no repository."""
    registry, _, repository = (entry.repository or "").partition("/")
    if entry.descriptor.digest in tagged or not repository:
        return None
    return Reference(registry, repository, None, entry.descriptor.digest)


def open_artifact(found: Found, store: Store) -> OpenModel:
    """A stored model, ready to be run.

    Raises: LoadFailed when it has no GGUF weights; StoreDamaged when something of it is missing.
    """
    try:
        return _open_artifact(found, store)
    except BlobUnknown as error:
        raise StoreDamaged(
            f"`{found.name}` is not whole in the store",
            hint=f"`qwenctl pull {found.name}` brings what is missing",
        ) from error


def _open_artifact(found: Found, store: Store) -> OpenModel:
    artifact = read_artifact(store, found.root)
    weights = artifact.layers(Role.WEIGHTS)
    if not weights:
        kind = artifact.config.format or "no weights"
        raise LoadFailed(f"`{found.name}` holds {kind}, not GGUF weights", hint="pull a GGUF variant")
    first, *further = (store.blob_path(layer) for layer in weights)
    return OpenModel(artifact, first, _chat_template(artifact, store), tuple(further))


def read_text(source: Source, layer: Descriptor) -> str:
    """The text of a small layer, such as a licence. Raises: BlobUnknown, IntegrityError."""
    return read_verified(source, layer, _TEXT_LIMIT).decode("utf-8", errors="replace")


def suggested_sampling(config: ModelConfig) -> dict[str, float]:
    """What the model's maker suggests, by the names of `Sampling`; empty where it suggests nothing.

    Source: the GGUF keys `general.sampling.*` (llama.cpp, gguf-py constants).
    """
    metadata = config.gguf or {}
    found: dict[str, float] = {}
    for name, key in _SAMPLING_KEYS.items():
        try:
            found[name] = msgspec.convert(metadata[key], int if name == "top_k" else float, strict=False)
        except (KeyError, msgspec.ValidationError):
            continue
    return found


def _chat_template(artifact: ModelArtifact, store: Store) -> str | None:
    layers = artifact.layers(Role.CHAT_TEMPLATE)
    return read_text(store, layers[0]) if layers else None


class LayerView(msgspec.Struct, frozen=True, kw_only=True):
    """One layer in `inspect`; `role` is null for a media type that we do not know."""

    role: str | None
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str]


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a stored model; `manifest` and `config` are its documents as they are."""

    name: str
    reference: str | None
    id: str
    media_type: str
    size_bytes: int
    layers: list[LayerView]
    manifest: msgspec.Raw
    config: msgspec.Raw


def inspect(found: Found, source: Source) -> Inspection:
    """The documents of a model, in the store or at its registry. Raises: BlobUnknown, IntegrityError."""
    artifact = read_artifact(source, found.root)
    manifest = artifact.manifest
    return Inspection(
        name=found.name,
        reference=str(found.reference) if found.reference else None,
        id=str(found.root.digest),
        media_type=manifest.media_type,
        size_bytes=artifact.size_bytes,
        layers=[_layer_view(artifact, layer) for layer in manifest.layers],
        manifest=msgspec.Raw(manifest.raw),
        config=msgspec.Raw(read_verified(source, manifest.config, CONFIG_LIMIT)),
    )


def _layer_view(artifact: ModelArtifact, layer: Descriptor) -> LayerView:
    role = artifact.role(layer)
    return LayerView(
        role=role.value if role else None,
        media_type=layer.media_type,
        digest=str(layer.digest),
        size=layer.size,
        annotations=dict(layer.annotations),
    )
