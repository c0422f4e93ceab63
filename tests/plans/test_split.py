from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope.datasets.labeled import Sizes
from memberscope.errors import UserError
from memberscope.plans.split import Plan, make_plan, replace_labels, resolve_sizes


@given(
    seed=st.integers(0, 2**31 - 1),
    classes=st.integers(2, 7),
    sizes=st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(0, 60)),
    spare=st.integers(0, 40),
    shared=st.booleans(),
)
def test_sides_are_disjoint_complete_and_balanced(
    seed: int, classes: int, sizes: tuple[int, int, int], spare: int, shared: bool
) -> None:
    n_mem, n_non, n_val = sizes
    n = n_mem + n_non + (0 if shared else n_val) + spare
    labels = np.random.default_rng(seed).integers(0, classes, n)
    plan = make_plan(labels, Sizes(members=n_mem, nonmembers=n_non, validation=None if shared else n_val), seed=seed)
    sides = [plan.members, plan.nonmembers] + ([] if shared else [plan.validation])
    every = np.concatenate(sides)
    assert [len(side) for side in sides] == [n_mem, n_non] + ([] if shared else [n_val])
    assert len(set(every.tolist())) == len(every)
    assert set(every.tolist()) <= set(range(n))
    if shared:
        assert np.array_equal(plan.validation, plan.nonmembers)
    for label in range(classes):
        share = np.mean(labels == label)
        for side in sides:
            assert abs(np.sum(labels[side] == label) - share * len(side)) < 2


def test_membership_is_uniform_within_a_class() -> None:
    labels = np.repeat([0, 1], [30, 70])
    hits = np.zeros(100)
    for seed in range(2000):
        hits[make_plan(labels, Sizes(members=40, nonmembers=40, validation=0), seed=seed).members] += 1
    # each record is a member with probability 0.4: 2000 draws, sd 21.9; 100 records within 4.5 sd fail once in 1500 runs
    assert np.all(np.abs(hits - 800) < 4.5 * 21.9)


def test_same_seed_same_plan_other_seed_other_plan() -> None:
    labels = np.arange(100) % 5
    sizes = Sizes(members=40, nonmembers=30, validation=10)
    digests = [make_plan(labels, sizes, seed=seed).digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_overlap_is_refused() -> None:
    with pytest.raises(ValueError, match="share records"):
        Plan(members=np.array([0, 1]), nonmembers=np.array([1, 2]), validation=np.array([3]))
    with pytest.raises(ValueError, match="share records"):
        Plan(members=np.array([0, 1]), nonmembers=np.array([2]), validation=np.array([0]))
    with pytest.raises(ValueError, match="differs from nonmembers"):
        Plan(members=np.array([0]), nonmembers=np.array([1]), validation=np.array([2]), validation_is_nonmembers=True)


def test_label_noise_is_the_same_share_on_every_side() -> None:
    labels = np.arange(1000) % 4
    plan = make_plan(labels, Sizes(members=500, nonmembers=300, validation=100), seed=5)
    noisy = replace_labels(labels, plan.sides, share=0.2, classes=4, seed=5)
    for side in (plan.members, plan.nonmembers, plan.validation):
        assert np.sum(noisy[side] != labels[side]) == round(0.2 * len(side))
    spare = np.setdiff1d(np.arange(1000), np.concatenate([plan.members, plan.nonmembers, plan.validation]))
    assert np.array_equal(noisy[spare], labels[spare])
    assert noisy.min() >= 0
    assert noisy.max() < 4


def test_auto_sizes() -> None:
    own = Sizes(members=0, nonmembers=10_000, validation=5_000)
    auto = {"members": "auto", "nonmembers": "auto"}
    assert resolve_sizes(available=60_000, validation="auto", defaults=own, **auto) == Sizes(
        members=45_000, nonmembers=10_000, validation=5_000
    )
    assert resolve_sizes(available=60_000, validation="nonmembers", defaults=own, **auto) == Sizes(
        members=50_000, nonmembers=10_000, validation=None
    )
    usual = {**auto, "available": 1797, "validation": "auto", "defaults": Sizes(members=600, nonmembers=600, validation=300)}
    for reserved, members in ((0, 600), (297, 600), (298, 599), (800, 97)):  # records that become canaries
        assert resolve_sizes(**usual, reserved=reserved) == Sizes(members=members, nonmembers=600, validation=300)
    assert resolve_sizes(available=600, validation="auto", **auto) == Sizes(members=450, nonmembers=100, validation=50)


def test_more_members_than_records_names_the_largest() -> None:
    with pytest.raises(UserError, match=r"members=900: .* at most 850"):
        resolve_sizes(available=1000, members=900, nonmembers=100, validation=50)
    with pytest.raises(UserError, match="nonmembers=1000"):
        resolve_sizes(available=1000, members="auto", nonmembers=1000, validation="nonmembers")
