"""The temperature and the slope `a` of `memberscope.attacks.rmia`, chosen by attacking some shadows with the others.

**Temperature.** Dividing the logits by a temperature before the softmax keeps the probabilities of a model that fits its members away from
1, where their ratios hardly differ. The grid is in units of the *gap*, the median difference between a record's two largest
log-probabilities over the shadows: a release that divides all logits by a constant divides the gap by it too, and so changes nothing. The
gap divided by the square root of two was within .01 of the best AUC for one shadow and for one pair on all nine fleets that were measured
(see docs/results/corrections.md), and is used where no stand-in is possible.

**a.** The slope of the line from a record's OUT to its IN probability (offline). Where no stand-in is possible, it is computed from the
shadows' mean probabilities over all records that they were (IN) and were not (OUT) trained on: a = (1 - p_in) / (1 - p_out).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memberscope.attacks import calibration, tuning
from memberscope.attacks.levels import ReadLevels, mean_of
from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.predictions import ShadowPredictions

OCTAVES = (-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # binary logarithms of temperature / gap
FINER = 0.25
USUAL = -0.5
BLIND_SLOPE = 0.6  # where no shadow was trained on any record: near the best of a grid on most fleets
SLOPES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
_MOST_NUMBERS = 24_000_000  # the number of the shadows' log-odds that are held at once
_SMALLEST = float(np.finfo(np.float64).tiny)
_FARTHEST = 1e38  # of log-odds that are held in float32


@dataclass(frozen=True, kw_only=True)
class RmiaSettings:
    """The settings of an RMIA, and how they were found.

    Attributes:
        temperature: the temperature of the softmax, above 0.
        a: the slope, in (0, 1].
        inverse_a: the slope for records without an OUT model, in (0, 1]: that of the shadows' means, since no stand-in was judged on them.
        how: how temperature and slope were found, as a phrase for the report.
        vote: whether a majority vote over augmented copies is taken.
        queries: which queries are used and why, as a phrase for the report; empty where there are no copies.
    """

    temperature: float
    a: float
    inverse_a: float
    how: str
    vote: bool = False
    queries: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class SideMeans:
    """Means of the reference models' probabilities of the true labels, by record.

    Attributes:
        inside: (n,) over the models that were trained on the record; 0 where there are none, or where they were not asked for.
        outside: (n,) over the others; 0 where there are none.
        n_in: (n,) how many were trained on the record.
        n_out: (n,) how many were not.
    """

    inside: FloatArray
    outside: FloatArray
    n_in: Array
    n_out: Array

    @classmethod
    def of(cls, probs: FloatArray, member: BoolArray, *, online: bool) -> SideMeans:
        """The means that `log_reference` needs of probabilities (n_models, n)."""
        n_in = member.sum(axis=0)
        n_out = len(member) - n_in
        inside = _mean(probs, member, n_in) if online or (n_out == 0).any() else np.zeros(len(n_in))
        return cls(inside=inside, outside=_mean(probs, ~member, n_out), n_in=n_in, n_out=n_out)

    def log_reference(self, *, online: bool, a: float, inverse_a: float | None = None) -> FloatArray:
        """See the function `log_reference`."""
        back = a if inverse_a is None else inverse_a
        out, bare = self.outside, self.n_out == 0
        if bare.any():
            out = np.where(bare, np.clip((self.inside - (1.0 - back)) / back, 0.0, 1.0), out)
        line = a * out + (1.0 - a)
        if online:
            line = np.where(self.n_in > 0, self.inside, line)
        log_mean: FloatArray = np.log(np.maximum(0.5 * (line + out), _SMALLEST))
        return log_mean


def _mean(probs: FloatArray, used: BoolArray, count: Array) -> FloatArray:
    """(n,) mean of (n_models, n) over the models that `used` selects, 0 where there are none."""
    total = np.zeros(probs.shape[1])
    for values, these in zip(probs, used, strict=True):
        total += values * these
    mean: FloatArray = total / np.maximum(count, 1)
    return mean


def log_reference(
    log_p: FloatArray, member: BoolArray, *, online: bool, a: float = 0.3, inverse_a: float | None = None
) -> FloatArray:
    """log p(x), (n,), from the reference models' probabilities of the true labels.

    Args:
        log_p: (n_models, n) log-probabilities of the true labels.
        member: (n_models, n) bool, whether that model was trained on that record.
        online: whether to use the IN models in general; else they are used only where a record has no OUT model.
        a: slope of the line between the two sides' means, in (0, 1].
        inverse_a: the slope by which a record without an OUT model gets one from its IN models; None for `a`.
    """
    return SideMeans.of(np.exp(log_p), member, online=online).log_reference(online=online, a=a, inverse_a=inverse_a)


def _narrow(margins: FloatArray) -> Array:
    """Log-odds in float32, which are changed in place where they are beyond its range."""
    return np.clip(margins, -_FARTHEST, _FARTHEST, out=margins, where=np.isfinite(margins)).astype(np.float32)


class _TuningOutputs:
    """The shadows' outputs on which settings are compared: log-odds on the records that stand-ins are judged on, and log-probabilities of
    the true labels at any temperature. Records of the population follow those of the pool if they are added.
    """

    def __init__(self, shadows: ShadowPredictions, population: ShadowPredictions) -> None:
        levels = ReadLevels(models=shadows, read=calibration.scaled_logit)
        one = np.arange(1)
        width, theirs = (calibration.margins(models.model(0).select(one)).shape[1] for models in (shadows, population))
        most = max(1000, min(tuning.RECORDS, _MOST_NUMBERS // (width * shadows.n_models)))
        inside = tuning.sample_by(mean_of(levels), most)
        self.member = shadows.member[:, inside]
        self.levels = levels.at(inside)[:, :, 0]
        self.known = self.member
        self.outside = min(len(population), most) if theirs == width else 0
        self._population = population
        self._read([_narrow(calibration.margins(ours)) for ours in calibration.each(shadows, inside)])
        self._at: dict[float, FloatArray] = {}
        self._probs: dict[float, FloatArray] = {}
        self._slopes: dict[float, float] = {}
        self._means: dict[tuple[float, int], SideMeans] = {}

    def _read(self, heights: Sequence[Array]) -> None:
        self.heights = np.stack(heights)  # (n_models, m, classes), or (n_models, m + outside, classes) with the population
        self.top = self.heights.max(axis=-1)

    def add_population(self) -> None:
        """Append `outside` records of the population, before anything is computed of the outputs."""
        theirs = calibration.each(self._population, np.arange(self.outside))
        pairs = zip(self.heights, theirs, strict=True)
        self._read([np.concatenate([ours, _narrow(calibration.margins(one))]) for ours, one in pairs])
        self.known = np.concatenate([self.member, np.zeros((len(self.member), self.outside), dtype=np.bool_)], axis=1)

    def gap(self) -> float:
        """Median difference between a record's two largest log-probabilities: the mean of the medians over IN and over OUT outputs, so
        that it does not move with their shares. Where there are no IN outputs, the median over OUT outputs, raised so that `USUAL` gives it
        back as the temperature. 1.0 where that is nothing.
        """
        ordered = np.sort(self.heights[:, : self.member.shape[1]], axis=-1)
        first = ordered[..., -1]
        second = ordered[..., -2] if ordered.shape[-1] > 1 else np.full_like(first, -np.inf)
        gaps = np.where(first > 0, first - np.maximum(second, 0.0), -first)
        sides = [float(np.median(gaps[side])) for side in (self.member, ~self.member) if side.any()]
        gap = sides[-1] * 2.0**-USUAL if len(sides) == 1 else 0.5 * sum(sides)
        return gap if np.isfinite(gap) and gap > 0.0 else 1.0

    def log_p(self, temperature: float) -> FloatArray:
        """(n_models, m), or with the population (n_models, m + outside)."""
        if temperature not in self._at:
            self._at[temperature] = np.stack(
                [
                    calibration.log_prob_of_margins(one.astype(np.float64), temperature, top.astype(np.float64))
                    for one, top in zip(self.heights, self.top, strict=True)
                ]
            )
        return self._at[temperature]

    def probs(self, temperature: float) -> FloatArray:
        """The same for probabilities."""
        if temperature not in self._probs:
            self._probs[temperature] = np.exp(self.log_p(temperature))
        return self._probs[temperature]

    def slope(self, temperature: float) -> float:
        """(1 - p_in) / (1 - p_out) from the means over all shadows and records, in [0.05, 1]; `BLIND_SLOPE` where no shadow
        was trained on any record.
        """
        if not self.member.any():
            return BLIND_SLOPE
        if temperature not in self._slopes:
            probs = self.probs(temperature)[:, : self.member.shape[1]]
            inside, outside = float(probs[self.member].mean()), float(probs[~self.member].mean())
            found = float(np.clip((1.0 - inside) / max(1.0 - outside, 1e-12), 0.05, 1.0))
            self._slopes[temperature] = round(found, 3)
        return self._slopes[temperature]

    def scores(self, setting: tuple[float, float], stand: tuning.StandIn, *, online: bool) -> FloatArray:
        """The log-ratios of a stand-in's records, which rank them as its scores do; the means are computed once for all slopes."""
        temperature, a = setting
        log_p = self.log_p(temperature)
        if (temperature, stand.model) not in self._means:
            probs = self.probs(temperature)[stand.references][:, stand.records]
            known = self.known[stand.references][:, stand.records]
            self._means[temperature, stand.model] = SideMeans.of(probs, known, online=online)
        means = self._means[temperature, stand.model]
        ratios: FloatArray = log_p[stand.model, stand.records] - means.log_reference(
            online=online, a=a, inverse_a=self.slope(temperature)
        )
        return ratios


def choose(
    shadows: ShadowPredictions,
    population: ShadowPredictions,
    *,
    online: bool,
    temperature: float | None,
    a: float | None,
) -> RmiaSettings:
    """The settings with which the attack on stand-ins works best, or the defaults where there are none.

    Args:
        shadows: the reference models over their pool; never the target.
        population: the same models over records that none of them was trained on.
        online: the variant that is tuned.
        temperature: None to choose it.
        a: None to choose it.
    """
    if temperature is not None and a is not None:
        return RmiaSettings(temperature=temperature, a=a, inverse_a=a, how="as configured")
    outputs = _TuningOutputs(shadows, population)
    gap = outputs.gap()
    stands, how = tuning.stand_ins(outputs.member, outputs.levels), "attacked by the others"
    if not stands and not online:  # one reference knows only a record's OUT side, which is all that the offline attack reads
        outputs.add_population()
        stands = tuning.stand_ins_by_population(outputs.member, outputs.levels, outputs.outside)
        how = "whose members the others told from the population"

    def slopes(of: float, grid: tuple[float, ...]) -> tuple[float, ...]:
        return (a,) if a is not None else (outputs.slope(of),) if online else grid

    def settings(octaves: tuple[float, ...], grid: tuple[float, ...]) -> list[tuple[float, float]]:
        temperatures = [gap * 2.0**octave for octave in octaves] if temperature is None else [temperature]
        return [(of, slope) for of in temperatures for slope in slopes(of, grid)]

    if not stands:
        of = gap * 2.0**USUAL if temperature is None else temperature
        usual = outputs.slope(of) if a is None else a
        how = "from the shadows' means: no shadow can stand in for the target"
        return RmiaSettings(temperature=of, a=usual, inverse_a=outputs.slope(of), how=how)

    def attack(setting: tuple[float, float], stand: tuning.StandIn) -> FloatArray:
        return outputs.scores(setting, stand, online=online)

    first, reached = tuning.best(settings(OCTAVES, SLOPES), stands, attack)
    octave = float(np.log2(first[0] / gap))
    around = tuple(float(s) for s in np.unique(np.clip(first[1] + np.array([-0.1, -0.05, 0.0, 0.05, 0.1]), 0.05, 1.0)))
    second, improved = tuning.best(settings((octave - FINER, octave, octave + FINER), around), stands, attack)
    of, slope = second if improved > reached else first
    return RmiaSettings(temperature=of, a=slope, inverse_a=outputs.slope(of), how=f"chosen on {len(stands)} shadows {how}")
