"""Compares tensorflow_privacy's engine and ours on the six attack types and the same predictions: seconds, ratio, AUCs.

    python benchmarks/attacks.py --predictions FILE.npz    a model's own predictions (keys of Predictions)
    python benchmarks/attacks.py                           60,000 simulated records like the case study's conv model; about ten minutes
    python benchmarks/attacks.py --quick                   3,000 simulated records, without tensorflow_privacy's forest; under a minute

tensorflow_privacy drops records to balance the sides, and scores them with the last of its two models, so an offset between the two models
looks like membership, or hides it: the AUCs of its trained attacks vary with numpy's global seed by several hundredths. Its two fast
trained attacks are therefore run with `--peer_seeds` seeds, and their mean is shown; the two slow ones are run once. The column "folds" is
its AUC over the records that it did not drop, which is not affected.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", category=FutureWarning)

QUICK_TRAINED = ("trained_lr", "trained_knn")
SIX = ("threshold_loss", "threshold_entropy", "trained_lr", "trained_mlp", "trained_rf", "trained_knn")


def simulated(n: int, *, seed: int = 0):
    """Logits like those of a conv model on CIFAR-10 after 40 epochs: five of six records are members, and fit a little better."""
    from memberscope import Predictions

    rng = np.random.default_rng(seed)
    labels, member = rng.integers(0, 10, n), rng.random(n) < 5 / 6
    logits = rng.normal(scale=2.0, size=(n, 10)) + rng.normal(scale=1.0, size=(10, 10))[labels]
    logits[np.arange(n), labels] += 3.5 + 0.6 * member + rng.normal(scale=1.5, size=n)
    return Predictions(logits=logits.astype(np.float32), labels=labels, member=member)


def dropped(target, name: str, seed: int):
    """Whether tensorflow_privacy drops a record, members first, while balancing with this seed: (n,) bool."""
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import models

    from memberscope import seeds, tfprivacy

    structures, _ = tfprivacy._library()
    with tfprivacy._seeded(seeds.integer(seed, "tfprivacy", name)):
        left = models.create_attacker_data(tfprivacy.attack_input(target, structures), balance=True).left_out_indices
    mask = np.zeros(len(target), dtype=bool)
    mask[left] = True
    return mask


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="use few records, and leave out tensorflow_privacy's random forest; the target is then smaller",
    )
    parser.add_argument(
        "--predictions", default="", help="path of an .npz with the keys of Predictions; empty: simulated records"
    )
    parser.add_argument(
        "--peer_seeds", type=int, default=5, help="number of seeds for tensorflow_privacy's lr and knn, whose mean is compared"
    )
    arguments = parser.parse_args()
    from memberscope import Predictions, run_audit, tfprivacy
    from memberscope.metrics import auc

    target = (
        Predictions.load(arguments.predictions) if arguments.predictions else simulated(3_000 if arguments.quick else 60_000)
    )
    tfprivacy._library()  # so that imports are not measured
    run_audit(simulated(400), attacks="tfp")
    print(f"{target.n_member} members, {target.n_nonmember} non-members, {target.n_classes} classes, entire data set")
    peers = [name for name in SIX if not (arguments.quick and name == "trained_rf")]
    if len(peers) < len(SIX):
        print("tensorflow_privacy's random forest is left out (--quick); the ratio is over the other five attacks of both")
    print(f"{'attack':20}{'tfp s':>9}{'ours s':>9}{'tfp AUC':>10}{'folds':>10}{'our AUC':>10}")
    seconds = {"tfp": 0.0, "ours": 0.0}
    behind = []
    for name in peers:
        aucs, folds, times = [], [], []
        for seed in range(arguments.peer_seeds if name in QUICK_TRAINED else 1):
            start = time.perf_counter()
            result = tfprivacy.run_attacks(target, [name], ["entire"], seed=seed)[0]
            times.append(time.perf_counter() - start)
            aucs.append(float(result.raw.get_auc()))
            scores = np.concatenate([result.scores_member, result.scores_nonmember])
            kept = ~dropped(target, name, seed) if name.startswith("trained") else np.ones(len(scores), dtype=bool)
            folds.append(auc(scores[kept], (np.arange(len(scores)) < target.n_member)[kept]).value)
        theirs, their_auc, their_folds = float(np.median(times)), float(np.mean(aucs)), float(np.mean(folds))
        runs, report = [], None
        for _ in range(3):
            start = time.perf_counter()
            report = run_audit(target, attacks=name, slices="entire")
            runs.append(time.perf_counter() - start)
        ours = sorted(runs)[1]
        seconds["tfp"] += theirs
        seconds["ours"] += ours
        our_auc = report.result(name).figures["auc"].value
        if our_auc < max(their_auc, their_folds) - 1e-6:  # its losses are float32: ties of its own in the eighth digit
            behind.append(name)
        spread = f"  theirs {min(aucs):.4f} to {max(aucs):.4f} over {len(aucs)} seeds" if len(aucs) > 1 else ""
        print(f"{name:20}{theirs:9.2f}{ours:9.2f}{their_auc:10.4f}{their_folds:10.4f}{our_auc:10.4f}{spread}", flush=True)
    print(f"{'together':20}{seconds['tfp']:9.2f}{seconds['ours']:9.2f}")
    print(
        "every AUC of ours at least theirs (mean over seeds where it was run over several, else one draw)"
        if not behind
        else f"AUC below theirs: {', '.join(behind)}"
    )
    start = time.perf_counter()
    frame = run_audit(target, attacks="tfp", slices="all").to_frame()
    whole = time.perf_counter() - start
    print(f"ours, six attacks on {frame['slice'].nunique() - 1} slices with all metrics: {whole:.1f} s (target: under 60)")
    start = time.perf_counter()
    run_audit(target, attacks="threshold", slices="all")
    print(f"ours, threshold attacks on all slices: {time.perf_counter() - start:.2f} s (target: under 3)")
    print(last_line("attacks", seconds["tfp"] / seconds["ours"], quick=arguments.quick, digits=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
