"""A likelihood-ratio attack for shadows that never saw the record: its IN distribution is estimated from other records.

LiRA (Carlini et al. 2022, see `memberscope.attacks.lira`) compares the target's scaled logit of a record with the distributions over
models that were trained on it (IN) and over models that were not (OUT). An outside attacker who has data like the target's, but not the
record in question when training shadows, as in the design ``disjoint``, knows only the OUT side. Du et al. 2025 ("Cascading and Proxy
Membership Inference Attacks", arXiv 2507.21412) let other records stand in for the IN side: all records, those of the same class, or
those that are like the record. Here likeness is not a choice of neighbours but a regression on what is known of the record:

- **OUT**, by record: the Student-t predictive of its OUT models, with a prior from the pool (`memberscope.attacks.student`).
- **IN**, by proxy: over the shadows' own records (the pool), some of which each shadow was trained on, the mean over IN models is
  regressed on the center of the OUT predictive (a line with four bends), on the logarithm of its scale, and on the class. So is the
  logarithm of the squared distance of IN values from that regression. Both regressions are then evaluated at the target's records.
  Offsets by class are shrunk towards zero: the factor is the variance between classes divided by the sum of that variance and the
  noise of the class's mean. The IN distribution is a Student-t, whose degrees of freedom are fitted to the pool's standardized IN values.

The score is the log-likelihood ratio. Everything that is fitted comes from the pool, and nothing from the target or its records. A record's
score therefore does not depend on which other records are audited.

**Where we differ** from Du et al.: they compare the target's value with the proxies' own values, by their posterior odds, and need no OUT
models of a record; we take the record's own OUT models for the OUT side and for what is typical of it.

The scaled logit is smoothed by .1 where probabilities of 0 or 1 are common among the shadows (as in LiRA), and not at all otherwise. It is
read for the records themselves, without augmented copies, since the pool has none. The form of the regression and this smoothing were
chosen by looking at targets of measured fleets, see docs/results/attacks.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope.attacks import calibration, student
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.attacks.levels import HeldLevels
from memberscope.attacks.likelihood import smooth
from memberscope.attacks.lira_settings import usual_smoothing
from memberscope.attacks.moments import Side, side
from memberscope.checks import BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.evidence import Evidence

LEAST_PROXIES = 50
"""The fewest records of the pool with IN and OUT models from which an IN distribution is estimated."""
SCALES_FROM = 2
"""The number of OUT models of a record, in the median over the pool, from which the scale of its OUT distribution is used."""
_BENDS = (0.2, 0.4, 0.6, 0.8)  # quantiles of the pool's OUT centers at which the line bends
_RIDGE = 1e-6
_LEAST_SQUARE = 1e-3  # of a record's squared distance, as a share of the mean one, before its logarithm is taken

Classes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reading:
    """What a regression reads of a record: its OUT predictive's center and scale, in the pool's units, and its class.

    Attributes:
        middle, unit: (2,) mean and deviation over the pool of center and log scale.
        low, high: (2,) the pool's range of them in these units; beyond it, records are read as at its ends.
        bends: where the line in the center bends, in these units.
        scales: whether the scale is used.
    """

    middle: FloatArray
    unit: FloatArray
    low: FloatArray
    high: FloatArray
    bends: FloatArray
    scales: bool

    @classmethod
    def of_pool(cls, out: student.Predictive, *, scales: bool) -> _Reading:
        known = _known(out)
        middle, unit = known.mean(axis=0), known.std(axis=0)
        unit = np.where(unit > 0.0, unit, 1.0)
        inside = (known - middle) / unit
        return cls(
            middle=middle,
            unit=unit,
            low=inside.min(axis=0),
            high=inside.max(axis=0),
            bends=np.quantile(inside[:, 0], _BENDS),
            scales=scales,
        )

    def columns(self, out: student.Predictive) -> list[FloatArray]:
        """One (n,) array for each coefficient: 1, the center, how far it is beyond each bend, and the log scale."""
        center, scale = np.clip((_known(out) - self.middle) / self.unit, self.low, self.high).T
        found = [np.ones(len(center)), center, *(np.maximum(center - bend, 0.0) for bend in self.bends)]
        return [*found, scale] if self.scales else found


def _known(out: student.Predictive) -> FloatArray:
    return np.column_stack([out.center[:, 0], 0.5 * np.log(out.squared_scale[:, 0])])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Regression:
    """Coefficients of the columns, and offsets of the classes."""

    slopes: FloatArray
    offsets: dict[int, float]

    @classmethod
    def fit(cls, columns: list[FloatArray], classes: Classes, values: FloatArray, weight: FloatArray) -> _Regression:
        """Weighted least squares, then the classes' mean residuals, shrunk towards zero by their noise."""
        table = np.column_stack(columns) * weight[:, None]
        gram = np.column_stack(columns).T @ table
        ridge = np.diag(np.r_[0.0, np.full(len(columns) - 1, _RIDGE * float(weight.sum()))])
        slopes = np.linalg.solve(gram + ridge, table.T @ values)
        plain = cls(slopes=slopes, offsets={})
        left = values - plain.read(columns, classes)
        names, of = np.unique(classes, return_inverse=True)
        count = np.bincount(of)
        total = np.bincount(of, weight)
        mean = np.bincount(of, weight * left) / total
        noise = float(np.average(np.square(left), weights=weight)) / count
        between = max(float((np.square(mean) - noise).mean()), 0.0)
        kept = np.divide(between, between + noise, out=np.zeros(len(names)), where=between + noise > 0.0)
        return cls(slopes=slopes, offsets=dict(zip(names.tolist(), (kept * mean).tolist(), strict=True)))

    def read(self, columns: list[FloatArray], classes: Classes) -> FloatArray:
        """(n,) values, added up term by term, so that a record's value does not depend on which other records there are."""
        found = np.array([self.offsets.get(one, 0.0) for one in classes.tolist()])
        for slope, column in zip(self.slopes, columns, strict=True):
            found = found + slope * column
        return found


def proxy_scores(
    target: FloatArray,
    shadows: FloatArray,
    trained: BoolArray,
    labels: Classes,
    *,
    pool: FloatArray,
    pool_member: BoolArray,
    pool_labels: Classes,
) -> FloatArray:
    """Log-likelihood ratios from scaled logits (all in nats).

    Args:
        target: (n,) of the target, for its own records.
        shadows: (n_models, n) of the shadows, for the same records.
        trained: (n_models, n) bool, whether that shadow was trained on that record; its value is then left out.
        labels: (n,) classes of the same records.
        pool: (n_models, m) of the shadows, for the pool.
        pool_member: (n_models, m) bool, whether that shadow was trained on that record of the pool.
        pool_labels: (m,) classes of the pool.

    Returns:
        (n,) in nats; higher = more likely a member.

    Raises:
        UserError: fewer than `LEAST_PROXIES` records of the pool have models on both sides.
    """
    reason = lacking_proxies(pool_member)
    if reason:
        raise UserError(f"pool_member: {reason}")
    ins, outs = _sides(pool, pool_member)
    prior = student.prior_alone(outs)
    both = ins.known & outs.known
    ins, outs, pool, pool_member, pool_labels = (
        _some(ins, both), _some(outs, both), pool[:, both], pool_member[:, both], pool_labels[both]
    )  # fmt: skip
    out = student.predictive(outs, prior)
    reading = _Reading.of_pool(out, scales=bool(np.median(outs.count) >= SCALES_FROM))
    columns, count = reading.columns(out), ins.count[:, 0].astype(np.float64)
    means = _Regression.fit(columns, pool_labels, ins.mean[:, 0], count)
    center = means.read(columns, pool_labels)
    squares = np.square(ins.mean[:, 0] - center) + ins.squares[:, 0] / count
    average = float(squares.mean()) or 1.0
    logs = np.log(squares + _LEAST_SQUARE * average)
    spreads = _Regression.fit(columns, pool_labels, logs, np.ones(len(logs)))
    scale = np.exp(spreads.read(columns, pool_labels))
    shape = student.fit_squares((np.square(pool - center) / scale)[pool_member])
    given = student.predictive(_sides(shadows, trained)[1], prior)
    here = reading.columns(given)
    proxy = student.Predictive(
        center=means.read(here, labels)[:, None],
        squared_scale=shape.scale * np.exp(spreads.read(here, labels))[:, None],
        freedom=np.full((len(target), 1), shape.freedom),
    )
    x = target[:, None]
    ratio: FloatArray = (proxy.log_density(x) - given.log_density(x))[:, 0]
    return ratio


def _sides(phi: FloatArray, member: BoolArray) -> tuple[Side, Side]:
    return side(phi[:, :, None], member), side(phi[:, :, None], ~member)


def _some(one: Side, chosen: BoolArray) -> Side:
    return Side(count=one.count[chosen], mean=one.mean[chosen], squares=one.squares[chosen])


def lacking_proxies(pool_member: BoolArray) -> str | None:
    """Why no IN distribution can be estimated from a pool with this (n_models, m) membership, as a phrase; None if one can."""
    ins = pool_member.sum(axis=0)
    both = int(((ins > 0) & (ins < len(pool_member))).sum())
    if both >= LEAST_PROXIES:
        return None
    return (
        f"needs {LEAST_PROXIES} or more records of the shadows' own that some shadows were trained on and others were not "
        f"(there are {both})"
    )


@dataclass(frozen=True, kw_only=True)
class LiraProxy(Attack):
    """The likelihood-ratio attack with an IN distribution by proxy; see the module's docstring."""

    name: str = "lira_proxy"
    family: str = "shadow"
    needs: frozenset[str] = frozenset({"target", "shadows"})

    def missing(self, evidence: Evidence) -> str | None:
        """The shadows need outputs for the target's records, and records of their own, members of some and not of others."""
        reason = super().missing(evidence) or calibration.lacking(evidence)
        if reason:
            return reason
        if calibration.membership(evidence).all():
            return "needs shadows that were not trained on some of the target's records"
        shadows = evidence.shadows
        assert shadows is not None
        return lacking_proxies(shadows.member[:, _others(evidence)])

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        shadows, others = evidence.shadows, _others(evidence)
        assert shadows is not None
        every = calibration.of_each(shadows, calibration.scaled_logit)
        smoothing = usual_smoothing(HeldLevels(values=every[:, others, None]), online=False)
        target = smooth(calibration.scaled_logit(evidence.target), smoothing)
        every = smooth(every, smoothing)
        known = shadows.labels
        labels = np.zeros(len(shadows), dtype=np.int64) if known is None else np.asarray(known).astype(np.int64)
        places, member = evidence.places, shadows.member
        scores = proxy_scores(
            target, every[:, places], member[:, places], labels[places], pool=every[:, others], pool_member=member[:, others],
            pool_labels=labels[others],
        )  # fmt: skip
        count = int((member[:, others].any(axis=0) & ~member[:, others].all(axis=0)).sum())
        notes = [
            f"IN distribution by proxy from {count} records of the shadows' own, smoothing {smoothing:g}; shadow models per record, "
            f"median: {np.median(len(member) - member[:, places].sum(axis=0)):g} OUT"
        ]
        return self._scores(scores, notes=(*notes, *calibration.clip_notes(evidence)))


def _others(evidence: Evidence) -> NDArray[np.intp]:
    """Positions of the shadows' records that are not the target's."""
    assert evidence.shadows is not None
    assert evidence.places is not None
    found: NDArray[np.intp] = np.setdiff1d(np.arange(len(evidence.shadows)), evidence.places)
    return found


LIRA_PROXY = (LiraProxy(),)
