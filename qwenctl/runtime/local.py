"""The engine in this process: template, tokenizer, scheduler and decoder around one open model."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Final

import msgspec

from qwenctl.errors import InvalidRequest
from qwenctl.model.memory.figures import Estimate
from qwenctl.runtime.answers import END_THINK, THINK
from qwenctl.runtime.decoder import LlamaDecoder
from qwenctl.runtime.draft_model import open_drafter
from qwenctl.runtime.embedder import Embedder, normalised
from qwenctl.runtime.engine import (
    Cancel,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    EngineOptions,
    EngineStats,
    LoadedModel,
    Observer,
    Request,
    RerankRequest,
    Scores,
    Wanted,
    always,
    pull,
)
from qwenctl.runtime.events import Event
from qwenctl.runtime.gbnf_check import check_grammar
from qwenctl.runtime.generation import Generation, Task
from qwenctl.runtime.host import resident_bytes
from qwenctl.runtime.llama import LlamaModel, Vocabulary
from qwenctl.runtime.prompt_cache import open_prompt_cache
from qwenctl.runtime.sampling import GrammarReasoning
from qwenctl.runtime.scheduler import Drafting, Scheduler, closed_error
from qwenctl.runtime.speculation import Drafter
from qwenctl.runtime.template import ChatTemplate
from qwenctl.runtime.texts import pair_tokens, text_tokens
from qwenctl.runtime.triggers import ruling

_SYSTEM_ROLES: Final = ("system", "developer")
_TURN_TOKENS: Final = 8  # what a template writes around a turn


class LlamaEngine:
    """`engine.Engine` on llama.cpp; make one with `open_engine`.

    A model that generates nothing has no decoder.
    """

    def __init__(
        self,
        options: EngineOptions,
        model: LlamaModel,
        decoder: LlamaDecoder | None,
        drafter: Drafter | None,
        embedder: Embedder,
        loaded: LoadedModel,
    ):
        self._model = model
        self._decoder = decoder
        self._embedder = embedder
        self._loaded = loaded
        self._drafter = drafter
        self._scheduler = _schedule(decoder, drafter, options) if decoder else None
        # Guards the model's memory: it is freed only when no thread tokenizes.
        self._changed = threading.Condition()
        self._users = 0
        self._closed = False

    @property
    def model(self) -> LoadedModel:
        """See `engine.Engine`."""
        return self._loaded

    def start(self, request: Request, observe: Observer) -> Cancel:
        """See `engine.Engine`. Rendering and tokenizing happen on the caller's thread."""
        scheduler, task = self._generating(), self._task(request)
        return scheduler.submit(Generation(task, observe, self._loaded.context_length))

    def generate(self, request: Request) -> Iterator[Event]:
        """See `engine.Engine`."""
        return pull(self.start, request)

    def count_tokens(self, request: Request) -> int:
        """See `engine.Engine`."""
        self._generating()
        return len(self._task(request).prompt)

    def embed(self, request: EmbedRequest, wanted: Wanted = always) -> Embeddings:
        """See `engine.Engine`."""
        if self._loaded.purpose == "ranking":
            raise InvalidRequest(
                "this model scores documents and makes no vectors", hint="embed with another, or rerank"
            )
        longest = self._loaded.context_length
        with self._open_model() as model:
            texts = text_tokens(model.vocabulary, request.texts, longest, truncate=request.truncate)
            vectors = tuple(map(normalised, self._embedder.vectors(texts, wanted)))
            return Embeddings(
                dimensions=model.dimensions, vectors=vectors, prompt_tokens=sum(map(len, texts))
            )

    def rerank(self, request: RerankRequest, wanted: Wanted = always) -> Scores:
        """See `engine.Engine`."""
        if self._loaded.purpose != "ranking":
            raise InvalidRequest(
                "this model does not rank documents", hint="a reranking model does, such as Qwen3-Reranker"
            )
        with self._open_model() as model:
            pairs = pair_tokens(model, request.query, request.documents, self._loaded.context_length)
            scores = tuple(vector[0] for vector in self._embedder.vectors(pairs, wanted))
        return Scores(scores=scores, prompt_tokens=sum(map(len, pairs)))

    def stats(self) -> EngineStats:
        """See `engine.Engine`; texts that became vectors are counted with the prompts."""
        return _with_texts(self._scheduler.stats() if self._scheduler else _NO_STATS, self._embedder.counts())

    def close(self) -> None:
        """See `engine.Engine`."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
        if self._scheduler is not None:
            self._scheduler.close()
        self._embedder.close()
        with self._changed:
            self._changed.wait_for(lambda: self._users == 0)
        if self._drafter is not None:
            self._drafter.close()
        if self._decoder is not None:
            self._decoder.close()
        self._model.close()

    def _generating(self) -> Scheduler:
        """Raises: InvalidRequest for a model that generates nothing."""
        if self._scheduler is None:
            does = "scores documents" if self._loaded.purpose == "ranking" else "turns texts into vectors"
            raise InvalidRequest(
                f"this model {does} and generates nothing",
                hint="chat with another model; this one is for search",
            )
        return self._scheduler

    @contextmanager
    def _open_model(self) -> Iterator[LlamaModel]:
        """The model, which stays open meanwhile. Raises: GenerationFailed after `close`."""
        with self._changed:
            if self._closed:
                raise closed_error()
            self._users += 1
        try:
            yield self._model
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    @cached_property
    def _template(self) -> ChatTemplate:
        source = self._loaded.chat_template
        if source is None:
            raise InvalidRequest(
                "the model has no chat template", hint="send a plain completion, or open it with a template"
            )
        bos, eos = self._loaded.beginning_of_sequence, self._loaded.end_of_sequence
        return ChatTemplate(source, bos=bos.text if bos else "", eos=eos.text if eos else "")

    def _task(self, request: Request) -> Task:
        reasoning, beginning = False, None
        sampling = request.sampling
        with self._open_model() as model:
            if isinstance(request, ChatRequest):
                text = _without_beginning(model.vocabulary, self._render(request))
                reasoning = text.rstrip().endswith(THINK)
                sampling = msgspec.structs.replace(
                    sampling, grammar_reasoning=self._grammar_reasoning(text, reasoning)
                )
                beginning = _system_tokens(model.vocabulary, request)
            else:
                text = request.prompt
                sampling = msgspec.structs.replace(sampling, grammar_reasoning="ruled")
            tokens = model.vocabulary.tokenize(text)
        if sampling.grammar:
            check_grammar(ruling(sampling)[0])
        if not tokens:
            raise InvalidRequest("the prompt is empty", hint="give the model at least one character")
        return Task(
            tokens,
            sampling,
            request.max_tokens,
            request.stop,
            request.top_logprobs,
            reasoning,
            request.overflow,
            beginning,
        )

    def _grammar_reasoning(self, prompt: str, opened: bool) -> GrammarReasoning:
        """What the reasoning before an answer is to a grammar, after the prompt that the template made."""
        if opened:
            return "open"
        closed = prompt.rstrip().endswith(END_THINK) or THINK not in (self._loaded.chat_template or "")
        return "ruled" if closed else "free"

    def _render(self, request: ChatRequest) -> str:
        if request.tool_choice not in ("auto", "none"):
            raise InvalidRequest(
                f"`tool_choice` cannot be `{request.tool_choice}` here",
                hint="a demand is a grammar: see `runtime.guidance`",
            )
        return self._template.render(request)


def open_engine(options: EngineOptions) -> LlamaEngine:
    """Loads a GGUF file and makes a context; the caller closes the engine.

    A model that generates has its context for texts made with the first of them; one that does not has no
    other.

    Raises: FileMissing; LoadFailed with llama.cpp's reason, or where the options do not suit the model.
    """
    before = resident_bytes()
    model = LlamaModel(options)
    with ExitStack() as opened:
        opened.callback(model.close)
        context_length = model.context_length(options.context_length)
        generates = model.use.purpose == "text"
        decoder = LlamaDecoder(model, options, context_length) if generates else None
        if decoder is not None:
            opened.callback(decoder.close)
        drafter = open_drafter(model, options, context_length) if generates else None
        if drafter is not None:
            opened.callback(drafter.close)
        embedder = Embedder(model, options, context_length, growing=generates)
        opened.pop_all()
    grown = max(0, resident_bytes() - before)
    memory = decoder.memory() if decoder else embedder.memory()
    loaded = _describe(model, options, context_length, grown, memory)
    return LlamaEngine(options, model, decoder, drafter, embedder, loaded)


def _schedule(decoder: LlamaDecoder, drafter: Drafter | None, options: EngineOptions) -> Scheduler:
    drafting = Drafting(drafter, options.draft_tokens) if drafter else None
    return Scheduler(decoder, options.slots, open_prompt_cache(options.prompt_cache_bytes), drafting)


def _system_tokens(vocabulary: Vocabulary, request: ChatRequest) -> int | None:
    """About as many tokens as the system part takes; None where tools are in it, or nobody will ask."""
    if request.overflow == "refuse" or request.tools:
        return None
    system = [message.content for message in request.messages[:1] if message.role in _SYSTEM_ROLES]
    texts = [content if isinstance(content, str) else "" for content in system]
    return _TURN_TOKENS + sum(len(vocabulary.tokenize(text)) for text in texts)


_NO_STATS: Final = EngineStats(
    slots=0,
    running=0,
    waiting=0,
    prompt_tokens=0,
    cached_tokens=0,
    completion_tokens=0,
    decode_calls=0,
)


def _with_texts(stats: EngineStats, texts: dict[str, int]) -> EngineStats:
    summed = {name: getattr(stats, name) + count for name, count in texts.items()}
    return msgspec.structs.replace(stats, **summed)


def _without_beginning(vocabulary: Vocabulary, text: str) -> str:
    """Many templates write the beginning of sequence that the tokenizer adds too; one is enough.

    Source: llama.cpp common/chat.cpp, common_chat_template_direct_apply_impl.
    """
    beginning = vocabulary.beginning_of_sequence
    if beginning is None or not vocabulary.adds_beginning:
        return text
    return text.removeprefix(beginning.text)


def _describe(
    model: LlamaModel, options: EngineOptions, context_length: int, grown_bytes: int, memory: Estimate | None
) -> LoadedModel:
    vocabulary = model.vocabulary
    return LoadedModel(
        architecture=model.architecture,
        parameters=model.parameters,
        quantization=model.quantization,
        weights_bytes=model.weights_bytes,
        layers=model.layers,
        vocabulary_size=vocabulary.size,
        context_length=context_length,
        trained_context_length=model.trained_context_length,
        slots=options.slots,
        beginning_of_sequence=vocabulary.beginning_of_sequence,
        end_of_sequence=vocabulary.end_of_sequence,
        end_of_turn=vocabulary.end_of_turn,
        chat_template=options.chat_template or model.chat_template,
        memory_bytes=grown_bytes,
        memory=memory,
        purpose=model.use.purpose,
        dimensions=model.dimensions,
        notes=tuple(filter(None, [model.reach.note(context_length)])),
    )
