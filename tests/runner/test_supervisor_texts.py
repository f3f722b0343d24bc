"""Worker: texts that nobody waits for any more are not computed."""

import asyncio
import sys

import pytest

from qwenctl.runner.supervisor import Worker
from qwenctl.runtime.engine import CompletionRequest, EmbedRequest, RerankRequest

# Never answers texts; answers a count with the ids that were cancelled before it, as digits of a number.
SILENT = """
import sys
from qwenctl.runtime import wire
frames, cancelled = wire.FrameReader(), ""
while chunk := sys.stdin.buffer.raw.read(65536):
    for body in frames.feed(chunk):
        match wire.decode_command(body):
            case wire.Cancel(id):
                cancelled += str(id)
            case wire.Count(id):
                sys.stdout.buffer.write(wire.encode(wire.Counted(id, int(cancelled or 0))))
                sys.stdout.buffer.flush()
            case wire.Shutdown():
                sys.exit(0)
"""


@pytest.mark.parametrize("ranks", [False, True])
def test_who_leaves_cancels_the_texts_it_asked_for(ranks: bool) -> None:
    """The worker hears of it; a count that was answered is not cancelled."""

    async def body() -> None:
        worker = await Worker.start((sys.executable, "-c", SILENT))
        try:
            assert await worker.count_tokens(CompletionRequest(prompt="x")) == 0
            asked = (
                worker.rerank(RerankRequest(query="x", documents=("y",)))
                if ranks
                else worker.embed(EmbedRequest(texts=("x",)))
            )
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asked, 0.01)
            assert await worker.count_tokens(CompletionRequest(prompt="x")) == 2
        finally:
            await worker.close()

    asyncio.run(asyncio.wait_for(body(), 20))
