"""An attack with the gradients of the loss, for attackers who know the weights (after Nasr et al., S&P 2019).

Training drives the gradient of a member's loss toward zero. Nasr et al. feed whole gradients, activations and the loss to a network trained
on known members (their stand-alone, supervised attacker). The norm by layer captures most of what such an attacker finds and works for any
model. The attack needs the weights and known members: it is a measurement, cross-fitted like the trained attacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.attacks.crossfit import FOLDS, cross_fit, shortage
from memberscope.attacks.features import Features
from memberscope.attacks.trained import fit_perceptron
from memberscope.checks import Array, FloatArray
from memberscope.evidence import Evidence

_TINY = 1e-30


def log_norms(gradients: Array) -> FloatArray:
    """Logarithms of a record's gradient norm over all layers, then of each layer's, (n, 1 + layers); a norm of 0 counts as 1e-30."""
    norms = np.asarray(gradients, dtype=np.float64)
    logarithms: FloatArray = np.log(np.maximum(np.column_stack([np.linalg.norm(norms, axis=1), norms]), _TINY))
    return logarithms


@dataclass(frozen=True, kw_only=True)
class GradientNorm(Attack):
    """A cross-fitted perceptron on the logarithms of gradient norms by layer, and on the class's mean of the whole norm."""

    name: str = "gradient_norm"
    family: str = "white_box"
    needs: frozenset[str] = frozenset({"target", "gradients"})
    cross_fitted: bool = True

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        folds = folds or FOLDS
        reason = shortage(evidence.target, folds)
        if reason is not None:
            return self._skip(reason)
        assert evidence.gradients is not None
        values, labels = log_norms(evidence.gradients), evidence.target.labels
        labels = None if labels is None else np.unique(labels, return_inverse=True)[1]
        names = ("log_norm", *(f"log_norm_{layer}" for layer in range(1, values.shape[1])))
        features = Features(values=values, names=names, labels=labels, by_class=() if labels is None else (0,))
        fitted = cross_fit(evidence.target, features, fit_perceptron, name=self.name, seed=seed, folds=folds, workers=workers)
        return self._scores(fitted.scores, folds=fitted.folds, notes=fitted.notes)
