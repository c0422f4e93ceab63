"""The registry of metrics by name: audits compute them, tables and pages show them, and gate rules may name them.

Another package adds a metric by an entry point of the group ``memberscope.metrics``, or by `register`. It is then computed for every attack
and slice, comes last in tables, and may be used in a gate's rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np

from memberscope.errors import GateError, Interrupted
from memberscope.metrics.accusations import found_at_fpr_of, found_of, lift_at_fpr_of, lift_of, ppv_at_fpr_of
from memberscope.metrics.area import auc_of, partial_auc_of
from memberscope.metrics.decision import (
    advantage_heldout_of,
    advantage_of,
    advantage_tfp_of,
    balanced_accuracy_of,
    ppv_max_tfp_of,
    ppv_of,
)
from memberscope.metrics.epsilon import epsilon_heuristic_ceiling, epsilon_heuristic_of, epsilon_lower_bound, not_from_coins
from memberscope.metrics.estimate import Estimate, skipped
from memberscope.metrics.low_fpr import LOW_BUDGET, budget_reason, fp_budget, tpr_at_fpr_of
from memberscope.metrics.spec import NO_COINS, SHARE, UP, MetricInput, MetricSpec, rate_name
from memberscope.plugins import Registry

RATES = (0.1, 0.01, 0.001)
"""The false positive rates at which the TPR is computed."""
EVEN = 0.5
"""The prior of `ppv` where none was declared."""
TPR_DRAWS, PARTIAL_DRAWS = 20_000, 5_000
"""Bootstrap draws of the gate, more than a report's: at a confidence adjusted for many metrics, an end lies among the last few draws."""
_A_MAXIMUM = "has no interval (a maximum over thresholds); allowed instead: "
_A_CONTROL = "is a control, not a metric of the model; allowed instead: auc"


def builtin(rates: Sequence[float] = RATES) -> tuple[MetricSpec, ...]:
    """The metrics that come with memberscope, with the TPR at each of `rates`, in the order of tables."""
    return (
        MetricSpec(
            name="auc", label="AUC", range=SHARE, chance=0.5, compute=lambda given, c: auc_of(given.ranking, confidence=c),
            about="how often a member scores higher than a non-member", summary=True, headline=True,
        ),
        MetricSpec(
            name="advantage", range=SHARE, chance=0.0, compute=lambda given, c: advantage_of(given.ranking), summary=True,
            about="the largest TPR - FPR over thresholds", gate=False, no_rule=_A_MAXIMUM + "advantage_heldout, auc",
        ),
        MetricSpec(
            name="advantage_tfp", range=SHARE, chance=0.0, compute=lambda given, c: advantage_tfp_of(given.ranking), tracked=False,
            about="the largest |TPR - FPR| over thresholds", gate=False, no_rule=_A_MAXIMUM + "advantage_heldout, auc",
        ),
        MetricSpec(
            name="advantage_heldout", label="advantage (held out)", range=(-1.0, 1.0), chance=0.0, headline=True,
            compute=lambda given, c: advantage_heldout_of(given.held_out, confidence=c),
            about="TPR - FPR at a threshold chosen on the other half of the records",
        ),
        MetricSpec(
            name="balanced_accuracy", label="balanced accuracy", range=SHARE, chance=0.5, summary=True,
            compute=lambda given, c: balanced_accuracy_of(given.stated, confidence=c),
            about="mean of TPR and 1 - FPR at the attack's own threshold, or a held-out one",
        ),
        *map(_tpr, rates),
        *map(_budget, rates),
        MetricSpec(
            name="partial_auc_fpr_0_01", label="partial AUC to FPR 0.01", range=SHARE, chance=0.5, rate=0.01, tracked=False,
            draws=PARTIAL_DRAWS, compute=_partial_auc, about="mean TPR over FPR from 0 to 0.01, standardized",
        ),
        MetricSpec(
            name="ppv", label="PPV", range=SHARE, compute=_ppv, declared=("prior",), summary=True, scale="log_odds",
            about="share of members among those called members, at the declared prior, or one half",
        ),
        MetricSpec(
            name="lift", range=UP, compute=_lift, declared=("prior",), tracked=False, digits=1, scale="log",
            about="TPR / FPR: how many times more likely members are called members than non-members; where a prior was declared",
        ),
        MetricSpec(
            name="found", range=UP, compute=_found, declared=("subjects",), tracked=False, digits=0,
            about="how many of the declared number of people in the training set are called members; where it was declared",
        ),
        *(spec for rate in rates for spec in _accusations(rate)),
        MetricSpec(
            name="ppv_max_tfp", range=SHARE, compute=lambda given, c: ppv_max_tfp_of(given.ranking), tracked=False,
            about="the largest PPV over thresholds", gate=False, no_rule=_A_MAXIMUM + "balanced_accuracy, tpr_at_fpr_0_001",
        ),
        MetricSpec(
            name="epsilon_heuristic", label="ε at least", range=UP, chance=0.0, one_sided=True, digits=2, ceiling=_heuristic_ceiling,
            compute=lambda given, c: epsilon_heuristic_of(given.ranking, given.halves, confidence=c),
            about="a lower bound on epsilon from the error rates of one threshold",
        ),
        MetricSpec(
            name="epsilon_heuristic_ceiling", range=UP, compute=_epsilon_heuristic_ceiling, digits=2, gate=False,
            about="the value of epsilon_heuristic if the threshold made no error",
        ),
        MetricSpec(
            name="epsilon_lower_bound", label="ε at least, one-run test", range=UP, chance=0.0, one_sided=True, digits=2,
            needs=frozenset({"coin_flips"}), compute=_epsilon_lower_bound, ceiling=_one_run_ceiling,
            about="the one-run audit's bound; where membership was drawn by independent coin flips",
        ),
        MetricSpec(
            name="epsilon_lower_bound_ceiling", range=UP, compute=_epsilon_lower_bound_ceiling, digits=2, gate=False,
            about="the value of epsilon_lower_bound if every guess were right",
        ),
        MetricSpec(
            name="null_auc", range=SHARE, chance=0.5, compute=_null_auc, tracked=False, gate=False, no_rule=_A_CONTROL,
            about="the AUC with membership permuted within class",
        ),
        MetricSpec(
            name="null_p_value", label="p", range=SHARE, compute=_null_p_value, tracked=False, higher_leaks=False, gate=False,
            no_rule=_A_CONTROL, about="share of permutations with an AUC at least as high",
        ),
    )  # fmt: skip


def _tpr(rate: float) -> MetricSpec:
    name, shown = f"tpr_at_fpr_{rate_name(rate)}", np.format_float_positional(rate, trim="-")

    def compute(given: MetricInput, confidence: float) -> Estimate:
        return tpr_at_fpr_of(given.ranking, fpr=rate, rng=given.stream(name), draws=given.draws or 2000, confidence=confidence)

    return MetricSpec(
        name=name, label=f"TPR at FPR {shown}", column=f"TPR at {shown}" if rate == RATES[0] else f"at {shown}", range=SHARE, chance=rate,
        rate=rate, draws=TPR_DRAWS, compute=compute, about=f"the largest TPR whose FPR is at most {shown}", summary=True, headline=True,
    )  # fmt: skip


def _ppv(given: MetricInput, confidence: float) -> Estimate:
    return ppv_of(given.stated, prior=EVEN if given.prior is None else given.prior, confidence=confidence)


def _lift(given: MetricInput, confidence: float) -> Estimate | None:
    return None if given.prior is None else lift_of(given.stated, confidence=confidence)


def _found(given: MetricInput, confidence: float) -> Estimate | None:
    return None if given.subjects is None else found_of(given.stated, subjects=given.subjects, confidence=confidence)


def _accusations(rate: float) -> Iterator[MetricSpec]:
    """The metrics of accusations at a rate, which need what the user declares."""
    at, shown = rate_name(rate), np.format_float_positional(rate, trim="-")

    def ppv(given: MetricInput, confidence: float) -> Estimate | None:
        if given.prior is None:
            return None
        return ppv_at_fpr_of(given.ranking, fpr=rate, prior=given.prior, confidence=confidence)

    def lift(given: MetricInput, confidence: float) -> Estimate | None:
        return None if given.prior is None else lift_at_fpr_of(given.ranking, fpr=rate, confidence=confidence)

    def found(given: MetricInput, confidence: float) -> Estimate | None:
        if given.subjects is None:
            return None
        return found_at_fpr_of(given.ranking, fpr=rate, subjects=given.subjects, confidence=confidence)

    yield MetricSpec(
        name=f"ppv_at_fpr_{at}", label=f"PPV at FPR {shown}", range=SHARE, rate=rate, compute=ppv, declared=("prior",), tracked=False,
        scale="log_odds", about=f"share of members among those accused at an FPR of at most {shown}, at the declared prior",
    )  # fmt: skip
    yield MetricSpec(
        name=f"lift_at_fpr_{at}", label=f"lift at FPR {shown}", range=UP, rate=rate, compute=lift, declared=("prior",),
        tracked=False, digits=1, scale="log", about=f"TPR / FPR of accusations at an FPR of at most {shown}",
    )  # fmt: skip
    yield MetricSpec(
        name=f"found_at_fpr_{at}", label=f"found at FPR {shown}", range=UP, rate=rate, compute=found, declared=("subjects",),
        tracked=False, digits=0, about=f"how many of the declared number of people are accused at an FPR of at most {shown}",
    )  # fmt: skip


def _budget(rate: float) -> MetricSpec:
    return MetricSpec(
        name=f"fp_budget_{rate_name(rate)}", range=UP, compute=partial(_fp_budget, rate), tracked=False, higher_leaks=False, gate=False,
        about="the number of false positives that this rate allows", digits=1,
    )  # fmt: skip


def _fp_budget(rate: float, given: MetricInput, confidence: float) -> Estimate:
    n = given.ranking.n_nonmember
    budget = fp_budget(n, rate)
    return (
        Estimate(value=budget, status="low_power", reason=budget_reason(n, rate))
        if budget < LOW_BUDGET
        else Estimate(value=budget)
    )


def _partial_auc(given: MetricInput, confidence: float) -> Estimate:
    rng = given.stream("partial_auc_fpr_0_01")
    return partial_auc_of(given.ranking, rng=rng, draws=given.draws or 1000, confidence=confidence)


def _heuristic_ceiling(given: MetricInput, confidence: float) -> float:
    n_member, n_nonmember = given.ranking.n_member, given.ranking.n_nonmember
    return epsilon_heuristic_ceiling(n_member - n_member // 2, n_nonmember - n_nonmember // 2, confidence=confidence)


def _epsilon_heuristic_ceiling(given: MetricInput, confidence: float) -> Estimate | None:
    if given.halves is None:
        return None
    reason = "the value of epsilon_heuristic if the threshold made no error"
    return Estimate(value=_heuristic_ceiling(given, confidence), reason=reason)


def _epsilon_lower_bound(given: MetricInput, confidence: float) -> Estimate:
    plan = given.one_run
    if plan is None:
        return skipped(NO_COINS)
    return epsilon_lower_bound(
        given.scores, given.member, rng=given.stream("epsilon_lower_bound"), n_guesses=plan.n_guesses, n_flips=plan.n_flips,
        delta=plan.delta, promise=plan.promise, confidence=confidence, adjacency=given.adjacency,
    )  # fmt: skip


def _one_run_ceiling(given: MetricInput, confidence: float) -> float:
    assert given.one_run is not None, "the bound is skipped without one"
    return given.one_run.ceiling(confidence)


def _epsilon_lower_bound_ceiling(given: MetricInput, confidence: float) -> Estimate | None:
    plan = given.one_run
    if plan is None or not_from_coins(given.ranking.n_member, given.ranking.n_nonmember, plan.n_flips):
        return None
    reason = f"the value of epsilon_lower_bound if all {plan.n_guesses} guesses were right"
    return Estimate(value=plan.ceiling(confidence), reason=reason)


def _null_auc(given: MetricInput, confidence: float) -> Estimate | None:
    if given.null is None:
        return None
    low, high = np.quantile(given.null.draws, (0.5 - confidence / 2, 0.5 + confidence / 2))
    reason = f"mean and central {confidence:.0%} of {_permutations(given)}"
    return Estimate(value=given.null.mean_auc, ci_low=float(low), ci_high=float(high), reason=reason)


def _null_p_value(given: MetricInput, confidence: float) -> Estimate | None:
    return None if given.null is None else Estimate(value=given.null.p_value, reason=f"one-sided, {_permutations(given)}")


def _permutations(given: MetricInput) -> str:
    return f"{given.null_draws} permutations {'among all records' if given.labels is None else 'within class'}"


def _checked(name: str, thing: object, package: str) -> MetricSpec:
    """Check a plug-in's metric: its type and name. An exception that it raises later becomes the reason of a skipped metric."""
    if not isinstance(thing, MetricSpec):
        raise TypeError(f"is a {type(thing).__name__}; expected a MetricSpec")
    if thing.name != name:
        raise ValueError(f"calls itself {thing.name!r}; expected the entry point's name")
    if name.endswith(("_ci_low", "_ci_high")) or name.startswith("worst_slice_"):
        raise ValueError(
            "its name could be mistaken for part of another metric's; allowed: one that neither ends in _ci_low or _ci_high nor begins "
            "with worst_slice_"
        )

    def compute(given: MetricInput, confidence: float) -> Estimate | None:
        try:
            return thing.of(given, confidence)
        except (Interrupted, GateError):
            raise
        except (Exception, SystemExit) as error:  # another package's code may raise anything
            return skipped(" ".join(f"{name} of {package} failed: {type(error).__name__}: {error}".split()))

    def ceiling(given: MetricInput, confidence: float) -> float:
        try:
            highest = float(thing.ceiling(given, confidence)) if thing.ceiling is not None else math.inf
        except (Interrupted, GateError):
            raise
        except (Exception, SystemExit):
            return math.inf
        return math.inf if math.isnan(highest) else highest

    return replace(thing, compute=compute, ceiling=None if thing.ceiling is None else ceiling)


_REGISTRY: Registry[MetricSpec] = Registry(
    "memberscope.metrics", "metric", {spec.name: spec for spec in builtin()}, check=_checked,
    reserved={"gap": "the train-validation gap", "accuracy": "the model's accuracy", "loss": "the model's loss"},
)  # fmt: skip


def register(spec: MetricSpec, *, package: str = "this process") -> MetricSpec:
    """Add a metric in this process.

    >>> from memberscope.metrics import Estimate, MetricSpec
    >>> def mean_gap(given, confidence):
    ...     scores, member = given.arrays
    ...     return Estimate(value=float(scores[member].mean() - scores[~member].mean()))
    >>> _ = register(MetricSpec(name="mean_gap", about="difference of mean scores", range=(-1e9, 1e9), compute=mean_gap, gate=False))
    >>> "mean_gap" in names()
    True
    >>> unregister("mean_gap")

    Raises:
        UserError: the name is taken by a built-in metric or by another package's.
    """
    return _REGISTRY.register(spec, name=spec.name, package=package)


def unregister(name: str) -> None:
    """Remove a metric that `register` added."""
    _REGISTRY.unregister(name)


def names() -> tuple[str, ...]:
    """All metrics, in the order of tables; loads no plug-in."""
    return _REGISTRY.names()


def get(name: str) -> MetricSpec:
    """The metric of that name; UserError with the nearest names for an unknown one."""
    return _REGISTRY.get(name)


def find(name: str) -> MetricSpec | None:
    """The metric of that name; None for an unknown one, or where its plug-in cannot be loaded."""
    return next((spec for spec in _REGISTRY.values() if spec.name == name), None) if name in _REGISTRY else None


def specs() -> Iterator[MetricSpec]:
    """All metrics, in the order of tables; plug-ins last."""
    return _REGISTRY.values()


def at_rates(rates: Sequence[float]) -> Iterator[MetricSpec]:
    """All metrics, with the TPR at these false positive rates."""
    yield from _builtin(tuple(rates))
    yield from _REGISTRY.extra()


_builtin = cache(builtin)


def tracked() -> tuple[str, ...]:
    """Metrics that are logged for each attack."""
    return tuple(spec.name for spec in specs() if spec.tracked)


def summary() -> tuple[str, ...]:
    """The metrics in the table of attacks that a run shows."""
    return tuple(spec.name for spec in specs() if spec.summary)


def headline() -> tuple[MetricSpec, ...]:
    """Metrics of the primary attack that are logged and shown."""
    return tuple(spec for spec in specs() if spec.headline)


def gated() -> dict[str, MetricSpec]:
    """The metrics that a gate's rule may use."""
    return {spec.name: spec for spec in specs() if spec.gate}
