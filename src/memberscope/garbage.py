"""How often Python looks for garbage: objects that refer to each other and that nothing else refers to."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from memberscope.overlapping import Overlapping

CONTAINERS = 10_000  # new ones between two looks; Python's own default is 700, or 2,000 in newer versions


@contextmanager
def _seldom_collected() -> Iterator[None]:
    before = gc.get_threshold()
    if 0 < before[0] < CONTAINERS:
        gc.set_threshold(CONTAINERS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


seldom_collected = Overlapping(_seldom_collected)
"""Looks for garbage after `CONTAINERS` new containers, for a block or, as a decorator, for each call of a function.

Every now and then a look goes through all objects of the process. Where MLflow, pandas and scikit-learn are loaded, these are so many that
the looks of Python's default took a tenth of the processor time of an audit of 500 records, and found next to nothing. Thresholds hold for
the whole process; they are restored at the end. Collection that is off, or less frequent already, stays as it is.
"""
