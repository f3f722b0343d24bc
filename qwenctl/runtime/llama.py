"""A model in llama.cpp: loading, its description, how long a context it takes, and its vocabulary."""

import ctypes
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from qwenctl.errors import FileMissing, InvalidRequest, LoadFailed, MemoryShort
from qwenctl.model.purpose import Use
from qwenctl.model.reach import Reach
from qwenctl.runtime.adapters import LoadedAdapters, check_adapter
from qwenctl.runtime.bindings import Library, library, load_backends
from qwenctl.runtime.engine import EngineOptions, SpecialToken
from qwenctl.runtime.ggml import ggml_devices
from qwenctl.runtime.turns import Turns

# Until memory is planned: enough for a conversation, small enough for a KV cache of a 7B model on a laptop.
DEFAULT_CONTEXT_TOKENS: Final = 8192
_NO_TOKEN: Final = -1
_OVERFLOW: Final = -(2**31)  # llama_tokenize's answer to more tokens than it can count
_YARN: Final = 2  # llama.h, LLAMA_ROPE_SCALING_TYPE_YARN


class LlamaModel:
    """An open model; `close` frees its memory, after every context made from it is closed.

    Tokenizing is safe from several threads (llama.h: "The API is thread-safe"). `turns` is for its contexts:
    who computes takes one, for two that compute at once would fight for the cores.
    """

    def __init__(self, options: EngineOptions, *, allocate: bool = True) -> None:
        """Without `allocate` the model takes no memory for tensors, and only its sizes are true.

        Raises: FileMissing; MemoryShort when a device has too little; LoadFailed with llama.cpp's own reason.
        """
        for path in (options.path, *options.splits):
            if not path.is_file():
                raise FileMissing(f"there is no file `{path}`")
        load_backends(options.backends)
        self.library: Final = library()
        api = self.library.api
        self.library.log.clear()
        self.cpu_only: Final = options.gpu_layers == 0 or options.devices == () or not _has_gpu()
        self._devices = _device_list(() if self.cpu_only else options.devices)
        parameters = self._parameters(options)
        if not allocate:
            parameters.no_alloc = True
            parameters.load_mode = api.llama_load_mode_from_str(b"none")  # with another it aborts
        self.handle: Final = self._load(options, parameters)
        if not self.handle:
            raise self.library.log.failure(
                f"llama.cpp refused `{options.path.name}`",
                hint="the file is damaged or too new; pull the model again or upgrade qwenctl",
            )
        self.vocabulary: Final = Vocabulary(self.library, api.llama_model_get_vocab(self.handle))
        # Read now: llama.cpp changes its own figure when a context is stretched.
        self.trained_context_length: Final = int(api.llama_model_n_ctx_train(self.handle))
        self.turns: Final = Turns()
        try:
            self._adapters = self._load_adapters(options if allocate else None)
        except BaseException:
            self.close()
            raise

    def _load(self, options: EngineOptions, parameters: Any) -> Any:
        api = self.library.api
        if not options.splits:
            return api.llama_model_load_from_file(os.fsencode(options.path), parameters)
        # By name, so that files of a split need not be called as llama.cpp would look for them.
        names = [os.fsencode(path) for path in (options.path, *options.splits)]
        return api.llama_model_load_from_splits(
            (ctypes.c_char_p * len(names))(*names), len(names), parameters
        )

    def _load_adapters(self, options: EngineOptions | None) -> LoadedAdapters:
        adapters = options.adapters if options else ()
        for adapter in adapters:
            check_adapter(adapter, self.architecture)
        return LoadedAdapters(self.library, self.handle, adapters)

    def _parameters(self, options: EngineOptions) -> Any:
        api = self.library.api
        parameters = api.llama_model_default_params()
        mmap = not self.cpu_only if options.mmap is None else options.mmap
        parameters.load_mode = api.llama_load_mode_from_str(b"mmap" if mmap else b"none")
        parameters.n_gpu_layers = 0 if self.cpu_only else options.gpu_layers
        if self._devices is not None:
            parameters.devices = ctypes.cast(self._devices, ctypes.c_void_p)
        if options.tensor_split:
            # llama.cpp reads as many shares as there may be devices
            self._shares = (ctypes.c_float * api.llama_max_devices())(*options.tensor_split)
            parameters.tensor_split = ctypes.cast(self._shares, type(parameters.tensor_split))
        return parameters

    @property
    def architecture(self) -> str:
        """`general.architecture` of the file."""
        return self._metadata(b"general.architecture") or "unknown"

    @property
    def quantization(self) -> str:
        """The file type in llama.cpp's words, such as `Q4_K - Medium`."""
        api = self.library.api
        return str(api.llama_ftype_name(api.llama_model_ftype(self.handle)).decode())

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return int(self.library.api.llama_model_n_params(self.handle))

    @property
    def weights_bytes(self) -> int:
        """The size of all tensors."""
        return int(self.library.api.llama_model_size(self.handle))

    @property
    def layers(self) -> int:
        """The number of transformer blocks."""
        return int(self.library.api.llama_model_n_layer(self.handle))

    @property
    def dimensions(self) -> int:
        """The length of what it makes of a text: a vector, or scores, the first of which counts."""
        api = self.library.api
        ranks = self.use.purpose == "ranking"
        return int((api.llama_model_n_cls_out if ranks else api.llama_model_n_embd_out)(self.handle))

    @property
    def has_encoder(self) -> bool:
        """Whether it computes texts with an encoder of its own, apart from what would generate."""
        return bool(self.library.api.llama_model_has_encoder(self.handle))

    @cached_property
    def use(self) -> Use:
        """What it is for."""
        pooling = self._number("pooling_type")
        causal = self._own("attention.causal") != "false"
        return Use.read(self.architecture, None if pooling is None else int(pooling), causal=causal)

    @cached_property
    def reach(self) -> Reach:
        """The contexts that it takes."""
        return Reach.read(
            self.architecture,
            self.trained_context_length,
            self._own("rope.scaling.type"),
            self._number("rope.scaling.factor") or 0.0,
            int(self._number("rope.scaling.original_context_length") or 0),
        )

    @property
    def chat_template(self) -> str | None:
        """The Jinja text in the file."""
        return self.template(None)

    def template(self, name: str | None) -> str | None:
        """The template of this name in the file; None names the chat's own."""
        key = None if name is None else name.encode()
        text = self.library.api.llama_model_chat_template(self.handle, key)
        return None if text is None else text.decode(errors="replace")

    def context_length(self, asked: int | None) -> int:
        """The context of one request: what was asked for, else the trained one up to 8192 tokens.

        Raises: LoadFailed for more than the model takes, or less than one token.
        """
        reach = self.reach
        if asked is None:
            return min(reach.trained_tokens, DEFAULT_CONTEXT_TOKENS)
        if not reach.takes(asked):
            raise LoadFailed(reach.refusal(asked), hint=f"ask for at most {reach.most_tokens}")
        return asked

    def stretch(self, parameters: Any, context_length: int | None) -> None:
        """Puts YaRN into the parameters of a context, if requests of this length need it."""
        yarn = self.reach.yarn(context_length or 0)
        if yarn is not None:
            parameters.rope_scaling_type = _YARN
            parameters.yarn_orig_ctx = yarn.original_tokens
            parameters.rope_freq_scale = yarn.frequency_scale

    def adapt(self, context: Any) -> None:
        """Lays the adapters over a new context."""
        self._adapters.lay_over(context)

    def close(self) -> None:
        """Frees the model. Call once."""
        self.library.api.llama_model_free(self.handle)

    def _own(self, key: str) -> str | None:
        return self._metadata(f"{self.architecture}.{key}".encode())

    def _number(self, key: str) -> float | None:
        text = self._own(key)
        return None if text is None else float(text)

    def _metadata(self, key: bytes) -> str | None:
        buffer = ctypes.create_string_buffer(256)
        length = self.library.api.llama_model_meta_val_str(self.handle, key, buffer, len(buffer))
        return None if length < 0 else buffer.value.decode(errors="replace")


class Vocabulary:
    """The tokens of a model."""

    def __init__(self, library: Library, handle: int) -> None:
        api = library.api
        self._api = api
        self.handle: Final = handle
        self._handle = handle
        self._pieces: dict[int, bytes] = {}
        self._all: bytes = b""
        self.size: Final = int(api.llama_vocab_n_tokens(handle))
        self.beginning_of_sequence: Final = self._special(api.llama_vocab_bos(handle))
        self.end_of_sequence: Final = self._special(api.llama_vocab_eos(handle))
        self.end_of_turn: Final = self._special(api.llama_vocab_eot(handle))
        self.separator: Final = self._special(api.llama_vocab_sep(handle))
        self.adds_beginning: Final = bool(api.llama_vocab_get_add_bos(handle))
        self.adds_end: Final = bool(api.llama_vocab_get_add_eos(handle))
        self.adds_separator: Final = bool(api.llama_vocab_get_add_sep(handle))

    def tokenize(self, text: str, *, framed: bool = True, specials: bool = True) -> list[int]:
        """The tokens of a prompt. Names of special tokens become those tokens, with `specials`; with `framed`
        the model's beginning of sequence is put in front where it wants one, and an end behind.
        llama-server does the same with every prompt.

        Raises: InvalidRequest for text that llama.cpp cannot tokenize.
        """
        source = text.encode("utf-8", "replace")
        room = len(source) + 2  # a token has a byte at least; and the beginning and the end of sequence
        tokens, count = self._tokenize(source, room, framed, specials)
        if _OVERFLOW < count < 0:
            tokens, count = self._tokenize(source, -count, framed, specials)
        if count < 0:
            raise InvalidRequest(f"the prompt of {len(source)} bytes is too long to be tokenized")
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """The bytes of `token` in a text; control tokens have none."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._read_piece(token, special=False)
        return known

    def all_tokens(self, api: Any) -> bytes:
        """Every token as a `llama_token_data` with a logit of zero, as the memory of a C array."""
        if not self._all:
            tokens = (api.llama_token_data * self.size)()
            for number in range(self.size):
                tokens[number].id = number
            self._all = bytes(tokens)
        return self._all

    def ends(self, token: int) -> bool:
        """Whether `token` ends an answer."""
        return bool(self._api.llama_vocab_is_eog(self._handle, token))

    def _tokenize(
        self, source: bytes, room: int, framed: bool, specials: bool
    ) -> tuple["ctypes.Array[ctypes.c_int32]", int]:
        tokens = (ctypes.c_int32 * room)()
        size = len(source)
        return tokens, self._api.llama_tokenize(self._handle, source, size, tokens, room, framed, specials)

    def _special(self, token: int) -> SpecialToken | None:
        if token == _NO_TOKEN:
            return None
        return SpecialToken(token, self._read_piece(token, special=True).decode(errors="replace"))

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        length = self._api.llama_token_to_piece(self._handle, token, buffer, len(buffer), 0, special)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = self._api.llama_token_to_piece(self._handle, token, buffer, len(buffer), 0, special)
        return buffer.raw[:length]


def _has_gpu() -> bool:
    return any(device.type in ("gpu", "igpu") for device in ggml_devices())


def _device_list(names: Sequence[str] | None) -> "ctypes.Array[ctypes.c_void_p] | None":
    """The devices for llama.cpp, closed by a null; None leaves them to it.

    An empty list hides the GPUs: without it buffers go to one even for 0 layers. Raises: LoadFailed.
    """
    if names is None:
        return None
    known = {device.name: device.handle for device in ggml_devices()}
    for name in names:
        if name not in known:
            raise LoadFailed(f"there is no device `{name}`", hint="`qwenctl host` lists the devices")
    return (ctypes.c_void_p * (len(names) + 1))(*(known[name] for name in names))


def refused(library: Library, path: Path, what: str) -> LoadFailed | MemoryShort:
    """The error for a null handle: `what` could not be made, in llama.cpp's own words."""
    return library.log.failure(
        f"llama.cpp could not make {what} for `{path.name}`",
        hint="a smaller context or fewer slots need less memory",
    )
