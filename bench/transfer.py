"""Transfers beside other people's programs and beside the floor of this machine.

    python -m bench.transfer [--pairs N] [--only NAME]… [--quick] [--json] [--check]

Debian's docker-registry runs on loopback and has artifacts of three shapes with contents that cannot be
compressed: 1 x 2 GiB, 200 x 1 MiB, 8 x 256 MiB. They are pulled by `qwenctl pull --no-check` and by
`skopeo copy … dir:`, and, as the floor, by curl to files without hashing; the same bytes are hashed by one
thread, and written and synced, without any transfer. Then the same over TLS for the large one; the way
back, each time to an empty registry; and our own registry serves and receives the large one beside
docker-registry, with curl as the client of both.

All take turns, so that they meet the same machine, and every other round goes backwards. Before each run the
target is removed, what is still to be written is written out, and the memory that the run will need is used
once (`bench.measured.warm_memory`). After each run the sizes of what arrived are checked, after the last
round its SHA-256. The ratios are those of the rounds: the median, and in brackets the lowest and highest.

`WALL` and `CPU/GB` are medians; the CPU is the client's, user and system; `PEAK` is the most of all runs.
`BESIDE` is how many CPUs were busy with anything but the client and its server: above a few tenths the
figures say little. On a virtual machine that returns free memory to its host the slower program pays
more for its memory, as the warm pages go back while it runs: up to a CPU second per GB.

The names for `--only` are pull-large, pull-small, pull-shards, tls-large, push-large, push-small,
push-shards, serve, receive, or their beginnings. `--quick` only tries whether all works. Exits with 0; with 1
when a transfer fails, and under `--check` when a target is missed or nothing can be measured.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.measured import Run, RunFailed, warm_memory
from bench.transfer_clients import (
    PROGRAMS,
    Place,
    check_pushed,
    fetch_with_curl,
    floor,
    missing_programs,
    pull_with_curl,
    pull_with_qwenctl,
    pull_with_skopeo,
    push_unmeasured,
    push_with_qwenctl,
    push_with_skopeo,
    send_with_curl,
)
from bench.transfer_content import SHAPES, Artifact, Shape, make_artifact
from bench.transfer_report import Case, Goal, as_json, as_text, disturbed, missed
from bench.transfer_servers import Server, docker_registry, embedded_registry, make_certificate
from qwenctl.store.store import Store

PAIRS = 5
QUICK_PAIRS = 2
MARGIN = 1.05  # memory that is warmed, by what a run writes

Turn = Callable[[bool], Run]
"""One run into an empty target, with its check; thorough in the last round."""

PEAK = Goal("peak memory", "qwenctl", None, "peak_bytes", 150e6, at_least=False)
CPU = Goal("client CPU, of skopeo's", "qwenctl", "skopeo", "cpu_seconds", 0.4, at_least=False)
SPEED = Goal("speed, times skopeo's", "skopeo", "qwenctl", "wall_seconds", None)
CURL = Goal("speed, of curl's without hashing", "curl, no hash", "qwenctl", "wall_seconds", None)
HASH = Goal("speed, of one thread's SHA-256", "sha256 alone", "qwenctl", "wall_seconds", None)
TIME = Goal("time, of skopeo's", "qwenctl", "skopeo", "wall_seconds", 0.2, at_least=False)
PULL_GOALS = {
    "large": (SPEED.of(3.5), HASH.of(0.6), CURL, CPU, PEAK),
    "small": (TIME, CURL, CPU, PEAK),
    "shards": (SPEED, HASH, CURL, CPU, PEAK),
}
TLS_GOALS = (CURL.of(0.6), SPEED, CPU.of(None), PEAK)
PUSH_GOALS = (SPEED.of(1.0), CPU.of(None), PEAK)
SERVER_CPU = Goal(
    "server CPU, of docker-registry's", "qwenctl", "docker-registry", "server_cpu_seconds", None
)
SERVED = Goal("speed, of docker-registry's", "docker-registry", "qwenctl", "wall_seconds", None)

NAMES = (
    *(f"pull-{shape.name}" for shape in SHAPES),
    "tls-large",
    *(f"push-{shape.name}" for shape in SHAPES),
    "serve",
    "receive",
)


class Bench:
    """The artifacts, the registry that has them, and the cases."""

    def __init__(self, place: Place, rounds: int, shapes: tuple[Shape, ...]) -> None:
        self._place = place
        self._rounds = rounds
        self._shapes = {shape.name: shape for shape in shapes}
        self._store = Store.open(place.directory / "source")
        self._artifacts: dict[str, Artifact] = {}
        self._registered: set[str] = set()

    def measure(self, name: str) -> Case:
        """The case of this name."""
        kind, _, shape = name.partition("-")
        if kind in ("serve", "receive"):
            return self._serve() if kind == "serve" else self._receive()
        return self._push(shape) if kind == "push" else self._pull(shape, tls=kind == "tls")

    def _artifact(self, shape: str) -> Artifact:
        if shape not in self._artifacts:
            note(f"making {self._shapes[shape].title}")
            self._artifacts[shape] = make_artifact(self._shapes[shape], self._store)
        return self._artifacts[shape]

    @contextmanager
    def _registry(self, artifact: Artifact, *, tls: bool = False) -> Iterator[Server]:
        """docker-registry with the artifact in it; all of them share one directory."""
        root = self._place.directory / "registry"
        if artifact.shape.name not in self._registered:
            note(f"pushing {artifact.shape.title} to docker-registry")
            with docker_registry(root) as server:
                push_unmeasured(self._place, server, artifact)
            self._registered.add(artifact.shape.name)
        directory = self._place.directory / f"tls-{os.urandom(4).hex()}"
        with docker_registry(root, make_certificate(directory) if tls else None) as server:
            yield server

    def _pull(self, shape: str, *, tls: bool) -> Case:
        place, artifact = self._place, self._artifact(shape)
        with self._registry(artifact, tls=tls) as server:

            def pull(client: Callable[[Place, Server, Artifact], Run], within: str, thorough: bool) -> Run:
                run = client(place, server, artifact)
                artifact.check_files(place.target / within, thorough=thorough)
                return run

            turns: dict[str, Turn] = {
                "qwenctl": partial(pull, pull_with_qwenctl, "blobs/sha256"),
                "skopeo": partial(pull, pull_with_skopeo, ""),
                "curl, no hash": partial(pull, pull_with_curl, ""),
                "sha256 alone": lambda _: floor(place, "hash", artifact),
                "write, fsync": lambda _: floor(place, "write", artifact),
            }
            runs = self._take_turns(f"{'tls' if tls else 'pull'} {shape}", turns, artifact.shape.size_bytes)
        title = f"pull {artifact.shape.title}{' over TLS' if tls else ''} from docker-registry"
        goals = TLS_GOALS if tls else PULL_GOALS[shape]
        return Case(f"{'tls' if tls else 'pull'}-{shape}", title, artifact.shape.size_bytes, runs, goals)

    def _push(self, shape: str) -> Case:
        place, artifact = self._place, self._artifact(shape)

        def push(client: Callable[[Place, Server, Artifact], Run], _: bool) -> Run:
            with docker_registry(place.target) as server:
                run = client(place, server, artifact)
                check_pushed(server, artifact)
            return run

        turns: dict[str, Turn] = {
            "qwenctl": partial(push, push_with_qwenctl),
            "skopeo": partial(push, push_with_skopeo),
        }
        runs = self._take_turns(f"push {shape}", turns, artifact.shape.size_bytes)
        title = f"push {artifact.shape.title} to an empty docker-registry"
        return Case(f"push-{shape}", title, artifact.shape.size_bytes, runs, PUSH_GOALS)

    def _serve(self) -> Case:
        place, artifact = self._place, self._artifact("large")
        artifact.tag_at("docker.io")
        with ExitStack() as stack:
            peer = stack.enter_context(self._registry(artifact))
            ours = stack.enter_context(self._embedded(self._store.path))
            turns: dict[str, Turn] = {
                "qwenctl": lambda _: fetch_with_curl(place, ours, artifact),
                "docker-registry": lambda _: fetch_with_curl(place, peer, artifact),
            }
            runs = self._take_turns("serve", turns, 0)
        title = f"serve {artifact.shape.title} to curl, thrown away there"
        return Case("serve", title, artifact.shape.size_bytes, runs, (SERVED.of(0.9), SERVER_CPU))

    def _receive(self) -> Case:
        place, artifact = self._place, self._artifact("large")

        def receive(open_server: Callable[[Path], AbstractContextManager[Server]], _: bool) -> Run:
            with open_server(place.target) as server:
                run = send_with_curl(place, server, artifact)
                check_pushed(server, artifact, blobs_only=True)
            return run

        turns: dict[str, Turn] = {
            "qwenctl": partial(receive, self._embedded),
            "docker-registry": partial(receive, docker_registry),
        }
        runs = self._take_turns("receive", turns, artifact.shape.size_bytes)
        title = f"receive {artifact.shape.title} from curl in one PUT"
        return Case("receive", title, artifact.shape.size_bytes, runs, (SERVED, SERVER_CPU))

    def _embedded(self, store: Path) -> AbstractContextManager[Server]:
        return embedded_registry(self._place.program, store, self._place.environ())

    def _take_turns(self, title: str, turns: dict[str, Turn], written_bytes: int) -> dict[str, list[Run]]:
        """All in turns, each after the same preparation."""
        runs: dict[str, list[Run]] = {name: [] for name in turns}
        for number in range(self._rounds):
            note(f"{title}: round {number + 1} of {self._rounds}")
            for name in tuple(turns)[:: -1 if number % 2 else 1]:
                self._place.clear()
                os.sync()
                warm_memory(self._place.directory, int(MARGIN * written_bytes))
                runs[name].append(turns[name](number == self._rounds - 1))
        self._place.clear()
        return runs


def note(text: str) -> None:
    """Say on stderr what is going on."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print, say whether the targets are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, metavar="N", help=f"rounds of each case, {PAIRS} by default")
    parser.add_argument("--only", action="append", metavar="NAME", help="a case, or how its name begins")
    parser.add_argument(
        "--directory", type=Path, metavar="PATH", help="where to work, on the disk to measure"
    )
    parser.add_argument("--quick", action="store_true", help="small contents, two rounds: a trial")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    arguments = parser.parse_args()
    names = [name for name in NAMES if name.startswith(tuple(arguments.only or ("",)))]
    if not names or (arguments.pairs is not None and arguments.pairs < 1):
        parser.error(f"at least one round, of the cases {', '.join(NAMES)}")
    rounds = arguments.pairs or (QUICK_PAIRS if arguments.quick else PAIRS)
    shapes = tuple(shape.quick() for shape in SHAPES) if arguments.quick else SHAPES
    with tempfile.TemporaryDirectory(prefix="qwenctl-bench-", dir=arguments.directory) as directory:
        place = Place(Path(directory))
        if obstacle := what_is_missing(place, shapes):
            note(f"not measured: {obstacle}")
            return 1 if arguments.check else 0
        try:
            cases = measure_all(Bench(place, rounds, shapes), names, arguments)
        except RunFailed as error:
            note(f"error: {error}")
            return 1
    failed = () if arguments.quick else missed(cases)
    if arguments.json:
        print(as_json(cases))
    elif not arguments.quick:
        print(f"\nmissed: {'; '.join(failed)}" if failed else "\nall targets are met")
    if busy := disturbed(cases):
        note(f"other work ran beside these, measure again: {', '.join(busy)}")
    return 1 if arguments.check and failed else 0


def what_is_missing(place: Place, shapes: Sequence[Shape]) -> str | None:
    """Why nothing can be measured: programs or space on the disk."""
    if missing := missing_programs(place):
        return f"{', '.join(missing)} missing (Debian: apt-get install {' '.join(PROGRAMS)})"
    sizes = [shape.size_bytes for shape in shapes]
    needed = int(2 * sum(sizes) + 2 * MARGIN * max(sizes))  # store and registry, one target, what is warmed
    free = shutil.disk_usage(place.directory).free
    return f"{needed >> 30} GiB are needed, {free >> 30} GiB are free" if free < needed else None


def measure_all(bench: Bench, names: Sequence[str], arguments: argparse.Namespace) -> list[Case]:
    """The cases, each shown when it is done. Raises: RunFailed."""
    cases = []
    for name in names:
        case = bench.measure(name)
        cases.append(case.without_bounds() if arguments.quick else case)
        if not arguments.json:
            print(as_text(cases[-1]), flush=True)
    return cases


if __name__ == "__main__":
    sys.exit(main())
