"""Turns: a lock that is handed on in the order in which it was asked for."""

import threading
from collections import deque


class Turns:
    """A context manager for one thread at a time, first come first served.

    A plain lock goes to whoever runs: a thread that takes it again at once would keep all others out.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()  # it stays taken, by the next one
            else:
                self._taken = False
