"""Slices: what a request stands for, and that deciles part the records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from memberscope import signals, slices
from memberscope.errors import UserError
from memberscope.predictions import Predictions


@pytest.fixture
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    n = 200
    return Predictions(
        logits=rng.normal(size=(n, 4)),
        labels=rng.integers(0, 4, n),
        member=np.arange(n) < 100,
        columns={"age band": np.array(["20=29", "30%39"] * 100), "id": np.arange(n)},
    )


def _names(parts: list[slices.Slice]) -> list[str]:
    return [part.name for part in parts]


def test_all_stands_for_the_four_slicings(predictions: Predictions) -> None:
    parts = slices.parse("all", predictions)
    deciles = [f"loss_p{a:02d}_p{a + 10}" for a in range(0, 100, 10)]
    assert _names(parts) == ["entire", "class_0", "class_1", "class_2", "class_3", "correct", "incorrect", *deciles]
    assert {part.kind for part in parts if part.ranked} == {"class"}
    for kind in ("class", "correctness", "percentile"):
        index = np.concatenate([part.index for part in parts if part.kind == kind])
        np.testing.assert_array_equal(np.sort(index), np.arange(len(predictions)))


def test_slices_hold_what_their_names_say(predictions: Predictions) -> None:
    (three,) = slices.parse("class_3", predictions)
    np.testing.assert_array_equal(three.index, np.flatnonzero(predictions.labels == 3))
    (right,) = slices.parse(["correct"], predictions)
    assert predictions.logits is not None
    np.testing.assert_array_equal(right.index, np.flatnonzero(predictions.logits.argmax(axis=1) == predictions.labels))
    (low,) = slices.parse("loss_p00_p10", predictions)
    losses = signals.loss_nats(predictions)
    np.testing.assert_array_equal(low.index, np.sort(np.argsort(losses)[:20]))


def test_requests_are_joined_and_each_slice_comes_once(predictions: Predictions) -> None:
    assert _names(slices.parse("entire, class_1,class", predictions)) == ["entire", "class_1", "class_0", "class_2", "class_3"]


def test_a_users_column_makes_slices_with_names_that_a_tracker_allows(predictions: Predictions) -> None:
    parts = slices.parse("column:age band", predictions)
    assert _names(parts) == ["age band:20_29", "age band:30_39"]
    assert all(part.ranked for part in parts)
    np.testing.assert_array_equal(parts[0].index, np.arange(0, 200, 2))


def test_column_values_that_look_alike_keep_their_own_slices() -> None:
    member = np.arange(4) < 2
    predictions = Predictions(loss_nats=np.ones(4), member=member, columns={"c": np.array(["a=", "a%", "a=", "a%"])})
    assert sorted(len(part) for part in slices.parse("column:c", predictions)) == [2, 2]
    assert len(set(_names(slices.parse("column:c", predictions)))) == 2


def test_an_empty_class_keeps_its_row() -> None:
    predictions = Predictions(logits=4 * np.eye(3)[[0, 1, 0, 1]] - 1, labels=np.array([0, 1, 0, 1]), member=np.arange(4) < 2)
    assert [len(part) for part in slices.parse("class", predictions)] == [2, 2, 0]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("correctnes", "slices: 'correctnes'; nearest: correctness"),
        ("class_4", "slices: class_4; allowed: class_0 to class_3"),
        ("column:agebnd", "slices: column:agebnd; nearest: age band; columns are age band, id"),
        ("", "slices: none named"),
        ("loss_p05_p10", "nearest: loss_p"),
    ],
)
def test_unknown_requests_name_the_nearest(request_: str, message: str, predictions: Predictions) -> None:
    with pytest.raises(UserError, match=message):
        slices.parse(request_, predictions)


def test_a_column_that_identifies_records_is_refused() -> None:
    n = 2 * slices.MOST_SLICES
    predictions = Predictions(loss_nats=np.ones(n), member=np.arange(n) < 5, columns={"id": np.arange(n)})
    with pytest.raises(UserError, match=f"column:id has {n} values; allowed: at most {slices.MOST_SLICES}"):
        slices.parse("column:id", predictions)


def test_what_the_predictions_do_not_allow_is_left_out_of_all_and_refused_by_name() -> None:
    member = np.arange(30) < 10
    entropies = Predictions(entropy_nats=np.ones(30), member=member)
    assert _names(slices.parse("all", entropies)) == ["entire"]
    for request, lack in (("class", "labels"), ("correctness", "logits or predicted or probs"), ("percentile", "loss_nats")):
        with pytest.raises(UserError, match=f"slices: {request} needs .*{lack}"):
            slices.parse(request, entropies)
    assert len(slices.parse("all", Predictions(loss_nats=np.arange(30.0), member=member))) == 11


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([0.0, 0.5, 1.0, 1e-30, 18.4, 3.0])))
def test_deciles_part_the_records_with_ties_together(losses: Any) -> None:
    decile = slices.loss_deciles(losses)
    assert decile.min() == 0
    assert decile.max() <= 9
    for value in np.unique(losses):
        assert len(np.unique(decile[losses == value])) == 1
    order = np.argsort(losses)
    assert (np.diff(decile[order]) >= 0).all()
    naive = [int(10 * sum(other < loss for other in losses) / len(losses) + 1e-9) for loss in losses]
    np.testing.assert_array_equal(decile, naive)


@given(st.integers(10, 300))
def test_deciles_without_ties_are_equal_in_size(n: int) -> None:
    sizes = np.bincount(slices.loss_deciles(np.random.default_rng(n).permutation(n) * 0.5), minlength=10)
    assert sizes.max() - sizes.min() <= 1
