from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from memberscope.evidence import Evidence


@pytest.fixture(scope="session")
def with_models() -> Callable[[Evidence, np.ndarray], Evidence]:
    """A function that keeps some of the shadow models, in the given order; the target's own outputs, which come first, stay."""

    def choose(evidence: Evidence, chosen: np.ndarray) -> Evidence:
        assert evidence.shadows is not None
        rows = np.concatenate([[0], 1 + chosen])
        return replace(
            evidence,
            shadows=evidence.shadows.models(chosen),
            population=None if evidence.population is None else evidence.population.models(rows),
            augmented=None if evidence.augmented is None else evidence.augmented[rows],
        )

    return choose
