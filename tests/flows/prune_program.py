"""A process that pulls, removes and prunes everything that it may in a store, at random.

python -m tests.flows.prune_program PATH SEED SECONDS
"""

import sys
import time
from pathlib import Path
from random import Random

from qwenctl.flows.prune import Ages, plan, prune
from qwenctl.flows.usage import usage
from qwenctl.store.store import Store
from tests.store.store_program import MODELS, model, pull, remove, trickle

NOW = Ages(0.0, 0.0, 0.0, 0.0)
"""No grace for anything: whatever a running pull needs must be safe without."""


def main(path: Path, seed: int, seconds: float) -> None:
    """Work at random, and say when it begins."""
    store, chance = Store.open(path), Random(seed)
    for number in range(MODELS):
        model(number)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        match chance.choice(("pull", "pull", "remove", "prune", "plan")):
            case "pull":
                pull(store, chance.randrange(MODELS), trickle)
            case "remove":
                remove(store, chance)
            case "prune":
                prune(store, NOW)
            case _:
                plan(store, NOW)
                usage(store)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
