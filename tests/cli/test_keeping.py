"""`verify`, `prune` and `df` on the command line."""

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qwenctl.oci.digest import Digest
from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store
from tests.builders import model
from tests.cli.conftest import Command
from tests.contracts.target import push_bytes
from tests.registry.counted import counted_registry
from tests.registry.running import running_registry
from tests.store.store_builders import damage, prove

WEEKS_AGO = time.time() - 30 * 86_400


def blob(store_path: Path, digest: Digest) -> Path:
    """The file of a blob."""
    return Store.open(store_path).layout.blob(digest)


def largest_blob(store_path: Path) -> Path:
    """The weights of what was pulled."""
    return max((store_path / "blobs").glob("*/*"), key=lambda path: path.stat().st_size)


def leave_partial(store_path: Path, size: int = 10_000) -> Path:
    """An interrupted download of long ago."""
    path = Store.open(store_path).layout.disk.make_directory(store_path / "ingest")
    path /= f"sha256-{Digest.of(b'partial').hex}"
    path.write_bytes(os.urandom(size))
    os.utime(path, (WEEKS_AGO, WEEKS_AGO))
    return path


class TestVerify:
    """`qwenctl verify`."""

    def test_all_is_well(self, qwenctl: Command) -> None:
        """A line, status 0, nothing on stderr; `--all` is the same."""
        qwenctl("pull", "guide:Q8_0")
        shown = qwenctl("verify")
        assert (shown.status, shown.err) == (0, "")
        assert shown.out.startswith("checked 4 blobs of 1 model: ")
        assert qwenctl("verify", "--all").out == shown.out

    def test_damage(self, qwenctl: Command, store_path: Path) -> None:
        """A row on stdout, the models that it harms and the next step on stderr, status 5."""
        qwenctl("pull", "guide:Q8_0")
        qwenctl("tag", "guide:Q8_0", "mine:v1")
        path = largest_blob(store_path)
        damage(path)
        shown = qwenctl("verify", "guide:Q8_0")
        assert shown.status == 5
        assert shown.out.splitlines()[2].split() == ["STATE", "DIGEST", "SIZE", "OUTCOME", "NEEDED", "BY"]
        row = shown.out.splitlines()[3]
        assert row.startswith(f"wrong digest  {path.name[:12]}")
        assert row.endswith("moved aside  guide:Q8_0, mine:v1")
        assert shown.err.splitlines() == [
            "error: 1 of 4 blobs damaged or missing, needed by `guide:Q8_0`, `mine:v1`",
            "hint: `qwenctl verify guide:Q8_0 --repair` fetches them again, and so does a pull",
        ]
        assert "damaged blobs" in qwenctl("status").out
        assert "2.06 MiB downloaded" in qwenctl("pull", "guide:Q8_0").out
        assert qwenctl("verify").status == 0

    def test_a_failure_has_its_data(self, qwenctl: Command, store_path: Path) -> None:
        """With `--json`: a line for each blob, then the envelope with error and report."""
        qwenctl("pull", "guide:Q8_0")
        path = largest_blob(store_path)
        path.unlink()
        shown = qwenctl("verify", "--json")
        assert (shown.status, shown.err) == (5, "")
        lines = [json.loads(line) for line in shown.out.splitlines()]
        checked = {line["digest"]: line["state"] for line in lines[:-1] if line["event"] == "checked"}
        assert len(checked) == 4
        assert checked[f"sha256:{path.name}"] == "missing"
        document = shown.document
        assert (document["status"], document["exit_code"]) == ("error", 5)
        assert document["errors"][0]["code"] == "store_damaged"
        (row,) = document["data"]["damaged"]
        assert (row["digest"], row["models"]) == (f"sha256:{path.name}", ["guide:Q8_0"])

    def test_repair_of_a_built_in_model(self, qwenctl: Command, store_path: Path) -> None:
        """From the built-in registry, without a network; status 0, and said."""
        qwenctl("pull", "guide:Q8_0")
        damage(largest_blob(store_path))
        shown = qwenctl("verify", "--repair")
        assert (shown.status, shown.err) == (0, "")
        assert "repaired  guide:Q8_0" in shown.out
        prove(Store.open(store_path))

    def test_repair_over_the_network(self, qwenctl: Command, store_path: Path, tmp_path: Path) -> None:
        """Only the damaged blob is fetched from the model's registry."""
        remote, made = Store.open(tmp_path / "remote"), model(1, 100_000)
        made.put(remote, Reference.parse("me/model:v1"))
        with counted_registry(remote) as counted:
            name = f"{counted.address}/me/model:v1"
            assert qwenctl("pull", name, "--no-check").status == 0
            weights = made.manifest.layers[0]
            damage(blob(store_path, weights.digest))
            counted.requests.clear()
            shown = qwenctl("verify", name, "--repair", "--json")
            assert shown.status == 0
            assert [blob["repaired"] for blob in shown.data["damaged"]] == [True]
            fetched = [path.rpartition("/")[2] for method, path in counted.requests if method == "GET"]
            assert set(fetched) == {str(weights.digest)}
        prove(Store.open(store_path))

    def test_what_cannot_be_repaired(self, qwenctl: Command, store_path: Path, tmp_path: Path) -> None:
        """The registry no longer has it: status 5, and why, for each blob."""
        remote, made = Store.open(tmp_path / "remote"), model(1)
        made.put(remote, Reference.parse("me/model:v1"))
        weights = made.manifest.layers[0]
        with running_registry(remote) as address:
            name = f"{address}/me/model:v1"
            qwenctl("pull", name, "--no-check")
            damage(blob(store_path, weights.digest))
            remote.layout.blob(weights.digest).unlink()
            shown = qwenctl("verify", name, "--repair")
        assert shown.status == 5
        assert "not repaired: " in shown.out
        assert "the reasons are listed" in shown.err

    def test_by_id_and_unknown(self, qwenctl: Command) -> None:
        """An id is a name too; what is not here is status 3; names and `--all` together are status 2."""
        qwenctl("pull", "guide:Q8_0")
        short = qwenctl("list", "-q").out.strip()
        assert qwenctl("verify", short).status == 0
        assert qwenctl("verify", "nope").status == 3
        assert qwenctl("verify", "guide:Q8_0", "--all").status == 2

    def test_strays_are_a_warning(self, qwenctl: Command, store_path: Path) -> None:
        """A file that is no blob harms nobody."""
        qwenctl("pull", "guide:Q8_0")
        (store_path / "blobs" / "sha256" / ".DS_Store").touch()
        shown = qwenctl("verify")
        assert shown.status == 0
        assert ".DS_Store` is no blob" in shown.err

    def test_a_damaged_index(self, qwenctl: Command, store_path: Path) -> None:
        """An entry that cannot be read is told, and the other models are checked."""
        qwenctl("pull", "guide:Q8_0")
        index = store_path / "index.json"
        document = json.loads(index.read_text())
        document["manifests"].append({"digest": "sha256:x"})
        index.write_text(json.dumps(document))
        shown = qwenctl("verify")
        assert shown.status == 5
        assert "checked 4 blobs of 1 model" in shown.out
        assert "index.json: manifests[1]" in shown.out
        assert "1 document cannot be read" in shown.err


class TestPrune:
    """`qwenctl prune`."""

    def test_nothing_to_remove(self, qwenctl: Command) -> None:
        """Nobody is asked, with or without a terminal."""
        qwenctl("pull", "guide:Q8_0")
        assert qwenctl("prune").out == "nothing to remove\n"

    def test_dry_run_then_for_real(self, qwenctl: Command, store_path: Path) -> None:
        """The same rows; only the second removes. Without a terminal it wants `--force`."""
        partial = leave_partial(store_path)
        dry = qwenctl("prune", "--dry-run")
        assert dry.status == 0
        assert dry.out.splitlines()[0].split() == ["WHAT", "DIGEST", "SIZE", "AGE"]
        assert dry.out.splitlines()[-1].startswith("would free ")
        refused = qwenctl("prune")
        assert (refused.status, partial.exists()) == (2, True)
        assert "`--force`" in refused.err
        assert qwenctl("prune", "--json").document["errors"][0]["code"] == "usage"
        done = qwenctl("prune", "-f")
        assert (done.status, partial.exists()) == (0, False)
        assert done.out.splitlines()[1].startswith(f"partial download  {Digest.of(b'partial').short}")
        assert done.out.splitlines()[-1].startswith("freed ")

    def test_json(self, qwenctl: Command, store_path: Path) -> None:
        """Every thing with kind, digest, sizes and age."""
        leave_partial(store_path)
        loose = push_bytes(Store.open(store_path), b"loose")
        data = qwenctl("prune", "--older-than", "0", "--force", "--json").data
        assert [(item["kind"], item["digest"]) for item in data["removed"]] == [
            ("blob", str(loose.digest)),
            ("partial", str(Digest.of(b"partial"))),
        ]
        assert data["dry_run"] is False
        assert data["freed_bytes"] == sum(item["freed_bytes"] for item in data["removed"])

    def test_what_is_young_is_told(self, qwenctl: Command, store_path: Path) -> None:
        """With the option that would take it."""
        os.utime(leave_partial(store_path))
        shown = qwenctl("prune", "--dry-run")
        assert shown.out == "nothing to remove\n"
        assert "kept 1 partial download (" in shown.err
        assert "`--older-than`" in shown.err
        assert "partial download" in qwenctl("prune", "--dry-run", "--older-than", "0").out

    @pytest.mark.parametrize("age", ["soon", "7", "-1"])
    def test_ages(self, qwenctl: Command, store_path: Path, age: str) -> None:
        """What is no age is refused; a number is seconds, forever takes nothing."""
        leave_partial(store_path)
        shown = qwenctl("prune", "--dry-run", "--older-than", age)
        assert shown.status == (2 if age == "soon" else 0)
        assert ("partial download" in shown.out) == (age == "7")

    def test_a_manifest_that_cannot_be_read(self, qwenctl: Command, store_path: Path) -> None:
        """Nothing that it may need goes, and what to do is said."""
        qwenctl("pull", "guide:Q8_0")
        push_bytes(Store.open(store_path), b"loose")
        root = qwenctl("list", "--json").data["models"][0]["id"]
        damage(blob(store_path, Digest.parse(root)))
        shown = qwenctl("prune", "--older-than", "0", "-f")
        assert shown.status == 0
        assert "cannot be read\nhint: `qwenctl verify --repair`" in shown.err
        assert qwenctl("verify", "--repair").status == 0
        assert "unreferenced blob" in qwenctl("prune", "--older-than", "0", "-f").out

    @pytest.mark.parametrize(("answer", "stays"), [(b"y\n", False), (b"\n", True), (b"no\n", True)])
    def test_a_person_is_asked(self, store_path: Path, answer: bytes, stays: bool) -> None:
        """On a terminal: what would go, a question, and nothing without a yes."""
        partial = leave_partial(store_path)
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "qwenctl", "prune"], stdin=theirs, stdout=theirs, stderr=theirs
        ) as child:
            os.close(theirs)
            shown = b""
            while b"[y/N]" not in shown:
                shown += os.read(ours, 4096)
            assert b"partial download" in shown
            os.write(ours, answer)
            assert child.wait(20) == 0
        os.close(ours)
        assert partial.exists() == stays


class TestDf:
    """`qwenctl df`."""

    def test_a_table(self, qwenctl: Command, store_path: Path) -> None:
        """Parts, a total, what is free; and what can go on stderr."""
        qwenctl("pull", "guide:Q8_0")
        leave_partial(store_path)
        shown = qwenctl("df")
        assert shown.status == 0
        lines = shown.out.splitlines()
        assert lines[0].split() == ["WHAT", "COUNT", "ON", "DISK", "RECLAIMABLE"]
        assert [line.split("  ")[0] for line in lines[1:5]] == [
            "blobs of 1 model",
            "partial downloads",
            "index and other files",
            "all",
        ]
        assert lines[-1].endswith(f"free at {store_path}")
        assert "`qwenctl prune` frees" in shown.err

    def test_verbose(self, qwenctl: Command, store_path: Path) -> None:
        """Every model with what it shares, every partial download."""
        qwenctl("pull", "guide:Q8_0")
        qwenctl("pull", "guide:Q4_K_M")
        leave_partial(store_path)
        shown = qwenctl("df", "-v").out
        assert shown.splitlines()[0].split() == ["MODEL", "ID", "SIZE", "SHARED", "UNIQUE"]
        assert "guide:Q4_K_M" in shown
        assert Digest.of(b"partial").short in shown

    def test_json(self, qwenctl: Command, store_path: Path) -> None:
        """The parts add up to the total."""
        qwenctl("pull", "guide:Q8_0")
        leave_partial(store_path)
        data = qwenctl("df", "--json").data
        parts = ("blobs", "unreferenced", "partial_downloads", "uploads", "damaged", "other")
        assert sum(data[part]["disk_bytes"] for part in parts) == data["disk_bytes"]
        assert data["partials"][0]["present_bytes"] == 10_000
        assert data["models"][0]["names"] == ["guide:Q8_0"]

    def test_an_empty_store(self, qwenctl: Command) -> None:
        """Has no models and takes next to nothing."""
        shown = qwenctl("df")
        assert (shown.status, shown.err) == (0, "")
        assert "blobs of 0 models" in shown.out
