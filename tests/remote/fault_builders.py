"""One cell of the fault matrix: a registry with content, a fault in front, a pull, and what came of it."""

import hashlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Final

import httpx
import pytest

from qwenctl.errors import QwenctlError
from qwenctl.flows.pull import is_complete, pull
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest, build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.remote.client import Client, Clock
from qwenctl.remote.credentials import Credential
from qwenctl.remote.repository import Repository
from qwenctl.remote.retry import RetryPolicy
from qwenctl.remote.transport import Transport
from qwenctl.store.disk import Disk
from qwenctl.store.store import Store
from tests.registry.running import running_registry
from tests.remote.debian_registry import debian_registry
from tests.remote.fault_messages import Kind
from tests.remote.fault_proxy import Fault, FaultProxy, Rule, fault_proxy
from tests.remote.faults import checking_signatures, end_half_way, in_turn, reset_before_answer, serve
from tests.remote.tls import Authority, make_authority

REPOSITORY: Final = "me/model"
SIZES: Final = {"small": 300_000, "large": 6 << 20}
"""Bytes of the weights: larger content may take another way through the client."""
POLICY: Final = RetryPolicy(attempts=3, first_seconds=0.5, longest_seconds=30.0)
PATIENT_SECONDS: Final = 5.0
"""Of silence, where a test does not wait for the end of it."""
TODAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


class HastyDisk(Disk):
    """Leaves durability to the operating system: what a crash would lose is not asked here."""

    def sync(self, file: FileIO) -> None:
        """Nothing."""

    def sync_data(self, file: FileIO) -> None:
        """Nothing."""

    def sync_directory(self, path: Path) -> None:
        """Nothing."""


def open_store(path: Path) -> Store:
    """A store that does not wait for the disk."""
    return Store.open(path, disk=HastyDisk())


@dataclass(frozen=True)
class Content:
    """A model whose bytes never repeat, so that none can pass for others."""

    name: str
    manifest: Manifest
    blobs: dict[Descriptor, bytes]

    @property
    def weights(self) -> Descriptor:
        """The one large blob."""
        return self.manifest.layers[0]

    @property
    def reference(self) -> Reference:
        """Its name."""
        return Reference.parse(f"{REPOSITORY}:{self.name}")


def content_named(name: str, size: int) -> Content:
    """The same content for the same name."""
    dice = random.Random(name)
    weights, license_, config = dice.randbytes(size), dice.randbytes(500), b'{"of": "%s"}' % name.encode()
    kinds = ("config", "weights", "license")
    blobs = {
        Descriptor.of(raw, f"application/vnd.example.{kind}"): raw
        for kind, raw in zip(kinds, (config, weights, license_), strict=True)
    }
    described = tuple(blobs)
    return Content(name, build_manifest(described[0], described[1:]), blobs)


OTHER: Final = content_named("other", 1000)
"""A model beside the one that is pulled."""


def upload(address: str, content: Content) -> None:
    """Put content into a registry, without the code under test."""
    with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=30) as client:
        for descriptor, raw in content.blobs.items():
            started = client.post(f"/v2/{REPOSITORY}/blobs/uploads/")
            place = httpx.URL(started.headers["location"])
            sent = client.put(place.copy_merge_params({"digest": str(descriptor.digest)}), content=raw)
            assert sent.status_code == 201, sent.text
        for version in (content.name, str(content.manifest.descriptor.digest)):
            kind = {"Content-Type": content.manifest.media_type}
            path = f"/v2/{REPOSITORY}/manifests/{version}"
            assert client.put(path, content=content.manifest.raw, headers=kind).status_code == 201


@dataclass(frozen=True, slots=True)
class Case:
    """A fault and what it needs around it. The client's clock runs `clock_rate` times as fast as ours."""

    fault: Fault
    elsewhere: Fault = serve
    tokens: bool = False
    read_seconds: float = PATIENT_SECONDS
    clock_rate: float = 1.0
    tls_only: bool = False
    ranged: bool | None = None
    sleeps: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class World:
    """A registry that has everything, and what is needed to stand in front of it."""

    upstream: str
    directory: Path
    contents: dict[str, Content]
    authority: Authority
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def store(self, name: str) -> Store:
        """A new store."""
        return open_store(self.directory / f"{name}-{next(self.numbers)}")

    def resumable(self, size: str) -> Store:
        """A new store that has the first half of the weights, as a pull left it that had lost its server."""
        primed = self.directory / f"half-{size}"
        if not primed.exists():
            content = self.contents[size]
            lost = Rule(in_turn(end_half_way, reset_before_answer), part=str(content.weights.digest))
            with (
                fault_proxy(self.upstream, lost) as proxy,
                repository(proxy, []) as source,
                pytest.raises(QwenctlError),
            ):
                pull(content.reference, source, open_store(primed))
            assert not proxy.endless
        path = self.directory / f"resumed-{next(self.numbers)}"
        shutil.copytree(primed, path)
        return open_store(path)


@contextmanager
def running_world(kind: str, directory: Path) -> Iterator[World]:
    """A world whose registry is `embedded` or `docker-registry`; skips the test where that is missing."""
    behind, contents = (
        directory / "registry",
        {name: content_named(name, size) for name, size in SIZES.items()},
    )
    behind.mkdir()
    registry = running_registry(open_store(behind)) if kind == "embedded" else debian_registry(behind)
    with registry as address:
        for content in (*contents.values(), OTHER):
            upload(address, content)
        yield World(address, directory, contents, make_authority(directory))


@contextmanager
def repository(
    proxy: FaultProxy,
    slept: list[float],
    case: Case | None = None,
    authority: Authority | None = None,
) -> Iterator[Repository]:
    """The repository behind a proxy, for a client that never really waits between attempts."""
    read_seconds, rate = (case.read_seconds, case.clock_rate) if case else (PATIENT_SECONDS, 1.0)
    transport = Transport(connect_seconds=PATIENT_SECONDS, read_seconds=read_seconds)
    clock = Clock(lambda: time.monotonic() * rate, lambda: TODAY, slept.append, lambda: 1.0)
    with pytest.MonkeyPatch.context() as patch:
        if authority is not None:
            patch.setenv("SSL_CERT_FILE", str(authority.bundle))
        client = Client(transport, proxy.base, Credential("user", "pass"), POLICY, clock)
        try:
            yield Repository(client, REPOSITORY)
        finally:
            transport.close()


PLACES: Final[dict[str, Callable[[Content], Rule]]] = {
    "tag": lambda content: Rule(
        serve, Kind.MANIFEST, frozenset({"HEAD", "GET"}), f"/manifests/{content.name}"
    ),
    "manifest": lambda content: Rule(serve, Kind.MANIFEST, part=str(content.manifest.descriptor.digest)),
    "blob": lambda content: Rule(serve, Kind.BLOB, part=str(content.weights.digest)),
    "range": lambda content: Rule(serve, Kind.BLOB, part=str(content.weights.digest)),
    "token": lambda _: Rule(serve, Kind.TOKEN),
}
"""Which requests a fault meets; a range is a blob whose first half is in the store."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cell came to: the pull with the fault, and the next one without."""

    error: Exception | None
    damage: list[str]
    visible: str
    named: tuple[str, ...]
    endless: bool
    leaked: bool
    empty_ranges: list[str]
    faulted: int
    moved_bytes: int
    missing_bytes: int
    slept: list[float]
    next_error: Exception | None
    next_visible: str
    next_bytes: int


def run(world: World, case: Case, times: int | None, place: str, size: str, *, tls: bool) -> Outcome:
    """One cell."""
    content = world.contents[size]
    store = world.resumable(size) if place == "range" else world.store(place)
    missing = content.weights.size - (content.weights.size // 2 if place == "range" else 0)
    rule = PLACES[place](content)
    rule.fault, rule.times, rule.ranged = case.fault, times, case.ranged
    server, authority = (world.authority.server, world.authority) if tls else (None, None)
    slept: list[float] = []
    with fault_proxy(world.upstream, rule, tls=server, tokens=case.tokens or place == "token") as proxy:
        assert proxy.elsewhere is not None
        proxy.elsewhere.rules.append(
            Rule(checking_signatures(case.elsewhere), methods=frozenset({"GET", "HEAD"}))
        )
        with repository(proxy, slept, case, authority) as source:
            error = attempt(content, source, store)
    damage, visible = damaged(store), seen_as(store, content)
    with fault_proxy(world.upstream) as healthy, repository(healthy, []) as source:
        next_error = attempt(content, source, store)
    return Outcome(
        error,
        damage + damaged(store),
        visible,
        (proxy.address, proxy.elsewhere.address),
        proxy.endless,
        any(seen.authorized for seen in proxy.elsewhere.seen),
        [seen.range for seen in proxy.seen if seen.range and is_empty(seen.range)],
        sum(seen.faulted for seen in proxy.seen),
        weights_bytes(content, proxy) + weights_bytes(content, proxy.elsewhere),
        missing,
        slept,
        next_error,
        seen_as(store, content),
        weights_bytes(content, healthy),
    )


def attempt(content: Content, source: Repository, store: Store) -> Exception | None:
    """Pull; the error, if any, whatever it is."""
    try:
        pull(content.reference, source, store)
    except Exception as error:
        return error
    return None


def damaged(store: Store) -> list[str]:
    """The files under a final name that are not what the name says."""
    wrong = []
    for path in (store.path / "blobs").glob("*/*"):
        with path.open("rb") as file:
            if hashlib.file_digest(file, path.parent.name).hexdigest() != path.name:
                wrong.append(path.name)
    return wrong


def seen_as(store: Store, content: Content) -> str:
    """What the store shows under the content's name: `nothing`, `whole`, `other` content or `broken`."""
    tags = dict(store.tags())
    if not tags:
        return "nothing"
    root = tags.get(content.reference)
    if root is None or not is_complete(root, store):
        return "broken"
    return "whole" if root.digest == content.manifest.descriptor.digest else "other"


def weights_bytes(content: Content, proxy: FaultProxy) -> int:
    """Bytes of the weights that went to the client."""
    asked = proxy.asked(kind=Kind.BLOB, part=str(content.weights.digest))
    return sum(seen.sent_bytes for seen in asked if seen.status in (200, 206))


def is_empty(asked: str) -> bool:
    """Whether a `Range` of one closed range has no byte."""
    first, _, last = asked.removeprefix("bytes=").partition("-")
    return first.isdecimal() and last.isdecimal() and int(first) > int(last)


def absent_digest() -> Digest:
    """A digest of nothing that is anywhere."""
    return Digest.of(b"nowhere")
