"""OpenAI's embeddings: vectors of texts, as numbers or as base64 of 32-bit floats.

`dimensions` cuts a vector and makes it of length 1 again, which is sound for models that were trained for it
(Matryoshka representation learning; Qwen3-Embedding is). More than the model has are refused.

Source: OpenAI API reference, "Embeddings"; `overflow` is ours: `truncate` cuts the end of a text that is too
long.
"""

import math
import struct
from base64 import b64encode
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwenctl.api.exchange import answering, json_response, read_as, unless_disconnected
from qwenctl.api.host import KeepAlive, ModelHost, keep_alive_seconds
from qwenctl.api.openai_errors import refusal
from qwenctl.api.openai_inputs import texts_of
from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import Embeddings, EmbedRequest


class EmbeddingsCall(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/embeddings`; null means the same as absent."""

    model: str
    input: Any = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    overflow: Literal["refuse", "truncate"] | None = None
    keep_alive: KeepAlive = None

    def request(self) -> EmbedRequest:
        """What the engine is asked. Raises: InvalidRequest."""
        texts = texts_of(self.input, "input")
        if not all(texts):
            raise InvalidRequest("`input` has an empty text", hint="leave it out")
        if self.dimensions is not None and self.dimensions < 1:
            raise InvalidRequest(f"`dimensions` is {self.dimensions}, but at least 1 must remain")
        return EmbedRequest(texts=texts, truncate=self.overflow == "truncate")


class EmbeddingObject(msgspec.Struct, frozen=True, kw_only=True):
    """The vector of the text with this index."""

    embedding: tuple[float, ...] | str
    index: int
    object: str = "embedding"


class InputUsage(msgspec.Struct, frozen=True):
    """The token counts of a call that generates nothing."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    data: tuple[EmbeddingObject, ...]
    model: str
    usage: InputUsage
    object: str = "list"


def routes(host: ModelHost) -> list[Route]:
    """The route of embeddings."""

    @answering(refusal)
    async def embeddings(http: Request) -> Response:
        call = await read_as(http, EmbeddingsCall)
        keep_alive = keep_alive_seconds(call.keep_alive)
        work = host.embed(call.model, call.request(), keep_alive_seconds=keep_alive)
        return json_response(_answer(call, await unless_disconnected(http, work)))

    return [Route("/v1/embeddings", embeddings, methods=["POST"])]


def _answer(call: EmbeddingsCall, made: Embeddings) -> EmbeddingList:
    vectors = [shortened(vector, call.dimensions) for vector in made.vectors]
    as_text = call.encoding_format == "base64"
    return EmbeddingList(
        data=tuple(
            EmbeddingObject(embedding=b64encode(one).decode() if as_text else floats(one), index=number)
            for number, one in enumerate(vectors)
        ),
        model=call.model,
        usage=InputUsage(made.prompt_tokens, made.prompt_tokens),
    )


def shortened(vector: bytes, dimensions: int | None) -> bytes:
    """The first `dimensions` of a vector of little-endian 32-bit floats, of length 1; None leaves all.

    Raises: InvalidRequest for more than there are.
    Source: Kusupati et al., "Matryoshka Representation Learning" (2022), section 3.
    """
    values = floats(vector)
    if dimensions is None or dimensions == len(values):
        return vector
    if dimensions > len(values):
        raise InvalidRequest(f"`dimensions` is {dimensions}, but the model's vectors have {len(values)}")
    head = values[:dimensions]
    length = math.hypot(*head) or 1.0
    return struct.pack(f"<{dimensions}f", *(value / length for value in head))


def floats(vector: bytes) -> tuple[float, ...]:
    """The numbers of a vector of little-endian 32-bit floats."""
    return struct.unpack(f"<{len(vector) // 4}f", vector)
