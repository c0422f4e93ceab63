"""Rounding to what an interval supports."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope.metrics import Estimate
from memberscope.metrics.rounding import decimals, in_full, logged, round_estimate, shown


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


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.5481234567890123, 0.4961305134144418, 0.6088047337740058, (0.496, 0.548, 0.609)),
        (0.98765432, 0.98761234, 0.98769876, (0.987612, 0.987654, 0.987699)),  # never more than six places
        (1234.5, 1000.2, 1500.9, (1000.0, 1230.0, 1500.0)),
        (0.0049751243781, None, None, (None, 0.004975, None)),  # four significant digits: small numbers do not vanish
        (1.6666666666e-5, None, None, (None, 1.667e-5, None)),
        (123456.0, None, None, (None, 123456.0, None)),  # a count keeps all of its digits
        (2.5, None, 3.123456, (None, 2.5, 3.123)),
        (math.inf, 1.0, math.inf, (1.0, math.inf, math.inf)),
    ],
)
def test_what_is_logged_has_the_digits_that_its_interval_supports(
    value: float, low: float | None, high: float | None, expected: tuple[float | None, ...]
) -> None:
    names = ("auc_ci_low/x", "auc/x", "auc_ci_high/x")
    wanted = {name: number for name, number in zip(names, expected, strict=True) if number is not None}
    found = logged("auc", "x", value, low, high)
    assert found == wanted
    assert list(found) == list(wanted), "low, value, high: the order in which a run's page shows them"
    full = in_full("auc", "x", value, low, high)
    assert full == {name: number for name, number in zip(names, (low, value, high), strict=True) if number is not None}


def test_a_metric_of_nothing_has_no_slash() -> None:
    assert logged("control/null_auc", "", 0.50123, 0.4512, 0.5512) == {
        "control/null_auc_ci_low": 0.451, "control/null_auc": 0.501, "control/null_auc_ci_high": 0.551,
    }  # fmt: skip
    assert logged("gap", "", None) == {}
