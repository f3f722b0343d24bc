"""The engine in this process: template, tokenizer, scheduler and decoder around one open model."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from qwenctl.errors import InvalidRequest
from qwenctl.model.memory.figures import Estimate
from qwenctl.runtime.decoder import LlamaDecoder
from qwenctl.runtime.engine import (
    Cancel,
    ChatRequest,
    EngineOptions,
    EngineStats,
    LoadedModel,
    Observer,
    Request,
    pull,
)
from qwenctl.runtime.events import Event
from qwenctl.runtime.generation import Generation, Task
from qwenctl.runtime.host import resident_bytes
from qwenctl.runtime.llama import LlamaModel, Vocabulary
from qwenctl.runtime.scheduler import Scheduler, closed_error
from qwenctl.runtime.template import ChatTemplate


class LlamaEngine:
    """`engine.Engine` on llama.cpp; make one with `open_engine`."""

    def __init__(self, options: EngineOptions, model: LlamaModel, decoder: LlamaDecoder, loaded: LoadedModel):
        self._model = model
        self._decoder = decoder
        self._loaded = loaded
        self._scheduler = Scheduler(decoder, options.slots)
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
        task = Task(self._tokenize(request), request.sampling, request.max_tokens, request.stop)
        return self._scheduler.submit(Generation(task, observe, self._loaded.context_length))

    def generate(self, request: Request) -> Iterator[Event]:
        """See `engine.Engine`."""
        return pull(self.start, request)

    def count_tokens(self, request: Request) -> int:
        """See `engine.Engine`."""
        return len(self._tokenize(request))

    def stats(self) -> EngineStats:
        """See `engine.Engine`."""
        return self._scheduler.stats()

    def close(self) -> None:
        """See `engine.Engine`."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
        self._scheduler.close()
        with self._changed:
            self._changed.wait_for(lambda: self._users == 0)
        self._decoder.close()
        self._model.close()

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

    def _tokenize(self, request: Request) -> list[int]:
        with self._open_model() as model:
            if isinstance(request, ChatRequest):
                text = _without_beginning(model.vocabulary, self._render(request))
            else:
                text = request.prompt
            tokens = model.vocabulary.tokenize(text)
        if not tokens:
            raise InvalidRequest("the prompt is empty", hint="give the model at least one character")
        return tokens

    def _render(self, request: ChatRequest) -> str:
        if request.tool_choice not in ("auto", "none"):
            raise InvalidRequest(f"`tool_choice` cannot be `{request.tool_choice}` yet", hint="use `auto`")
        return self._template.render(request)


def open_engine(options: EngineOptions) -> LlamaEngine:
    """Loads a GGUF file and makes a context; the caller closes the engine.

    Raises: FileMissing; LoadFailed with llama.cpp's reason, or where the options do not suit the model.
    """
    before = resident_bytes()
    model = LlamaModel(options)
    try:
        context_length = model.context_length(options.context_length)
        decoder = LlamaDecoder(model, options, context_length)
    except BaseException:
        model.close()
        raise
    grown = max(0, resident_bytes() - before)
    loaded = _describe(model, options, context_length, grown, decoder.memory())
    return LlamaEngine(options, model, decoder, loaded)


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
    )
