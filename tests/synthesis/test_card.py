"""The card on distributions that are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from memberscope.errors import UserError
from memberscope.synthesis.card import diversity, make_card, recognition, two_sample


def card(x: np.ndarray, real: np.ndarray | None, y: np.ndarray | None = None, query=None):
    labels = np.arange(len(x)) % 2 if y is None else y
    return make_card(x, labels, method="test", classes=2, queries=5 * len(x), query=query, real=real, seed=0)


def bits(n: int, seed: int, p: float = 0.3, d: int = 20) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, d)) < p).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_distribution_is_not_told(seed: int) -> None:
    """99.9% of such pairs lie inside the interval at that confidence, its variance being taken twice."""
    found = two_sample(bits(400, seed), bits(400, 100 + seed), seed=0, confidence=0.999)
    assert found.ci_low < 0.5 < found.ci_high
    assert found.ci_high - found.ci_low < 0.25


def test_disjoint_distributions_are_told() -> None:
    assert two_sample(bits(200, 0), 1 + bits(200, 1), seed=0).value == 1.0
    assert two_sample(bits(200, 0, p=0.5), bits(200, 1, p=0.1), seed=0).ci_low > 0.9


def test_marginals_alike_but_ties_lost_are_told() -> None:
    rng = np.random.default_rng(0)
    real = np.repeat(rng.integers(0, 2, (600, 5)), 4, axis=1).astype(np.float32)
    independent = rng.integers(0, 2, (600, 20)).astype(np.float32)
    assert two_sample(independent, real, seed=0).ci_low > 0.8


def test_copies_do_not_give_each_other_away() -> None:
    """Each record twice on its own side: were copies in different folds, trees would recognise them."""
    one, two = bits(150, 5), bits(150, 6)
    found = two_sample(np.repeat(one, 2, axis=0), np.repeat(two, 2, axis=0), seed=0)
    assert found.value < 0.65
    collapsed = two_sample(np.ones((50, 3)), np.ones((50, 3)), seed=0)
    assert collapsed.status == "skipped"
    assert "too few different records" in collapsed.reason


def test_diversity_is_the_nearest_neighbours_distance() -> None:
    x = np.random.default_rng(0).random((60, 7)).astype(np.float32)
    x[10] = x[3]
    apart = np.sqrt(((x[:, None].astype(np.float64) - x[None]) ** 2).mean(axis=2)) + np.diag(np.full(60, np.inf))
    found = diversity(x)
    assert found.median == pytest.approx(np.median(apart.min(axis=1)), rel=1e-9)
    assert found.p05 == pytest.approx(np.quantile(apart.min(axis=1), 0.05), rel=1e-9)
    assert found.duplicates == pytest.approx(2 / 60)
    assert diversity(np.ones((5, 3))).duplicates == 1.0
    assert diversity(np.ones((1, 3))).median == 0.0


def test_the_card_counts_agreement_confidence_and_queries() -> None:
    x = bits(1000, 0)

    def target(r: np.ndarray) -> np.ndarray:
        p = np.where(r[:, 0] == 1, 0.9, 0.2)
        return np.stack([1 - p, p], axis=1)

    y = x[:, 0].astype(np.int64)
    y[:100] = 1 - y[:100]
    found = card(x, bits(500, 1), y, target)
    p = target(x)[np.arange(1000), y]
    assert found.agreement.value == pytest.approx(0.9)
    assert 0.87 < found.agreement.ci_low < 0.9 < found.agreement.ci_high < 0.93
    assert found.confidence.value == pytest.approx(p.mean())
    assert found.queries_per_record == 5.0
    assert found.class_counts == tuple(np.bincount(y))
    figures = {row["figure"]: row for row in found.rows()}
    assert figures["agreement"]["value"] == pytest.approx(0.9)
    assert figures["classes_present"]["value"] == 2
    assert json.loads(json.dumps(found.to_dict()))["figures"]["queries_per_record"]["value"] == 5.0
    labels_only = card(x, None, y, lambda r: r[:, 0].astype(np.int64))
    assert labels_only.confidence.status == "skipped"
    assert labels_only.agreement.value == pytest.approx(0.9)
    assert labels_only.c2st.status == "skipped"
    assert {row["figure"]: row["value"] for row in labels_only.rows()}["c2st"] is None


def test_what_has_no_card_is_refused() -> None:
    with pytest.raises(UserError, match="records=0"):
        card(np.empty((0, 3)), None)
    with pytest.raises(UserError, match=r"real: records of shape \(4,\)"):
        card(np.ones((10, 3)), np.ones((10, 4)))


def test_a_judge_that_knows_real_records_recognizes_their_like() -> None:
    """Two Gaussian classes at a distance at which the best rule is right in 0.9772 of cases; then half the labels exchanged."""
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 2, n)
        x = rng.normal(size=(n, 4)).astype(np.float32)
        x[:, 0] += 4.0 * labels
        return x, labels

    x, y = draw(1_000)
    found, of_real = recognition(x, y, draw(1_000), seed=0)
    assert found.ci_low < 0.9772 < found.ci_high + 0.01
    assert 0.94 < of_real.value < 1.0
    wrong, _ = recognition(x, np.where(np.arange(len(y)) % 2, y, 1 - y), draw(1_000), seed=0)
    assert wrong.ci_low < 0.5 < wrong.ci_high


def test_nobody_judges_without_labels_or_with_a_single_class() -> None:
    x, y = bits(30, 0), np.zeros(30, np.int64)
    assert {one.status for one in recognition(x, y, None, seed=0)} == {"skipped"}
    assert "fewer than two classes" in recognition(x, y, (bits(30, 1), y), seed=0)[0].reason
