"""What of a partial file is believed."""

from pathlib import Path

import pytest

from qwenctl.store.disk import Disk
from qwenctl.store.journal import Journal
from qwenctl.store.spans import Spans


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """The journal of a partial file, in this run of the kernel."""
    return Journal(Disk(), tmp_path / "sha256-ab.journal", "this boot")


def rebooted(journal: Journal) -> Journal:
    """The same journal after a crash of the machine."""
    return Journal(journal.disk, journal.path, "next boot")


def test_without_a_journal_the_file_counts(journal: Journal) -> None:
    """It is small, or from a version that knew none."""
    assert journal.trusted(100) == Spans([(0, 100)])


def test_after_a_kill_an_ordered_file_is_good_to_its_end(journal: Journal) -> None:
    """The kernel has what was written; the journal may lag behind."""
    journal.write(Spans([(0, 40)]), ordered=True)
    assert journal.trusted(100) == Spans([(0, 100)])


def test_after_a_crash_only_what_was_durable_counts(journal: Journal) -> None:
    """In another run of the kernel the spans count; where runs have no name, too."""
    journal.write(Spans([(0, 40)]), ordered=True)
    assert rebooted(journal).trusted(100) == Spans([(0, 40)])
    assert Journal(journal.disk, journal.path, "").trusted(100) == Spans([(0, 40)])


def test_holes_are_never_believed(journal: Journal) -> None:
    """A file that grew at several places is good only where the journal says so."""
    journal.write(Spans([(0, 10), (50, 60)]), ordered=False)
    assert journal.trusted(100) == Spans([(0, 10), (50, 60)])


def test_a_file_that_is_shorter_than_its_journal(journal: Journal) -> None:
    """What the file does not have is not there, whatever the journal says."""
    journal.write(Spans([(0, 40), (50, 60)]), ordered=False)
    assert journal.trusted(55) == Spans([(0, 40), (50, 55)])
    assert journal.trusted(0) == Spans()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"boot":"this boot","ordered":true}',
        b'{"boot":"this boot","ordered":true,"spans":7}',
        b'{"boot":"this boot","ordered":true,"spans":[[1]]}',
        b'{"boot":"this boot","ordered":false,"spans":[["a","b"]]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_damaged_journal_trusts_nothing(journal: Journal, text: bytes) -> None:
    """Half-written or foreign: everything is fetched again."""
    journal.path.write_bytes(text)
    assert journal.trusted(100) == Spans()


def test_absurd_spans_are_cut(journal: Journal) -> None:
    """Numbers beyond the file, before its start or backwards have no effect."""
    journal.path.write_bytes(b'{"boot":"","ordered":false,"spans":[[-5,3],[9,4],[90,1e300],[7,8]]}')
    assert journal.trusted(100) == Spans([(0, 3), (7, 8), (90, 100)])


def test_removing_twice(journal: Journal) -> None:
    """Gone is gone."""
    journal.write(Spans(), ordered=True)
    journal.remove()
    journal.remove()
    assert not journal.path.exists()
