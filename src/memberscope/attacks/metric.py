"""Metric attacks (Song & Mittal, USENIX Security 2021): one threshold per class, fitted on shadow models, applied to the target.

These are attacks of an outsider: no member of the target is known, and the thresholds come from the shadows' records that are not the
target's (`Evidence.shadow_pool`). The threshold of a class is an observed shadow value, a
record is called a member if its value is at least that, and among equally good thresholds the highest is taken. Thresholds are compared by
(share of shadow members called members + share of shadow non-members called non-members) / 2. The paper's metric is the same balanced
accuracy, of the `decisions`, over the target's records of all classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope import signals
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.attacks.transfer import classes_lack, pool_lacks
from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions


def best_threshold(values: FloatArray, member: BoolArray) -> float:
    """The observed value that, as "member if at least", best separates (n,) `values`; the highest of equally good ones.

    Both sides must occur.
    """
    candidates, inverse = np.unique(values, return_inverse=True)
    ins = np.bincount(inverse, weights=member, minlength=len(candidates)).astype(np.int64)
    outs = np.bincount(inverse, weights=~member, minlength=len(candidates)).astype(np.int64)
    n_in, n_out = int(ins.sum()), int(outs.sum())
    called = ins[::-1].cumsum()[::-1]  # members at or above each candidate
    false = outs[::-1].cumsum()[::-1]
    gain = called * n_out - false * n_in  # integers, so that ties are exact: (TPR - FPR) n_in n_out
    return float(candidates[len(gain) - 1 - int(gain[::-1].argmax())])


@dataclass(frozen=True, kw_only=True)
class MetricCorrectness(Attack):
    """Member if classified correctly (Yeom et al. 2018; Song & Mittal 2021, section 4). Needs no shadow; the score is 1 or 0."""

    name: str = "metric_correctness"
    family: str = "metric"

    def missing(self, evidence: Evidence) -> str | None:
        """The predicted class must be known."""
        return super().missing(evidence) or signals.missing("correctness", evidence.target)

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        scores = signals.correctness(evidence.target)
        return self._scores(scores, decisions=scores == 1.0)


@dataclass(frozen=True, kw_only=True)
class MetricThreshold(Attack):
    """Member if a signal, with its sign chosen so that members have high values, reaches the threshold of the record's class.

    The score is the value minus that threshold, so that `decisions` are ``score >= 0``. A class for which the shadows hold no
    member or no non-member takes the threshold fitted on all classes; the notes say so.

    Attributes:
        signal: the name of the signal.
    """

    family: str = "metric"
    needs: frozenset[str] = frozenset({"target", "shadows"})
    signal: str

    def missing(self, evidence: Evidence) -> str | None:
        """The signal and the labels must be known of target and shadows, and the shadows must have both sides."""
        absent = super().missing(evidence) or signals.missing(self.signal, evidence.target)
        if absent or evidence.shadows is None:
            return absent
        lacking = signals.missing(self.signal, evidence.shadows.model(0))
        return f"{lacking} of the shadows" if lacking else classes_lack(evidence) or pool_lacks(evidence)

    def values(self, predictions: Predictions) -> FloatArray:
        """The signal, higher = more likely a member, (n,)."""
        signal = signals.get(self.signal)
        return signal.sign * signal(predictions)

    def thresholds(self, shadows: ShadowPredictions, classes: Array) -> tuple[FloatArray, list[int | str]]:
        """The threshold of each of (k,) classes, (k,), and the classes that use the threshold of all classes."""
        assert shadows.labels is not None
        values = np.concatenate([self.values(shadows.model(k)) for k in range(shadows.n_models)])
        member = shadows.member.ravel()
        labels = np.tile(shadows.labels, shadows.n_models)
        thresholds = np.full(len(classes), best_threshold(values, member))
        borrowed: list[int | str] = []
        for place, c in enumerate(classes):
            here = labels == c
            if 0 < int(member[here].sum()) < int(here.sum()):
                thresholds[place] = best_threshold(values[here], member[here])
            else:
                borrowed.append(c.item())
        return thresholds, borrowed

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        target, shadows = evidence.target, evidence.shadow_pool
        assert shadows is not None
        assert target.labels is not None
        classes, place = np.unique(target.labels, return_inverse=True)
        thresholds, borrowed = self.thresholds(shadows, classes)
        scores = self.values(target) - thresholds[place]
        notes = [f"one threshold per class from {shadows.n_models} shadow models"]
        if borrowed:
            notes.append(f"classes without shadow members or non-members use the threshold of all classes: {borrowed}")
        return self._scores(scores, decisions=scores >= 0.0, notes=tuple(notes))


METRIC = (
    MetricCorrectness(),
    MetricThreshold(name="metric_confidence", signal="confidence"),
    MetricThreshold(name="metric_entropy", signal="entropy_nats"),
    MetricThreshold(name="metric_modified_entropy", signal="modified_entropy"),
)
