"""Names as people type them."""

from collections.abc import Iterable

import pytest

from qwenctl.errors import InvalidReference
from qwenctl.flows.names import is_id, near_names, parse_name, unknown
from qwenctl.oci.descriptor import OCI_MANIFEST, Descriptor
from qwenctl.oci.reference import Reference


class FewNames:
    """A catalogue with one built-in model, one family and one alias."""

    def is_built_in(self, name: str) -> bool:
        return name == "guide"

    def alias(self, name: str) -> tuple[str, str] | None:
        return ("qwen2.5", "7B-Q4_K_M") if name.lower() == "qwen2.5-7b-instruct" else None

    def known(self) -> Iterable[str]:
        return ("guide", "guide:Q8_0", "guide:Q4_K_M", "qwen2.5", "qwen2.5:7B-Q4_K_M")


class OneTag:
    """A store with one tag."""

    def tags(self) -> Iterable[tuple[Reference, Descriptor]]:
        return ((Reference.parse("me/helper:v1"), Descriptor.of(b"{}", OCI_MANIFEST)),)

    def find(self, prefix: str) -> tuple[Reference | None, Descriptor]:
        raise NotImplementedError


HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("guide", "qwenctl.internal/guide:latest"),
        ("Guide:Q8_0", "qwenctl.internal/guide:Q8_0"),
        (f"guide@sha256:{HEX}", f"qwenctl.internal/guide@sha256:{HEX}"),
        ("ai/guide", "docker.io/ai/guide:latest"),
        ("qwen2.5", "docker.io/ai/qwen2.5:latest"),
        ("qwen2.5:7B-Q4_K_M", "docker.io/ai/qwen2.5:7B-Q4_K_M"),
        ("Qwen2.5-7B-Instruct", "docker.io/ai/qwen2.5:7B-Q4_K_M"),
        ("Qwen2.5-7B-Instruct:latest", "docker.io/ai/qwen2.5-7b-instruct:latest"),
        ("me/model", "docker.io/me/model:latest"),
        ("localhost:5000/guide", "localhost:5000/guide:latest"),
    ],
)
def test_what_a_name_means(text: str, meaning: str) -> None:
    """Built-in names come first, then aliases of model cards, then the defaults."""
    assert str(parse_name(text, FewNames())) == meaning


def test_a_name_without_a_host_goes_to_the_users_registry() -> None:
    """The default registry is a setting; the built-in registry stays where it is."""
    registry = "registry.example:5000"
    assert str(parse_name("qwen2.5", FewNames(), registry)) == "registry.example:5000/ai/qwen2.5:latest"
    assert parse_name("guide", FewNames(), registry).registry == "qwenctl.internal"


def test_nonsense_is_refused() -> None:
    """What the grammar refuses is refused before the catalogue is asked."""
    with pytest.raises(InvalidReference):
        parse_name("what is this?", FewNames())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4f0c12ab34cd", True), (f"sha256:{HEX}", True), (HEX, True), ("4f0c", False), ("guide", False)],
)
def test_ids_are_told_from_names(text: str, expected: bool) -> None:
    """Twelve to sixty-four hex digits are an id."""
    assert is_id(text) is expected


def test_near_names_come_from_catalogue_and_store() -> None:
    """A slip of the finger finds what was meant, whatever the case."""
    known = FewNames().known()
    assert near_names(Reference.parse("qwenctl.internal/guide:q4_k_m"), known, OneTag())[0] == "guide:Q4_K_M"
    assert near_names(Reference.parse("me/helpr:v1"), known, OneTag()) == ("me/helper:v1",)
    assert near_names(Reference.parse("me/zzzzzzzzzzzz"), known, OneTag()) == ()


def test_an_unknown_model_is_reported_with_near_names() -> None:
    """The hint is a question that can be answered by copying it."""
    error = unknown(Reference.parse("qwen2.5:7b"), ("qwen2.5", "qwen2.5:7B-Q4_K_M"), "in the store")
    assert error.message == "no model `qwen2.5:7b` in the store"
    assert error.hint == "did you mean `qwen2.5` or `qwen2.5:7B-Q4_K_M`?"
    assert unknown(Reference.parse("x/y"), (), "here").hint is None
