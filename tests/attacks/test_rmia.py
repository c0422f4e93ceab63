"""RMIA: the papers' double loop over records and population, one reference model, and what ties, gamma and a do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from memberscope.attacks import calibration, registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.attacks.rmia import Rmia, rmia_scores
from memberscope.attacks.rmia_settings import log_reference
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions

ONLINE, OFFLINE = registry.get("rmia_online"), registry.get("rmia_offline")
BOTH = pytest.mark.parametrize("attack", [ONLINE, OFFLINE], ids=["online", "offline"])


def _paired(n: int, pairs: int, rng: np.random.Generator) -> np.ndarray:
    first = rng.random((pairs, n)) < 0.5
    return np.stack([first, ~first], axis=1).reshape(2 * pairs, n)


def _auc(scores: np.ndarray, member: np.ndarray) -> float:
    ins, outs = np.sort(scores[member]), np.sort(scores[~member])
    below, upto = np.searchsorted(outs, ins, side="left"), np.searchsorted(outs, ins, side="right")
    return float((below + upto).sum() / (2 * len(ins) * len(outs)))


def _evidence(member: np.ndarray, lift: float, rng: np.random.Generator, *, outsiders: int = 200) -> Evidence:
    """Row 0 of (1 + n_models, n) `member` is the target; three classes, a member's true logit higher by `lift`."""
    models, n = member.shape

    def said(trained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 3, trained.shape[1])
        height = rng.normal(1.0, 2.0, trained.shape[1]) + lift * trained
        logits = rng.normal(size=(*trained.shape, 3))
        return logits + height[..., None] * (labels[:, None] == np.arange(3)), labels

    logits, labels = said(member)
    outside, theirs = said(np.zeros((models, outsiders), dtype=bool))
    ids = np.arange(n)
    return Evidence(
        target=Predictions(logits=logits[0], labels=labels, member=member[0], record_ids=ids),
        shadows=ShadowPredictions(logits=logits[1:], labels=labels, member=member[1:], record_ids=ids),
        population=ShadowPredictions(logits=outside, labels=theirs, member=np.zeros((models, outsiders), bool)),
    )


def _scores(attack: Rmia, evidence: Evidence) -> np.ndarray:
    result = attack.score(evidence, seed=0)
    assert isinstance(result, AttackScores), result
    return result.scores


def _true_probs(models: ShadowPredictions | Predictions) -> np.ndarray:
    shares = np.exp(models.logits) / np.exp(models.logits).sum(axis=-1, keepdims=True)
    return shares[..., np.arange(len(models)), models.labels]


def _naive(evidence: Evidence, *, online: bool, gamma: float, a: float) -> np.ndarray:
    """In probabilities: every record against every record of the population."""
    assert evidence.shadows is not None
    assert evidence.population is not None
    ours, shadows, outside = (_true_probs(part) for part in (evidence.target, evidence.shadows, evidence.population))

    def reference(values: np.ndarray, trained: np.ndarray) -> float:
        ins, outs = values[trained], values[~trained]
        p_out = outs.mean() if len(outs) else min(max((ins.mean() - (1 - a)) / a, 0.0), 1.0)
        p_in = ins.mean() if online and len(ins) else a * p_out + (1 - a)
        return float((p_in + p_out) / 2)

    n, z = len(ours), outside.shape[1]
    scores = np.zeros(n)
    for i in range(n):
        mine = ours[i] / reference(shadows[:, i], evidence.shadows.member[:, i])
        for j in range(z):
            other = outside[0, j] / reference(outside[1:, j], np.zeros(len(outside) - 1, bool))
            scores[i] += mine / other >= gamma
    return scores / z


@BOTH
@pytest.mark.parametrize(("models", "gamma", "a"), [(1, 2.0, 0.3), (2, 1.0, 0.3), (7, 2.0, 0.6), (16, 1.5, 1.0)])
def test_it_is_the_naive_double_loop(attack: Rmia, models: int, gamma: float, a: float) -> None:
    rng = np.random.default_rng(models)
    evidence = _evidence(rng.random((1 + models, 50)) < 0.5, 1.0, rng, outsiders=40)
    attack = dataclasses.replace(attack, gamma=gamma, a=a, temperature=1.0)
    plain = dataclasses.replace(attack, ties="keep")
    expected = _naive(evidence, online=attack.online, gamma=gamma, a=a)
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_allclose(_scores(plain, evidence), expected, rtol=0, atol=1e-12)
    fine = _scores(attack, evidence)
    np.testing.assert_array_equal(np.floor(fine * 41), np.round(expected * 40))  # the count, and something below 1


def test_with_half_the_models_in_online_is_the_plain_mean() -> None:
    rng = np.random.default_rng(0)
    log_p, member = -rng.exponential(size=(8, 30)), _paired(30, 4, rng)
    np.testing.assert_allclose(log_reference(log_p, member, online=True), np.log(np.exp(log_p).mean(axis=0)), rtol=1e-12)


def test_the_papers_offline_line_and_its_limits() -> None:
    """((1 + a) p_out + (1 - a)) / 2 for p_out = 0.2 and a = 0.3 is 0.48; a = 1 leaves p_out."""
    log_p, nobody = np.log([[0.1], [0.3]]), np.zeros((2, 1), dtype=bool)
    for online in (True, False):
        np.testing.assert_allclose(np.exp(log_reference(log_p, nobody, online=online)), [0.48], rtol=1e-12)
        np.testing.assert_allclose(np.exp(log_reference(log_p, nobody, online=online, a=1.0)), [0.2], rtol=1e-12)
    everybody = ~nobody
    sure = np.log([[0.9], [0.8]])  # p_out = (0.85 - 0.7) / 0.3 = 0.5, p = (0.5 + 0.85) / 2
    np.testing.assert_allclose(np.exp(log_reference(sure, everybody, online=False)), [0.675], rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_reference(log_p, everybody, online=False)), [0.35], rtol=1e-12)  # p_out clipped to 0
    lost = np.full((2, 1), -5000.0)
    assert np.isfinite(log_reference(lost, np.array([[True], [False]]), online=True)).all()


@BOTH
def test_one_reference_model_is_enough(attack: Rmia) -> None:
    """Calibrated by one model, it beats the target's own confidence, which knows nothing of a record's level."""
    rng = np.random.default_rng(8)
    member = rng.random((2, 10_000)) < 0.5
    member[1] &= attack.online  # offline: one OUT model
    evidence = _evidence(member, 2.0, rng)
    result = attack.score(evidence, seed=0)
    assert isinstance(result, AttackScores)
    assert _auc(result.scores, member[0]) > _auc(calibration.log_prob(evidence.target), member[0]) + 0.015
    assert result.notes[0].startswith("1 reference models, 200 records of a population, gamma 2, temperature ")
    assert result.notes[0].endswith("(from the shadows' means: no shadow can stand in for the target)")
    if attack.online:
        assert (
            f"{int((~member[1]).sum())} records have no IN model; its probability follows from the line with slope a"
            in result.notes
        )
        assert any(note.startswith(f"{int(member[1].sum())} records have no OUT model") for note in result.notes)


@BOTH
@pytest.mark.parametrize("shadows", [1, 2, 4, 16])
def test_no_signal_is_one_half_in_the_half_design(attack: Rmia, shadows: int) -> None:
    """Any of complementary pairs is the target, its twin is gone: mean AUC of 20 draws in its 99.9% interval."""
    rng = np.random.default_rng([shadows, attack.online])
    found, spread = [], []
    for _ in range(20):
        every = np.delete(_paired(300, 1 + (shadows + 1) // 2, rng), 1, axis=0)[: 1 + shadows]
        found.append(_auc(_scores(attack, _evidence(every, 0.0, rng)), every[0]))
        spread.append((300 + 1) / (12 * every[0].sum() * (~every[0]).sum()))
    band = 3.29 * np.sqrt(np.mean(spread) / 20)
    assert 0.5 - band < np.mean(found) < 0.5 + band


@BOTH
def test_ties_are_ordered_by_the_ratio_and_then_gamma_and_the_population_leave_the_ranking_alone(attack: Rmia) -> None:
    rng = np.random.default_rng(1)
    evidence = _evidence(rng.random((5, 400)) < 0.5, 1.0, rng, outsiders=20)
    fine, plain = (_scores(dataclasses.replace(attack, ties=ties), evidence) for ties in ("ratio", "keep"))
    assert len(np.unique(plain)) <= 21
    assert len(np.unique(fine)) == 400
    order = np.argsort(fine)
    assert (np.diff(plain[order]) >= 0).all()
    for other in (
        _scores(dataclasses.replace(attack, gamma=1.1), evidence),
        _scores(attack, dataclasses.replace(evidence, population=evidence.population.select(np.arange(3)))),
    ):
        np.testing.assert_array_equal(np.argsort(other), order)


def test_a_ratio_of_exactly_gamma_counts() -> None:
    scores = rmia_scores(np.array([-1.0, 0.0, 1.0]), np.array([0.0, 1.0]), gamma=1.0, ties="keep")
    np.testing.assert_array_equal(scores, [0.0, 0.5, 1.0])


def test_extreme_ratios_keep_apart() -> None:
    record = np.array([-700.0, -699.0, 0.0, 45.0, 46.0, 600.0])
    for population in (np.zeros(1), np.linspace(-2, 2, 100_000)):
        scores = rmia_scores(record, population)
        assert (np.diff(scores) > 0).all()
        assert scores.min() > 0.0
        assert scores.max() < 1.0


@BOTH
def test_neither_the_order_of_the_models_nor_a_shift_of_all_logits_matters(
    attack: Rmia, with_models: Callable[[Evidence, np.ndarray], Evidence]
) -> None:
    rng = np.random.default_rng(4)
    evidence = _evidence(rng.random((10, 80)) < 0.5, 1.0, rng)
    assert evidence.shadows is not None
    before = _scores(attack, evidence)
    np.testing.assert_allclose(_scores(attack, with_models(evidence, rng.permutation(9))), before, rtol=1e-9)
    moved = dataclasses.replace(
        evidence,
        target=dataclasses.replace(evidence.target, logits=evidence.target.logits + 7.0),
        shadows=dataclasses.replace(evidence.shadows, logits=evidence.shadows.logits - 3.0),
    )
    np.testing.assert_allclose(_scores(attack, moved), before, rtol=1e-9)


def test_what_it_needs_is_named() -> None:
    rng = np.random.default_rng(0)
    evidence = _evidence(rng.random((3, 30)) < 0.5, 1.0, rng)
    shadows = evidence.shadows
    assert shadows is not None

    def reason(attack: Rmia, **changes: object) -> str:
        result = attack.score(dataclasses.replace(evidence, **changes), seed=0)
        assert isinstance(result, Skip)
        return result.reason

    mute = ShadowPredictions(entropy_nats=np.ones((3, 200)), member=np.zeros((3, 200), bool))
    nobody = dataclasses.replace(shadows, member=np.zeros((2, 30), bool))
    for attack in (ONLINE, OFFLINE):
        assert reason(attack, population=None) == "needs population"
        assert reason(attack, population=mute) == "needs logits or loss_nats or probs of the population"
        strangers = dataclasses.replace(shadows, record_ids=1 + np.arange(30))
        assert reason(attack, shadows=strangers).startswith(
            "needs shadows with outputs for the target's records (and record_ids"
        )
    assert reason(ONLINE, shadows=nobody) == "needs shadows that were trained on some of the target's records"
    assert isinstance(OFFLINE.score(dataclasses.replace(evidence, shadows=nobody), seed=0), AttackScores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0.0}, "gamma: 0.0; allowed: numbers above 0"),
        ({"gamma": float("nan")}, "gamma: nan; allowed"),
        ({"a": 0.0}, "a: 0.0; allowed: above 0 and at most 1"),
        ({"a": 1.5}, "a: 1.5; allowed"),
        ({"ties": "random"}, "ties: 'random'; allowed: ratio, keep"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rmia(name="rmia_online", online=True, **options)


@BOTH
@pytest.mark.parametrize(("dtype", "most", "apart"), [(np.float32, 3e38, 0.02), (np.float64, 1e98, 0.15)])
def test_log_odds_beyond_float32_are_ranked_as_large_ones(attack: Rmia, dtype: type, most: float, apart: float) -> None:
    """Sides of the largest float32 differ by more than float32 holds; outputs that far from each other are sure either way."""
    rng = np.random.default_rng(21)
    evidence = _evidence(_paired(300, 3, rng)[:5], 1.5, rng)

    def scaled(models: Predictions | ShadowPredictions, factor: float) -> Predictions | ShadowPredictions:
        assert models.logits is not None
        return dataclasses.replace(models, logits=(models.logits * factor).astype(dtype))

    def scores(factor: float) -> np.ndarray:
        parts = {name: scaled(getattr(evidence, name), factor) for name in ("target", "shadows", "population")}
        found = attack.score(dataclasses.replace(evidence, **parts), seed=0)
        assert isinstance(found, AttackScores)
        return found.scores

    largest = max(float(np.abs(one.logits).max()) for one in (evidence.target, evidence.shadows, evidence.population))  # type: ignore[union-attr]
    few, many = scores(1e30 / largest), scores(most / largest)
    member = evidence.target.member
    assert 0.5 < _auc(few, member) < 1
    assert abs(_auc(many, member) - _auc(few, member)) < apart
