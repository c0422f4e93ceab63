"""Compares LiRA's variances, and its default with the default before `bayes` was among them, by number of shadows.

    python benchmarks/variances.py            digits and Location-30, 64 shadows; an hour on two busy cores
    python benchmarks/variances.py --quick    forests on digits, with 4 shadows and two targets; under a minute

Every fleet has the half design, and eight of its models are the target in turn, each attacked with 2 to 64 of the models that are
neither itself nor its twin. The first tables have the mean of AUC, TPR at FPR 0.01 and TPR at FPR 0.001 over the targets ± half of their
95% t interval, by variance (without smoothing) and for the two defaults, which choose variance and smoothing on the shadows. The default
before chooses in the same way without `bayes`; where nothing can be chosen it takes `levels` (online), or `global` or `per_record`
(offline). The last table has the differences of the two defaults, paired by target; 0 where they are equal for all targets.

The last line is the smallest ratio of the default's AUC to that of the default before. Where MEMBERSCOPE_ARCHIVE_DIR is not set, a line
says that Location-30 is left out.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from settings import TARGETS, Fleet, estimators, network
from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", category=FutureWarning)

ATTACKS = ("lira_online", "lira_offline")
VARIANCES = ("global", "per_record", "levels", "bayes")
BEFORE, NOW = "default before", "default now"
METRICS = ("AUC", "TPR at FPR 0.01", "TPR at FPR 0.001")


def fleets(*, quick: bool, seed: int, only: str) -> Iterator[Fleet]:
    """The fleets whose names start with `only`."""
    shadows = 4 if quick else 64
    name = "digits with 20% label noise, forests"
    if name.startswith(only):
        from sklearn.datasets import load_digits
        from sklearn.ensemble import RandomForestClassifier

        rng = np.random.default_rng(seed)
        x, y = load_digits(return_X_y=True)
        y = np.where(rng.random(len(y)) < 0.2, rng.integers(0, 10, len(y)), y)
        yield estimators(
            name,
            x,
            y,
            lambda k: RandomForestClassifier(100, random_state=k),
            members=600,
            outside=500,
            shadows=shadows,
            seed=seed,
        )
    if quick:
        return
    wanted: list[tuple[str, dict[str, object]]] = [
        ("digits with 20% label noise, dense networks", {"dataset": "digits", "model": "dense", "depth": 2, "width": 64}),
        ("digits with 20% label noise, perceptrons", {"dataset": "digits"}),
    ]
    if archive := os.environ.get("MEMBERSCOPE_ARCHIVE_DIR", ""):
        wanted.append(("Location-30, perceptrons", {"dataset": "location30", "archive_dir": archive}))
    else:
        print("Location-30 left out: MEMBERSCOPE_ARCHIVE_DIR names no folder", flush=True)
    for name, settings in wanted:
        if name.startswith(only):
            yield network(name, seed, shadows=shadows, **settings)


def figures(scores, member) -> list[float]:
    """The metrics of `METRICS`."""
    from memberscope.metrics.area import auc_value
    from memberscope.metrics.curve import rank
    from memberscope.metrics.low_fpr import tpr_value

    ranking = rank(np.ascontiguousarray(scores), member)
    return [auc_value(ranking), tpr_value(ranking, 0.01), tpr_value(ranking, 0.001)]


def chosen_before(levels, member, *, online: bool) -> tuple[str, float]:
    """The variance and the smoothing that the default chose on the shadows when there was no `bayes`."""
    from memberscope.attacks import likelihood, lira_settings, tuning
    from memberscope.attacks.levels import mean_of
    from memberscope.attacks.moments import side

    records = tuning.sample_by(mean_of(levels), max(1000, tuning.RECORDS // levels.queries))
    phi, known = levels.at(records), member[:, records]
    stands = tuning.stand_ins(known, phi[:, :, 0])
    if not stands:
        many = not online and np.median((~member).sum(axis=0)) >= lira_settings.PER_RECORD_FROM
        variance = "levels" if online else "per_record" if many else "global"
        return variance, lira_settings.usual_smoothing(levels, online=online)
    smoothed = {smoothing: likelihood.smooth(phi, smoothing) for smoothing in lira_settings.SMOOTHINGS}

    def attack(setting, stand):
        variance, smoothing = setting
        values, used = smoothed[smoothing][:, stand.records], known[stand.references][:, stand.records]
        references = values[stand.references]
        outs = side(references, ~used)
        if online:
            return likelihood.two_sided_of(values[stand.model], side(references, used), outs, variance=variance)
        return likelihood.one_sided_of(values[stand.model], outs, variance=variance)

    variances = ("global", "per_record", "shared", "levels") if online else ("global", "per_record")
    return tuning.best([(v, s) for s in lira_settings.SMOOTHINGS for v in variances], stands, attack)[0]


def measured(fleet: Fleet, name: str, count: int, targets: int, variances: tuple[str, ...]) -> dict[str, np.ndarray]:
    """(targets, metrics) by variance and default."""
    from memberscope.attacks.calibration import scaled_logits
    from memberscope.attacks.levels import HeldLevels
    from memberscope.attacks.lira import lira_scores
    from memberscope.attacks.lira_settings import choose

    online, found = name == "lira_online", {}
    for t in range(0, 2 * min(targets, len(fleet.member) // 2), 2):
        rows = np.array([k for k in range(len(fleet.member)) if k // 2 != t // 2])[:count]
        phi, shadows = scaled_logits(fleet.evidence(t, rows))
        levels, member = HeldLevels(values=shadows), fleet.member[rows]
        now = choose(levels, member, online=online)
        settings = {variance: (variance, 0.0) for variance in variances}
        settings |= {BEFORE: chosen_before(levels, member, online=online), NOW: (now.variance, now.smoothing)}
        for row, (variance, smoothing) in settings.items():
            scores = lira_scores(phi, shadows, member, online=online, variance=variance, smoothing=smoothing)
            found.setdefault(row, []).append(figures(scores, fleet.member[t]))
    return {row: np.array(values) for row, values in found.items()}


def cell(values: np.ndarray, *, sign: bool = False) -> str:
    """A mean over targets ± half of its interval, without leading zeros."""
    from memberscope.metrics import paired_seeds

    mean = paired_seeds(values)
    if sign and not values.any():
        return "0"
    width = 0.0 if mean.ci_high is None else (mean.ci_high - mean.ci_low) / 2
    return f"{mean.mean:{'+' if sign else ''}.3f} ± {width:.3f}".replace("0.", ".")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use only forests, with 4 shadows and two targets")
    parser.add_argument("--seed", type=int, default=0, help="seed of the fleets")
    parser.add_argument("--only", default="", help="use only fleets whose names start with this, such as digits")
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=ATTACKS)
    parser.add_argument("--shadows", nargs="+", type=int, default=(2, 4, 8, 16, 32, 64), help="numbers of shadows")
    parser.add_argument("--defaults", action="store_true", help="compare only the two defaults, without the variances")
    arguments = parser.parse_args()
    lowest, start, compared = math.inf, time.time(), []
    for fleet in fleets(quick=arguments.quick, seed=arguments.seed, only=arguments.only):
        counts = [count for count in arguments.shadows if count <= len(fleet.member) - 2]
        head = "".join(f" {count} |" for count in counts) + "\n|" + " --- |" * (len(counts) + 2)
        for attack in arguments.attacks:
            variances = () if arguments.defaults else tuple(v for v in VARIANCES if attack == "lira_online" or v != "levels")
            targets = 2 if arguments.quick else TARGETS
            by_count = [measured(fleet, attack, count, targets, variances) for count in counts]
            print(f"\n**{fleet.name}**, `{attack}`:\n\n| | variance |{head}")
            for place, metric in enumerate(METRICS):
                for row in (*variances, BEFORE, NOW):
                    cells = " | ".join(cell(found[row][:, place]) for found in by_count)
                    print(
                        f"| {metric if row == (*variances, BEFORE)[0] else ''} | {row if ' ' in row else f'`{row}`'} | {cells} |"
                    )
                cells = " | ".join(cell(found[NOW][:, place] - found[BEFORE][:, place], sign=True) for found in by_count)
                first = f"| {fleet.name} | `{attack}`" if not place else "|  | "
                compared.append(f"{first} | {metric} | {cells} |")
            lowest = min(lowest, *(found[NOW][:, 0].mean() / found[BEFORE][:, 0].mean() for found in by_count))
            print(f"\n{time.time() - start:.0f} s", flush=True)
    print("\nDifferences, now - before:\n")
    print("\n".join(compared))
    print(last_line("variances", lowest, quick=arguments.quick, digits=3))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
