"""Near copies across the sides are counted as by comparing every pair; dense data are told by what members are to each other."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope import Predictions, run_audit
from memberscope.audit import near
from memberscope.audit.near import TOLERANCE, near_copies
from memberscope.audit.wording import copy_notes


def _target(inputs: np.ndarray, member: np.ndarray) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        logits=rng.normal(size=(len(member), 2)), labels=rng.integers(0, 2, len(member)), member=member, inputs=inputs
    )


def _by_pairs(inputs: np.ndarray, member: np.ndarray, tolerance: float) -> int:
    flat = inputs.reshape(len(inputs), -1).astype(float)
    flat = flat[:, flat.std(0) > 0]
    flat = (flat - flat.mean(0)) / flat.std(0)
    distance = np.sqrt(((flat[member][:, None] - flat[~member][None]) ** 2).mean(axis=2))
    return int(((distance > 0) & (distance <= tolerance)).any(axis=1).sum())


@pytest.mark.parametrize("width", [5, 40, 400])  # with the last, the sample has fewer records than columns
def test_counts_are_those_of_all_pairs(width: int) -> None:
    rng = np.random.default_rng(width)
    inputs = rng.normal(size=(300, width)) * rng.uniform(0.1, 50, width) + 7
    member = np.arange(300) < 150
    inputs[:20] = inputs[150:170] + rng.normal(size=(20, width)) * inputs.std(0) * rng.uniform(0, 2 * TOLERANCE, (20, 1))
    inputs[30:35] = inputs[200:205]  # exact copies, which are told of elsewhere
    inputs[:, 3] = 1.5
    expected = _by_pairs(inputs, member, TOLERANCE)
    assert 5 < expected < 18
    found = near_copies(_target(inputs, member))
    assert found is not None
    assert (found.members, found.among_members, found.compared) == (expected, 0, 150)


def test_a_few_groups_of_alike_records_do_not_hide_the_copies_within_them() -> None:
    """The principal axes tell little but the groups apart here; random ones tell records of one group apart."""
    rng, n = np.random.default_rng(0), 1200
    inputs = np.hstack([rng.normal(size=(13, 400))[rng.integers(0, 13, n)], rng.normal(size=(n, 10))])
    inputs[:60] = inputs[600:660] + rng.normal(size=(60, 410)) * inputs.std(0) * 0.045
    member = np.arange(n) < 600
    found = near_copies(_target(inputs, member))
    assert found is not None
    assert 58 <= found.members <= _by_pairs(inputs, member, TOLERANCE)


@pytest.mark.parametrize(("name", "value"), [("_SAMPLE", 50), ("_SAMPLED_NUMBERS", 400 * 9)])
def test_a_sample_is_enough_to_find_them(name: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    inputs = rng.normal(size=(300, 8)) @ rng.normal(size=(8, 400)) + 0.3 * rng.normal(size=(300, 400))
    member = np.arange(300) < 150
    inputs[:20] = inputs[150:170] + rng.normal(size=(20, 400)) * inputs.std(0) * rng.uniform(0, 2 * TOLERANCE, (20, 1))
    monkeypatch.setattr(near, name, value)
    found = near_copies(_target(inputs, member))
    assert found is not None
    assert 5 < found.members == _by_pairs(inputs, member, TOLERANCE) < 18


def test_images_that_were_compressed_again_are_found() -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (120, 8, 8, 3)).astype(np.uint8)
    member = np.arange(120) < 60
    images[:10] = np.clip(images[60:70].astype(int) + rng.integers(-3, 4, (10, 8, 8, 3)), 0, 255)
    found = near_copies(_target(images, member))
    assert found is not None
    assert (found.members, found.among_members) == (10, 0)


def test_coarse_tables_have_no_near_copies_and_dense_ones_say_that_members_are_as_close_to_each_other() -> None:
    rng = np.random.default_rng(2)
    member = np.arange(4000) < 2000
    coarse = rng.integers(0, 3, (4000, 6))
    found = near_copies(_target(coarse, member))
    assert found is not None
    assert found.members == 0
    dense = rng.uniform(size=(4000, 4)) * 0.5
    found = near_copies(_target(dense, member), tolerance=3 * TOLERANCE)
    assert found is not None
    assert found.members > 300
    assert 0.85 < found.members / found.among_members < 1.18


def test_what_cannot_be_compared() -> None:
    member = np.arange(40) < 20
    assert near_copies(Predictions(logits=np.zeros((40, 2)), labels=np.zeros(40, dtype=int), member=member)) is None
    assert near_copies(_target(np.zeros((40, 9)), member)) is None
    assert near_copies(_target(np.random.default_rng(0).normal(size=(40, 3)), member)) is None
    gaps = np.random.default_rng(0).normal(size=(40, 6))
    gaps[::3, 2] = np.nan
    found = near_copies(_target(gaps, member))
    assert found is not None
    assert found.members == 0


def test_the_note_names_the_remedy_and_groups_answer_it() -> None:
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(200, 6))
    member = np.arange(200) < 100
    inputs[:30] = inputs[100:130] + 0.001
    target = _target(inputs, member)
    report = run_audit(target, attacks="threshold_loss")
    assert copy_notes(report)["near"].startswith(
        "Near copies: 30 of 100 members are within 0.05 standard deviations per column"
    )
    groups = np.arange(200)
    groups[:30] = groups[100:130]
    known = Predictions(logits=target.logits, labels=target.labels, member=member, inputs=inputs, groups=groups)
    found = run_audit(known, attacks="threshold_loss")
    assert "near" not in copy_notes(found)
    assert "30 groups are on both sides" in copy_notes(found)["groups"]
