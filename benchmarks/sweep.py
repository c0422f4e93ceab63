"""Compares trials per hour of a sweep and of a shell loop of `mlflow run . -e train` over the same grid, each from start to end.

Both train dense models of several widths for several seeds on the same sizes, audit each by the loss threshold, and log the same run:
params, metrics, tables, ROC figure, model. The loop starts Python, TensorFlow and MLflow for each model; the sweep starts once, has one
worker per core, and trains the seeds of a width together.

    python benchmarks/sweep.py            digits, and Location-30 if --archive_dir or MEMBERSCOPE_ARCHIVE_DIR has its archive; minutes
    python benchmarks/sweep.py --quick    digits, few trials, two of them for the loop's rate, under a minute
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from shared.targets import last_line

ROOT = Path(__file__).resolve().parents[1]
WIDTHS = (16, 32, 64, 128)
EPOCHS = 40


def environment(store: Path, archive_dir: str) -> dict[str, str]:
    """A store of its own, the sources of this checkout, and the calling interpreter first on PATH."""
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {
        **os.environ, "PYTHONPATH": path, "PATH": programs, "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db",
        "TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true",
    }  # fmt: skip
    return {**variables, "MEMBERSCOPE_ARCHIVE_DIR": archive_dir} if archive_dir else variables


def project(entry: str, values: dict[str, Any], store: Path, archive_dir: str) -> None:
    """Run `mlflow run`; its output is shown if it fails."""
    command = [shutil.which("mlflow", path=environment(store, "")["PATH"]) or "mlflow", "run", str(ROOT), "-e", entry]
    command += ["--env-manager", "local", "--experiment-name", "benchmark"]
    for name, value in values.items():
        command += ["-P", f"{name}={value}"]
    done = subprocess.run(command, cwd=store, env=environment(store, archive_dir), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])


def loop(dataset: str, trials: list[tuple[int, int]], common: dict[str, Any], archive_dir: str) -> float:
    """Seconds per trial of the shell loop."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        for width, seed in trials:
            values = {**common, "dataset": dataset, "model": "dense", "width": width, "seed": seed, "slices": "entire"}
            project("train", {**values, "audit_every": common["epochs"]}, Path(folder), archive_dir)
        return (time.perf_counter() - start) / len(trials)


def sweep(dataset: str, seeds: int, common: dict[str, Any], archive_dir: str) -> tuple[float, float, int]:
    """Seconds per trial of the sweep, MLflow's share of the workers' time, and the number of trials."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        values = {
            **common, "dataset": dataset, "grid": "width", "model": "dense", "levels": ",".join(map(str, WIDTHS)), "seeds": seeds,
            "folder": str(store / "sweeps"),
        }  # fmt: skip
        start = time.perf_counter()
        project("sweep", values, store, archive_dir)
        seconds = time.perf_counter() - start
        tracked, trained, trials = shares(store)
        if trials != seeds * len(WIDTHS):
            raise SystemExit(f"the sweep has {trials} trials instead of {seeds * len(WIDTHS)}")
        return seconds / trials, tracked / (tracked + trained), trials


def shares(store: Path) -> tuple[float, float, int]:
    """Seconds that trials spent on logging and on training, and the number of runs."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    (experiment,) = [found for found in client.search_experiments() if found.name == "benchmark"]
    runs = [
        run
        for run in client.search_runs([experiment.experiment_id])
        if "seconds/train" in run.data.metrics and run.info.status == "FINISHED"
    ]
    tracked, trained = (sum(run.data.metrics[f"seconds/{part}"] for run in runs) for part in ("track", "train"))
    return tracked, trained, len(runs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use only digits and few trials, two of them for the loop's rate")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds for each width")
    parser.add_argument(
        "--archive_dir", default=os.environ.get("MEMBERSCOPE_ARCHIVE_DIR", ""), help="folder with Location-30's archive"
    )
    parser.add_argument("--only", default="", choices=("", "digits", "location30"), help="use only this data set")
    arguments = parser.parse_args()
    common = {"epochs": EPOCHS, "batch_size": 50, "depth": 3, "attacks": "threshold_loss"}
    sets = ["digits"] if arguments.quick or not arguments.archive_dir else ["digits", "location30"]
    sets = [name for name in sets if arguments.only in ("", name)]
    if not arguments.quick and not arguments.archive_dir:
        print("location30: left out; set --archive_dir or MEMBERSCOPE_ARCHIVE_DIR to the folder that has its archive")
    ratios = []
    for dataset in sets:
        every = [(width, seed) for width in WIDTHS for seed in range(arguments.seeds)]
        looped = every[:: len(every) // 2][:2] if arguments.quick else every
        one = loop(dataset, looped, common, arguments.archive_dir)
        ours, share, trials = sweep(dataset, arguments.seeds, common, arguments.archive_dir)
        ratios.append(one / ours)
        print(f"{dataset}: loop {3600 / one:,.0f} trials an hour ({len(looped)} runs, {one:.1f} s each)")
        print(
            f"{dataset}: sweep {3600 / ours:,.0f} trials an hour ({trials} trials, {ours:.1f} s each); ratio {one / ours:.1f}"
        )
        print(
            f"{dataset}: {share:.0%} of what trials take goes into their MLflow runs (tables, figures, models), the rest trains"
        )
    print(last_line("sweep", min(ratios), quick=arguments.quick))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
