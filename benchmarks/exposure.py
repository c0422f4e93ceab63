"""Measures all exposures of 100,000 simulated records under 256 models: seconds, and memory beyond the arrays.

python benchmarks/exposure.py           100,000 records, 256 models in complementary pairs, two attacks over 16 targets; under a minute
python benchmarks/exposure.py --quick   20,000 records, 64 models; a few seconds
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

SECONDS, GIGABYTES = 30.0, 2.0
QUICK_SECONDS = 10.0
TARGETS = 16


def simulated(models: int, records: int, rng: np.random.Generator):
    """Scaled logits, correctness and membership of a fleet in which every hundredth record is memorized."""
    first = rng.random((models // 2, records)) < 0.5
    member = np.stack([first, ~first], axis=1).reshape(models, records)
    phi = rng.standard_normal((models, records))
    phi[:, ::100] += 3.0 * member[:, ::100]
    phi += 1.0
    return phi, phi > 0.0, member


@contextmanager
def peak_memory():
    """The largest resident memory while a block runs, in gigabytes beyond what was there before it: a list of one number, afterwards."""
    import psutil

    process, ended, found = psutil.Process(), threading.Event(), [0.0]
    before = process.memory_info().rss

    def watch() -> None:
        while not ended.wait(0.02):
            found[0] = max(found[0], (process.memory_info().rss - before) / 1e9)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use fewer records and models")
    quick = parser.parse_args().quick
    from memberscope.exposure import relations
    from memberscope.exposure.table import measure

    models, records = (64, 20_000) if quick else (256, 100_000)
    phi, correct, member = simulated(models, records, np.random.default_rng(0))
    targets = member[: 2 * TARGETS : 2]
    scores = {"one": phi[: 2 * TARGETS : 2].copy(), "other": phi[: 2 * TARGETS : 2] + 0.5}
    arrays = sum(array.nbytes for array in (phi, correct, member, *scores.values())) / 1e9
    with peak_memory() as peak:
        start, processor = time.perf_counter(), time.process_time()
        found = measure(scaled_logits=phi, correct=correct, member=member, scores=scores, targets=targets)
        measured = time.perf_counter() - start
        relations.rank_correlations(found.values())
        seconds, processor = time.perf_counter() - start, time.process_time() - processor
    beyond = peak[0]
    shown = int(found.shown[::100].sum())
    others = int(found.shown.sum()) - shown
    target = QUICK_SECONDS if quick else SECONDS
    print(f"{records:,} records, {models} models, {arrays:.2f} GB of arrays")
    print(f"measures {measured:.1f} s, with rank correlations {seconds:.1f} s (target: under {target:g})")
    print(f"{processor:.1f} s of processor time")
    print(f"{beyond:.2f} GB beyond the arrays (target: under {GIGABYTES:g})")
    print(f"shown: {shown} of {len(found) // 100} memorized records, {others} others")
    own = "; a quick run's own" if quick else ""
    print(f"{last_line('exposure', target / seconds, quick=quick)}{own}, within {target:g} s")
    return 0 if seconds <= target and beyond <= GIGABYTES else 1


if __name__ == "__main__":
    raise SystemExit(main())
