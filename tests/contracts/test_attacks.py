"""One suite that every attack of the registry passes, whatever it needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memberscope.attacks import registry
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.errors import UserError
from memberscope.predictions import Evidence, Predictions, ShadowPredictions

EVERY = pytest.mark.parametrize("attack", registry.ATTACKS, ids=lambda attack: attack.name)


def _auc(scores: np.ndarray, member: np.ndarray) -> float:
    """Mann-Whitney with ties at one half, by counting."""
    ins, outs = np.sort(scores[member]), np.sort(scores[~member])
    below = np.searchsorted(outs, ins, side="left").sum()
    ties = np.searchsorted(outs, ins, side="right").sum() - below
    return float((below + 0.5 * ties) / (len(ins) * len(outs)))


def _logits(member: np.ndarray, labels: np.ndarray, classes: int, gap: float, rng: np.random.Generator) -> np.ndarray:
    """Members sure and right by `gap`, non-members by a quarter of it wrong; no difference at a gap of 0."""
    logits = rng.normal(size=(*member.shape, classes)) * 0.3
    height = np.where(member, gap, -gap / 4)
    at = np.broadcast_to(labels, member.shape)
    np.put_along_axis(logits, at[..., None], np.take_along_axis(logits, at[..., None], -1) + height[..., None], axis=-1)
    return logits


def _evidence(
    n_in: int = 120, n_out: int = 80, *, classes: int = 3, gap: float = 0.5, seed: int = 0, ids: bool = False
) -> Evidence:
    """Everything that any attack may ask for, on shuffled records."""
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n_in + n_out) < n_in)
    labels = rng.integers(0, classes, len(member))
    target = Predictions(
        logits=_logits(member, labels, classes, gap, rng),
        labels=labels,
        member=member,
        record_ids=rng.permutation(len(member)) if ids else None,
    )
    pool = np.arange(40 * classes) % classes
    trained = rng.permuted(np.tile(np.arange(len(pool)) % 2 == 0, (2, 1)), axis=1)
    shadows = ShadowPredictions(logits=_logits(trained, pool, classes, gap, rng), labels=pool, member=trained)
    return Evidence(target=target, shadows=shadows)


def _score(attack: Attack, evidence: Evidence, **options: Any) -> AttackScores:
    result = attack.score(evidence, **({"seed": 0, "workers": 1} | options))
    assert isinstance(result, AttackScores), result
    return result


def _replace(evidence: Evidence, **changes: Any) -> Evidence:
    target = evidence.target
    fields = {name: getattr(target, name) for name in ("logits", "labels", "member", "record_ids")}
    return Evidence(target=Predictions(**(fields | changes)), shadows=evidence.shadows)


@EVERY
def test_perfect_separation_gives_one(attack: Attack) -> None:
    for n_in, n_out in ((120, 80), (60, 300)):
        evidence = _evidence(n_in, n_out, gap=8.0)
        result = _score(attack, evidence)
        assert _auc(result.scores, evidence.target.member) >= 0.999
        if result.decisions is not None:
            assert (result.decisions == evidence.target.member).mean() > 0.95  # a threshold is an observed shadow value


@EVERY
def test_identical_predictions_give_one_half(attack: Attack) -> None:
    evidence = _evidence(gap=0.0)
    n = len(evidence.target)
    same = _replace(evidence, logits=np.tile([1.0, 0.5, -1.0], (n, 1)), labels=np.zeros(n, int))
    assert _auc(_score(attack, same).scores, same.target.member) == 0.5


@EVERY
def test_no_record_is_missing_and_every_score_is_a_finite_float64(attack: Attack) -> None:
    result = _score(attack, _evidence(37, 91, classes=5))
    assert result.scores.shape == (128,)
    assert result.n_scored == 128
    assert result.scores.dtype == np.float64
    assert np.isfinite(result.scores).all()
    assert (result.attack, result.family) == (attack.name, attack.family)
    assert result.decisions is None or result.decisions.shape == (128,)


@EVERY
def test_no_input_is_changed(attack: Attack) -> None:
    evidence = _evidence(ids=True)
    parts = (evidence.target, evidence.shadows)
    names = ("logits", "labels", "member", "record_ids")
    before = [None if getattr(part, name) is None else getattr(part, name).copy() for part in parts for name in names]
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - to see that nothing draws from it
    _score(attack, evidence)
    after = [getattr(part, name) for part in parts for name in names]
    for old, new in zip(before, after, strict=True):
        if old is not None:
            np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@EVERY
def test_same_seed_same_scores_for_any_number_of_workers(attack: Attack) -> None:
    evidence = _evidence()
    once = _score(attack, evidence, seed=3).scores
    np.testing.assert_array_equal(once, _score(attack, evidence, seed=3).scores)
    for workers in (2, 5):
        np.testing.assert_array_equal(once, _score(attack, evidence, seed=3, workers=workers).scores)


@EVERY
@pytest.mark.parametrize("ids", [False, True])
def test_permuting_the_records_permutes_the_scores(attack: Attack, ids: bool) -> None:
    evidence = _evidence(ids=ids)
    order = np.random.default_rng(9).permutation(len(evidence.target))
    whole, moved = _score(attack, evidence).scores, _score(attack, evidence.select(order)).scores
    np.testing.assert_array_equal(whole[order], moved)


@EVERY
def test_a_signal_is_found_and_points_the_right_way(attack: Attack) -> None:
    evidence = _evidence(400, 300, gap=1.0, seed=5)
    assert 0.65 < _auc(_score(attack, evidence).scores, evidence.target.member) < 0.9999


@EVERY
def test_no_signal_gives_one_half(attack: Attack) -> None:
    """Mean over 6 draws in a 99.9% band; cross-fitting widens the null by up to 1.5 (see the trained attacks)."""
    values = []
    for seed in range(6):
        evidence = _evidence(150, 100, gap=0.0, seed=seed)
        values.append(_auc(_score(attack, evidence, seed=seed).scores, evidence.target.member))
    band = 3.29 * 1.6 * np.sqrt((150 + 100 + 1) / (12 * 150 * 100)) / np.sqrt(6)
    assert 0.5 - band < np.mean(values) < 0.5 + band


@EVERY
def test_what_is_lacking_is_a_skip_with_its_reason(attack: Attack) -> None:
    evidence = _evidence()
    bare = Evidence(target=Predictions(entropy_nats=np.arange(9.0), member=np.arange(9) < 4))
    result = attack.score(bare, seed=0)
    if isinstance(result, Skip):
        assert result.reason.startswith("needs ")
        assert (result.attack, result.family) == (attack.name, attack.family)
    without = attack.score(Evidence(target=evidence.target), seed=0, workers=1)
    assert isinstance(without, Skip) == ("shadows" in attack.needs)
    if isinstance(without, Skip):
        assert without.reason == "needs shadows"


@EVERY
def test_a_part_without_one_side_is_answered(attack: Attack) -> None:
    evidence = _evidence()
    for index in (evidence.target.member, np.flatnonzero(~evidence.target.member)[:1]):
        result = attack.score(evidence.select(index), seed=0, workers=1)
        if attack.family == "trained":
            assert isinstance(result, Skip)
            assert "to be cross-fitted in 4 folds; there are" in result.reason
        else:
            assert isinstance(result, AttackScores)


@EVERY
def test_options_out_of_range_are_refused(attack: Attack) -> None:
    with pytest.raises(UserError, match="workers: 0; allowed is 1 or more"):
        attack.score(_evidence(), seed=0, workers=0)
    with pytest.raises(UserError, match="folds: 1; allowed is 2 or more"):
        attack.score(_evidence(), seed=0, folds=1)


@EVERY
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.differing_executors])
@given(
    n_in=st.integers(1, 40),
    n_out=st.integers(1, 40),
    classes=st.integers(2, 12),
    levels=st.sampled_from([0, 1, 3]),
    seed=st.integers(0, 1000),
)
def test_any_shape_and_any_ties_give_all_scores_or_a_reason(
    attack: Attack, n_in: int, n_out: int, classes: int, levels: int, seed: int
) -> None:
    evidence = _evidence(n_in, n_out, classes=classes, seed=seed)
    assert evidence.target.logits is not None
    tied = _replace(evidence, logits=np.round(evidence.target.logits * levels))  # constant at 0 levels, tied at few
    result = attack.score(tied, seed=seed, workers=1)
    if isinstance(result, Skip):
        assert attack.family == "trained"
        assert min(n_in, n_out) < 8
    else:
        assert result.scores.shape == (n_in + n_out,)
        if levels == 0 and result.folds is not None and len(np.unique(tied.target.labels)) == 1:
            assert len(np.unique(result.scores)) == 1
