"""LiRA: power in closed form, a naive reference, tensorflow_privacy where the definitions agree, and what it does with little."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from memberscope.attacks import calibration, likelihood, lira_settings, moments, registry, tuning
from memberscope.attacks.base import AttackScores, Skip
from memberscope.attacks.levels import HeldLevels
from memberscope.attacks.lira import VARIANCES, Lira, lira_scores
from memberscope.attacks.lira_settings import PER_RECORD_FROM, chosen_variance
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions

ONLINE, OFFLINE = registry.get("lira_online"), registry.get("lira_offline")
BOTH = pytest.mark.parametrize("attack", [ONLINE, OFFLINE], ids=["online", "offline"])


def paired(n: int, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """(2 * pairs, n) membership of complementary pairs."""
    first = rng.random((pairs, n)) < 0.5
    return np.stack([first, ~first], axis=1).reshape(2 * pairs, n)


def auc(scores: np.ndarray, member: np.ndarray) -> float:
    ins, outs = np.sort(scores[member]), np.sort(scores[~member])
    below, upto = np.searchsorted(outs, ins, side="left"), np.searchsorted(outs, ins, side="right")
    return float((below + upto).sum() / (2 * len(ins) * len(outs)))


def evidence_of(
    member: np.ndarray, lift: float, rng: np.random.Generator, *, form: str = "logits", population: int = 0
) -> Evidence:
    """Row 0 of (1 + n_models, n) `member` is the target; a record's scaled logit is its own level + `lift` if a member + N(0, 1)."""
    n = member.shape[1]
    labels = rng.integers(0, 2, n)
    phi = rng.normal(1.0, 2.0, n) + lift * member + rng.normal(size=member.shape)
    outside = rng.normal(1.0, 2.0, population) + rng.normal(size=(len(member), population))

    def given(values: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        logits = np.where(labels[:, None] == np.arange(2), 0.5, -0.5) * values[..., None]
        probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        return {form: {"logits": logits, "probs": probs, "loss_nats": np.logaddexp(0.0, -values)}[form], "labels": labels}

    outsiders = rng.integers(0, 2, population)
    target = given(phi, labels)
    return Evidence(
        target=Predictions(**target | {form: target[form][0]}, member=member[0], record_ids=np.arange(n)),
        shadows=ShadowPredictions(**target | {form: target[form][1:]}, member=member[1:], record_ids=np.arange(n)),
        population=ShadowPredictions(**given(outside, outsiders), member=np.zeros(outside.shape, bool)) if population else None,
    )


def _scores(attack: Lira, evidence: Evidence) -> np.ndarray:
    result = attack.score(evidence, seed=0)
    assert isinstance(result, AttackScores), result
    return result.scores


def _simulated(
    n: int, models: int, lift: float, rng: np.random.Generator, queries: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Target (n, q), shadows (K, n, q), shadows' membership, target's membership; unit deviations."""
    level = rng.normal(0.0, 3.0, (n, queries))
    member, ours = paired(n, models // 2, rng), rng.random(n) < 0.5
    shadows = level + lift * member[:, :, None] + rng.normal(size=(models, n, queries))
    return level + lift * ours[:, None] + rng.normal(size=(n, queries)), shadows, member, ours


def _tpr(scores: np.ndarray, member: np.ndarray, fpr: float) -> float:
    threshold = np.sort(scores[~member])[::-1][int(fpr * (~member).sum())]
    return float((scores[member] > threshold).mean())


def _band(power: float, n: int, fpr: float, slope: float) -> float:
    """3.5 deviations (1 in 2,000) of a TPR at an FPR met on n records a side: its own, and its threshold's times the ROC's slope."""
    return 3.5 * float(np.sqrt((power * (1 - power) + slope**2 * fpr * (1 - fpr)) / n))


@pytest.mark.parametrize("models", [2, 8, 64])
@pytest.mark.parametrize("fpr", [0.05, 0.01])
def test_offline_power_is_the_closed_form(models: int, fpr: float) -> None:
    """phi less the mean of m OUT models is N(d, 1 + 1/m) for members: the TPR is Phi(d / sqrt(1 + 1/m) - z)."""
    n, d, z = 20_000, 1.5, norm.ppf(1 - fpr)
    target, shadows, member, ours = _simulated(n, models, d, np.random.default_rng(models))
    power = norm.cdf(d / np.sqrt(1 + 2 / models) - z)
    slope = norm.pdf(norm.ppf(power)) / norm.pdf(z)
    found = _tpr(lira_scores(target, shadows, member, online=False, variance="global"), ours, fpr)
    assert abs(found - power) < _band(power, n // 2, fpr, slope)


@pytest.mark.parametrize("variance", ["global", "per_record", "bayes"])
def test_online_power_nears_neyman_pearsons_from_below(variance: str) -> None:
    """The best test knows the levels: Phi(d - z). 128 models a side come near it (on the same draws, so within 0.02); 2 do not."""
    n, d, fpr = 20_000, 1.5, 0.05
    z = norm.ppf(1 - fpr)
    best = norm.cdf(d - z)
    rng = np.random.default_rng(3)
    level, member, ours = rng.normal(0.0, 3.0, n), paired(n, 128, rng), rng.random(n) < 0.5
    noise = rng.normal(size=n)
    target = (level + d * ours + noise)[:, None]
    shadows = (level + d * member + rng.normal(size=member.shape))[:, :, None]
    known = _tpr(d * ours + noise, ours, fpr)
    assert abs(known - best) < _band(best, n // 2, fpr, norm.pdf(d - z) / norm.pdf(z))
    found = _tpr(lira_scores(target, shadows, member, online=True, variance=variance), ours, fpr)
    assert known - 0.02 < found < known + 0.005
    few = _tpr(lira_scores(target, shadows[:4], member[:4], online=True, variance=variance), ours, fpr)
    assert few < known - (0.03 if variance == "bayes" else 0.1)  # bayes takes a record's level from both sides


def test_several_queries_add_up() -> None:
    """q independent queries are one of sqrt(q) times the distance: offline TPR Phi(sqrt(q) d / sqrt(1 + 1/m) - z)."""
    n, d, fpr, m, q = 20_000, 0.7, 0.05, 8, 4
    z = norm.ppf(1 - fpr)
    target, shadows, member, ours = _simulated(n, 2 * m, d, np.random.default_rng(5), queries=q)
    power = norm.cdf(np.sqrt(q) * d / np.sqrt(1 + 1 / m) - z)
    band = _band(power, n // 2, fpr, norm.pdf(norm.ppf(power)) / norm.pdf(z))
    found = _tpr(lira_scores(target, shadows, member, online=False, variance="global"), ours, fpr)
    assert abs(found - power) < band


def _naive(target: np.ndarray, shadows: np.ndarray, member: np.ndarray, *, online: bool, variance: str) -> np.ndarray:
    """The module's text, record by record and query by query."""
    n, queries = target.shape
    mean, deviations = {}, {}
    for side, used in ((True, member), (False, ~member)):
        for i in range(n):
            own = shadows[used[:, i], i]
            deviations[side, i] = own - own.mean(axis=0) if len(own) else own
            mean[side, i] = own.mean(axis=0) if len(own) else None
    pooled = {s: np.concatenate([v for (t, _), v in deviations.items() if t == s and len(v) > 1]).var() for s in (True, False)}

    def sd(side: bool, i: int, q: int) -> float:
        own = deviations[side, i]
        return float(own[:, q].std() if variance == "per_record" and len(own) > 1 else np.sqrt(pooled[side]))

    both = [i for i in range(n) if mean[True, i] is not None and mean[False, i] is not None]
    shift = np.mean([mean[True, i] - mean[False, i] for i in both], axis=0)
    known = np.array([mean[False, i] for i in range(n) if mean[False, i] is not None])
    counts = (~member).sum(axis=0)
    scores = np.zeros(n)
    for i in range(n):
        for q in range(queries):
            ins, outs = mean[True, i], mean[False, i]
            if online:
                mu_in = ins[q] if ins is not None else outs[q] + shift[q]
                mu_out = outs[q] if outs is not None else ins[q] - shift[q]
                term = norm.logpdf(target[i, q], mu_in, sd(True, i, q)) - norm.logpdf(target[i, q], mu_out, sd(False, i, q))
            elif outs is not None:
                term = (target[i, q] - outs[q]) / sd(False, i, q)
            else:
                levels = max(known[:, q].var() - pooled[False] * np.mean([1 / m for m in counts if m]), 0.0)
                term = (target[i, q] - known[:, q].mean()) / np.sqrt(pooled[False] + levels)
            scores[i] += term / queries
    return scores


@pytest.mark.parametrize("variance", ["global", "per_record"])
@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("models", [4, 9])
def test_it_is_the_naive_loop_with_and_without_sides_missing(variance: str, online: bool, models: int) -> None:
    rng = np.random.default_rng(models)
    level = 3 * rng.normal(size=(60, 2))
    target, shadows = level + rng.normal(size=(60, 2)), level + rng.normal(size=(models, 60, 2)) * [1.0, 2.0]
    member = rng.random((models, 60)) < 0.5
    bare = member.all(axis=0) | ~member.any(axis=0)
    assert bare.any() == (models == 4)
    ours = lira_scores(target, shadows, member, online=online, variance=variance)
    np.testing.assert_allclose(ours, _naive(target, shadows, member, online=online, variance=variance), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("fixed", [True, False])
def test_it_is_tensorflow_privacys_with_the_sign_turned(queries: int, fixed: bool) -> None:
    """With means, and every record on both sides. Offline theirs is the log-density: the same z, squared, and so without its sign."""
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack.advanced_mia import compute_score_lira

    target, shadows, member, _ = _simulated(300, 16, 1.0, np.random.default_rng(1), queries=queries)
    ins, outs = ([shadows[side[:, i], i] for i in range(300)] for side in (member, ~member))
    variance = "global" if fixed else "per_record"
    theirs = compute_score_lira(target, ins, outs, option="both", fix_variance=fixed, median_or_mean="mean")
    ours = lira_scores(target, shadows, member, online=True, variance=variance)
    np.testing.assert_allclose(ours, -theirs, rtol=1e-9, atol=1e-9)
    if queries == 1:
        density = compute_score_lira(target, ins, outs, option="out", fix_variance=fixed, median_or_mean="mean")
        spread = np.concatenate([own - own.mean(axis=0) for own in outs]).std() if fixed else np.array([o.std() for o in outs])
        size = np.sqrt(-2 * (density + np.log(spread * np.sqrt(2 * np.pi))))
        ours = lira_scores(target, shadows, member, online=False, variance=variance)
        np.testing.assert_allclose(np.abs(ours), size, rtol=1e-6, atol=1e-6)
        assert (ours < 0).any()


@BOTH
@pytest.mark.parametrize("shadows", [2, 4, 16])
@pytest.mark.parametrize("variance", ["global", "per_record", "bayes"])
def test_no_signal_is_one_half_in_the_half_design(attack: Lira, shadows: int, variance: str) -> None:
    """Any of complementary pairs is the target, its twin is gone: mean AUC of 20 draws in its 99.9% interval."""
    rng = np.random.default_rng([shadows, attack.online])
    attack = dataclasses.replace(attack, variance=variance)
    found, spread = [], []
    for _ in range(20):
        every = paired(300, 1 + shadows // 2, rng)
        evidence = evidence_of(np.delete(every, 1, axis=0), 0.0, rng)
        found.append(auc(_scores(attack, evidence), every[0]))
        spread.append((300 + 1) / (12 * every[0].sum() * (~every[0]).sum()))
    band = 3.29 * np.sqrt(np.mean(spread) / 20)
    assert 0.5 - band < np.mean(found) < 0.5 + band


@BOTH
def test_one_shadow_is_enough_and_says_which_records_lack_a_side(attack: Lira) -> None:
    """Half of the records are only in, half only out of it. A lift of 1.5 deviations (after calibration) must show."""
    rng = np.random.default_rng(8)
    member = rng.random((2, 2000)) < 0.5
    evidence = evidence_of(member, 1.5, rng)
    result = attack.score(evidence, seed=0)
    assert isinstance(result, AttackScores)
    assert auc(result.scores, member[0]) > auc(calibration.scaled_logit(evidence.target), member[0]) + 0.02
    bare = 2000 if attack.online else int(member[1].sum())
    assert any(
        note.startswith(f"{bare} records have no shadow model with") or f"{bare} records" in note for note in result.notes
    )


@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_with_one_shadow_records_with_and_without_an_out_model_are_on_one_scale(scale: float) -> None:
    """No lift: z has deviation sqrt(1 + 1/1) about one OUT model, and 1 among those of other records, in any unit; bands of 4%."""
    rng = np.random.default_rng(0)
    level = rng.normal(0.0, 2.0, 20_000)
    member = rng.random((1, 20_000)) < 0.5
    target, shadow = (scale * (level + rng.normal(size=20_000)) for _ in range(2))
    scores = lira_scores(target[:, None], shadow[None, :, None], member, online=False)
    assert abs(scores[~member[0]].std() / np.sqrt(2) - 1) < 0.04
    assert abs(scores[member[0]].std() - 1) < 0.04


def test_offline_looks_at_out_models_only() -> None:
    rng = np.random.default_rng(2)
    target, shadows, member, _ = _simulated(50, 8, 1.0, rng)
    other = np.where(member[:, :, None], rng.normal(size=shadows.shape) * 50, shadows)
    for variance in ("global", "per_record", "bayes"):
        one, two = (lira_scores(target, phi, member, online=False, variance=variance) for phi in (shadows, other))
        np.testing.assert_array_equal(one, two)


def test_offline_does_not_saturate_and_is_one_sided() -> None:
    """z = 20 and z = 40 are both 1 under Eq. 4 in float64; a record far below its OUT models is the least likely member."""
    shadows = np.random.default_rng(0).normal(size=(64, 3, 1))
    scores = lira_scores(np.array([[-30.0], [20.0], [40.0]]), shadows, np.zeros((64, 3), bool), online=False)
    assert scores[0] < -20
    assert scores[2] > scores[1] + 15


@BOTH
@pytest.mark.parametrize("variance", VARIANCES)
def test_neither_the_order_of_the_models_nor_a_shift_of_all_logits_matters(
    attack: Lira, variance: str, with_models: Callable[[Evidence, np.ndarray], Evidence]
) -> None:
    rng = np.random.default_rng(4)
    evidence = evidence_of(rng.random((10, 80)) < 0.5, 1.0, rng)
    attack = dataclasses.replace(attack, variance=variance)
    before = _scores(attack, evidence)
    assert evidence.shadows is not None
    turned = _scores(attack, with_models(evidence, rng.permutation(9)))
    np.testing.assert_allclose(turned, before, rtol=1e-9, atol=1e-9)
    moved = dataclasses.replace(
        evidence,
        target=dataclasses.replace(evidence.target, logits=evidence.target.logits + 7.0),
        shadows=dataclasses.replace(evidence.shadows, logits=evidence.shadows.logits - 3.0),
    )
    np.testing.assert_allclose(_scores(attack, moved), before, rtol=1e-9, atol=1e-9)


@BOTH
def test_probabilities_and_losses_give_what_logits_give(attack: Lira) -> None:
    member = np.random.default_rng(4).random((9, 80)) < 0.5
    logits, probs, losses = (
        _scores(attack, evidence_of(member, 1.0, np.random.default_rng(6), form=form))
        for form in ("logits", "probs", "loss_nats")
    )
    np.testing.assert_allclose(probs, logits, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(losses, logits, rtol=1e-6, atol=1e-6)


def test_a_loss_of_zero_is_clipped_and_not_infinite() -> None:
    losses = Predictions(loss_nats=np.array([0.0, 1e-20, 1.0, 800.0]), member=np.arange(4) < 2)
    phi = calibration.scaled_logit(losses)
    np.testing.assert_allclose(phi, [np.log(1e30), np.log(1e20), -np.log(np.e - 1), -800.0], rtol=1e-12)


@BOTH
def test_a_pool_in_another_order_with_records_of_its_own_changes_nothing(attack: Lira) -> None:
    rng = np.random.default_rng(3)
    evidence = evidence_of(rng.random((7, 60)) < 0.5, 1.0, rng)
    shadows = evidence.shadows
    assert shadows is not None
    order = rng.permutation(60)
    pool = ShadowPredictions(
        logits=np.concatenate([rng.normal(size=(6, 25, 2)), shadows.logits[:, order]], axis=1),
        labels=np.concatenate([np.zeros(25, int), shadows.labels[order]]),
        member=np.concatenate([np.ones((6, 25), bool), shadows.member[:, order]], axis=1),
        record_ids=np.concatenate([100 + np.arange(25), order]),
    )
    np.testing.assert_array_equal(_scores(attack, dataclasses.replace(evidence, shadows=pool)), _scores(attack, evidence))


@BOTH
def test_augmented_queries_are_read_where_given(attack: Lira) -> None:
    rng = np.random.default_rng(3)
    evidence = evidence_of(rng.random((7, 60)) < 0.5, 1.0, rng)
    assert evidence.shadows is not None
    own = np.concatenate([evidence.target.logits[None], evidence.shadows.logits])
    copies = np.stack([own, own, own], axis=2)
    same = _scores(attack, dataclasses.replace(evidence, augmented=copies))
    np.testing.assert_allclose(same, _scores(attack, evidence), rtol=1e-9, atol=1e-9)
    queries = copies + rng.normal(size=copies.shape)
    sign = np.where(evidence.target.labels == 0, 1.0, -1.0)[:, None]
    phi = sign * (queries[..., 0] - queries[..., 1])  # two classes: the scaled logit is their logits' difference
    expected = lira_scores(phi[0], phi[1:], evidence.shadows.member, online=attack.online)
    result = attack.score(dataclasses.replace(evidence, augmented=queries), seed=0)
    assert isinstance(result, AttackScores)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-9, atol=1e-9)
    assert "3 queries" in result.notes[0]
    with pytest.raises(UserError, match=r"augmented: shape \(7, 60, 2\); allowed: \(1 \+ models, records, queries, classes\)"):
        attack.score(dataclasses.replace(evidence, augmented=own), seed=0)


def test_without_stand_ins_auto_goes_by_the_sides_that_records_have() -> None:
    rng = np.random.default_rng(0)
    few, many = paired(20, PER_RECORD_FROM - 1, rng), paired(20, PER_RECORD_FROM, rng)
    assert chosen_variance("auto", few, online=False) == "global"
    assert chosen_variance("auto", many, online=False) == "bayes"
    for member in (few[:2], few, many):
        assert chosen_variance("auto", member, online=True) == "bayes"
        assert chosen_variance("global", member, online=True) == "global"
    none_in = np.zeros_like(many)
    for one_side in (none_in, few[:1]):
        assert chosen_variance("auto", one_side, online=True) == "global"
    assert chosen_variance("auto", none_in, online=False) == "bayes"


def test_what_it_needs_is_named() -> None:
    rng = np.random.default_rng(0)
    evidence = evidence_of(rng.random((5, 30)) < 0.5, 1.0, rng)
    shadows = evidence.shadows
    assert shadows is not None

    def reason(attack: Lira, **changes: object) -> str:
        result = attack.score(dataclasses.replace(evidence, **changes), seed=0)
        assert isinstance(result, Skip)
        return result.reason

    nobody = dataclasses.replace(shadows, member=np.zeros((4, 30), bool))
    mute = ShadowPredictions(entropy_nats=np.ones((4, 30)), member=shadows.member, record_ids=np.arange(30))
    published = Predictions(
        predicted=np.zeros(30, int), labels=np.zeros(30, int), member=evidence.target.member, record_ids=np.arange(30)
    )
    for attack in (ONLINE, OFFLINE):
        assert reason(attack, shadows=None) == "needs shadows"
        strangers = dataclasses.replace(shadows, record_ids=1 + np.arange(30))
        assert reason(attack, shadows=strangers).startswith(
            "needs shadows with outputs for the target's records (and record_ids"
        )
        assert reason(attack, shadows=mute) == "needs logits or loss_nats or probs of the shadows"
        assert reason(attack, target=published) == "needs logits or loss_nats or probs"
    assert reason(ONLINE, shadows=nobody) == "needs shadows that were trained on some of the target's records"
    assert isinstance(OFFLINE.score(dataclasses.replace(evidence, shadows=nobody), seed=0), AttackScores)


def test_bad_options_are_refused() -> None:
    with pytest.raises(UserError, match="variance: 'local'; allowed: auto, per_record, global"):
        Lira(name="lira_online", online=True, variance="local")
    with pytest.raises(UserError, match="variance: 'local'; allowed:"):
        lira_scores(np.zeros((2, 1)), np.zeros((1, 2, 1)), np.zeros((1, 2), bool), online=False, variance="local")
    with pytest.raises(UserError, match="member: needs shadows that were trained on some"):
        lira_scores(np.zeros((2, 1)), np.zeros((1, 2, 1)), np.zeros((1, 2), bool), online=True)


@pytest.mark.parametrize("online", [True, False])
def test_settings_are_those_of_a_choice_that_computes_everything_anew(online: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    member = rng.random((6, 300)) < 0.5
    phi = (2 * rng.normal(size=(1, 300, 1)) + rng.normal(size=(6, 300, 1)) + 1.5 * member[:, :, None]).clip(-4, 4)
    computed: list[int] = []
    monkeypatch.setattr(lira_settings, "side", lambda *given: computed.append(1) or moments.side(*given))
    found = lira_settings.choose(HeldLevels(values=phi), member, online=online)
    stands = tuning.stand_ins(member, phi[:, :, 0])
    strongest, chosen = -1.0, ("", -1.0)
    for smoothing in lira_settings.SMOOTHINGS:
        moved = likelihood.smooth(phi, smoothing)
        for variance in ("bayes", "global", "per_record", "shared", "levels") if online else ("global", "per_record", "bayes"):
            reached = []
            for stand in stands:
                values = moved[:, stand.records]
                shadows, used = values[stand.references], member[stand.references][:, stand.records]
                sides = [moments.side(shadows, used), moments.side(shadows, ~used)]
                own = values[stand.model]
                if online:
                    scores = likelihood.two_sided_of(own, *sides, variance=variance)
                else:
                    scores = likelihood.one_sided_of(own, sides[1], variance=variance)
                reached.append(tuning.strength(scores, stand.member))
            if np.mean(reached) > strongest:
                strongest, chosen = float(np.mean(reached)), (variance, smoothing)
    assert (found.variance, found.smoothing) == chosen
    sides_used = 2 if online else 1
    assert len(computed) == sides_used * len(lira_settings.SMOOTHINGS) * len(stands), "once for all variances"
