"""Fit by the model card: the same bytes as by the file's header, and what a card has no numbers for."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import msgspec
import pytest

from qwenctl.errors import Unreachable
from qwenctl.flows.catalog import Catalog
from qwenctl.flows.fit import Machine, Subject, planner_for, subject_of_file
from qwenctl.flows.fit_card import VariantView, judge_variants, subject_of_card
from qwenctl.flows.fit_model import BY_CARD, Asked, Judge, fit_model
from qwenctl.flows.show import show
from qwenctl.model.card import Card, Variant
from qwenctl.model.memory.hyperparameters import read_hyperparameters
from qwenctl.model.memory.plan import Wishes
from qwenctl.model.purpose import Use
from qwenctl.oci.reference import DOCKER_HUB, Reference
from qwenctl.oci.target import Source
from qwenctl.store.store import Store
from tests.model.memory.plan_builders import machine
from tests.shape_models import write_shape_model
from tests.sparse_models import put_sparse_model

SAME_SHAPES = {
    "qwen2.5-7b": ("qwen2.5", "7B"),
    "qwen2.5-0.5b": ("qwen2.5", "0.5B"),
    "qwen3-8b": ("qwen3", "8B"),
    "qwen3-4b": ("qwen3", "4B"),
    "qwen3-30b-a3b": ("qwen3", "30B-A3B"),
    "qwen2.5-32b": ("qwq", "32B"),
}
"""Shape models, whose files are written, and the cards with the same numbers: family and shape."""
QUANTIZATIONS = ("Q4_K_M", "Q4_0", "F16", "Q6_K")


def card_of(family: str) -> Card:
    """A card that ships with the tool."""
    card = Catalog.open().card(family)
    assert card is not None
    return card


def variant_with(card: Card, shape: str, quantization: str) -> Variant:
    """A variant of this shape and quantization, published or not."""
    known = next((item for item in card.variants if item.shape == shape), card.variants[0])
    return msgspec.structs.replace(known, shape=shape, quantization=quantization)


def drawn(shape: str, quantization: str) -> Subject:
    """By its card."""
    family, name = SAME_SHAPES[shape]
    card = card_of(family)
    subject = subject_of_card(card, variant_with(card, name, quantization), "model")
    assert subject is not None
    return subject


@pytest.mark.parametrize(("shape", "quantization"), [*product(SAME_SHAPES, QUANTIZATIONS)])
def test_the_card_says_of_memory_what_the_file_says(tmp_path: Path, shape: str, quantization: str) -> None:
    """All that a computation of memory reads of a header."""
    read = subject_of_file(write_shape_model(tmp_path / "model.gguf", shape, quantization)).shape
    card = drawn(shape, quantization).shape
    assert read_hyperparameters(card) == read_hyperparameters(read)
    assert card.tensors == read.tensors
    assert (card.parameters, card.quantization) == (read.parameters, read.quantization)
    assert Use.of(card) == Use.of(read)
    others = {"qwen3-4b": 262_144, "qwen2.5-32b": 40_960}  # a later 4B, and QwQ
    assert card.context_length == others.get(shape, read.context_length)


@pytest.mark.parametrize(("shape", "quantization"), [*product(("qwen2.5-7b", "qwen2.5-0.5b"), QUANTIZATIONS)])
def test_the_card_gives_the_bytes_of_the_file(tmp_path: Path, shape: str, quantization: str) -> None:
    """On a GPU, partly on one, in RAM, and where it fits nowhere: the same plan, place by place."""
    read = subject_of_file(write_shape_model(tmp_path / "model.gguf", shape, quantization))
    card = drawn(shape, quantization)
    for host in (machine(64), machine(64, 24), machine(64, 4), machine(1)):
        on = Machine(host, method="computed")
        assert planner_for(card.shape, on).plan(Wishes()) == planner_for(read.shape, on).plan(Wishes())


@pytest.mark.parametrize("quantization", ["UD-Q4_K_XL", "IQ2_XXS", None])
def test_a_mix_that_nobody_knows_has_no_numbers(quantization: str | None) -> None:
    """Where a publisher's own choice of types is not known, nothing is made up."""
    card = card_of("qwen2.5")
    variant = msgspec.structs.replace(card.variants[0], quantization=quantization)
    assert subject_of_card(card, variant, "model") is None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store."""
    return Store.open(tmp_path / "store")


def views(name: str, store: Store, *free_gib: float) -> dict[str, VariantView]:
    """The variants of a family by their tags, on a machine with 64 GiB of RAM and these GPUs."""
    catalog = Catalog.open()
    shown = show(name, store, catalog, DOCKER_HUB)
    judged = judge_variants(shown, store, catalog, Machine(machine(64, *free_gib)))
    return {view.tags[0]: view for view in judged}


def test_every_variant_has_a_verdict_without_a_file(store: Store) -> None:
    """On a card with 8 GiB: what fits, what fits partly; the places that a plan takes, the RAM last."""
    judged = views("qwen2.5", store, 8)
    fits = {tag: view.fit for tag, view in judged.items()}
    assert {tag: fit.verdict for tag, fit in fits.items() if fit} == {
        "7B-Q4_K_M": "gpu",
        "7B-Q4_0": "gpu",
        "7B-F16": "partial",
        "3B-Q4_K_M": "gpu",
        "3B-F16": "gpu",
        "1.5B-F16": "gpu",
        "0.5B-F16": "gpu",
    }
    half = fits["7B-F16"]
    assert half is not None and half.source == "card" and 0 < half.gpu_layers < half.layers
    assert [place.name for place in half.places] == ["CUDA0", "RAM"]
    assert all(place.needed_bytes <= place.free_bytes for place in half.places)


@pytest.mark.parametrize("gpus", [(), (2,)])
def test_what_is_much_too_large_is_judged_as_a_plan_does(store: Store, gpus: tuple[float, ...]) -> None:
    """The last attempt of a plan, without the others."""
    on = Machine(machine(2, *gpus), method="computed")
    card = card_of("qwen2.5")
    shown = show("qwen2.5", store, Catalog.open(), DOCKER_HUB)
    for variant, view in zip(card.variants, judge_variants(shown, store, Catalog.open(), on), strict=True):
        subject = subject_of_card(card, variant, "model")
        assert subject is not None and view.fit is not None
        plan = planner_for(subject.shape, on).plan(Wishes())
        said = (view.fit.verdict, view.fit.configuration, tuple(view.fit.places), view.fit.shortage)
        assert said == (plan.verdict, plan.configuration, plan.places, plan.shortage)


def test_what_is_here_is_read_in_its_file(store: Store) -> None:
    """The file is right, where it is another one than the card says."""
    put_sparse_model(store, Reference.parse("ai/qwen2.5:7B-Q4_0"), "qwen2.5-0.5b", "Q4_0")
    judged = views("qwen2.5", store)
    here, other = judged["7B-Q4_0"], judged["7B-Q4_K_M"]
    assert here.fit is not None and other.fit is not None
    assert (here.here, here.fit.source, other.here, other.fit.source) == (True, "file", False, "card")
    assert here.fit.layers == 25


def test_the_built_in_registry_has_its_files_here(store: Store) -> None:
    """Nothing is pulled, and the header is read all the same."""
    judged = views("guide", store)
    assert {view.fit.source for view in judged.values() if view.fit} == {"file"}
    assert [view.here for view in judged.values()] == [False] * 3


def test_what_nobody_knows_has_no_verdict(store: Store) -> None:
    """Mixes of a publisher's own, and models without numbers."""
    assert {view.fit for view in views("qwen3-vl", store).values()} == {None}
    qwen3 = views("qwen3", store)
    assert qwen3["4B-UD-Q4_K_XL"].fit is None and qwen3["4B-F16"].fit is not None


class Away:
    """A registry that cannot be reached; it counts who tried."""

    def __init__(self) -> None:
        self.tried = 0

    @contextmanager
    def __call__(self, reference: Reference) -> Iterator[Source]:
        """As `OpenSource`."""
        self.tried += 1
        raise Unreachable("`https://registry-1.docker.io` cannot be reached")
        yield  # pragma: no cover


def asked(name: str, store: Store, away: Away, *, all_variants: bool = False) -> Asked:
    """`fit` on a machine with a GPU, without a network."""
    judge = Judge(Machine(machine(64, 8)), Wishes())
    return fit_model(name, judge, store, Catalog.open(), DOCKER_HUB, away, all_variants=all_variants)


def test_fit_without_a_network_goes_by_the_card(store: Store) -> None:
    """And says so, with the reason; nothing of the model is claimed to be read."""
    verdict = asked("qwen2.5", store, Away()).selected
    assert (verdict.verdict, verdict.header.method, verdict.id) == ("gpu", "card", None)
    assert verdict.notes == [f"{BY_CARD}: `https://registry-1.docker.io` cannot be reached"]


def test_a_registry_that_is_away_is_asked_once(store: Store) -> None:
    """Not for each of the variants; what is in the store is read there."""
    put_sparse_model(store, Reference.parse("ai/qwen2.5:7B-F16"), "qwen2.5-7b", "F16")
    away = Away()
    answer = asked("qwen2.5", store, away, all_variants=True)
    assert away.tried == 1
    methods = {item.name: item.header.method for item in answer.variants}
    assert len(methods) == 7 and methods.pop("qwen2.5:7B-F16") == "file"
    assert set(methods.values()) == {"card"}


@pytest.mark.parametrize("name", ["qwen2.5:7B-Q5_K_M", "qwen3-vl", "me/model"])
def test_without_numbers_it_is_the_network(store: Store, name: str) -> None:
    """What no card describes cannot be told."""
    with pytest.raises(Unreachable):
        asked(name, store, Away())
