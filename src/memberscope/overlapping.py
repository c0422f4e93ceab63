"""A setting of the whole process that several threads need for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ContextDecorator, ExitStack


class Overlapping(ContextDecorator):
    """A context that blocks share which overlap in several threads: the first to begin enters it, and the last to end leaves it.

    Each by itself would restore what it found, such as the filters of `warnings`, while another still relies on its own,
    or leave another's in place for good. It can also decorate functions.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        """Take what makes the context anew."""
        self._make, self._lock, self._blocks, self._inside = make, threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        """Enter the context unless another block has."""
        with self._lock:
            if not self._blocks:
                self._inside.enter_context(self._make())
            self._blocks += 1

    def __exit__(self, *error: object) -> None:
        """Leave the context unless another block still needs it."""
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                self._inside.close()
