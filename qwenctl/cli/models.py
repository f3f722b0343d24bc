"""The runner's models: names looked up in the store, each time anew."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from qwenctl.errors import BlobUnknown, IntegrityError, LoadFailed
from qwenctl.flows.catalog import Catalog
from qwenctl.flows.find import Found, find
from qwenctl.flows.views import OpenModel, open_artifact, suggested_sampling
from qwenctl.oci.digest import Digest
from qwenctl.runner.configured import Configurations
from qwenctl.runner.models import FoundModel
from qwenctl.settings import Settings
from qwenctl.store.store import Store

_KNOWN_MODELS: Final = 256


class StoreModels:
    """A `ModelSource` over the user's store."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalog = Catalog.open()
        self._store = Store.open(settings.store)
        self._configurations = Configurations(settings.state)
        self._known: dict[Digest, OpenModel] = {}

    def find(self, name: str) -> FoundModel:
        """See `ModelSource.find`."""
        return self._open(find(name, self._store, self._catalog, self._settings.registry))

    def models(self) -> Sequence[FoundModel]:
        """See `ModelSource.models`; what is damaged or has no GGUF weights is left out."""
        found = []
        for reference, root in self._store.tags():
            try:
                found.append(self._open(Found(reference, root)))
            except (BlobUnknown, IntegrityError, LoadFailed):
                continue
        return found

    def _open(self, found: Found) -> FoundModel:
        model = self._opened(found)
        configured = self._configurations.of(found.key)
        return FoundModel(
            name=found.name,
            id=str(found.root.digest),
            path=model.weights_path,
            splits=model.further_paths,
            context_length=None,
            chat_template=model.chat_template,
            created_seconds=_seconds(model.artifact.config.created),
            sampling={**suggested_sampling(model.artifact.config), **configured.sampling},
            configured=configured,
        )

    def _opened(self, found: Found) -> OpenModel:
        """Content does not change under a digest, so it is read once; that its files are there is looked at
        each time.
        """
        model = self._known.get(found.root.digest)
        if model is None or not all(path.exists() for path in (model.weights_path, *model.further_paths)):
            model = open_artifact(found, self._store)
            if len(self._known) >= _KNOWN_MODELS:
                self._known.clear()
            self._known[found.root.digest] = model
        return model


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment else 0
