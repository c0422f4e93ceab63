"""Holds a change of structure to its promise: every figure stays.

    python tests/tools/same_figures.py record before.json                  run the studies, keep every metric
    python tests/tools/same_figures.py record after.json --only shadow     one of them
    python tests/tools/same_figures.py compare before.json after.json      exit 1 where a figure differs

`record` runs small studies and one audit with the code of the folder it is started in, in a store of its own, and writes each run's
metrics, tags and params (under the run's name and its parents'), the names of its artifacts and a digest of each table. `compare` lists
what differs, is missing or is new. Runs show metrics rounded to what their intervals support, so it is the digests of the tables, of the
headline and of the risk statement that hold every digit. Durations are left out: they are the machine's. With two cores the whole takes
about ten minutes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

STUDIES = {
    "main": ["main"],
    "train": ["train", "--epochs=5", "--attacks=tfp"],
    "shadow": ["shadow", "--dataset=location30", "--shadows=8", "--seed=1"],
    "sweep": ["sweep", "--grid=depth", "--dataset=digits", "--seeds=2"],
    "mitigate": ["mitigate", "--dataset=digits", "--shadows=4", "--seeds=2", "--epochs=6", "--private_epochs=4"],
    "synthesize": [
        "synthesize",
        "--dataset=location30",
        "--shadows=2",
        "--fleets=2",
        "--records=400",
        "--epochs=8",
        "--gan_epochs=8",
    ],
    "attack": ["attack", "--predictions={fixture}"],
}
EXACT = ("headline.json", "risk_statement.json")  # beside the tables
MACHINE = re.compile(r"^mlflow\.|^memberscope\.(host|process|command|versions|storage|run_key)$")
TIMES = re.compile(r"(^|[/_.])(seconds|duration|throughput|per_second|wall|gflops)")

AUDIT = """
import json, sys
import numpy as np
from memberscope import Evidence, Predictions, ShadowPredictions, run_audit

rng = np.random.default_rng(7)
n, classes, models = 400, 5, 8
labels = rng.integers(0, classes, n)
half = rng.permuted(np.tile([True, False], (n, models // 2)), axis=1).T
inside = np.concatenate([half, ~half[:1]])[: models + 1]
base = rng.normal(size=(n, classes))
logits = np.stack([base + rng.normal(scale=0.7, size=(n, classes)) for _ in range(models + 1)])
logits[:, np.arange(n), labels] += 1.0 + 1.5 * inside
target = Predictions(logits=logits[0], labels=labels, member=inside[0], record_ids=np.arange(n), inputs=base)
shadows = ShadowPredictions(logits=logits[1:], labels=labels, member=inside[1:])
target.save(sys.argv[2])
tables = {}
for name, evidence in {"alone": target, "with_shadows": Evidence(target=target, shadows=shadows)}.items():
    frame = run_audit(evidence, attacks="all", slices=("entire", "class"), seed=3).to_frame()
    tables[name] = {
        "/".join(map(str, row[:4])): [str(v) if isinstance(v, str) else None if v is None or v != v else float(v) for v in row[4:]]
        for row in frame[
            ["attack", "family", "slice", "metric", "value", "ci_low", "ci_high", "n_member", "n_nonmember", "status"]
        ].itertuples(index=False)
    }
json.dump(tables, open(sys.argv[1], "w"))
"""


def digest(table: Path) -> str:
    """SHA-256 of a CSV file without its columns of durations, shortened."""
    with table.open(newline="") as file:
        rows = list(csv.reader(file))
    kept = [place for place, name in enumerate(rows[0]) if not TIMES.search(name)] if rows else []
    return hashlib.sha256(repr([[row[place] for place in kept] for row in rows]).encode()).hexdigest()[:16]


def runs_of(store: str) -> dict[str, dict[str, object]]:
    """Every run's metrics and tables, under the names from its outermost parent to itself."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    runs = [
        run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id], max_results=5000)
    ]
    by_id = {run.info.run_id: run for run in runs}

    def path(run) -> str:  # type: ignore[no-untyped-def]
        parent = by_id.get(run.data.tags.get("mlflow.parentRunId", ""))
        return (path(parent) + " > " if parent else "") + run.info.run_name

    kept: dict[str, dict[str, object]] = {}
    for run in sorted(runs, key=lambda run: run.info.start_time):
        name = path(run)
        while name in kept:
            name += "'"
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        tables = {str(file.relative_to(folder)): digest(file) for file in sorted(folder.rglob("*.csv"))}
        for file in sorted(file for name in EXACT for file in folder.rglob(name)):
            tables[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        metrics = {key: value for key, value in run.data.metrics.items() if not TIMES.search(key)}
        facts = {f"tag {key}": value for key, value in run.data.tags.items() if not MACHINE.search(key)}
        facts |= {f"param {key}": value for key, value in run.data.params.items()}
        files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        kept[name] = {
            "status": run.info.status,
            "metrics": metrics,
            "tables": tables,
            "facts": facts,
            "files": dict.fromkeys(files, ""),
        }
    return kept


def record(out: Path, only: list[str]) -> None:
    """Run the studies and the audit with the code of the current folder, and keep their figures."""
    figures: dict[str, object] = json.loads(out.read_text()) if out.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": str(Path("src").resolve()), "MLFLOW_DISABLE_TELEMETRY": "true"}
        fixture, frame = Path(folder) / "fixture.npz", Path(folder) / "frame.json"
        subprocess.run([sys.executable, "-W", "ignore", "-c", AUDIT, str(frame), str(fixture)], env=environment, check=True)
        figures["run_audit"] = json.loads(frame.read_text())
        for name, words in STUDIES.items():
            if only and name not in only:
                continue
            store = f"sqlite:///{folder}/{name}/mlflow.db"
            home = Path(folder) / name
            home.mkdir()
            command = [sys.executable, str(Path("entrypoints").resolve() / f"{words[0]}.py")]
            command += [word.replace("{fixture}", str(fixture)) for word in words[1:]]
            done = subprocess.run(command, env=environment | {"MLFLOW_TRACKING_URI": store}, cwd=home, check=False)
            figures[name] = {"exit": done.returncode, "runs": runs_of(store)}
            out.write_text(json.dumps(figures, indent=1))
            print(f"{name}: exit {done.returncode}", flush=True)
    out.write_text(json.dumps(figures, indent=1))


def same(one: object, other: object) -> bool:
    """Equal to the last digit."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return one == other


def differences(one: object, other: object, at: str = "") -> list[str]:
    """What differs, is missing in the second, or is new there."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = [f"missing: {at}/{key}" for key in one if key not in other]
        found += [f"new:     {at}/{key}" for key in other if key not in one]
        for key in one:
            if key in other:
                found += differences(one[key], other[key], f"{at}/{key}")
        return found
    return [] if same(one, other) else [f"differs: {at}: {one} -> {other}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["record", "compare"])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--only", nargs="*", default=[], choices=list(STUDIES))
    args = parser.parse_args()
    if args.action == "record":
        record(args.files[0].resolve(), args.only)
        return 0
    before, after = (json.loads(file.read_text()) for file in args.files)
    found = differences(before, after)
    print("\n".join(found))
    changed = [line for line in found if not line.startswith("new:")]
    print(f"{len(changed)} figures differ or are missing, {len(found) - len(changed)} are new")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
