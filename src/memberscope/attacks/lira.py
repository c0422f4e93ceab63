"""The likelihood-ratio attacks of Carlini et al. 2022, "Membership Inference Attacks From First Principles".

Each record has a scaled logit phi = log(p / (1 - p)) under the target, and one under every shadow model. Those of the shadows
that were trained on the record (IN) and of those that were not (OUT) are each taken for a Gaussian.

- Online (their Eq. 3 and Algorithm 1): the log-likelihood ratio log N(phi; IN) - log N(phi; OUT).
- Offline (their Eq. 4): 1 - Pr[Z > phi] for Z of the OUT Gaussian, a one-sided test that needs no shadow trained on the record.
  The score is the standardized z = (phi - mean) / deviation, which ranks as Eq. 4 does and does not saturate at 1 from z = 8
  on. The authors' published code, and tensorflow_privacy after it, instead rank by the OUT log-density, which is two-sided: a record
  whose phi lies far *below* its OUT shadows' counts there as a likely member too.

**Variance.** ``per_record``: one a side, record and query. ``global``: one a side, of the deviations from each record's own mean,
pooled over records and queries (tensorflow_privacy's ``fix_variance``; the authors' code pools over the records' own levels as
well, and takes the IN figure for both sides). Means are means (the published codes take medians) and variances are maximum
likelihood ones, both as in Algorithm 1.

**Several queries** (their section VI.C): a Gaussian with a diagonal covariance over the queries, a multiple of the identity with
the global variance; the score is the mean over queries, so that it reads alike for any number of them, and ranks as the sum does.
Offline, z is averaged over the queries: the one-sided test that looks in the direction in which all of them rise.

**Records that lack a side** are scored on the same scale, from what is known of the others, and counted in the notes. Online, a
missing mean is the other side's, moved by the mean shift over the records that have both sides (where none has, by the
difference between all IN and all OUT values). Offline, a record without an OUT model is tested against the OUT models of all
other records: their mean and, as its variance, that within records plus that between their levels. tensorflow_privacy puts the mean
over records there and keeps the variance within. Where no record has two OUT models, the variance within is half of that between
the target and them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from memberscope.attacks import calibration
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.evidence import Evidence

VARIANCES = ("auto", "per_record", "global")
PER_RECORD_FROM = 30
"""Models on each side from which ``auto`` fits a variance a record: the paper's 64 shadows (section VI.B) are 32 a side, and of 64
in complementary pairs, less the target and its twin, 31 are left."""
_FLOOR = 1e-12  # of a record's variance, as a share of the pooled one: against a division by zero, no smoothing


def _total(values: Array) -> float:
    """The exact sum, rounded once: permuting the records must not change a bit."""
    return math.fsum(values.ravel().tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """What the IN, or the OUT, models say of each record.

    Attributes:
        count: (n, 1) models.
        mean: (n, queries); 0 where there is no model.
        squares: (n, queries) sum of squared deviations from `mean`.
    """

    count: Array
    mean: FloatArray
    squares: FloatArray

    @property
    def known(self) -> BoolArray:
        """(n,) has the record a model on this side?"""
        return self.count[:, 0] > 0

    def pooled(self) -> float:
        """Mean squared deviation over the records that have two models or more, and queries; 0.0 if none has."""
        models = int(self.count[self.count > 1].sum())  # one model, or none, adds nothing to the squares
        return _total(self.squares) / (models * self.squares.shape[1]) if models else 0.0

    def variance(self, pooled: float, *, per_record: bool) -> FloatArray | float:
        """`pooled`, or (n, queries), with `pooled` for records that have fewer than two models."""
        if not per_record:
            return pooled
        own = np.maximum(self.squares / np.maximum(self.count, 1), _FLOOR * pooled)
        return np.where(self.count > 1, own, pooled)


def _side(phi: FloatArray, used: BoolArray) -> _Side:
    """The moments over those models of (n_models, n, queries) `phi` that (n_models, n) `used` names, in two passes, model by model."""
    count = used.sum(axis=0)[:, None]
    weights = used[:, :, None].astype(np.float64)
    total, squares, part = (np.zeros(phi.shape[1:]) for _ in range(3))
    for values, weight in zip(phi, weights, strict=True):
        total += np.multiply(values, weight, out=part)
    mean = total / np.maximum(count, 1)
    for values, weight in zip(phi, weights, strict=True):
        np.subtract(values, mean, out=part)
        part *= weight
        squares += np.square(part, out=part)
    return _Side(count=count, mean=mean, squares=squares)


def _column_means(values: FloatArray) -> FloatArray:
    return np.array([_total(column) / len(column) for column in values.T])


def _spread(values: FloatArray) -> float:
    """Mean squared deviation of (m, queries) from the mean of each query."""
    return _total(np.square(values - _column_means(values))) / values.size


def _shift(ins: _Side, outs: _Side) -> FloatArray:
    """(queries,) by how much training on a record moves it: the mean over records that have both sides, or IN less OUT values."""
    both = ins.known & outs.known
    if both.any():
        return _column_means(ins.mean[both] - outs.mean[both])
    means = [
        np.array([_total(column) for column in (side.mean * side.count).T]) / int(side.count.sum()) for side in (ins, outs)
    ]
    shift: FloatArray = means[0] - means[1]
    return shift


def chosen_variance(variance: str, member: BoolArray, *, online: bool) -> str:
    """What ``auto`` comes to for this (n_models, n) membership: ``per_record`` if half of the records have enough models a side."""
    if variance != "auto":
        return variance
    ins = member.sum(axis=0)
    counts = (ins, len(member) - ins) if online else (len(member) - ins,)
    return "per_record" if all(np.median(count) >= PER_RECORD_FROM for count in counts) else "global"


def lira_scores(
    target: FloatArray, shadows: FloatArray, member: BoolArray, *, online: bool, variance: str = "auto"
) -> FloatArray:
    """LiRA from scaled logits, in time and memory linear in them.

    Args:
        target: (n, queries) scaled logits of the target.
        shadows: (n_models, n, queries) of the shadow models.
        member: (n_models, n) bool, which of them was trained on which record.
        online: the likelihood ratio (Eq. 3); else the one-sided test of the OUT models alone (Eq. 4).
        variance: ``per_record``, ``global``, or ``auto`` by the number of models.

    Returns:
        (n,) log-likelihood ratios in nats a query, or z values; higher = more likely a member.

    Raises:
        UserError: an unknown `variance`; or no shadow at all on a side that the test needs.
    """
    if variance not in VARIANCES:
        raise UserError(f"variance: {variance!r}; allowed are {', '.join(VARIANCES)}")
    reason = _without_side(member, online=online)
    if reason:
        raise UserError(f"member: {reason}")
    per_record = chosen_variance(variance, member, online=online) == "per_record"
    outs = _side(shadows, ~member)
    if not online:
        return _one_sided(target, outs, per_record=per_record)
    ins = _side(shadows, member)
    mean_in, mean_out = ins.mean, outs.mean
    if not (ins.known.all() and outs.known.all()):
        shift = _shift(ins, outs)
        mean_in = np.where(ins.count > 0, ins.mean, outs.mean + shift)
        mean_out = np.where(outs.count > 0, outs.mean, ins.mean - shift)
    # With one model a side nothing tells a variance; any one for all records gives the same ranking, so 1.
    pooled_in, pooled_out = ins.pooled(), outs.pooled()
    pooled_in, pooled_out = pooled_in or pooled_out or 1.0, pooled_out or pooled_in or 1.0
    var_in = ins.variance(pooled_in, per_record=per_record)
    var_out = outs.variance(pooled_out, per_record=per_record)
    ratio = np.square(target - mean_out) / var_out - np.square(target - mean_in) / var_in + np.log(var_out / var_in)
    scores: FloatArray = 0.5 * ratio.mean(axis=1)
    return scores


def _one_sided(target: FloatArray, outs: _Side, *, per_record: bool) -> FloatArray:
    """(n,) z of the target's (n, queries) values among the OUT models', averaged over the queries."""
    mean: FloatArray = outs.mean
    pooled = outs.pooled() or 0.5 * _spread((target - mean)[outs.known]) or 1.0
    variance = np.broadcast_to(outs.variance(pooled, per_record=per_record), mean.shape)
    if not outs.known.all():
        known = outs.mean[outs.known]
        center = _column_means(known)
        noise = pooled * _total(1.0 / outs.count[outs.known]) / len(known)  # of the means themselves
        between = np.maximum(_column_means(np.square(known - center)) - noise, 0.0)
        mean = np.where(outs.count > 0, mean, center)
        variance = np.where(outs.count > 0, variance, pooled + between)
    scores: FloatArray = ((target - mean) / np.sqrt(variance)).mean(axis=1)
    return scores


def _without_side(member: BoolArray, *, online: bool) -> str | None:
    if member.all():
        return "needs shadows that were not trained on some of the target's records"
    if online and not member.any():
        return "needs shadows that were trained on some of the target's records"
    return None


@dataclass(frozen=True, kw_only=True)
class Lira(Attack):
    """The likelihood-ratio attack, online or offline; see the module.

    Attributes:
        online: use the shadows that were trained on a record, too.
        variance: ``auto``, ``per_record`` or ``global``.
    """

    family: str = "shadow"
    needs: frozenset[str] = frozenset({"target", "shadows"})
    online: bool
    variance: str = "auto"

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        if self.variance not in VARIANCES:
            raise UserError(f"variance: {self.variance!r}; allowed are {', '.join(VARIANCES)}")

    def missing(self, evidence: Evidence) -> str | None:
        """The shadows must have spoken of the target's own records, and, online, have been trained on some."""
        reason = super().missing(evidence) or calibration.lacking(evidence)
        return reason or _without_side(calibration.membership(evidence), online=self.online)

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        member = calibration.membership(evidence)
        target, shadows = calibration.scaled_logits(evidence)
        scores = lira_scores(target, shadows, member, online=self.online, variance=self.variance)
        notes = self._notes(member, queries=target.shape[1]) + calibration.clip_notes(evidence)
        return self._scores(scores, notes=notes)

    def _notes(self, member: BoolArray, *, queries: int) -> tuple[str, ...]:
        ins = member.sum(axis=0)
        sides = {"IN": ins, "OUT": len(member) - ins} if self.online else {"OUT": len(member) - ins}
        counts = ", ".join(f"{np.median(count):g} {side}" for side, count in sides.items())
        chosen = chosen_variance(self.variance, member, online=self.online).replace("_", "-")
        several = f"; {queries} queries" if queries > 1 else ""
        notes = [f"{chosen} variance; shadow models a record, median: {counts}{several}"]
        bare = int(np.any([count == 0 for count in sides.values()], axis=0).sum())
        if bare:
            lack = " or ".join(f"an {side} model" for side in sides)
            notes.append(f"{bare} records without {lack} took the average over the others in its place")
        return tuple(notes)


LIRA = (Lira(name="lira_online", online=True), Lira(name="lira_offline", online=False))
