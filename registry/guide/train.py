"""Training: seeded, on one CPU thread, the same weights from the same seed on the same kind of machine.

The matrices inside the layers are moved by Muon (orthogonalised momentum), embeddings, norms and biases by
AdamW. The loss counts the assistant's tokens in full and the others a little.
Source: Muon, Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/ (coefficients of the iteration).
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from corpus import Conversations
from model import Guide, ModelConfig
from rendering import segments
from tokenizer import load_tokenizer
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
POOL = 4000
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Recipe:
    """The numbers of a training run."""

    tokens: int = 14_000_000
    batch_tokens: int = 2048
    matrix_rate: float = 0.014
    vector_rate: float = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.02
    decay_share: float = 0.6
    repeated_batches: int = 150
    prompt_weight: float = 0.1
    warmup_steps: int = 20
    seed: int = 0
    stop_after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Example:
    """The token ids of a conversation and which of them the assistant says."""

    ids: list[int]
    spoken: list[bool]


def example(source: Conversations, tokenizer: Tokenizer) -> Example:
    """Draw and encode one conversation."""
    messages, tools = source.draw()
    ids: list[int] = []
    spoken: list[bool] = []
    for text, answer in segments(messages, tools):
        encoded = tokenizer.encode(text, add_special_tokens=False).ids
        ids += encoded
        spoken += [answer] * len(encoded)
    return Example(ids, spoken)


def examples(seed: int, tokenizer: Tokenizer, tokens: int) -> list[Example]:
    """Draw conversations until they hold that many tokens."""
    source = Conversations(seed)
    drawn: list[Example] = []
    total = 0
    while total < tokens:
        drawn.append(example(source, tokenizer))
        total += len(drawn[-1].ids)
    return drawn


def batches(drawn: list[Example], limit: int, rng: random.Random) -> list[list[Example]]:
    """Batches of at most `limit` padded tokens, similar lengths together, in random order within a pool."""
    result: list[list[Example]] = []
    for start in range(0, len(drawn), POOL):
        pool = sorted(drawn[start : start + POOL], key=lambda one: len(one.ids))
        current: list[Example] = []
        made: list[list[Example]] = []
        for one in pool:
            if current and len(one.ids) * (len(current) + 1) > limit:
                made.append(current)
                current = []
            current.append(one)
        made.append(current)
        rng.shuffle(made)
        result += made
    return result


def repeated_strings(number: int, limit: int, vocabulary: int, rng: random.Random) -> list[list[Example]]:
    """Batches of random strings that come back: the quickest way to teach copying."""
    length = 96
    result = []
    for _ in range(number):
        batch = []
        for _ in range(limit // length):
            pool = [rng.randrange(vocabulary) for _ in range(200)]
            pieces = [[rng.choice(pool) for _ in range(rng.randint(2, 8))] for _ in range(rng.randint(3, 6))]
            ids: list[int] = []
            known: list[bool] = []
            seen: set[int] = set()
            while len(ids) < length:
                place = rng.randrange(len(pieces))
                ids += pieces[place]
                known += [False] + [place in seen] * (len(pieces[place]) - 1)
                seen.add(place)
                if rng.random() < 0.3:
                    ids.append(rng.randrange(vocabulary))
                    known.append(False)
            batch.append(Example(ids[:length], known[:length]))
        result.append(batch)
    return result


def collate(batch: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Padded ids, the next spoken token at each place, and the next token of any kind; else IGNORED."""
    length = max(len(one.ids) for one in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    spoken = torch.full((len(batch), length), IGNORED)
    other = torch.full((len(batch), length), IGNORED)
    for row, one in enumerate(batch):
        size = len(one.ids)
        tokens = torch.tensor(one.ids)
        mask = torch.tensor(one.spoken)[1:]
        ids[row, :size] = tokens
        spoken[row, : size - 1] = torch.where(mask, tokens[1:], IGNORED)
        other[row, : size - 1] = torch.where(mask, IGNORED, tokens[1:])
    return ids, spoken, other


class Muon:
    """Orthogonalised momentum for matrices, all of one shape together."""

    def __init__(self, matrices: list[Tensor], momentum: float, weight_decay: float) -> None:
        self.groups: dict[tuple[int, int], list[Tensor]] = {}
        for matrix in matrices:
            rows, columns = sorted(matrix.shape)
            self.groups.setdefault((rows, columns), []).append(matrix)
        self.moments = {shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()}
        self.momentum = momentum
        self.weight_decay = weight_decay

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every matrix along its gradient's orthogonalised momentum, and drop the gradients."""
        for shape, group in self.groups.items():
            gradient = torch.stack([_wide(matrix, matrix.grad) for matrix in group])
            moment = self.moments[shape]
            moment.lerp_(gradient, 1 - self.momentum)
            update = _orthogonal(gradient.lerp(moment, self.momentum))
            for matrix, change in zip(group, update, strict=True):
                scale = rate * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.mul_(1 - rate * self.weight_decay).sub_(_wide(matrix, change), alpha=scale)
                matrix.grad = None


def _wide(matrix: Tensor, value: Tensor | None) -> Tensor:
    """The value turned so that it has no more rows than columns (and back again)."""
    assert value is not None
    return value if matrix.shape[0] <= matrix.shape[1] else value.mT


def _orthogonal(x: Tensor, steps: int = 4) -> Tensor:
    """The nearest matrix with all singular values near one, by a Newton-Schulz iteration in bfloat16."""
    a, b, c = NEWTON_SCHULZ
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.float()


class Training:
    """One run: the model, its optimizers and the batches."""

    def __init__(self, tokenizer: Tokenizer, recipe: Recipe, shape: dict[str, int]) -> None:
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        self.model = Guide(ModelConfig(tokenizer.get_vocab_size(), **shape))
        self.compiled: Callable[[Tensor], Tensor] = torch.compile(self.model.hidden, dynamic=True)
        named = list(self.model.named_parameters())
        matrices = [p for name, p in named if p.ndim == 2 and "embedding" not in name]
        rest = [p for name, p in named if p.ndim != 2 or "embedding" in name]
        self.rest = rest
        self.muon = Muon(list(matrices), recipe.momentum, recipe.weight_decay)
        self.adam = torch.optim.AdamW(
            [
                {"params": [p for p in rest if p.ndim == 2], "weight_decay": 0.01},
                {"params": [p for p in rest if p.ndim != 2], "weight_decay": 0.0},
            ],
            lr=recipe.vector_rate,
            betas=(0.9, 0.98),
            eps=1e-9,
        )
        rng = random.Random(recipe.seed)
        drawn = examples(1000 + recipe.seed, tokenizer, recipe.tokens)
        ordinary = tokenizer.get_vocab_size() - 22
        self.batches = repeated_strings(recipe.repeated_batches, recipe.batch_tokens, ordinary, rng)
        self.batches += batches(drawn, recipe.batch_tokens, rng)
        self.validation = batches(examples(5, tokenizer, 40_000), recipe.batch_tokens, rng)
        self.generator = torch.Generator().manual_seed(recipe.seed)

    def loss(self, batch: list[Example]) -> Tensor:
        """Cross-entropy of the spoken tokens, plus a little of a quarter of the others."""
        ids, spoken, other = collate(batch)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.compiled(ids)
            chosen = spoken >= 0
            loss = functional.cross_entropy(self.model.project(hidden[chosen]).float(), spoken[chosen])
            drawn = (other >= 0) & (torch.rand(other.shape, generator=self.generator) < 0.25)
            if drawn.any() and self.recipe.prompt_weight:
                logits = self.model.project(hidden[drawn]).float()
                loss = loss + self.recipe.prompt_weight * functional.cross_entropy(logits, other[drawn])
        return loss

    @torch.no_grad()
    def accuracy(self) -> float:
        """Share of spoken tokens of unseen conversations that the model would choose, in float32."""
        right = total = 0
        for batch in self.validation:
            ids, spoken, _ = collate(batch)
            chosen = spoken >= 0
            best = self.model.project(self.model.hidden(ids)[chosen]).argmax(-1)
            right += int((best == spoken[chosen]).sum())
            total += int(chosen.sum())
        return right / total

    def step(self, batch: list[Example], scale: float) -> float:
        """One update at that share of the full learning rates; return the loss."""
        for group in self.adam.param_groups:
            group["lr"] = self.recipe.vector_rate * scale
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.muon.step(self.recipe.matrix_rate * scale)
        torch.nn.utils.clip_grad_norm_(self.rest, 1.0)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        return loss.item()

    def scales(self) -> Iterator[float]:
        """The learning rate's share at each step: a short rise, a plateau, a straight fall to zero."""
        steps, fall = len(self.batches), self.recipe.decay_share
        for step in range(steps):
            done = step / steps
            rise = min(1.0, (step + 1) / self.recipe.warmup_steps)
            yield rise * min(1.0, (1 - done) / fall)

    def run(self, checkpoint: Path) -> None:
        """Train to the end, printing progress; write the checkpoint now and then, and at the end."""
        started, tokens, average = time.monotonic(), 0, 0.0
        for number, (batch, scale) in enumerate(zip(self.batches, self.scales(), strict=True), 1):
            average = 0.95 * average + 0.05 * self.step(batch, scale)
            tokens += max(len(one.ids) for one in batch) * len(batch)
            seconds = time.monotonic() - started
            last = number == len(self.batches)
            if self.recipe.stop_after_seconds and seconds > self.recipe.stop_after_seconds:
                last = True
            if number % 200 == 0 or last:
                print(f"step {number}/{len(self.batches)} loss {average:.4f}", end=" ")
                print(f"{tokens / seconds:.0f} tokens/s {seconds:.0f} s", flush=True)
            if number % 1000 == 0 or last:
                print(f"validation accuracy {self.accuracy():.4f}", flush=True)
                save(self.model, checkpoint)
            if last:
                break


def save(model: Guide, path: Path) -> str:
    """Write the checkpoint; return the SHA-256 of the weights."""
    torch.save({"config": asdict(model.config), "weights": model.state_dict()}, path)
    weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    return hashlib.sha256(weights).hexdigest()


def load(path: Path) -> Guide:
    """Read a checkpoint."""
    stored = torch.load(path, map_location="cpu", weights_only=True)
    model = Guide(ModelConfig(**stored["config"]))
    model.load_state_dict(stored["weights"])
    return model.eval()


def train(
    tokenizer_path: Path, checkpoint: Path, recipe: Recipe, shape: dict[str, int] | None = None
) -> None:
    """Train the guide and write its checkpoint."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    training = Training(load_tokenizer(tokenizer_path), recipe, shape or {})
    parameters = sum(p.numel() for p in training.model.parameters())
    print(f"{parameters} parameters, {len(training.batches)} steps, {recipe}", flush=True)
    training.run(checkpoint)
    print(f"weights sha256 {save(training.model, checkpoint)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=ModelConfig(0).block_count)
    parser.add_argument("--feed-forward", type=int, default=ModelConfig(0).feed_forward_length)
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    chosen = vars(parser.parse_args())
    paths = chosen.pop("tokenizer"), chosen.pop("checkpoint")
    sizes = {"block_count": chosen.pop("layers"), "feed_forward_length": chosen.pop("feed_forward")}
    train(*paths, Recipe(**chosen), sizes)
