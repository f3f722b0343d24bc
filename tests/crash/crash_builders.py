"""Models large enough to be killed in the middle of, the real program, and the proof of a store."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Self

from qwenctl.model.artifact import CONFIG_V01, LICENSE_TYPE, WEIGHTS_TYPE, describe
from qwenctl.model.gguf import read_header
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest, build_manifest
from qwenctl.oci.reference import DOCKER_HUB, Reference
from qwenctl.oci.target import content_of
from qwenctl.store.reach import reach
from qwenctl.store.store import Store
from tests.builders import CREATED
from tests.contracts.target import BLOB
from tests.model.gguf_builders import gguf_file

ROOT = Path(__file__).parent.parent.parent
MIB = 1 << 20
LOSS = 32 * MIB
"""What a kill may cost of one blob: what is at stake (24 MiB), and what was on its way."""


@dataclass(frozen=True)
class LargeModel:
    """A model: its name, its manifest, and everything below it."""

    name: str
    manifest: Manifest
    contents: dict[Descriptor, bytes]

    @property
    def size(self) -> int:
        """The bytes of everything below the manifest."""
        return sum(item.size for item in self.contents)

    @property
    def everything(self) -> list[Descriptor]:
        """All that a store has to hold."""
        return [self.manifest.descriptor, *self.contents]

    def put(self, store: Store, host: str = DOCKER_HUB) -> None:
        """Make it part of a store, as a registry over that store knows it."""
        for descriptor, raw in self.contents.items():
            store.push(descriptor, content_of(raw))
        store.push(self.manifest.descriptor, content_of(self.manifest.raw))
        store.tag(self.manifest.descriptor, Reference(host, f"crash/{self.name}", "v1"))

    def at(self, host: str) -> str:
        """Its name at a registry."""
        return f"{host}/crash/{self.name}:v1"


def noise(seed: int, size: int) -> bytes:
    """Bytes that nothing can make smaller."""
    return Random(seed).randbytes(size)


def large_model(name: str, seed: int, weights_bytes: int, *others: bytes) -> LargeModel:
    """A model whose weights are of about this size, with a licence of its own and `others` as layers."""
    header = gguf_file()
    weights = header + noise(seed, weights_bytes)
    license_ = noise(seed + 1000, 2048)
    contents = {
        Descriptor.of(weights, WEIGHTS_TYPE): weights,
        Descriptor.of(license_, LICENSE_TYPE): license_,
    }
    contents |= {Descriptor.of(raw, BLOB): raw for raw in others}
    layers = tuple(contents)
    shape = Shape.of(read_header(BytesIO(header)))
    config = describe(shape, layers[0].digest, CREATED, tuple(item.digest for item in layers[1:]))
    described = Descriptor.of(config, CONFIG_V01)
    return LargeModel(name, build_manifest(described, layers), {described: config, **contents})


def campaign_models() -> tuple[LargeModel, ...]:
    """Four models of 40 to 96 MB; they share blobs of 2 KB, 1 MB and 20 MB."""
    shared, small, tiny = noise(1, 20 * MIB + 7), noise(2, MIB), noise(3, 2048)
    return (
        large_model("a", 11, 72 * MIB, shared, tiny),
        large_model("b", 12, 40 * MIB + 123, shared, small),
        large_model("c", 13, 30 * MIB, noise(4, 9 * MIB), small, tiny),
        large_model("d", 14, 6 * MIB, *(noise(20 + n, 4 * MIB + n) for n in range(8)), tiny),
    )


@dataclass
class Program:
    """The real program with a store and a home of its own."""

    home: Path
    store: Path
    environ: dict[str, str] = field(default_factory=dict)
    started: "list[Started]" = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of it is left at work."""
        for item in self.started:
            item.kill()

    def command(self, *arguments: str) -> list[str]:
        """What starts it."""
        return [sys.executable, "-m", "qwenctl", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """What it sees."""
        kept = {key: os.environ[key] for key in ("PATH", "TMPDIR") if key in os.environ}
        own = {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home), "QWENCTL_STORE": str(self.store)}
        return {**kept, **own, "PYTHONPATH": str(ROOT), "TZ": "UTC", **self.environ}

    def start(self, *arguments: str) -> "Started":
        """Begin a command. Its output goes to files."""
        self.home.mkdir(exist_ok=True)
        names = [self.home / f"{os.urandom(4).hex()}.{kind}" for kind in ("out", "err")]
        with names[0].open("wb") as out, names[1].open("wb") as err:
            child = subprocess.Popen(
                self.command(*arguments), cwd=ROOT, env=self.environment, stdout=out, stderr=err
            )
        self.started.append(Started(arguments, child, *names))
        return self.started[-1]

    def run(self, *arguments: str, status: int = 0, longest_seconds: float = 90) -> str:
        """Run a command to its end, which must be this one; what it wrote to stdout."""
        started = self.start(*arguments)
        ended = started.end(longest_seconds)
        assert ended == status, f"{arguments} ended with {ended}: {started.errors}"
        return started.output


@dataclass
class Started:
    """A command at work."""

    arguments: tuple[str, ...]
    child: "subprocess.Popen[bytes]"
    out: Path
    err: Path

    def end(self, longest_seconds: float = 90) -> int:
        """Its status, once it has ended: never with a traceback, nor as a bug."""
        status = self.child.wait(longest_seconds)
        assert "Traceback" not in self.errors, self.errors
        assert status != 1, f"{self.arguments}: {self.errors}"
        return status

    def kill(self) -> bool:
        """End it at once; whether it was still at work."""
        self.child.kill()
        return self.child.wait() == -9

    @property
    def output(self) -> str:
        """What it wrote to stdout so far."""
        return self.out.read_text(errors="surrogateescape")

    @property
    def errors(self) -> str:
        """What it wrote to stderr so far."""
        return self.err.read_text(errors="surrogateescape")


def prove_content(root: Path, but: Container[Digest] = ()) -> int:
    """Every file under `blobs/` is what its name says, but for some; how many there are."""
    count = 0
    for path in sorted(root.glob("blobs/*/*")):
        digest = Digest.parse(f"{path.parent.name}:{path.name}")
        if digest not in but:
            with path.open("rb") as file:
                assert hashlib.file_digest(file, digest.algorithm).hexdigest() == digest.hex, path
            count += 1
    return count


def prove_names(store: Store, but: Container[Digest] = ()) -> list[str]:
    """Every entry of the index is whole, but for some blobs; the tags."""
    for entry in store.entries():
        found = reach(store, [entry.descriptor])
        assert not found.unreadable, entry
        for item in found.content:
            if item.digest not in but:
                assert store.layout.blob(item.digest).stat().st_size == item.size, (entry, item)
    return [str(reference) for reference, _ in store.tags()]


def prove_whole(store: Store, model: LargeModel, host: str) -> None:
    """A model is here under its name, with the very bytes that it should have."""
    assert store.resolve(Reference.parse(model.at(host))) == model.manifest.descriptor
    for descriptor, raw in model.contents.items():
        assert store.blob_path(descriptor).read_bytes() == raw


def list_names(program: Program) -> list[str]:
    """What `list` shows; none of it with a problem."""
    models = json.loads(program.run("list", "--json"))["data"]["models"]
    assert not [row for row in models if row["problem"]], models
    return [row["reference"] for row in models]


@contextmanager
def served(program: Program, store: Path, port: int = 0) -> Iterator[tuple[str, Started]]:
    """`registry serve` over a store, in a process; its address and the process."""
    started = program.start("registry", "serve", "--store", str(store), "--port", str(port), "--json")
    try:
        while not started.output.endswith("\n"):
            assert started.child.poll() is None, started.errors
        yield json.loads(started.output.splitlines()[0])["address"], started
    finally:
        started.child.terminate()
        started.child.wait(30)
