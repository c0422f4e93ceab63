"""How the statistical tests are bounded, and the data that they share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

Within = Callable[..., None]
Gaussian = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def within() -> Within:
    """Assert that a rate seen in `trials` is compatible with a true rate in [at_least, at_most].

    If the true rate is in that range the assertion fails in fewer than one of a thousand runs with fresh seeds (0.0005 a side);
    as the seeds are fixed, it passes always or never.
    """

    def check(hits: int, trials: int, *, at_least: float = 0.0, at_most: float = 1.0) -> None:
        low, high = stats.binom.ppf(0.0005, trials, at_least), stats.binom.ppf(0.9995, trials, at_most)
        assert low <= hits <= high, f"{hits}/{trials} = {hits / trials:.4f}; allowed {low / trials:.4f} to {high / trials:.4f}"

    return check


@pytest.fixture
def gaussian() -> Gaussian:
    """Scores of `n_member` members around `distance` and of `n_nonmember` non-members around 0, with sd 1, shuffled."""

    def make(
        distance: float, n_member: int, n_nonmember: int, rng: np.random.Generator, *, decimals: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        member = rng.permutation(np.arange(n_member + n_nonmember) < n_member)
        scores = rng.normal(size=member.size) + distance * member
        return (scores if decimals is None else scores.round(decimals)), member

    return make
