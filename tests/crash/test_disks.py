"""Disks as they are: small, full, read-only, elsewhere, behind a link, with strange names, damaged."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from qwenctl.flows.views import list_models
from qwenctl.oci.descriptor import REF_NAME, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.reference import DOCKER_HUB, Reference
from qwenctl.oci.target import Reader
from qwenctl.store.layout import Entries
from qwenctl.store.store import Store
from tests.crash.conftest import Install
from tests.crash.crash_builders import (
    MIB,
    LargeModel,
    Program,
    large_model,
    list_names,
    noise,
    prove_content,
    prove_names,
    prove_whole,
    served,
)
from tests.crash.loop_disks import mounted
from tests.crash.slow_proxy import SlowProxy, slow_proxy

pytestmark = pytest.mark.slow

SHARED: Final = noise(60, 3 * MIB)
LARGE: Final = large_model("large", 61, 24 * MIB, SHARED, noise(62, 2048))
DAMAGED: Final = (b"", b"{", b"[]", b'{"manifests": [1]}', b"\0" * 400, b"\xff\xfe", b"[" * 9999)
SMALL: Final = large_model("small", 63, MIB, SHARED)


@pytest.fixture
def registry(install: Install) -> Iterator[str]:
    """A registry that has two models."""
    server = install("server")
    for model in (LARGE, SMALL):
        model.put(Store.open(server.store))
    with served(server, server.store) as (address, _):
        yield address


@pytest.fixture
def proxy(registry: str) -> Iterator[SlowProxy]:
    """A line to it."""
    with slow_proxy(registry) as line:
        yield line


def pull(program: Program, model: LargeModel, host: str) -> None:
    """Pull, and see that the model is there."""
    program.run("pull", "--no-check", model.at(host))
    prove_whole(Store.open(program.store), model, host)


def failure(program: Program, status: int, *arguments: str) -> dict[str, str]:
    """The error of a command that ends with this status; it says what to do next."""
    envelope = json.loads(program.run(*arguments, "--json", status=status).splitlines()[-1])
    assert envelope["exit_code"] == status
    (error,) = envelope["errors"]
    found: dict[str, str] = error
    assert found["hint"]
    return found


def test_what_does_not_fit_is_not_begun(tmp_path: Path, install: Install, proxy: SlowProxy) -> None:
    """On a disk that is too small a pull fails before the first byte of a blob, and says both numbers."""
    with mounted(tmp_path / "tiny", "-t", "tmpfs", "-o", "size=20M", "tmpfs") as disk:
        program = install("home", disk / "store")
        error = failure(program, 6, "pull", "--no-check", LARGE.at(proxy.address))
        assert "27.0 MiB are missing" in error["message"]
        assert "19.9 MiB free" in error["message"] or "20.0 MiB free" in error["message"]
        assert not proxy.of_blobs
        pull(program, SMALL, proxy.address)


def test_a_disk_that_fills_up_in_the_middle(tmp_path: Path, install: Install, proxy: SlowProxy) -> None:
    """When somebody else takes the room the pull ends with status 6, and goes on once there is room again."""
    with mounted(tmp_path / "tiny", "-t", "tmpfs", "-o", "size=40M", "tmpfs") as disk:
        program = install("home", disk / "store")
        proxy.rate = 10 * MIB
        pulling = program.start("pull", "--no-check", LARGE.at(proxy.address), "--json")
        proxy.wait_for(12 * MIB)
        with (disk / "other").open("wb", buffering=0) as other, pytest.raises(OSError, match="No space"):
            while True:
                other.write(bytes(MIB))
        assert pulling.end() == 6, pulling.errors
        (error,) = json.loads(pulling.output.splitlines()[-1])["errors"]
        assert "are missing" in error["message"]
        assert "free some space" in error["hint"]
        assert prove_names(Store.open(program.store)) == []
        list_names(program)
        again = failure(program, 6, "pull", "--no-check", LARGE.at(proxy.address))
        assert "free" in again["message"]
        (disk / "other").unlink()
        pull(program, LARGE, proxy.address)
        assert max(proxy.sent(item.digest).twice for item in LARGE.contents) <= 16 * MIB
        assert Store.open(program.store).usage().partial_bytes == 0


def test_a_store_that_can_only_be_read(tmp_path: Path, install: Install, proxy: SlowProxy) -> None:
    """What only reads works on a read-only disk; a pull says what is wrong, and no more."""
    writer = install("home")
    pull(writer, SMALL, proxy.address)
    name = SMALL.at(proxy.address)
    with (
        mounted(tmp_path / "read-only", "--bind", str(writer.store)) as disk,
        mounted(disk, "-o", "remount,ro,bind"),
    ):
        reader = install("reader", disk)
        assert list_names(reader) == [name]
        for command in ("show", "inspect"):
            assert json.loads(reader.run(command, name, "--json"))["status"] == "ok"
        assert json.loads(reader.run("pull", "--no-check", name, "--json").splitlines()[-1])["data"][
            "up_to_date"
        ]
        for arguments in (
            ("pull", "--no-check", LARGE.at(proxy.address)),
            ("tag", name, "mine:v1"),
            ("rm", name),
        ):
            error = failure(reader, 2, *arguments)
            assert "read-only file system" in error["message"]
        reader.run("push", name)
        assert reader.run("prune", "--dry-run")
        assert reader.run("df")
        reader.run("verify", name)
    prove_whole(Store.open(writer.store), SMALL, proxy.address)


def test_a_store_on_another_disk(tmp_path: Path, install: Install, proxy: SlowProxy) -> None:
    """The store need not be where home and the temporary files are."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=100M", "tmpfs") as disk:
        program = install("home", disk / "models" / "store")
        assert disk.stat().st_dev != program.home.stat().st_dev
        pull(program, LARGE, proxy.address)
        program.run("rm", LARGE.at(proxy.address))
        assert prove_content(program.store) == 0


def test_a_store_behind_a_link(tmp_path: Path, install: Install, proxy: SlowProxy) -> None:
    """A link to the store is the store, also one that leads to a directory of which nothing is made yet."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    program = install("home", tmp_path / "link")
    pull(program, SMALL, proxy.address)
    assert (tmp_path / "link").is_symlink()
    prove_whole(Store.open(tmp_path / "disk"), SMALL, proxy.address)


@pytest.mark.parametrize("name", ["with two  spaces", "Größe 模型 🦙", "-rf", "a'b\"c$(d)`e`", "[x]*?"])
def test_a_path_with_strange_characters(
    tmp_path: Path, install: Install, proxy: SlowProxy, name: str
) -> None:
    """The path of the store may have any characters: everything works there."""
    program = install("home", tmp_path / name / "store")
    proxy.rate = 20 * MIB
    killed = program.start("pull", "--no-check", LARGE.at(proxy.address))
    proxy.wait_for(10 * MIB)
    killed.kill()
    proxy.rate = 0
    assert "partial download" in program.run("prune", "--older-than", "0", "--force")
    pull(program, LARGE, proxy.address)
    assert list_names(program) == [LARGE.at(proxy.address)]
    program.run("verify")
    program.run("rm", LARGE.at(proxy.address))
    assert prove_content(program.store) == 0


def test_a_path_that_is_not_text(install: Install, proxy: SlowProxy, tmp_path: Path) -> None:
    """Also bytes that are no text in any encoding."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    program = install("home", path, PYTHONIOENCODING="utf-8:strict")  # as in a locale of a language
    pull(program, SMALL, proxy.address)
    assert list_names(program) == [SMALL.at(proxy.address)]
    for command in (("df",), ("df", "--json"), ("status",), ("verify", "--json")):
        program.run(*command)
    program.store.joinpath("index.json").write_text("{")
    program.run("list", status=5)
    document = json.loads(program.run("list", "--json", status=5))
    assert os.fsencode(program.store) in os.fsencode(document["errors"][0]["message"])


def test_a_file_where_the_store_should_be(tmp_path: Path, install: Install, proxy: SlowProxy) -> None:
    """Said, and not touched."""
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        program = install(f"home-{path.name}", path)
        for command in (("list",), ("pull", "--no-check", SMALL.at(proxy.address))):
            assert str(tmp_path / "file") in failure(program, 2, *command)["message"]
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"manifests": [1]}', b"\0" * 400, b"\xff\xfe", b"[" * 9999]
)
def test_a_damaged_index(install: Install, proxy: SlowProxy, raw: bytes) -> None:
    """Every command says which file is damaged, and leaves it and the content as they are."""
    program = install("home")
    pull(program, SMALL, proxy.address)
    index = program.store / "index.json"
    index.write_bytes(raw)
    name = SMALL.at(proxy.address)
    for command in (
        ("list",),
        ("show", name),
        ("tag", name, "mine:v1"),
        ("rm", name),
        ("prune", "--older-than", "0", "--force"),
        ("pull", "--no-check", name),
    ):
        error = json.loads(program.run(*command, "--json", status=5).splitlines()[-1])["errors"][0]
        assert str(index) in error["message"], command
    assert index.read_bytes() == raw
    assert prove_content(program.store) == len(SMALL.everything)


def test_two_registries_share_content(install: Install, registry: str) -> None:
    """What one registry brought is not fetched from the other, and stays when the first name goes."""
    with slow_proxy(registry) as one, slow_proxy(registry) as two:
        program = install("home")
        pull(program, SMALL, one.address)
        pull(program, LARGE, two.address)
        assert two.sent(Digest.of(SHARED)).total == 0
        program.run("rm", SMALL.at(one.address))
        prove_whole(Store.open(program.store), LARGE, two.address)
        assert prove_content(program.store) == len(LARGE.everything)


def many_tags(path: Path, count: int) -> Store:
    """A store with so many names of one small model."""
    store = Store.open(path)
    SMALL.put(store)
    (entry,) = store.entries()
    names = (f"docker.io/ai/model-{number % 97}:v{number}" for number in range(count))
    rows = [entry.document | {"annotations": {REF_NAME: name}} for name in names]
    index = path / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"manifests": rows}))
    return store


class CountingStore(Store):
    """A store that counts how often content is opened, and the index read."""

    opened = 0
    indexes = 0

    def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None) -> Reader:
        """See `Store`."""
        self.opened += 1
        return super().fetch(descriptor, offset, length)

    def entries(self) -> Entries:
        """See `Store`."""
        self.indexes += 1
        return super().entries()


def test_a_model_is_read_once_for_all_its_names(tmp_path: Path) -> None:
    """A list costs what the models cost, and the names next to nothing."""
    counts = []
    for number in (10, 1000):
        many_tags(tmp_path / str(number), number)
        store = CountingStore.open(tmp_path / str(number))
        assert len(list_models(store)) == number
        counts.append((store.opened, store.indexes))
    assert counts[0] == counts[1]


def test_many_names_are_listed(tmp_path: Path, install: Install) -> None:
    """Ten thousand names are listed, found and changed."""
    program = install("home")
    store = many_tags(program.store, 10_000)
    assert len(set(list_names(program))) == 10_000
    program.run("tag", "model-3:v3", "mine:v1")
    program.run("rm", "model-4:v4")
    assert len(store.tags()) == 10_000
    assert store.resolve(Reference(DOCKER_HUB, "ai/mine", "v1")) == SMALL.manifest.descriptor
