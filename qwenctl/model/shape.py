"""What a header says about the model: architecture, sizes, counts, under GGUF's own keys.

Source: ggml docs/gguf.md, "Standardized key-value pairs".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from qwenctl.errors import Malformed
from qwenctl.model.gguf import Array, Header, Scalar, Tensor
from qwenctl.model.quantization import TENSOR_TYPES, file_type_name

_SUMMARY_TEXT: Final = 200  # characters; longer texts (templates, licences) stay out of the model config
_SUMMARY_ENTRIES: Final = 256
_CONTEXT_LIMIT: Final = (1 << 31) - 1  # tokens: the config's `context_size` is an int32


@dataclass(frozen=True, slots=True)
class Shape:
    """A GGUF model by its header. `tensors` are those of all its files, when it is split."""

    header: Header
    architecture: str
    tensors: tuple[Tensor, ...]

    @classmethod
    def of(cls, header: Header, *further: Header) -> Self:
        """The shape in a header, or in those of all files of a split model, the first of which has the
        metadata. Raises: Malformed when it names no architecture, or when files are missing.
        """
        architecture = header.metadata.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise Malformed("GGUF header has no `general.architecture`")
        shape = cls(header, architecture, sum((item.tensors for item in further), header.tensors))
        if further and shape.split_count != 1 + len(further):
            raise Malformed(f"the model has {shape.split_count} files, not {1 + len(further)}")
        return shape

    @property
    def name(self) -> str | None:
        """`general.name`."""
        return self._text("general.name")

    @property
    def size_label(self) -> str | None:
        """`general.size_label`, the maker's word for the size: `7B`, `30B-A3B`."""
        return self._text("general.size_label")

    @property
    def parameters(self) -> int:
        """The number of weights: the elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def weights_bytes(self) -> int:
        """Bytes of all tensors, without padding."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def split_count(self) -> int:
        """`split.count`: the number of files that the model is split into; 1 for a whole one."""
        return max(1, _whole(self.header.metadata.get("split.count")) or 1)

    @property
    def quantization(self) -> str | None:
        """The file's own `general.file_type`, else the type of the largest part of the tensors."""
        number = _whole(self.header.metadata.get("general.file_type"))
        named = file_type_name(number) if number is not None else None
        return named or self._commonest_type()

    @property
    def context_length(self) -> int | None:
        """Tokens that the model was trained for: `<architecture>.context_length`."""
        length = self.number("context_length")
        return length if length is not None and 0 < length <= _CONTEXT_LIMIT else None

    @property
    def block_count(self) -> int | None:
        """Layers: `<architecture>.block_count`."""
        return self.number("block_count")

    @property
    def embedding_length(self) -> int | None:
        """Width of the residual stream: `<architecture>.embedding_length`."""
        return self.number("embedding_length")

    @property
    def head_count(self) -> tuple[int, ...]:
        """Attention heads: one number for all layers, or one for each; none when the file does not say."""
        return self.numbers("attention.head_count")

    @property
    def head_count_kv(self) -> tuple[int, ...]:
        """Heads of the KV cache, as `head_count`, which they equal without grouped attention."""
        return self.numbers("attention.head_count_kv") or self.head_count

    @property
    def vocabulary_size(self) -> int | None:
        """Tokens of the vocabulary, by the tokenizer's list."""
        tokens = self.header.metadata.get("tokenizer.ggml.tokens")
        return tokens.length if isinstance(tokens, Array) else None

    @property
    def chat_template(self) -> str | None:
        """`tokenizer.chat_template`, Jinja source."""
        return self._text("tokenizer.chat_template")

    @property
    def license(self) -> str | None:
        """`general.license`, an SPDX identifier in most files."""
        return self._text("general.license")

    @property
    def summary(self) -> Mapping[str, str]:
        """Metadata as text for a model config: the short scalars, in the order of the file."""
        short = {
            key: _as_text(value)
            for key, value in self.header.metadata.items()
            if not isinstance(value, Array) and len(_as_text(value)) <= _SUMMARY_TEXT
        }
        return dict(list(short.items())[:_SUMMARY_ENTRIES])

    def number(self, key: str) -> int | None:
        """The whole number under `<architecture>.<key>`; None when it is absent or another type."""
        return _whole(self.header.metadata.get(f"{self.architecture}.{key}"))

    def numbers(self, key: str) -> tuple[int, ...]:
        """The whole numbers under `<architecture>.<key>`, which some architectures give for each layer."""
        value = self.header.metadata.get(f"{self.architecture}.{key}")
        elements = (value.elements or ()) if isinstance(value, Array) else (value,)
        wholes = tuple(number for element in elements if (number := _whole(element)) is not None)
        return wholes if len(wholes) == len(elements) else ()

    def _text(self, key: str) -> str | None:
        value = self.header.metadata.get(key)
        return value if isinstance(value, str) else None

    def _commonest_type(self) -> str | None:
        sizes: dict[int, int] = {}
        for tensor in self.tensors:
            sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.elements
        return TENSOR_TYPES[max(sizes, key=lambda kind: sizes[kind])].name if sizes else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _as_text(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
