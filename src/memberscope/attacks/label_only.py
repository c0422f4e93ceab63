"""Attacks on a model that publishes a class and nothing else.

From a model that publishes more they read the class alone, so that what labels by themselves give away can be seen beside the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope import signals
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.attacks.metric import MetricCorrectness
from memberscope.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class LabelOnlyRobust(Attack):
    """Share of a record's copies, itself among them, that the model gives the true label (Choquette-Choo et al., ICML 2021).

    Members lie further from the decision boundary, so that more of their augmented or noisy copies stay right. They
    choose a threshold on shadow models; here every threshold is tried, there is no decision, and records with as many right copies tie.
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
        kept = (copies == labels[:, None]).sum(axis=1) + signals.correctness(evidence.target)
        scores = np.asarray(kept / (copies.shape[1] + 1), dtype=np.float64)
        return self._scores(scores, notes=(f"{copies.shape[1]} perturbed copies a record and the record itself",))


LABEL_ONLY = (MetricCorrectness(name="label_only_gap", family="label_only"), LabelOnlyRobust())
"""`label_only_gap` is Yeom et al. 2018's Adversary 1, a member if classified rightly: the rule of `metric_correctness`."""
