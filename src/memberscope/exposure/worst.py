"""Corrects for choosing the worst of many records: what the most exposed record of a pool would show merely by chance.

With 32 models and no signal at all, single records of a pool of a few thousand reach a difference of .7 between IN and OUT. A claim about
one record, chosen because it looks worst, is therefore tested against the *largest* statistic of all records (Westfall & Young 1993,
single-step max-statistic), under draws that keep everything but which model of a pair was trained on what:

- complementary pairs: the IN and the OUT answers of a whole pair are swapped, for all records at once, by a fair coin. Membership of a
  pair was drawn symmetrically, so without an effect the swapped fleet is as likely as the true one, whatever the distribution of the
  outputs and their dependence between records. With p pairs there are 2^p swaps: all are taken up to ten pairs, else 999 are drawn.
- independent models: the rows of the membership are permuted between models.

The chance that any record without an effect gets a corrected p-value of at most 0.05 is at most 5% in one pool, also if other records
have one (exactly so if memberships were drawn by independent coin flips).

The statistic is the mean difference over its root mean square over pairs: for correctness McNemar's (b - c) / sqrt(b + c). For
independent models, it is the difference of means over the deviation of all of the record's values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from memberscope import seeds
from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.exposure.base import CHUNK, check_fleet, complementary_pairs, record_chunks, records_of

DRAWS = 999
LEAST_DRAWS = 199
ALL_SWAPS = 10  # pairs up to which every swap is taken
_WORK = 3e9  # numbers that permutations may pass through, which bounds their number for large fleets
_ROUNDING = 1e-5  # statistics that differ by less count as equal


@dataclass(frozen=True, kw_only=True, eq=False)
class Correction:
    """Corrected p-values, and how they were found.

    Attributes:
        p_value: (n,) corrected for the number of records; NaN where a record has no IN or no OUT model.
        statistic: (n,) in units in which an effect without any noise, over all pairs, is 1 for pairs.
        critical: the value that the largest statistic exceeds in at most 5% of the draws.
        draws: number of draws, the observed one included; no p-value is below 1 / draws.
        method: ``swapped pairs`` or ``permuted models``.
    """

    p_value: FloatArray
    statistic: FloatArray
    critical: float
    draws: int
    method: str

    @property
    def smallest_memorization(self) -> float:
        """The smallest memorization that can be shown for one record of this pool, where OUT answers never outdo IN ones; NaN if none."""
        if self.method != "swapped pairs" or self.critical >= 1.0 or 1.0 / self.draws > 0.05:
            return math.nan
        return self.critical**2


def corrected(
    values: Array, member: BoolArray, *, seed: int, two_sided: bool, pairs: NDArray[np.intp] | None = None, name: str = "values"
) -> Correction:
    """Test each record for a difference between its IN and OUT values, corrected for the number of records.

    Args:
        values: (models, n) numbers, or bool such as correctness.
        member: (models, n) bool, whether the model was trained on the record.
        seed: the stream ``("exposure", name)`` draws swaps or permutations.
        two_sided: whether lower IN values count as well.
        pairs: as in `memberscope.exposure.memorization.memorization`.
        name: of the values.

    Raises:
        UserError: arrays that do not fit each other, or values that are not finite.
    """
    check_fleet(member, **{name: values})
    pairs = complementary_pairs(member) if pairs is None else pairs
    rng = seeds.stream(seed, "exposure", name)
    if len(pairs):
        return _swapped(values, member, pairs, rng, two_sided=two_sided)
    return _permuted(values, member, rng, two_sided=two_sided)


def _swapped(
    values: Array, member: BoolArray, pairs: NDArray[np.intp], rng: np.random.Generator, *, two_sided: bool
) -> Correction:
    p, n = len(pairs), member.shape[1]
    signs = _signs(p, rng)
    largest, statistic = np.zeros(len(signs)), np.zeros(n)
    for rows in record_chunks(max(len(signs), p), n):
        phi, inside = records_of(values, rows), member[pairs[:, 0], rows]
        first, second = phi[pairs[:, 0]], phi[pairs[:, 1]]
        scaled = np.where(inside, first - second, second - first)
        length = np.sqrt(np.square(scaled).sum(axis=0) * p)
        scaled = np.divide(scaled, length, out=np.zeros_like(scaled), where=length > 0).astype(np.float32)
        drawn = signs @ scaled  # the first row is the fleet as it is
        drawn = np.abs(drawn) if two_sided else drawn
        statistic[rows] = drawn[0]
        largest = np.maximum(largest, drawn.max(axis=1))
    return _conclude(statistic, largest, "swapped pairs")


def _signs(pairs: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(draws, pairs) of 1 and -1, the first row all 1."""
    if pairs <= ALL_SWAPS:
        bits = np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1
    else:
        bits = np.vstack([np.zeros((1, pairs), dtype=np.int64), rng.integers(0, 2, size=(DRAWS, pairs))])
    signs: NDArray[np.float32] = (1 - 2 * bits).astype(np.float32)
    return signs


def _permuted(values: Array, member: BoolArray, rng: np.random.Generator, *, two_sided: bool) -> Correction:
    models, n = member.shape
    draws = int(min(DRAWS, max(LEAST_DRAWS, _WORK / max(1, models * n))))
    orders = np.vstack([np.arange(models), *(rng.permutation(models)[None] for _ in range(draws))])
    largest, statistic = np.zeros(len(orders)), np.full(n, np.nan)
    n_in = member.sum(axis=0)
    for rows in record_chunks(models, n):
        phi, inside = records_of(values, rows), member[:, rows]
        count = n_in[rows].astype(np.float64)
        sided = (count > 0) & (count < models)
        phi -= phi.mean(axis=0)
        spread = np.sqrt(np.square(phi).sum(axis=0) * count * (models - count) / models)
        usable = sided & (spread > 0)
        step = max(1, CHUNK // (4 * phi.size))
        for start in range(0, len(orders), step):
            part = slice(start, start + step)
            # sums over IN, whose expectation centring made 0
            totals = np.einsum("ij,dij->dj", phi, inside[orders[part]])
            drawn = np.divide(totals, spread, out=np.zeros_like(totals), where=usable)
            drawn = np.abs(drawn) if two_sided else drawn
            if start == 0:
                statistic[rows] = np.where(sided, drawn[0], np.nan)
            largest[part] = np.maximum(largest[part], drawn.max(axis=1, initial=0.0))
    return _conclude(statistic, largest, "permuted models")


def _conclude(statistic: FloatArray, largest: FloatArray, method: str) -> Correction:
    ordered = np.sort(largest)
    reached = len(ordered) - np.searchsorted(ordered, np.nan_to_num(statistic) - _ROUNDING, side="left")
    p_value = np.where(np.isnan(statistic), np.nan, reached / len(ordered))
    place = len(ordered) - 1 - math.floor(0.05 * len(ordered))
    return Correction(
        p_value=p_value, statistic=statistic, critical=float(ordered[max(place, 0)]), draws=len(ordered), method=method
    )


def models_needed(memorization: float, *, correct_out: float, records: int, alpha: float = 0.05, power: float = 0.8) -> int:
    """The number of models, in complementary pairs, at which a record's memorization is likely to be shown as the worst of many.

    The number of pairs p at which McNemar's statistic reaches the normal quantile of alpha / records (Bonferroni) with the given power, and
    at least log2(records / alpha), below which no sign test can. The models of a pair are taken as independent.

    Args:
        memorization: P(correct | IN) - P(correct | OUT), above 0.
        correct_out: P(correct | OUT).
        records: number of records among which the worst is chosen.
        alpha: chance of any false claim.
        power: chance that the claim can be made.

    Raises:
        UserError: shares that cannot be, or no records.
    """
    inside = correct_out + memorization
    if not (0 < memorization <= 1 and correct_out >= 0 and inside <= 1 + 1e-12):
        raise UserError(
            f"memorization: {memorization:g} with correct_out={correct_out:g}; allowed: above 0, and at most 1 together with correct_out"
        )
    if records < 1 or not 0 < alpha < 1 or not 0 < power < 1:
        raise UserError(
            f"records: {records}, alpha={alpha:g}, power={power:g}; allowed: at least 1 record, and shares between 0 and 1"
        )
    discordant = inside * (1 - correct_out) + correct_out * (1 - inside)
    noise = max(discordant - memorization**2, 0.0)
    root = (float(ndtri(1 - alpha / records)) * math.sqrt(discordant) + float(ndtri(power)) * math.sqrt(noise)) / memorization
    return 2 * max(math.ceil(root**2), math.ceil(math.log2(records / alpha)))
