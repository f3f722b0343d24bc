"""Reranking: documents in the order of how well they answer a query.

The scores are the model's own; only their order has a meaning across models.

Source: Jina's and Cohere's reranking APIs, in the form that llama.cpp's server and vLLM serve.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwenctl.api.exchange import answering, json_response, read_as, unless_disconnected
from qwenctl.api.host import KeepAlive, ModelHost, keep_alive_seconds
from qwenctl.api.openai_embeddings import InputUsage
from qwenctl.api.openai_errors import refusal
from qwenctl.api.openai_inputs import MAX_INPUTS
from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import RerankRequest, Scores


class TextDocument(msgspec.Struct, frozen=True):
    """A document as an object."""

    text: str


class RerankCall(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/rerank`; null means the same as absent."""

    model: str
    query: str
    documents: tuple[str | TextDocument, ...]
    top_n: int | None = None
    return_documents: bool | None = None
    keep_alive: KeepAlive = None

    def request(self) -> RerankRequest:
        """What the engine is asked. Raises: InvalidRequest."""
        if not self.query:
            raise InvalidRequest("`query` is empty", hint="say what the documents are to be ordered by")
        if not 0 < len(self.documents) <= MAX_INPUTS:
            raise InvalidRequest(f"`documents` has {len(self.documents)} entries, outside 1 to {MAX_INPUTS}")
        if self.top_n is not None and self.top_n < 1:
            raise InvalidRequest(f"`top_n` is {self.top_n}, but at least 1 must remain")
        return RerankRequest(query=self.query, documents=self.texts)

    @property
    def texts(self) -> tuple[str, ...]:
        """The documents' texts."""
        return tuple(one if isinstance(one, str) else one.text for one in self.documents)


class Ranked(msgspec.Struct, frozen=True):
    """A document's place in the call, and how relevant it is."""

    index: int
    relevance_score: float
    document: TextDocument | msgspec.UnsetType = msgspec.UNSET


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, the most relevant document first."""

    model: str
    results: tuple[Ranked, ...]
    usage: InputUsage
    object: str = "list"


def routes(host: ModelHost) -> list[Route]:
    """The routes of reranking, one per address that clients know."""

    @answering(refusal)
    async def rerank(http: Request) -> Response:
        call = await read_as(http, RerankCall)
        keep_alive = keep_alive_seconds(call.keep_alive)
        work = host.rerank(call.model, call.request(), keep_alive_seconds=keep_alive)
        return json_response(_answer(call, await unless_disconnected(http, work)))

    return [Route(path, rerank, methods=["POST"]) for path in ("/v1/rerank", "/rerank")]


def _answer(call: RerankCall, made: Scores) -> Ranking:
    order = sorted(range(len(made.scores)), key=lambda number: -made.scores[number])  # ties stay in order
    texts = call.texts
    return Ranking(
        model=call.model,
        results=tuple(
            Ranked(
                number,
                made.scores[number],
                TextDocument(texts[number]) if call.return_documents else msgspec.UNSET,
            )
            for number in order[: call.top_n]
        ),
        usage=InputUsage(made.prompt_tokens, made.prompt_tokens),
    )
