"""Settings chosen on stand-ins: what may judge, that nothing of the target is read, what is chosen, and that no signal stays none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, norm

from memberscope.attacks import calibration, lira_settings, registry, rmia_settings, tuning
from memberscope.attacks.base import AttackScores
from memberscope.attacks.levels import HeldLevels
from memberscope.attacks.likelihood import smooth
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.metrics.area import auc
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.release import parse_release
from memberscope.release.apply import release_evidence

TUNED = ("lira_online", "lira_offline", "rmia_online", "rmia_offline")
EVERY = pytest.mark.parametrize("name", TUNED)


def _paired(n: int, pairs: int, rng: np.random.Generator) -> np.ndarray:
    first = rng.random((pairs, n)) < 0.5
    return np.stack([first, ~first], axis=1).reshape(2 * pairs, n)


def _auc(scores: np.ndarray, member: np.ndarray) -> float:
    ins, outs = np.sort(scores[member]), np.sort(scores[~member])
    return float((np.searchsorted(outs, ins, "left") + np.searchsorted(outs, ins, "right")).sum() / (2 * len(ins) * len(outs)))


def _fleet(
    shadows: int, *, n: int = 400, scale: float = 1.0, lift: float = 1.0, seed: int = 0, sharp: float = 1.0, outside: int = 300
) -> Evidence:
    """A target and the shadows that a half design leaves it. Five classes; a member's true logit is higher by `lift` (in deviations).

    `scale` multiplies all logits, as a release by a temperature of 1 / scale does; `sharp` makes the model itself surer.
    """
    rng = np.random.default_rng([seed, shadows])
    member = np.delete(_paired(n, 1 + shadows // 2, rng), 1, axis=0)

    def said(trained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 5, trained.shape[1])
        height = rng.normal(1.0, 1.5, trained.shape[1]) + lift * trained + 0.7 * rng.normal(size=trained.shape)
        logits = 0.7 * rng.normal(size=(*trained.shape, 5)) + height[..., None] * (labels[:, None] == np.arange(5))
        return scale * sharp * logits, labels

    logits, labels = said(member)
    theirs, classes = said(np.zeros((len(member), outside), dtype=bool))
    ids = np.arange(n)
    return Evidence(
        target=Predictions(logits=logits[0], labels=labels, member=member[0], record_ids=ids),
        shadows=ShadowPredictions(logits=logits[1:], labels=labels, member=member[1:], record_ids=ids),
        population=ShadowPredictions(logits=theirs, labels=classes, member=np.zeros(theirs.shape[:2], bool)),
    )


def _result(name: str, evidence: Evidence, **settings: object) -> AttackScores:
    result = dataclasses.replace(registry.get(name), **settings).score(evidence, seed=0)
    assert isinstance(result, AttackScores), result
    return result


def test_a_stand_in_is_not_attacked_by_its_twin_and_judged_where_references_know_both_sides() -> None:
    rng = np.random.default_rng(0)
    member = _paired(500, 3, rng)
    stands = tuning.stand_ins(member, rng.normal(size=member.shape))
    assert {stand.model for stand in stands} == set(range(6))
    for stand in stands:
        assert set(np.flatnonzero(stand.references)) == set(range(6)) - {stand.model, stand.model ^ 1}
        known = member[stand.references][:, stand.records].sum(axis=0)
        assert ((known > 0) & (known < 4)).all()
        np.testing.assert_array_equal(stand.member, member[stand.model, stand.records])


def test_models_trained_on_nearly_the_same_records_do_not_attack_each_other() -> None:
    rng = np.random.default_rng(1)
    member = rng.random((5, 600)) < 0.5
    member[1] = member[0] ^ (rng.random(600) < 0.05)
    member[2] = ~member[0]
    found = {stand.model: set(np.flatnonzero(stand.references)) for stand in tuning.stand_ins(member, member.astype(float))}
    assert found[0] == {3, 4}
    assert found[3] == {0, 1, 2, 4}


def test_with_one_pair_members_are_told_from_the_population() -> None:
    rng = np.random.default_rng(2)
    member = _paired(400, 1, rng)
    assert tuning.stand_ins(member, member.astype(float)) == []
    for stand in tuning.stand_ins_by_population(member, member.astype(float), 120):
        inside = stand.records[stand.member]
        assert member[stand.model, inside].all()
        assert not member[1 - stand.model, inside].any()
        np.testing.assert_array_equal(stand.records[~stand.member], 400 + np.arange(120))
    assert tuning.stand_ins_by_population(member, member.astype(float), 30) == []  # too few to judge by


def test_strength_is_the_closed_form_of_two_normals() -> None:
    """AUC Phi(d / sqrt 2) and TPR Phi(d - z) at FPR 0.01, on quantiles (no draws)."""
    n, d = 20_000, 1.5
    quantiles = norm.ppf((np.arange(n) + 0.5) / n)
    scores, member = np.concatenate([quantiles + d, quantiles]), np.arange(2 * n) < n
    expected = norm.cdf(d / np.sqrt(2)) + norm.cdf(d - norm.ppf(0.99))
    assert tuning.strength(scores, member) == pytest.approx(expected, abs=1e-3)
    assert tuning.strength(np.zeros(2 * n), member) == 0.5  # ties are one block: none is found at a low rate


def test_the_sample_is_the_same_in_whatever_order_records_come() -> None:
    rng = np.random.default_rng(3)
    levels, order = rng.normal(size=(4, 900)), rng.permutation(900)
    chosen, turned = tuning.sample(levels, 100), tuning.sample(levels[:, order], 100)
    assert len(chosen) == 100
    assert set(order[turned]) == set(chosen)


@EVERY
@pytest.mark.parametrize("shadows", [2, 8])
def test_nothing_of_the_target_is_read(name: str, shadows: int) -> None:
    """Another target, with other labels of membership: the same settings to the last digit."""
    evidence = _fleet(shadows)
    rng = np.random.default_rng(9)
    assert evidence.population is not None
    outside = evidence.population.logits.copy()
    outside[0] = rng.normal(size=outside[0].shape)
    other = dataclasses.replace(
        evidence,
        target=dataclasses.replace(
            evidence.target,
            logits=5 * rng.normal(size=evidence.target.logits.shape),
            member=rng.permutation(evidence.target.member),
        ),
        population=dataclasses.replace(evidence.population, logits=outside),
    )
    assert _result(name, other).notes[0] == _result(name, evidence).notes[0]


@EVERY
def test_neither_the_order_of_records_nor_of_models_changes_what_is_chosen(
    name: str, with_models: Callable[[Evidence, np.ndarray], Evidence]
) -> None:
    evidence = _fleet(8)
    rng = np.random.default_rng(4)
    before = _result(name, evidence)
    order = rng.permutation(len(evidence.target))
    turned = dataclasses.replace(
        evidence, target=evidence.target.select(order), shadows=evidence.shadows.select(rng.permutation(len(order)))
    )
    for other, scores in ((turned, before.scores[order]), (with_models(evidence, rng.permutation(8)), before.scores)):
        found = _result(name, other)
        assert found.notes[0] == before.notes[0]
        np.testing.assert_allclose(found.scores, scores, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["rmia_online", "rmia_offline"])
@pytest.mark.parametrize("scale", [0.05, 0.25, 3.0])
@pytest.mark.parametrize("shadows", [1, 2, 8])
def test_a_temperature_on_all_outputs_changes_nothing(
    name: str, scale: float, shadows: int, with_models: Callable[[Evidence, np.ndarray], Evidence]
) -> None:
    """The grid moves with the models' own scale: what a release divides by is divided out again."""
    one, other = (_fleet(max(2, shadows), scale=factor) for factor in (1.0, scale))
    if shadows == 1:
        one, other = with_models(one, np.arange(1)), with_models(other, np.arange(1))
    np.testing.assert_allclose(_result(name, other).scores, _result(name, one).scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sharp", [pytest.param(1.0, id="soft", marks=pytest.mark.thorough), pytest.param(6.0, id="saturated")])
@pytest.mark.parametrize("name", ["rmia_online", "rmia_offline"])
def test_rmia_is_near_the_best_fixed_setting(name: str, sharp: float) -> None:
    """On models that saturate and that do not, means of four fleets: within .01 of the best fixed setting's AUC, .03 of AUC plus TPR."""
    fleets = [_fleet(16, n=2000, sharp=sharp, lift=2.0, outside=500, seed=seed) for seed in range(4)]

    def mean(**settings: object) -> np.ndarray:
        scores = [(_result(name, one, **settings).scores, one.target.member) for one in fleets]
        return np.mean([(_auc(*pair), tuning.strength(*pair)) for pair in scores], axis=0)

    slopes = (0.3,) if name == "rmia_online" else (0.1, 0.3, 0.6, 0.9, 1.0)
    fixed = np.array([mean(temperature=temperature, a=a) for temperature in (0.5, 1.0, 2.0, 4.0) for a in slopes])
    tuned = mean()
    assert (tuned > fixed.max(axis=0) - [0.01, 0.03]).all()
    if sharp > 1.0:  # the softmax as it stands is far behind where probabilities saturate
        assert tuned[0] > mean(temperature=1.0, a=0.3)[0] + 0.02


def test_lira_smooths_where_a_few_zeros_decide_every_deviation() -> None:
    """A forest's votes: a share of the true class's is 0 or 1. Without smoothing the global variance is that of those few."""
    rng = np.random.default_rng(5)
    n, shadows, trees = 1500, 16, 20
    member = np.delete(_paired(n, 1 + shadows // 2, rng), 1, axis=0)
    share = 1 / (1 + np.exp(-(rng.normal(0.0, 1.5, n) + 1.5 * member + 0.3 * rng.normal(size=member.shape))))
    votes = rng.binomial(trees, share) / trees
    probs, labels = np.stack([1 - votes, votes], axis=-1), np.ones(n, dtype=int)
    evidence = Evidence(
        target=Predictions(probs=probs[0], labels=labels, member=member[0], record_ids=np.arange(n)),
        shadows=ShadowPredictions(probs=probs[1:], labels=labels, member=member[1:], record_ids=np.arange(n)),
    )
    for name in ("lira_online", "lira_offline"):
        tuned = _auc(_result(name, evidence).scores, member[0])
        fixed = {v: _auc(_result(name, evidence, variance=v).scores, member[0]) for v in ("global", "per_record")}
        assert tuned > fixed["global"] + 0.02
        assert tuned > max(fixed.values()) - 0.005


def test_smoothing_is_a_mixture_with_one_half() -> None:
    p = np.array([1e-12, 0.2, 0.5, 0.9])
    for s in (0.0, 0.01, 0.3):
        moved = (1 - s) * p + s / 2
        np.testing.assert_allclose(smooth(np.log(p / (1 - p)), s), np.log(moved / (1 - moved)), rtol=1e-9, atol=1e-12)
    assert smooth(np.array([800.0, -800.0]), 0.1) == pytest.approx([np.log(19), -np.log(19)])


def test_pooled_levels_are_the_plain_deviation_of_all_values() -> None:
    """One model a side: the variance is that of all IN values, and of all OUT values, about their own mean."""
    rng = np.random.default_rng(6)
    member = _paired(200, 1, rng)
    shadows, target = rng.normal(size=(2, 200, 1)) + 2 * member[:, :, None], rng.normal(size=(200, 1))
    from memberscope.attacks.lira import lira_scores

    ins, outs = (np.where(side, shadows[:, :, 0], 0).sum(axis=0) for side in (member, ~member))
    expected = norm.logpdf(target[:, 0], ins, ins.std()) - norm.logpdf(target[:, 0], outs, outs.std())
    np.testing.assert_allclose(lira_scores(target, shadows, member, online=True, variance="levels"), expected, rtol=1e-9)


def test_without_stand_ins_the_usual_settings_are_named(with_models: Callable[[Evidence, np.ndarray], Evidence]) -> None:
    small = _fleet(8, n=60)  # no stand-in has 50 members and 50 others
    assert "smoothing 0.001 (defaults: no shadow can stand in for the target)" in _result("lira_online", small).notes[0]
    alone = with_models(_fleet(2), np.arange(1))
    note = _result("rmia_offline", alone).notes[0]
    assert note.endswith("(from the shadows' means: no shadow can stand in for the target)")
    bench_gap = rmia_settings.choose(alone.shadows, alone.population.models([1]), online=False, temperature=None, a=None)
    heights, member = np.sort(alone.shadows.logits[0], axis=1), alone.shadows.member[0]
    gaps = [np.median((heights[:, -1] - heights[:, -2])[side]) for side in (member, ~member)]
    assert bench_gap.temperature == pytest.approx(np.mean(gaps) / np.sqrt(2), rel=1e-5)


def test_the_usual_slope_is_the_shadows_own(with_models: Callable[[Evidence, np.ndarray], Evidence]) -> None:
    """(1 - p_in) / (1 - p_out) at the temperature used."""
    alone = with_models(_fleet(2), np.arange(1))
    made = rmia_settings.choose(alone.shadows, alone.population.models([1]), online=False, temperature=1.0, a=None)
    p = np.exp(calibration.log_prob(alone.shadows.model(0)))
    member = alone.shadows.member[0]
    assert made.a == pytest.approx((1 - p[member].mean()) / (1 - p[~member].mean()), abs=1e-3)


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("shadows", [2, pytest.param(4, marks=pytest.mark.thorough)])
def test_intervals_cover_one_half_where_there_is_no_signal(name: str, shadows: int) -> None:
    """120 null fleets: the 95% interval misses 1/2 in a share of draws between the ends of a binomial's 99.9% interval."""
    missed, draws = 0, 120
    for seed in range(draws):
        evidence = _fleet(shadows, n=220, lift=0.0, seed=seed, outside=60)
        found = auc(_result(name, evidence).scores, evidence.target.member)
        missed += not found.ci_low <= 0.5 <= found.ci_high
    low, high = binom.ppf([0.0005, 0.9995], draws, 0.05)
    assert low <= missed <= high


def test_every_lira_setting_can_be_chosen() -> None:
    """The choice is among settings that `lira_scores` takes; each of both kinds is the best somewhere, so none is there for nothing."""
    phi = np.random.default_rng(7).normal(size=(8, 300, 1))
    member = _paired(300, 4, np.random.default_rng(8))
    for online in (True, False):
        made = lira_settings.choose(HeldLevels(values=phi + 2.0 * member[:, :, None]), member, online=online)
        assert made.variance in ("bayes", "global", "per_record", "shared", "levels")
        assert made.smoothing in lira_settings.SMOOTHINGS


def _in_two_of_four(n: int, rng: np.random.Generator) -> np.ndarray:
    """(4, n) membership, each record in exactly two of four models: what codes with a balanced draw a record give."""
    return np.argsort(np.argsort(rng.random((4, n)), axis=0), axis=0) < 2


def test_where_each_record_is_in_a_fixed_number_of_models_the_count_tells_nothing() -> None:
    """Of the three others a member has one IN model, a non-member two: one is left out, and records are those where it differs."""
    member = _in_two_of_four(2000, np.random.default_rng(0))
    stands = tuning.stand_ins(member, member.astype(float))
    assert len(stands) == 4
    for stand in stands:
        assert stand.references.sum() == 2
        counts = member[stand.references][:, stand.records].sum(axis=0)
        assert (counts == 1).all()


def test_independent_memberships_are_judged_on_all_records() -> None:
    member = np.random.default_rng(1).random((3, 1000)) < 0.5
    for stand in tuning.stand_ins(member, member.astype(float)):
        assert stand.references.sum() == 2
        np.testing.assert_array_equal(stand.records, np.arange(1000))


def test_records_that_no_shadow_could_know_are_not_judged() -> None:
    """The disjoint design: a third of the records belongs to the targets."""
    member = np.random.default_rng(2).random((6, 1500)) < 0.5
    member[:, :500] = False
    for stand in tuning.stand_ins(member, member.astype(float)):
        assert stand.records.min() >= 500
        known = member[stand.references][:, stand.records].sum(axis=0)
        assert ((known > 0) & (known < stand.references.sum())).all()


def test_a_fixed_number_of_models_a_record_misleads_no_choice(with_models: Callable[[Evidence, np.ndarray], Evidence]) -> None:
    """The shadows of such a fleet tell more by their counts than by their outputs; LiRA once chose a variance a record for it."""
    found = {"tuned": [], "global": []}
    for seed in range(4):
        evidence = _fleet(8, n=1500, lift=1.5, seed=seed)
        few = with_models(evidence, np.array([0, 2, 4, 6]))  # of different pairs
        keep = np.flatnonzero(few.shadows.member.sum(axis=0) == 2)
        few = dataclasses.replace(few, target=few.target.select(keep), shadows=few.shadows.select(keep))
        for name, settings in (("tuned", {}), ("global", {"variance": "global"})):
            found[name].append(_auc(_result("lira_online", few, **settings).scores, few.target.member))
    assert np.mean(found["tuned"]) > np.mean(found["global"]) - 0.01


@pytest.mark.parametrize("top", [1, 2])
def test_what_a_release_leaves_out_still_counts(top: int) -> None:
    """Withheld classes have what is left of one: a label published at .6 is not as sure as one at .999."""
    fleets = [_fleet(8, n=1000, lift=2.0, sharp=2.0, seed=seed) for seed in range(3)]
    released = [release_evidence(one, parse_release(f"top={top}")) for one in fleets]
    for name in ("rmia_online", "rmia_offline"):
        tuned, fixed = (
            np.mean([_auc(_result(name, one, **settings).scores, one.target.member) for one in released])
            for settings in ({}, {"temperature": 1.0, "a": 0.3})
        )
        assert tuned > fixed - 0.01
    one = released[0].target
    assert calibration.log_prob(one, 1.0 + 1e-9) == pytest.approx(calibration.log_prob(one), abs=1e-6)


def test_a_record_without_an_out_model_gets_one_by_the_shadows_own_slope() -> None:
    log_p = np.log(np.array([[0.8], [0.6]]))
    everywhere = np.ones((2, 1), dtype=bool)
    found = rmia_settings.log_reference(log_p, everywhere, online=False, a=0.1, inverse_a=0.5)
    p_out = (0.7 - 0.5) / 0.5
    assert np.exp(found) == pytest.approx([0.5 * (0.1 * p_out + 0.9 + p_out)])


@pytest.mark.parametrize("shares", [0.2, 0.8])
def test_the_gap_does_not_follow_the_share_of_members(shares: float) -> None:
    """The mean of two medians, over IN and over OUT outputs: with most records in, or out, it is the same."""
    rng = np.random.default_rng(3)
    n = 4000
    member = rng.random((2, n)) < shares
    labels = rng.integers(0, 2, n)
    height = np.where(member, 8.0, 2.0) + 0.1 * rng.normal(size=member.shape)
    logits = height[..., None] * (labels[:, None] == np.arange(2))
    shadows = ShadowPredictions(logits=logits, labels=labels, member=member, record_ids=np.arange(n))
    few = ShadowPredictions(logits=logits[:, :9], labels=labels[:9], member=np.zeros((2, 9), bool))
    made = rmia_settings.choose(shadows.models([0]), few.models([0]), online=False, temperature=None, a=None)
    assert made.temperature == pytest.approx((8.0 + 2.0) / 2 / np.sqrt(2), rel=0.02)


def test_a_population_of_members_is_refused() -> None:
    evidence = _fleet(4)
    assert evidence.population is not None
    ids = np.arange(len(evidence.population)) + 250  # the pool's are 0 to 399
    with pytest.raises(UserError, match=r"population: .* of its 300 records are members of the target .*; allowed:"):
        dataclasses.replace(evidence, population=dataclasses.replace(evidence.population, record_ids=ids))
    apart = dataclasses.replace(evidence.population, record_ids=ids + 1000)
    assert dataclasses.replace(evidence, population=apart).population is apart
