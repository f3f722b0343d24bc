"""Mirrors before a registry: order, fall-back, memory, digests, credentials; with real servers."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from qwenctl.errors import (
    BlobUnknown,
    DigestMismatch,
    FileMissing,
    InvalidSettings,
    ReferenceUnknown,
    Unreachable,
)
from qwenctl.flows.copy import copy
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Content, Source, Target, read_bytes
from qwenctl.registry.app import RegistryApp
from qwenctl.remote.client import Client
from qwenctl.remote.credentials import Credentials
from qwenctl.remote.mirrors import Mirrored, Outages, mirrors_of, open_mirrored
from qwenctl.remote.repository import Repository
from qwenctl.remote.transport import Transport
from qwenctl.settings import Settings
from qwenctl.store.store import Store
from tests.builders import model
from tests.contracts import target as contract
from tests.registry.running import Switch, running_app
from tests.remote.faulty_registry import FaultyRegistry, faulty_registry
from tests.remote.network_builders import MADE, at, own_credentials, pull, settings, stock
from tests.remote.tls import make_authority
from tests.remote.tls_front import tls_front
from tests.store.store_builders import prove

WEIGHTS = MADE.manifest.layers[0]


@pytest.fixture
def mirror() -> Iterator[FaultyRegistry]:
    """A mirror that has the model."""
    with faulty_registry() as running:
        stock(running)
        yield running


@pytest.fixture(autouse=True)
def stocked(faulty: FaultyRegistry) -> None:
    """The registry has it too."""
    stock(faulty)


def mirrored(registry: FaultyRegistry, *mirrors: FaultyRegistry | str, **more: object) -> Settings:
    """Settings with mirrors before the registry."""
    urls = tuple(item if isinstance(item, str) else f"http://{item.address}" for item in mirrors)
    return settings(mirrors={registry.address: urls}, **more)


def nobody(text: str) -> None:
    """For a test where no mirror may be left out."""
    raise AssertionError(text)


class TestOrder:
    """Mirrors in their order, then the registry."""

    def test_what_a_mirror_has_comes_from_it(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """The registry is asked nothing."""
        assert pull(faulty.address, mirrored(faulty, mirror)) == []
        assert faulty.seen == []

    def test_the_registry_is_not_even_looked_for(self, mirror: FaultyRegistry) -> None:
        """Neither for its scheme, where that has to be found out, nor for anything else."""
        gone = "127.0.0.1:1"
        chosen = settings(
            mirrors={gone: (f"http://{mirror.address}",)}, insecure_registries=frozenset({gone})
        )
        assert pull(gone, chosen) == []

    def test_a_tag_that_a_mirror_does_not_have(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """The registry says what it names; the content comes from the mirror all the same."""
        del mirror.manifests["me/model", "v1"]
        assert pull(faulty.address, mirrored(faulty, mirror)) == []
        assert [seen.method for seen in faulty.seen] == ["HEAD"]

    def test_a_blob_that_a_mirror_does_not_have(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """That blob comes from the registry, the others from the mirror, which is not left out for it."""
        del mirror.blobs[str(WEIGHTS.digest)]
        assert pull(faulty.address, mirrored(faulty, mirror)) == []
        assert [seen.path for seen in faulty.seen] == [f"/v2/me/model/blobs/{WEIGHTS.digest}"]

    def test_the_next_mirror_comes_before_the_registry(
        self, faulty: FaultyRegistry, mirror: FaultyRegistry
    ) -> None:
        """Each is asked only for what the ones before it do not have."""
        with faulty_registry() as second:
            stock(second)
            del mirror.blobs[str(WEIGHTS.digest)]
            assert pull(faulty.address, mirrored(faulty, mirror, second)) == []
            assert [seen.path for seen in second.seen] == [f"/v2/me/model/blobs/{WEIGHTS.digest}"]
        assert faulty.seen == []

    def test_a_path_goes_before_the_name(self, faulty: FaultyRegistry) -> None:
        """As caches that serve several registries have it."""
        with faulty_registry() as cache:
            stock(cache, name="cache/hub/me/model")
            assert pull(faulty.address, mirrored(faulty, f"http://{cache.address}/cache/hub")) == []
            assert {seen.path.partition("/m")[0] for seen in cache.seen} == {"/v2/cache/hub"}
        assert faulty.seen == []

    def test_tags_are_listed_by_the_first_that_can(
        self, faulty: FaultyRegistry, mirror: FaultyRegistry
    ) -> None:
        """A mirror that lists none is passed over."""
        mirror.manifests.clear()
        with open_mirrored(
            at(faulty.address), mirrored(faulty, mirror), Credentials(), Outages(nobody)
        ) as source:
            assert isinstance(source, Mirrored)
            assert list(source.tags()) == ["v1"]
            faulty.manifests.clear()
            with pytest.raises(ReferenceUnknown):
                source.tags()

    def test_without_mirrors_it_is_the_registry(self, faulty: FaultyRegistry) -> None:
        """Nothing stands between; mirrors of another registry do not count."""
        other = settings(mirrors={"other.example": ("http://127.0.0.1:1",)})
        with open_mirrored(at(faulty.address), other, Credentials(), Outages(nobody)) as source:
            assert isinstance(source, Repository)

    def test_docker_hub_has_several_names(self) -> None:
        """Its mirrors are found under each of them; a name that is none is refused."""
        chosen = settings(
            mirrors={"docker.io": ("http://a",), "registry-1.docker.io": ("http://b", "http://a")}
        )
        assert mirrors_of("docker.io", chosen) == ("http://a", "http://b")
        with pytest.raises(InvalidSettings, match=r"`a\.\.b` is not a registry"):
            mirrors_of("docker.io", settings(mirrors={"a..b": ()}))


class TestFallingBack:
    """What makes a mirror be passed over, and what is remembered of it."""

    @pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503])
    def test_refusals(self, faulty: FaultyRegistry, mirror: FaultyRegistry, status: int) -> None:
        """The registry is asked instead; the mirror is told of once."""
        mirror.faults.statuses = [status] * 100
        told = pull(faulty.address, mirrored(faulty, mirror))
        assert len(told) == 1
        assert told[0].startswith(f"the mirror `http://{mirror.address}` is left out: ")

    def test_nobody_waits_for_a_mirror(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """A limited one that wants to be asked later is asked no more; there is another place."""
        mirror.faults.statuses = [429] * 100
        mirror.faults.retry_after = "20"
        assert len(pull(faulty.address, mirrored(faulty, mirror))) == 1
        assert {seen.path for seen in mirror.seen} == {"/v2/me/model/manifests/v1"}

    def test_a_mirror_that_is_not_there(self, faulty: FaultyRegistry) -> None:
        """Its address, and why."""
        (told,) = pull(faulty.address, mirrored(faulty, "http://127.0.0.1:1"))
        assert told.startswith("the mirror `http://127.0.0.1:1` is left out: cannot connect to")

    def test_a_mirror_that_shows_no_good_certificate(self, faulty: FaultyRegistry, tmp_path: Path) -> None:
        """It is not believed: the registry is asked."""
        with tls_front(make_authority(tmp_path).server, faulty.address) as port:
            (told,) = pull(faulty.address, mirrored(faulty, f"https://127.0.0.1:{port}"))
        assert "no secure connection" in told

    def test_an_outage_is_remembered(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """Also by what is opened later: one failure costs one command once."""
        mirror.faults.statuses = [500] * 100
        told: list[str] = []
        outages = Outages(told.append)
        for _ in range(3):
            pull(faulty.address, mirrored(faulty, mirror), outages=outages)
        assert len(told) == 1
        assert {seen.path for seen in mirror.seen} == {"/v2/me/model/manifests/v1"}

    def test_a_mirror_that_breaks_in_the_middle(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """The registry goes on at the position that was reached; nothing is transferred twice."""
        large = model(7, padding=300_000)
        weights = large.manifest.layers[0]
        for registry in (faulty, mirror):
            registry.add(large.weights)
        mirror.faults.drop_after, mirror.faults.drops = 20_000, 99
        told: list[str] = []
        with open_mirrored(
            at(faulty.address), mirrored(faulty, mirror), Credentials(), Outages(told.append)
        ) as source:
            assert read_bytes(source.fetch(weights, 1000), weights.size) == large.weights[1000:]
        (asked,) = faulty.seen
        first = int(asked.headers["range"].removeprefix("bytes=").partition("-")[0])
        assert first > 1000 and (first - 1000) % 20_000 == 0
        assert len(told) == 1

    def test_a_body_that_ends_early(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """An end before the end is a break as well."""
        mirror.faults.short_by = 5
        assert len(pull(faulty.address, mirrored(faulty, mirror))) == 1

    def test_pieces(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """One that breaks off is completed elsewhere and stays a piece; without ranges it is had there."""
        told: list[str] = []
        mirror.faults.drop_after, mirror.faults.drops = 10, 99
        with open_mirrored(
            at(faulty.address), mirrored(faulty, mirror), Credentials(), Outages(told.append)
        ) as source:
            assert read_bytes(source.fetch(WEIGHTS, 5, 50), 99) == MADE.weights[5:55]
        assert faulty.seen[-1].headers["range"] == "bytes=25-54"
        mirror.faults.drops, mirror.faults.ignore_range = 0, True
        with open_mirrored(
            at(faulty.address), mirrored(faulty, mirror), Credentials(), Outages(nobody)
        ) as source:
            assert read_bytes(source.fetch(WEIGHTS, 5, 50), 99) == MADE.weights[5:55]
        assert faulty.seen[-1].headers["range"] == "bytes=5-54"

    def test_the_registrys_error_counts(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """When nobody has it, or everybody fails, the error is about the registry."""
        mirror.manifests.clear()
        faulty.manifests.clear()
        with pytest.raises(ReferenceUnknown, match=faulty.address):
            pull(faulty.address, mirrored(faulty, mirror))
        gone = settings(mirrors={"127.0.0.1:1": ("http://127.0.0.1:2",)})
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1`"):
            pull("127.0.0.1:1", gone)

    def test_a_blob_that_nobody_has(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """BlobUnknown, and it exists nowhere; one that a single end has exists."""
        with open_mirrored(
            at(faulty.address), mirrored(faulty, mirror), Credentials(), Outages(nobody)
        ) as source:
            assert source.exists(WEIGHTS)
            del mirror.blobs[str(WEIGHTS.digest)]
            assert source.exists(WEIGHTS)
            del faulty.blobs[str(WEIGHTS.digest)]
            assert not source.exists(WEIGHTS)
            with pytest.raises(BlobUnknown, match=faulty.address):
                source.fetch(WEIGHTS)


class TestDigests:
    """A mirror's word is never more than the registry's."""

    def test_a_pinned_reference(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """A mirror that answers a digest with another is left out; the registry is asked."""
        mirror.faults.lying_digest = f"sha256:{'0' * 64}"
        told: list[str] = []
        pinned = at(faulty.address).at(MADE.manifest.descriptor.digest)
        with open_mirrored(pinned, mirrored(faulty, mirror), Credentials(), Outages(told.append)) as source:
            assert source.resolve(pinned) == MADE.manifest.descriptor
        assert len(told) == 1

    def test_a_manifest_that_is_another(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """It is proved before it is passed on, and had from the registry."""
        for key in mirror.manifests:
            mirror.manifests[key] = model(1).manifest.raw
        mirror.faults.lying_digest = str(MADE.manifest.descriptor.digest)
        told: list[str] = []
        root = MADE.manifest.descriptor
        with open_mirrored(
            at(faulty.address), mirrored(faulty, mirror), Credentials(), Outages(told.append)
        ) as source:
            assert read_bytes(source.fetch(root), root.size) == MADE.manifest.raw
        assert len(told) == 1

    def test_a_blob_that_is_another(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """Who receives it verifies it: nothing wrong is ever kept."""
        mirror.faults.flip = True
        with pytest.raises(DigestMismatch):
            pull(faulty.address, mirrored(faulty, mirror))

    def test_a_mirror_with_wrong_content_is_left_out(
        self, faulty: FaultyRegistry, mirror: FaultyRegistry, tmp_path: Path
    ) -> None:
        """What it brought is proved wrong in the store, and had from the registry; it is told once."""
        mirror.faults.flip = True
        told: list[str] = []
        store, reference = Store.open(tmp_path / "store"), at(faulty.address)
        with open_mirrored(
            reference, mirrored(faulty, mirror), Credentials(), Outages(told.append)
        ) as source:
            copy(source, reference, store, jobs=1)
        assert store.resolve(reference) == MADE.manifest.descriptor
        prove(store)
        assert len(told) == 1


class TestCredentials:
    """A mirror gets what is filed under its own host, and nothing else."""

    def test_the_registrys_credential_stays_with_it(
        self, faulty: FaultyRegistry, mirror: FaultyRegistry
    ) -> None:
        """A mirror that wants one is left out; what it saw has no secret in it."""
        faulty.faults.basic = mirror.faults.basic = "me:secret"
        known = own_credentials({faulty.address: "me:secret"})
        assert pull(faulty.address, mirrored(faulty, mirror), known)
        assert not any("authorization" in seen.headers for seen in mirror.seen)
        assert faulty.seen[-1].headers["authorization"].startswith("Basic ")

    def test_a_mirror_has_its_own(self, faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
        """Filed under its host, whatever the registry's is."""
        faulty.faults.basic, mirror.faults.basic = "me:secret", "you:other"
        known = own_credentials({faulty.address: "me:secret", mirror.address: "you:other"})
        assert pull(faulty.address, mirrored(faulty, mirror), known) == []
        assert faulty.seen == []

    @pytest.mark.parametrize("listed", [False, True])
    def test_without_tls_only_where_that_was_agreed_to(
        self, faulty: FaultyRegistry, mirror: FaultyRegistry, listed: bool
    ) -> None:
        """Beyond loopback plain HTTP carries a secret only to a host that is listed as insecure."""
        host = mirror.address.replace("127.0.0.1", "0.0.0.0")
        mirror.faults.basic = "you:other"
        chosen = mirrored(
            faulty, f"http://{host}", insecure_registries=frozenset({host}) if listed else frozenset()
        )
        told = pull(faulty.address, chosen, own_credentials({host: "you:other"}))
        assert bool(told) is not listed
        assert any("authorization" in seen.headers for seen in mirror.seen) is listed


class MirroredTarget(Mirrored):
    """A repository that is written to at its registry and read through a mirror that has nothing."""

    def __init__(self, mirror: Repository, registry: Repository) -> None:
        super().__init__({"http://mirror": mirror}, lambda: registry, Outages(nobody))
        self._own = registry

    def push(self, descriptor: Descriptor, content: Content) -> None:
        """At the registry."""
        self._own.push(descriptor, content)

    def tag(self, descriptor: Descriptor, reference: Reference) -> None:
        """At the registry."""
        self._own.tag(descriptor, reference)

    def protect(self, descriptors: Iterable[Descriptor]) -> AbstractContextManager[None]:
        """As the registry does."""
        return self._own.protect(descriptors)


@pytest.mark.parametrize("clause", contract.SUITE, ids=lambda clause: clause.__name__)
def test_contract(clause: Callable[[contract.Open], None], tmp_path: Path) -> None:
    """What is read through mirrors keeps the contract of sources."""
    switch, empty = Switch(), Switch()
    transport = Transport()

    def opened() -> tuple[Target, Reference]:
        switch.app = RegistryApp(Store.open(Path(mkdtemp(dir=tmp_path))))
        return MirroredTarget(ends[0], ends[1]), Reference.parse(f"{address}/me/model:v1")

    with running_app(switch) as address, running_app(empty) as nothing:
        empty.app = RegistryApp(Store.open(tmp_path / "empty"))
        ends = [Repository(Client(transport, f"http://{place}"), "me/model") for place in (nothing, address)]
        try:
            clause(opened)
        finally:
            transport.close()


def test_a_source_by_type() -> None:
    """The type checker holds it to the protocol."""
    source: Source = Mirrored({}, lambda: pytest.fail("not opened"), Outages(nobody))
    assert source


def test_an_error_of_the_settings_is_nobodys_outage(faulty: FaultyRegistry, tmp_path: Path) -> None:
    """A broken CA bundle is the user's to mend: the mirror is not silently passed over."""
    chosen = mirrored(faulty, "https://127.0.0.1:1", ca_bundle=tmp_path / "absent")
    with pytest.raises(FileMissing):
        pull(faulty.address, chosen)


def test_wrong_answers_are_outages(faulty: FaultyRegistry, mirror: FaultyRegistry) -> None:
    """A mirror that answers what the protocol does not know is told of with what it did."""
    mirror.faults.lying_digest = "nonsense"
    (told,) = pull(faulty.address, mirrored(faulty, mirror))
    assert "broken digest" in told
