"""Who sees which records: the same ones where a control says so, nested where it says so, labels coarsened and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.sweeps.cells import Part
from memberscope.sweeps.selection import class_order, fewest_records, select, superclasses

PART = Part(classes=6, members=120, nonmembers=120, validation=60, audited_members=40, audited_nonmembers=40)


def test_merged_cells_differ_in_labels_alone(data: LabeledData) -> None:
    whole = select(data, PART, seed=3)
    for count in (2, 3, 5):
        merged = select(data, dataclasses.replace(PART, classes=count, treatment="merged"), seed=3)
        assert merged.plan.digest == whole.plan.digest
        assert np.array_equal(merged.audited, whole.audited)
        assert merged.data.classes == count
        for label in range(6):  # a class goes whole into one superclass
            assert len(np.unique(merged.data.y[data.y == label])) == 1


@pytest.mark.parametrize(("classes", "count"), [(10, 2), (10, 4), (30, 7), (6, 6)])
def test_superclasses_are_as_even_as_can_be(classes: int, count: int) -> None:
    sizes = np.bincount(superclasses(class_order(classes, choice="random", seed=1), count))
    assert len(sizes) == count
    assert sizes.max() - sizes.min() <= 1


def test_fewer_classes_are_nested_and_redrawn_with_the_seed(data: LabeledData) -> None:
    kept = {}
    for seed in range(4):
        for count in (2, 3, 4):
            part = dataclasses.replace(PART, classes=count, members=40, nonmembers=40, validation=20, audited_members=40)
            selection = select(data, part, seed=seed)
            used = np.concatenate([selection.plan.members, selection.plan.nonmembers, selection.plan.validation])
            kept[seed, count] = set(data.y[used])
            assert selection.data.class_names == tuple(data.class_names[k] for k in sorted(kept[seed, count]))
            assert set(selection.data.y[used]) == set(range(count))
        assert kept[seed, 2] < kept[seed, 3] < kept[seed, 4]
    assert len({frozenset(kept[seed, 2]) for seed in range(4)}) > 1
    first = select(data, dataclasses.replace(PART, classes=2, choice="first", members=40, nonmembers=40, validation=20), seed=9)
    assert first.data.class_names == ("a", "b")


def test_a_kept_head_keeps_labels_and_logits(data: LabeledData) -> None:
    part = dataclasses.replace(PART, classes=2, treatment="head", members=40, nonmembers=40, validation=20, label_noise=0.25)
    selection = select(data, part, seed=0)
    order = class_order(6, choice="random", seed=0)[:2]
    assert selection.data.classes == 6
    assert set(selection.data.y[selection.plan.members]) == set(order)
    wrong = selection.data.y[selection.plan.members] != data.y[selection.plan.members]
    assert wrong.sum() == 10


def test_fewer_members_are_a_part_of_more_and_the_rest_stays(data: LabeledData) -> None:
    few, many = (select(data, dataclasses.replace(PART, members=size), seed=5) for size in (60, 180))
    assert np.array_equal(few.plan.members, many.plan.members[:60])
    assert np.array_equal(few.plan.nonmembers, many.plan.nonmembers)
    assert np.array_equal(few.audited, many.audited)
    assert few.member.sum() == 40


def test_noise_is_the_same_share_of_every_side_whatever_the_classes(data: LabeledData) -> None:
    for count in (2, 3, 6):
        treatment = "merged" if count < 6 else "kept"
        clean = select(data, dataclasses.replace(PART, classes=count, treatment=treatment), seed=2)
        noisy = select(data, dataclasses.replace(PART, classes=count, treatment=treatment, label_noise=0.2), seed=2)
        changed = np.flatnonzero(clean.data.y != noisy.data.y)
        for side in clean.plan.sides.values():
            assert np.isin(side, changed).sum() == round(0.2 * len(side))
        if count == 2:
            first = changed
        assert np.array_equal(changed, first)  # the same records, for the same sides


def test_equal_classes_have_equally_many_records(data: LabeledData) -> None:
    lopsided = np.concatenate([np.flatnonzero(data.y == label)[: 60 - 8 * label] for label in range(6)])
    part = dataclasses.replace(PART, per_class=20, members=60, nonmembers=40, validation=20, audited_members=40)
    selection = select(dataclasses.replace(data, x=data.x[lopsided], y=data.y[lopsided]), part, seed=0)
    used = np.concatenate(list(selection.plan.sides.values()))
    assert set(np.bincount(data.y[lopsided][used])) == {20}
    assert fewest_records(data.y[lopsided], classes=6, keep=2, choice="random") == 20 + 28


def test_too_few_records_are_one_line(data: LabeledData) -> None:
    with pytest.raises(UserError, match=r"members=120: 2 classes of toy have 120 records; allowed: at most 0"):
        select(data, dataclasses.replace(PART, classes=2), seed=0)
