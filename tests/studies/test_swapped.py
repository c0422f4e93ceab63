"""Outputs that are likely another model's: swaps are found with the files to exchange, and models in their place are rarely named."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.plans.shadow import ShadowPlan, make_shadow_plan
from memberscope.studies.shadow.swapped import check_swaps

LABELS = np.arange(1200) % 4


def _plan(design: str = "half", *, seed: int = 0, shadows: int = 10, members: int = 200) -> ShadowPlan:
    return make_shadow_plan(
        LABELS, design=design, members=members, population=60, shadows=shadows, targets=2, coin_flips=False, seed=seed
    )


def _outputs(plan: ShadowPlan, *, inside: float, outside: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses, and whether each record is right, of models with these accuracies on members and on others."""
    rng = np.random.default_rng(seed)
    right = rng.random(plan.member.shape) < np.where(plan.member, inside, outside)
    losses = rng.exponential(size=right.shape) * np.where(right, 0.2, 2.0)
    return losses, right


@pytest.mark.parametrize("design", ["half", "disjoint"])
@pytest.mark.parametrize("losses_alone", [False, True])
@pytest.mark.parametrize("pair", [(3, 8), (4, 5)])  # of different pairs of the plan, and of one
def test_two_swapped_files_are_named_and_how_to_mend_it(design: str, losses_alone: bool, pair: tuple[int, int]) -> None:
    plan = _plan(design)
    losses, right = _outputs(plan, inside=0.95, outside=0.7, seed=1)
    order = np.arange(plan.n_models)
    order[list(pair)] = order[list(pair)[::-1]]
    found = check_swaps(plan, losses[order], None if losses_alone else right[order])
    assert found.measure == ("confidence" if losses_alone else "accuracy")
    assert [one.model for one in found.suspects] == list(pair)
    assert found.exchanges == (pair,)
    assert found.better == plan.n_models - 2
    names = [f"file {model}" for model in range(plan.n_models)]
    lines = found.sentences(names)
    assert lines[0].startswith(f"likely swapped: model {pair[0]} (file {pair[0]}): its ")
    assert lines[-1] == f"exchanging file {pair[0]} and file {pair[1]} would fix models {pair[0]} and {pair[1]}"


def test_files_that_are_all_off_by_one_are_named_though_most_models_are_no_better() -> None:
    plan = _plan()
    losses, right = _outputs(plan, inside=0.95, outside=0.7, seed=1)
    order = np.roll(np.arange(plan.n_models), 1)
    found = check_swaps(plan, losses[order], right[order])
    assert [one.fits for one in found.suspects] == order.tolist()
    assert found.exchanges == ()
    assert len(found.sentences([""] * plan.n_models)) == 7, "six by name and one line for the rest"


def test_a_model_that_was_trained_on_other_records_is_named_without_a_partner() -> None:
    plan = _plan()
    losses, right = _outputs(plan, inside=0.95, outside=0.7, seed=1)
    _, elsewhere = _outputs(plan, inside=0.7, outside=0.7, seed=2)
    right[6] = elsewhere[6]
    found = check_swaps(plan, losses, right)
    assert [(one.model, one.fits) for one in found.suspects] == [(6, None)]
    assert found.exchanges == ()


def test_models_in_their_place_are_rarely_named() -> None:
    """In at most 2% of studies: of 300, at most 6 are expected, and more than 17 have a probability below 1e-4. Members are known at a
    strength at which several models of a study are not significantly better on theirs."""
    named = 0
    for seed in range(300):
        plan = _plan(seed=seed)
        losses, right = _outputs(plan, inside=0.80, outside=0.70, seed=seed)
        named += bool(check_swaps(plan, losses, right).suspects)
    assert named <= 17


def test_models_that_memorize_nothing_are_not_named_and_it_is_said_that_nothing_can_be_told() -> None:
    plan = _plan()
    losses, right = _outputs(plan, inside=0.7, outside=0.7, seed=3)
    found = check_swaps(plan, losses, right)
    assert found.suspects == ()
    (line,) = found.sentences([""] * plan.n_models)
    assert "memorize too little to tell whether the outputs belong to this plan" in line


def test_losses_decide_where_every_model_is_always_right() -> None:
    plan = _plan()
    losses, _ = _outputs(plan, inside=0.95, outside=0.5, seed=1)
    order = np.arange(plan.n_models)
    order[[1, 9]] = [9, 1]
    found = check_swaps(plan, losses[order], np.ones_like(plan.member))
    assert found.measure == "confidence"
    assert found.exchanges == ((1, 9),)
