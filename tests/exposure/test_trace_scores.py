"""Measures of a loss trace beside a fleet: exact on hand-made numbers, against a naive count, and at chance on no signal."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.errors import UserError
from memberscope.exposure.trace_scores import MEASURES, agreement, compare_trace


def test_precision_and_recall_exact() -> None:
    """200 members, k = 2; the fleet finds the members 0 to 4, whose scores exceed every non-member's."""
    member = np.arange(300) < 200
    scores = np.where(np.arange(300) < 5, 10.0, 0.0) + np.arange(300) / 1000
    values = np.zeros(300)
    values[[3, 150]] = 2.0, 1.0
    values[250] = 9.0  # a non-member takes no place among the k
    found = agreement(values, scores, member, measure="m")
    assert (found.k, found.members, found.found, found.hits) == (2, 200, 5, 1.0)
    assert (found.precision, found.recall, found.chance) == (0.5, 0.2, 0.025)
    low, high = found.precision_interval()
    assert (low, high) == (pytest.approx(0.01258, abs=1e-4), pytest.approx(0.98742, abs=1e-4))


def test_ties_at_the_last_place_count_in_proportion() -> None:
    member = np.arange(150) < 100
    scores = np.where(np.arange(150) < 10, 5.0, -1.0)
    found = agreement(np.zeros(150), scores, member, measure="m", top_share=0.2)
    assert found.hits == pytest.approx(2.0)  # 20 of 100 by lot, of whom a tenth are found
    assert np.isnan(found.rank_correlation)


def test_against_a_naive_count() -> None:
    rng = np.random.default_rng(1)
    member = rng.random(3000) < 0.5
    fleet = rng.normal(size=3000) + member
    values = fleet + rng.normal(size=3000)
    found = agreement(values, fleet, member, measure="m", fpr=0.01)
    allowed = int(0.01 * (~member).sum())
    threshold = np.sort(fleet[~member])[::-1][allowed]
    places = np.flatnonzero(member)
    finds = {int(i) for i in places if fleet[i] > threshold}
    top = sorted(places, key=lambda i: -values[i])[: round(member.sum() / 100)]
    assert found.found == len(finds)
    assert found.hits == sum(int(i) in finds for i in top)
    ranks = [np.argsort(np.argsort(part[member])) for part in (values, fleet)]
    assert found.rank_correlation == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)


def test_an_unrelated_measure_has_the_precision_of_chance() -> None:
    rng = np.random.default_rng(2)
    member = np.arange(4000) < 2000
    fleet = rng.normal(size=4000) + 2 * member
    found = [agreement(rng.normal(size=4000), fleet, member, measure="m") for _ in range(200)]
    mean, chance = np.mean([one.precision for one in found]), found[0].chance
    error = np.sqrt(chance * (1 - chance) / 20 / 200)
    assert chance - 4 * error < mean < chance + 4 * error
    assert abs(np.mean([one.rank_correlation for one in found])) < 4 / np.sqrt(2000 * 200)


def test_the_measures_rank_late_learners_highest() -> None:
    """Each of two records is at the top of one measure: one that is never fitted, and one whose loss falls late."""
    losses = np.tile(np.linspace(0.5, 0.0, 9), (100, 1))
    losses[0] = 3.0
    losses[1] = [3.0, 3.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    top = {name: int(np.argmax(measure(losses))) for name, measure in MEASURES.items()}
    assert top == {"final": 0, "mean": 0, "lt_iqr": 1}
    member = np.arange(100) < 50
    fleet = np.where(np.arange(100) == 1, 5.0, 0.0)
    by_name = {one.measure: one.precision for one in compare_trace(losses, fleet, member, top_share=0.02)}
    assert by_name == {"final": 0.0, "mean": 0.0, "lt_iqr": 1.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"values": np.ones(3)}, r"values: shape \(3,\)"),
        ({"values": np.array([1.0, np.nan, 1.0, np.nan])}, "values: 2 NaN or infinite values, the first at 1"),
        ({"fleet_scores": np.ones((4, 1))}, r"fleet_scores: shape \(4, 1\)"),
        ({"member": np.ones(4, bool)}, "member: not bool with both values"),
        ({"top_share": 0.0}, "top_share: 0"),
        ({"fpr": 1.0}, "fpr: 1"),
    ],
)
def test_bad_input(changes: dict[str, object], said: str) -> None:
    given = {"values": np.ones(4), "fleet_scores": np.ones(4), "member": np.arange(4) < 2, "measure": "m", **changes}
    with pytest.raises(UserError, match=said):
        agreement(given.pop("values"), given.pop("fleet_scores"), given.pop("member"), **given)
