"""Defines a metric: its name, its range, how it is computed, and where it is shown. Higher score = more likely a member."""

from __future__ import annotations

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
"""The inputs that a metric may need besides scores and membership."""
SCALES = ("linear", "log", "log_odds")
"""The scales on which an interval shrinks as 1 / sqrt(records)."""
DECLARED = ("prior", "subjects")
"""What only the user can declare: no audit measures it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricInput:
    """The scores of one attack on one slice, and everything else that a metric may read. Values that several metrics share are computed
    once.

    Attributes:
        scores: (n,) float64, finite; higher = more likely a member.
        member: (n,) bool, the truth.
        rng: the generator behind every stream.
        labels: (n,) classes, where they are known.
        prior: share of members among an attacker's candidates, as declared; None where nobody declared it.
        subjects: the number of people in the training set, as declared; None where nobody declared it.
        threshold: the score at and above which the attack itself calls a record a member; None where it has no threshold of its own.
        coin_flips: whether membership was drawn by a fair coin for each record, with scores that do not depend on it.
        n_flips, adjacency, delta, promise: settings of the one-run bound of epsilon; see `memberscope.metrics.epsilon_lower_bound`.
        null_draws: the number of permutations of the null control; 0 for none.
        confidence: the report's confidence, for which the one-run test is planned. Intervals are computed at the confidence that is passed
            to `compute`.
        fpr_targets: the false positive rates of the TPR.
        plan: the one-run test that was fixed beforehand, if there is one.
        draws: the number of bootstrap draws, in place of a metric's own number.
        redraw: whether random metrics use other streams than the report's.
    """

    scores: ArrayLike
    member: ArrayLike
    rng: np.random.Generator
    labels: ArrayLike | None = None
    prior: float | None = None
    subjects: int | None = None
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
        """The records sorted by score, from which all counts are taken; ValueError on bad input."""
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
        """Decisions at the attack's own threshold, or at the held-out ones where it has none."""
        return self.held_out if self.threshold is None else decide(self.ranking, self.threshold)

    @cached_property
    def one_run(self) -> OneRun | None:
        """The settings that the one-run test fixes beforehand; None without coin flips."""
        if self.plan is not None or not self.coin_flips:
            return self.plan
        n = self.ranking.n_member + self.ranking.n_nonmember
        return plan_one_run(n, n_flips=self.n_flips, delta=self.delta, promise=self.promise, confidence=self.confidence)

    @cached_property
    def null(self) -> NullControl | None:
        """AUCs with membership permuted; None where no permutation was requested."""
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
            return _from_its_start(known)
        root = self.rng.bit_generator.seed_seq
        assert isinstance(root, np.random.SeedSequence)
        words = np.frombuffer(hashlib.sha256(metric.encode()).digest()[:16], dtype="<u4")
        return np.random.default_rng(np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, *words.tolist())))

    @property
    def arrays(self) -> tuple[Floats, Bools]:
        """Scores and membership as arrays, each (n,); copies, so that a metric cannot change what the next one reads."""
        return np.array(self.scores, dtype=np.float64), np.array(self.member, dtype=np.bool_)


def _from_its_start(rng: np.random.Generator) -> np.random.Generator:
    """A generator that draws what `rng` draws first; made from its seed, which is faster than a deep copy of it."""
    seed = rng.bit_generator.seed_seq
    assert isinstance(seed, np.random.SeedSequence)
    fresh = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key, pool_size=seed.pool_size)
    return np.random.Generator(type(rng.bit_generator)(fresh))


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A metric of the registry.

    Attributes:
        name: its name in tables, rules and tracked metrics: lower-case letters, digits and underscores.
        about: a one-line description.
        range: its lowest and highest value; a gate's limit must lie in it.
        compute: ``(given, confidence)`` -> the value with its interval at that confidence, with the same draws each time; None where it
            does not apply. A value that cannot be computed is `memberscope.metrics.skipped` with its reason.
        label: its name in headings; `name` unless given.
        column: its name in a row of headings; `label` unless given.
        chance: its value for scores without any information, if there is one.
        higher_leaks: whether a higher value means that the model gives away more. False for p-values and for counts.
        digits: the number of digits after the decimal point on pages.
        needs: the inputs among `NEEDS` that it requires; it is skipped where one is absent.
        tracked: whether it is logged for each attack, as ``name/attack``.
        summary: whether it is included in the table of attacks that a run shows.
        headline: whether it is logged for the primary attack, as ``name/headline``, and shown on the report's page.
        gate: whether a rule may use it. This requires an interval, or at least a lower bound.
        no_rule: why a rule may not use it, and what to use instead, where a user might expect that it may.
        declared: what must have been declared for a rule to use it, among `DECLARED`.
        rate: the false positive rate at which it is taken, if there is one.
        one_sided: whether it is a lower bound at the confidence, and not an interval with half of the miss at either end.
        scale: one of `SCALES`, on which its interval shrinks evenly with more records; a gate's number of records follows from it.
        draws: the gate's number of bootstrap draws, at a confidence that is adjusted for many metrics; None where nothing is drawn.
        ceiling: ``(given, confidence)`` -> the largest value that a bound can have with this number of records.
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
    declared: tuple[str, ...] = ()
    rate: float | None = None
    one_sided: bool = False
    scale: str = "linear"
    draws: int | None = None
    ceiling: Callable[[MetricInput, float], float] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the parts contradict each other."""
        low, high = self.range
        if not low < high:
            raise ValueError(f"range={self.range}; its lower end must be below its upper end")
        if strange := set(self.declared) - set(DECLARED):
            raise ValueError(f"declared={', '.join(sorted(strange))}; allowed: {', '.join(DECLARED)}")
        if self.scale not in SCALES:
            raise ValueError(f"scale={self.scale}; allowed: {', '.join(SCALES)}")
        if unknown := self.needs - set(NEEDS):
            raise ValueError(f"needs={', '.join(sorted(unknown))}; allowed: {', '.join(NEEDS)}")
        if self.gate and not self.higher_leaks:
            raise ValueError(
                "gate=True: a rule trips above its limit, so a metric that is lower where more leaks cannot be used in one"
            )

    @property
    def heading(self) -> str:
        """Its name in headings."""
        return self.label or self.name

    @property
    def column_heading(self) -> str:
        """Its name in a row of headings."""
        return self.column or self.heading

    def lacks(self, given: MetricInput) -> str:
        """Why it cannot be computed; ``""`` if it can."""
        if "coin_flips" in self.needs and not given.coin_flips:
            return NO_COINS
        if "labels" in self.needs and given.labels is None:
            return "needs labels"
        return ""

    def of(self, given: MetricInput, confidence: float) -> Estimate | None:
        """The metric's value; skipped where an input is missing. RuntimeError where `compute` breaks its contract."""
        if lacking := self.lacks(given):
            return skipped(lacking)
        found = self.compute(given, confidence)
        if found is None or (isinstance(found, Estimate) and found.status == "skipped"):
            return found
        if not isinstance(found, Estimate):
            raise RuntimeError(f"{self.name}: returned {type(found).__name__} where an Estimate was expected")
        low, high = self.range
        if not low - 1e-9 <= found.value <= high + 1e-9:
            raise RuntimeError(f"{self.name}: returned {found.value}, outside its range {low:g} to {high:g}")
        ends = (-math.inf if found.ci_low is None else found.ci_low, math.inf if found.ci_high is None else found.ci_high)
        if not ends[0] - 1e-9 <= found.value <= ends[1] + 1e-9:
            raise RuntimeError(
                f"{self.name}: returned {found.value} with an interval from {ends[0]:g} to {ends[1]:g}, which does not contain it"
            )
        return found


NO_COINS = "membership was not drawn by independent coin flips"
UP = (0.0, math.inf)
SHARE = (0.0, 1.0)


def rate_name(rate: float) -> str:
    """A rate as it is written in a metric's name: 0.001 -> "0_001"."""
    return np.format_float_positional(rate, trim="-").replace(".", "_")
