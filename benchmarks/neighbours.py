"""Compares the nearest neighbours of `trained_knn` with SciPy's k-d tree, which this attack used before, on the same folds.

    python benchmarks/neighbours.py            100,000 records, three times; a minute and a half
    python benchmarks/neighbours.py --quick    30,000 records, once; a few seconds

Both run the whole attack, cross-fitted: a tree gives each query the same number of distinct points, and counts records among them until k
are reached; `memberscope.attacks.neighbours` searches for neighbouring queries together. Scores must be the same to 1e-9. Of the simulated
records, five of six are members in one case, and half of them in the other, where more are trained on. The last line is the lower ratio on
one core. Beside it stands the time on all cores that this process may use: the tree has a thread for each of them, our search one alone.
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
from memberscope import Evidence, Predictions
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


def balanced(n: int) -> Predictions:
    """The records of `simulated` of which half are members."""
    target = simulated(4 * n)
    rows = np.concatenate([np.flatnonzero(target.member == side)[: n // 2] for side in (True, False)])
    return target.select(np.sort(rows))


def compare(target: Predictions, times: int) -> tuple[float, float]:
    """The ratio of the times on one core, and the largest difference of a score; prints both and the times on all cores."""
    now = next(attack for attack in registry.ATTACKS if attack.name == "trained_knn")
    ways = {"a k-d tree": replace(now, learner=fit_tree, one_by_one=False), "now": now}
    evidence = Evidence(target=target)
    ratio, scores = 0.0, {}
    for workers, cores in ((1, "one core"), (None, "all cores")):
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(times):
            for name, attack in ways.items():
                start = time.perf_counter()
                scores[name] = attack.score(evidence, seed=0, workers=workers).scores
                taken[name].append(time.perf_counter() - start)
        found = statistics.median(tree / ours for tree, ours in zip(taken["a k-d tree"], taken["now"], strict=True))
        before, after = (statistics.median(taken[name]) for name in ways)
        print(
            f"{len(target):,} records, {target.member.sum():,} members, {cores}: {before:.2f} s, now {after:.2f} s: {found:.2f}"
        )
        ratio = ratio or found
    differs = float(np.abs(scores["now"] - scores["a k-d tree"]).max())
    print(f"largest difference of a score: {differs:.1e} (at most {SAME:g} is allowed)")
    return ratio, differs


def main() -> int:
    """Run the benchmark; the exit code is 1 if the scores differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use 30,000 records, once")
    quick = parser.parse_args().quick
    n = 30_000 if quick else 100_000
    found = [compare(target, 1 if quick else 3) for target in (simulated(n), balanced(n))]
    print(last_line("neighbours", min(ratio for ratio, _ in found), quick=quick))
    return int(not max(differs for _, differs in found) <= SAME)


if __name__ == "__main__":
    sys.exit(main())
