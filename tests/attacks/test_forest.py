"""The forest against a naive program, its bins, and scikit-learn's forest."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from memberscope.attacks import forest


def _data(m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    member = rng.random(m) < 0.5
    signal = rng.normal(size=m) + 0.7 * member
    return np.column_stack([signal, np.round(2 * signal), rng.normal(size=m), rng.integers(0, 3, m), signal**2]), member


def _naive(
    x: np.ndarray, member: np.ndarray, rng: np.random.Generator, rows: np.ndarray, *, drawn: int, least: int, groups: list[int],
    weights: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """The mean share over the trees for `rows`, node by node, with the random numbers of `forest.fit`."""
    every = forest.Bins.of(x)
    bins, asked = every(x), every(rows)
    d, m = bins.shape
    total = np.zeros(len(rows))
    for trees in groups:
        draws = rng.integers(0, m, (trees, drawn))
        level = [(tree, np.bincount(draws[tree], minlength=m), np.arange(len(rows))) for tree in range(trees)]
        while level:
            children = []
            drawn_features = np.argpartition(rng.random((len(level), d)), forest.FEATURES - 1, axis=1)[:, : forest.FEATURES]
            for features, (tree, counts, here) in zip(drawn_features, level, strict=True):
                weight = counts * weights
                inside = weight * member
                best, where = -np.inf, (0, 0)
                for feature in features:
                    for most in range(forest.BINS):
                        low = bins[feature] <= most
                        if min((counts[low] > 0).sum(), (counts[~low] > 0).sum()) < least:
                            continue
                        gain = sum(inside[side].sum() ** 2 / weight[side].sum() for side in (low, ~low))
                        if gain > best * (1 + 1e-12) or best == -np.inf:
                            best, where = gain, (feature, most)
                share = inside.sum() / weight.sum()
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
@pytest.mark.parametrize("groups", [[4], [2, 2], [3, 1]])
def test_a_forest_is_that_of_a_naive_program(weighted: bool, groups: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    x, member = _data(90, 0)
    rows, weights = _data(40, 1)[0], np.random.default_rng(2).uniform(0.5, 3.0, 90)
    monkeypatch.setattr(forest, "TREES", sum(groups))
    monkeypatch.setattr(forest, "_AT_ONCE", groups[0] * 70)
    given = weights if weighted else None
    found = forest.fit(x, member, np.random.default_rng(3), drawn=70, least=4, weights=given)
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
        weights=weights if weighted else np.ones(90),
    )
    np.testing.assert_allclose(found(rows), expected, rtol=1e-12)
    assert len(np.unique(expected)) > 10


def test_equal_weights_are_no_weights() -> None:
    x, member = _data(2000, 4)
    plain, weighted = (
        forest.fit(x, member, np.random.default_rng(5), drawn=900, least=20, weights=w) for w in (None, np.ones(2000))
    )
    np.testing.assert_array_equal(plain(x), weighted(x))


def test_bins_hold_equally_many_records_and_each_value_one_bin() -> None:
    rng = np.random.default_rng(6)
    often_one = np.where(rng.random(5000) < 0.6, 1.0, rng.random(5000))
    x = np.column_stack([rng.normal(size=5000), rng.integers(0, forest.BINS, 5000), often_one])
    bins = forest.Bins.of(x)(x)
    assert np.bincount(bins[0]).max() <= 5000 / forest.BINS + 1
    np.testing.assert_array_equal(bins[1], np.unique(x[:, 1], return_inverse=True)[1])
    for column, binned in zip(x.T, bins, strict=True):
        order = np.argsort(column, kind="stable")
        assert (np.diff(binned[order].astype(int)) >= 0).all()
        assert all(len(np.unique(binned[column == value])) == 1 for value in np.unique(column)[::50])
    assert len(np.unique(bins[2])) > 0.3 * forest.BINS


def test_leaves_hold_records_enough_and_a_step_is_found() -> None:
    rng = np.random.default_rng(7)
    x = rng.random((4000, 2))
    member = rng.random(4000) < np.where(x[:, 0] > 0.9, 0.8, 0.2)
    found = forest.fit(x, member, rng, drawn=1200, least=60)
    inside = found(np.column_stack([np.linspace(0.0, 1.0, 400), np.full(400, 0.5)]))
    edge = np.linspace(0.0, 1.0, 400) > 0.9
    assert inside[edge].min() > 0.5 > 0.35 > inside[~edge][:350].max()


@pytest.mark.parametrize(("m", "repeats"), [(200, 12), (3000, 6)])
def test_it_finds_what_scikit_learns_forest_finds(m: int, repeats: int) -> None:
    """The mean difference of the AUC on fresh records lies within .01 or three standard errors of it."""
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
    assert abs(np.mean(differences)) < 0.01
    assert np.std(differences) < 0.02
