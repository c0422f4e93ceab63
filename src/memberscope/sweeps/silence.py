"""Silence of Optuna while a sweep uses it; afterwards, it is as loud as before."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from memberscope.overlapping import Overlapping


@contextmanager
def _errors_alone() -> Iterator[None]:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def _quiet() -> Iterator[None]:
    import optuna

    with errors_alone, warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # It warns that importances are for reaching low values, for which our values are negated.
        warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes")
        yield


errors_alone = Overlapping(_errors_alone)
"""Keeps Optuna's messages to errors; afterwards, its verbosity is what it was."""
quiet = Overlapping(_quiet)
"""Silences Optuna's messages on each trial and on each experimental feature (such as heartbeats)."""
