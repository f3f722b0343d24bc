"""A bounded number of threads over many items; the first error stops the rest."""

import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Final, TypeVar

_LAST_SECONDS: Final = 0.5

Item = TypeVar("Item")
Work = Callable[[Item, Event], None]
"""What is done with one item. The event is set when the others stop: a long work looks at it."""


def side_by_side(work: Work[Item], items: Iterable[Item], jobs: int) -> None:
    """Do `work` with every item, in their order, up to `jobs` of them at the same time.

    The threads are daemons: a Ctrl-C must not wait for a disk or a registry that does not answer.
    Raises: what `work` raises first.
    """
    waiting: SimpleQueue[Item] = SimpleQueue()
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    stop, count = Event(), 0
    for item in items:
        waiting.put(item)
        count += 1

    def run() -> None:
        try:
            while not stop.is_set():
                work(waiting.get_nowait(), stop)
        except Empty:
            ended.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
            stop.set()
            ended.put(error)
        else:
            ended.put(None)

    threads = [Thread(target=run, daemon=True) for _ in range(min(jobs, count))]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            if failure := ended.get():
                raise failure
    finally:
        stop.set()
        _let_end(threads)


def _let_end(threads: Iterable[Thread]) -> None:
    """Give the others the moment that they need to keep what they have, and no more."""
    end = time.monotonic() + _LAST_SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
