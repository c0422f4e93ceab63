"""The privacy score: its closed form, a naive jackknife, and the coverage of its interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from memberscope.errors import UserError
from memberscope.exposure.base import complementary_pairs
from memberscope.exposure.privacy_score import privacy_score


def fleet(pairs: int, records: int, distance: float, *, rng: np.random.Generator, correlation: float = 0.0, sd_in: float = 1.0):
    """Scaled logits of Gaussian IN and OUT models, `distance` apart, and the membership; pairs' two values correlate."""
    first = rng.random((pairs, records)) < 0.5
    ins, other = rng.normal(size=(2, pairs, records))
    outs = correlation * ins + np.sqrt(1 - correlation**2) * other
    ins = distance + sd_in * ins
    phi = np.stack([np.where(first, ins, outs), np.where(first, outs, ins)], axis=1).reshape(2 * pairs, records)
    return phi, np.stack([first, ~first], axis=1).reshape(2 * pairs, records)


def test_it_tends_to_half_the_distance_of_unit_gaussians() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for pairs in (8, 64, 512):
        phi, member = fleet(pairs, 200, 3.0, rng=rng)
        errors.append(np.abs(privacy_score(phi, member).value - 1.5).mean())
    assert errors[2] < 0.06 < errors[1] < 0.2 < errors[0]
    assert privacy_score(phi, member).value.mean() == pytest.approx(1.5, abs=0.015)


def _ratio(ins: list[float], outs: list[float]) -> float:
    return (np.mean(ins) - np.mean(outs)) / (np.std(ins, ddof=1) + np.std(outs, ddof=1))


@pytest.mark.parametrize("paired", [True, False])
def test_values_and_intervals_are_those_of_a_naive_jackknife(paired: bool) -> None:
    rng = np.random.default_rng(1)
    phi, member = fleet(6, 30, 1.0, rng=rng)
    phi += 40.0
    if not paired:
        member = rng.random((12, 30)) < 0.5
    pairs = complementary_pairs(member)
    found = privacy_score(phi, member)
    seen = 0
    for i in range(30):
        ins, outs = phi[member[:, i], i].tolist(), phi[~member[:, i], i].tolist()
        if min(len(ins), len(outs)) < 3:
            assert found.reason[i].startswith("privacy_score needs at least 3")
            continue
        full, seen = _ratio(ins, outs), seen + 1
        if paired:
            rows = [(a, b) if member[a, i] else (b, a) for a, b in pairs]
            left = [
                _ratio([phi[a, i] for a, _ in rows if a != out[0]], [phi[b, i] for _, b in rows if b != out[1]]) for out in rows
            ]
            error = np.sqrt((len(left) - 1) * np.var(left))
        else:
            sides = (
                [_ratio(ins[:k] + ins[k + 1 :], outs) for k in range(len(ins))],
                [_ratio(ins, outs[:k] + outs[k + 1 :]) for k in range(len(outs))],
            )
            error = np.sqrt(sum((len(side) - 1) * np.var(side) for side in sides))
        half = student.ppf(0.975, min(len(ins), len(outs)) - 1) * error
        low, high = full - half, full + half
        ends = (max(low, -high, 0.0), max(-low, high))
        assert (found.value[i], found.low[i], found.high[i]) == pytest.approx((abs(full), *ends), rel=1e-9)
    assert seen > 20


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.5])
@pytest.mark.parametrize(("pairs", "distance", "sd_in"), [(8, 1.0, 1.0), (16, 3.0, 0.3), (32, 3.0, 1.0)])
def test_intervals_cover(correlation: float, pairs: int, distance: float, sd_in: float) -> None:
    """4,000 records: the standard error of a coverage of .95 is .0034."""
    phi, member = fleet(pairs, 4000, distance, rng=np.random.default_rng(2), correlation=correlation, sd_in=sd_in)
    found = privacy_score(phi, member)
    true = distance / (1 + sd_in)
    assert 0.935 <= ((found.low <= true) & (true <= found.high)).mean() <= 0.98


def test_no_distance_is_covered_and_the_interval_is_not_negative() -> None:
    phi, member = fleet(16, 4000, 0.0, rng=np.random.default_rng(3))
    found = privacy_score(phi, member)
    assert 0.94 <= (found.low == 0).mean() <= 0.975
    assert (found.low >= 0).all()
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()


def test_swapping_in_and_out_changes_nothing() -> None:
    phi, member = fleet(5, 20, 2.0, rng=np.random.default_rng(4))
    one, other = privacy_score(phi, member), privacy_score(phi, ~member)
    np.testing.assert_allclose(one.value, other.value)
    np.testing.assert_allclose(one.high, other.high)


def test_records_without_spread_or_with_few_models_have_a_reason() -> None:
    phi, member = fleet(4, 3, 1.0, rng=np.random.default_rng(5))
    phi[:, 1] = 7.0
    found = privacy_score(phi, member)
    assert found.reason.tolist() == ["", "privacy_score: the scaled logits of the record do not vary between models", ""]
    assert np.isnan(found.value).tolist() == [False, True, False]
    few = privacy_score(phi[:4], member[:4])
    assert set(few.reason) == {"privacy_score needs at least 3 IN and 3 OUT models (the record has 2 and 2)"}


def test_numbers_that_are_not_finite_are_refused() -> None:
    phi, member = fleet(4, 3, 1.0, rng=np.random.default_rng(5))
    phi[2, 1] = np.nan
    with pytest.raises(UserError, match=r"scaled_logits: 1 NaN or infinite values, the first at \[2, 1\]"):
        privacy_score(phi, member)
