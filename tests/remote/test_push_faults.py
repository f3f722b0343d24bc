"""Each fault of a push: what it comes to, that credentials stay at home, and that the next push finishes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import httpx
import pytest

from qwenctl.errors import (
    BlobUnknown,
    ConnectionBroken,
    QwenctlError,
    RateLimited,
    RegistryFailure,
    RemoteError,
    Unauthorized,
)
from qwenctl.flows.copy import Copied
from qwenctl.flows.find import Found
from qwenctl.flows.push import push
from qwenctl.oci.target import content_of
from qwenctl.remote.repository import Repository
from qwenctl.store.store import Store
from tests.remote import faults, upload_faults
from tests.remote.fault_builders import (
    REPOSITORY,
    Case,
    Content,
    World,
    absent_digest,
    content_named,
    repository,
    running_world,
)
from tests.remote.fault_messages import Kind
from tests.remote.fault_proxy import FaultProxy, Rule, fault_proxy
from tests.remote.faults import status

SMALL_BYTES: Final = 300_000
CHUNKED_BYTES: Final = 5 << 20
"""More than one chunk."""

CASES: Final[dict[str, Case]] = {
    "stall": Case(faults.stall_before_headers, read_seconds=0.3),
    "reset": Case(faults.reset_before_answer),
    "reset in the body": Case(upload_faults.reset_in_the_request),
    "garbage": Case(faults.garbage_instead_of_http),
    "status 403": Case(status(403)),
    "status 408": Case(status(408)),
    "status 500": Case(status(500)),
    "status 503": Case(status(503)),
    "429 for 7 s": Case(status(429, retry_after="7"), sleeps=(7.0,)),
    "429 for an hour": Case(status(429, retry_after="3600"), sleeps=()),
    "token expired": Case(faults.token_expired, tokens=True),
    "no token is good": Case(faults.no_token_is_good, tokens=True),
    "elsewhere": Case(upload_faults.continues_elsewhere, tokens=True),
    "elsewhere without tls": Case(upload_faults.continues_without_tls, tls_only=True),
    "no location": Case(faults.says(location=None)),
    "other digest": Case(faults.says(docker_content_digest=str(absent_digest()))),
    "refuses digest": Case(status(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')),
    "pretends": Case(status(201)),
    "loses half": Case(upload_faults.loses_half_of_the_request),
    "too large": Case(faults.serve),
    "not found": Case(status(404, b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}')),
}

# What a fault comes to at a request of the push.
TABLE: Final = """
stall                 | once   | question | ok
stall                 | always | question | broken
stall                 | once   | start    | ok
stall                 | once   | whole    | ok
reset                 | once   | question | ok
reset                 | once   | start    | ok
reset                 | always | start    | broken
reset                 | once   | whole    | ok
reset                 | once   | manifest | ok
reset                 | always | manifest | broken
reset in the body     | once   | whole    | ok
reset in the body     | always | whole    | broken
reset in the body     | once   | chunk    | ok
reset in the body     | always | chunk    | broken
garbage               | always | whole    | broken
status 403            | always | start    | denied
status 403            | always | manifest | denied
status 408            | once   | whole    | ok
status 500            | twice  | question | ok
status 500            | twice  | start    | ok
status 500            | twice  | whole    | ok
status 500            | twice  | chunk    | ok
status 500            | twice  | manifest | ok
status 500            | always | question | failure
status 500            | always | start    | failure
status 500            | always | whole    | failure
status 500            | always | chunk    | failure
status 500            | always | manifest | failure
status 503            | twice  | whole    | ok
429 for 7 s           | once   | whole    | ok
429 for an hour       | always | whole    | limited
token expired         | once   | question | ok
token expired         | once   | start    | ok
token expired         | once   | whole    | ok
token expired         | once   | chunk    | ok
token expired         | once   | closing  | ok
token expired         | once   | manifest | ok
no token is good      | always | whole    | denied
elsewhere             | always | start    | ok
elsewhere without tls | always | start    | failure
no location           | always | start    | failure
no location           | once   | chunk    | ok/failure
too large             | always | chunk    | ok
loses half            | once   | chunk    | ok/failure
loses half            | always | chunk    | failure
other digest          | always | whole    | ok/failure
refuses digest        | always | whole    | failure
refuses digest        | always | closing  | failure
pretends              | always | whole    | unknown/failure
not found             | once   | whole    | ok/failure
not found             | always | whole    | failure
"""

ERRORS: Final[dict[str, type[QwenctlError]]] = {
    "broken": ConnectionBroken,
    "failure": RegistryFailure,
    "limited": RateLimited,
    "denied": Unauthorized,
    "unknown": BlobUnknown,
}
TIMES: Final = {"once": 1, "twice": 2, "always": None}


@dataclass(frozen=True)
class Cell:
    """One fault at one request, with what is allowed to come of it."""

    fault: str
    times: str
    place: str
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.fault}-{self.times}-{self.place}".replace(" ", "_")

    @property
    def in_chunks(self) -> bool:
        """Whether the registry takes no large request."""
        return self.place in ("chunk", "closing")


def cells() -> Iterator[Cell]:
    """The table."""
    for line in TABLE.strip().splitlines():
        fault, times, place, allowed = (word.strip() for word in line.split("|"))
        yield Cell(fault, times, place, tuple(allowed.split("/")))


CELLS: Final = tuple(cells())


@pytest.fixture(
    scope="module",
    params=["embedded", pytest.param("docker-registry", marks=[pytest.mark.slow, pytest.mark.peer])],
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A registry."""
    with running_world(request.param, tmp_path_factory.mktemp("faults")) as running:
        yield running


_NUMBERS: Final = count(1)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_push(world: World, cell: Cell) -> None:
    """Ends, as the table says: whole at the registry, or an error and no tag; the next one finishes."""
    case = CASES[cell.fault]
    content = content_named(f"push-{next(_NUMBERS)}", CHUNKED_BYTES if cell.in_chunks else SMALL_BYTES)
    store = stored(world, content)
    authority = world.authority if case.tls_only else None
    slept: list[float] = []
    with fault_proxy(
        world.upstream,
        *rules(cell, content),
        tls=authority.server if authority else None,
        tokens=case.tokens,
    ) as proxy:
        assert proxy.elsewhere is not None
        with repository(proxy, slept, case, authority) as target:
            error = attempt(content, store, target)
    assert not proxy.endless
    assert not any(seen.authorized for seen in proxy.elsewhere.seen)
    check_outcome(cell, error, proxy)
    if case.sleeps is not None and cell.times == "once":
        assert tuple(slept) == case.sleeps
    missing = [digest for digest in digests(content) if not is_right(world, f"blobs/{digest}", digest)]
    tagged = is_right(world, f"manifests/{content.name}", str(content.manifest.descriptor.digest))
    assert tagged is (error is None)
    assert not (tagged and missing)
    check_next(world, content, store, missing)


def check_outcome(cell: Cell, error: QwenctlError | None, proxy: FaultProxy) -> None:
    """What the table allows, told with the server and, for a blob that was sent, its digest."""
    if error is None:
        assert "ok" in cell.allowed
        return
    assert any(isinstance(error, ERRORS[word]) for word in cell.allowed if word != "ok"), repr(error)
    assert error.exit_code == (4 if isinstance(error, RemoteError) else 3)
    assert proxy.elsewhere is not None
    assert proxy.address in error.message or proxy.elsewhere.address in error.message
    if cell.place in ("whole", "chunk", "closing"):
        assert "sha256:" in error.message


def check_next(world: World, content: Content, store: Store, missing: list[str]) -> None:
    """Without the fault the push finishes, and sends only what is not there."""
    with fault_proxy(world.upstream) as healthy, repository(healthy, []) as target:
        assert attempt(content, store, target) is None
    assert len(healthy.asked(kind=Kind.UPLOAD, method="POST")) == len(missing)
    assert is_right(world, f"manifests/{content.name}", str(content.manifest.descriptor.digest))
    assert all(is_right(world, f"blobs/{digest}", digest) for digest in digests(content))


def rules(cell: Cell, content: Content) -> list[Rule]:
    """The fault at its request; for chunks also a registry that takes no large request whole."""
    weights, case = content.weights, CASES[cell.fault]
    whole = frozenset({"PUT"})
    matched = {
        "question": Rule(case.fault, Kind.BLOB, frozenset({"HEAD"}), str(weights.digest)),
        "start": Rule(case.fault, Kind.UPLOAD, frozenset({"POST"})),
        "whole": Rule(case.fault, Kind.UPLOAD, whole, weights.digest.hex),
        "chunk": Rule(case.fault, Kind.UPLOAD, frozenset({"PATCH"})),
        "closing": Rule(case.fault, Kind.UPLOAD, whole, weights.digest.hex, first=2),
        "manifest": Rule(case.fault, Kind.MANIFEST, whole),
    }[cell.place]
    limited = Rule(upload_faults.too_large, Kind.UPLOAD, whole, weights.digest.hex)
    return [replace(matched, times=TIMES[cell.times]), *([limited] if cell.in_chunks else [])]


def stored(world: World, content: Content) -> Store:
    """A store that has the content."""
    store = world.store(content.name)
    for descriptor, raw in content.blobs.items():
        store.push(descriptor, content_of(raw))
    store.push(content.manifest.descriptor, content_of(content.manifest.raw))
    store.tag(content.manifest.descriptor, content.reference)
    return store


def attempt(content: Content, store: Store, target: Repository) -> QwenctlError | None:
    """Push; the error, if it is one of ours."""
    found = Found(content.reference, content.manifest.descriptor)
    try:
        copied = push(found, content.reference, store, target)
    except QwenctlError as error:
        return error
    assert isinstance(copied, Copied)
    return None


def digests(content: Content) -> list[str]:
    """Of all blobs."""
    return [str(descriptor.digest) for descriptor in content.blobs]


def is_right(world: World, path: str, digest: str) -> bool:
    """Whether the registry has content at a path that is what `digest` says; false when it has none."""
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    answer = httpx.get(f"http://{world.upstream}/v2/{REPOSITORY}/{path}", headers=accept, trust_env=False)
    if answer.status_code == 404:
        return False
    assert answer.status_code == 200
    assert f"sha256:{hashlib.sha256(answer.content).hexdigest()}" == digest
    return True
