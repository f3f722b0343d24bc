"""The guide's tokenizer: byte-level BPE with Qwen2's splitting and Qwen2.5's added tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from corpus import texts
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

# Source: Qwen2.5's tokenizer.json, pre_tokenizer; llama.cpp calls it `qwen2`.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Source: Qwen2.5's tokenizer_config.json, added_tokens_decoder; `special` there is CONTROL in a GGUF.
CONTROL_TOKENS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
USER_TOKENS = [
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>",
]  # fmt: skip

VOCABULARY = 1536
CONVERSATIONS = 20_000
SEED = 7


def train_tokenizer(vocabulary: int = VOCABULARY) -> Tokenizer:
    """Learn the merges from the corpus; the same vocabulary size gives the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(CONTROL_TOKENS) - len(USER_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_plain_texts(), trainer)
    tokenizer.add_special_tokens(CONTROL_TOKENS)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in USER_TOKENS])
    return tokenizer


def _plain_texts() -> Iterator[str]:
    for text in texts(SEED, CONVERSATIONS):
        for added in CONTROL_TOKENS + USER_TOKENS:
            text = text.replace(added, "\n")
        yield text


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json."""
    return Tokenizer.from_file(str(path))
