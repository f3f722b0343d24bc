"""How long a context a model takes: the trained one, and with YaRN a longer one where its makers say so.

Source: the model cards of Qwen2.5 ("Processing Long Texts": `factor` 4.0 over 32,768 positions) and Qwen3
(the same; "modify the factor as needed", and llama.cpp's `--rope-scaling yarn --rope-scale 4 --yarn-orig-ctx
32768`); their GGUF files do not say so.
"""

from dataclasses import dataclass
from typing import Final, Self

from qwenctl.model.gguf import Value
from qwenctl.model.shape import Shape

STRETCHED: Final = frozenset({"qwen2", "qwen2moe", "qwen3", "qwen3moe"})
"""Architectures whose makers recommend YaRN beyond the trained context."""
MOST_FACTOR: Final = 4
# Qwen3's files say 40,960: 32,768 trained positions for the answer and 8,192 for the prompt (its model card).
_ORIGINAL_OF_QWEN3: Final = {40_960: 32_768}


@dataclass(frozen=True, slots=True)
class Yarn:
    """A stretching of the rotary positions: `factor` times as many as the `original_tokens`."""

    original_tokens: int
    factor: float

    @property
    def frequency_scale(self) -> float:
        """llama.cpp's word for it: the inverse of the factor."""
        return 1 / self.factor


@dataclass(frozen=True, slots=True)
class Reach:
    """The trained context and the longest one. `original_tokens` None: nothing is stretched by us."""

    trained_tokens: int
    most_tokens: int
    original_tokens: int | None = None

    @classmethod
    def read(
        cls, architecture: str, trained_tokens: int, scaling: str | None, factor: float, original_tokens: int
    ) -> Self:
        """The reach of a model whose file says this of `rope.scaling`; 0 is what it does not say."""
        if scaling not in (None, "", "none"):
            # The file stretches by itself, whatever the context.
            own = round(factor * original_tokens) if scaling == "yarn" else 0
            return cls(trained_tokens, max(trained_tokens, own))
        if architecture not in STRETCHED:
            return cls(trained_tokens, trained_tokens)
        original = _ORIGINAL_OF_QWEN3.get(trained_tokens, trained_tokens)
        return cls(trained_tokens, MOST_FACTOR * original, original)

    @classmethod
    def of(cls, shape: Shape) -> Self:
        """The reach of the model with this header; nothing where it names no trained context."""

        def value(key: str) -> Value | None:
            return shape.header.metadata.get(f"{shape.architecture}.rope.scaling.{key}")

        scaling, factor = value("type"), value("factor")
        return cls.read(
            shape.architecture,
            shape.context_length or 0,
            scaling if isinstance(scaling, str) else None,
            float(factor) if isinstance(factor, int | float) else 0.0,
            shape.number("rope.scaling.original_context_length") or 0,
        )

    def yarn(self, context_tokens: int) -> Yarn | None:
        """What a context of this length needs; None up to the trained one."""
        if self.original_tokens is None or context_tokens <= self.trained_tokens:
            return None
        return Yarn(self.original_tokens, context_tokens / self.original_tokens)

    def takes(self, context_tokens: int) -> bool:
        """Whether the model can be opened with this context."""
        return 0 < context_tokens <= self.most_tokens

    def refusal(self, context_tokens: int) -> str:
        """Why a context is not taken, with the numbers."""
        stretched = f" and stretched to {self.most_tokens}" if self.most_tokens > self.trained_tokens else ""
        return (
            f"a context of {context_tokens} tokens does not suit a model trained with "
            f"{self.trained_tokens}{stretched}"
        )

    def note(self, context_tokens: int) -> str | None:
        """One sentence for a person where YaRN is at work."""
        yarn = self.yarn(context_tokens)
        if yarn is None:
            return None
        return (
            f"a context of {context_tokens} tokens is beyond the {self.trained_tokens} of the training: YaRN "
            f"stretches the model's positions by {yarn.factor:.3g}, which may cost quality on short texts"
        )
