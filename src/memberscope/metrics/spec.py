"""What a metric is: its name, its range, how it is computed, and where it is shown. Higher score = more likely a member."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from memberscope.metrics.curve import Ranking, rank
from memberscope.metrics.decision import Decision, decide, decide_held_out
from memberscope.metrics.epsilon import Adjacency, OneRun, plan_one_run
from memberscope.metrics.estimate import Bools, Estimate, Floats, Ints, skipped
from memberscope.metrics.null import NullControl, null_control

NEEDS = ("labels", "coin_flips")
"""What a metric may need besides scores and membership."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricInput:
    """The scores of one attack on one slice, and what else a metric may read. What several metrics share is computed once.

    Attributes:
        scores: (n,) float64, finite; higher = more likely a member.
        member: (n,) bool, the truth.
        rng: the generator behind every stream.
        labels: (n,) classes, where they are known.
        prior: share of members that ``ppv`` assumes.
        threshold: the score from which the attack itself calls a record a member; None where it has no threshold of its own.
        coin_flips: was membership drawn by a fair coin for each record, with scores blind to it?
        n_flips, adjacency, delta, promise: of the one-run bound of epsilon; see `memberscope.metrics.epsilon_lower_bound`.
        null_draws: permutations of the null control; 0 for none.
        confidence: of the report, by which the one-run test is planned. Intervals are computed at the confidence that `compute` is given.
        fpr_targets: false positive rates of the TPR.
        plan: the one-run test that was fixed beforehand, if it was.
        draws: bootstrap draws, in place of a metric's own number.
        redraw: gives metrics that draw a stream other than the report's.
    """

    scores: ArrayLike
    member: ArrayLike
    rng: np.random.Generator
    labels: ArrayLike | None = None
    prior: float = 0.5
    threshold: float | None = None
    coin_flips: bool = False
    n_flips: int | None = None
    adjacency: Adjacency = "add_remove"
    delta: float = 1e-5
    promise: float | None = None
    null_draws: int = 0
    confidence: float = 0.95
    fpr_targets: Sequence[float] = ()
    plan: OneRun | None = None
    draws: int | None = None
    redraw: Callable[[], np.random.Generator] | None = None

    @cached_property
    def ranking(self) -> Ranking:
        """The records sorted by score, which everything counted reads; ValueError on bad input."""
        return rank(self.scores, self.member)

    @cached_property
    def halves(self) -> tuple[Ints, Ints] | None:
        """The halves on which held-out thresholds are chosen; None where there are too few records."""
        return self.ranking.halves(self._streams["halves"])

    @cached_property
    def held_out(self) -> Decision | None:
        """Decisions at thresholds chosen on the other half."""
        return decide_held_out(self.ranking, self.halves)

    @cached_property
    def stated(self) -> Decision | None:
        """Decisions at the attack's own threshold; at the held-out ones where it has none."""
        return self.held_out if self.threshold is None else decide(self.ranking, self.threshold)

    @cached_property
    def one_run(self) -> OneRun | None:
        """What the one-run test fixes beforehand; None without coin flips."""
        if self.plan is not None or not self.coin_flips:
            return self.plan
        n = self.ranking.n_member + self.ranking.n_nonmember
        return plan_one_run(n, n_flips=self.n_flips, delta=self.delta, promise=self.promise, confidence=self.confidence)

    @cached_property
    def null(self) -> NullControl | None:
        """AUCs with membership permuted; None where no permutation was asked for."""
        if not self.null_draws:
            return None
        return null_control(self.scores, self.member, self.labels, rng=self._streams["null"], draws=self.null_draws)

    @cached_property
    def _streams(self) -> Mapping[str, np.random.Generator]:
        for_halves, for_partial, for_epsilon, for_null, for_tpr = self.rng.spawn(5)
        rates = zip(self.fpr_targets, for_tpr.spawn(len(self.fpr_targets)), strict=True)
        return {
            "halves": for_halves, "partial_auc_fpr_0_01": for_partial, "epsilon_lower_bound": for_epsilon, "null": for_null,
            **{f"tpr_at_fpr_{rate_name(rate)}": stream for rate, stream in rates},
        }  # fmt: skip

    def stream(self, metric: str) -> np.random.Generator:
        """The generator of a metric's own draws: the same numbers at each call, whichever other metrics there are."""
        if self.redraw is not None:
            return self.redraw()
        known = self._streams.get(metric)
        if known is not None:
            return copy.deepcopy(known)
        root = self.rng.bit_generator.seed_seq
        assert isinstance(root, np.random.SeedSequence)
        words = np.frombuffer(hashlib.sha256(metric.encode()).digest()[:16], dtype="<u4")
        return np.random.default_rng(np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, *words.tolist())))

    @property
    def arrays(self) -> tuple[Floats, Bools]:
        """Scores and membership as arrays, each (n,); copies, so that a metric cannot change what the next one reads."""
        return np.array(self.scores, dtype=np.float64), np.array(self.member, dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A metric of the registry.

    Attributes:
        name: in tables, rules and tracked metrics: small letters, digits and underscores.
        about: what it is, in a line.
        range: its lowest and highest value; a gate's limit lies in it.
        compute: ``(given, confidence)`` -> the figure with its interval at that confidence, the same draws each time; None where it is
            not given at all. What cannot be computed is `memberscope.metrics.skipped` with its reason.
        label: in words, for headings; the name unless given.
        column: the same where it stands in a row of headings; the label unless given.
        chance: its value for scores that know nothing, if it has one.
        higher_leaks: does a higher value mean that more is given away? False for p-values and for counts.
        digits: after the decimal point, in pages.
        needs: of `NEEDS`: it is skipped where one is absent.
        tracked: is it logged for each attack, as ``name/attack``?
        summary: does it stand in the table of attacks that a run shows?
        headline: is it logged for the primary attack, as ``name/headline``, and shown on the report's page?
        gate: may a rule name it? It needs an interval, or at least a lower bound, for that.
        no_rule: why not, and what may be named instead, where a user might think that it can.
        rate: the false positive rate that it stands at, if it does.
        one_sided: is it a lower bound at the confidence, and not an interval with half of the miss at either end?
        draws: how often the gate draws its bootstrap, at a confidence that is adjusted for many figures; None where nothing is drawn.
        ceiling: ``(given, confidence)`` -> the largest value that a bound can have with so many records.
    """

    name: str
    about: str
    range: tuple[float, float]
    compute: Callable[[MetricInput, float], Estimate | None]
    label: str = ""
    column: str = ""
    chance: float | None = None
    higher_leaks: bool = True
    digits: int = 3
    needs: frozenset[str] = frozenset()
    tracked: bool = True
    summary: bool = False
    headline: bool = False
    gate: bool = True
    no_rule: str = ""
    rate: float | None = None
    one_sided: bool = False
    draws: int | None = None
    ceiling: Callable[[MetricInput, float], float] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the parts contradict each other."""
        low, high = self.range
        if not low < high:
            raise ValueError(f"range={self.range}; its lower end must be below its upper end")
        if unknown := self.needs - set(NEEDS):
            raise ValueError(f"needs={', '.join(sorted(unknown))}; allowed: {', '.join(NEEDS)}")
        if self.gate and not self.higher_leaks:
            raise ValueError("gate=True: a rule trips above its limit, so a metric that falls as more leaks cannot be in one")

    @property
    def heading(self) -> str:
        """In words."""
        return self.label or self.name

    @property
    def column_heading(self) -> str:
        """In words, in a row of headings."""
        return self.column or self.heading

    def lacks(self, given: MetricInput) -> str:
        """Why it cannot be computed; ``""`` if it can."""
        if "coin_flips" in self.needs and not given.coin_flips:
            return NO_COINS
        if "labels" in self.needs and given.labels is None:
            return "needs labels"
        return ""

    def of(self, given: MetricInput, confidence: float) -> Estimate | None:
        """The figure; skipped where something is lacking. RuntimeError where `compute` breaks what is said of it here."""
        if lacking := self.lacks(given):
            return skipped(lacking)
        found = self.compute(given, confidence)
        if found is None or (isinstance(found, Estimate) and found.status == "skipped"):
            return found
        if not isinstance(found, Estimate):
            raise RuntimeError(f"{self.name}: gave {type(found).__name__} where an Estimate was expected")
        low, high = self.range
        if not low - 1e-9 <= found.value <= high + 1e-9:
            raise RuntimeError(f"{self.name}: gave {found.value}, outside its range {low:g} to {high:g}")
        ends = (-math.inf if found.ci_low is None else found.ci_low, math.inf if found.ci_high is None else found.ci_high)
        if not ends[0] - 1e-9 <= found.value <= ends[1] + 1e-9:
            raise RuntimeError(
                f"{self.name}: gave {found.value} with an interval from {ends[0]:g} to {ends[1]:g}, which does not hold it"
            )
        return found


NO_COINS = "membership was not drawn by independent coin flips"
UP = (0.0, math.inf)
SHARE = (0.0, 1.0)


def rate_name(rate: float) -> str:
    """A rate as it stands in a metric's name: 0.001 -> "0_001"."""
    return np.format_float_positional(rate, trim="-").replace(".", "_")
