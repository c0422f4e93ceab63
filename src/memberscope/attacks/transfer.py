"""Attack models that are fitted on shadow records, whose membership the attacker knows, and applied to the target's.

They are the perceptrons of `memberscope.attacks.perceptron`. A training part has as many members as non-members, so that a
score is the log-odds of membership at equal priors: the threshold is 0, and scores of different attack models are on the same scale.
"""

from __future__ import annotations

import numpy as np

from memberscope.attacks import perceptron
from memberscope.attacks.crossfit import Model
from memberscope.attacks.features import Features, distinct, fit_scaling
from memberscope.attacks.folds import Index
from memberscope.checks import BoolArray, FloatArray
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions

LEAST = 10
"""Records that an attack model needs on each side."""


def pool_lacks(evidence: Evidence) -> str | None:
    """Why nothing can be learned from the shadows' pool, as a phrase; None where both sides occur and labels are known."""
    pool = evidence.shadow_pool
    if pool is None:
        return "needs shadows"
    if evidence.target.labels is None or pool.labels is None:
        return "needs labels"
    if not pool.member.any():
        return "needs shadows with members; none of their records is a member"
    return "needs shadows with non-members; all of their records are members" if pool.member.all() else None


def classes_lack(evidence: Evidence) -> str | None:
    """Why shadows of another data set cannot be used, as a phrase; None where they have the target's number of classes."""
    if evidence.same_classes or evidence.shadows is None:
        return None
    return f"needs shadows of the target's {evidence.target.n_classes} classes; theirs are {evidence.shadows.n_classes}"


def rows_of(pool: ShadowPredictions, model: Index, record: Index) -> Predictions:
    """The output of shadow model `model[j]` for record `record[j]`, for each j; from logits or probabilities, with both sides present."""
    form = pool.form
    assert pool.labels is not None
    return Predictions(
        **{form: getattr(pool, form)[model, record]},
        labels=pool.labels[record],
        member=pool.member[model, record],
        released=pool.released,
    )


def balanced(member: BoolArray, rng: np.random.Generator, *, most: int) -> Index:
    """Positions in `member` (m,) of as many members as non-members, at most `most` of each, shuffled."""
    ins, outs = np.flatnonzero(member), np.flatnonzero(~member)
    size = min(len(ins), len(outs), most)
    ins = ins if len(ins) == size else rng.choice(ins, size, replace=False)
    outs = outs if len(outs) == size else rng.choice(outs, size, replace=False)
    return rng.permutation(np.concatenate([ins, outs]))


def fit(values: FloatArray, member: BoolArray, rng: np.random.Generator) -> Model:
    """Fit an attack model on raw features (m, d), with both sides equally frequent: (r, d) -> (r,) log-odds of membership.

    Features are scaled to unit variance over the training part; constant ones are dropped, and without any all scores are 0. Equal
    rows get equal scores, whatever the other rows are.
    """
    whole = Features(values=values, names=(), labels=None, by_class=())
    index = np.arange(len(values))
    scaling = fit_scaling(whole, index)
    if not len(scaling.kept):
        return lambda rows: np.zeros(len(rows))
    net = perceptron.fit(scaling(whole, index), member, rng)

    def model(rows: FloatArray) -> FloatArray:
        points, where, _ = distinct(rows)
        part = Features(values=points, names=(), labels=None, by_class=())
        return net(scaling(part, np.arange(len(points))))[where]

    return model
