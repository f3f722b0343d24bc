"""A variant's header, drawn from the numbers on its model card instead of being read from its file.

    card's shape → Outline → the quantizer's choice of types → tensors ┐
    card's shape → metadata                                           ┴→ Shape, as a file's own would be

What depends on a header, such as the memory, then comes out the same, before the file is anywhere near. A
test holds the sum of the tensors against the size that each card states.
"""

from collections.abc import Iterator
from typing import Final

from qwenctl.model.card import Card, CardShape, Variant
from qwenctl.model.gguf import Array, Header, Value, ValueType
from qwenctl.model.mix import ALIGNMENT, predict_tensors
from qwenctl.model.outline import Outline
from qwenctl.model.quantization import FILE_TYPES
from qwenctl.model.shape import Shape

_NUMBERS: Final = {name: number for number, name in FILE_TYPES.items()}


def draw(card: Card, variant: Variant) -> Shape | None:
    """The shape of a variant; None when the card has no numbers for it, or its mix of types is not known.

    Of the vocabulary there is the length alone, and no other text.
    """
    known = card.shapes.get(variant.shape or "")
    file_type = _NUMBERS.get(variant.quantization or "")
    if known is None or file_type is None:
        return None
    outline = known.outline(card.architecture)
    tensors = predict_tensors(outline, file_type)
    if tensors is None:
        return None
    return Shape.of(Header(3, dict(_metadata(known, outline, file_type)), tensors, ALIGNMENT, 0))


def _metadata(known: CardShape, outline: Outline, file_type: int) -> Iterator[tuple[str, Value]]:
    yield "general.architecture", outline.architecture
    yield "general.file_type", file_type
    numbers = {
        "block_count": outline.block_count,
        "context_length": known.context_length,
        "embedding_length": outline.embedding_length,
        "feed_forward_length": outline.feed_forward_length,
        "attention.head_count": outline.head_count,
        "attention.head_count_kv": outline.head_count_kv,
        "attention.key_length": outline.key_length,
        "attention.value_length": outline.value_length,
        "expert_count": known.expert_count or None,
        "expert_used_count": known.expert_used_count or None,
        "expert_feed_forward_length": known.expert_feed_forward_length or None,
        "pooling_type": known.pooling_type,
    }
    for key, number in numbers.items():
        if number is not None:
            yield f"{outline.architecture}.{key}", number
    yield "tokenizer.ggml.tokens", Array(ValueType.STRING, outline.vocabulary_size, None)
