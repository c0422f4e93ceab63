"""Audits inputs that are memory-mapped files: seconds, and the peak of the memory that each fresh process had resident.

    python benchmarks/big.py            1,000,000 x 100 and 10,000,000 x 10 logits, and losses of 64 models; three minutes, 1.5 GB of disk
    python benchmarks/big.py --quick    a tenth of the records; under a minute

The files are written piece by piece into a temporary folder. Each row is a process of its own, whose imports count for its memory but not
for its seconds, except in the row of `memberscope attack`, whose seconds are those of the whole command. The memory is the largest that
was resident (VmHWM), which includes mapped pages.

The last line is the lowest of the ratios of a limit to what was measured, of seconds and of memory. The quick run has the full run's limits
and a tenth of its records, so that its ratio is no measure of the full run's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

PIECE = 50_000
MODELS = 64
LIMITS = {
    "threshold attacks, all slices, 100 classes": (12.0, 1.0),
    "memberscope attack, the same": (None, 1.0),
    "threshold attacks, all slices, 10 classes": (None, 2.0),
    "lira_online, 64 models' losses": (20.0, 1.0),
}
"""Row -> seconds, and GB; None where the issue names no limit."""


def write_logits(path: Path, records: int, classes: int) -> None:
    """Logits, labels and membership of a model that fits its members a little better, in pieces."""
    rng = np.random.default_rng(0)
    logits = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(records, classes))
    labels, member = rng.integers(0, classes, records), rng.random(records) < 0.5
    for start in range(0, records, PIECE):
        rows = slice(start, min(records, start + PIECE))
        part = rng.standard_normal((rows.stop - start, classes), dtype=np.float32)
        part[np.arange(len(part)), labels[rows]] += np.where(member[rows], 3.0, 2.5)
        logits[rows] = part
    logits.flush()
    for name, array in (("labels", labels), ("member", member), ("record_ids", np.arange(records))):
        np.save(path.with_name(f"{path.stem}.{name}.npy"), array)


def write_losses(path: Path, records: int) -> None:
    """Losses of the models of a half design, and of a target first."""
    rng = np.random.default_rng(0)
    losses = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(1 + MODELS, records))
    member = np.lib.format.open_memmap(
        path.with_name("losses.member.npy"), mode="w+", dtype=np.bool_, shape=(1 + MODELS, records)
    )
    hardness = rng.exponential(size=records)
    for model in range(1 + MODELS):
        member[model] = ~member[model - 1] if model and model % 2 == 0 else rng.random(records) < 0.5
        losses[model] = hardness * np.exp(rng.normal(scale=0.5, size=records)) * np.where(member[model], 0.8, 1.0)
    losses.flush()
    member.flush()


def audit_of(path: Path) -> None:
    """Threshold attacks on all slices; prints what was measured."""
    from memberscope import Predictions, run_audit

    beside = {
        name: np.load(path.with_name(f"{path.stem}.{name}.npy"), allow_pickle=False)
        for name in ("labels", "member", "record_ids")
    }
    start = time.perf_counter()
    target = Predictions(logits=np.load(path, mmap_mode="r", allow_pickle=False), **beside)
    report = run_audit(target, attacks="threshold", slices="all")
    found = report.headline
    _tell(start, auc=0.0 if found is None else found.auc.value, results=len(report.results))


def lira_of(path: Path) -> None:
    """LiRA online; prints what was measured."""
    from memberscope import Evidence, Predictions, ShadowPredictions, run_audit

    member = np.load(path.with_name("losses.member.npy"), allow_pickle=False)
    start = time.perf_counter()
    losses, ids = np.load(path, mmap_mode="r", allow_pickle=False), np.arange(member.shape[1])
    evidence = Evidence(
        target=Predictions(loss_nats=losses[0], member=member[0], record_ids=ids),
        shadows=ShadowPredictions(loss_nats=losses[1:], member=member[1:], record_ids=ids),
    )
    report = run_audit(evidence, attacks="lira_online")
    _tell(start, auc=report.result("lira_online").figures["auc"].value, results=len(report.results))


def _tell(start: float, **facts: float) -> None:
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": time.perf_counter() - start, "gb": int(peak.split()[1]) * 1024 / 1e9, **facts}))


def measured(row: str, path: Path) -> dict[str, float]:
    """What a process of its own measured, on the file at `path`."""
    if row.startswith("memberscope"):
        command = ["-m", "memberscope.cli", "attack", "--predictions", str(path), "--attacks", "threshold", "--slices", "all"]
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{path.parent}/mlflow.db", "PYTHONPATH": sys.path[0]}
        start = time.perf_counter()
        with open(path.with_suffix(".log"), "wb") as log:
            process = subprocess.Popen([sys.executable, *command], cwd=path.parent, env=environment, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(path.with_suffix(".log").read_text())
        return {"seconds": time.perf_counter() - start, "gb": usage.ru_maxrss * 1024 / 1e9}
    done = subprocess.run([sys.executable, __file__, "--only", row, "--file", str(path)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use a tenth of the records")
    parser.add_argument("--only", default="", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, default=Path(), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        (lira_of if arguments.only.startswith("lira") else audit_of)(arguments.file)
        return 0
    million, ratio = 100_000 if arguments.quick else 1_000_000, np.inf
    print("| what | records | AUC | seconds (at most) | GB resident (at most) |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        hundred, ten, losses = (Path(folder) / name for name in ("hundred.npy", "ten.npy", "losses.npy"))
        write_logits(hundred, million, 100)
        files = dict(zip(LIMITS, (hundred, hundred, ten, losses), strict=True))
        for row, (seconds, gb) in LIMITS.items():
            if files[row] == ten:
                write_logits(ten, 10 * million, 10)
            elif files[row] == losses:
                write_losses(losses, million)
            found = measured(row, files[row])
            ratio = min([ratio, gb / found["gb"], *([] if seconds is None else [seconds / found["seconds"]])])
            records, auc = 10 * million if files[row] == ten else million, found.get("auc")
            shown, limit = "" if auc is None else f"{auc:.3f}", "" if seconds is None else f" ({seconds:g})"
            print(f"| {row} | {records:,} | {shown} | {found['seconds']:.1f}{limit} | {found['gb']:.2f} ({gb:g}) |", flush=True)
    print(last_line("big", ratio, quick=arguments.quick))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
