"""The attacks on a loss trace: exact on hand-made traces, for any layout of the array, and what lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memberscope import Evidence, LossTrace, Predictions
from memberscope.attacks import registry
from memberscope.attacks.base import AttackScores, Skip
from memberscope.attacks.loss_trace import final_loss, lt_iqr, mean_loss
from memberscope.errors import UserError
from memberscope.release.apply import release_evidence
from memberscope.release.pipeline import parse_release

HAND_MADE = [
    # losses, final, mean, LT-IQR (worked out by hand, quartiles at the places (epochs - 1) / 4 and 3 (epochs - 1) / 4)
    ([4.0, 3.0, 2.0, 1.0, 0.0], 0.0, 2.0, 2.0),
    ([2.0, 2.0, 2.0, 2.0, 2.0], 2.0, 2.0, 0.0),
    ([8.0, 0.0, 0.0, 0.0, 0.0], 0.0, 1.6, 0.0),  # one outlier does not count
    ([8.0, 8.0, 0.0, 0.0, 0.0], 0.0, 3.2, 8.0),
    ([0.0, 0.0, 0.0, 1.0, 5.0], 5.0, 1.2, 1.0),  # order does not matter to the quartiles
]


def _evidence(losses: np.ndarray, member: np.ndarray | None = None) -> Evidence:
    member = np.arange(len(losses)) % 2 == 0 if member is None else member
    return Evidence(target=Predictions(loss_nats=np.asarray(losses[:, -1], float), member=member), loss_trace=losses)


def _scores(name: str, evidence: Evidence) -> np.ndarray:
    found = registry.get(name).score(evidence, seed=0)
    assert isinstance(found, AttackScores)
    return found.scores


def test_exact_on_hand_made_traces() -> None:
    losses = np.array([row for row, *_ in HAND_MADE])
    np.testing.assert_allclose(final_loss(losses), [final for _, final, _, _ in HAND_MADE], rtol=0)
    np.testing.assert_allclose(mean_loss(losses), [mean for _, _, mean, _ in HAND_MADE], rtol=1e-15)
    np.testing.assert_allclose(lt_iqr(losses), [spread for *_, spread in HAND_MADE], rtol=0)
    evidence = _evidence(losses)
    np.testing.assert_array_equal(_scores("trace_final", evidence), -final_loss(losses))
    np.testing.assert_array_equal(_scores("trace_mean", evidence), -mean_loss(losses))
    np.testing.assert_array_equal(_scores("trace_lt_iqr", evidence), lt_iqr(losses))


def test_quartiles_between_two_losses() -> None:
    """Four epochs: Q1 at place 0.75, Q3 at place 2.25."""
    np.testing.assert_allclose(lt_iqr(np.array([[0.0, 4.0, 8.0, 16.0]])), [(8 + 0.25 * 8) - 0.75 * 4], rtol=1e-15)


def test_pieces_of_records_give_what_all_at_once_gives() -> None:
    losses = np.random.default_rng(0).gamma(1.0, size=(30_000, 80)).astype(np.float32)  # more than two pieces
    whole = losses.astype(np.float64)
    np.testing.assert_array_equal(mean_loss(losses), whole.mean(axis=1))
    ordered = np.sort(whole, axis=1)
    low, high = (ordered[:, at] + part * (ordered[:, at + 1] - ordered[:, at]) for at, part in ((19, 0.75), (59, 0.25)))
    np.testing.assert_allclose(lt_iqr(losses), high - low, rtol=1e-12)


def test_a_constant_added_to_a_trace_leaves_lt_iqr() -> None:
    losses = np.random.default_rng(1).gamma(1.0, size=(50, 9))
    np.testing.assert_allclose(lt_iqr(losses + np.arange(50)[:, None]), lt_iqr(losses), atol=1e-12)


@pytest.mark.parametrize("name", ["trace_final", "trace_mean", "trace_lt_iqr"])
def test_skipped_with_a_reason_without_a_trace(name: str) -> None:
    found = registry.get(name).score(Evidence(target=_evidence(np.ones((4, 2))).target), seed=0)
    assert isinstance(found, Skip)
    assert found.reason == "needs loss_trace (losses by epoch, which memberscope.LossTrace collects)"


def test_a_spread_needs_two_epochs() -> None:
    evidence = _evidence(np.ones((4, 1)))
    found = registry.get("trace_lt_iqr").score(evidence, seed=0)
    assert isinstance(found, Skip)
    assert found.reason == "needs a loss trace of 2 epochs or more; it has 1"
    assert isinstance(registry.get("trace_final").score(evidence, seed=0), AttackScores)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (np.ones((3, 2)), "loss_trace: shape"),
        (np.ones(4), "loss_trace: shape"),
        (np.ones((4, 0)), "loss_trace: shape"),
        (np.array([[1.0, 2.0], [np.nan, np.inf], [1.0, 2.0], [1.0, 2.0]]), r"loss_trace: 2 NaN or infinite values, the first at \[1, 0\]"),
    ],
)  # fmt: skip
def test_evidence_refuses_a_trace_that_does_not_fit(losses: np.ndarray, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Evidence(target=_evidence(np.ones((4, 2))).target, loss_trace=losses)


def test_some_records_keep_their_own_losses() -> None:
    losses = np.random.default_rng(2).gamma(1.0, size=(6, 3))
    part = _evidence(losses).select(np.array([4, 1]))
    np.testing.assert_array_equal(part.loss_trace, losses[[4, 1]])


def test_a_release_takes_the_trace_away() -> None:
    target = Predictions(logits=2 * np.eye(4), labels=np.arange(4), member=np.arange(4) < 2)
    released = release_evidence(Evidence(target=target, loss_trace=np.ones((4, 2))), parse_release("top=2"), seed=0)
    assert released.loss_trace is None


def test_a_trace_on_disk_is_evidence(tmp_path: Path) -> None:
    losses = np.array([row for row, *_ in HAND_MADE])
    member = np.array([True, False, True, False, True])
    trace = LossTrace.create(tmp_path / "t", record_ids=5, member=member)
    for column in losses.T:
        trace.update(column)
    target = trace.predictions()
    scores = _scores("trace_lt_iqr", Evidence(target=target, loss_trace=trace.of(target)))
    np.testing.assert_array_equal(scores, [spread for *_, spread in HAND_MADE])
