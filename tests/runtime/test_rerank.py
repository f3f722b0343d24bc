"""Documents ranked by tiny models with random weights: what matters is which tokens are scored."""

from pathlib import Path

import pytest

from qwenctl.errors import InvalidRequest, PromptTooLong
from qwenctl.runtime.engine import EmbedRequest, EngineOptions, RerankRequest
from qwenctl.runtime.local import LlamaEngine, open_engine
from tests.runtime.runtime_builders import text_value, write_tiny_model
from tests.runtime.text_models import RANK, write_bert, write_qwen3

DOCUMENTS = ("paris", "berlin is a city", "rome")
TEMPLATE = "<|im_start|>{query}? {document}<|im_end|>"


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bert with a classifier; tests must not change it."""
    return write_bert(tmp_path_factory.mktemp("models") / "rank.gguf", pooling=RANK, ranks=True)


@pytest.fixture(scope="module")
def with_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A qwen3 with a classifier for yes and no and a template of its own."""
    return write_qwen3(
        tmp_path_factory.mktemp("models") / "rank.gguf",
        pooling=RANK,
        labels=("yes", "no"),
        further=[("tokenizer.chat_template.rerank", text_value(TEMPLATE))],
    )


def opened(path: Path) -> LlamaEngine:
    """An engine that sums in full precision."""
    return open_engine(EngineOptions(path=path, flash_attention="off", kv_type="f32"))


def rank(engine: LlamaEngine, query: str, *documents: str) -> tuple[float, ...]:
    """The scores."""
    return engine.rerank(RerankRequest(query=query, documents=documents)).scores


@pytest.mark.parametrize("model", ["cross_encoder", "with_template"])
def test_documents_together_are_as_documents_alone(model: str, request: pytest.FixtureRequest) -> None:
    """Company changes no score, and different documents have different ones."""
    engine = opened(request.getfixturevalue(model))
    assert engine.model.purpose == "ranking"
    together = rank(engine, "capital", *DOCUMENTS)
    alone = tuple(rank(engine, "capital", document)[0] for document in DOCUMENTS)
    assert together == pytest.approx(alone, rel=1e-3)
    assert len(set(together)) == len(DOCUMENTS)
    engine.close()


def test_the_query_counts(cross_encoder: Path) -> None:
    """Another question has other scores."""
    engine = opened(cross_encoder)
    assert rank(engine, "capital", "paris") != rank(engine, "river", "paris")
    engine.close()


def test_a_cross_encoder_sees_query_and_document_apart(cross_encoder: Path) -> None:
    """The tokens are the two texts and what stands between and around them; names of tokens are just text."""
    engine = opened(cross_encoder)
    scores = engine.rerank(RerankRequest(query="ab", documents=("cd", "c")))
    assert scores.prompt_tokens % 2 == 1
    assert rank(engine, "a", "bc") != rank(engine, "ab", "c")
    engine.close()


def test_the_models_template_is_filled(with_template: Path) -> None:
    """One token for each byte, but for the two special names; scores of yes are probabilities."""
    engine = opened(with_template)
    scores = engine.rerank(RerankRequest(query="capital", documents=("paris",)))
    assert scores.prompt_tokens == 2 + len("capital? paris")
    assert 0 < scores.scores[0] < 1
    engine.close()


def test_a_query_may_speak_of_the_template(with_template: Path) -> None:
    """What a query brings is not filled again."""
    engine = opened(with_template)
    scores = engine.rerank(RerankRequest(query="{document}", documents=("paris",)))
    assert scores.prompt_tokens == 2 + len("{document}? paris")
    engine.close()


def test_a_document_that_is_too_long_is_refused_with_the_numbers(cross_encoder: Path) -> None:
    """Counted with the query."""
    engine = opened(cross_encoder)
    with pytest.raises(PromptTooLong, match=r"document 2 with the query has \d+ tokens, the model takes 128"):
        rank(engine, "capital", "paris", "a" * 200)
    engine.close()


def test_other_models_do_not_rank(tmp_path: Path, cross_encoder: Path) -> None:
    """Nor does a model that ranks make vectors."""
    for path in (write_tiny_model(tmp_path / "tiny.gguf"), write_qwen3(tmp_path / "vectors.gguf")):
        engine = opened(path)
        with pytest.raises(InvalidRequest, match="does not rank") as caught:
            rank(engine, "capital", "paris")
        assert caught.value.hint is not None
        engine.close()
    engine = opened(cross_encoder)
    with pytest.raises(InvalidRequest, match="makes no vectors"):
        engine.embed(EmbedRequest(texts=("x",)))
    engine.close()
