"""The forest against a naive program, its bins, and scikit-learn's forest."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from memberscope.attacks import forest
from memberscope.attacks.trained import top_weights


def _data(m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    member = rng.random(m) < 0.5
    signal = rng.normal(size=m) + 0.7 * member
    return np.column_stack([signal, np.round(2 * signal), rng.normal(size=m), rng.integers(0, 3, m), signal**2]), member


def _naive(
    x: np.ndarray, member: np.ndarray, rng: np.random.Generator, rows: np.ndarray, *, drawn: int, least: int, groups: list[int],
    weights: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    """The mean share over the trees for `rows`, node by node, with the random numbers of `forest.fit`."""
    every = forest.Bins.of(x)
    bins, asked = every(x), every(rows)
    d, m = bins.shape
    total = np.zeros(len(rows))
    for trees in groups:
        size = (trees, drawn)
        draws = rng.integers(0, m, size) if weights is None else rng.choice(m, size, p=weights / weights.sum())
        level = [(tree, np.bincount(draws[tree], minlength=m), np.arange(len(rows))) for tree in range(trees)]
        while level:
            children = []
            drawn_features = np.argsort(rng.random((len(level), d)), axis=1)[:, : forest.FEATURES]
            for features, (tree, counts, here) in zip(drawn_features, level, strict=True):
                inside = counts * member
                best, where = -np.inf, (0, 0)
                for feature in features:
                    for most in range(forest.BINS):
                        low = bins[feature] <= most
                        if min((counts[low] > 0).sum(), (counts[~low] > 0).sum()) < least:
                            continue
                        gain = sum(inside[side].sum() ** 2 / counts[side].sum() for side in (low, ~low))
                        if gain > best * (1 + 1e-12) or best == -np.inf:
                            best, where = gain, (feature, most)
                share = inside.sum() / counts.sum()
                if best == -np.inf or share in (0.0, 1.0):
                    total[here] += share
                    continue
                feature, most = where
                right, right_of_asked = bins[feature] > most, asked[feature][here] > most
                children.append((tree, counts * ~right, here[~right_of_asked]))
                children.append((tree, counts * right, here[right_of_asked]))
            level = children
    return total / sum(groups)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("groups", "cells"), [([4], 0), ([4], 10**9), ([2, 2], 2), ([3, 1], 20)])
def test_a_forest_is_that_of_a_naive_program(
    weighted: bool, groups: list[int], cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 0 `cells`, all splits are found by sorting; with 10^9, by counting."""
    x, member = _data(90, 0)
    rows, weights = _data(40, 1)[0], np.random.default_rng(2).uniform(0.5, 3.0, 90) if weighted else None
    monkeypatch.setattr(forest, "TREES", sum(groups))
    monkeypatch.setattr(forest, "_AT_ONCE", groups[0] * 70)
    monkeypatch.setattr(forest, "_CELLS", cells)
    found = forest.fit(x, member, np.random.default_rng(3), drawn=70, least=4, weights=weights)
    assert [part.count for part in found.parts] == groups
    assert min(part.depth for part in found.parts) >= 2
    expected = _naive(
        x,
        member,
        np.random.default_rng(3),
        rows,
        drawn=70,
        least=4,
        groups=groups,
        weights=weights,
    )
    np.testing.assert_allclose(found(rows), expected, rtol=1e-12)
    assert len(np.unique(expected)) > 10


def test_records_are_drawn_in_proportion_to_their_weights() -> None:
    x, member, weights = np.zeros((3, 1)), np.array([True, False, False]), np.array([1.0, 2.0, 5.0])
    found = forest.fit(x, member, np.random.default_rng(5), drawn=5000, least=1, weights=weights)
    assert abs(found(x)[0] - 1 / 8) < 0.0025  # four standard errors: 60 trees of 5,000 draws


@pytest.mark.parametrize("m", [40, 2000, pytest.param(9000, marks=pytest.mark.thorough)])  # larger, and nothing else
def test_sorting_finds_what_counting_finds(m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, member = _data(m, 14)
    found = []
    for cells in (0, 2, 10**9):
        monkeypatch.setattr(forest, "_CELLS", cells)
        found.append(forest.fit(x, member, np.random.default_rng(16), drawn=m // 2, least=5)(x))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert len(np.unique(found[0])) > 10


def test_bins_are_finer_at_both_ends_and_leave_a_frequent_value_alone() -> None:
    rng, n = np.random.default_rng(6), 5000
    atoms = rng.random((n, 2))
    atoms[rng.random(n) < 0.3, 0] = 0.0  # the lowest value
    atoms[rng.random(n) < 0.3, 1] = 0.5
    x = np.column_stack([rng.normal(size=n), rng.integers(0, forest.BINS, n), atoms])
    bins = forest.Bins.of(x)(x)
    counts = np.bincount(bins[0], minlength=forest.BINS)
    expected = np.diff(0.5 - 0.5 * np.cos(np.pi / forest.BINS * np.arange(forest.BINS + 1))) * n
    assert (np.abs(counts - expected) < 2).all()
    np.testing.assert_array_equal(bins[1], np.unique(x[:, 1], return_inverse=True)[1])
    for column, binned, value in ((atoms[:, 0], bins[2], 0.0), (atoms[:, 1], bins[3], 0.5)):
        assert set(column[binned == binned[column == value][0]]) == {value}
        assert np.bincount(binned).astype(bool).sum() > 0.6 * forest.BINS


def test_bins_meet_halfway_between_values() -> None:
    after = np.nextafter(1.0, 2.0)
    bins = forest.Bins.of(np.array([[0.0, 1.0], [1.0, after], [3.0, after]]))
    np.testing.assert_array_equal(bins.edges[0], [0.5, 2.0])
    below = np.nextafter(0.5, 0.0)
    np.testing.assert_array_equal(
        bins(np.array([[-9.0, 1.0], [below, after], [0.5, 0.0], [2.0, 9.0]])), [[0, 0, 1, 2], [0, 1, 0, 1]]
    )


def test_a_step_is_found() -> None:
    rng = np.random.default_rng(7)
    x = rng.random((4000, 2))
    member = rng.random(4000) < np.where(x[:, 0] > 0.9, 0.8, 0.2)
    found = forest.fit(x, member, rng, drawn=1200, least=60)
    inside = found(np.column_stack([np.linspace(0.0, 1.0, 400), np.full(400, 0.5)]))
    edge = np.linspace(0.0, 1.0, 400) > 0.9
    assert inside[edge].min() > 0.5 > 0.35 > inside[~edge][:350].max()


@pytest.mark.parametrize(("m", "repeats"), [(200, 12), (3000, 6)])
def test_it_finds_what_scikit_learns_forest_finds(m: int, repeats: int) -> None:
    """The AUC on fresh records is the same on average, within .005, and varies little between them (standard error of the mean: .002)."""
    drawn = int(np.clip(0.3 * m, min(1000, m), m))
    least, differences = max(5, drawn // 45), []
    for seed in range(repeats):
        x, member = _data(m, 100 + seed)
        rows, truth = _data(8000, 200 + seed)
        other = RandomForestClassifier(
            forest.TREES, min_samples_leaf=least, max_features=forest.FEATURES, max_samples=drawn, random_state=seed
        ).fit(x, member)
        ours = forest.fit(x, member, np.random.default_rng(seed), drawn=drawn, least=least)
        differences.append(roc_auc_score(truth, ours(rows)) - roc_auc_score(truth, other.predict_proba(rows)[:, 1]))
    assert abs(np.mean(differences)) < 0.005
    assert np.std(differences) < 0.02


def test_the_most_draws_are_counted_exactly() -> None:
    """Two values, one split: the leaves' shares are those of the draws, of which there are so many that a packed count is full."""
    x, member = np.arange(8)[:, None] % 2.0, np.arange(8) < 6
    found = forest.fit(x, member, np.random.default_rng(8), drawn=forest.MOST_DRAWN, least=1)
    draws = np.random.default_rng(8)
    shares = []
    for _ in range(forest.TREES):
        counts = np.bincount(draws.integers(0, 8, forest.MOST_DRAWN), minlength=8)
        draws.random((1, 1)), draws.random((2, 1))
        shares.append([(counts * member)[side::2].sum() / counts[side::2].sum() for side in (0, 1)])
    np.testing.assert_allclose(
        found(np.array([[0.0], [1.0], [-5.0], [7.0]])), np.mean(shares, axis=0)[[0, 1, 0, 1]], rtol=1e-12
    )


@pytest.mark.parametrize(
    ("drawn", "least", "message"), [
        (forest.MOST_DRAWN + 1, 1, "drawn: 131072; allowed: 1 to 131071"),
        (0, 1, "drawn: 0; allowed"), (5, 0, "least: 0; allowed: 1 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_refused(drawn: int, least: int, message: str) -> None:
    x, member = _data(10, 0)
    with pytest.raises(ValueError, match=message):
        forest.fit(x, member, np.random.default_rng(0), drawn=drawn, least=least)


@pytest.mark.parametrize("d", [1, 2])
def test_fewer_features_than_are_tried(d: int) -> None:
    x, member = _data(1000, 9)
    found = forest.fit(x[:, :d], member, np.random.default_rng(10), drawn=1000, least=22)
    assert 0.6 < roc_auc_score(member, found(x[:, :d])) < 0.85


@pytest.mark.parametrize(("x", "member"), [(np.zeros((1, 2)), [True]), (np.ones((50, 3)), np.arange(50) < 20)])
def test_records_that_are_all_alike_get_their_share_of_members(x: np.ndarray, member: np.ndarray) -> None:
    found = forest.fit(x, np.asarray(member), np.random.default_rng(11), drawn=len(x), least=1)
    scores = found(np.vstack([x, x + 1, x - 1]))
    assert len(set(scores)) == 1
    assert np.isclose(scores[0], np.mean(member), atol=0.05)


def test_a_constant_feature_is_never_used() -> None:
    x, member = _data(400, 12)
    found = forest.fit(np.column_stack([x[:, :2], np.zeros(400)]), member, np.random.default_rng(13), drawn=400, least=9)
    assert (
        found(np.column_stack([x[:, :2], np.full(400, 9.0)])).tolist()
        == found(np.column_stack([x[:, :2], np.full(400, -9.0)])).tolist()
    )
    assert found(x[:, [0, 1, 0]]).std() > 0.1


@pytest.mark.slow
@pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9), reason="scikit-learn before 1.9 does not draw by the weights"
)
def test_the_top_of_the_ranking_is_that_of_exact_thresholds() -> None:
    """A narrow cluster of members above which some non-members lie, under weights that concentrate on the top. Where draws counted by their
    weights, the TPR at FPR .01 was lower by .011; with 128 bins of equally many records, by .006 more.
    """
    differences, levels = [], []
    for seed in range(4):
        (x, member, weights), (rows, truth, _) = _cluster(10_000, seed), _cluster(40_000, 50 + seed)
        other = RandomForestClassifier(
            forest.TREES, min_samples_leaf=66, max_features=forest.FEATURES, max_samples=3000, random_state=seed
        ).fit(x, member, sample_weight=weights)
        ours = forest.fit(x, member, np.random.default_rng(seed), drawn=3000, least=66, weights=weights)
        found = [(s[truth] > np.quantile(s[~truth], 0.99)).mean() for s in (ours(rows), other.predict_proba(rows)[:, 1])]
        differences.append(found[0] - found[1])
        levels.append(found[0])
    assert -0.005 < np.mean(differences) < 0.005
    assert 0.06 < np.mean(levels) < 0.09


def _cluster(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    member = np.arange(n) < n // 2
    gap = rng.normal(1.5 + 0.7 * member, 1.5)
    sure, rare = ~member & (rng.random(n) < 0.04), member & (rng.random(n) < 0.05)
    gap[sure], gap[rare] = rng.normal(9, 1, sure.sum()), rng.normal(6, 0.3, rare.sum())
    others = [gap + scale * rng.normal(size=n) for scale in (0.1, 0.3, 1.0)]
    return np.column_stack([gap, np.log1p(np.exp(-gap)), *others, rng.normal(size=n)]), member, top_weights(gap, member)
