"""Liu et al., CCS 2022 ("Membership Inference Attacks by Exploiting Loss Trajectory").

A model's loss on a record over the course of training is more informative than its last value. The attacker, who sees only the last model,
distils it and takes the losses of the distilled models, one per epoch, and the target's own as the last. The same losses of a shadow
model, whose members are known, train the attack model. Distillation happens elsewhere: this module reads `Evidence.trajectories`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope import seeds
from memberscope.attacks import transfer
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.attacks.crossfit import MOST_TRAINING
from memberscope.checks import Array, FloatArray
from memberscope.cores import one_thread
from memberscope.evidence import Evidence

_TINY = 1e-12


def steps(losses: Array) -> FloatArray:
    """Losses (n, steps) in nats beside their logarithms, (n, 2 * steps): members differ by factors, outliers by amounts."""
    values = np.asarray(losses, dtype=np.float64)
    return np.column_stack([values, np.log(np.maximum(values, _TINY))])


@dataclass(frozen=True, kw_only=True)
class Trajectory(Attack):
    """An attack model on the shadow's trajectories, applied to the target's; its log-odds are the score, above 0 a member.

    The steps are used in their given order. Theirs is a perceptron with several hidden layers on the losses alone; ours has one.
    """

    name: str = "trajectory"
    family: str = "shadow"
    needs: frozenset[str] = frozenset({"target", "trajectories"})

    def missing(self, evidence: Evidence) -> str | None:
        """Trajectories, of a shadow with enough records on both sides."""
        absent = super().missing(evidence)
        if absent or evidence.trajectories is None:
            return absent
        member = evidence.trajectories.shadow_member
        sides = int(member.sum()), int((~member).sum())
        if min(sides) >= transfer.LEAST:
            return None
        return f"needs trajectories of {transfer.LEAST} shadow members and as many non-members; there are {sides[0]} and {sides[1]}"

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del workers, folds
        paths = evidence.trajectories
        assert paths is not None
        rng = seeds.stream(seed, "attacks", self.name)
        drawn = transfer.balanced(paths.shadow_member, rng, most=MOST_TRAINING)
        with one_thread():
            model = transfer.fit(steps(paths.shadow[drawn]), paths.shadow_member[drawn], rng)
            scores = model(steps(paths.target))
        note = f"attack model on {paths.shadow.shape[1]} steps of a shadow model, {len(drawn) // 2} records per side"
        return self._scores(scores, decisions=scores >= 0.0, notes=(note,))
