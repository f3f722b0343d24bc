"""The qwen2 architecture in PyTorch, as small as llama.cpp's K-quants allow (rows of 256)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of the model, in GGUF's terms."""

    vocabulary: int
    embedding_length: int = 256
    block_count: int = 4
    head_count: int = 4
    head_count_kv: int = 2
    feed_forward_length: int = 256
    context_length: int = 2048
    rope_freq_base: float = 1e6
    layer_norm_rms_epsilon: float = 1e-6

    @property
    def head_length(self) -> int:
        """Numbers per attention head."""
        return self.embedding_length // self.head_count


class Attention(nn.Module):
    """Grouped-query attention with rotary positions and biases on q, k and v."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, kv_width = config.embedding_length, config.head_count_kv * config.head_length
        self.config = config
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, kv_width)
        self.v = nn.Linear(width, kv_width)
        self.o = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend over x of (batch, tokens, width), causally."""
        batch, tokens, width = x.shape
        head = self.config.head_length
        q = self.q(x).view(batch, tokens, -1, head).transpose(1, 2)
        k = self.k(x).view(batch, tokens, -1, head).transpose(1, 2)
        v = self.v(x).view(batch, tokens, -1, head).transpose(1, 2)
        q, k = _rotated(q, cos, sin), _rotated(k, cos, sin)
        group = self.config.head_count // self.config.head_count_kv
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.o(y.transpose(1, 2).reshape(batch, tokens, width))
        return out


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding, the two halves of a head paired (NeoX order, as in qwen2)."""
    a, b = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Block(nn.Module):
    """One layer: attention and a gated feed-forward network, each behind an RMS norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner, epsilon = (
            config.embedding_length,
            config.feed_forward_length,
            config.layer_norm_rms_epsilon,
        )
        self.attention_norm = nn.RMSNorm(width, eps=epsilon)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.RMSNorm(width, eps=epsilon)
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return x with both residuals added."""
        x = x + self.attention(self.attention_norm(x), cos, sin)
        h = self.feed_forward_norm(x)
        out: Tensor = x + self.down(functional.silu(self.gate(h)) * self.up(h))
        return out


class Guide(nn.Module):
    """A qwen2 language model with tied embeddings."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.embedding_length)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.block_count))
        self.norm = nn.RMSNorm(config.embedding_length, eps=config.layer_norm_rms_epsilon)
        pairs = torch.arange(0, config.head_length, 2).double() / config.head_length
        angles = torch.outer(torch.arange(config.context_length).double(), config.rope_freq_base**-pairs)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """Small random matrices, smaller still where a layer writes into the residual stream."""
        base = self.config.embedding_length**-0.5
        for name, parameter in self.named_parameters():
            if "embedding" in name:
                nn.init.normal_(parameter, std=0.02)
            elif parameter.ndim == 2:
                writes = name.endswith(("attention.o.weight", "down.weight"))
                nn.init.normal_(parameter, std=base * (0.1 if writes else 0.5))
            elif "bias" in name:
                nn.init.zeros_(parameter)

    def hidden(self, ids: Tensor) -> Tensor:
        """The final states of (batch, tokens) ids, before the output projection."""
        tokens = ids.shape[1]
        x = self.embedding(ids)
        cos, sin = self.cos[:tokens], self.sin[:tokens]
        for block in self.blocks:
            x = block(x, cos, sin)
        out: Tensor = self.norm(x)
        return out

    def project(self, hidden: Tensor) -> Tensor:
        """Logits of final states; the embedding matrix is the output matrix too."""
        return hidden @ self.embedding.weight.T

    def forward(self, ids: Tensor) -> Tensor:
        """Logits for (batch, tokens) ids."""
        return self.project(self.hidden(ids))
