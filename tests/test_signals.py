"""Signals against the formulas written out, at the limits of floating point, and in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memberscope import signals
from memberscope.errors import UserError
from memberscope.predictions import Predictions


def _make(n: int, classes: int, spread: float, seed: int) -> tuple[Predictions, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * spread
    labels = rng.integers(0, classes, n)
    member = np.arange(n) < max(1, n // 2)
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Predictions(logits=logits, labels=labels, member=member), exp / exp.sum(axis=1, keepdims=True), labels


def _naive(p: np.ndarray, y: int) -> dict[str, float]:
    others = [q for k, q in enumerate(p) if k != y]
    return {
        "loss_nats": -np.log(p[y]),
        "confidence": p[y],
        "max_confidence": max(p),
        "entropy_nats": -sum(q * np.log(q) for q in p),
        "modified_entropy": -(1 - p[y]) * np.log(p[y]) - sum(q * np.log(1 - q) for q in others),
        "margin": np.log(p[y]) - np.log(max(others)),
        "scaled_logit": np.log(p[y] / (1 - p[y])),
        "correctness": float(np.argmax(p) == y),
    }


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 20), st.integers(2, 12), st.floats(0.1, 4.0), st.integers(0, 10**6), st.booleans())
def test_signals_are_their_formulas(n: int, classes: int, spread: float, seed: int, from_probs: bool) -> None:
    drawn = np.random.default_rng(seed).normal(size=(n, classes)) * spread
    assume(((drawn < 0) | (drawn > 1)).any())  # a few numbers that all lie in [0, 1] look like sigmoids, and are refused
    predictions, probs, labels = _make(n, classes, spread, seed)
    if from_probs:
        predictions = Predictions(probs=probs, labels=labels, member=predictions.member)
    for name, signal in signals.SIGNALS.items():
        naive = [_naive(p, y)[name] for p, y in zip(probs, labels, strict=True)]
        np.testing.assert_allclose(signal(predictions), naive, rtol=1e-5, atol=1e-9, err_msg=name)
        assert signal(predictions).dtype == np.float64


def test_scaled_logit_and_margin_agree_for_two_classes() -> None:
    predictions, _, _ = _make(50, 2, 3.0, 0)
    np.testing.assert_allclose(signals.scaled_logit(predictions), signals.margin(predictions), rtol=1e-12)


def test_saturated_logits_keep_their_order_and_stay_finite() -> None:
    gaps = np.array([10.0, 40.0, 100.0, 700.0, 1000.0, 5000.0])
    logits = np.zeros((12, 3))
    logits[np.arange(12), [0] * 6 + [1] * 6] = np.tile(gaps, 2)  # six sure and right, six sure and wrong
    predictions = Predictions(logits=logits.astype(np.float32), labels=np.zeros(12, int), member=np.arange(12) < 6)
    for name, signal in signals.SIGNALS.items():
        assert np.isfinite(signal(predictions)).all(), name
    np.testing.assert_allclose(signals.scaled_logit(predictions)[:6], gaps - np.log(2), rtol=1e-12)
    np.testing.assert_allclose(signals.scaled_logit(predictions)[6:], -gaps - np.log1p(np.exp(-gaps)), rtol=1e-12)
    np.testing.assert_allclose(signals.loss_nats(predictions)[:4], np.log1p(2 * np.exp(-gaps[:4])), rtol=1e-12)
    assert (np.diff(signals.loss_nats(predictions)[:4]) < 0).all()  # -log(softmax) ties the last three at 0
    assert (np.diff(signals.modified_entropy(predictions)[6:]) > 0).all()


def test_a_shift_of_all_logits_changes_nothing() -> None:
    predictions, _, labels = _make(30, 5, 2.0, 1)
    assert predictions.logits is not None
    moved = Predictions(logits=predictions.logits + 1e6, labels=labels, member=predictions.member)
    for name, signal in signals.SIGNALS.items():
        np.testing.assert_allclose(signal(moved), signal(predictions), rtol=1e-6, atol=1e-8, err_msg=name)


def test_probabilities_are_clipped_and_counted() -> None:
    probs = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]], dtype=np.float32)
    predictions = Predictions(probs=probs, labels=np.array([0, 0, 2]), member=np.array([True, False, True]))
    assert signals.clipped(predictions) == 1
    floor = -np.log(signals.PROB_FLOOR)
    np.testing.assert_allclose(signals.loss_nats(predictions), [0.0, floor, np.log(2.0)], rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(signals.scaled_logit(predictions), [floor, -floor, 0.0], rtol=1e-6, atol=1e-6)
    for signal in signals.SIGNALS.values():
        assert np.isfinite(signal(predictions)).all()


def test_a_saturated_row_still_tells_its_complement_but_a_partial_release_does_not() -> None:
    probs = np.array([[1.0, 1e-12], [1.0, 1e-9], [0.5, 0.25]], dtype=np.float32)
    whole = Predictions(probs=probs[:2], labels=np.zeros(2, int), member=np.array([True, False]))
    np.testing.assert_allclose(signals.scaled_logit(whole), [12 * np.log(10), 9 * np.log(10)], rtol=1e-6)
    part = Predictions(probs=probs, labels=np.zeros(3, int), member=np.array([True, False, True]), released=True)
    np.testing.assert_allclose(signals.scaled_logit(part)[2], 0.0, atol=1e-12)  # 0.5 of an unknown rest, not 0.5 against 0.25


def test_what_is_given_is_returned_and_what_is_lacking_is_named() -> None:
    member = np.array([True, False])
    summary = Predictions(loss_nats=np.float32([0.5, 2.0]), entropy_nats=np.array([0.1, 0.2]), member=member)
    np.testing.assert_array_equal(signals.loss_nats(summary), [0.5, 2.0])
    np.testing.assert_array_equal(signals.entropy_nats(summary), [0.1, 0.2])
    np.testing.assert_allclose(signals.confidence(summary), np.exp([-0.5, -2.0]))
    with pytest.raises(UserError, match="modified_entropy: needs logits or probs"):
        signals.modified_entropy(summary)
    published = Predictions(predicted=np.array([0, 1]), labels=np.array([0, 0]), member=member)
    np.testing.assert_array_equal(signals.correctness(published), [1.0, 0.0])
    with pytest.raises(UserError, match="loss_nats: needs logits or loss_nats or probs"):
        signals.loss_nats(published)
    with pytest.raises(UserError, match="signal: 'los_nats'; nearest: loss_nats"):
        signals.get("los_nats")


def test_top_log_probs_are_the_largest_in_order() -> None:
    predictions, probs, _ = _make(20, 6, 2.0, 3)
    np.testing.assert_allclose(signals.top_log_probs(predictions, 3), -np.sort(-np.log(probs), axis=1)[:, :3], rtol=1e-9)
    assert signals.top_log_probs(predictions, 9).shape == (20, 6)


def test_memory_stays_far_below_a_second_copy() -> None:
    n, classes = 200_000, 100
    logits = np.random.default_rng(0).standard_normal((n, classes), dtype=np.float32)
    labels, member = np.arange(n) % classes, np.arange(n) % 2 == 0
    tracemalloc.start()
    predictions = Predictions(logits=logits, labels=labels, member=member)
    for signal in (signals.loss_nats, signals.modified_entropy, signals.entropy_nats):
        signal(predictions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < logits.nbytes  # 80 MB; a float64 copy alone would be twice that
