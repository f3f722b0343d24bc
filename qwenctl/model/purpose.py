"""What a model is for: to go on with a text, to turn texts into vectors, or to rank documents.

Source: llama.cpp include/llama.h (`llama_pooling_type`), src/llama-model.cpp (`create_memory`: the
architectures without a KV cache), src/llama-hparams.h (`causal_attn`).
"""

from dataclasses import dataclass
from typing import Final, Literal, Self

from qwenctl.model.shape import Shape

Purpose = Literal["text", "embedding", "ranking"]
"""Generates; gives vectors and generates nothing; scores documents for a query."""

Pooling = Literal["none", "mean", "cls", "last", "rank"]
"""How the vectors of a text's tokens become one: not at all, their mean, that of the first token, that of
the last one, a score.
"""

POOLING_NUMBERS: Final[dict[Pooling, int]] = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
"""Source: llama.h, enum llama_pooling_type."""

ENCODERS: Final = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
    }
)
"""Architectures whose tokens see those behind them too, so that nothing can be generated."""


@dataclass(frozen=True, slots=True)
class Use:
    """A model's purpose, and how it makes one vector of a text.

    `whole`: a text must be computed in one piece, because all of its tokens count, or see each other.
    """

    purpose: Purpose
    pooling: Pooling
    whole: bool

    @classmethod
    def read(cls, architecture: str, pooling_type: int | None, *, causal: bool = True) -> Self:
        """The use of a model whose file says this of its `pooling_type` and `attention.causal`.

        Where it says nothing, an encoder's vector is the mean of its tokens', and that of a model which
        generates is its last token's, the only one that has seen the whole text. Ollama does the same with
        such a model (runner/llamarunner: `GetEmbeddingsSeq`, else that of the last token); llama-server
        refuses until it is told.
        """
        said: Pooling = "none"
        for name, number in POOLING_NUMBERS.items():
            said = name if number == pooling_type else said
        encoder = architecture in ENCODERS
        pooling: Pooling = said if said != "none" else "mean" if encoder else "last"
        whole = encoder or not causal or pooling not in ("last", "rank")
        if pooling == "rank":
            return cls("ranking", pooling, whole)
        return cls("embedding" if encoder or said != "none" else "text", pooling, whole)

    @classmethod
    def of(cls, shape: Shape) -> Self:
        """The use of the model with this header."""
        causal = shape.header.metadata.get(f"{shape.architecture}.attention.causal")
        return cls.read(shape.architecture, shape.number("pooling_type"), causal=causal is not False)
