"""Compares tensorflow_privacy's `compute_score_lira` with ours on the same scaled logits: seconds, ratio, difference of the scores.

    python benchmarks/lira.py            20,000 records, 32 shadow models, 10 classes; about a minute
    python benchmarks/lira.py --quick    4,000 records; about twenty seconds, most of them TensorFlow's import

Both use means, since ours has no medians, and fit both sides, with a variance per record and with a global one. Their score is the
negative of ours. The last line is the ratio over both variances; the lines above it have our attacks from logits to scores, settings
chosen, and RMIA's time as a multiple of LiRA's. They take turns in one thread each; seconds are processor seconds, so that other work
on the machine has little effect, and medians over repeats are shown. The time for cutting the arrays into the lists that
tensorflow_privacy needs is not included. Its default, medians, is slower and is timed once. They have nothing like our variance
``bayes``, whose time is compared with theirs per record.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", category=FutureWarning)

MOST = 2  # RMIA's time, as a multiple of LiRA's
TOLERANCE = 1e-9
CLASSES = 10
OURS = 7  # runs of ours for each of theirs, as ours takes only milliseconds


def simulated(n: int, models: int, *, seed: int = 0):
    """Evidence of complementary pairs: a record's true logit has a level of its own, and is higher where it was trained on."""
    from memberscope import Evidence, Predictions, ShadowPredictions

    rng = np.random.default_rng(seed)
    labels, first = rng.integers(0, CLASSES, n), rng.random((models // 2, n)) < 0.5
    member = np.stack([first, ~first], axis=1).reshape(models, n)
    member = np.concatenate([rng.random((1, n)) < 0.5, member])
    logits = rng.normal(size=(1 + models, n, CLASSES)).astype(np.float32)
    logits[:, np.arange(n), labels] += rng.normal(2.0, 1.5, n) + 1.5 * member
    outside, theirs = rng.normal(size=(1 + models, n // 4, CLASSES)).astype(np.float32), rng.integers(0, CLASSES, n // 4)
    outside[:, np.arange(n // 4), theirs] += rng.normal(2.0, 1.5, n // 4)
    ids = np.arange(n)
    return Evidence(
        target=Predictions(logits=logits[0], labels=labels, member=member[0], record_ids=ids),
        shadows=ShadowPredictions(logits=logits[1:], labels=labels, member=member[1:], record_ids=ids),
        population=ShadowPredictions(logits=outside, labels=theirs, member=np.zeros(outside.shape[:2], dtype=np.bool_)),
    )


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=32, help="shadow models, an even number")
    parser.add_argument("--repeats", type=int, default=3, help="number of runs of each")
    parser.add_argument("--quick", action="store_true", help="use 4,000 records")
    arguments = parser.parse_args()
    n = 4_000 if arguments.quick else arguments.records

    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import advanced_mia

    from memberscope.attacks import calibration, registry
    from memberscope.attacks.lira import lira_scores

    evidence = simulated(n, arguments.models)
    member = evidence.shadows.member
    target, shadows = calibration.scaled_logits(evidence)
    ins, outs = ([shadows[side[:, i], i] for i in range(n)] for side in (member, ~member))
    print(
        f"{n} records, {arguments.models} shadow models, {CLASSES} classes; medians of {arguments.repeats}, processor seconds"
    )
    print(f"{'variance':12}{'theirs':>10}{'ours':>10}{'ratio':>8}  largest difference")
    together, differences, their_own = np.zeros(2), [], 0.0
    for variance in ("per_record", "global"):
        theirs, ours = [], []
        fixed = variance == "global"
        for _ in range(arguments.repeats):
            seconds, negative = timed(
                lambda fixed=fixed: advanced_mia.compute_score_lira(
                    target, ins, outs, option="both", fix_variance=fixed, median_or_mean="mean"
                )
            )
            theirs.append(seconds)
            for _ in range(OURS):
                seconds, scores = timed(
                    lambda variance=variance: lira_scores(target, shadows, member, online=True, variance=variance)
                )
                ours.append(seconds)
        slow, fast = float(np.median(theirs)), float(np.median(ours))
        differences.append(float(np.abs(scores + negative).max()))
        together += slow, fast
        their_own = slow if variance == "per_record" else their_own
        print(f"{variance:12}{slow:10.4f}{fast:10.4f}{slow / fast:8.0f}  {differences[-1]:.1e}", flush=True)
    seconds, _ = timed(lambda: advanced_mia.compute_score_lira(target, ins, outs))
    print(f"theirs by default (medians, a variance per record), once: {seconds:.2f}")
    labels = evidence.target.labels
    seconds, _ = timed(lambda: [advanced_mia.calculate_statistic(part, labels) for part in evidence.shadows.logits])
    print(f"their scaled logits of all shadow models, once: {seconds:.2f}")
    spent = {}
    for name in ("lira_online", "lira_offline", "rmia_online", "rmia_offline", "lira_offline_two_sided"):
        runs = [timed(lambda name=name: registry.get(name).score(evidence, seed=0))[0] for _ in range(arguments.repeats)]
        spent[name] = float(np.median(runs))
        print(f"ours, {name} from logits to scores: {spent[name]:.3f}")
    for kind in ("online", "offline"):
        print(
            f"rmia_{kind}: {spent[f'rmia_{kind}'] / spent[f'lira_{kind}']:.2f} times the time of lira_{kind} (target at most {MOST})"
        )
    for online in (True, False):
        runs = [
            timed(lambda online=online: lira_scores(target, shadows, member, online=online, variance="bayes"))[0]
            for _ in range(OURS)
        ]
        ours_bayes = float(np.median(runs))
        times = f"{their_own / ours_bayes:.0f} times that"
        print(f"ours, bayes, {'both sides' if online else 'OUT alone'}: {ours_bayes:.4f}; theirs per record takes {times}")
    if max(differences) > TOLERANCE:
        print(f"the scores differ by {max(differences):.1e}; allowed: {TOLERANCE:g}")
        return 1
    print(last_line("lira", together[0] / together[1], quick=arguments.quick, digits=0))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
