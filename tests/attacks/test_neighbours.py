"""Votes of nearest neighbours against all distances, one query after another."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memberscope.attacks import neighbours
from memberscope.attacks.neighbours import NeighbourVotes


def naive(
    points: NDArray[np.float64], records: NDArray[np.intp], members: NDArray[np.float64], k: int, queries: NDArray[np.float64]
) -> tuple[list[float], list[float]]:
    """Records and members within the distance of the k-th nearest record."""
    totals, inside = [], []
    for query in queries:
        squares = ((points - query) ** 2)[:, 0].copy()
        for axis in range(1, points.shape[1]):
            squares += (points[:, axis] - query[axis]) ** 2
        each = np.sort(np.repeat(squares, records))
        near = squares <= each[min(k, len(each)) - 1]
        totals.append(float(records[near].sum()))
        inside.append(float(members[near].sum()))
    return totals, inside


def _made(kind: str, m: int, d: int, rng: np.random.Generator) -> NDArray[np.float64]:
    x = rng.normal(size=(m, d))
    if kind == "planes":  # as class means are: few values of one column
        x[:, -1] = rng.choice([-1.0, 0.3, 2.0], m)
    elif kind == "grid":  # as rounded outputs are: many points at exactly the same distance
        x = np.round(x * 3) / 4
    elif kind == "tails":  # most of it in one place, some of it far away
        x = np.where(rng.random((m, 1)) < 0.9, x * 1e-3, np.clip(x * 5, -6, 6))
    elif kind == "near":  # closer to each other than float32 can tell from so far away
        x = 5.0 + x * 1e-7
    return x


@pytest.mark.parametrize("k", [1, 7, 60, 5_000])
@pytest.mark.parametrize(
    ("kind", "d"), [("normal", 3), ("normal", 1), ("planes", 3), ("grid", 2), ("tails", 3), ("near", 2), ("normal", 6)]
)
def test_votes_equal_those_of_all_distances(kind: str, d: int, k: int) -> None:
    rng = np.random.default_rng(3)
    points, records = np.unique(_made(kind, 900, d, rng), axis=0, return_counts=True)
    members = np.array([float(rng.integers(0, count + 1)) for count in records])
    queries = np.concatenate([_made(kind, 400, d, rng), points[:10], np.full((2, d), 6.0)])
    total, inside = NeighbourVotes(points, records, members, k)(queries)
    expected = naive(points, records, members, k, queries)
    np.testing.assert_array_equal(total, expected[0])
    np.testing.assert_array_equal(inside, expected[1])


@pytest.mark.parametrize("scale", [1e-200, 1e-170, 1e-160, 1e-30, 1e-23, 1e-20, 1e-18, 1e15, 1e20, 1e30, 1e149])
@pytest.mark.parametrize(("m", "d", "k"), [(1, 1, 3), (2, 3, 1), (17, 2, 40), (300, 3, 20)])
def test_the_scale_of_the_points_changes_nothing(m: int, d: int, k: int, scale: float) -> None:
    """Also where the squares of distances are no float32 numbers, or are the least of them."""
    rng = np.random.default_rng(9)
    points, queries = rng.normal(size=(m, d)) * scale, rng.normal(size=(40, d)) * scale
    records, members = np.ones(m, dtype=np.intp), rng.integers(0, 2, m).astype(float)
    found = NeighbourVotes(points, records, members, k)(queries)
    np.testing.assert_array_equal(found, naive(points, records, members, k, queries))


@pytest.mark.parametrize("least", [-30, -250])
def test_points_of_all_scales_together(least: int) -> None:
    rng = np.random.default_rng(10)
    points, queries = (rng.normal(size=(size, 2)) * 10.0 ** rng.integers(least, 2, size=(size, 1)) for size in (400, 80))
    records, members = np.ones(400, dtype=np.intp), rng.integers(0, 2, 400).astype(float)
    found = NeighbourVotes(points, records, members, 25)(queries)
    np.testing.assert_array_equal(found, naive(points, records, members, 25, queries))


@pytest.mark.parametrize("many", [1, 3, 400])
def test_records_at_one_point_are_counted_together(many: int) -> None:
    rng = np.random.default_rng(1)
    points = _made("planes", 500, 3, rng)
    records = np.where(rng.random(500) < 0.2, many, 1)
    members = np.floor(records * rng.random(500))
    queries = _made("planes", 100, 3, rng)
    total, inside = NeighbourVotes(points, records, members, 40)(queries)
    assert (total >= 40).all()
    expected = naive(points, records, members, 40, queries)
    np.testing.assert_array_equal(total, expected[0])
    np.testing.assert_array_equal(inside, expected[1])


@pytest.mark.parametrize("factor", [1e-4, 0.3, 10.0])
def test_a_first_radius_that_is_too_small_or_too_large_changes_nothing(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    rng = np.random.default_rng(2)
    points, queries = _made("normal", 700, 3, rng), _made("normal", 600, 3, rng)
    records, members = np.ones(700, dtype=np.intp), rng.integers(0, 2, 700).astype(float)
    expected = NeighbourVotes(points, records, members, 50)(queries)
    monkeypatch.setattr(neighbours, "_WIDE", factor)
    found = NeighbourVotes(points, records, members, 50)(queries)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, naive(points, records, members, 50, queries))


def test_votes_do_not_depend_on_the_order_of_points_or_queries() -> None:
    rng = np.random.default_rng(4)
    points, queries = _made("grid", 600, 3, rng), _made("grid", 80, 3, rng)
    points = np.unique(points, axis=0)
    records, members = np.ones(len(points), dtype=np.intp), rng.integers(0, 2, len(points)).astype(float)
    expected = NeighbourVotes(points, records, members, 30)(queries)
    p, q = rng.permutation(len(points)), rng.permutation(len(queries))
    found = NeighbourVotes(points[p], records, members[p], 30)(queries[q])
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs[q])


@pytest.mark.parametrize("most", [1, 4, 1000])
@pytest.mark.parametrize("kind", ["normal", "grid", "clusters"])
def test_queries_that_are_answered_apart_get_the_same_votes(monkeypatch: pytest.MonkeyPatch, most: int, kind: str) -> None:
    monkeypatch.setattr(neighbours, "_MOST", most)
    rng = np.random.default_rng(6)
    drawn, queries = (_made("grid" if kind == "grid" else "normal", size, 3, rng) for size in (1_500, 60))
    if kind == "clusters":  # a few queries on either side of a wide gap
        drawn[::2] += 8
        queries[::7] += 8
    points, records = np.unique(drawn, axis=0, return_counts=True)
    records = records + (rng.random(len(points)) < 0.2) * 5
    members = np.floor(records * rng.random(len(points)))
    total, inside = NeighbourVotes(points, records, members, 40)(queries)
    expected = naive(points, records, members, 40, queries)
    np.testing.assert_array_equal(total, expected[0])
    np.testing.assert_array_equal(inside, expected[1])


def test_a_query_far_from_its_neighbours_in_the_tree_does_not_search_all_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve queries of which one lies in another cluster: each cluster is searched for its own."""
    searched: list[int] = []
    pairs = neighbours._pairs

    def counted(queries: NDArray[np.float32], points: NDArray[np.float32], lengths: NDArray[np.float32]) -> NDArray[np.float32]:
        searched.append(points.shape[1])
        return pairs(queries, points, lengths)

    monkeypatch.setattr(neighbours, "_pairs", counted)
    rng = np.random.default_rng(7)
    points = rng.normal(size=(6_000, 2)) + 12.0 * (np.arange(6_000) % 3 == 0)[:, None]
    queries = np.concatenate([rng.normal(size=(11, 2)) * 0.1, [[12.0, 12.0]]])
    NeighbourVotes(points, np.ones(6_000, dtype=np.intp), np.zeros(6_000), 50)(queries)
    assert max(searched) <= neighbours._MOST * 50


def test_records_are_counted_in_batches_where_points_hold_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only queries at whose border two points are too close for float32 are answered one by one."""
    alone: list[int] = []
    wait = neighbours._Answers.wait

    def counted(self: neighbours._Answers, rows: NDArray[np.intp], *given: Any) -> None:
        alone.extend(rows)
        wait(self, rows, *given)

    monkeypatch.setattr(neighbours._Answers, "wait", counted)
    rng = np.random.default_rng(8)
    points, queries = rng.normal(size=(3_000, 3)), rng.normal(size=(400, 3))
    records = 1 + (rng.random(3_000) < 0.3) * rng.integers(1, 4, 3_000)
    members = np.floor(records * rng.random(3_000))
    found = NeighbourVotes(points, records, members, 60)(queries)
    assert len(alone) < 400 / 2  # those whose 60th record shares its point with the next
    np.testing.assert_array_equal(found, naive(points, records, members, 60, queries))


@pytest.mark.parametrize("at_once", [1, 100, 1_000_000])
def test_however_many_wait_for_float64_the_votes_are_the_same(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Points that differ by a rounding error of float64, as the entropies of permuted probabilities do, and points with many records."""
    monkeypatch.setattr(neighbours, "_AT_ONCE", at_once)
    rng = np.random.default_rng(11)
    drawn = _made("grid", 300, 2, rng)
    points, records = np.unique(
        np.concatenate([drawn, drawn + rng.choice([0.0, 1e-16, 3e-16], drawn.shape)]), axis=0, return_counts=True
    )
    records = records * rng.choice([1, 2, 90], len(points), p=[0.8, 0.15, 0.05])
    members = np.floor(records * rng.random(len(points)))
    queries = np.concatenate([_made("grid", 60, 2, rng), rng.normal(size=(60, 2))])
    for k in (1, 20, 95):
        found = NeighbourVotes(points, records, members, k)(queries)
        np.testing.assert_array_equal(found, naive(points, records, members, k, queries))


@pytest.mark.parametrize("spread", [0.0, 1e-3, 0.3, 3.0])
@pytest.mark.parametrize("scale", [1e-170, 1.0, 1e100])
def test_the_bound_on_rounding_errors_holds(spread: float, scale: float) -> None:
    """Near the middle of a few queries of an area, and far from it; unless squares vanish, the bound is at most a hundred times the
    largest error.
    """
    rng = np.random.default_rng(12)
    points = rng.normal(size=(4_000, 3)) * rng.choice([1e-4, 0.1, 1.0], (4_000, 1)) * scale
    points[:2_000] += 2 * scale
    queries = rng.uniform(-1, 1, (20, 3)) * spread * scale + 2 * scale
    points[:20] = queries + rng.normal(size=(20, 3)) * 1e-6 * scale
    votes = NeighbourVotes(points, np.ones(4_000, dtype=np.intp), np.zeros(4_000), 50)
    area = votes._area(np.concatenate([queries, np.zeros((1, 3))]), np.inf)
    places, half, offsets = area.around(queries)
    found = neighbours._pairs(places, offsets, (offsets**2).sum(axis=0)).astype(np.float64)
    exact = np.zeros_like(found)
    for axis in range(3):
        exact += np.subtract.outer(queries[:, axis] * area.scale, area.points[axis] * area.scale) ** 2
    bound = np.vectorize(area.error)(np.maximum(exact, found), float(np.linalg.norm(half)))
    share = np.abs(found - exact) / bound
    assert share.max() < 1
    assert scale < 1e-160 or share.max() > 0.01
