"""The climb against targets whose class regions are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from memberscope.errors import Interrupted, UserError
from memberscope.interrupt import StopFlag
from memberscope.synthesis.hill_climb import HillClimb, HillClimbConfig

D, CLASSES = 40, 4
BLOCK = D // CLASSES


class Toy:
    """Softmax of how many bits each class's block of features has; counts what it is asked."""

    def __init__(self, *, sharp: float = 1.0, digits: int | None = None, top: int | None = None) -> None:
        self.sharp, self.digits, self.top, self.records, self.calls = sharp, digits, top, 0, 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.records += len(x)
        self.calls += 1
        z = self.sharp * x.reshape(len(x), CLASSES, -1).sum(axis=2).astype(np.float64)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        if self.top is not None:
            p[p < np.sort(p, axis=1)[:, -self.top, None]] = 0.0
        return p if self.digits is None else np.floor(p * 10**self.digits) / 10**self.digits


def config(**changes: object) -> HillClimbConfig:
    values: dict = {"kind": "binary", "classes": CLASSES, "records": 80, "conf_min": 0.9, "iter_max": 400}
    return HillClimbConfig(**{**values, **changes})


def climb(target: object, seed: int = 0, **changes: object):
    shape = changes.pop("shape", (D,))
    return HillClimb(config(**changes)).run(target, shape=shape, seed=seed)


def reference(target: Toy, c: int, rules: HillClimbConfig, rng: np.random.Generator) -> tuple[np.ndarray | None, int]:
    """Algorithm 1, line by line, one record at a time."""
    x = rng.integers(0, 2, D).astype(np.float32)
    best, j, k, kept = 0.0, 0, rules.k_max, x
    for iteration in range(1, rules.iter_max + 1):
        y = target(x[None])[0]
        if y[c] >= best:
            if y[c] > rules.conf_min and c == y.argmax() and rng.random() < y[c]:
                return x, iteration
            kept, best, j = x, y[c], 0
        else:
            j += 1
            if j > rules.rej_max:
                k, j = max(rules.k_min, -(-k // 2)), 0
        x = kept.copy()
        flips = rng.choice(D, k, replace=False)
        x[flips] = 1 - x[flips]
    return None, rules.iter_max


@pytest.mark.parametrize("kind", ["binary", "real"])
def test_the_climb_reaches_every_class_and_counts_its_queries(kind: str) -> None:
    target = Toy(sharp=1.5)
    found = climb(target, kind=kind)
    assert found.complete
    assert found.require() is found
    assert np.bincount(found.y).tolist() == [20] * CLASSES
    again = Toy(sharp=1.5)(found.x)
    assert (again.argmax(axis=1) == found.y).all()
    assert (again.max(axis=1) > 0.9).all()
    assert np.allclose(again.max(axis=1), found.confidence, atol=1e-12)
    assert found.queries == target.records == sum(one.queries for one in found.by_class)
    assert target.calls <= 400
    values = {0.0, 1.0} if kind == "binary" else None
    assert values is None or set(np.unique(found.x)) == values
    assert found.x.min() >= 0
    assert found.x.max() <= 1


def test_queries_a_record_are_those_of_the_algorithm_line_by_line() -> None:
    rules, rng = config(k_max=20, conf_min=0.8, records=400), np.random.default_rng(1)
    naive = np.array([reference(Toy(), c % CLASSES, rules, rng)[1] for c in range(400)])
    found = HillClimb(rules).run(Toy(), shape=(D,), seed=3)
    assert found.complete
    # both means have this standard error at most, by the naive runs' own spread; |z| > 4 happens once in 16,000 runs
    error = naive.std(ddof=1) * np.sqrt(2 / 400)
    assert abs(found.queries / 400 - naive.mean()) < 4 * error


def test_records_are_taken_with_their_confidence() -> None:
    """All records look alike to this target: class 0 has 0.6 always, so a climb asks a geometric number of times."""

    def flat(x: np.ndarray) -> np.ndarray:
        return np.tile([0.6, 0.4], (len(x), 1))

    found = climb(flat, classes=2, records=8000, conf_min=0.5, iter_max=50, parallel=1500)
    first, second = found.by_class
    assert first.reached == 4000
    assert second.reached == 0
    assert (second.queries, second.failed) == (4000 * 50, 4000)
    # 4,000 successes in first.queries trials of 0.6: P(queries outside) is under 1 in 1,000
    low, high = binom.ppf([2.5e-4, 1 - 2.5e-4], first.queries, 0.6)
    assert low <= 4000 <= high


@pytest.mark.parametrize("budget", [1, 79, 80, 700, 703])
@pytest.mark.parametrize("parallel", [7, 5000])
def test_a_budget_is_never_exceeded_and_what_was_found_is_kept(budget: int, parallel: int) -> None:
    target = Toy(sharp=1.5)
    found = climb(target, budget=budget, parallel=parallel)
    assert found.queries == target.records == budget
    assert len(found.x) == sum(one.reached for one in found.by_class) < 80
    for one in found.by_class:
        assert f"the budget of {budget} queries was spent" in one.reason


def test_the_records_do_not_depend_on_how_many_climb_at_once() -> None:
    found = [climb(Toy(sharp=1.5), records=40, parallel=parallel, attempts=3, iter_max=60) for parallel in (1, 13, 5000)]
    for other in found[1:]:
        assert np.array_equal(found[0].x, other.x)
        assert found[0].rows() == other.rows()
    assert not np.array_equal(found[0].x, climb(Toy(sharp=1.5), seed=1, records=40, attempts=3, iter_max=60).x)


@pytest.mark.parametrize("kind", ["binary", "real", "image"])
def test_climbs_continue_after_an_interruption_to_the_same_result(kind: str, tmp_path: Path) -> None:
    shape = (8, 5, 1) if kind == "image" else (D,)
    extra = {"copies": 3, "noise": 0.1, "shift": 1, "ink": 0.1, "iter_max": 60} if kind == "image" else {}
    settings = config(**{"kind": kind, "records": 20, "parallel": 8, "conf_min": 0.6, **extra})
    whole = HillClimb(settings).run(Toy(sharp=1.5), shape=shape, seed=5)
    path, asked, stops = tmp_path / "climbs.npz", 0, 0
    for _ in range(1000):
        flag, target = StopFlag(), Toy(sharp=1.5)

        def stop_after(found: int, queries: int, flag: StopFlag = flag, target: Toy = target) -> None:
            if target.calls >= 8:
                flag.set()

        try:
            parts = HillClimb(settings).run(target, shape=shape, seed=5, stop=flag, progress=stop_after, resume=path)
            asked += target.records
            break
        except Interrupted:
            asked += target.records
            stops += 1
    assert stops >= 1
    assert np.array_equal(whole.x, parts.x)
    assert np.array_equal(whole.confidence, parts.confidence)
    assert whole.rows() == parts.rows()
    assert parts.queries == whole.queries == asked
    assert HillClimb(settings).run(Toy(), shape=shape, seed=5, resume=path).rows() == whole.rows()  # finished: nothing is asked
    with pytest.raises(UserError, match="not the state of these climbs"):
        HillClimb(settings).run(Toy(), shape=shape, seed=6, resume=path)


def test_a_spent_budget_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "climbs.npz"
    small = dataclasses.replace(config(), budget=700)
    assert not HillClimb(small).run(Toy(), shape=(D,), seed=0, resume=path).complete
    whole = HillClimb(config()).run(Toy(), shape=(D,), seed=0)
    assert np.array_equal(HillClimb(config()).run(Toy(), shape=(D,), seed=0, resume=path).x, whole.x)


@pytest.mark.parametrize("release", [{"digits": 1}, {"digits": 2}, {"top": 1}, {"top": 2, "digits": 1}])
def test_it_works_against_rounded_and_top_n_outputs(release: dict) -> None:
    found = climb(Toy(sharp=1.5, **release), conf_min=0.7, iter_max=2000)
    assert found.complete
    assert (Toy(sharp=1.5)(found.x).argmax(axis=1) == found.y).all()


def test_what_cannot_be_reached_is_reported_by_class() -> None:
    def three(x: np.ndarray) -> np.ndarray:
        p = Toy(sharp=1.5)(x)
        p[:, 2] *= 0.3
        return p

    found = climb(three, iter_max=300, attempts=2)
    assert np.bincount(found.y, minlength=CLASSES).tolist() == [20, 20, 0, 20]
    lacking = found.by_class[2]
    assert (lacking.asked, lacking.reached, lacking.failed) == (20, 0, 40)
    assert 0.25 < lacking.best_confidence <= 0.3
    assert "iter_max" in lacking.reason
    with pytest.raises(
        UserError, match=r"no record of 1 of 4 classes: 2 \(best confidence 0\.\d+\).*60 records of the other classes are kept"
    ):
        found.require()


def test_a_target_that_publishes_labels_only_is_refused() -> None:
    with pytest.raises(UserError, match="labels only; the climb needs confidences"):
        climb(lambda x: np.zeros(len(x), dtype=np.int64))
    with pytest.raises(UserError, match="every output is 0 or 1"):
        climb(lambda x: np.eye(CLASSES)[Toy()(x).argmax(axis=1)])
    with pytest.raises(UserError, match=r"allowed: probabilities of shape \(80, 4\)"):
        climb(lambda x: np.ones((len(x), 3)) / 3)
    with pytest.raises(UserError, match="NaN"):
        climb(lambda x: np.full((len(x), CLASSES), np.nan))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "real", "low": 1.0, "high": 0.0}, "low=1, high=0: impossible bounds"),
        ({"kind": "real", "high": float("inf")}, "impossible bounds"),
        ({"kind": "image", "background": 2.0}, "background=2"),
        ({"kind": "bits"}, "kind=bits: unknown"),
        ({"conf_min": 1.0}, "conf_min=1.0: out of range"),
        ({"budget": 0}, "budget=0"),
        ({"k_max": 2, "k_min": 3}, "k_max=2: below k_min=3"),
        ({"k_min": 41}, "k_min=41: there are only 40 features"),
        ({"copies": 4}, "copies=4: only for images on a grid"),
        ({"kind": "image"}, r"shape \(40,\); allowed: \(height, width, channels\)"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        climb(Toy(), **changes)
    assert "\n" not in str(raised.value)


def test_a_target_cannot_change_the_records_that_it_is_shown() -> None:
    def vandal(x: np.ndarray) -> np.ndarray:
        x += 1
        return Toy()(x)

    with pytest.raises(ValueError, match="read-only"):
        climb(vandal)


def test_a_grid_climb_finds_smooth_images_where_pixels_find_noise() -> None:
    """Class 0 is bright on the left, class 1 on the right, of 16x16 images."""

    def halves(x: np.ndarray) -> np.ndarray:
        left = x[:, :, :8].mean(axis=(1, 2, 3)) - x[:, :, 8:].mean(axis=(1, 2, 3))
        p = 1 / (1 + np.exp(-30.0 * left.astype(np.float64)))
        return np.stack([p, 1 - p], axis=1)

    def roughness(x: np.ndarray) -> float:
        return float(np.abs(np.diff(x, axis=2)).mean() / x.std())

    settings: dict = {"kind": "image", "classes": 2, "records": 20, "conf_min": 0.95, "shape": (16, 16, 1), "iter_max": 3000}
    grid, pixel = climb(halves, **settings), climb(halves, basis="pixel", **settings)
    assert grid.complete
    assert pixel.complete
    assert (halves(grid.x).argmax(axis=1) == grid.y).all()
    assert roughness(grid.x) < 0.5 * roughness(pixel.x)


def test_ink_buys_plainer_images_and_copies_are_counted() -> None:
    def dim(x: np.ndarray) -> np.ndarray:
        p = 1 / (1 + np.exp(-20 * (x[:, 4:12, 4:12].mean(axis=(1, 2, 3)).astype(np.float64) - 0.2)))
        return np.stack([p, 1 - p], axis=1)

    settings: dict = {"kind": "image", "classes": 2, "records": 10, "conf_min": 0.4, "shape": (16, 16, 1), "iter_max": 3000}
    free, priced = climb(dim, **settings), climb(dim, ink=2.0, **settings)
    bright = [one.x[one.y == 0].mean() for one in (free, priced)]
    assert bright[1] < bright[0]
    calls = []
    found = climb(lambda x: calls.append(len(x)) or dim(x), copies=5, budget=1004, **settings)
    assert found.queries == sum(calls) == 1000  # 1004 would leave a record half asked
