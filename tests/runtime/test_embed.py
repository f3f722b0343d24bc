"""Texts turned into vectors by tiny models, against llama.cpp asked in the plainest way."""

import struct
import threading
from collections.abc import Iterator, Sequence
from math import hypot
from pathlib import Path
from queue import SimpleQueue

import pytest

from qwenctl.errors import GenerationFailed, InvalidRequest, PromptTooLong, QwenctlError
from qwenctl.model.memory.configuration import Configuration
from qwenctl.runtime.batches import Span
from qwenctl.runtime.decoder import Batch, context_parameters
from qwenctl.runtime.engine import CompletionRequest, Embeddings, EmbedRequest, EngineOptions
from qwenctl.runtime.events import Event, Finished
from qwenctl.runtime.llama import LlamaModel
from qwenctl.runtime.local import LlamaEngine, open_engine
from qwenctl.runtime.sampling import Sampling
from tests.runtime.runtime_builders import write_tiny_model
from tests.runtime.text_models import CLS, LAST, MEAN, write_bert, write_qwen3

TEXTS = ("hello", "a longer text about nothing", "x", "spread over pieces " * 8)
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model files by name; tests must not change them."""
    directory = tmp_path_factory.mktemp("models")
    return {
        "last": write_qwen3(directory / "last.gguf"),
        "mean": write_qwen3(directory / "mean.gguf", pooling=MEAN),
        "generating": write_tiny_model(directory / "generating.gguf"),
        "bert": write_bert(directory / "bert.gguf", context_length=256),
        "bert-cls": write_bert(directory / "bert-cls.gguf", context_length=256, pooling=CLS),
        "bert-silent": write_bert(directory / "bert-silent.gguf", context_length=256, pooling=None),
    }


def opened(path: Path, **options: object) -> LlamaEngine:
    """An engine that sums in full precision."""
    return open_engine(EngineOptions(path=path, flash_attention="off", kv_type="f32", **options))  # type: ignore[arg-type]


def vectors(embeddings: Embeddings) -> list[tuple[float, ...]]:
    """The numbers."""
    return [struct.unpack(f"<{embeddings.dimensions}f", vector) for vector in embeddings.vectors]


def embed(engine: LlamaEngine, *texts: str) -> list[tuple[float, ...]]:
    """The vectors of these texts, asked for together."""
    return vectors(engine.embed(EmbedRequest(texts=texts)))


def close_to(vector: Sequence[float]) -> object:
    """The same vector but for rounding."""
    return pytest.approx(vector, abs=1e-5)


def pooled_in_one_piece(path: Path, text: str, pooling: int) -> tuple[float, ...]:
    """llama.cpp's own pooling of the whole text in one decode, of length 1."""
    model = LlamaModel(EngineOptions(path=path))
    api = model.library.api
    tokens = model.vocabulary.tokenize(text)
    parameters = context_parameters(
        api, Configuration(context_tokens=512, flash_attention="off", kv_type="f32", outputs=0)
    )
    parameters.embeddings, parameters.pooling_type = True, pooling
    context = api.llama_init_from_model(model.handle, parameters)
    assert api.llama_decode(context, Batch(api, 512, 1).fill([Span(0, 0, tokens, len(tokens))])) == 0
    made = tuple(api.llama_get_embeddings_seq(context, 0)[: model.dimensions])
    api.llama_free(context)
    model.close()
    length = hypot(*made)
    return tuple(value / length for value in made)


@pytest.mark.parametrize("name", ["last", "mean", "generating", "bert", "bert-cls"])
def test_texts_together_are_as_texts_alone(models: dict[str, Path], name: str) -> None:
    """Company in a batch changes no vector."""
    engine = opened(models[name])
    together = embed(engine, *TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert embed(engine, text) == [close_to(vector)]
    engine.close()


@pytest.mark.parametrize(
    ("name", "pooling"),
    [("last", LAST), ("mean", MEAN), ("generating", LAST), ("bert", MEAN), ("bert-cls", CLS)],
)
def test_pooling_is_the_models_own(models: dict[str, Path], name: str, pooling: int) -> None:
    """As llama.cpp pools a text in one piece; a generating model, whose file is silent, takes the last."""
    engine = opened(models[name])
    for text, vector in zip(TEXTS, embed(engine, *TEXTS), strict=True):
        assert vector == close_to(pooled_in_one_piece(models[name], text, pooling))
    engine.close()


def test_an_encoder_whose_file_says_nothing_takes_the_mean(models: dict[str, Path]) -> None:
    """The weights are those of the model that says so."""
    silent, said = opened(models["bert-silent"]), opened(models["bert"])
    assert silent.model.purpose == "embedding"
    assert embed(silent, "hello") == [close_to(embed(said, "hello")[0])]
    silent.close()
    said.close()


@pytest.mark.parametrize("name", ["last", "generating"])
def test_long_texts_go_in_pieces(models: dict[str, Path], name: str) -> None:
    """A batch of 16 tokens gives the same vectors as one of 512."""
    small, large = opened(models[name], batch_tokens=16), opened(models[name])
    for one, other in zip(embed(small, *TEXTS), embed(large, *TEXTS), strict=True):
        assert one == close_to(other)
    small.close()
    large.close()


def test_vectors_have_length_one(models: dict[str, Path]) -> None:
    """And as many numbers as the model says."""
    engine = opened(models["bert"])
    made = engine.embed(EmbedRequest(texts=TEXTS))
    assert made.dimensions == engine.model.dimensions == 64
    assert [hypot(*vector) for vector in vectors(made)] == pytest.approx([1.0] * len(TEXTS), abs=1e-6)
    engine.close()


def test_any_number_of_texts(models: dict[str, Path]) -> None:
    """Many more than one batch holds, in their order."""
    engine = opened(models["last"])
    texts = [f"text {number}" for number in range(150)]
    made = engine.embed(EmbedRequest(texts=tuple(texts)))
    assert vectors(made)[149] == close_to(embed(engine, texts[149])[0])
    assert made.prompt_tokens == sum(len(text) + 1 for text in texts)
    engine.close()


def test_a_text_that_is_too_long_is_refused_with_the_numbers(models: dict[str, Path]) -> None:
    """And says which of them it is."""
    engine = opened(models["bert"])
    with pytest.raises(PromptTooLong, match="text 2 has 402 tokens, the model takes 256"):
        embed(engine, "short", "a" * 400)
    engine.close()


@pytest.mark.parametrize("name", ["bert-cls", "last"])
def test_truncated_texts_keep_the_token_that_closes_them(models: dict[str, Path], name: str) -> None:
    """A text cut to what fits has the vector of exactly that text."""
    engine = opened(models[name])
    fitting = 254 if name == "bert-cls" else 255
    made = engine.embed(EmbedRequest(texts=("a" * 400,), truncate=True))
    assert vectors(made) == [close_to(embed(engine, "a" * fitting)[0])]
    assert made.prompt_tokens == 256
    engine.close()


def test_an_empty_text_is_refused(models: dict[str, Path]) -> None:
    """Where the model frames it with nothing, there is nothing to compute."""
    engine = opened(models["generating"])
    with pytest.raises(InvalidRequest, match="text 2 is empty"):
        embed(engine, "x", "")
    engine.close()


@pytest.mark.parametrize("name", ["bert", "last"])
def test_a_model_for_vectors_generates_nothing(models: dict[str, Path], name: str) -> None:
    """It says so when it is loaded, and to who asks."""
    engine = opened(models[name])
    assert engine.model.purpose == "embedding"
    for ask in (engine.count_tokens, lambda request: next(engine.generate(request))):
        with pytest.raises(InvalidRequest, match="turns texts into vectors"):
            ask(CompletionRequest(prompt="x"))
    engine.close()


def test_a_generating_model_grows_its_context_for_texts(tmp_path: Path) -> None:
    """A long text after a short one, and the short one again."""
    engine = opened(write_tiny_model(tmp_path / "tiny.gguf", context_length=4096))
    assert engine.model.purpose == "text"
    before = embed(engine, "short")
    assert len(embed(engine, "long " * 500)) == 1
    assert embed(engine, "short") == [close_to(before[0])]
    engine.close()


def test_generating_goes_on_beside_embedding(models: dict[str, Path]) -> None:
    """Each of them gives what it gives alone."""
    engine = opened(models["generating"], slots=2)
    request = CompletionRequest(prompt="hello", sampling=GREEDY, max_tokens=100)
    alone, expected = [*engine.generate(request)], embed(engine, *TEXTS)
    inbox: SimpleQueue[Event | QwenctlError] = SimpleQueue()
    engine.start(request, inbox.put)
    for _ in range(5):
        assert embed(engine, *TEXTS) == [close_to(vector) for vector in expected]
    assert _texts(_events(inbox)) == _texts(alone)
    engine.close()


def test_closing_ends_what_is_computed(models: dict[str, Path]) -> None:
    """The texts that are left are given up."""
    engine = opened(models["last"])
    failures: SimpleQueue[QwenctlError] = SimpleQueue()

    def ask() -> None:
        try:
            while True:
                embed(engine, *TEXTS)
        except QwenctlError as error:
            failures.put(error)

    thread = threading.Thread(target=ask)
    thread.start()
    engine.close()
    thread.join()
    assert isinstance(failures.get(), GenerationFailed)
    with pytest.raises(GenerationFailed):
        embed(engine, "x")


def test_texts_count_with_the_prompts(models: dict[str, Path]) -> None:
    """A scrape of the counters sees them."""
    engine = opened(models["bert"])
    made = engine.embed(EmbedRequest(texts=TEXTS))
    assert engine.stats().prompt_tokens == made.prompt_tokens
    engine.close()


def _events(inbox: "SimpleQueue[Event | QwenctlError]") -> Iterator[Event]:
    while True:
        event = inbox.get()
        assert not isinstance(event, QwenctlError)
        yield event
        if isinstance(event, Finished):
            return


def _texts(events: "Sequence[Event] | Iterator[Event]") -> str:
    return "".join(getattr(event, "text", "") for event in events)
