"""Logistic regression that also converges on data without any signal.

On a training part whose two sides are alike, the loss is flat to the last digit, and scikit-learn's line searches give up with a warning,
even that of newton-cholesky. On 115 of 150 such data sets its AUC differed (at a tolerance of 1e-10), as on 96 of 150 with columns
about 10,000, where it falls back on lbfgs; on all other data the results are the same.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from memberscope.attacks.crossfit import Model
from memberscope.checks import BoolArray, FloatArray

_MOST_STEPS = 50


def fit_logistic(x: FloatArray, member: BoolArray, seed: int) -> Model:
    """Fit a logistic regression on features (m, d) by Newton's method, with a unit ridge on the weights and none on the intercept;
    nothing in it is random.

    Steps are halved until the loss falls; the fit ends when no step lowers the loss any more. Equal rows get equal scores.
    """
    del seed
    design = np.column_stack([np.ones(len(x)), x])
    ridge = np.r_[1e-9, np.ones(x.shape[1])]
    weights = np.zeros(design.shape[1])

    def loss(w: FloatArray) -> float:
        odds = design @ w
        return float(np.logaddexp(0.0, np.where(member, -odds, odds)).sum() + 0.5 * ridge @ w**2)

    now = loss(weights)
    for _ in range(_MOST_STEPS):
        p = expit(design @ weights)
        gradient = design.T @ (p - member) + ridge * weights
        step = np.linalg.solve((design.T * (p * (1 - p))) @ design + np.diag(ridge), gradient)
        size, after = 1.0, loss(weights - step)
        while after >= now and size > 1e-3:
            size /= 2
            after = loss(weights - size * step)
        if after >= now:
            break
        weights, gain, now = weights - size * step, now - after, after
        if gain < 1e-9 * now:
            break
    return lambda rows: weights[0] + (rows * weights[1:]).sum(axis=1)
