"""`qwenctl purge`: everything goes, nothing that is at work is harmed."""

from pathlib import Path

from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store
from tests.builders import model
from tests.cli.conftest import Command


def test_all_models_go(qwenctl: Command, store_path: Path) -> None:
    """Names, blobs and leftovers; the store stays one that works, and the numbers say what it held."""
    qwenctl("pull", "guide")
    qwenctl("tag", "guide", "mine:1")
    partial = store_path / "ingest" / ("a" * 64)
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(b"x" * 5000)
    data = qwenctl("purge", "--yes", "--json").data
    assert data["untagged"] == ["guide", "mine:1"]
    assert data["freed_bytes"] > 2_000_000
    assert data["kept"] == []
    assert qwenctl("list", "-q").out == ""
    assert list((store_path / "blobs/sha256").iterdir()) == []
    assert qwenctl("pull", "guide").status == 0


def test_nobody_to_ask(qwenctl: Command) -> None:
    """Without a terminal nothing goes unless `--yes` says so: status 2 and how much it would be."""
    qwenctl("pull", "guide")
    shown = qwenctl("purge")
    assert (shown.status, shown.out) == (2, "")
    assert "1 model (" in shown.err
    assert "hint: `--yes` removes them" in shown.err
    assert qwenctl("list", "-q").out != ""


def test_a_pull_at_work_is_not_disturbed(qwenctl: Command, store_path: Path) -> None:
    """It is refused; with `--force` what the pull holds stays."""
    store, made = Store.open(store_path), model()
    root = made.put(store, Reference.parse("me/tiny:1"))
    qwenctl("pull", "guide")
    with store.protect([root]):
        assert qwenctl("purge", "--yes", "--json").document["errors"][0]["code"] == "conflict"
        assert qwenctl("purge", "--force").status == 0
        assert store.exists(root)
    assert qwenctl("list", "-q").out == ""


def test_an_empty_store(qwenctl: Command) -> None:
    """Nothing to remove is no error."""
    shown = qwenctl("purge", "-y")
    assert (shown.status, shown.out, shown.err) == (0, "freed 0 B\n", "")
