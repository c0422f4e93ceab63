"""Agreement of attacks: Jaccard, coverage and stability by hand, and their closed forms for independent and equal attacks."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.errors import UserError
from memberscope.exposure.agreement import agreement, coverage_and_stability, jaccard


def _sets(*rows: str) -> np.ndarray:
    return np.array([[mark == "x" for mark in row] for row in rows])


def test_jaccard_by_hand() -> None:
    assert jaccard(*_sets("xx.x", ".xxx")) == 0.5
    assert jaccard(*_sets("xx..", "..xx")) == 0.0
    assert np.isnan(jaccard(*_sets("....", "....")))


def test_coverage_and_stability_by_hand() -> None:
    member = _sets("xxxx..", "..xxxx")
    # two repetitions under two targets; the last column of the first target, a non-member, never counts
    one = np.stack([_sets("xx...x", "..xx.."), _sets("x.x..x", "..xx..")])
    found = coverage_and_stability({"a": one, "alone": one[:1]}, member, fpr=0.1).set_index("attack")
    row = found.loc["a"]
    assert (row["found"], row["coverage"], row["stability"]) == (2.0, 2.5, 1.5)
    assert row["jaccard"] == pytest.approx((1 / 3 + 1) / 2)
    assert (row["repetitions"], row["members"], row["targets"]) == (2, 4, 2)
    assert np.isnan(found.loc["alone", "jaccard"])
    assert found.loc["alone", "coverage"] == found.loc["alone", "stability"] == found.loc["alone", "found"] == 2.0


def test_agreement_by_hand() -> None:
    member = np.ones((1, 5), dtype=bool)
    found = {"a": np.stack([_sets("xxx.."), _sets("xx.x.")]), "b": np.stack([_sets(".xx.x"), _sets(".x..x")])}
    rows = agreement(found, member, fpr=0.1).set_index("set")
    assert rows["jaccard"].to_dict() == {"one": 0.5, "coverage": pytest.approx(2 / 5), "stability": pytest.approx(1 / 3)}
    assert (rows.loc["one", "both"], rows.loc["one", "first_only"], rows.loc["one", "second_only"]) == (2, 1, 1)
    assert rows["ci_low"].isna().all()  # one target has no interval
    assert set(agreement({"a": found["a"][:1], "b": found["b"]}, member, fpr=0.1)["set"]) == {"one"}


def test_independent_attacks_agree_as_chance_has_it_and_equal_ones_wholly() -> None:
    """Two independent sets of share q have a Jaccard similarity of q / (2 - q)."""
    rng = np.random.default_rng(0)
    member = rng.random((6, 4000)) < 0.5
    found = {"a": rng.random((2, 6, 4000)) < 0.4, "b": rng.random((2, 6, 4000)) < 0.4}
    found["same"] = found["a"]
    rows = agreement(found, member, fpr=0.4)
    rows = rows[rows["set"] == "one"].set_index(["first", "second"])
    assert rows.loc[("a", "same"), "jaccard"] == 1.0
    apart = rows.loc[("a", "b")]
    assert apart["jaccard"] == pytest.approx(0.25, abs=0.02)
    assert apart["ci_low"] < 0.25 < apart["ci_high"] < 0.3
    sets = coverage_and_stability(found, member, fpr=0.4).set_index("attack").loc["a"]
    assert sets["coverage"] / sets["members"] == pytest.approx(0.64, abs=0.02)
    assert sets["stability"] / sets["members"] == pytest.approx(0.16, abs=0.02)


def test_nobody_found_has_no_similarity_and_sets_must_fit() -> None:
    member = np.ones((3, 4), dtype=bool)
    nothing = np.zeros((2, 3, 4), dtype=bool)
    rows = agreement({"a": nothing, "b": nothing}, member, fpr=0.1)
    assert rows["jaccard"].isna().all()
    assert (rows["targets"] == 0).all()
    assert np.isnan(coverage_and_stability({"a": nothing}, member, fpr=0.1)["jaccard"][0])
    with pytest.raises(
        UserError, match=r"found: bool of shape \(3, 4\) for a; allowed: booleans of shape \(repetitions, 3, 4\)"
    ):
        agreement({"a": nothing[0]}, member, fpr=0.1)
