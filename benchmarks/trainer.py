"""Compares a fleet of a user's own training function with a plain loop of calls: seconds, ratio, overhead and peak memory.

    python benchmarks/trainer.py            16 models of some four seconds each; about nine minutes
    python benchmarks/trainer.py --quick    16 models of half a second; under a minute on an idle machine

The function fits a random forest with one thread on 2,000 records of 100 numbers, and every model answers 8,000 records. The plain loop
calls it on one index set after another in a process of its own, and asks each model in turn; the fleets are trained by `OutsideTrainer`
without a store, with one worker process and with two, start of the processes included. BLAS and OpenMP have one thread everywhere. The
three take turns and never run at once.

- ratio: time of the loop over that of two workers (target 1.6 on two cores);
- overhead: time of one worker over that of the loop, less one (target: under 3%);
- memory: peak of all processes with 32 models less that with 8, beside the size of the outputs of 24 models.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from shared.targets import last_line

SRC = str(Path(__file__).resolve().parents[1] / "src")
sys.path.insert(0, SRC)
OVERHEAD = 0.03
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MODELS, RECORDS, MEMBERS, FEATURES, CLASSES = 16, 8_000, 2_000, 100, 10

FUNCTION = """
from sklearn.ensemble import RandomForestClassifier

def train(job, *, trees):
    return RandomForestClassifier(n_estimators=trees, random_state=job.seed, n_jobs=1).fit(job.x, job.y).predict_proba
"""

CHILD = """
import sys, time
sys.path[:0] = [{src!r}, {here!r}]
import numpy as np
from trainer import data, members
import {name} as own

if __name__ == "__main__":
    how, models, trees = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    from memberscope.training.outside.trainer import outside_trainer
    from memberscope.training.query import Query
    from memberscope.training.trainer import Execution, TrainingJob, jobs_for
    import joblib.externals.loky, sklearn.ensemble
    found, index, seeds = data(), members(models), list(range(models))
    start = time.perf_counter()
    if how == "loop":
        outputs = []
        for k in range(models):
            job = TrainingJob(data=found, indices=index[k], seed=seeds[k], params=dict(trees=trees))
            outputs.append(own.train(job, trees=trees)(found.x))
        outputs = np.stack(outputs)
    else:
        trainer = outside_trainer({path!r} + ":train", dict(trees=trees))
        run = Execution(workers=int(how), queries=(Query(index=np.arange(len(found))),))
        outputs = trainer.train(jobs_for(found, index, seeds), run).outputs(found.x)
    print(time.perf_counter() - start, outputs.sum())
"""


def data() -> object:
    """Records of random numbers in ten classes."""
    import numpy as np

    from memberscope.datasets import LabeledData

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(RECORDS, FEATURES)), rng.integers(0, CLASSES, RECORDS)
    return LabeledData(name="random", x=x, y=y, class_names=tuple(map(str, range(CLASSES))), source="")


def members(models: int) -> list[object]:
    """A random index set for each model."""
    import numpy as np

    return [np.sort(np.random.default_rng(k).permutation(RECORDS)[:MEMBERS]) for k in range(models)]


def tree_of(process: Any) -> int:
    """Bytes of memory of a process and of all that it started, which they do not share with others."""
    import psutil

    total = 0
    try:
        everyone = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    for one in everyone:
        try:
            total += one.memory_full_info().uss
        except psutil.Error:
            continue
    return total


def run(script: Path, how: str, models: int, trees: int, *, watch: bool = False) -> tuple[float, str, int]:
    """Seconds, the sum of all outputs as text, and the peak of memory in bytes (0 unless it is watched)."""
    import psutil

    peak, ended = 0, threading.Event()
    process = subprocess.Popen(
        [sys.executable, str(script), how, str(models), str(trees)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, **ONE_THREAD},
    )  # fmt: skip

    def look() -> None:
        nonlocal peak
        parent = psutil.Process(process.pid)
        while not ended.wait(0.2):
            peak = max(peak, tree_of(parent))

    if watch:
        threading.Thread(target=look, daemon=True).start()
    out, _ = process.communicate()
    ended.set()
    seconds, checksum = out.split()[-2:]
    return float(seconds), checksum, peak


def main() -> None:
    """Print a table, and the ratio last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="smaller forests, one round instead of three; the target is then smaller"
    )
    arguments = parser.parse_args()
    trees, rounds = (30, 1) if arguments.quick else (240, 3)
    with tempfile.TemporaryDirectory() as folder:
        own, script = Path(folder) / "own_forest.py", Path(folder) / "child.py"
        own.write_text(FUNCTION)
        script.write_text(CHILD.format(src=SRC, here=str(Path(__file__).parent), name="own_forest", path=str(own)))
        times: dict[str, list[float]] = {"loop": [], "1": [], "2": []}
        sums = set()
        for _ in range(rounds):
            for how, seconds in times.items():
                taken, checksum, _ = run(script, how, MODELS, trees)
                seconds.append(taken)
                sums.add(checksum)
        loop, one, two = (statistics.median(times[how]) for how in times)
        print(f"{MODELS} forests of {trees} trees, {MEMBERS:,} members, {RECORDS:,} records asked; median of {rounds}")
        for label, seconds in (("plain loop", loop), ("one worker", one), ("two workers", two)):
            print(f"  {label:12} {seconds:7.2f} s   {loop / seconds:5.2f} times as fast")
        print(f"  the same outputs: {'yes' if len(sums) == 1 else 'NO'}")
        limit = "not shown by a quick run" if arguments.quick else f"target: under {OVERHEAD:.0%}"
        print(f"  overhead of one worker: {one / loop - 1:+.1%}, {one - loop:.1f} s ({limit})")
        few, many = (run(script, "2", models, 10, watch=True)[2] for models in (8, 32))
        outputs = 24 * RECORDS * CLASSES * 8
        print(f"  peak memory: {few / 2**20:.0f} MiB with 8 models, {many / 2**20:.0f} MiB with 32;", end=" ")
        print(
            f"more: {(many - few) / 2**20:.0f} MiB, outputs of 24 models: {outputs / 2**20:.0f} MiB, held twice when they are stacked"
        )
        print(last_line("trainer", loop / two, quick=arguments.quick))


if __name__ == "__main__":
    main()
