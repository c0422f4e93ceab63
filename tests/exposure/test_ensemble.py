"""The ensemble is honest: chosen on one half, it gains nothing on the other without a true gain, and what there is to gain is found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from memberscope.errors import UserError
from memberscope.exposure.ensemble import Combination, combinations, ensemble, halves, joined, ranks


def _targets(pairs: int, records: int, rng: np.random.Generator) -> np.ndarray:
    first = rng.random((pairs, records)) < 0.5
    return np.concatenate([first, ~first])


def test_every_attack_alone_and_every_two_or_three() -> None:
    found = combinations(("a", "b", "c", "d"))
    assert len(found) == 4 + 3 * 6 + 3 * 4
    assert found[0].name == "a"
    assert found[4].name == "mean(a, b)"


def test_halves_share_no_pair_and_are_even() -> None:
    rng = np.random.default_rng(0)
    for pairs, alone in ((4, 0), (3, 0), (0, 7), (3, 3)):
        member = np.concatenate([_targets(pairs, 50, rng), rng.random((alone, 50)) < 0.5])
        for seed in range(5):
            first, second = halves(member, seed=seed)
            assert sorted([*first, *second]) == list(range(2 * pairs + alone))
            assert abs(len(first) - len(second)) <= (2 if alone == 0 and pairs % 2 else 1)
            for half in (first, second):
                paired = half[half < 2 * pairs] % pairs if pairs else half[:0]
                assert all((paired == pair).sum() in (0, 2) for pair in range(pairs))


def test_joins_are_of_ranks_without_labels() -> None:
    scores = {"a": np.array([[1.0, 5.0, 3.0, 3.0]]), "b": np.array([[10.0, 0.0, -1.0, 2.0]])}
    ranked = {name: ranks(values) for name, values in scores.items()}
    np.testing.assert_allclose(ranked["a"], [[0.25, 1.0, 0.625, 0.625]])
    expected = {"mean": [0.625, 0.75, 0.4375, 0.6875], "max": [1, 1, 0.625, 0.75], "min": [0.25, 0.5, 0.25, 0.625]}
    for join, values in expected.items():
        np.testing.assert_allclose(joined(Combination(attacks=("a", "b"), join=join), ranked), [values])


def test_two_independent_views_are_worth_joining() -> None:
    """Two scores with independent unit noise, each 2 apart: their mean is 2 sqrt 2 apart. The TPR of its normal form is Phi(2.83 - z)."""
    rng = np.random.default_rng(1)
    member = _targets(4, 6000, rng)
    scores = {name: rng.normal(size=member.shape) + 2.0 * member for name in ("a", "b")}
    scores["noise"] = rng.normal(size=member.shape)
    found = ensemble(scores, member, fpr=0.05, seed=0)
    assert found.chosen is not None
    assert set(found.chosen.attacks) == {"a", "b"}
    assert found.alone_tpr == pytest.approx(ndtr(2 - ndtri(0.95)), abs=0.03)
    assert found.alone_tpr + 0.12 < found.tpr <= ndtr(2 * np.sqrt(2) - ndtri(0.95)) + 0.02
    assert found.gain_low > 0.1
    assert found.gain == pytest.approx(found.tpr - found.alone_tpr)
    assert (len(found.chosen_on), len(found.reported_on)) == (4, 4)


def test_what_was_chosen_by_chance_is_not_reported() -> None:
    """Ten attacks without signal: where it was chosen, the best of 505 seems to find more than it may; elsewhere it does not."""
    rng = np.random.default_rng(2)
    chosen, reported, gains = [], [], 0
    for repetition in range(12):
        member = _targets(2, 200, rng)
        scores = {f"a{k}": rng.normal(size=member.shape) for k in range(10)}
        found = ensemble(scores, member, fpr=0.1, seed=repetition)
        assert found.tried == 505
        chosen.append(found.chosen_tpr)
        reported.append(found.tpr)
        gains += found.gain_low > 0
    assert np.mean(chosen) > 0.15
    assert np.mean(reported) == pytest.approx(0.1, abs=0.03)
    assert gains <= 4  # at .025 each, exceeded less than once in a thousand runs


def test_too_little_to_choose_from_has_a_reason() -> None:
    rng = np.random.default_rng(3)
    member = _targets(1, 30, rng)
    scores = {name: rng.normal(size=member.shape) for name in ("a", "b")}
    assert (
        ensemble(scores, member, fpr=0.1, seed=0).reason == "an ensemble needs targets of two complementary pairs; there is one"
    )
    assert (
        ensemble({"a": scores["a"]}, member, fpr=0.1, seed=0).reason == "an ensemble needs two attacks; 1 ran on every target"
    )
    one = ensemble({name: values[:1] for name, values in scores.items()}, member[:1], fpr=0.1, seed=0)
    assert one.reason
    with pytest.raises(UserError, match="a: shape"):
        ensemble({"a": scores["a"][:1], "b": scores["b"]}, member, fpr=0.1, seed=0)
    with pytest.raises(UserError, match="member: a target without members"):
        ensemble(scores, np.zeros_like(member), fpr=0.1, seed=0)
