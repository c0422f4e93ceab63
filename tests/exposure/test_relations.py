"""Rank correlations of measures, neighbours of records, and means by class and label."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from memberscope.errors import UserError
from memberscope.exposure.relations import neighbours, rank_correlations, related


def test_rank_correlations_are_spearman_s_over_the_records_that_have_both() -> None:
    rng = np.random.default_rng(0)
    first = np.round(rng.normal(size=80), 1)
    values = {
        "a": first,
        "b": np.exp(first),
        "c": first + rng.normal(size=80),
        "d": np.full(80, 2.0),
        "few": np.full(80, np.nan),
    }
    values["c"][:30] = np.nan
    values["few"][:9] = np.arange(9)
    found = rank_correlations(values).set_index(["first", "second"])
    assert len(found) == 10
    assert found.loc[("a", "b"), "correlation"] == pytest.approx(1.0)
    assert found.loc[("a", "c"), "correlation"] == pytest.approx(spearmanr(first[30:], values["c"][30:]).statistic)
    assert found["records"].loc[[("a", "b"), ("a", "c"), ("a", "few")]].tolist() == [80, 50, 9]
    assert np.isnan(found.loc[("a", "d"), "correlation"])
    assert np.isnan(found.loc[("a", "few"), "correlation"])


def test_neighbours_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(30, 2, 2)).astype(np.float32), rng.integers(0, 3, 30)
    found = neighbours(x, labels, seed=0, k=4)
    flat = x.reshape(30, 4).astype(np.float64)
    for i in range(30):
        distance = np.sqrt(((flat - flat[i]) ** 2).sum(axis=1))
        nearest = [j for j in distance.argsort() if j != i][:4]
        assert found["neighbour_distance"][i] == pytest.approx(distance[nearest].mean(), rel=1e-5)
        assert found["neighbours_of_other_class"][i] == pytest.approx((labels[nearest] != labels[i]).mean())


def test_copies_are_neighbours_and_the_record_itself_is_not() -> None:
    x = np.concatenate([np.zeros((6, 1)), np.arange(1, 7)[:, None]])
    found = neighbours(x, np.arange(12) % 2, seed=0, k=3)
    np.testing.assert_array_equal(found["neighbour_distance"][:6], 0.0)
    assert found["neighbour_distance"][11] == pytest.approx(2.0)


def test_a_sample_of_references_serves_large_sets_and_gaps_count_as_means() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 3))
    labels = (x[:, 0] > 0).astype(int)
    whole, sampled = neighbours(x, labels, seed=0), neighbours(x, labels, seed=0, most=100)
    assert np.corrcoef(whole["neighbour_distance"], sampled["neighbour_distance"])[0, 1] > 0.7
    assert sampled["neighbour_distance"].mean() > whole["neighbour_distance"].mean()
    x[5, 1] = np.nan
    filled = x.copy()
    filled[5, 1] = np.nanmean(x[:, 1])
    np.testing.assert_allclose(
        neighbours(x, labels, seed=0)["neighbour_distance"], neighbours(filled, labels, seed=0)["neighbour_distance"], rtol=1e-5
    )


def test_words_and_too_few_records_are_refused() -> None:
    with pytest.raises(UserError, match="x: dtype <U1; allowed: numbers"):
        neighbours(np.array([["a"], ["b"]]), np.arange(2), seed=0)
    with pytest.raises(UserError, match="x: 5 records; allowed: more than 10"):
        neighbours(np.zeros((5, 1)), np.arange(5), seed=0)


def test_means_by_class_and_by_replaced_label() -> None:
    values = {"m": np.array([0.0, 1.0, np.nan, 0.5])}
    found = related(values, labels=np.array([0, 0, 1, 1]), noisy=np.array([False, True, False, True]))
    rows = found.set_index(["kind", "group"])
    assert rows["mean"].to_dict() == {
        ("class", "0"): 0.5, ("class", "1"): 0.5, ("label", "as it was"): 0.0, ("label", "replaced"): 0.75,
    }  # fmt: skip
    assert rows["records"].tolist() == [2, 1, 1, 2]
    assert related(values).empty
