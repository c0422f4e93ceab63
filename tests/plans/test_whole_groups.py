"""Plans that keep groups whole: sides, halves, coins and cells of a sweep; what cannot be kept whole is refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from memberscope.datasets.labeled import LabeledData, Sizes
from memberscope.errors import UserError
from memberscope.plans.shadow import make_shadow_plan
from memberscope.plans.split import make_plan, spread_groups
from memberscope.plans.whole_groups import blocks, check_whole
from memberscope.sweeps.cells import Part
from memberscope.sweeps.selection import select


def _people(persons: int = 300, *, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels and groups of persons with one to six records, in random order."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(persons), rng.integers(1, 7, persons)))
    return rng.integers(0, 3, persons)[groups], groups.astype(np.int64)


def test_a_side_ends_before_the_group_that_would_make_it_too_large() -> None:
    groups = np.array([4, 4, 1, 1, 1, 0, 2, 2])
    found = blocks(np.arange(8), groups, {"members": 4, "nonmembers": 4, "validation": 0})
    assert [found[name].tolist() for name in ("members", "nonmembers", "validation")] == [[0, 1], [2, 3, 4, 5], []]
    with pytest.raises(
        UserError, match="a group with up to 3 records does not fit into 1 members; allowed: at least 3 members"
    ):
        blocks(np.arange(8), groups, {"members": 1})


def test_the_order_has_each_group_together_and_each_class_spread() -> None:
    labels, groups = _people(900)
    order = spread_groups(labels, groups, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(len(labels)))
    assert int((np.diff(groups[order]) != 0).sum()) == 899
    _, first = np.unique(groups[order], return_index=True)
    heads = labels[order][np.sort(first)]
    whole = np.bincount(heads) / 900
    for start in range(0, 900, 300):  # any third of the groups has each class in proportion
        assert np.abs(np.bincount(heads[start : start + 300]) / 300 - whole).max() < 0.01


@pytest.mark.parametrize("validation", [100, None])
def test_a_target_has_whole_groups_on_each_side(validation: int | None) -> None:
    labels, groups = _people()
    plan = make_plan(labels, Sizes(members=500, nonmembers=300, validation=validation), seed=3, groups=groups)
    sides = list(plan.sides.values())
    for one, side in enumerate(sides):
        for other in sides[one + 1 :]:
            assert not np.isin(groups[side], groups[other]).any()
    assert 494 < len(plan.members) <= 500
    assert 294 < len(plan.nonmembers) <= 300
    again = make_plan(labels, Sizes(members=500, nonmembers=300, validation=validation), seed=3, groups=groups)
    assert again.digest == plan.digest
    assert (
        make_plan(labels, Sizes(members=500, nonmembers=300, validation=validation), seed=4, groups=groups).digest
        != plan.digest
    )


@pytest.mark.parametrize("design", ["half", "disjoint"])
@pytest.mark.parametrize("coin_flips", [False, True])
def test_a_fleet_has_whole_groups_in_every_model(design: str, coin_flips: bool) -> None:
    labels, groups = _people(500)
    plan = make_shadow_plan(
        labels,
        design=design,
        members=300,
        population="auto",
        shadows=8,
        targets=2,
        coin_flips=coin_flips,
        seed=1,
        groups=groups,
    )
    check_whole(plan.member, groups[plan.records], where="plan")
    assert not np.isin(groups[plan.population], groups[plan.records]).any()
    assert not np.isin(groups[plan.records[plan.block]], groups[plan.records[~plan.block]]).any()
    firsts = np.unique(groups[plan.records[plan.block]], return_index=True)[1]
    inside = plan.member[plan.targets][:, np.flatnonzero(plan.block)[firsts]].sum(axis=1)
    if coin_flips:
        assert np.abs(inside / len(firsts) - 0.5).max() < 0.2
    else:
        assert set(inside.tolist()) <= {len(firsts) // 2, len(firsts) - len(firsts) // 2}


def test_each_group_is_a_member_of_half_of_the_models_at_random() -> None:
    labels, groups = _people(100)
    rates = [
        make_shadow_plan(
            labels, design="half", members=100, population=50, shadows=2, targets=1, coin_flips=False, seed=seed, groups=groups
        ).member[0].mean()
        for seed in range(60)
    ]  # fmt: skip
    assert 0.47 < np.mean(rates) < 0.53


def test_a_cell_of_a_sweep_has_whole_groups_and_audits_whole_groups() -> None:
    labels, groups = _people(400)
    data = LabeledData(
        name="people", x=np.random.default_rng(0).random((len(labels), 4)).astype(np.float32), y=labels, class_names=("a", "b", "c"),
        source="made", groups=groups,
    )  # fmt: skip
    part = {
        "treatment": "kept",
        "classes": 3,
        "nonmembers": 200,
        "validation": 100,
        "audited_members": 150,
        "audited_nonmembers": 150,
    }
    small, large = (select(data, Part(**part, members=members), seed=2) for members in (300, 500))  # type: ignore[arg-type]
    for found in (small, large):
        assert not np.isin(groups[found.plan.members], groups[found.plan.nonmembers]).any()
        assert not np.isin(groups[found.audited[found.member]], groups[found.audited[~found.member]]).any()
        assert 144 < found.member.sum() <= 150
        assert np.isin(found.audited[found.member], found.plan.members).all()
    assert np.isin(small.plan.members, large.plan.members).all()
    np.testing.assert_array_equal(small.plan.nonmembers, large.plan.nonmembers)


def test_bad_input_is_refused_before_anything_trains() -> None:
    labels, groups = _people(60)
    with pytest.raises(UserError, match=r"group: \d+ groups among the nonmembers; allowed: at least 20, since groups are what"):
        make_plan(labels, Sizes(members=100, nonmembers=30, validation=None), seed=0, groups=groups)
    with pytest.raises(UserError, match=r"group: \d+ groups among the members; allowed: at least 20"):
        make_shadow_plan(
            labels, design="half", members=30, population=0, shadows=2, targets=1, coin_flips=False, seed=0, groups=groups
        )
    member = np.array([[True, False, True, False], [True, True, False, False]])
    check_whole(member[1:], np.array([7, 7, 9, 9]), where="plan=p")
    with pytest.raises(
        UserError, match=r"plan=p: 2 groups have members and non-members of the same model \(7, 9\); allowed: plans"
    ):
        check_whole(member, np.array([7, 7, 9, 9]), where="plan=p")
