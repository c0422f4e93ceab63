"""The likelihood-ratio attacks of Carlini et al. 2022, "Membership Inference Attacks From First Principles".

Each record has a scaled logit phi = log(p / (1 - p)) under the target, and one under every shadow model. Those of the shadows
that were trained on the record (IN) and of those that were not (OUT) are each modelled by a Gaussian.

- Online (their Eq. 3 and Algorithm 1): the log-likelihood ratio log N(phi; IN) - log N(phi; OUT).
- Offline (their Eq. 4): 1 - Pr[Z > phi] for Z of the OUT Gaussian, a one-sided test that needs no shadow trained on the record.
  The score is the standardized z = (phi - mean) / deviation, which ranks as Eq. 4 does and does not saturate at 1 from z = 8
  on. The authors' published code, and tensorflow_privacy after it, instead rank by the OUT log-density, which is two-sided: a record
  whose phi lies far *below* its OUT shadows' counts there as a likely member too.

**Variance.** ``per_record``: one for each side, record and query. ``global``: one for each side, of the deviations from each record's own
mean, pooled over records and queries (tensorflow_privacy's ``fix_variance``). ``shared``: as ``global``, but one for both sides together,
so that the score is linear in phi (the authors' code uses one variance for both sides, too). ``levels``: one for each side, of all its
values about their mean, so that differences between records count as well (the authors' code pools in this way); it works even where no
record has two models on a side. ``bayes``: one for each side, record and query, shrunk towards a common one by a prior that is fitted on
all records, so that each Gaussian becomes a Student-t (after BaVarIA, arXiv 2603.11799): near ``global`` with few models and near
``per_record`` with many, without a switch between them. Its means, too, are shrunk towards what the record's other side predicts; see
`memberscope.attacks.student`. Otherwise, the mean is used (the published codes take medians) and variances are maximum likelihood ones,
both as in Algorithm 1.

**Smoothing.** With s above 0, p is replaced by (1 - s) p + s / 2 before phi is computed, which bounds phi by log((2 - s) / s). A forest
gives many records a probability of 0 or 1, and a few such values would dominate every pooled deviation.

**With** ``auto``, both are chosen by attacking some of the shadows with the others, never with the target, its twin or their labels: see
`memberscope.attacks.lira_settings`.

**Several queries** (their section VI.C): a Gaussian with a diagonal covariance over the queries, a multiple of the identity with
the global variance; the score is the mean over queries, so that it has the same scale for any number of them, and ranks as the sum does.
With ``bayes``, each query likewise has a Student-t of its own, and only the prior is shared, as the global variance is: a variance for
each record and query is what the many-model limit, ``per_record``, needs.
Offline, z is averaged over the queries: the one-sided test that looks in the direction in which all of them rise. (z of a Student-t is
the normal deviate with the same tail probability, so that records with few and with many OUT models are on one scale.)

**Records that lack a side** are scored on the same scale, from what is known of the others, and counted in the notes. Online, a
missing mean is the other side's, moved by the mean shift over the records that have both sides (where none has, by the
difference between all IN and all OUT values). Offline, a record without an OUT model is tested against the OUT models of all
other records: their mean and, as its variance, that within records plus that between their levels. tensorflow_privacy puts the mean
over records there and keeps the variance within. Where no record has two OUT models, the variance within is half of that between
the target and them. With ``bayes``, a missing side's distribution is its prior's, and where no record has two OUT models, the offline
test is that of ``global``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from memberscope.attacks import calibration, likelihood
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.attacks.levels import HeldLevels, Levels, ReadLevels
from memberscope.attacks.lira_settings import LiraSettings, choose
from memberscope.attacks.moments import Side, joined, side
from memberscope.checks import BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.evidence import Evidence

VARIANCES = ("auto", "per_record", "global", "shared", "levels", "bayes")


def lira_scores(
    target: FloatArray,
    shadows: FloatArray,
    member: BoolArray,
    *,
    online: bool,
    variance: str = "auto",
    smoothing: float | None = None,
) -> FloatArray:
    """LiRA from scaled logits, in time and memory linear in them.

    Args:
        target: (n, queries) scaled logits of the target.
        shadows: (n_models, n, queries) of the shadow models.
        member: (n_models, n) bool, which of them was trained on which record.
        online: whether to use the IN and the OUT models, or the OUT models alone.
        variance: one of `VARIANCES`; ``auto`` chooses it, and the smoothing, on the shadows.
        smoothing: s in [0, 1). None: 0, or with ``auto`` the chosen one.

    Returns:
        (n,) log-likelihood ratios in nats per query, or z values; higher = more likely a member.

    Raises:
        UserError: an unknown `variance`, a `smoothing` out of range, or no shadow on a side that the test needs.
    """
    _check(variance, smoothing)
    reason = _without_side(member, online=online)
    if reason:
        raise UserError(f"member: {reason}")
    levels = HeldLevels(values=shadows)
    made = settle(levels, member, online=online, variance=variance, smoothing=smoothing)
    return _tested(target, levels, member, made, online=online)


def _tested(target: FloatArray, shadows: Levels, member: BoolArray, made: LiraSettings, *, online: bool) -> FloatArray:
    """`lira_scores` with given settings, from the moments of the shadows' scaled logits, which are read a piece at a time."""
    ins, outs = list[Side](), list[Side]()
    for rows in shadows.pieces():
        phi, known = likelihood.smooth(shadows.at(rows), made.smoothing), member[:, rows]
        ins += [side(phi, known)] if online else []
        outs.append(side(phi, ~known))
    ours = likelihood.smooth(target, made.smoothing)
    if online:
        return likelihood.two_sided_of(ours, joined(ins), joined(outs), variance=made.variance)
    return likelihood.one_sided_of(ours, joined(outs), variance=made.variance)


def settle(shadows: Levels, member: BoolArray, *, online: bool, variance: str, smoothing: float | None) -> LiraSettings:
    """The settings as given, or, for ``auto``, as chosen on the shadows."""
    if variance != "auto":
        return LiraSettings(variance=variance, smoothing=smoothing or 0.0, how="as configured")
    made = choose(shadows, member, online=online)
    return made if smoothing is None else replace(made, smoothing=smoothing)


def _check(variance: str, smoothing: float | None) -> None:
    if variance not in VARIANCES:
        raise UserError(f"variance: {variance!r}; allowed: {', '.join(VARIANCES)}")
    if smoothing is not None and not 0.0 <= smoothing < 1.0:
        raise UserError(f"smoothing: {smoothing}; allowed: 0 or more and below 1")


def _without_side(member: BoolArray, *, online: bool) -> str | None:
    if member.all():
        return "needs shadows that were not trained on some of the target's records"
    if online and not member.any():
        return "needs shadows that were trained on some of the target's records"
    return None


def _levels(evidence: Evidence) -> tuple[FloatArray, Levels]:
    """The scaled logits of the target (n, queries), and of its shadows; see `calibration.scaled_logits`."""
    if calibration.copies_of(evidence) is not None:
        target, shadows = calibration.scaled_logits(evidence)
        return target, HeldLevels(values=shadows)
    assert evidence.shadows is not None
    places = None if calibration.in_order(evidence.places, len(evidence.shadows)) else evidence.places
    levels = ReadLevels(models=evidence.shadows, read=calibration.scaled_logit, places=places)
    return calibration.scaled_logit(evidence.target)[:, None], levels


@dataclass(frozen=True, kw_only=True)
class Lira(Attack):
    """The likelihood-ratio attack, online or offline; see the module's docstring.

    Attributes:
        online: whether to use also the shadows that were trained on a record.
        variance: one of `VARIANCES`.
        smoothing: as in `lira_scores`.
    """

    family: str = "shadow"
    needs: frozenset[str] = frozenset({"target", "shadows"})
    reads_copies: bool = True
    online: bool
    variance: str = "auto"
    smoothing: float | None = None

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        _check(self.variance, self.smoothing)

    def missing(self, evidence: Evidence) -> str | None:
        """The shadows must have outputs for the target's own records and, online, have been trained on some of them."""
        reason = super().missing(evidence) or calibration.lacking(evidence)
        return reason or _without_side(calibration.membership(evidence), online=self.online)

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        member = calibration.membership(evidence)
        target, shadows = _levels(evidence)
        made = self._settings(evidence, shadows, member)
        scores = _tested(target, shadows, member, made, online=self.online)
        notes = self._notes(member, made, queries=target.shape[1]) + calibration.clip_notes(evidence)
        return self._scores(scores, notes=notes)

    def _settings(self, evidence: Evidence, shadows: Levels, member: BoolArray) -> LiraSettings:
        """The settings, chosen on the shadows' whole pool (one query per record) where it reaches beyond the target's records."""
        pool = evidence.shadows
        assert pool is not None
        if self.variance == "auto" and shadows.queries == 1 and len(pool) > shadows.n:
            shadows, member = ReadLevels(models=pool, read=calibration.scaled_logit), pool.member
        return settle(shadows, member, online=self.online, variance=self.variance, smoothing=self.smoothing)

    def _notes(self, member: BoolArray, made: LiraSettings, *, queries: int) -> tuple[str, ...]:
        ins = member.sum(axis=0)
        sides = {"IN": ins, "OUT": len(member) - ins} if self.online else {"OUT": len(member) - ins}
        counts = ", ".join(f"{np.median(count):g} {side}" for side, count in sides.items())
        several = f"; {queries} queries" if queries > 1 else ""
        settings = f"{made.variance.replace('_', '-')} variance, smoothing {made.smoothing:g} ({made.how})"
        notes = [f"{settings}; shadow models per record, median: {counts}{several}"]
        bare = int(np.any([count == 0 for count in sides.values()], axis=0).sum())
        if bare:
            lack = " or ".join(f"an {side} model" for side in sides)
            notes.append(f"{bare} records without {lack} use the average of the other records instead")
        return tuple(notes)


LIRA = (Lira(name="lira_online", online=True), Lira(name="lira_offline", online=False))
