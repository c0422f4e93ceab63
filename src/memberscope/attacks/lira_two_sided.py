"""The offline likelihood-ratio attack as its authors' code runs it (Carlini et al. 2022), for comparison with published tables.

Equation 4 of the paper is a one-sided test, which `memberscope.attacks.lira` runs. The code that its authors released (``plot.py`` in
``research/mi_lira_2021`` of tensorflow/privacy), and so the tables that others made with it, ranks records by the negative logarithm of
the density of the OUT Gaussian instead. With phi the target's scaled logit for one query, that is

    -log N(phi; median, deviation^2) = (phi - median)^2 / (2 deviation^2) + log(deviation) + log(2 pi) / 2,

averaged over the queries. The score is **two-sided**: a record whose phi lies far *below* its OUT shadows' counts as a likely member, as
much as one that lies far above. That costs strength wherever training raises phi, which is nearly everywhere, and `lira_offline` is the
attack to run; these variants run only if they are named.

`median` is the median of the record's OUT values for that query. The deviation is

- `lira_offline_two_sided`: one for all records and queries, about the mean of all OUT values (the code's ``fix_variance=True``, which the
  paper recommends for few shadow models). The ranking is then that of the squared distance from the median.
- `lira_offline_two_sided_per_record`: the record's own for each query, about the mean of its OUT values (``fix_variance=False``).

Deviations are maximum likelihood ones, and 1e-30 is added to them, as there.

**Where we differ.** The scaled logit is computed from logits without the code's 1e-45 inside its logarithms, so that it does not
saturate. The code uses as many OUT models of every record as the record with the fewest has; we use all, which is the same in the design
in which every record has equally many. A record without an OUT model, which the code cannot score, is compared with the median of the
other records' medians, and in both variants a record with fewer than two OUT models is given the deviation of all values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from memberscope.attacks import calibration
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.checks import BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.evidence import Evidence

VARIANCES = ("global", "per_record")
_ADDED = 1e-30  # to every deviation, as in the authors' code


def two_sided_scores(target: FloatArray, shadows: FloatArray, member: BoolArray, *, variance: str = "global") -> FloatArray:
    """The negative log-density of the OUT Gaussian, as in the module's docstring.

    Args:
        target: (n, queries) scaled logits of the target, in nats.
        shadows: (n_models, n, queries) of the shadow models.
        member: (n_models, n) bool, which of them was trained on which record.
        variance: ``global`` or ``per_record``.

    Returns:
        (n,) in nats per query; higher = more likely a member.

    Raises:
        UserError: an unknown `variance`, or no OUT model for any record.
    """
    _check(variance)
    if member.all():
        raise UserError("member: needs shadows that were not trained on some of the target's records")
    median, count = _out_medians(shadows, member)
    sums = _out_sums(shadows, member)
    values = int(count.sum()) * target.shape[1]
    deviation = np.full(target.shape, math.sqrt(_total(_out_sums(np.square(shadows - _total(sums) / values), member)) / values))
    if variance == "per_record":
        each = np.maximum(count, 1)
        own = np.sqrt(_out_sums(np.square(shadows - sums / each), member) / each)
        deviation = np.where(count > 1, own, deviation)
    deviation += _ADDED
    density = np.square((target - median) / deviation) / 2 + np.log(deviation) + np.log(2 * np.pi) / 2
    scores: FloatArray = density.mean(axis=1)
    return scores


def _total(values: FloatArray) -> float:
    """The exact sum, rounded once: permuting the records must not change a bit."""
    return math.fsum(values.ravel().tolist())


def _out_sums(values: FloatArray, member: BoolArray) -> FloatArray:
    """(n, queries) sums of `values` (n_models, n, queries) over each record's OUT models."""
    sums = np.zeros(values.shape[1:])
    for one, trained in zip(values, member, strict=True):
        sums += np.where(trained[:, None], 0.0, one)
    return sums


def _out_medians(shadows: FloatArray, member: BoolArray) -> tuple[FloatArray, FloatArray]:
    """(n, queries) medians over each record's OUT models, or where it has none over those of the others; (n, 1) how many it has."""
    count = (~member).sum(axis=0)
    ordered = np.sort(np.where(member[:, :, None], np.inf, shadows), axis=0)
    middle = np.stack([np.maximum(count - 1, 0) // 2, count // 2])[
        :, :, None
    ]  # past the last OUT value only where there is none
    ends = np.take_along_axis(ordered, np.minimum(middle, len(member) - 1), axis=0)
    known = count > 0
    median = np.where(known[:, None], ends.mean(axis=0), 0.0)
    if not known.all():
        median[~known] = np.median(median[known], axis=0)
    return median, count[:, None]


def _check(variance: str) -> None:
    if variance not in VARIANCES:
        raise UserError(f"variance: {variance!r}; allowed: {', '.join(VARIANCES)}")


@dataclass(frozen=True, kw_only=True)
class LiraTwoSided(Attack):
    """Offline LiRA with the authors' two-sided score; see the module's docstring.

    Attributes:
        variance: ``global`` or ``per_record``.
    """

    family: str = "shadow"
    needs: frozenset[str] = frozenset({"target", "shadows"})
    reads_copies: bool = True
    named_only: bool = True
    variance: str = "global"

    def __post_init__(self) -> None:
        """Check the variance."""
        _check(self.variance)

    def missing(self, evidence: Evidence) -> str | None:
        """The shadows must have outputs for the target's own records, and some must not have been trained on some of them."""
        reason = super().missing(evidence) or calibration.lacking(evidence)
        if reason is None and calibration.membership(evidence).all():
            return "needs shadows that were not trained on some of the target's records"
        return reason

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        member = calibration.membership(evidence)
        target, shadows = calibration.scaled_logits(evidence)
        scores = two_sided_scores(target, shadows, member, variance=self.variance)
        return self._scores(scores, notes=self._notes(member, queries=target.shape[1]) + calibration.clip_notes(evidence))

    def _notes(self, member: BoolArray, *, queries: int) -> tuple[str, ...]:
        count = (~member).sum(axis=0)
        several = f"; {queries} queries" if queries > 1 else ""
        kind = self.variance.replace("_", "-")
        notes = [f"{kind} variance, as configured; shadow models per record, median: {np.median(count):g} OUT{several}"]
        bare, few = int((count == 0).sum()), int((count == 1).sum())
        if bare:
            notes.append(f"{bare} records without an OUT model use the median of the other records instead")
        if bare + few and self.variance == "per_record":
            notes.append(f"{bare + few} records with fewer than two OUT models use the variance of all values")
        return tuple(notes)


LIRA_TWO_SIDED = (
    LiraTwoSided(name="lira_offline_two_sided"),
    LiraTwoSided(name="lira_offline_two_sided_per_record", variance="per_record"),
)
