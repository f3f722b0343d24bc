"""Kills without warning: the real program at work in pairs, one of the two ended at a random moment.

python -m tests.crash.campaign --kills 200

After each kill, with the other process stopped where it was: every blob is what its name says, every name
is whole, `list` works. Then the same command is given again, or killed again; in the end everything is
there, and a proxy has counted what was sent twice.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from qwenctl.errors import IntegrityError, NotFound
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.reference import Reference
from qwenctl.store.gc import collect
from qwenctl.store.store import Store
from tests.crash.crash_builders import (
    LOSS,
    MIB,
    LargeModel,
    Program,
    Started,
    campaign_models,
    list_names,
    prove_content,
    prove_names,
    prove_whole,
    served,
)
from tests.crash.slow_proxy import SlowProxy, slow_proxy
from tests.remote.debian_registry import debian_registry
from tests.store.store_builders import damage

RATE = 30 * MIB
"""Bytes a second of one connection, so that a kill lands in the middle."""
IN_FLIGHT = 16 * MIB
"""What may be in sockets when a connection is given up: the kernel's largest receive buffers."""
VERBS = ("pull",) * 12 + ("push", "push", "rm", "prune", "repair", "tag")


@dataclass
class Figures:
    """What a campaign found."""

    kills: int = 0
    landed: Counter[str] = field(default_factory=Counter)
    verbs: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    files_hashed: int = 0
    most_twice: int = 0
    most_kills: int = 0
    whole: int = 0

    def __str__(self) -> str:
        where = ", ".join(f"{name} {count}" for name, count in self.landed.most_common())
        verbs = ", ".join(f"{name} {count}" for name, count in self.verbs.most_common())
        return (
            f"kills {self.kills} ({verbs})\nlanded: {where}\n"
            f"checks {self.checks}, files hashed {self.files_hashed}, blobs that became whole {self.whole}\n"
            f"most sent twice of one blob: {self.most_twice / MIB:.2f} MiB"
            f" (most kills of one blob's download: {self.most_kills})"
        )


class Campaign:
    """One store, one registry, many kills."""

    def __init__(self, program: Program, proxy: SlowProxy, models: tuple[LargeModel, ...], seed: int) -> None:
        self.program, self.proxy, self.models = program, proxy, models
        self.seed = seed
        self.chance = Random(seed)
        self.figures = Figures()
        self.store = Store.open(program.store)
        self._blobs: dict[Digest, Descriptor] = {i.digest: i for model in models for i in model.contents}
        self._kills: Counter[Digest] = Counter()
        self._uncounted: set[Digest] = set()  # a prune took away what was kept

    def run(self, kills: int) -> Figures:
        """Kill so often, then bring everything to a good end."""
        while self.figures.kills < kills:
            self._round()
        self.proxy.rate = 0
        for model in self.models:
            self._pull(model)
        self.program.run("verify", "--json")
        self._check()
        assert set(list_names(self.program)) >= {model.at(self.proxy.address) for model in self.models}
        self.program.run("prune", "--older-than", "0", "--force")
        layout = self.store.layout
        left = [path for folder in (layout.ingests, layout.leases) for path in folder.iterdir()]
        assert not [*left, *layout.root.glob(".*.draft")]
        return self.figures

    def _round(self) -> None:
        """Two processes, one kill, and what is to be said of it."""
        verbs = self.chance.choice(VERBS), self.chance.choice(VERBS)
        model = self.chance.choice(self.models)
        other_model = model if self.chance.random() < 0.3 else self.chance.choice(self.models)
        if verbs[0] == "pull" and all(self.store.exists(item) for item in model.everything):
            self._remove(model)
        broken = self._damage() if "repair" in verbs else frozenset()
        if "prune" in verbs:
            self._uncounted |= {digest for digest in self._blobs if self._partial(digest).exists()}
        self.proxy.rate, before = RATE, self.proxy.body_bytes
        other = self._start(verbs[1], other_model)
        victim = self._start(verbs[0], model)
        time.sleep(self.chance.uniform(0.3, 1.5 if verbs[0] == "pull" else 0.6))
        hit = victim.kill()
        os.kill(other.child.pid, signal.SIGSTOP)
        try:
            self._count(verbs[0], model, hit, before)
            self._check(broken)
            list_names(self.program)
        finally:
            os.kill(other.child.pid, signal.SIGCONT)
        status = other.end()
        allowed = {"prune": (0,), "pull": (0, 3) if broken else (0,)}.get(
            verbs[1], (0, 3, 5) if broken else (0, 3)
        )
        assert status in allowed, f"{other.arguments} ended with {status}: {other.errors}"
        self._check(broken)
        self._settle()
        if broken:
            self._repair(broken)
        if self.chance.random() < 0.6:
            self._again(verbs[0], model)
        while sum(self._path(digest).exists() for digest in self._blobs) > len(self._blobs) / 3:
            self._remove(self.chance.choice(self.models))

    def _start(self, verb: str, model: LargeModel) -> Started:
        name = model.at(self.proxy.address)
        copy = f"{self.proxy.address}/crash/copy-{model.name}:v{self.chance.randrange(1000)}"
        if verb == "push" and all(self.store.exists(item) for item in model.everything):
            self.store.tag(model.manifest.descriptor, Reference.parse(copy))
        commands: dict[str, tuple[str, ...]] = {
            "pull": ("pull", "--no-check", name),
            "push": ("push", copy),
            "rm": ("rm", name),
            "prune": ("prune", "--older-than", "0", "--force"),
            "repair": ("verify", "--repair"),
            "tag": ("tag", name, copy),
        }
        return self.program.start(*commands[verb])

    def _end(self, started: Started, verb: str, broken: bool) -> None:
        """A process that was left alone succeeds, but where the other one took away what it was at."""
        allowed = {0}
        if broken or verb not in ("pull", "prune"):
            allowed.add(NotFound.exit_code)
        if broken and verb != "prune":
            allowed.add(IntegrityError.exit_code)
        status = started.end()
        assert status in allowed, f"{started.arguments} ended with {status}: {started.errors}"

    def _count(self, verb: str, model: LargeModel, hit: bool, before: int) -> None:
        """Where the kill landed."""
        self.figures.kills += 1
        self.figures.verbs[verb] += 1
        partial = any(self._partial(item.digest).exists() for item in model.contents)
        if not hit:
            place = "after the end"
        elif verb != "pull":
            place = f"in {verb}"
        elif self.proxy.body_bytes == before:
            place = "before the first byte"
        else:
            place = "in a blob" if partial else "between blobs"
        self.figures.landed[place] += 1
        if hit and verb == "pull":
            self._kills.update(item.digest for item in model.contents)

    def _again(self, verb: str, model: LargeModel) -> None:
        """Give the killed command once more, to the end."""
        self.proxy.rate = 0
        name = model.at(self.proxy.address)
        if verb == "rm" and Reference.parse(name) in dict(self.store.tags()):
            self.program.run("rm", name)
        elif verb == "prune":
            self.program.run("prune", "--older-than", "0", "--force")
            self._settle()
        else:
            self._pull(model)

    def _pull(self, model: LargeModel) -> None:
        self.program.run("pull", "--no-check", model.at(self.proxy.address))
        prove_whole(self.store, model, self.proxy.address)
        self._settle()

    def _remove(self, model: LargeModel) -> None:
        """Take a model away under all its names, and everything without a name."""
        for reference, descriptor in self.store.tags():
            if descriptor == model.manifest.descriptor:
                self.store.untag(reference)
        collect(self.store)

    def _damage(self) -> frozenset[Digest]:
        """Change a byte of a layer that some name needs, where there is one."""
        named = {descriptor.digest for _, descriptor in self.store.tags()}
        needed = [m for m in self.models if m.manifest.descriptor.digest in named]
        layers = sorted({item for model in needed for item in model.manifest.layers}, key=str)
        if not layers:
            return frozenset()
        layer = self.chance.choice(layers)
        damage(self._path(layer.digest), self.chance.randrange(layer.size))
        self._uncounted.add(layer.digest)
        return frozenset({layer.digest})

    def _repair(self, broken: frozenset[Digest]) -> None:
        """What was damaged on purpose is fetched again, by whoever needs it."""
        self.proxy.rate = 0
        self.program.run("verify", "--repair")
        self._check()
        self._settle()

    def _check(self, broken: frozenset[Digest] = frozenset()) -> None:
        """The store is sound, but for what was damaged on purpose."""
        self.figures.files_hashed += prove_content(self.store.path, broken)
        prove_names(self.store, broken)
        self.figures.checks += 1

    def _settle(self) -> None:
        """What became whole did not come twice, but for what the kills may cost; count anew what is gone."""
        for digest, blob in self._blobs.items():
            if self.store.exists(blob):
                sent, kills = self.proxy.sent(digest), self._kills[digest]
                self.figures.whole += bool(sent.total)
                if digest not in self._uncounted:
                    self.figures.most_twice = max(self.figures.most_twice, sent.twice)
                    self.figures.most_kills = max(self.figures.most_kills, kills)
                    assert sent.twice <= LOSS * kills + IN_FLIGHT, (blob, sent, kills)
            elif self._partial(digest).exists():
                continue
            self.proxy.forget(digest)
            self._kills.pop(digest, None)
            self._uncounted.discard(digest)

    def _path(self, digest: Digest) -> Path:
        return self.store.layout.blob(digest)

    def _partial(self, digest: Digest) -> Path:
        return self.store.layout.ingests / f"{digest.algorithm}-{digest.hex}"


@contextmanager
def campaign(directory: Path, kind: str, seed: int) -> Iterator[Campaign]:
    """A campaign against the embedded registry, in a process of its own, or against Debian's."""
    models = campaign_models()
    with ExitStack() as stack:
        if kind == "debian":
            registry = directory / "debian"
            registry.mkdir()
            upstream = stack.enter_context(debian_registry(registry))
            maker = stack.enter_context(Program(directory / "maker", directory / "maker-store"))
            for model in models:
                model.put(Store.open(maker.store), upstream)
                maker.run("push", model.at(upstream))
        else:
            behind = Store.open(directory / "registry")
            for model in models:
                model.put(behind)
            server = stack.enter_context(Program(directory / "server", behind.path))
            upstream, _ = stack.enter_context(served(server, behind.path))
        proxy = stack.enter_context(slow_proxy(upstream, RATE))
        program = stack.enter_context(Program(directory / "home", directory / "store"))
        yield Campaign(program, proxy, models, seed)


def main() -> None:
    """Run a campaign and print what it found."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.campaign")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--registry", choices=("embedded", "debian"), default="embedded")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as directory,
        campaign(Path(directory), arguments.registry, arguments.seed) as it,
    ):
        figures = it.run(arguments.kills)
    sys.stdout.write(f"{arguments.registry} registry, seed {arguments.seed}\n{figures}\n")
    sys.stdout.write(f"wall time {time.monotonic() - begun:.0f} s\n")


if __name__ == "__main__":
    main()
