"""Attacks on a model that publishes a class and nothing else.

If a model publishes more, they use only the class, which shows how much the labels alone give away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope import signals
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.attacks.metric import MetricCorrectness
from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.evidence import Evidence

WEIGHT_POWER = 4
PRIOR_RECORDS = 10.0


def robustness(right: BoolArray, labels: Array) -> FloatArray:
    """How much better a record's copies keep the true label than those of its class do, (n,), higher for members.

    A copy's weight is the share of all records that keep their label under its perturbation, to the power `WEIGHT_POWER`: a label that
    changes under a weak perturbation is the most informative, while strong perturbations, which change nearly all labels, order the records
    that no weak one changes. From the weighted share of a record's correctly classified copies, the mean of its class is subtracted, shrunk
    toward that of all records with the weight of `PRIOR_RECORDS` records. Otherwise a class that a model falls back on whenever it is
    unsure would look like members.

    Args:
        right: (n, copies) bool, whether that copy of the record gets the record's label.
        labels: (n,) classes.
    """
    n, classes = len(right), np.unique(labels, return_inverse=True)[1]
    # Sums of integers are exact in any order.
    in_class = np.stack([np.bincount(classes, weights=column) for column in right.T], axis=1)
    everywhere = in_class.sum(axis=0) / n
    weights = everywhere**WEIGHT_POWER
    total = float(weights.sum())
    if total == 0:
        return np.zeros(n)
    count = np.bincount(classes)[:, None]
    expected = (in_class + PRIOR_RECORDS * everywhere) / (count + PRIOR_RECORDS)
    score: FloatArray = ((right - expected[classes]) * weights).sum(axis=1) / total
    return score


@dataclass(frozen=True, kw_only=True)
class LabelOnlyRobust(Attack):
    """How many of a record's copies, itself among them, get the true label (Choquette-Choo et al., ICML 2021); see `robustness`.

    Members lie further from the decision boundary, so that more of their augmented or noisy copies are still classified correctly. The
    paper counts copies of one strength and chooses strength and threshold on shadow models. Here copies of several strengths are weighted,
    each record is compared with its class, every threshold is tried, and no decision is made. The weights and the classes' shares come from
    all queried records, members or not. On perceptrons that fit Location-30, 24 copies give an AUC of .915 and a TPR of .15 at an FPR of
    .01 this way; their plain count, at flip rates of .01 to .1, gives .885 and .000, since 6.5% of the non-members tie at the top.
    """

    name: str = "label_only_robust"
    family: str = "label_only"
    needs: frozenset[str] = frozenset({"target", "perturbed_labels"})

    def missing(self, evidence: Evidence) -> str | None:
        """The published class of the record itself, its true label, and the published classes of its copies."""
        return super().missing(evidence) or signals.missing("correctness", evidence.target)

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        copies, labels = evidence.perturbed_labels, evidence.target.labels
        assert copies is not None
        assert labels is not None
        right = np.column_stack([signals.correctness(evidence.target) > 0, copies == labels[:, None]])
        note = f"{copies.shape[1]} perturbed copies per record and the record itself, compared with the shares of its class"
        return self._scores(robustness(right, labels), notes=(note,))


LABEL_ONLY = (MetricCorrectness(name="label_only_gap", family="label_only"), LabelOnlyRobust())
"""`label_only_gap` is Yeom et al. 2018's Adversary 1, a member if classified correctly: the rule of `metric_correctness`."""
