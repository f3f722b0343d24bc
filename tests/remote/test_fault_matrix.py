"""Each fault at each place of a pull: what it comes to, what is kept, and that nothing wrong ever shows."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from qwenctl.errors import (
    ConnectionBroken,
    DigestMismatch,
    IntegrityError,
    NotFound,
    QwenctlError,
    RateLimited,
    RegistryFailure,
    RemoteError,
    SizeMismatch,
    Unauthorized,
    Unreachable,
)
from qwenctl.oci.descriptor import OCI_INDEX
from qwenctl.oci.protocol import manifest_path
from tests.remote import faults
from tests.remote.fault_builders import (
    OTHER,
    REPOSITORY,
    Case,
    Outcome,
    World,
    absent_digest,
    run,
    running_world,
)
from tests.remote.faults import in_turn, says, status

SHORT: Final = 0.3
"""Seconds of silence that a client bears where it has to bear some."""
_BY_DIGEST: Final = manifest_path(REPOSITORY, str(OTHER.manifest.descriptor.digest))

CASES: Final[dict[str, Case]] = {
    "stall before headers": Case(faults.stall_before_headers, read_seconds=SHORT),
    "stall half way": Case(faults.stall_half_way, read_seconds=SHORT),
    "stall after ten": Case(faults.stall_after_ten, read_seconds=SHORT),
    "drip": Case(faults.drip, read_seconds=SHORT, clock_rate=200.0),
    "drip a while": Case(faults.drip_a_while, clock_rate=200.0),
    "reset before answer": Case(faults.reset_before_answer),
    "reset half way": Case(faults.reset_half_way),
    "reset after ten": Case(faults.reset_after_ten),
    "end half way": Case(faults.end_half_way),
    "end after ten": Case(faults.end_after_ten),
    "go down": Case(faults.go_down),
    "go down half way": Case(faults.go_down_half_way),
    "garbage": Case(faults.garbage_instead_of_http),
    "line feeds only": Case(faults.line_feeds_only),
    "endless headers": Case(faults.endless_headers),
    "shortened": Case(faults.shortened),
    "shortened to ten": Case(faults.shortened_to_ten),
    "promises more": Case(faults.promises_more),
    "sends more": Case(faults.sends_more),
    "sends more in chunks": Case(faults.sends_more_in_chunks),
    "goes on behind": Case(faults.goes_on_behind_the_end),
    "chunked": Case(faults.chunked),
    "gzipped": Case(faults.gzipped),
    "captive portal": Case(status(200, b"<html>log in</html>" * 20, content_type="text/html")),
    "status 403": Case(status(403, b"<html>forbidden</html>")),
    "status 404": Case(status(404)),
    "status 408": Case(status(408)),
    "status 500": Case(status(500, b"<html>internal</html>")),
    "status 502": Case(status(502)),
    "status 503": Case(status(503)),
    "429": Case(status(429, b"Too Many Requests (HAP429)"), sleeps=(0.5,)),
    "429 for 7 s": Case(status(429, retry_after="7"), sleeps=(7.0,)),
    "429 until a date": Case(status(429, retry_after="Thu, 01 Jan 2026 00:00:09 GMT"), sleeps=(9.0,)),
    "429 for an hour": Case(status(429, retry_after="3600"), sleeps=()),
    "token expired": Case(faults.token_expired, tokens=True),
    "cut, token expired": Case(in_turn(faults.end_half_way, faults.token_expired), tokens=True),
    "no token is good": Case(faults.no_token_is_good, tokens=True),
    "signed redirect": Case(faults.redirect_signed),
    "signed redirect, cut": Case(faults.redirect_signed, in_turn(faults.end_half_way, faults.serve)),
    "expired redirect": Case(faults.redirect_expired),
    "redirect in a circle": Case(faults.redirect_in_a_circle),
    "redirect without tls": Case(faults.redirect_without_tls, tls_only=True),
    "ignores range": Case(faults.ignores_range),
    "other range": Case(faults.other_range, ranged=True),
    "bytes from elsewhere": Case(faults.bytes_from_elsewhere, ranged=True),
    "wrong total": Case(faults.wrong_total, ranged=True),
    "no content-range": Case(faults.no_content_range, ranged=True),
    "refuses range": Case(faults.refuses_range, ranged=True),
    "multipart": Case(faults.multipart, ranged=True),
    "flipped bit": Case(faults.flipped_bit),
    "other content": Case(faults.other_content),
    "names another": Case(faults.other_path(_BY_DIGEST)),
    "names nothing": Case(says(docker_content_digest=str(absent_digest()))),
    "names no digest": Case(says(docker_content_digest="sha256:../../etc/passwd")),
    "tag moves": Case(in_turn(says(docker_content_digest=None), faults.serve, faults.other_path(_BY_DIGEST))),
    "type lies": Case(says(content_type=OCI_INDEX)),
    "not json": Case(status(200, b"nothing useful", content_type="application/json")),
}

# What a fault comes to at the question for the tag, the manifest, a blob, and a blob of which half is here.
# The last column is what is never fetched again: all that came, what was there at the start, or none of it.
TABLE: Final = """
stall before headers | once   | ok            | ok               | ok               | ok               | all
stall before headers | always | broken        | broken           | broken           | broken           | all
stall half way       | once   | -             | ok               | ok               | ok               | all
stall after ten      | always | -             | broken           | broken           | broken           | all
drip                 | always | -             | broken           | broken           | broken           | start
drip a while         | once   | -             | ok               | ok               | ok               | start
reset before answer  | once   | ok            | ok               | ok               | ok               | all
reset before answer  | always | broken        | broken           | broken           | broken           | all
reset half way       | once   | -             | ok               | ok               | ok               | start
reset after ten      | always | -             | broken           | broken           | broken           | start
end half way         | once   | -             | ok               | ok               | ok               | all
end after ten        | always | -             | broken           | broken           | broken           | all
go down              | always | down          | down             | down             | down             | all
go down half way     | always | -             | down             | down             | down             | start
garbage              | once   | ok            | ok               | ok               | ok               | all
garbage              | always | remote        | remote           | remote           | remote           | all
line feeds only      | always | ok            | ok               | ok               | ok               | all
endless headers      | once   | ok            | ok               | ok               | ok               | all
endless headers      | always | remote        | remote           | remote           | remote           | all
shortened            | once   | -             | ok/size          | ok               | ok               | all
shortened to ten     | always | -             | size             | size/failure     | size/failure     | all
promises more        | always | -             | ok/broken/size   | ok/broken/size   | ok/broken/size   | none
sends more           | always | -             | size/failure     | size/failure     | size/failure     | none
sends more in chunks | always | -             | size/failure     | size/failure     | size/failure     | none
goes on behind       | always | ok            | ok               | ok               | ok               | start
chunked              | always | ok            | ok               | ok               | ok               | all
gzipped              | always | -             | ok/wrong/failure | ok/wrong/failure | ok/wrong/failure | none
captive portal       | always | wrong/failure | wrong/failure    | wrong/failure    | wrong/failure    | start
status 403           | always | denied        | denied           | denied           | denied           | all
status 404           | always | unknown       | unknown          | unknown          | unknown          | all
status 408           | once   | ok            | ok               | ok               | ok               | all
status 408           | always | failure       | failure          | failure          | failure          | all
status 500           | twice  | ok            | ok               | ok               | ok               | all
status 500           | always | failure       | failure          | failure          | failure          | all
status 502           | twice  | ok            | ok               | ok               | ok               | all
status 502           | always | failure       | failure          | failure          | failure          | all
status 503           | twice  | ok            | ok               | ok               | ok               | all
status 503           | always | failure       | failure          | failure          | failure          | all
429                  | once   | ok            | ok               | ok               | ok               | all
429                  | always | limited       | limited          | limited          | limited          | all
429 for 7 s          | once   | ok            | ok               | ok               | ok               | all
429 until a date     | once   | ok            | ok               | ok               | ok               | all
429 for an hour      | always | limited       | limited          | limited          | limited          | all
token expired        | once   | ok            | ok               | ok               | ok               | all
cut, token expired   | twice  | -             | -                | ok               | ok               | all
no token is good     | always | denied        | denied           | denied           | denied           | all
signed redirect      | always | ok            | ok               | ok               | ok               | all
signed redirect, cut | always | -             | ok               | ok               | ok               | all
expired redirect     | once   | -             | ok               | ok               | ok               | all
expired redirect     | always | -             | denied/failure   | remote           | remote           | all
redirect in a circle | always | failure       | failure          | failure          | failure          | all
redirect without tls | always | failure       | failure          | failure          | failure          | all
ignores range        | always | -             | -                | -                | ok               | none
other range          | once   | -             | -                | -                | ok/failure       | start
other range          | always | -             | -                | -                | ok/failure       | start
bytes from elsewhere | once   | -             | -                | -                | ok/digest        | none
bytes from elsewhere | always | -             | -                | -                | ok/digest        | none
wrong total          | always | -             | -                | -                | ok/size/failure  | start
no content-range     | always | -             | -                | -                | ok/failure       | start
refuses range        | always | -             | -                | -                | ok               | none
multipart            | always | -             | -                | -                | ok/failure       | start
flipped bit          | once   | -             | ok/digest        | ok/digest        | ok/digest        | none
flipped bit          | always | -             | digest           | digest           | digest           | none
other content        | always | -             | digest           | digest           | digest           | none
names another        | always | other         | wrong/failure    | -                | -                | all
names nothing        | always | unknown       | ok/failure       | -                | -                | all
names no digest      | always | failure       | ok/failure       | -                | -                | all
tag moves            | always | ok            | -                | -                | -                | all
type lies            | always | wrong/unknown | ok/wrong/failure | -                | -                | all
not json             | always | wrong/failure | wrong/failure    | -                | -                | all
"""

# The same for the token server: what it comes to.
TOKENS: Final = """
stall before headers    | once   | ok
stall before headers    | always | broken
reset before answer     | once   | ok
reset before answer     | always | broken
status 403              | always | denied
status 404              | always | failure
status 503              | twice  | ok
status 503              | always | failure
429 for 7 s             | once   | ok
429 for an hour         | always | limited
shortened to ten        | always | failure
captive portal          | always | failure
redirect in a circle    | always | failure
"""

ERRORS: Final[dict[str, type[QwenctlError]]] = {
    "broken": ConnectionBroken,
    "down": Unreachable,
    "remote": RemoteError,
    "failure": RegistryFailure,
    "limited": RateLimited,
    "denied": Unauthorized,
    "unknown": NotFound,
    "digest": DigestMismatch,
    "size": SizeMismatch,
    "wrong": IntegrityError,
}
STATUSES: Final = {
    RegistryFailure: 4,
    RateLimited: 4,
    Unauthorized: 4,
    Unreachable: 4,
    NotFound: 3,
    IntegrityError: 5,
}
TIMES: Final = {"once": 1, "twice": 2, "always": None}


@dataclass(frozen=True)
class Cell:
    """One fault at one place, with what is allowed to come of it."""

    fault: str
    times: str
    place: str
    size: str
    tls: bool
    allowed: tuple[str, ...]
    kept: str

    def __str__(self) -> str:
        line = "-tls" if self.tls else ""
        return f"{self.fault}-{self.times}-{self.place}-{self.size}{line}".replace(",", "").replace(" ", "_")


def cells() -> Iterator[Cell]:
    """The whole matrix; blobs in two sizes, and the large ones over TLS too."""
    for line in TABLE.strip().splitlines():
        fault, times, *places, kept = (word.strip() for word in line.split("|"))
        for place, allowed in zip(("tag", "manifest", "blob", "range"), places, strict=True):
            for size, tls in _variants(fault, place) if allowed != "-" else ():
                yield Cell(fault, times, place, size, tls, tuple(allowed.split("/")), kept)
    for line in TOKENS.strip().splitlines():
        fault, times, allowed = (word.strip() for word in line.split("|"))
        yield Cell(fault, times, "token", "small", False, tuple(allowed.split("/")), "all")


def _variants(fault: str, place: str) -> list[tuple[str, bool]]:
    if CASES[fault].tls_only:
        return [("small", True)]
    return (
        [("small", False), ("large", False), ("large", True)]
        if place in ("blob", "range")
        else [("small", False)]
    )


CELLS: Final = tuple(cells())
every_cell = pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, marks=[pytest.mark.slow] if cell.size == "large" else [], id=str(cell))
        for cell in CELLS
    ],
)


@pytest.fixture(
    scope="module",
    params=["embedded", pytest.param("docker-registry", marks=[pytest.mark.slow, pytest.mark.peer])],
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A registry with all content."""
    with running_world(request.param, tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture(scope="module")
def outcomes(world: World) -> Iterator[dict[Cell, Outcome]]:
    """What the cells came to, each tried once."""
    yield {}


@pytest.fixture
def outcome(world: World, outcomes: dict[Cell, Outcome], cell: Cell) -> Outcome:
    """What this cell came to."""
    if cell not in outcomes:
        outcomes[cell] = run(world, CASES[cell.fault], TIMES[cell.times], cell.place, cell.size, tls=cell.tls)
    return outcomes[cell]


@every_cell
def test_outcome(outcome: Outcome, cell: Cell) -> None:
    """The pull succeeds, or fails with what the table says; it always ends."""
    assert not outcome.endless
    assert outcome.empty_ranges == []
    came_to = [word for word in cell.allowed if _is(word, outcome)]
    assert came_to, f"{outcome.error!r}, and the tag names {outcome.visible}"
    expected = CASES[cell.fault].sleeps
    if expected is not None and came_to == ["ok"]:
        assert tuple(outcome.slept) == expected


@every_cell
def test_nothing_wrong_shows(outcome: Outcome) -> None:
    """Whatever happened: every file under a final name is right, and a tag is whole or not there."""
    assert outcome.damage == []
    assert outcome.visible in (("whole", "other") if outcome.error is None else ("nothing",))
    assert not outcome.leaked


@every_cell
def test_the_error_tells(outcome: Outcome, cell: Cell) -> None:
    """An error has its exit status and names the server; for a blob, also the digest and the attempts."""
    if outcome.error is None:
        return
    error = outcome.error
    assert isinstance(error, QwenctlError)
    assert error.exit_code in {STATUSES[kind] for kind in STATUSES if isinstance(error, kind)}
    assert any(name in error.message for name in outcome.named), error.message
    if cell.place in ("blob", "range"):
        assert "sha256:" in error.message, error.message
        if outcome.faulted > 1 and _is_retried(cell, error):
            assert re.search(r"\d+ attempts", error.message), error.message


@every_cell
def test_the_next_pull(outcome: Outcome, cell: Cell) -> None:
    """Without the fault it finishes, and fetches no more than what was lost."""
    assert outcome.next_error is None
    assert outcome.next_visible == "whole"
    fetched, missing = outcome.moved_bytes + outcome.next_bytes, outcome.missing_bytes
    if outcome.error is None and outcome.visible == "whole":
        assert outcome.next_bytes == 0
    if cell.kept == "all":
        assert fetched <= missing
    elif cell.kept == "start":
        assert outcome.next_bytes <= missing


def test_no_wrong_success(outcomes: dict[Cell, Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    """Over all cells that were tried; their number is shown."""
    wrong = [str(cell) for cell, outcome in outcomes.items() if outcome.damage or outcome.visible == "broken"]
    with capsys.disabled():
        sys.stdout.write(f" {len(outcomes)} cells, {len(wrong)} wrong successes ")
    assert wrong == []


def _is(word: str, outcome: Outcome) -> bool:
    if word in ("ok", "other"):
        return outcome.error is None and outcome.visible == ("whole" if word == "ok" else "other")
    return isinstance(outcome.error, ERRORS[word])


def _is_retried(cell: Cell, error: QwenctlError) -> bool:
    """Whether what the fault does is worth another attempt, so that a message has attempts to tell of."""
    refused = isinstance(error, Unauthorized | IntegrityError)
    return not refused and "redirect" not in cell.fault
