"""The role of an engine, and the values that go in: options to open one, requests to run on it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Literal, Protocol

import msgspec

from qwenctl.errors import InvalidRequest, QwenctlError
from qwenctl.model.memory.configuration import Configuration, FlashAttention, KvType
from qwenctl.model.memory.figures import Estimate
from qwenctl.model.purpose import Purpose
from qwenctl.runtime.events import Event, Finished
from qwenctl.runtime.sampling import Sampling

# A stop matcher does work for every stop string and character; these bounds keep it in microseconds.
MAX_STOPS: Final = 64
MAX_STOP_LENGTH: Final = 1024
MAX_TOP_LOGPROBS: Final = 20
"""Source: OpenAI API reference, chat completions, `top_logprobs`."""

Overflow = Literal["refuse", "truncate", "shift"]
"""What happens to text that is longer than the context: the request is refused; the oldest part of the prompt
is left out; that, and the answer goes on in a window over the last tokens, for ten contexts at the most where
it has no limit of its own.
"""


Speculation = Literal["off", "lookup", "draft"]
"""How tokens are guessed ahead of the model that verifies them."""


class Adapter(msgspec.Struct, frozen=True):
    """A LoRA adapter to lay over a model: the path of a GGUF file, as text because it travels as JSON, and
    how much of it counts.
    """

    path: str
    scale: float = 1.0


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is opened with. None means that the engine chooses.

    `context_length` is what one request may hold, in tokens; None is the trained context, but at most 8192
    until memory is planned. More than the trained one is stretched where the model's makers say so. `slots`
    requests run side by side, each with a whole context of its own in the KV cache, so the cache grows with
    both. `batch_tokens` go into one decode call at the most, `ubatch_tokens` into one computation. `threads`
    None is the number of physical cores, but 1 for a tiny model. `gpu_layers` -1 is all of them, 0 hides the
    GPUs altogether (llama.cpp would still stage weights on them). `devices` are the GPUs to use, by ggml's
    names; None is those that llama.cpp takes. `tensor_split` are their shares; empty is by their free memory.
    `backends` are further ggml backend libraries to load. `mmap` None is: yes with a GPU; no on a CPU alone,
    where llama.cpp repacks many quantizations and the mapped file would stay beside the copy. `chat_template`
    replaces the file's. `splits` are the files that follow `path`, in order, where the weights are in
    several. `adapters` are laid over the model for all requests. `prompt_cache_bytes` of RAM at the most keep
    conversations that lose their place in the KV cache; 0 keeps none. With `speculation` up to `draft_tokens`
    at a time are guessed and verified together: by `lookup` of what came before, or by `draft`, a small model
    of the same vocabulary.

    `flash_attention` saves memory; but on a CPU with an f16 cache it sums in half precision, and how a prompt
    was cut into batches can then decide between tokens that are almost equally likely. `off`, or another
    `kv_type`, makes an answer with a seed the same in any company, as far as llama.cpp rounds several rows
    as it rounds one: on a CPU it does not with K-quants, nor quite with F32 weights (where, drawn from all
    tokens at temperature 1, one answer in thousands differed).
    """

    path: Path
    context_length: int | None = None
    slots: int = 4
    batch_tokens: int = 512
    ubatch_tokens: int = 512
    threads: int | None = None
    gpu_layers: int = -1
    flash_attention: FlashAttention = "auto"
    kv_type: KvType = "f16"
    devices: tuple[str, ...] | None = None
    tensor_split: tuple[float, ...] = ()
    backends: tuple[Path, ...] = ()
    mmap: bool | None = None
    chat_template: str | None = None
    splits: tuple[Path, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    prompt_cache_bytes: int = 256 * 1024 * 1024
    speculation: Speculation = "off"
    draft_tokens: int = 8
    draft: Path | None = None

    def configuration(self, context_length: int) -> Configuration:
        """What of this decides about memory, for a context of so many tokens."""
        return Configuration(
            context_tokens=context_length,
            slots=self.slots,
            batch_tokens=self.batch_tokens,
            ubatch_tokens=self.ubatch_tokens,
            flash_attention=self.flash_attention,
            kv_type=self.kv_type,
            gpu_layers=self.gpu_layers,
            tensor_split=self.tensor_split,
            outputs=None if self.speculation == "off" else self.slots * (1 + self.draft_tokens),
        )


class SpecialToken(msgspec.Struct, frozen=True):
    """A token with a role of its own, such as the end of a turn."""

    id: int
    text: str


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model as it was opened. `memory_bytes` is what the process grew by; None where unknown.

    `memory` is llama.cpp's own account of its buffers; None where it gives none. `purpose` says which
    requests it takes: a model for embedding or ranking generates nothing. `dimensions` is the length of its
    vectors. `notes` are sentences for who loaded it, on what is not as the file has it.
    """

    architecture: str
    parameters: int
    quantization: str
    weights_bytes: int
    layers: int
    vocabulary_size: int
    context_length: int
    trained_context_length: int
    slots: int
    beginning_of_sequence: SpecialToken | None = None
    end_of_sequence: SpecialToken | None = None
    end_of_turn: SpecialToken | None = None
    chat_template: str | None = None
    memory_bytes: int | None = None
    memory: Estimate | None = None
    purpose: Purpose = "text"
    dimensions: int = 0
    notes: tuple[str, ...] = ()


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """One part of a message whose content came as a list."""

    text: str


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the assistant made; `arguments` is the JSON text of an object."""

    name: str
    arguments: str
    id: str | None = None


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn. The roles are the template's matter: system, user, assistant, tool in most."""

    role: str
    content: str | tuple[TextPart, ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True, tag="completion"):
    """Text to go on with, exactly as it is; names of special tokens in it count as those tokens.

    `max_tokens` None is: until the context is full. `top_logprobs` None asks for no log probabilities, 0 for
    those of the tokens that come, more for as many alternatives too.
    Raises: InvalidRequest for limits that make no sense.
    """

    prompt: str
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    overflow: Overflow = "refuse"

    def __post_init__(self) -> None:
        _check_limits(self.max_tokens, self.stop, self.top_logprobs)


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, tag="chat"):
    """A conversation that the model's own template turns into a prompt.

    `tools` are the caller's JSON objects (`{"type": "function", "function": {…}}`), key order kept
    because templates print them. `tool_choice` is `auto` or `none` (the template sees no tools);
    that calls are demanded, and how they look, is the matter of `sampling` (see `guidance`).
    `template_options` reach the template as variables, such as `enable_thinking`.

    Raises: InvalidRequest for limits that make no sense.
    """

    messages: tuple[Message, ...]
    tools: tuple[dict[str, object], ...] = ()
    tool_choice: str = "auto"
    template_options: dict[str, bool | int | float | str] = {}
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    overflow: Overflow = "refuse"

    def __post_init__(self) -> None:
        _check_limits(self.max_tokens, self.stop, self.top_logprobs)


Request = ChatRequest | CompletionRequest


class EmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to be turned into vectors. With `truncate` a text that is too long loses its end.

    Raises: InvalidRequest without a text.
    """

    texts: tuple[str, ...]
    truncate: bool = False

    def __post_init__(self) -> None:
        if not self.texts:
            raise InvalidRequest("there is no text to embed", hint="send one text at the least")


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """A vector for each text, in order: little-endian 32-bit floats, of length 1 (L2)."""

    dimensions: int
    vectors: tuple[bytes, ...]
    prompt_tokens: int


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Documents to be ordered by how well they answer `query`. Raises: InvalidRequest without a document."""

    query: str
    documents: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.documents:
            raise InvalidRequest("there is no document to rank", hint="send one document at the least")


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """A score for each document, in the order of the documents; a higher one is more relevant."""

    scores: tuple[float, ...]
    prompt_tokens: int


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one engine; the token counts only grow."""

    slots: int
    running: int
    waiting: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    decode_calls: int
    drafted_tokens: int = 0
    accepted_tokens: int = 0


Observer = Callable[[Event | QwenctlError], None]
"""Gets the events of one request in order, the last a `Finished` or, instead, an error. Called on the
engine's own thread: it must hand over and return, and never raise."""

Cancel = Callable[[], None]
"""Ends a request from any thread; without effect on one that is over."""

Wanted = Callable[[], bool]
"""Whether somebody still waits for what is computed."""


def always() -> bool:
    """Wanted to the end."""
    return True


class Engine(Protocol):
    """One opened model that runs many requests side by side. Every method may be called from any thread.

    Requests take slots first come, first served, and wait while all are taken. Cancelling frees the slot
    at once, inside a decode too, though others lose no two steps in a row by it; its last event is
    `Finished("cancelled")`. A request that fails does so alone. The same request with a seed (or temperature
    0) gives the same text, in any company, as far as `EngineOptions.flash_attention` allows.
    """

    @property
    def model(self) -> LoadedModel:
        """What was opened."""
        ...

    def start(self, request: Request, observe: Observer) -> Cancel:
        """Queues `request` and returns; `observe` gets what happens.

        Raises: InvalidRequest for what the model or its template cannot follow. PromptTooLong when the
        prompt leaves no room for a single token. GenerationFailed after `close`.
        """
        ...

    def generate(self, request: Request) -> Iterator[Event]:
        """The events of `request`, which begins at the first `next`; closing the iterator cancels.

        Raises: what `start` raises, GenerationFailed when a decode step fails, MemoryShort when it is for
        want of memory.
        """
        ...

    def count_tokens(self, request: Request) -> int:
        """The tokens of the prompt that `request` would run, however long. Raises: as `start`."""
        ...

    def embed(self, request: EmbedRequest, wanted: Wanted = always) -> Embeddings:
        """The vectors, pooled as the model says; blocks. Raises: InvalidRequest, PromptTooLong,
        GenerationFailed, also soon after they are no longer `wanted`."""
        ...

    def rerank(self, request: RerankRequest, wanted: Wanted = always) -> Scores:
        """The scores; blocks. Raises: InvalidRequest for a model that does not rank; else as `embed`."""
        ...

    def stats(self) -> EngineStats:
        """A snapshot of the counters."""
        ...

    def close(self) -> None:
        """Fails what still runs with GenerationFailed and frees the model's memory. Idempotent."""
        ...


def pull(start: Callable[[Request, Observer], Cancel], request: Request) -> Iterator[Event]:
    """`Engine.generate` made from `Engine.start`, for the implementations."""
    inbox: SimpleQueue[Event | QwenctlError] = SimpleQueue()
    cancel = start(request, inbox.put)
    try:
        while True:
            item = inbox.get()
            if isinstance(item, QwenctlError):
                raise item
            yield item
            if isinstance(item, Finished):
                return
    finally:
        cancel()


def _check_limits(max_tokens: int | None, stop: tuple[str, ...], top_logprobs: int | None) -> None:
    if top_logprobs is not None and not 0 <= top_logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidRequest(f"`top_logprobs` is {top_logprobs}, outside 0 to {MAX_TOP_LOGPROBS}")
    if max_tokens is not None and max_tokens < 1:
        raise InvalidRequest(f"`max_tokens` is {max_tokens}, but at least 1 token must be allowed")
    if len(stop) > MAX_STOPS or any(not 0 < len(text) <= MAX_STOP_LENGTH for text in stop):
        raise InvalidRequest(
            f"`stop` takes up to {MAX_STOPS} strings of 1 to {MAX_STOP_LENGTH} characters",
            hint="leave empty strings out",
        )
