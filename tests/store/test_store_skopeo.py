"""skopeo and the store read each other's layouts."""

import json
import subprocess
from pathlib import Path

import pytest

from qwenctl.oci.descriptor import REF_NAME
from qwenctl.oci.target import read_document
from qwenctl.store.gc import collect
from qwenctl.store.store import Store
from tests.peers import require_peer
from tests.store.store_builders import REFERENCE, blobs, prove, tagged

pytestmark = pytest.mark.peer


def skopeo(*arguments: str) -> bytes:
    """What skopeo prints."""
    program = require_peer("skopeo")
    shown = subprocess.run([program, "--insecure-policy", *arguments], capture_output=True, check=False)
    assert shown.returncode == 0, shown.stderr.decode()
    return shown.stdout


def test_skopeo_reads_a_tag_by_its_full_name(tmp_path: Path) -> None:
    """`skopeo inspect --raw oci:STORE:NAME` gives our manifest byte for byte."""
    store = Store.open(tmp_path / "store")
    manifest = tagged(store)
    assert skopeo("inspect", "--raw", f"oci:{store.path}:{REFERENCE}") == manifest.raw


def test_skopeo_copies_out(tmp_path: Path) -> None:
    """A copy by skopeo into a layout of its own has the same digests, and opens as a store."""
    store = Store.open(tmp_path / "store")
    manifest = tagged(store)
    skopeo("copy", f"oci:{store.path}:{REFERENCE}", f"oci:{tmp_path}/copy:{REFERENCE}")
    copy = Store.open(tmp_path / "copy")
    assert copy.resolve(REFERENCE).digest == manifest.descriptor.digest
    assert read_document(copy, copy.resolve(REFERENCE)) == manifest
    prove(copy)
    assert collect(copy).digests == ()


def test_skopeo_copies_in(tmp_path: Path) -> None:
    """skopeo can add to our store, under a full name or its own; ours are untouched and nothing is swept."""
    other, store = Store.open(tmp_path / "other"), Store.open(tmp_path / "store")
    ours, theirs = tagged(store, 1), tagged(other, 2)
    name = REFERENCE.tagged("theirs")
    skopeo("copy", f"oci:{other.path}:{REFERENCE}", f"oci:{store.path}:{name}")
    skopeo("copy", f"oci:{other.path}:{REFERENCE}", f"oci:{store.path}:short")
    assert store.resolve(REFERENCE).digest == ours.descriptor.digest
    assert store.resolve(name).digest == theirs.descriptor.digest
    assert [reference for reference, _ in store.tags()] == [REFERENCE, name]
    store.tag(ours.descriptor, REFERENCE.tagged("again"))
    listed = json.loads((store.path / "index.json").read_bytes())["manifests"]
    assert sorted(entry["annotations"][REF_NAME] for entry in listed) == sorted(
        [str(REFERENCE), str(name), "short", str(REFERENCE.tagged("again"))]
    )
    before = blobs(store)
    collect(store)
    assert blobs(store) == before
    prove(store)
