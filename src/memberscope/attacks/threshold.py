"""Threshold attacks: the record's loss, or its prediction's entropy, is the score (Yeom et al. 2018; Song & Mittal 2021).

They rank records exactly as tensorflow_privacy's ``threshold`` and ``threshold-entropy`` do when both are given the same
losses or entropies, ties included. From logits the losses themselves differ where tensorflow_privacy's collapse: it
computes the softmax in the logits' own dtype and clips probabilities at 1e-8, so that confident records tie at 0 and wrong
ones at 18.4; ours stay distinct.
"""

from __future__ import annotations

from dataclasses import dataclass

from memberscope import signals
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions


def entropy_signal(predictions: Predictions) -> str | None:
    """The signal that an entropy threshold uses: the given entropy, else the modified entropy; None if neither is available.

    As in tensorflow_privacy, it is the modified entropy (Song & Mittal 2021, Eq. 8) where labels are known, which is always the case
    with logits and probabilities here.
    """
    if predictions.entropy_nats is not None:
        return "entropy_nats"
    return None if signals.missing("modified_entropy", predictions) else "modified_entropy"


@dataclass(frozen=True, kw_only=True)
class ThresholdLoss(Attack):
    """Minus the loss in nats: members fit better (Yeom et al. 2018, Adversary 2, with every threshold tried)."""

    name: str = "threshold_loss"
    family: str = "threshold"
    tfp_name: str | None = "threshold"

    def missing(self, evidence: Evidence) -> str | None:
        """The loss must be given or computable."""
        return super().missing(evidence) or signals.missing("loss_nats", evidence.target)

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        clipped = signals.clipped(evidence.target)
        notes = (f"{clipped} true-class probabilities below {signals.PROB_FLOOR:g} were raised to it",) if clipped else ()
        return self._scores(0.0 - signals.loss_nats(evidence.target), notes=notes)


@dataclass(frozen=True, kw_only=True)
class ThresholdEntropy(Attack):
    """Minus the (modified) entropy in nats: the model is more confident of members (Song & Mittal 2021, Eq. 7 and 8)."""

    name: str = "threshold_entropy"
    family: str = "threshold"
    tfp_name: str | None = "threshold-entropy"

    def missing(self, evidence: Evidence) -> str | None:
        """The entropy must be given or computable."""
        if entropy_signal(evidence.target) is None:
            return "needs logits, probs or entropy_nats"
        return super().missing(evidence)

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        name = entropy_signal(evidence.target)
        assert name is not None
        return self._scores(0.0 - signals.get(name)(evidence.target), notes=(f"threshold on {name}",))
