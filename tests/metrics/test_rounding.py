"""Rounding to what an interval supports."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope.metrics import Estimate
from memberscope.metrics.rounding import decimals, round_estimate, shown


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.71834, 0.70121, 0.73498, ("0.718", "0.701", "0.735")),
        (0.5, 0.45, 0.55, ("0.500", "0.450", "0.550")),
        (1234.5, 1000.2, 1500.9, ("1,230", "1,000", "1,500")),
        (0.0001234, 0.0001, 0.0002, ("0.000123", "0.000100", "0.000200")),
        (1.0, 1.0, 1.0, ("1.000000", "1.000000", "1.000000")),
        (0.123456, None, None, ("0.1235", None, None)),
    ],
)
def test_two_digits_of_the_half_width(value: float, low: float | None, high: float | None, text: tuple[str, ...]) -> None:
    assert shown(Estimate(value=value, ci_low=low, ci_high=high)) == text


@given(st.tuples(*[st.floats(-1e6, 1e6, allow_nan=False)] * 3))
def test_the_ends_still_contain_the_value_and_move_by_little(numbers: tuple[float, ...]) -> None:
    low, value, high = sorted(numbers)
    given_value, given_low, given_high = round_estimate(Estimate(value=value, ci_low=low, ci_high=high))
    assert given_low <= given_value <= given_high
    step = 10.0 ** -decimals(low, high)
    for before, after in ((low, given_low), (value, given_value), (high, given_high)):
        assert math.isclose(before, after, abs_tol=0.51 * step + 1e-9)
    if high - low > 2e-5:
        assert 0.51 * step <= 0.06 * (high - low) / 2
