"""Our logistic regression is scikit-learn's, and has nothing to warn of where there is nothing to learn."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.attacks.logistic import fit_logistic


@pytest.mark.parametrize("gap", [0.0, 1.0, 50.0])
def test_logistic_regression_is_scikit_learns(gap: float) -> None:
    """From noise to perfect separation, where only the ridge keeps the weights finite."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    member = rng.random(400) < 0.3
    x = rng.normal(size=(400, 4)) + gap * member[:, None]
    expected = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-8).fit(x, member).decision_function(x)
    np.testing.assert_allclose(fit_logistic(x, member, 0)(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e3])
def test_two_sides_that_are_the_same_give_one_score(scale: float) -> None:
    """Each record twice, once on either side: every weight is 0 but for rounding. Warnings are errors here."""
    x = np.repeat(np.random.default_rng(0).normal(size=(150, 9)), 2, axis=0) * scale
    scores = fit_logistic(x, np.arange(300) % 2 == 0, 0)(x)
    np.testing.assert_allclose(scores, 0.0, atol=1e-9)


def test_equal_rows_get_equal_scores() -> None:
    rng = np.random.default_rng(0)
    x, member = rng.normal(size=(200, 7)), rng.random(200) < 0.5
    model = fit_logistic(x, member, 0)
    rows = rng.normal(size=(1, 7))
    assert len(np.unique(model(np.repeat(rows, 101, axis=0)))) == 1
