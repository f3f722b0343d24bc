"""Texts that become vectors or scores, over a worker's pipes."""

import struct
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from qwenctl.errors import GenerationFailed, InvalidRequest
from qwenctl.runtime import wire
from qwenctl.runtime.engine import (
    CompletionRequest,
    Embeddings,
    EmbedRequest,
    EngineOptions,
    RerankRequest,
    Wanted,
    always,
)
from qwenctl.runtime.events import Finished
from qwenctl.runtime.local import open_engine
from qwenctl.runtime.scripted import ScriptedEngine
from qwenctl.runtime.worker import Worker
from tests.runtime.text_models import RANK, write_bert
from tests.runtime.worker_client import WorkerClient

NOWHERE = EngineOptions(path=Path("/nowhere"))
TEXTS = ("one", "two texts", "three")


class SlowToEmbed(ScriptedEngine):
    """Makes no vector before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()
        self.asked: SimpleQueue[tuple[str, ...]] = SimpleQueue()

    def embed(self, request: EmbedRequest, wanted: Wanted = always) -> Embeddings:
        """See `ScriptedEngine`."""
        self.asked.put(request.texts)
        self.may.wait()
        if not wanted():
            raise GenerationFailed("not wanted")
        return super().embed(request, wanted)


def test_vectors_and_scores_come_over_the_pipes(tmp_path: Path) -> None:
    """As the engine makes them here; the model says what it is for."""
    for path, purpose in (
        (write_bert(tmp_path / "vectors.gguf"), "embedding"),
        (write_bert(tmp_path / "scores.gguf", pooling=RANK, ranks=True), "ranking"),
    ):
        options = EngineOptions(path=path)
        engine = open_engine(options)
        with WorkerClient("-m", "qwenctl.runtime.worker") as worker:
            worker.send(wire.Load(options))
            loaded = worker.receive()
            assert isinstance(loaded, wire.Loaded) and loaded.model.purpose == purpose
            if purpose == "embedding":
                texts = EmbedRequest(texts=TEXTS)
                worker.send(wire.Embed(1, texts))
                assert worker.receive() == wire.Embedded(1, engine.embed(texts))
            else:
                query = RerankRequest(query="one", documents=TEXTS)
                worker.send(wire.Rerank(2, query))
                assert worker.receive() == wire.Ranked(2, engine.rerank(query))
            worker.send(wire.Generate(3, CompletionRequest(prompt="x")))
            refused = worker.receive()
            assert isinstance(refused, wire.Failed) and isinstance(refused.error(), InvalidRequest)
        engine.close()


def test_texts_keep_nobody_waiting() -> None:
    """While vectors are made, requests are counted and answered; the vectors come in their order."""
    outbox: SimpleQueue[wire.Report | None] = SimpleQueue()
    engine = SlowToEmbed()
    worker = Worker(lambda _: engine, outbox)
    worker.handle(wire.Load(NOWHERE))
    assert isinstance(outbox.get(), wire.Loaded)
    worker.handle(wire.Embed(1, EmbedRequest(texts=("a",))))
    worker.handle(wire.Embed(2, EmbedRequest(texts=("ab",))))
    worker.handle(wire.Count(3, CompletionRequest(prompt="abc")))
    assert outbox.get() == wire.Counted(3, 3)
    worker.handle(wire.Generate(4, CompletionRequest(prompt="abc")))
    while not isinstance(report := outbox.get(), wire.Emitted) or not isinstance(report.event, Finished):
        assert isinstance(report, wire.Emitted)
    engine.may.set()
    assert [outbox.get() for _ in range(2)] == [
        wire.Embedded(1, engine.embed(EmbedRequest(texts=("a",)))),
        wire.Embedded(2, engine.embed(EmbedRequest(texts=("ab",)))),
    ]
    worker.close()


def test_an_embedding_asked_for_while_the_model_loads_waits_for_it() -> None:
    """Commands are taken in their order."""
    outbox: SimpleQueue[wire.Report | None] = SimpleQueue()
    worker = Worker(lambda _: ScriptedEngine(), outbox)
    worker.handle(wire.Load(NOWHERE))
    worker.handle(wire.Embed(1, EmbedRequest(texts=("a",))))
    assert isinstance(outbox.get(), wire.Loaded)
    embedded = outbox.get()
    assert isinstance(embedded, wire.Embedded)
    assert struct.unpack("<2f", embedded.embeddings.vectors[0])[0] == pytest.approx(1, abs=1e-3)
    worker.close()


def test_more_texts_than_a_frame_holds_are_refused() -> None:
    """Before they are computed: two numbers of four bytes each, in half a frame."""
    outbox: SimpleQueue[wire.Report | None] = SimpleQueue()
    worker = Worker(lambda _: ScriptedEngine(), outbox)
    worker.handle(wire.Load(NOWHERE))
    outbox.get()
    most = wire.MAX_FRAME_BYTES // 2 // 8
    worker.handle(wire.Embed(1, EmbedRequest(texts=("",) * (most + 1))))
    report = outbox.get()
    assert isinstance(report, wire.Failed) and str(most) in (report.hint or "")
    worker.close()


def test_texts_that_nobody_waits_for_are_dropped() -> None:
    """One that is computed learns of it, one that waits is not begun; the next has its answer."""
    outbox: SimpleQueue[wire.Report | None] = SimpleQueue()
    engine = SlowToEmbed()
    worker = Worker(lambda _: engine, outbox)
    worker.handle(wire.Load(NOWHERE))
    assert isinstance(outbox.get(), wire.Loaded)
    for id in (1, 2, 3):
        worker.handle(wire.Embed(id, EmbedRequest(texts=("a" * id,))))
    assert engine.asked.get() == ("a",)
    for id in (1, 2):
        worker.handle(wire.Cancel(id))
    engine.may.set()
    reports = [outbox.get() for _ in range(3)]
    assert [type(report) for report in reports] == [wire.Failed, wire.Failed, wire.Embedded]
    assert engine.asked.get() == ("aaa",)
    worker.close()


def test_an_engine_stops_between_groups_of_texts(tmp_path: Path) -> None:
    """As soon as the vectors are not wanted any more; and goes on to serve."""
    engine = open_engine(EngineOptions(path=write_bert(tmp_path / "vectors.gguf")))
    asked: list[int] = []

    def wanted() -> bool:
        asked.append(1)
        return len(asked) < 3

    with pytest.raises(GenerationFailed, match="nobody waits"):
        engine.embed(EmbedRequest(texts=("one",) * 200), wanted)
    assert engine.stats().decode_calls == 2
    assert len(engine.embed(EmbedRequest(texts=TEXTS)).vectors) == 3
    engine.close()
