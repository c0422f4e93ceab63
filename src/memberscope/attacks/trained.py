"""Trained attacks: a classifier of members against non-members over the target's own predictions, cross-fitted.

The types are tensorflow_privacy's ``lr``, ``mlp``, ``rf`` and ``knn``; the training is not. Its grids (432 forests, 18
perceptrons) search over models that all fit noise: forests with leaves of one to four records, three to seven neighbours.
Members and non-members differ by little, so what a model needs is smoothness; here it is chosen once, by the size of the
training part.

``trained_lowfpr`` is for an attacker who must avoid false accusations, where a symmetric loss concentrates on the middle of the
ranking: see `fit_low_fpr`. Its symmetric twin is ``trained_mlp``.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from memberscope.attacks import forest, perceptron
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.attacks.crossfit import FOLDS, Learner, Model, cross_fit, shortage
from memberscope.attacks.features import distinct, extract
from memberscope.attacks.logistic import fit_logistic
from memberscope.attacks.neighbours import NeighbourVotes
from memberscope.checks import BoolArray, FloatArray
from memberscope.evidence import Evidence

RANK_FLOOR = 0.05
"""Where the weights of `fit_low_fpr` level off. On four of the five populations described there, 0.02 and 0.2 gave the same partial AUC
below FPR 0.01 within 4%; on the fifth, with 20,000 records, 2% more and 12% less."""


def _log_odds(probability: FloatArray, records: int) -> FloatArray:
    """Log-odds of probabilities that rest on `records` records: half a record of either kind is added."""
    shrunk = (probability * records + 0.5) / (records + 1.0)
    odds: FloatArray = np.log(shrunk / (1.0 - shrunk))
    return odds


def fit_perceptron(x: FloatArray, member: BoolArray, seed: int) -> Model:
    """The mean log-odds of four perceptrons with 32 hidden units, each stopped early on its own tenth of the training part."""
    return perceptron.fit(x, member, np.random.default_rng(seed))


def fit_forest(x: FloatArray, member: BoolArray, seed: int, *, weights: FloatArray | None = None) -> Model:
    """Sixty trees of up to 45 leaves, each on 0.3 of the records (on up to 1,000 where there are few), with 5 or more per leaf.

    Of more than 436,000 records, each tree has `memberscope.attacks.forest.MOST_DRAWN` draws.

    Args:
        x: (m, d) features.
        member: (m,) truth.
        seed: the seed of the draws of records and of split features.
        weights: (m,) weights of the records, which are drawn in proportion to them; None for equal weights.
    """
    drawn = int(np.clip(0.3 * len(x), min(1000, len(x)), min(len(x), forest.MOST_DRAWN)))
    fitted = forest.fit(x, member, np.random.default_rng(seed), drawn=drawn, least=max(5, drawn // 45), weights=weights)
    return lambda rows: _log_odds(fitted(rows), len(x))


def top_weights(scores: FloatArray, member: BoolArray) -> FloatArray:
    """Weights (m,), of mean 1 on each side: 1 / (share of non-members that score above the record + `RANK_FLOOR`).

    That share is the false positive rate at which the record would be called a member.
    """
    outs = np.sort(scores[~member])
    above = len(outs) - np.searchsorted(outs, scores, side="right")
    weights: FloatArray = 1.0 / (above / len(outs) + RANK_FLOOR)
    for side in (member, ~member):
        weights[side] /= weights[side].mean()
    return weights


def fit_low_fpr(x: FloatArray, member: BoolArray, seed: int, *, perceptrons: Learner = fit_perceptron) -> Model:
    """Fit the perceptrons, and a forest that concentrates on the records that these rank high; the score is the sum of their log-odds.

    The forest draws a record at false positive rate r in proportion to 1 / (r + 0.05), up to twenty times as often as one at the bottom.
    On simulated populations, the partial AUC below FPR 0.01 was between 5% less and 2% more than that of the perceptrons where the best
    ranking is smooth (members shifted, or more spread out), and between 3% less and 1% more with a few sure non-members or a narrow
    cluster of members. Where some non-members score above such a cluster, it was 30% higher with 20,000 training records, and three times
    as high with 4,000. The AUC was lower by at most 0.004, and by 0.014 in this last population with 20,000.

    Args:
        x: (m, d) features.
        member: (m,) truth.
        seed: the seed of the perceptrons; the next number is that of the forest.
        perceptrons: fits the perceptrons.
    """
    net = perceptrons(x, member, seed)
    trees = fit_forest(x, member, (seed + 1) % 2**31, weights=top_weights(net(x), member))
    return lambda rows: net(rows) + trees(rows)


def fit_neighbours(x: FloatArray, member: BoolArray, seed: int) -> Model:
    """Share of members among about 2.5 sqrt(m) nearest of m training records.

    A saturated model gives thousands of records the same features; a tree would pick an arbitrary few of them. Equal points are
    therefore merged, and all points at the distance of the k-th record are counted.
    """
    del seed
    points, inverse, counts = distinct(x)
    members = np.bincount(inverse, weights=member, minlength=len(points))
    votes = NeighbourVotes(points, counts, members, max(1, round(2.5 * np.sqrt(len(x)))))

    def model(rows: FloatArray) -> FloatArray:
        queries, where, _ = distinct(rows)
        total, inside = votes(queries)
        odds: FloatArray = np.log((inside + 0.5) / (total - inside + 0.5))
        return odds[where]

    return model


@dataclass(frozen=True, kw_only=True)
class Trained(Attack):
    """A cross-fitted classifier.

    Attributes:
        learner: fits one training part.
        columns: the features that it uses, of those available; None for all.
        class_means: the number of features whose class means are added.
        seed_name: the name of the attack whose random numbers it uses; empty for its own.
        one_by_one: whether the folds are fitted one after another, since the learner takes many small steps that hold the interpreter's
            lock: with two threads, 100,000 records took the nearest neighbours as long as with one, and half as much processor time again.
    """

    family: str = "trained"
    cross_fitted: bool = True
    learner: Learner
    columns: tuple[str, ...] | None = None
    class_means: int = 2
    seed_name: str = ""
    one_by_one: bool = False

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        folds = folds or FOLDS
        reason = shortage(evidence.target, folds)
        if reason is not None:
            return self._skip(reason)
        features = extract(evidence.target, self.columns, class_means=self.class_means)
        fitted = cross_fit(
            evidence.target,
            features,
            self.learner,
            name=self.seed_name or self.name,
            seed=seed,
            folds=folds,
            workers=1 if self.one_by_one else workers,
        )
        return self._scores(fitted.scores, folds=fitted.folds, notes=fitted.notes)


TRAINED = (
    Trained(name="trained_lr", tfp_name="lr", learner=fit_logistic),
    Trained(name="trained_mlp", tfp_name="mlp", learner=fit_perceptron),
    Trained(name="trained_rf", tfp_name="rf", learner=fit_forest),
    Trained(
        name="trained_knn",
        tfp_name="knn",
        learner=fit_neighbours,
        columns=("scaled_logit", "log_entropy"),
        class_means=1,
        one_by_one=True,
    ),
    Trained(name="trained_lowfpr", learner=fit_low_fpr),
)


class CachedLearner:
    """A learner that keeps its models: for a training part and seed that it has seen, it returns the model that it fitted then."""

    def __init__(self, learner: Learner) -> None:
        """Keep the models of `learner`, which must depend on its arguments alone."""
        self._learner = learner
        self._models: dict[tuple[bytes, tuple[int, ...], int], Model] = {}

    def __call__(self, x: FloatArray, member: BoolArray, seed: int) -> Model:
        """See `memberscope.attacks.crossfit.Learner`."""
        key = hashlib.blake2b(x.tobytes() + member.tobytes()).digest(), x.shape, seed
        if key not in self._models:
            self._models[key] = self._learner(x, member, seed)
        return self._models[key]


def for_refits(attacks: Sequence[Attack]) -> tuple[Attack, ...]:
    """The attacks as the null control refits them, each under the same permutations and seeds.

    In the refits, ``trained_lowfpr`` uses the random numbers of ``trained_mlp``: both then need the same perceptrons, which are fitted
    once. The AUC of a draw has the same distribution as with random numbers of its own; only the draws of the two attacks become dependent.
    The attacks keep the perceptrons as long as they live.
    """
    perceptrons = CachedLearner(fit_perceptron)
    low_fpr = functools.partial(fit_low_fpr, perceptrons=perceptrons)
    found: list[Attack] = []
    for attack in attacks:
        if isinstance(attack, Trained) and attack.learner is fit_perceptron:
            found.append(replace(attack, learner=perceptrons))
        elif isinstance(attack, Trained) and attack.learner is fit_low_fpr:
            found.append(replace(attack, learner=low_fpr, seed_name="trained_mlp"))
        else:
            found.append(attack)
    return tuple(found)
