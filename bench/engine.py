"""The engine over HTTP beside llama.cpp's own server, on the same file with as many threads and slots.

    python -m bench.engine LLAMA_SERVER [--pairs N] [--only NAME]… [--quick] [--json] [--check]

LLAMA_SERVER is a binary of the same llama.cpp (`python -m bench.llama_server` builds it). Two models: `half`,
Qwen2.5's 0.5B shape as Q4_K_M with random weights, where computation rules, and `guide`, the built-in one,
where everything else does. Both servers have a model loaded and take turns, every other round backwards; each
round has its own prompts, so that no answer comes from a cache by chance. One client, over bare sockets,
streams from both:

    1, 4, 8 streams   short prompts, the sampling of both set to the same values: tokens per second in all
    first token       one long prompt that nothing is known of: the time until text comes
    second turn       the same conversation with its answer and one more question: likewise
    cold              `qwenctl run` without a runner, until text comes, less what llama.cpp itself needs in a
                      fresh process to load the model and to compute one token
    memory            resident in the end, the server with its workers

The ratios are those of the rounds: the median, and in brackets the lowest and the highest. Exits with 0;
under `--check` with 1 when a target is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import psutil

from bench.engine_client import Load, Outcome, Turn, run_load
from bench.engine_models import guide_weights, write_random_half_billion
from bench.engine_servers import (
    MODEL,
    Server,
    Shape,
    end_runner,
    environ_in,
    llama_server,
    put_into_store,
    qwenctl,
)
from bench.measured import Spread

PAIRS = 5
STREAMS = (1, 4, 8)
SLOTS = 8
OURS, PEER = "qwenctl", "llama-server"
SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
QUESTIONS = (
    "What is a tag?",
    "How do I pull a model?",
    "What does a digest pin?",
    "Where are models kept?",
    "How do I free disk space?",
    "What is a manifest?",
    "How do I see what is loaded?",
    "What does exit status 5 mean?",
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, and how much is asked of it. `speeds` are the least ratios by the number of streams."""

    name: str
    title: str
    context_tokens: int
    answer_tokens: int
    questions: int
    """Of each stream, one after the other."""
    long_words: int
    speeds: dict[int, float]


HALF = Subject("half", "0.5B shape, Q4_K_M, random weights", 2048, 64, 1, 300, {1: 0.97, 4: 1.0, 8: 1.0})
GUIDE = Subject("guide", "guide model", 1024, 96, 6, 60, {1: 1.2, 4: 1.2, 8: 1.2})


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio of every round, and what it should keep."""

    name: str
    unit: str
    ours: Sequence[float]
    peers: Sequence[float]
    bound: float | None
    at_least: bool

    @property
    def ratio(self) -> Spread:
        """Ours by the peer's, round by round."""
        return Spread.of_ratios(self.ours, self.peers)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the bound; None without one."""
        if self.bound is None:
            return None
        return self.ratio.median >= self.bound if self.at_least else self.ratio.median <= self.bound


@dataclass(frozen=True, slots=True)
class Excess:
    """What ours takes beyond the peer's, round by round; the median should not be above `bound`."""

    name: str
    unit: str
    ours: Sequence[float]
    peers: Sequence[float]
    bound: float

    @property
    def beyond(self) -> Spread:
        """Ours less the peer's."""
        return Spread.of([one - other for one, other in zip(self.ours, self.peers, strict=True)])

    @property
    def met(self) -> bool:
        """Whether the median keeps the bound."""
        return self.beyond.median <= self.bound


def measure(subject: Subject, path: Path, binary: Path, pairs: int, directory: Path) -> list[Figure | Excess]:
    """All figures of one model."""
    threads = 1 if subject is GUIDE else psutil.cpu_count(logical=False) or 1
    shape = Shape(path, threads, SLOTS, subject.context_tokens)
    environ = environ_in(directory)
    put_into_store(path, environ)
    cold = [(_cold_run(environ), _bare_start(path)) for _ in range(pairs)]
    with ExitStack() as stack:
        servers = {
            OURS: stack.enter_context(qwenctl(shape, environ, directory / "qwenctl.log")),
            PEER: stack.enter_context(llama_server(binary, shape, directory / "llama-server.log")),
        }
        rounds = [dict(_round(subject, number, servers)) for number in range(pairs + 1)][
            1:
        ]  # the first warms up
        memory = {name: server.resident_bytes() / 1e6 for name, server in servers.items()}
    figures: list[Figure | Excess] = [
        _figure(f"{streams} streams", "tokens/s", rounds, bound, at_least=True)
        for streams, bound in subject.speeds.items()
    ]
    figures += [_figure(name, "ms", rounds, 1.0, at_least=False) for name in ("first token", "second turn")]
    figures.append(Excess("cold", "s", [ours for ours, _ in cold], [bare for _, bare in cold], 1.0))
    figures.append(Excess("memory", "MB", [memory[OURS]], [memory[PEER]], 120))
    return figures


def _round(
    subject: Subject, number: int, servers: dict[str, Server]
) -> Iterator[tuple[str, dict[str, float]]]:
    """The figures of one round, each by the name of the server."""
    order = [OURS, PEER] if number % 2 else [PEER, OURS]
    options = SAMPLING | {"max_tokens": subject.answer_tokens, "seed": number}
    for streams in subject.speeds:
        load = Load([_questions(subject, number, streams, lane) for lane in range(streams)], options)
        outcomes = {name: run_load(servers[name].port, MODEL, load) for name in order}
        yield f"{streams} streams", {name: out.tokens / out.wall_seconds for name, out in outcomes.items()}
    first: list[Turn] = [_user(f"{_words(number, subject.long_words)} {QUESTIONS[0]}")]
    short = options | {"max_tokens": 16, "temperature": 0}
    outcomes = {name: _one(servers[name], first, short) for name in order}
    yield "first token", {name: 1e3 * out.answers[0].first_seconds for name, out in outcomes.items()}
    turns = {
        name: [*first, {"role": "assistant", "content": out.answers[0].text}, _user(QUESTIONS[1])]
        for name, out in outcomes.items()
    }
    seconds = {name: _one(servers[name], turns[name], short) for name in order}
    yield "second turn", {name: 1e3 * out.answers[0].first_seconds for name, out in seconds.items()}


def _one(server: Server, turns: list[Turn], options: dict[str, float]) -> Outcome:
    return run_load(server.port, MODEL, Load([[turns]], dict(options)))


def _questions(subject: Subject, number: int, streams: int, lane: int) -> list[list[Turn]]:
    """The conversations of one stream, different in every round."""
    return [
        [
            _user(
                f"{_words((number * 64 + streams * 8 + lane) * 8 + index, 4)} {QUESTIONS[(lane + index) % 8]}"
            )
        ]
        for index in range(subject.questions)
    ]


def _words(seed: int, count: int) -> str:
    """Words of three letters that no other seed has, so that no cache of a server knows them."""
    chance = Random(seed)
    return " ".join("".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=3)) for _ in range(count))


def _user(text: str) -> Turn:
    return {"role": "user", "content": text}


def _figure(
    name: str, unit: str, rounds: Sequence[dict[str, dict[str, float]]], bound: float, *, at_least: bool
) -> Figure:
    of = {server: [values[name][server] for values in rounds] for server in (OURS, PEER)}
    return Figure(name, unit, of[OURS], of[PEER], bound, at_least)


def _cold_run(environ: dict[str, str]) -> float:
    """Seconds from the start of `qwenctl run` to its first text, when no runner is there."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "qwenctl", "run", MODEL, "hi", "--max-tokens", "4", "--keep-alive", "0"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        seconds = time.perf_counter() - start
    end_runner(environ)
    return seconds


_BARE = """
import sys, time
from pathlib import Path
from qwenctl.runtime.bindings import library
from qwenctl.runtime.engine import CompletionRequest, EngineOptions
from qwenctl.runtime.local import open_engine
library()
start = time.perf_counter()
engine = open_engine(EngineOptions(path=Path(sys.argv[1])))
for _ in engine.generate(CompletionRequest(prompt="hi", max_tokens=1)):
    pass
sys.stdout.write(str(time.perf_counter() - start))
"""


def _bare_start(path: Path) -> float:
    """Seconds that llama.cpp needs in a fresh process to load the model and to compute one token."""
    command = [sys.executable, "-c", _BARE, str(path)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def _line(figure: Figure | Excess) -> str:
    ours, peers = Spread.of(figure.ours).median, Spread.of(figure.peers).median
    told = f"  {figure.name:12} {ours:9.4g} {peers:9.4g} {figure.unit:9}"
    if isinstance(figure, Excess):
        spread, sign = figure.beyond, "≤"
        shown = f"{spread.median:+.3g} ({spread.low:+.3g} - {spread.high:+.3g})"
    else:
        spread, sign = figure.ratio, "≥" if figure.at_least else "≤"
        shown = f"{spread.median:.2f} ({spread.low:.2f} - {spread.high:.2f})"
    return f"{told} {shown:24} {sign} {figure.bound:<5} {'met' if figure.met else 'MISSED'}"


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("binary", type=Path, metavar="LLAMA_SERVER")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--only", action="append", choices=[HALF.name, GUIDE.name])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    pairs = 2 if arguments.quick else arguments.pairs
    results: dict[str, list[Figure | Excess]] = {}
    for subject in (HALF, GUIDE):
        if arguments.only and subject.name not in arguments.only:
            continue
        with tempfile.TemporaryDirectory() as made:
            directory = Path(made)
            half = directory / "half.gguf"
            path = write_random_half_billion(half) if subject is HALF else guide_weights()
            results[subject.name] = measure(subject, path, arguments.binary, pairs, directory)
        if not arguments.json:
            sys.stdout.write(f"\n{subject.title}, {pairs} rounds\n")
            sys.stdout.write(f"  {'':12} {OURS:>9} {PEER:>9}\n")
            sys.stdout.writelines(f"{_line(figure)}\n" for figure in results[subject.name])
            sys.stdout.flush()
    if arguments.json:
        document = {
            name: [asdict(figure) | {"met": figure.met} for figure in figures]
            for name, figures in results.items()
        }
        sys.stdout.write(f"{json.dumps(document, indent=1)}\n")
    missed = [figure for figures in results.values() for figure in figures if figure.met is False]
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
