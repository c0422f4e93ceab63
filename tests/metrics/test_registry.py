"""Every metric of the registry: in its range whatever the scores, with an interval where a rule may name it, and in the glossary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memberscope import metrics
from memberscope.errors import UserError
from memberscope.metrics import MetricSpec, registry
from memberscope.metrics.spec import MetricInput

GLOSSARY = (Path(__file__).resolve().parents[2] / "GLOSSARY.md").read_text()
MEMBER = np.arange(400) % 2 == 0
SCORES = {
    "perfect": MEMBER * 1.0,
    "reversed": ~MEMBER * 1.0,
    "identical": np.zeros(400),
    "random": np.random.default_rng(0).normal(size=400),
    "some signal": np.random.default_rng(1).normal(size=400) + 0.8 * MEMBER,
}
EVERY = pytest.mark.parametrize("spec", registry.builtin(), ids=lambda spec: spec.name)


def figures(kind: str) -> dict[str, metrics.Estimate]:
    return metrics.figures(
        SCORES[kind], MEMBER, labels=np.arange(400) % 3, rng=np.random.default_rng(0), coin_flips=True, null_draws=20, prior=0.5,
        subjects=1000,
    )  # fmt: skip


def test_what_was_not_declared_is_not_computed_except_for_an_even_prior() -> None:
    found = metrics.figures(SCORES["random"], MEMBER, rng=np.random.default_rng(0))
    assert {spec.name for spec in registry.builtin() if spec.declared} & set(found) == {"ppv"}
    assert found["ppv"] == figures("random")["ppv"]


@pytest.mark.parametrize("kind", SCORES)
def test_figures_are_the_registrys_in_its_order_and_ranges(kind: str) -> None:
    found = figures(kind)
    assert list(found) == [spec.name for spec in registry.builtin()]
    for spec in registry.builtin():
        if found[spec.name].status == "skipped":
            no_ratio = ("ppv", "lift", "found", "epsilon_heuristic")
            assert spec.name.split("_at_fpr")[0] in no_ratio, (
                "no threshold flags anyone, or none flags a non-member, or too few may be"
            )
            continue
        low, high = spec.range
        assert low <= found[spec.name].value <= high, spec.name
        ends = [end for end in (found[spec.name].ci_low, found[spec.name].ci_high) if end is not None]
        assert all(low <= end <= high for end in ends), spec.name


@EVERY
def test_a_rule_may_name_what_has_an_interval_and_nothing_else(spec: MetricSpec) -> None:
    found = figures("some signal")[spec.name]
    if spec.gate and spec.declared and spec.rate == 0.001:
        assert found.status == "skipped", "200 non-members tell nothing of this rate"
    elif spec.gate:
        assert found.ci_low is not None
        assert (found.ci_high is None) == spec.one_sided, "a lower bound has no upper end"
    elif not spec.no_rule:
        assert found.ci_low is None, "what has an interval and may not be named says why"


@EVERY
def test_more_signal_gives_more_where_the_registry_says_so(spec: MetricSpec) -> None:
    if spec.chance is not None and spec.name != "null_auc":
        better, none = figures("some signal")[spec.name].value, figures("identical")[spec.name].value
        assert (better > none) == spec.higher_leaks


def test_scores_that_know_nothing_give_chance() -> None:
    """Exactly, where identical scores leave no room for luck: ties move as one block, so no threshold flags anyone at a low FPR."""
    found = figures("identical")
    for spec in registry.builtin():
        if spec.chance is not None and spec.rate is None:
            assert found[spec.name].value == pytest.approx(spec.chance), spec.name


@EVERY
def test_the_glossary_has_it(spec: MetricSpec) -> None:
    name = spec.name
    for stem in ("tpr_at_fpr_", "fp_budget_", "ppv_at_fpr_", "lift_at_fpr_", "found_at_fpr_"):
        if name.startswith(stem):
            assert stem in GLOSSARY
            return
    assert f"`{name}`" in GLOSSARY


def test_lists_that_others_read() -> None:
    assert registry.summary() == (
        "auc", "advantage", "balanced_accuracy", "tpr_at_fpr_0_1", "tpr_at_fpr_0_01", "tpr_at_fpr_0_001", "ppv",
    )  # fmt: skip
    assert [spec.name for spec in registry.headline()] == [
        "auc", "advantage_heldout", "tpr_at_fpr_0_1", "tpr_at_fpr_0_01", "tpr_at_fpr_0_001",
    ]  # fmt: skip
    assert registry.tracked() == (
        "auc", "advantage", "advantage_heldout", "balanced_accuracy", "tpr_at_fpr_0_1", "tpr_at_fpr_0_01", "tpr_at_fpr_0_001", "ppv",
        "epsilon_heuristic", "epsilon_heuristic_ceiling", "epsilon_lower_bound", "epsilon_lower_bound_ceiling",
    )  # fmt: skip
    assert list(registry.gated()) == [
        "auc", "advantage_heldout", "balanced_accuracy", "tpr_at_fpr_0_1", "tpr_at_fpr_0_01", "tpr_at_fpr_0_001", "partial_auc_fpr_0_01",
        "ppv", "lift", "found", "ppv_at_fpr_0_1", "lift_at_fpr_0_1", "found_at_fpr_0_1", "ppv_at_fpr_0_01", "lift_at_fpr_0_01",
        "found_at_fpr_0_01", "ppv_at_fpr_0_001", "lift_at_fpr_0_001", "found_at_fpr_0_001", "epsilon_heuristic", "epsilon_lower_bound",
    ]  # fmt: skip
    assert set(registry.summary()) <= set(registry.tracked())
    with pytest.raises(UserError, match=r"^metric 'acu': unknown; nearest: auc"):
        registry.get("acu")


def test_a_metric_draws_the_same_numbers_each_time_as_from_a_copy_of_its_stream() -> None:
    scores, member = np.arange(40.0), np.arange(40) % 2 == 0
    given = MetricInput(scores=scores, member=member, rng=np.random.default_rng(5), fpr_targets=(0.1, 0.01))
    streams = np.random.default_rng(5).spawn(5)
    expected = {"partial_auc_fpr_0_01": streams[1], "epsilon_lower_bound": streams[2]}
    expected |= dict(zip(("tpr_at_fpr_0_1", "tpr_at_fpr_0_01"), streams[4].spawn(2), strict=True))
    for name, stream in expected.items():
        numbers = stream.random(50)
        for _ in range(2):
            np.testing.assert_array_equal(given.stream(name).random(50), numbers)
