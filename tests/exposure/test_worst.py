"""The correction for choosing the worst record: false alarms without signal, power, and how many models a claim needs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from memberscope.errors import UserError
from memberscope.exposure.memorization import memorization
from memberscope.exposure.table import measure
from memberscope.exposure.worst import corrected, models_needed


def _membership(pairs: int, records: int, rng: np.random.Generator) -> np.ndarray:
    first = rng.random((pairs, records)) < 0.5
    return np.stack([first, ~first], axis=1).reshape(2 * pairs, records)


def _outputs(models: int, records: int, rng: np.random.Generator) -> np.ndarray:
    """Scaled logits without any effect of membership, with heavy tails, and dependent over records: every model has a level of its own."""
    level = rng.standard_t(3, size=(models, 1))
    return rng.standard_t(3, size=(models, records)) * (0.2 + rng.random(records)) + level


@pytest.mark.slow
@pytest.mark.parametrize(("paired", "pools", "least", "most"), [(True, 400, 8, 35), (False, 150, 1, 17)])
def test_without_signal_a_record_is_shown_in_at_most_five_percent_of_pools(
    paired: bool, pools: int, least: int, most: int
) -> None:
    """At a rate of .05, more than `most` of the pools, and fewer than `least`, are seen less than once in a thousand runs."""
    rng = np.random.default_rng(0)
    shown = dict.fromkeys(("correct", "scaled_logits", "either"), 0)
    uncorrected = 0.0
    for pool in range(pools):
        member = _membership(8, 60, rng) if paired else rng.random((16, 60)) < 0.5
        phi = _outputs(16, 60, rng)
        found = measure(scaled_logits=phi, correct=phi > 0, member=member, rates=(), seed=pool)
        p_correct, p_logits = found.memorization.p_value, found.privacy_score.p_value
        assert p_correct is not None
        assert p_logits is not None
        shown["correct"] += np.nanmin(p_correct) <= 0.05
        shown["scaled_logits"] += np.nanmin(p_logits) <= 0.05
        shown["either"] += found.shown.any()
        uncorrected += float((found.memorization.low > 0).any())
    assert all(rate <= most for rate in shown.values())
    assert shown["scaled_logits"] >= least
    assert uncorrected > 0.4 * pools  # the intervals of single records are no answer to which record is the worst


def test_a_record_without_effect_stays_hidden_beside_one_with_an_effect() -> None:
    rng = np.random.default_rng(1)
    false = true = 0
    for pool in range(300):
        member = _membership(12, 40, rng)
        phi = _outputs(24, 40, rng)
        phi[:, :4] += 50.0 * member[:, :4]
        p_value = corrected(phi, member, seed=pool, two_sided=True).p_value
        true += (p_value[:4] <= 0.05).all()
        false += (p_value[4:] <= 0.05).any()
    assert true > 290
    assert false <= 29  # of 300 at .05, exceeded less than once in a thousand runs


def test_all_swaps_of_few_pairs_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(2)
    member = _membership(6, 15, rng)
    correct = rng.random((12, 15)) < np.where(member, 0.9, 0.4)
    correct[:, 3] = True
    found = corrected(correct, member, seed=0, two_sided=False)
    difference = np.empty((6, 15))
    for pair in range(6):
        inside, outside = member[2 * pair], ~member[2 * pair]
        a, b = correct[2 * pair].astype(float), correct[2 * pair + 1].astype(float)
        difference[pair] = inside * (a - b) + outside * (b - a)

    def mcnemar(signed: np.ndarray) -> np.ndarray:
        gained, lost = (signed > 0).sum(axis=0), (signed < 0).sum(axis=0)
        return (gained - lost) / np.sqrt(np.maximum((gained + lost) * 6, 1))

    largest = [mcnemar(np.array(signs)[:, None] * difference).max() for signs in itertools.product((1, -1), repeat=6)]
    observed = mcnemar(difference)
    expected = [np.mean([one >= own - 1e-9 for one in largest]) for own in observed]
    np.testing.assert_allclose(found.statistic, observed, atol=1e-6)
    np.testing.assert_allclose(found.p_value, expected)
    assert (found.draws, found.method) == (64, "swapped pairs")
    assert found.p_value[3] == 1.0


def test_permutations_keep_the_number_of_models_of_each_record() -> None:
    rng = np.random.default_rng(3)
    member = rng.random((20, 30)) < 0.5
    member[:, 0], member[:, 1] = True, False
    values = rng.normal(size=(20, 30))
    values[:, 5] += 6.0 * member[:, 5]
    values[:, 6] = 2.0
    found = corrected(values, member, seed=0, two_sided=True)
    assert np.isnan(found.p_value).tolist() == [True, True] + [False] * 28
    assert found.p_value[5] == pytest.approx(1 / 1000)
    assert found.p_value[6] == 1.0
    inside = member[:, 7]
    centred = values[:, 7] - values[:, 7].mean()
    m = inside.sum()
    expected = centred[inside].sum() / np.sqrt((centred**2).sum() * m * (20 - m) / 20)
    assert found.statistic[7] == pytest.approx(abs(expected))


def test_one_side_counts_only_gains_by_training() -> None:
    member = _membership(8, 10, np.random.default_rng(4))
    correct = ~member  # correct only without the record
    assert (corrected(correct, member, seed=0, two_sided=False).p_value == 1.0).all()
    assert (corrected(correct, member, seed=0, two_sided=True).p_value <= 2 / 256).all()


def test_by_chance_single_records_look_memorized_and_what_can_be_shown_is_said() -> None:
    """32 models without signal: among 2,000 records, one reaches a difference of about .7; nothing below .6 could be claimed."""
    rng = np.random.default_rng(5)
    member = _membership(16, 2000, rng)
    correct = rng.random((32, 2000)) < 0.5
    assert memorization(correct, member).value.max() == pytest.approx(0.7, abs=0.12)
    found = measure(correct=correct, member=member)
    assert 0.6 < found.smallest_memorization <= 1.0
    assert not found.shown.any()
    few = measure(correct=correct[:8], member=member[:8])
    assert np.isnan(few.smallest_memorization)  # four pairs: no p-value below 1/16


@pytest.mark.parametrize(("effect", "base"), [(0.8, 0.1), (0.6, 0.4)])
def test_the_stated_number_of_models_suffices_and_half_of_it_does_not(effect: float, base: float) -> None:
    needed = models_needed(effect, correct_out=base, records=500)
    rng = np.random.default_rng(6)
    power = []
    for models in (needed, needed // 4 * 2):
        hits = 0
        for pool in range(60):
            member = _membership(models // 2, 500, rng)
            correct = rng.random((models, 500)) < 0.5
            correct[:, 0] = rng.random(models) < np.where(member[:, 0], base + effect, base)
            hits += corrected(correct, member, seed=pool, two_sided=False).p_value[0] <= 0.05
        power.append(hits / 60)
    assert power[0] >= 0.62  # 0.8, less three standard errors and a normal quantile's error
    assert power[1] < power[0] - 0.25


def test_number_of_models_grows_with_records_and_has_a_floor() -> None:
    assert models_needed(1.0, correct_out=0.0, records=1000) == 2 * 16  # the quantile of 1 - .00005, 3.89, squared: 15.1
    assert models_needed(0.3, correct_out=0.5, records=100_000) > models_needed(0.3, correct_out=0.5, records=100) > 100
    for bad in ({"memorization": 0.0, "correct_out": 0.5}, {"memorization": 0.6, "correct_out": 0.5}):
        with pytest.raises(UserError, match=r"memorization: .* allowed: above 0"):
            models_needed(records=10, **bad)
    with pytest.raises(UserError, match="records: 0"):
        models_needed(0.5, correct_out=0.1, records=0)


def test_the_same_seed_gives_the_same_p_values() -> None:
    rng = np.random.default_rng(7)
    member, phi = _membership(12, 30, rng), rng.normal(size=(24, 30))
    one, other, third = (corrected(phi, member, seed=seed, two_sided=True).p_value for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, other)
    assert (one != third).any()
