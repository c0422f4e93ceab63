"""Several queries and gamma 1: the papers' loops over records, population and copies, and when a vote is taken."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from memberscope.attacks import registry, rmia_queries
from memberscope.attacks.base import AttackScores
from memberscope.attacks.rmia import Rmia, rmia_scores
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.metrics.area import auc_value
from memberscope.metrics.curve import rank
from memberscope.predictions import Predictions, ShadowPredictions

ONLINE, OFFLINE = registry.get("rmia_online"), registry.get("rmia_offline")
BOTH = pytest.mark.parametrize("attack", [ONLINE, OFFLINE], ids=["online", "offline"])
AS_ONE = {"temperature": 1.0, "a": 0.4}


def _half(models: int, n: int, rng: np.random.Generator) -> np.ndarray:
    first = rng.random((models // 2, n)) < 0.5
    return np.stack([first, ~first], axis=1).reshape(models, n)


def _evidence(
    models: int,
    n: int,
    rng: np.random.Generator,
    *,
    queries: int,
    lift: float = 1.0,
    of_copies: float = 1.0,
    outsiders: int = 40,
) -> Evidence:
    """The target and the shadows that a half design leaves it, of three classes. A member's true logit is higher by `lift`, that of a
    copy by `of_copies`; every output has noise of its own. The first copy is the record."""
    member = np.delete(_half(models + 1, n, rng), 1, axis=0) if models % 2 else _half(models, n, rng)
    labels, theirs = rng.integers(0, 3, n), rng.integers(0, 3, outsiders)
    lifts = np.where(np.arange(queries) == 0, lift, of_copies)
    true = (labels[:, None] == np.arange(3))[None, :, None, :]
    level = rng.normal(1.0, 1.0, n)[None, :, None, None]
    noise = rng.normal(size=(models, n, queries, 3))
    logits = 0.7 * noise + true * (level + lifts[:, None] * member[:, :, None, None])
    outside = rng.normal(size=(models, outsiders, 3)) + 1.0 * (theirs[:, None] == np.arange(3))
    ids = np.arange(n)
    return Evidence(
        target=Predictions(logits=logits[0, :, 0], labels=labels, member=member[0], record_ids=ids),
        shadows=ShadowPredictions(logits=logits[1:, :, 0], labels=labels, member=member[1:], record_ids=ids),
        population=ShadowPredictions(logits=outside, labels=theirs, member=np.zeros((models, outsiders), bool)),
        augmented=logits,
    )


def _result(attack: Rmia, evidence: Evidence) -> AttackScores:
    result = attack.score(evidence, seed=0)
    assert isinstance(result, AttackScores), result
    return result


def _auc(scores: np.ndarray, member: np.ndarray) -> float:
    return auc_value(rank(np.ascontiguousarray(scores), member))


def _naive(evidence: Evidence, *, online: bool, gamma: float, a: float, strict: bool, vote: bool) -> np.ndarray:
    """In probabilities: every copy of every record against every record of the population, and a count of hands."""
    assert evidence.shadows is not None
    assert evidence.population is not None
    assert evidence.augmented is not None

    def true_probs(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        return np.take_along_axis(shares, np.broadcast_to(labels, shares.shape[:-1])[..., None], axis=-1)[..., 0]

    def reference(values: np.ndarray, trained: np.ndarray) -> float:
        p_out = values[~trained].mean()
        p_in = values[trained].mean() if online and trained.any() else a * p_out + 1 - a
        return float((p_in + p_out) / 2)

    labels = evidence.target.labels
    copies = true_probs(evidence.augmented, labels[:, None])  # (1 + n_models, n, queries)
    outside = true_probs(evidence.population.logits, evidence.population.labels)
    nobody = np.zeros(len(outside) - 1, dtype=bool)
    others = [p[0] / reference(p[1:], nobody) for p in outside.T]
    n, queries = copies.shape[1], copies.shape[2] if vote else 1
    scores = np.zeros(n)
    for i in range(n):
        trained = evidence.shadows.member[:, i]
        ratios = [copies[0, i, q] / reference(copies[1:, i, q], trained) for q in range(queries)]
        for other in others:
            hands = sum(ratio / other > gamma if strict else ratio / other >= gamma for ratio in ratios)
            scores[i] += 2 * hands > queries
    return scores / len(others)


@BOTH
@pytest.mark.parametrize("queries", [1, 2, 4, 5])
@pytest.mark.parametrize(("gamma", "strict"), [(2.0, False), (1.0, True)])
def test_the_vote_is_the_papers_loop(attack: Rmia, queries: int, gamma: float, strict: bool) -> None:
    rng = np.random.default_rng(queries)
    evidence = _evidence(9, 30, rng, queries=queries)
    voting = dataclasses.replace(attack, gamma=gamma, strict=strict, ties="keep", queries="vote", **AS_ONE)
    expected = _naive(evidence, online=attack.online, gamma=gamma, a=0.4, strict=strict, vote=True)
    assert 0.1 < expected.mean() < 0.9
    result = _result(voting, evidence)
    np.testing.assert_allclose(result.scores, expected, rtol=0, atol=1e-12)
    assert f"; a majority vote over {queries} queries (as configured)" in result.notes[0]


def test_half_of_the_copies_is_no_majority() -> None:
    ratios = np.array([[3.0, 3.0, 0.0, 0.0], [3.0, 3.0, 3.0, 0.0], [0.0, 3.0, 3.0, 3.0]])
    np.testing.assert_array_equal(rmia_queries.vote(ratios), [0.0, 3.0, 3.0])
    np.testing.assert_array_equal(rmia_queries.vote(ratios[:, :3]), [3.0, 3.0, 3.0])
    np.testing.assert_array_equal(rmia_queries.vote(ratios[:, :1]), ratios[:, 0])


@BOTH
def test_the_gamma_1_variant_counts_ratios_above_one_and_lets_ties_be(attack: Rmia) -> None:
    evidence = _evidence(9, 60, np.random.default_rng(3), queries=1)
    named = registry.get(f"{attack.name}_gamma_1")
    assert isinstance(named, Rmia)
    expected = _naive(evidence, online=attack.online, gamma=1.0, a=0.4, strict=True, vote=False)
    found = _result(dataclasses.replace(named, **AS_ONE), evidence)
    np.testing.assert_allclose(found.scores, expected, rtol=0, atol=1e-12)
    assert ", gamma 1, temperature " in found.notes[0]
    assert _result(named, evidence).notes[0].split(", gamma 1")[1] == _result(attack, evidence).notes[0].split(", gamma 2")[1]


def test_a_ratio_of_exactly_gamma_counts_unless_it_must_exceed_it() -> None:
    record, population = np.array([-1.0, 0.0, 1.0]), np.array([0.0, 1.0])
    np.testing.assert_array_equal(rmia_scores(record, population, gamma=1.0, ties="keep", strict=True), [0.0, 0.0, 0.5])
    np.testing.assert_array_equal(rmia_scores(record, population, gamma=1.0, ties="keep"), [0.0, 0.5, 1.0])


@pytest.mark.parametrize("strict", [False, True])
def test_with_gamma_1_and_no_tie_rule_it_is_the_ratio_attack_up_to_the_populations_resolution(strict: bool) -> None:
    """Two records are ranked as their ratios are, and tie exactly if no ratio of the population parts them."""
    rng = np.random.default_rng(4)
    record, population = rng.normal(size=80), rng.normal(size=30)
    scores = rmia_scores(record, population, gamma=1.0, ties="keep", strict=strict)
    for i in range(80):
        for j in range(80):
            if record[i] < record[j]:
                parted = ((population >= record[i]) & (population < record[j])) if strict else None
                if parted is None:
                    parted = (population > record[i]) & (population <= record[j])
                assert (scores[j] - scores[i]) * 30 == pytest.approx(parted.sum())
    # a population with a record between any two gives the ratio's own ranking, and so its AUC; at gamma 2 the top ties
    dense = np.sort(record)
    dense = np.concatenate([dense, (dense[1:] + dense[:-1]) / 2])
    as_ratio = np.argsort(record)
    np.testing.assert_array_equal(np.argsort(rmia_scores(record, dense, gamma=1.0, ties="keep", strict=strict)), as_ratio)
    at_two = rmia_scores(record, dense, gamma=2.0, ties="keep", strict=strict)
    low = record < record.min() + np.log(2.0)
    assert low.sum() > 1
    assert len(np.unique(at_two[low])) == 1
    assert (np.diff(at_two[as_ratio]) >= 0).all()


@BOTH
def test_the_vote_is_taken_where_copies_say_more_than_the_record(attack: Rmia) -> None:
    """Nine copies with noise of their own say more than one; that pays in AUC and is noted."""
    evidence = _evidence(9, 400, np.random.default_rng(5), queries=9, outsiders=150)
    result = _result(attack, evidence)
    assert "; a majority vote over 9 queries (chosen on 8 shadows)" in result.notes[0]
    alone = _result(attack, dataclasses.replace(evidence, augmented=None))
    np.testing.assert_array_equal(_result(dataclasses.replace(attack, queries="one"), evidence).scores, alone.scores)
    assert "quer" not in alone.notes[0]
    member = evidence.target.member
    assert _auc(result.scores, member) > _auc(alone.scores, member) + 0.05


@BOTH
def test_the_record_alone_is_queried_where_copies_say_less(attack: Rmia) -> None:
    """Of models that do not know the copies, as those trained without them, the default has the scores of one query, bit for bit."""
    evidence = _evidence(9, 400, np.random.default_rng(6), queries=5, of_copies=0.0, outsiders=150)
    result, alone = _result(attack, evidence), _result(attack, dataclasses.replace(evidence, augmented=None))
    assert "; the record alone of 5 queries (chosen on 8 shadows)" in result.notes[0]
    np.testing.assert_array_equal(result.scores, alone.scores)


@BOTH
def test_the_target_has_no_say_in_the_queries(attack: Rmia) -> None:
    evidence = _evidence(9, 400, np.random.default_rng(7), queries=5, of_copies=0.0, outsiders=150)
    assert evidence.augmented is not None
    told = evidence.augmented.copy()
    told[0, :, 1:] += 20.0 * evidence.target.member[:, None, None] * np.eye(3)[evidence.target.labels][:, None, :]
    assert _result(attack, dataclasses.replace(evidence, augmented=told)).notes == _result(attack, evidence).notes


@BOTH
def test_without_a_stand_in_the_record_alone_is_queried(attack: Rmia) -> None:
    evidence = _evidence(3, 400, np.random.default_rng(8), queries=5, outsiders=150)  # one pair of shadows
    result, alone = _result(attack, evidence), _result(attack, dataclasses.replace(evidence, augmented=None))
    assert "; the record alone of 5 queries: no shadow can stand in for the target" in result.notes[0]
    np.testing.assert_array_equal(result.scores, alone.scores)


@BOTH
def test_no_signal_is_one_half_with_several_queries(attack: Rmia) -> None:
    """The choice and the vote read no membership of the target: mean AUC of 12 draws in its 99.9% interval."""
    rng, found = np.random.default_rng(9), []
    for _ in range(12):
        evidence = _evidence(9, 200, rng, queries=3, lift=0.0, of_copies=0.0)
        found.append(_auc(_result(attack, evidence).scores, evidence.target.member))
    band = 3.29 * np.sqrt(201 / (12 * 100 * 100) / 12)
    assert abs(np.mean(found) - 0.5) < band


def test_what_does_not_fit_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^queries: 'two'; allowed: auto, vote, one$"):
        Rmia(name="rmia_online", online=True, queries="two")
    evidence = _evidence(5, 30, np.random.default_rng(0), queries=2)
    assert evidence.augmented is not None
    flat = dataclasses.replace(evidence, augmented=evidence.augmented[..., 0])
    with pytest.raises(
        UserError, match=r"^augmented: shape \(5, 30, 2\); allowed: \(1 \+ models, records, queries, classes\)$"
    ):
        OFFLINE.score(flat, seed=0)


@BOTH
@pytest.mark.parametrize("of_copies", [1.0, 0.0])
def test_copies_are_the_targets_records_wherever_these_lie_in_the_pool(attack: Rmia, of_copies: float) -> None:
    """A pool in another order, twice as large: the choice is made on the same records, and made alike."""
    rng = np.random.default_rng(10)
    evidence = _evidence(9, 400, rng, queries=9, of_copies=of_copies, outsiders=150)
    shadows = evidence.shadows
    assert shadows is not None
    others = _evidence(9, 400, rng, queries=1)
    assert others.shadows is not None
    order = rng.permutation(800)
    both = {
        name: np.concatenate([getattr(shadows, name), getattr(others.shadows, name)], axis=axis)[..., order]
        for name, axis in (("labels", 0), ("member", 1))
    }
    logits = np.concatenate([shadows.logits, others.shadows.logits], axis=1)[:, order]
    larger = dataclasses.replace(evidence, shadows=ShadowPredictions(logits=logits, record_ids=np.arange(800)[order], **both))
    fixed = dataclasses.replace(attack, **AS_ONE)  # the pool itself would choose other settings
    ours, theirs = _result(fixed, larger), _result(fixed, evidence)
    assert ours.notes == theirs.notes
    assert f"; {'a majority vote over' if of_copies else 'the record alone of'} 9 queries (chosen on 8" in ours.notes[0]
    np.testing.assert_array_equal(ours.scores, theirs.scores)
