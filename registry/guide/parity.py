"""Whether llama.cpp computes from the F16 file what PyTorch computes from the checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from corpus import texts
from tokenizer import load_tokenizer
from train import load

CONVERSATIONS = 24
SEED = 11
LEAST_AGREEMENT = 0.995
"""Share of places where both choose the same next token; half-precision weights move a few near ties."""

ANY_TEXT = 'naïve café · 你好世界 · 🦙 <|im_start|>x\t\n\n  "{\\u00e9}" ﷽ \x00\x7f'


def check_parity(checkpoint: Path, tokenizer_path: Path, gguf_path: Path) -> None:
    """Compare token ids, logits and choices over unseen conversations; print the differences.

    Raises:
        AssertionError: token ids differ, a text does not come back, or too few choices agree.
    """
    tokenizer, model = load_tokenizer(tokenizer_path), load(checkpoint)
    llama = llama_cpp.Llama(
        str(gguf_path), n_ctx=2048, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
    )
    same = total = 0
    largest = 0.0
    for text in [ANY_TEXT, *texts(SEED, CONVERSATIONS)]:
        ids = llama.tokenize(text.encode(), add_bos=False, special=True)
        assert ids == tokenizer.encode(text, add_special_tokens=False).ids, f"token ids of {text!r}"
        assert llama.detokenize(ids, special=True).decode() == text, f"round trip of {text!r}"
        llama.reset()
        llama.eval(ids)
        theirs = np.array(llama.scores[: len(ids)])
        with torch.no_grad():
            ours = model(torch.tensor([ids]))[0].numpy()
        same += int((theirs.argmax(1) == ours.argmax(1)).sum())
        total += len(ids)
        largest = max(largest, float(np.abs(theirs - ours).max()))
    print(f"parity: {same} of {total} choices agree, largest difference of a logit {largest:.3f}")
    assert same / total >= LEAST_AGREEMENT, "llama.cpp and PyTorch disagree"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("gguf", type=Path)
    arguments = parser.parse_args()
    check_parity(arguments.checkpoint, arguments.tokenizer, arguments.gguf)
