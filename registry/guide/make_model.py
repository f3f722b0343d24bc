"""Make the guide model from nothing: tokenizer, training, GGUF files, evaluation.

Writes `guide-F16.gguf`, `guide-Q8_0.gguf` and `guide-Q4_K_M.gguf`, and beside them the tokenizer and the
checkpoint. The exit status is 1 where a file answers less than 90 % of the held-out questions rightly.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from evaluate import evaluate
from export import export
from parity import check_parity
from quantize import quantize_all
from tokenizer import train_tokenizer
from train import Recipe, train


def make_model(folder: Path, recipe: Recipe) -> bool:
    """Run every step; return whether all files pass the evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, checkpoint = folder / "tokenizer.json", folder / "guide.pt"
    full = folder / "guide-F16.gguf"
    train_tokenizer().save(str(tokenizer))
    train(tokenizer, checkpoint, recipe)
    export(checkpoint, tokenizer, full)
    check_parity(checkpoint, tokenizer, full)
    files = [full, *quantize_all(full)]
    return all(list(map(evaluate, files)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/guide"))
    parser.add_argument("--tokens", type=int, default=Recipe().tokens, help="length of the training")
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    arguments = parser.parse_args()
    started = time.monotonic()
    good = make_model(arguments.folder, Recipe(tokens=arguments.tokens, seed=arguments.seed))
    print(f"{arguments.folder}: made in {(time.monotonic() - started) / 60:.0f} minutes")
    sys.exit(0 if good else 1)
