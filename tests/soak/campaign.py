"""Many clients for a long time: `qwenctl serve` under chats, cancels, bad requests and changes of models.

    python -m tests.soak.campaign --minutes 30

Every question has a seed and its answer is asked for once when nobody else is there; later, in any company,
it must be the same. No answer may fail unless its client asked for nonsense or left, and the memory of the
server and its workers must not grow. Flash attention is off: on a CPU it lets rounding depend on company.
"""

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import psutil

from tests.runtime.runtime_builders import write_tiny_model

CLIENTS: Final = 8
CANCELLED, NONSENSE, STOPPED = 0.15, 0.1, 0.01
"""Shares of requests that are given up in mid-answer, that are refused, and of models put away between."""
GROWTH_BYTES: Final = 24 * 1024 * 1024
"""What the median of the last third of a run may have above that of the second: noise of allocators."""
_TIMEOUT_SECONDS: Final = 120
_WORDS: Final = (
    *("store", "tag", "digest", "pull", "blob", "layer", "index", "name"),
    *("size", "memory", "fit", "run", "chat", "token", "cache"),
)


@dataclass(frozen=True)
class Question:
    """A chat whose answer is fixed."""

    model: str
    text: str
    seed: int
    temperature: float
    max_tokens: int

    def body(self, stream: bool) -> dict[str, Any]:
        """The call."""
        messages = [
            {"role": "system", "content": "You answer questions about this program in one short sentence."},
            {"role": "user", "content": self.text},
        ]
        return {
            "model": self.model,
            "messages": messages,
            "seed": self.seed,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "stream": stream,
        }


@dataclass
class Figures:
    """What a campaign did and saw. `failures` should be empty."""

    seconds: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    resident_bytes: list[int] = field(default_factory=list)

    @property
    def growth_bytes(self) -> float:
        """How much more memory the last third of the run had than the second one."""
        third = len(self.resident_bytes) // 3
        if not third:
            return 0.0
        return statistics.median(self.resident_bytes[-third:]) - statistics.median(
            self.resident_bytes[third : 2 * third]
        )


class Server:
    """`qwenctl serve` with models of its own, on a free port of loopback."""

    def __init__(self, directory: Path, models: int) -> None:
        places = {"STORE": "store", "RUNTIME": "run", "STATE": "state", "CONFIG": "config.yaml"}
        self._environ = dict(os.environ) | {
            f"QWENCTL_{name}": str(directory / place) for name, place in places.items()
        }
        (directory / "config.yaml").touch()
        self.models = [f"soak{number}" for number in range(models)]
        for number, name in enumerate(self.models):
            path = write_tiny_model(directory / f"{name}.gguf", context_length=2048, seed=number)
            self._command("package", name, "--gguf", str(path))
            self._command("configure", name, "--flash-attention", "off", "--context", "1024")
        self._log = (directory / "serve.log").open("wb")
        serve = [sys.executable, "-m", "qwenctl", "serve", "--port", "0", "--json"]
        self._child = subprocess.Popen(serve, env=self._environ, stdout=subprocess.PIPE, stderr=self._log)
        assert self._child.stdout is not None
        url: str = json.loads(self._child.stdout.readline())["url"]
        self.port = int(url.rpartition(":")[2])

    def stop(self, model: str) -> None:
        """Puts a model away when nobody works on it."""
        body = json.dumps({"model": model, "prompt": "", "keep_alive": 0})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_SECONDS)
        connection.request("POST", "/api/generate", body)
        connection.getresponse().read()
        connection.close()

    def resident_bytes(self) -> int:
        """The memory of the server and its workers."""
        process, total = psutil.Process(self._child.pid), 0
        for member in [process, *process.children(recursive=True)]:
            try:
                total += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def end(self) -> int:
        """Ends it as Ctrl-C would; its exit status."""
        self._child.send_signal(signal.SIGINT)
        status = self._child.wait(60)
        assert self._child.stdout is not None
        self._child.stdout.close()
        self._log.close()
        return status

    def _command(self, *words: str) -> None:
        command = [sys.executable, "-m", "qwenctl", *words]
        subprocess.run(command, env=self._environ, check=True, capture_output=True)


class Campaign:
    """Clients at work on a server; `run` ends them."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server, self.seed = server, seed
        self.figures = Figures()
        self._guard = threading.Lock()
        self._over = threading.Event()
        chance = Random(seed)
        self._questions = [_question(chance, server.models) for _ in range(40)]
        self._answers = {question: self._ask(question, stream=False) for question in self._questions}

    def run(self, seconds: float) -> Figures:
        """Lets the clients work for so long."""
        start = time.monotonic()
        clients = [
            threading.Thread(target=self._client, args=(Random(f"{self.seed} {number}"),))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        while time.monotonic() - start < seconds and not self.figures.failures:
            self._over.wait(min(1.0, seconds / 30))
            self.figures.resident_bytes.append(self.server.resident_bytes())
        self._over.set()
        for client in clients:
            client.join()
        self.figures.seconds = time.monotonic() - start
        return self.figures

    def _client(self, chance: Random) -> None:
        while not self._over.is_set():
            question = chance.choice(self._questions)
            try:
                kind = self._turn(chance, question)
            except Exception as error:
                self._fail(f"{question}: {error!r}")
                return
            with self._guard:
                self.figures.requests[kind] += 1

    def _turn(self, chance: Random, question: Question) -> str:
        draw = chance.random()
        if draw < STOPPED:
            self.server.stop(question.model)
            return "put away"
        if draw < STOPPED + NONSENSE:
            self._nonsense(chance, question)
            return "refused"
        if draw < STOPPED + NONSENSE + CANCELLED:
            self._give_up(chance, question)
            return "given up"
        stream = chance.random() < 0.5
        answer, wanted = self._ask(question, stream=stream), self._answers[question]
        if answer != wanted:
            self._fail(f"{question}: {answer!r} instead of {wanted!r}")
        return "streamed" if stream else "whole"

    def _ask(self, question: Question, *, stream: bool) -> str:
        with self._sent(question.body(stream)) as response:
            raw = response.read()
        if response.status != 200:
            raise AssertionError(f"{response.status} {raw[:300]!r}")
        if not stream:
            text: str = json.loads(raw)["choices"][0]["message"]["content"]
            return text
        lines = [line[6:] for line in raw.split(b"\n\n") if line.startswith(b"data: ")]
        if not lines or lines[-1] != b"[DONE]":
            raise AssertionError(f"a stream without its end: {raw[-300:]!r}")
        deltas = (choice["delta"] for line in lines[:-1] for choice in json.loads(line)["choices"])
        return "".join(delta.get("content") or "" for delta in deltas)

    def _give_up(self, chance: Random, question: Question) -> None:
        """Read a little of a stream, and leave."""
        with self._sent(question.body(stream=True)) as response:
            response.read(chance.randrange(1, 2000))

    def _nonsense(self, chance: Random, question: Question) -> None:
        body = question.body(stream=chance.random() < 0.5)
        body |= chance.choice(
            (
                {"model": "nobody"},
                {"messages": []},
                {"temperature": -1},
                {"messages": [{"role": "user", "content": "long " * 4000}]},
                {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}},
                {"grammar": "root ::= ("},
            )
        )
        with self._sent(body) as response:
            raw = response.read()
        if not 400 <= response.status < 500 or "error" not in json.loads(raw):
            raise AssertionError(f"nonsense was answered with {response.status} {raw[:300]!r}")

    @contextmanager
    def _sent(self, body: dict[str, Any]) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            yield connection.getresponse()
        finally:
            connection.close()

    def _fail(self, what: str) -> None:
        with self._guard:
            self.figures.failures.append(what)


def _question(chance: Random, models: Sequence[str]) -> Question:
    text = " ".join(chance.choices(_WORDS, k=chance.randrange(2, 60)))
    temperature = chance.choice((0.0, 0.7, 1.2))
    return Question(
        chance.choice(models), text, chance.randrange(1 << 30), temperature, chance.randrange(1, 80)
    )


def main() -> int:
    """Run one; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), arguments.models)
        try:
            figures = Campaign(server, arguments.seed).run(60 * arguments.minutes)
        finally:
            status = server.end()
    first, last = figures.resident_bytes[0] / 1e6, figures.resident_bytes[-1] / 1e6
    lines = [
        f"seed {arguments.seed}, {figures.seconds:.0f} s, {sum(figures.requests.values())} requests: "
        f"{dict(figures.requests)}",
        f"memory {first:.0f} MB at first, {last:.0f} at last, grown by {figures.growth_bytes / 1e6:.1f} MB",
        *figures.failures[:5],
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if figures.failures or figures.growth_bytes > GROWTH_BYTES or status not in (0, 130) else 0


if __name__ == "__main__":
    sys.exit(main())
