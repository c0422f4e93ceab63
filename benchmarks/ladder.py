"""Compares the time of a mitigation study with that at an earlier commit, and holds both to the same figures.

    python benchmarks/ladder.py                    two seeds of eight shadows on digits; about five minutes
    python benchmarks/ladder.py --quick            one seed of two shadows, the mitigations that train longest; about a minute
    python benchmarks/ladder.py --before COMMIT    the commit to compare with, instead of the one before models trained side by side
    python benchmarks/ladder.py --seeds 5          the study of docs/results/mitigations.md; some ten minutes

Both run `memberscope mitigate` as docs/results/mitigations.md does, from start to end, with the same interpreter, each with a store of its
own, in turn. The earlier commit is checked out into a temporary `git worktree`. Every metric, table, tag and parameter of every run must be
the same to the last digit, durations apart; what differs is listed, and the exit code is then 1. With one seed, the start of Python,
TensorFlow and MLflow, and what concludes a study, are a large part of both, so --quick has a target of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shared.commits import checked_out
from shared.targets import last_line

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

BEFORE = "fa347d6"  # trained defended models one after another
PROGRAM = "import sys; from memberscope import cli; sys.exit(cli.main(sys.argv[1:]))"
STUDY = ("mitigate", "--dataset=digits", "--members=400", "--private_batch_size=100")
LONGEST = "--mitigations=dropout,adversarial,adversarial_tuned,dp"


def timed(tree: Path, words: list[str]) -> tuple[float, dict[str, dict[str, object]]]:
    """Seconds of the study with the sources of a checkout, and its runs' figures; its output is shown if it fails."""
    from same_figures import runs_of

    with tempfile.TemporaryDirectory() as home:
        store = f"sqlite:///{home}/mlflow.db"
        variables = {
            **os.environ, "PYTHONPATH": str(tree / "src"), "MLFLOW_TRACKING_URI": store, "MLFLOW_DISABLE_TELEMETRY": "true",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }  # fmt: skip
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *STUDY, *words],
            cwd=home,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
        return seconds, runs_of(store)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, two shadows, and the mitigations that train longest")
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT", help="the commit to compare with")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--shadows", type=int, default=8)
    arguments = parser.parse_args()
    seeds, shadows = (1, 2) if arguments.quick else (arguments.seeds, arguments.shadows)
    words = [f"--seeds={seeds}", f"--shadows={shadows}", *([LONGEST] if arguments.quick else [])]
    found = subprocess.run(
        ["git", "-C", str(ROOT), "cat-file", "-e", f"{arguments.before}^{{commit}}"], capture_output=True, check=False
    )
    if found.returncode:
        print(f"ladder: skipped, since this checkout has no commit {arguments.before} to compare with")
        return 0
    from same_figures import differences

    print(f"memberscope {' '.join([*STUDY, *words])}", flush=True)
    with checked_out(arguments.before) as tree:
        before, figures = timed(tree, words)
        print(f"at {arguments.before}: {before:.1f} s", flush=True)
        after, now = timed(ROOT, words)
        print(f"now: {after:.1f} s", flush=True)
    changed = [line for line in differences(figures, now) if not line.startswith("new:")]
    print("\n".join(changed) or f"{len(figures)} runs have the same figures")
    print(last_line("ladder", before / after, quick=arguments.quick))
    return 1 if changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
