"""Tag: another name for the same content."""

from pathlib import Path

import pytest

from qwenctl.errors import InvalidReference, ReferenceUnknown
from qwenctl.flows.catalog import Catalog
from qwenctl.flows.tag import tag
from qwenctl.oci.reference import DOCKER_HUB, Reference
from qwenctl.store.store import Store
from tests.builders import model


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one model."""
    store = Store.open(tmp_path / "store")
    model(1).put(store, Reference.parse("me/model:v1"))
    return store


def test_the_content_is_found_under_both_names(store: Store) -> None:
    """The source in any case; what comes back is the model under its new name."""
    found, name = tag("me/model:V1", "localhost:5000/me/other", store, Catalog.open(), DOCKER_HUB)
    assert (str(name), found.name) == ("localhost:5000/me/other:latest", "localhost:5000/me/other")
    assert store.resolve(name) == store.resolve(Reference.parse("me/model:v1")) == found.root


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("me/model:v1", f"me/x@sha256:{'0' * 64}", InvalidReference),
        ("me/model:v1", "not a name", InvalidReference),
        ("me/absent", "me/x", ReferenceUnknown),
    ],
)
def test_what_cannot_be_leaves_the_names_as_they_are(
    store: Store, source: str, target: str, error: type[Exception]
) -> None:
    """A digest is no new name; what is not here gets none."""
    before = [*store.tags()]
    with pytest.raises(error):
        tag(source, target, store, Catalog.open(), DOCKER_HUB)
    assert [*store.tags()] == before
