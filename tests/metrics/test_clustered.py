"""The AUC of records in groups: copies change nothing, and the interval covers where records of a group are correlated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from memberscope import metrics
from memberscope.metrics.area import auc_value
from memberscope.metrics.clustered import clustered_auc
from memberscope.metrics.curve import rank


def test_groups_of_one_record_give_delongs_interval() -> None:
    rng = np.random.default_rng(0)
    scores, member = rng.normal(size=200).round(1), rng.random(200) < 0.4
    assert clustered_auc(scores, member, np.arange(200)) == metrics.auc(scores, member)


def test_copies_in_the_group_of_their_original_change_nothing_and_delong_alone_is_fooled() -> None:
    rng = np.random.default_rng(1)
    scores, member = rng.normal(size=120).round(1), np.arange(120) < 60
    scores += 0.5 * member
    one = metrics.auc(scores, member)
    copied = [np.repeat(array, 9) for array in (scores, member, np.arange(120))]
    nine = clustered_auc(*copied)
    assert nine.value == pytest.approx(one.value, abs=1e-12)
    assert (nine.ci_low, nine.ci_high) == pytest.approx((one.ci_low, one.ci_high), abs=1e-12)
    fooled = metrics.auc(*copied[:2])
    widths = [figure.ci_high - figure.ci_low for figure in (fooled, one)]  # type: ignore[operator]
    assert widths[0] / widths[1] == pytest.approx(1 / 3, abs=0.02)


def test_the_variance_is_that_of_a_plain_sum_over_groups() -> None:
    rng = np.random.default_rng(2)
    n = 60
    groups, member = rng.integers(0, 17, n), rng.random(n) < 0.5
    scores = rng.normal(size=n).round(1)
    found = clustered_auc(scores, member, groups)
    wins = (scores[member][:, None] > scores[~member]) + 0.5 * (scores[member][:, None] == scores[~member])
    value, (m, k) = wins.mean(), wins.shape
    total = 0.0
    inside, outside = groups[member], groups[~member]
    d = {g: (wins.mean(1)[inside == g] - value).sum() for g in range(17)}
    e = {g: (wins.mean(0)[outside == g] - value).sum() for g in range(17)}
    counts = [len(set(each)) for each in (inside, outside, groups)]
    total += counts[0] / (counts[0] - 1) * sum(d[g] ** 2 for g in d) / m**2
    total += counts[1] / (counts[1] - 1) * sum(e[g] ** 2 for g in e) / k**2
    total += 2 * counts[2] / (counts[2] - 1) * sum(d[g] * e[g] for g in d) / (m * k)
    assert found.value == pytest.approx(value, abs=1e-12)
    low, high = (np.log(end / (1 - end)) for end in (found.ci_low, found.ci_high))  # type: ignore[operator]
    at = np.log(value / (1 - value))
    assert high - at == pytest.approx(at - low, rel=1e-9)
    error = np.sqrt(total) / (value * (1 - value))
    assert 1.96 < (high - at) / error < 2.2  # Student's t at between 10 and 40 degrees of freedom


def test_it_covers_with_five_correlated_records_a_person_where_delong_does_not() -> None:
    rng = np.random.default_rng(3)
    runs, persons, rows = 400, 60, 5
    truth = norm.cdf(0.7 / np.sqrt(2))
    member = np.repeat(np.arange(persons) < persons // 2, rows)
    groups = np.repeat(np.arange(persons), rows)
    inside = {"clustered": 0, "delong": 0}
    for _ in range(runs):
        scores = 0.7 * member + np.sqrt(0.8) * rng.normal(size=persons)[groups] + np.sqrt(0.2) * rng.normal(size=len(groups))
        for name, figure in (("clustered", clustered_auc(scores, member, groups)), ("delong", metrics.auc(scores, member))):
            inside[name] += figure.ci_low <= truth <= figure.ci_high  # type: ignore[operator]
    assert 0.91 < inside["clustered"] / runs < 0.985
    assert inside["delong"] / runs < 0.75


def test_no_variance_gives_newcombes_interval_for_groups() -> None:
    member = np.repeat([True, False], 20)
    found = clustered_auc(member.astype(float), member, np.arange(40) // 5)
    assert found == metrics.auc(np.array([1.0] * 4 + [0.0] * 4), np.array([True] * 4 + [False] * 4))
    assert auc_value(rank(member.astype(float), member)) == 1.0


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="must have the same length"):
        clustered_auc([0.0, 1.0], [True, False], [1])
