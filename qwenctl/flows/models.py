"""The models of a store: the names in its index and what they name."""

from collections.abc import Iterable
from dataclasses import dataclass

from qwenctl.flows.find import Found
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.store.layout import Entry
from qwenctl.store.store import Store


@dataclass(frozen=True, slots=True)
class Model:
    """A name and what it names. `reference` is None for a name that belongs to no registry."""

    name: str
    reference: Reference | None
    root: Descriptor


def models_of(entries: Iterable[Entry]) -> list[Model]:
    """The models of an index: tags, what is kept by its digest alone, entries of other tools."""
    listed = list(entries)
    tagged = {
        (entry.descriptor.digest, _home(entry.reference)) for entry in listed if entry.reference is not None
    }
    return [
        _model(entry)
        for entry in listed
        if entry.repository is None or (entry.descriptor.digest, entry.repository) not in tagged
    ]


def same_models(store: Store, founds: Iterable[Found]) -> list[Model]:
    """The models that were found, with all further names of the same content."""
    models = models_of(store.entries())
    chosen: list[Model] = []
    for found in founds:
        same = [model for model in models if model.root.digest == found.root.digest]
        chosen += same or [Model(found.name, found.reference, found.root)]
    return list({(model.name, model.root.digest): model for model in chosen}.values())


def _model(entry: Entry) -> Model:
    reference = entry.reference
    registry, _, repository = (entry.repository or "").partition("/")
    if reference is None and registry and repository:
        reference = Reference(registry, repository, None, entry.descriptor.digest)
    if reference is not None:
        return Model(reference.familiar(), reference, entry.descriptor)
    return Model(entry.name or entry.descriptor.digest.short, None, entry.descriptor)


def _home(reference: Reference) -> str:
    return f"{reference.registry}/{reference.repository}"
