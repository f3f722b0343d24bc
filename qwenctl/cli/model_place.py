"""Where the models are that a command runs: in the store of this machine, or with a runner elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from qwenctl.cli.output import Printer
from qwenctl.errors import ReferenceUnknown

if TYPE_CHECKING:
    from qwenctl.flows.catalog import Catalog
    from qwenctl.flows.find import Found
    from qwenctl.runner.client import RunnerClient
    from qwenctl.settings import Settings
    from qwenctl.store.store import Store


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model where it is kept, with what its config says to whoever runs it; empty where that is not told.

    `suggested` is the sampling that its maker suggests, or the user has set.
    """

    name: str
    id: str
    suggested: dict[str, float]
    parameters: str = ""
    quantization: str = ""


class Place(Protocol):
    """The models that can be run, and the runner that runs them."""

    def find(self, name: str) -> StoredModel:
        """The model of this name. Raises: InvalidReference, ReferenceUnknown, RemoteError, …"""
        ...

    def names(self) -> Sequence[str]:
        """The names of those that are there."""
        ...

    def open_runner(self) -> "RunnerClient":
        """The runner. Raises: RunnerUnavailable, Conflict."""
        ...


@dataclass(frozen=True, slots=True)
class ThisMachine:
    """A `Place`: the store, where a missing model is pulled into, and the runner that starts on demand."""

    settings: "Settings"
    printer: Printer
    force: bool = False

    def find(self, name: str) -> StoredModel:
        """See `Place`; pulled when it is not there."""
        return find_or_pull(name, self.settings, self.printer, self.force)

    def names(self) -> Sequence[str]:
        """See `Place`."""
        from qwenctl.cli.wiring import open_store

        return sorted(reference.familiar() for reference, _ in open_store(self.settings).tags())

    def open_runner(self) -> "RunnerClient":
        """See `Place`."""
        from qwenctl.runner.client import RunnerClient

        return RunnerClient.connect(self.settings)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A `Place`: what a runner on another machine has. Nothing is pulled there."""

    runner: "RunnerClient"

    def find(self, name: str) -> StoredModel:
        """See `Place`."""
        try:
            report = self.runner.model(name)
        except ReferenceUnknown as error:
            raise ReferenceUnknown(
                error.message, hint=f"nothing is pulled from here: `qwenctl pull {name}` on that machine"
            ) from error
        return StoredModel(report.name, report.id, report.sampling)

    def names(self) -> Sequence[str]:
        """See `Place`."""
        return sorted(report.name for report in self.runner.models())

    def open_runner(self) -> "RunnerClient":
        """See `Place`."""
        return self.runner


def place_of(
    settings: "Settings", printer: Printer, context_url: str | None = None, *, force: bool = False
) -> Place:
    """The place that the context in use means. Raises: as `contexts.chosen`."""
    from qwenctl.cli.contexts import chosen, client_of

    _, context = chosen(context_url)
    return (
        ThisMachine(settings, printer, force) if context is None else Elsewhere(client_of(context, settings))
    )


def find_or_pull(name: str, settings: "Settings", printer: Printer, force: bool) -> StoredModel:
    """The model in the store, pulled when it is not there. Raises: what `find` and `pull` raise."""
    from qwenctl.cli.pull import Checks, pull_with_progress
    from qwenctl.cli.wiring import open_catalog, open_store
    from qwenctl.flows.find import Found
    from qwenctl.flows.spelling import parse_wanted
    from qwenctl.flows.views import read_artifact, suggested_sampling
    from qwenctl.runner.configured import Configurations

    catalog, store = open_catalog(), open_store(settings)
    found = _look_up(name, store, catalog, settings.registry)
    if found is None:
        reference = parse_wanted(name, catalog, settings.registry)
        checks = Checks(force=force, quiet=True)
        pulled, _ = pull_with_progress(reference, settings, catalog, store, _Silent(printer), checks)
        found = Found(pulled.reference, pulled.root)
    config = read_artifact(store, found.root).config
    suggested = {**suggested_sampling(config), **Configurations(settings.state).of(found.key).sampling}
    name, digest = found.name, str(found.root.digest)
    return StoredModel(name, digest, suggested, config.parameters, config.quantization)


def _look_up(name: str, store: "Store", catalog: "Catalog", registry: str) -> "Found | None":
    """The model if it is here; None for a name that may be pulled. An id must be here."""
    from qwenctl.flows.find import find
    from qwenctl.flows.names import is_id

    try:
        return find(name, store, catalog, registry)
    except ReferenceUnknown:
        if is_id(name):
            raise
        return None


class _Silent(Printer):
    """A printer whose progress is for people only: with `--json` a chat has one document, no stream."""

    def __init__(self, printer: Printer) -> None:
        super().__init__(printer.command, as_json=False)
