"""Compares the nearest neighbours of `trained_knn` with SciPy's k-d tree, which this attack used before, on the same folds.

    python benchmarks/neighbours.py            100,000 records, three times; about a minute
    python benchmarks/neighbours.py --quick    30,000 records, once; a few seconds

Both run the whole attack, cross-fitted on the cores that this process may use: a tree gives each query the same number of distinct points,
and counts records among them until k are reached; `memberscope.attacks.neighbours` searches for neighbouring queries together. Scores
must be the same to 1e-9. The ratio is of processor time, which other programs on the machine change little; the time on the clock stands
beside it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from attacks import simulated
from memberscope import Evidence
from memberscope.attacks import registry
from memberscope.attacks.features import distinct

SAME = 1e-9


def fit_tree(x: np.ndarray, member: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """What `memberscope.attacks.trained.fit_neighbours` computes, with a k-d tree that is asked for k points of each query."""
    from scipy.spatial import cKDTree

    del seed
    points, inverse, counts = distinct(x)
    members = np.bincount(inverse, weights=member, minlength=len(points))
    k = max(1, round(2.5 * np.sqrt(len(x))))
    asked = np.arange(1, min(k, len(points)) + 1)
    tree = cKDTree(points)

    def model(rows: np.ndarray) -> np.ndarray:
        queries, where, _ = distinct(rows)
        _, found = tree.query(queries, k=asked)
        before = np.cumsum(counts[found], axis=1) - counts[found]
        within = before < k
        total = (counts[found] * within).sum(axis=1)
        inside = (members[found] * within).sum(axis=1)
        return np.log((inside + 0.5) / (total - inside + 0.5))[where]

    return model


def main() -> int:
    """Run the benchmark; the exit code is 1 if the scores differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use 30,000 records, once")
    quick = parser.parse_args().quick
    evidence = Evidence(target=simulated(30_000 if quick else 100_000))
    now = next(attack for attack in registry.ATTACKS if attack.name == "trained_knn")
    ways = {"a k-d tree": replace(now, learner=fit_tree), "now": now}
    clock: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    scores = {}
    for _ in range(1 if quick else 3):
        for name, attack in ways.items():
            start, start_processor = time.perf_counter(), time.process_time()
            scores[name] = attack.score(evidence, seed=0).scores
            clock[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - start_processor)
    print(f"{len(evidence.target):,} records")
    for name in ways:
        print(f"{name}: {statistics.median(clock[name]):.2f} s, {statistics.median(processor[name]):.2f} s of processor time")
    differs = float(np.abs(scores["now"] - scores["a k-d tree"]).max())
    print(f"largest difference of a score: {differs:.1e} (at most {SAME:g} is allowed)")
    walls, works = (
        statistics.median(before / after for before, after in zip(times["a k-d tree"], times["now"], strict=True))
        for times in (clock, processor)
    )
    print(f"on the clock: ratio {walls:.2f}")
    print(last_line("neighbours", works, quick=quick))
    return int(not differs <= SAME)


if __name__ == "__main__":
    sys.exit(main())
