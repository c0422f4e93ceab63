"""Shokri's attack: up to its limit with a signal, at one half without, one class at a time, and never from the target's records."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from memberscope.attacks import registry, transfer
from memberscope.attacks.base import AttackScores, Skip
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions

ATTACK = registry.get("shadow_shokri")


def _logits(member: np.ndarray, labels: np.ndarray, classes: int, gap: float, rng: np.random.Generator) -> np.ndarray:
    """The true class's scaled logit is normal, about twice its number, and higher by `gap` for members; the rest share alike."""
    logits = np.zeros((*member.shape, classes))
    scaled = rng.normal(size=member.shape) + 2.0 * labels + gap * member
    np.put_along_axis(
        logits, np.broadcast_to(labels, member.shape)[..., None], scaled[..., None] + np.log(classes - 1), axis=-1
    )
    return logits


def _evidence(
    *, models: int = 4, gap: float = 1.0, classes: int = 2, seed: int = 0, n: int = 2000, m: int = 1000, ids: bool = False
) -> Evidence:
    rng = np.random.default_rng(seed)
    labels, pool = rng.integers(0, classes, n), rng.integers(0, classes, m)
    member, trained = rng.random(n) < 0.5, rng.random((models, m)) < 0.5
    return Evidence(
        target=Predictions(
            logits=_logits(member, labels, classes, gap, rng),
            labels=labels,
            member=member,
            record_ids=np.arange(n) if ids else None,
        ),
        shadows=ShadowPredictions(
            logits=_logits(trained, pool, classes, gap, rng),
            labels=pool,
            member=trained,
            record_ids=np.arange(m) if ids else None,
        ),
    )


def _score(evidence: Evidence, seed: int = 0) -> AttackScores:
    result = ATTACK.score(evidence, seed=seed, workers=1)
    assert isinstance(result, AttackScores), result
    return result


@pytest.mark.parametrize(("models", "m"), [(1, 4000), (8, 500)])
def test_a_shift_within_classes_is_found_up_to_its_limit(models: int, m: int) -> None:
    """Log-odds of d s - d^2/2 in every class: AUC Phi(d / sqrt 2), balanced accuracy Phi(d / 2); the loss knows no class."""
    evidence = _evidence(models=models, m=m, classes=4, n=4000)
    member, result = evidence.target.member, _score(evidence)
    auc = roc_auc_score(member, result.scores)
    deviation = np.sqrt(4001 / (12 * 2000 * 2000))
    assert norm.cdf(1 / np.sqrt(2)) - 0.03 < auc < norm.cdf(1 / np.sqrt(2)) + 3.29 * deviation
    loss = registry.get("threshold_loss").score(evidence, seed=0)
    assert isinstance(loss, AttackScores)
    assert roc_auc_score(member, loss.scores) < auc - 0.05
    assert result.decisions is not None
    accuracy = (result.decisions[member].mean() + 1 - result.decisions[~member].mean()) / 2
    assert norm.cdf(0.5) - 0.03 < accuracy < norm.cdf(0.5) + 3.29 * 0.5 / np.sqrt(4000)


@pytest.mark.parametrize("models", [1, 2, 9])
def test_no_signal_gives_one_half_for_any_number_of_shadows(models: int) -> None:
    """The target's membership is independent of all that the attack sees: the mean of 10 AUCs in its exact 99.9% band."""
    values, variance = [], 0.0
    for seed in range(10):
        evidence = _evidence(models=models, gap=0.0, classes=3, seed=seed, n=400, m=120)
        values.append(roc_auc_score(evidence.target.member, _score(evidence, seed).scores))
        variance += 401 / (12 * evidence.target.n_member * evidence.target.n_nonmember)
    assert abs(np.mean(values) - 0.5) < 3.29 * np.sqrt(variance) / 10


def test_a_class_is_judged_by_its_own_records_alone() -> None:
    evidence = _evidence(classes=3, n=300, m=300)
    shadows = evidence.shadows
    assert shadows is not None
    assert shadows.labels is not None
    other = np.where((shadows.labels == 1)[None, :, None], shadows.logits, 0.0)
    changed = dataclasses.replace(evidence, shadows=dataclasses.replace(shadows, logits=other))
    mine = evidence.target.labels == 1
    before, after = _score(evidence).scores, _score(changed).scores
    np.testing.assert_array_equal(before[mine], after[mine])
    assert (before[~mine] != after[~mine]).mean() > 0.9


def test_the_targets_own_records_among_the_shadows_teach_nothing() -> None:
    """Only the rest of an aligned pool does; where the pool has nothing else, all of it."""
    evidence = _evidence(n=200, m=500, ids=True)
    shadows = evidence.shadows
    assert shadows is not None
    assert evidence.aligned
    assert shadows.logits is not None
    logits = shadows.logits.copy()
    logits[:, :200] = np.random.default_rng(1).normal(size=logits[:, :200].shape) * 50
    changed = dataclasses.replace(evidence, shadows=dataclasses.replace(shadows, logits=logits))
    for name in ("shadow_shokri", "shadow_salem", "metric_confidence"):
        before, after = (registry.get(name).score(each, seed=0, workers=1) for each in (evidence, changed))
        assert isinstance(before, AttackScores)
        assert isinstance(after, AttackScores)
        np.testing.assert_array_equal(before.scores, after.scores)
    same = dataclasses.replace(evidence, shadows=shadows.select(np.arange(200)))
    assert len(_score(same).scores) == 200


def test_a_class_with_too_few_records_takes_the_model_of_all_and_says_so() -> None:
    evidence = _evidence(classes=3, n=600, m=600)
    shadows = evidence.shadows
    assert shadows is not None
    assert shadows.labels is not None
    absent = dataclasses.replace(evidence, shadows=shadows.select(shadows.labels != 2))
    sided = dataclasses.replace(evidence, shadows=dataclasses.replace(shadows, member=shadows.member & (shadows.labels != 2)))
    for lame in (absent, sided):
        result = _score(lame)
        assert result.notes[-1].endswith("use the attack model of all classes: [2]")
        here = lame.target.labels == 2
        limit = norm.cdf(1 / np.sqrt(2))
        assert limit - 0.13 < roc_auc_score(lame.target.member[here], result.scores[here]) < limit + 0.13
    assert len(_score(evidence).notes) == 1


def test_training_parts_are_balanced_and_capped() -> None:
    member = np.arange(1000) < 700
    drawn = transfer.balanced(member, np.random.default_rng(0), most=10_000)
    assert len(np.unique(drawn)) == 600
    assert member[drawn].sum() == 300
    few = transfer.balanced(member, np.random.default_rng(0), most=40)
    assert (len(np.unique(few)), member[few].sum()) == (80, 40)
    assert "on up to 2000 records per side" in _score(_evidence(models=1, m=200, n=50)).notes[0]


def test_equal_rows_get_equal_scores_whatever_stands_beside_them() -> None:
    rng = np.random.default_rng(0)
    x, member = rng.normal(size=(300, 4)), rng.random(300) < 0.5
    model = transfer.fit(x, member, np.random.default_rng(1))
    rows = np.concatenate([x[:7], x[:7], rng.normal(size=(5, 4))])
    out = model(rows)
    np.testing.assert_array_equal(out[:7], out[7:14])
    np.testing.assert_array_equal(model(rows[::-1]), out[::-1])
    np.testing.assert_array_equal(transfer.fit(np.ones((300, 2)), member, rng)(rows[:, :2]), np.zeros(19))


def test_what_it_cannot_do_without() -> None:
    evidence = _evidence(n=60, m=60, classes=3)
    shadows = evidence.shadows
    assert shadows is not None
    target, labels = evidence.target, evidence.target.labels
    losses = ShadowPredictions(loss_nats=np.ones((1, 60)), labels=shadows.labels, member=shadows.member[:1])
    wide = ShadowPredictions(logits=np.zeros((2, 60, 5)), labels=shadows.labels, member=shadows.member[:2])
    five = np.arange(60) < 5
    cases = {
        "needs logits or probs": Evidence(
            target=Predictions(predicted=labels, labels=labels, member=target.member), shadows=shadows
        ),
        "needs logits or probs of the shadows": Evidence(target=target, shadows=losses),
        "needs shadows of the target's 3 classes; theirs are 5": Evidence(target=target, shadows=wide),
        "needs shadows with members; none of their records is a member": Evidence(
            target=target, shadows=dataclasses.replace(shadows, member=shadows.member & False)
        ),
        "needs shadows with 10 members and as many non-members; there are 5 and 55": Evidence(
            target=target, shadows=ShadowPredictions(logits=np.zeros((1, 60, 3)), labels=shadows.labels, member=five[None])
        ),
    }
    for reason, lame in cases.items():
        assert ATTACK.score(lame, seed=0) == Skip(attack="shadow_shokri", family="shadow", reason=reason)
    metric = registry.get("metric_confidence").score(cases["needs shadows of the target's 3 classes; theirs are 5"], seed=0)
    assert isinstance(metric, Skip)
