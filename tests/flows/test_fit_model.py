"""Fit by name: the store, the built-in registry, a registry's headers; one model and all its variants."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from qwenctl.errors import ReferenceUnknown, Unreachable
from qwenctl.flows.catalog import Catalog
from qwenctl.flows.fit import Machine
from qwenctl.flows.fit_model import TAG_LIMIT, Asked, Judge, best_variant, fit_model, report_on
from qwenctl.flows.fit_report import Fit, HeaderCost
from qwenctl.model.host import Host
from qwenctl.model.memory.plan import Verdict, Wishes
from qwenctl.oci.reference import BUILT_IN, DOCKER_HUB, Reference
from qwenctl.oci.target import Source
from qwenctl.remote.client import Client
from qwenctl.remote.repository import Repository
from qwenctl.remote.transport import Transport
from qwenctl.store.store import Store
from tests.flows.fit_builders import foreign_file, put_files, split_files
from tests.model.memory.plan_builders import machine
from tests.registry.counted import Counted, counted_registry
from tests.shape_models import Vocabulary
from tests.sparse_models import put_sparse_model

BOUND = 256 * 1024
"""Bytes that a header may cost; manifest and config come on top."""
DOCUMENTS = 16 * 1024


@dataclass(frozen=True)
class Asking:
    """A store, a registry with models, and the question."""

    here: Store
    there: Store
    wire: Counted
    catalog: Catalog

    def put(self, tag: str, shape: str = "qwen2.5-7b", vocabulary: Vocabulary = "dummy") -> str:
        """A model at the registry; its name. A `real-size` vocabulary makes its header a long one."""
        put_sparse_model(self.there, Reference.parse(f"me/model:{tag}"), shape, "Q4_K_M", vocabulary)
        return f"{self.wire.address}/me/model:{tag}"

    def fit(
        self, name: str, host: Host, *, all_variants: bool = False, wishes: Wishes | None = None
    ) -> Asked:
        """The verdicts."""
        judge = Judge(Machine(host), wishes or Wishes())
        return fit_model(
            name, judge, self.here, self.catalog, DOCKER_HUB, self._open, all_variants=all_variants
        )

    @contextmanager
    def _open(self, reference: Reference) -> Iterator[Source]:
        if reference.registry == BUILT_IN:
            yield self.catalog.store
            return
        transport = Transport()
        try:
            yield Repository(Client(transport, f"http://{reference.registry}"), reference.repository)
        finally:
            transport.close()


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Asking]:
    """An empty store, and an empty registry on loopback."""
    there = Store.open(tmp_path / "there")
    with counted_registry(there) as wire:
        yield Asking(Store.open(tmp_path / "here"), there, wire, Catalog.open())


def names(asked: Asked) -> list[str]:
    """The tags of the variants, in their order; empty for the default one."""
    return [verdict.name.rpartition("/")[2].partition(":")[2] for verdict in asked.variants]


class TestOne:
    """A single model."""

    def test_a_model_at_a_registry(self, asking: Asking) -> None:
        """By two pieces of its header: 256 KiB of 4.36 GiB, and nothing is put into the store."""
        verdict = asking.fit(asking.put("v1", vocabulary="real-size"), machine(28, 8)).selected
        assert (verdict.verdict, verdict.quantization, verdict.parameters) == ("gpu", "Q4_K_M", 7_615_616_512)
        assert (verdict.header.method, verdict.header.requests) == ("two ranges", 2)
        assert 0 < verdict.header.bytes <= BOUND
        assert asking.wire.body_bytes <= verdict.header.bytes + DOCUMENTS
        assert len(asking.wire.of_blobs) == 3  # the config, and the two pieces
        assert asking.here.tags() == () and [*asking.here.path.rglob("blobs/sha256/*")] == []

    def test_the_same_from_the_store_and_from_the_registry(self, asking: Asking) -> None:
        """Only what the header cost is different, and where it came from."""
        name = asking.put("v1", vocabulary="real-size")
        put_sparse_model(asking.here, Reference.parse(name), "qwen2.5-7b", "Q4_K_M", "real-size")
        stored = asking.fit(name, machine(28, 4)).selected
        assert (stored.header.method, asking.wire.requests) == ("file", [])
        asking.here.untag(Reference.parse(name))
        remote = asking.fit(name, machine(28, 4)).selected
        assert without_cost(stored) == without_cost(remote)

    def test_a_built_in_model(self, asking: Asking) -> None:
        """The guide, from the catalogue, without a network; the card's figures stand beside ours."""
        verdict = asking.fit("guide", machine(4)).selected
        assert (verdict.name, verdict.verdict, verdict.header.method) == ("guide", "cpu", "file")
        assert verdict.card is not None and verdict.card.size_bytes

    def test_a_model_by_its_id(self, asking: Asking) -> None:
        """Of the store."""
        root = put_sparse_model(asking.here, Reference.parse("me/x:v1"), "qwen2.5-0.5b", "Q4_K_M")
        asked = asking.fit(root.digest.short, machine(8), all_variants=True)
        assert (asked.selected.id, asked.variants) == (str(root.digest), (asked.selected,))

    def test_the_card_of_a_family_that_is_stored(self, asking: Asking) -> None:
        """Docker's figures for Qwen2.5 7B stand beside what was computed."""
        put_sparse_model(asking.here, Reference.parse("ai/qwen2.5:7B-Q4_K_M"), "qwen2.5-7b", "Q4_K_M")
        verdict = asking.fit("qwen2.5:7B-Q4_K_M", machine(28, 8)).selected
        assert verdict.card is not None and verdict.card.vram_bytes is not None
        assert verdict.card.vram_bytes == pytest.approx(verdict.devices[0].weights, rel=0.5)

    def test_an_unknown_model(self, asking: Asking) -> None:
        """Near names are told."""
        with pytest.raises(ReferenceUnknown) as caught:
            asking.fit("guide:Q8", machine(8))
        assert "`guide:Q8_0`" in str(caught.value.hint)

    def test_the_longest_context(self, asking: Asking) -> None:
        """`longest` asks for what the model was trained for, which not every machine has room for."""
        put_sparse_model(asking.here, Reference.parse("me/x:v1"), "llama-3.2-3b", "Q4_K_M")
        judge = Judge(Machine(machine(28, 8)), Wishes(), longest=True)
        asked = fit_model("me/x:v1", judge, asking.here, asking.catalog, DOCKER_HUB, asking._open)
        assert asked.selected.configuration is not None
        assert asked.selected.configuration.context_tokens == 131_072


class TestVariants:
    """All variants of a model."""

    def test_a_family_with_a_card(self, asking: Asking) -> None:
        """The card's variants, each once, under their own tags; the one asked for under its name."""
        asked = asking.fit("guide", machine(8), all_variants=True)
        assert [fit.name for fit in asked.variants] == ["guide", "guide:Q4_K_M", "guide:F16"]
        assert asked.selected is asked.variants[0] and asked.problems == ()
        same = asking.fit("guide:Q8_0", machine(8), all_variants=True)
        assert [fit.name for fit in same.variants] == ["guide:Q8_0", "guide:Q4_K_M", "guide:F16"]

    def test_what_else_is_stored_of_a_family_with_a_card(self, asking: Asking) -> None:
        """A tag of one's own is a variant, too; tags that the card knows are not there twice."""
        put_files(asking.here, f"{BUILT_IN}/guide:mine", foreign_file("nonsense"))
        put_files(asking.here, f"{BUILT_IN}/guide:latest", *split_files())
        assert names(asking.fit("guide", machine(8), all_variants=True)) == ["", "Q4_K_M", "F16", "mine"]

    def test_a_repository_without_a_card(self, asking: Asking) -> None:
        """The registry's tags, small models first, each content once; the tag that was asked for stays."""
        for tag, shape in (("large", "qwen2.5-7b"), ("small", "qwen2.5-0.5b"), ("middle", "qwen2.5-3b")):
            asking.put(tag, shape)
        for also in ("latest", "another"):
            asking.there.tag(
                asking.there.resolve(Reference.parse("me/model:large")), Reference.parse(f"me/model:{also}")
            )
        asked = asking.fit(f"{asking.wire.address}/me/model", machine(28, 8), all_variants=True)
        assert names(asked) == ["small", "middle", ""]
        assert asked.selected is asked.variants[2]

    def test_one_connection_for_all(self, asking: Asking) -> None:
        """The registry is opened once, whatever it has."""
        opened = []
        for tag, shape in (("a", "qwen2.5-0.5b"), ("b", "qwen2.5-1.5b"), ("c", "qwen2.5-3b")):
            asking.put(tag, shape)

        @contextmanager
        def counting(reference: Reference) -> Iterator[Source]:
            opened.append(reference)
            with asking._open(reference) as source:
                yield source

        judge = Judge(Machine(machine(28)), Wishes())
        name = f"{asking.wire.address}/me/model:b"
        asked = fit_model(name, judge, asking.here, asking.catalog, DOCKER_HUB, counting, all_variants=True)
        assert names(asked) == ["a", "b", "c"] and len(opened) == 1

    def test_stored_and_remote_variants_together(self, asking: Asking) -> None:
        """What is in the store is read there, also under a tag that the registry no longer has."""
        asking.put("there", "qwen2.5-3b")
        name = f"{asking.wire.address}/me/model"
        put_sparse_model(asking.here, Reference.parse(f"{name}:here"), "qwen2.5-0.5b", "Q4_K_M")
        asked = asking.fit(f"{name}:here", machine(28), all_variants=True)
        assert names(asked) == ["here", "there"]
        assert [fit.header.requests > 0 for fit in asked.variants] == [False, True]

    def test_variants_that_cannot_be_judged(self, asking: Asking) -> None:
        """One that is no GGUF is a problem with its reason; one that nobody knows is `unknown`."""
        asking.put("good", "qwen2.5-0.5b")
        put_files(asking.there, "me/model:odd", foreign_file("nonsense"))
        other = "application/vnd.docker.ai.safetensors"
        put_files(asking.there, "me/model:safe", foreign_file(), media_type=other)
        asked = asking.fit(f"{asking.wire.address}/me/model:good", machine(28), all_variants=True)
        assert [(tag, fit.verdict) for tag, fit in zip(names(asked), asked.variants, strict=True)] == [
            ("odd", "unknown"),
            ("good", "cpu"),
        ]
        assert [name.rpartition(":")[2] for name, _ in asked.problems] == ["safe"]

    def test_many_tags(self, asking: Asking) -> None:
        """The first ones, the one that was asked for, and a note that there are more."""
        root = put_files(asking.there, "me/model:tag-000", *split_files())
        for number in range(1, TAG_LIMIT + 2):
            asking.there.tag(root, Reference.parse(f"me/model:tag-{number:03}"))
        asking.put("zzz", "qwen2.5-0.5b")
        asked = asking.fit(f"{asking.wire.address}/me/model:zzz", machine(28), all_variants=True)
        assert names(asked) == ["tag-000", "zzz"]
        ((name, note),) = asked.problems
        assert name == f"{asking.wire.address}/me/model" and f"first {TAG_LIMIT}" in note

    def test_a_registry_that_is_away(self, asking: Asking) -> None:
        """What is stored is judged all the same; that there may be more is a problem, not an error."""
        name = "127.0.0.1:1/me/model:v1"
        put_sparse_model(asking.here, Reference.parse(name), "qwen2.5-0.5b", "Q4_K_M")
        asked = asking.fit(name, machine(28), all_variants=True)
        assert names(asked) == ["v1"] and len(asked.problems) == 1
        with pytest.raises(Unreachable):
            asking.fit("127.0.0.1:1/me/model:v2", machine(28), all_variants=True)

    def test_a_pinned_model_is_among_them(self, asking: Asking) -> None:
        """By its digest it is no tag of the registry, and stands for the one of the same content."""
        name = asking.put("v1", "qwen2.5-0.5b")
        asking.put("v2", "qwen2.5-1.5b")
        digest = asking.there.resolve(Reference.parse("me/model:v1")).digest
        asked = asking.fit(f"{name.removesuffix(':v1')}@{digest}", machine(28), all_variants=True)
        assert [fit.name.endswith(str(digest)) for fit in asked.variants] == [True, False]

    def test_the_report_for_programs(self, asking: Asking) -> None:
        """The verdict that was asked for with the machine and all variants."""
        host = machine(28)
        asked = asking.fit("guide", host, all_variants=True)
        data = report_on(asked, host)
        assert (data.name, data.machine, data.variants) == ("guide", host, [*asked.variants])
        assert data.totals == asked.selected.totals and data.problems == []


class TestBest:
    """The variant that `pull --fit` takes."""

    @pytest.mark.parametrize(
        ("verdicts", "best"),
        [
            ([("small", "gpu", 1, 1), ("large", "gpu", 7, 4), ("huge", "no", 72, 40)], "large"),
            ([("small", "gpu", 1, 1), ("large", "partial", 7, 4)], "small"),
            ([("one", "gpu", 7, 4), ("several", "gpus", 14, 8)], "several"),
            ([("q4", "gpu", 7, 4), ("f16", "gpu", 7, 14)], "f16"),
            ([("small", "cpu", 1, 1), ("large", "cpu", 7, 4)], "large"),
            ([("odd", "unknown", 72, 40), ("small", "cpu", 1, 1)], "small"),
        ],
    )
    def test_the_largest_of_the_best_verdict(
        self, verdicts: list[tuple[str, Verdict, int, int]], best: str
    ) -> None:
        """All layers on GPUs, one or several, then some, then the CPU; then parameters, then bytes."""
        found = best_variant(tuple(made(*verdict) for verdict in verdicts))
        assert found is not None and found.name == best

    def test_none(self) -> None:
        """Nothing fits, nothing is known, nothing is there."""
        assert best_variant((made("a", "no", 1, 1), made("b", "unknown", 1, 1))) is None
        assert best_variant(()) is None


def made(name: str, verdict: Verdict | Literal["unknown"], parameters: int, file_bytes: int) -> Fit:
    """A verdict without details."""
    return Fit(
        name=name,
        id=None,
        architecture="qwen2",
        parameters=parameters,
        quantization=None,
        file_bytes=file_bytes,
        trained_context=None,
        verdict=verdict,
        simulated=False,
        method="computed",
        advice="",
        header=FREE,
    )


FREE = HeaderCost(method="file", requests=0, bytes=0)


def without_cost(verdict: Fit) -> Fit:
    """The same, as if its header had cost nothing."""
    return msgspec.structs.replace(verdict, header=FREE)
