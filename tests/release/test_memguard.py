"""MemGuard: its two phases against their definitions, and what it does to attackers on simulated overfitted predictions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from memberscope import Predictions, ShadowPredictions, run_audit
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.release import Defence, MemGuard, Release, apply, parse_release, release_evidence
from memberscope.release.memguard import add_probability, fit_defence, representative
from memberscope.release.pipeline import noise_key

CLASSES = 10


def overfitted(n: int, seed: int) -> Predictions:
    """Members' true class is raised much further; a plain neural attack reaches an AUC of 0.97."""
    rng = np.random.default_rng(seed)
    labels, member = rng.integers(0, CLASSES, n), np.arange(n) % 2 == 0
    z = rng.normal(size=(n, CLASSES))
    z[np.arange(n), labels] += rng.gamma(4, 1.0, n) * np.where(member, 1.6, 0.6) + 2 * member + 0.6 * (labels % 3)
    return Predictions(logits=z.astype(np.float32), labels=labels, member=member, record_ids=np.arange(n))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def probs_of(predictions: Predictions) -> np.ndarray:
    return softmax(predictions.logits.astype(np.float64))


@pytest.fixture(scope="module")
def fitted() -> Release:
    return parse_release("memguard=0.5").fit(overfitted(2000, 1), seed=0)


@pytest.fixture(scope="module")
def defence(fitted: Release) -> Defence:
    (step,) = fitted.steps
    assert isinstance(step, MemGuard)
    assert step.defence is not None
    return step.defence


def test_the_slope_is_that_of_the_log_odds(defence: Defence) -> None:
    z = np.random.default_rng(0).normal(size=(40, CLASSES)) * 2
    _, slope = defence.odds_and_slope(softmax(z))
    for k in range(CLASSES):
        step = np.eye(CLASSES)[k] * 1e-6
        naive = (defence.odds(softmax(z + step)) - defence.odds(softmax(z - step))) / 2e-6
        np.testing.assert_allclose(slope[:, k], naive, atol=1e-6)
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-12)  # a shift of all logits changes nothing


def test_the_defence_has_learned_and_ignores_the_order_of_classes(defence: Defence) -> None:
    target = overfitted(1000, 2)
    probs = probs_of(target)
    right = ((defence.odds(probs) > 0) == target.member).mean()
    assert 0.82 < right < 0.95
    np.testing.assert_allclose(defence.odds(probs[:, ::-1].copy()), defence.odds(probs), atol=1e-9)


def test_phase_one_makes_the_classifier_undecided_and_keeps_the_label(defence: Defence) -> None:
    probs = probs_of(overfitted(600, 2))
    label = probs.argmax(axis=1)
    noised = representative(defence, probs, label)
    moved = np.abs(noised - probs).sum(axis=1) > 0
    assert moved.mean() > 0.95
    assert np.abs(defence.odds(noised[moved])).max() < 1e-3  # g within 0.00025 of 1/2
    np.testing.assert_array_equal(noised.argmax(axis=1), label)
    np.testing.assert_allclose(noised.sum(axis=1), 1, atol=1e-12)
    assert (noised >= 0).all()


def test_phase_one_distorts_little_more_than_a_search_along_the_best_ray(defence: Defence) -> None:
    """Against the least |r|_1 found by 4,000 random rays from each record: no ray is much shorter."""
    probs = probs_of(overfitted(40, 3))
    label, start = probs.argmax(axis=1), defence.odds(probs)
    ours = np.abs(representative(defence, probs, label) - probs).sum(axis=1)
    rng = np.random.default_rng(0)
    ratio = []
    for k in np.flatnonzero(ours > 0):
        z = np.log(probs[k]) + rng.normal(size=(4000, CLASSES)) * rng.choice([0.5, 1.0, 2.0, 4.0], size=(4000, 1))
        near = softmax(z)
        good = (near.argmax(axis=1) == label[k]) & (defence.odds(near) * start[k] <= 0)
        if good.any():
            ratio.append(ours[k] / np.abs(near[good] - probs[k]).sum(axis=1).min())
    assert len(ratio) >= 20
    assert np.median(ratio) < 1.1


def test_phase_two_is_the_papers_probability(defence: Defence) -> None:
    probs = probs_of(overfitted(300, 2))
    noised = representative(defence, probs, probs.argmax(axis=1))
    distance = np.abs(noised - probs).sum(axis=1)
    chance = add_probability(defence, probs, noised, 0.3)
    worse = np.abs(defence.odds(probs)) <= np.abs(defence.odds(noised))
    np.testing.assert_array_equal(chance[worse], 0)
    np.testing.assert_allclose(chance[~worse], np.minimum(0.3 / distance[~worse], 1))


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_expected_distortion_is_within_the_bound_for_every_record(epsilon: float, defence: Defence) -> None:
    """Over 400 keys; a record's mean of |.|_1 exceeds epsilon by five standard errors in under 1 in 10,000 runs over 60 records."""
    probs = probs_of(overfitted(60, 4))
    label = probs.argmax(axis=1)
    noised = representative(defence, probs, label)
    distance = np.abs(noised - probs).sum(axis=1)
    chance = add_probability(defence, probs, noised, epsilon)
    assert (chance * distance <= epsilon + 1e-12).all()
    from memberscope.release.memguard import _coins

    added = np.stack([_coins(probs, noise_key(seed)) < chance for seed in range(400)])
    error = np.sqrt(chance * (1 - chance) / 400)
    assert (np.abs(added.mean(axis=0) - chance) <= 5 * error + 1e-12).all()
    step = MemGuard(epsilon, defence)
    out = step(probs, label, key=noise_key(3))
    np.testing.assert_array_equal(np.abs(out - probs).sum(axis=1) > 0, added[3] & (distance > 0))


def test_the_same_record_gets_the_same_answer(fitted: Release) -> None:
    z = overfitted(300, 5).logits
    whole = fitted(z, seed=1).probs
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_allclose(fitted(z[order], seed=1).probs, whole[order], atol=1e-9)
    alone = np.concatenate([fitted(z[k : k + 1], seed=1).probs for k in range(20)])
    np.testing.assert_allclose(alone, whole[:20], atol=1e-9)
    noisy = z.astype(np.float64) + 100.0  # the same confidences, in other last bits
    np.testing.assert_allclose(fitted(noisy, seed=1).probs, whole, atol=1e-4)
    other = fitted(z, seed=2).probs
    assert 0.01 < (np.abs(other - whole).max(axis=1) > 1e-6).mean() < 0.6  # another key, other coins


@pytest.fixture(scope="module")
def ladder() -> dict[str, dict[str, float]]:
    """Balanced accuracy of each attack, each at its own threshold, undefended and defended."""
    known, target, shadow = (overfitted(2000, seed) for seed in (1, 2, 3))
    pool = ShadowPredictions(logits=shadow.logits[None], labels=shadow.labels, member=shadow.member[None])
    plain = MLPClassifier((64,), random_state=5, batch_size=128)
    for _ in range(60):
        plain.partial_fit(-np.sort(-probs_of(shadow), axis=1), shadow.member, classes=[False, True])
    out = {}
    for name, release in {"none": parse_release("none"), "memguard": parse_release("memguard=0.5")}.items():
        own = release.fit(known, seed=0)
        seen, learned = apply(target, own), apply(pool, release)  # the attacker's shadow has a defence of its own
        report = run_audit(seen, learned, attacks="metric,trained_mlp", workers=1)
        figures = {result.attack: result.figures["balanced_accuracy"].value for result in report.results}
        called = plain.predict(-np.sort(-seen.probs, axis=1))
        right = [float((called == target.member)[side].mean()) for side in (target.member, ~target.member)]
        out[name] = figures | {"plain": sum(right) / 2}
    return out


@pytest.mark.slow  # attacks are trained
def test_it_fools_the_plain_neural_attack(ladder: dict[str, dict[str, float]]) -> None:
    assert 0.85 < ladder["none"]["plain"] < 0.93
    assert 0.44 < ladder["memguard"]["plain"] < 0.62


@pytest.mark.slow  # attacks are trained
def test_it_does_not_fool_class_wise_metric_attacks_or_trained_ones_as_much(ladder: dict[str, dict[str, float]]) -> None:
    assert ladder["memguard"]["metric_correctness"] == ladder["none"]["metric_correctness"]
    assert 0.86 < ladder["none"]["metric_entropy"] < 0.94
    assert 0.66 < ladder["memguard"]["metric_entropy"] < 0.82
    assert 0.68 < ladder["memguard"]["trained_mlp"] < 0.85
    assert ladder["memguard"]["metric_entropy"] - ladder["memguard"]["plain"] > 0.08


@pytest.mark.thorough  # `make test` has shadows' defences in tests/studies/test_mitigate.py
@pytest.mark.slow  # attacks are trained
def test_shadows_get_defences_and_keys_of_their_own(fitted: Release) -> None:
    shadow = overfitted(400, 6)
    twice = ShadowPredictions(
        logits=np.stack([shadow.logits, shadow.logits]),
        labels=shadow.labels,
        member=np.stack([shadow.member, ~shadow.member]),
        record_ids=shadow.record_ids,
    )
    own = apply(twice, parse_release("memguard=0.2"))
    by_hand = parse_release("memguard=0.2").fit(twice.model(0), seed=0)
    expected = by_hand.publish(twice.logits[0], "logits", key=noise_key(0, "shadow", 0)).probs
    np.testing.assert_array_equal(own.probs[0], expected)
    given = apply(twice, fitted)
    assert np.abs(given.probs[0] - given.probs[1]).max() > 0.01  # one defence, two keys
    out = release_evidence(Evidence(target=shadow, shadows=twice), fitted)
    np.testing.assert_array_equal(out.target.probs, apply(shadow, fitted).probs)
    np.testing.assert_array_equal(out.shadows.probs, given.probs)
    population = ShadowPredictions(
        logits=np.stack([shadow.logits] * 3), labels=shadow.labels, member=np.zeros((3, 400), dtype=np.bool_)
    )
    each = release_evidence(
        Evidence(target=shadow, shadows=twice, population=population), fitted, shadow_release=parse_release("memguard=0.2")
    )
    np.testing.assert_array_equal(each.target.probs, out.target.probs)
    np.testing.assert_array_equal(each.shadows.probs, own.probs)
    np.testing.assert_array_equal(each.population.probs[0], out.target.probs)
    np.testing.assert_array_equal(each.population.probs[1], own.probs[0])


def test_bad_input() -> None:
    with pytest.raises(UserError, match=r"memguard: 5 members and 5 non-members known; allowed: 10 or more of each"):
        parse_release("memguard=1").fit(overfitted(10, 0), seed=0)
    with pytest.raises(UserError, match=r"release: fit on predicted; allowed: the model's own logits or probs"):
        parse_release("memguard=1").fit(apply(overfitted(50, 0), parse_release("label_only")), seed=0)
    small = fit_defence(np.full((40, 4), 0.25), np.arange(40) % 2 == 0, seed=0)
    with pytest.raises(UserError, match=r"release: memguard=1: fitted on 4 classes; these have 10"):
        apply(overfitted(50, 0), Release((MemGuard(1.0, small),)))
