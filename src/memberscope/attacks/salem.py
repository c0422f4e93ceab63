"""Salem et al., NDSS 2019 ("ML-Leaks"): shadow attacks with few assumptions.

Adversary 1 trains one shadow model and one attack model for all classes, on the three largest posteriors in descending order.
Adversary 2 does the same with a shadow model of another data set: the three largest posteriors do not know how many classes there are,
so the same code runs on such shadows. Adversary 3 trains nothing: the largest posterior is the score, and a threshold comes from the
target's outputs for records outside the training set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope import seeds, signals
from memberscope.attacks import transfer
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.attacks.crossfit import MOST_TRAINING
from memberscope.checks import FloatArray
from memberscope.cores import one_thread
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions

LARGEST = 3
_TINY = 1e-300


def largest(predictions: Predictions, k: int) -> FloatArray:
    """The `k` largest posteriors, descending, (n, k): the first as log(-log p), the others as log p.

    The largest posterior of a confident prediction rounds to 1; on this scale 1 - 1e-9 and 1 - 1e-12 are as far apart as 0.9 and 0.9999.
    """
    logs = signals.top_log_probs(predictions, k)
    logs[:, 0] = np.log(np.maximum(-logs[:, 0], _TINY))
    return logs


@dataclass(frozen=True, kw_only=True)
class Salem(Attack):
    """Adversaries 1 and 2 (their sections III and IV): one shadow model, one attack model; its log-odds are the score, above 0 a member.

    The shadow is the first one that has members and non-members among its records; any others are ignored.
    Theirs is a perceptron with 64 hidden units on the posteriors themselves. With two classes the two posteriors are all there are.
    """

    name: str = "shadow_salem"
    family: str = "shadow"
    needs: frozenset[str] = frozenset({"target", "shadows"})

    def missing(self, evidence: Evidence) -> str | None:
        """Posteriors of target and shadows, and a shadow with both sides among its records."""
        absent = super().missing(evidence) or signals.missing("max_confidence", evidence.target)
        if absent or evidence.shadows is None:
            return absent
        if lacking := signals.missing("max_confidence", evidence.shadows.model(0)):
            return f"{lacking} of the shadows"
        if self._shadow(evidence) is None:
            return f"needs a shadow with at least {transfer.LEAST} members and {transfer.LEAST} non-members; there is none"
        return None

    @staticmethod
    def _shadow(evidence: Evidence) -> int | None:
        """Which model of the pool: the first with enough records on both sides."""
        assert evidence.shadow_pool is not None
        ins = evidence.shadow_pool.member.sum(axis=1)
        enough = np.minimum(ins, len(evidence.shadow_pool) - ins) >= transfer.LEAST
        return int(enough.argmax()) if enough.any() else None

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del workers, folds
        target, pool, chosen = evidence.target, evidence.shadow_pool, self._shadow(evidence)
        assert pool is not None
        assert chosen is not None
        rng = seeds.stream(seed, "attacks", self.name)
        shadow = pool.model(chosen)
        drawn = transfer.balanced(shadow.member, rng, most=MOST_TRAINING)
        k = min(LARGEST, target.n_classes or LARGEST, shadow.n_classes or LARGEST)
        with one_thread():
            model = transfer.fit(largest(shadow.select(drawn), k), shadow.member[drawn], rng)
            scores = model(largest(target, k))
        notes = [
            f"one shadow model (number {chosen + 1} of {pool.n_models}), {len(drawn) // 2} records per side, {k} largest posteriors"
        ]
        if not evidence.same_classes:
            notes.append(f"the shadow model has {shadow.n_classes} classes, the target {target.n_classes}")
        return self._scores(scores, decisions=scores >= 0.0, notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class SalemThreshold(Attack):
    """Adversary 3 (their section V): no shadow model; the logarithm of the largest posterior is the score.

    A record is called a member if its largest posterior reaches the highest `share` of those on the population. They send random
    points to the target and leave the percentile to the attacker; we use real records outside the training set, for which the share is the
    false positive rate that the attacker accepts.

    Attributes:
        share: the share of the population that would be called members.
    """

    name: str = "salem_threshold"
    family: str = "population"
    needs: frozenset[str] = frozenset({"target", "population"})
    share: float = 0.1

    def missing(self, evidence: Evidence) -> str | None:
        """Posteriors of the target on its records and on the population."""
        absent = super().missing(evidence) or signals.missing("max_confidence", evidence.target)
        if absent or evidence.population is None:
            return absent
        lacking = signals.missing("max_confidence", evidence.population.model(0))
        return f"{lacking} of the population" if lacking else None

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        assert evidence.population is not None
        scores = signals.top_log_probs(evidence.target, 1)[:, 0]
        outside = signals.top_log_probs(evidence.population.model(0), 1)[:, 0]
        threshold = np.quantile(outside, 1.0 - self.share, method="higher")
        note = f"threshold: the highest {self.share:.0%} of {len(outside)} records of the population"
        return self._scores(scores, decisions=scores >= threshold, notes=(note,))
