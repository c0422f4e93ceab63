"""Measures where the time of an audit goes, by stage, beside an earlier commit and beside MLflow's own default evaluator.

    python benchmarks/audit.py                     500, 5,000 and 60,000 records; about a quarter of an hour with `--before`
    python benchmarks/audit.py --before COMMIT     the same audits with the code of that commit as well
    python benchmarks/audit.py --quick             500 records, each once; under a minute

The model is a random forest in an MLflow model folder, the records are simulated. Three ways lead to an audit: ``memberscope audit``
on the model, ``memberscope attack`` on a file of its outputs, and the evaluator of ``mlflow.models.evaluate``. Each runs in a process of
its own, in a store that has its tables, and all take turns; the table shows the median of several, in seconds on the wall and of the
processor (children included), and the stages that the run logged (see `memberscope.clock`). For the evaluators, both are counted from the
call of `evaluate` on. With 60,000 records, all controls are run (``controls=full``). `--before` makes a temporary `git worktree` and runs
its code with this interpreter.

The last line is the lowest of these ratios: the budget of a small audit, `BUDGET` processor seconds for ``memberscope audit`` on 500
records, over what it took; the time of MLflow's own evaluator over that of ours, of the wall or of the processor; and, with `--before`,
`SHARE` of the processor time of the largest audit at that commit over what it takes now.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shared.commits import checked_out
from shared.targets import last_line

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE / "src"))

BUDGET = 6.0  # processor seconds of an audit of 500 records
SHARE = 0.5  # of the processor time at an earlier commit, for the largest audit
SIZES = (500, 5_000, 60_000)
TIMES = {500: 7, 5_000: 3, 60_000: 1}
WAYS = ("audit", "attack", "evaluator", "default evaluator")
FEATURES = 20

EVALUATE = """
import json, resource, sys, time, warnings
import mlflow, numpy as np, pandas as pd

warnings.simplefilter("ignore")
folder, evaluator, members = sys.argv[1], sys.argv[2], int(sys.argv[3])
frame = pd.concat([pd.read_csv(f"{folder}/{side}.csv") for side in ("members", "nonmembers")], ignore_index=True)
config = {"memberscope": {"member": np.arange(len(frame)) < members}} if evaluator == "memberscope" else None
mlflow.set_experiment("evaluators")


def used():
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


wall, processor = time.perf_counter(), used()
with mlflow.start_run():
    result = mlflow.models.evaluate(
        f"{folder}/model", frame, targets="label", model_type="classifier", evaluators=[evaluator], evaluator_config=config
    )
stages = {name: value for name, value in result.metrics.items() if name.startswith("processor_seconds/")}
print(json.dumps({"wall": time.perf_counter() - wall, "processor": used() - processor, "stages": stages}))
"""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Seconds that a run took.

    Attributes:
        wall: on the wall.
        processor: of the processor, children included.
        stages: processor seconds by stage, as the run logged them; empty for code that logs none.
    """

    wall: float
    processor: float
    stages: dict[str, float] = field(default_factory=dict)


def make_data(folder: Path, n: int) -> None:
    """Save a model that was fitted on the first half of `n` records, both halves as tables, and its outputs."""
    import mlflow
    import pandas as pd
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    from memberscope import Predictions

    x, y = make_classification(n, n_features=FEATURES, n_informative=10, n_classes=5, flip_y=0.1, random_state=0)
    frame = pd.DataFrame(np.round(x, 4), columns=[f"x{k}" for k in range(FEATURES)])
    model = RandomForestClassifier(20, min_samples_leaf=2, random_state=0).fit(frame[: n // 2], y[: n // 2])
    signature = mlflow.models.infer_signature(frame[:5], model.predict(frame[:5]))
    mlflow.sklearn.save_model(
        model, folder / "model", signature=signature, pip_requirements=["scikit-learn"], serialization_format="cloudpickle"
    )
    labelled = frame.assign(label=y)
    labelled[: n // 2].to_csv(folder / "members.csv", index=False)
    labelled[n // 2 :].to_csv(folder / "nonmembers.csv", index=False)
    outputs = model.predict_proba(frame)
    Predictions(probs=outputs, labels=y, member=np.arange(n) < n // 2, inputs=frame.to_numpy()).save(folder / "outputs.npz")


def run(source: Path, store: Path, data: Path, way: str, n: int, controls: str) -> Taken:
    """Audit the data with the code in `source`, in a process of its own."""
    store.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(source / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db", "PYTHONWARNINGS": "ignore",
        "MLFLOW_DISABLE_TELEMETRY": "true", "MEMBERSCOPE_SPOOL": str(store / "spool"),
    }  # fmt: skip
    if way.endswith("evaluator"):
        evaluator = "default" if way.startswith("default") else "memberscope"
        command = [sys.executable, "-c", EVALUATE, str(data), evaluator, str(n // 2)]
    else:
        given = [f"--predictions={data}/outputs.npz"] if way == "attack" else [f"--model_uri={data}/model", "--label=label"]
        given += [] if way == "attack" else [f"--{side}={data}/{side}.csv" for side in ("members", "nonmembers")]
        command = [sys.executable, "-m", "memberscope.cli", way, *given, f"--controls={controls}"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=store, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{way} of {n} records failed:\n{done.stderr[-2000:]}")
    if way.endswith("evaluator"):
        return Taken(**json.loads(done.stdout.splitlines()[-1]))
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(wall=wall, processor=processor, stages=logged(store))


def logged(store: Path) -> dict[str, float]:
    """The stages of the run that began last."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    last = client.search_runs(ids, order_by=["attributes.start_time DESC"], max_results=1)[0]
    return {name: value for name, value in last.data.metrics.items() if name.startswith("processor_seconds/")}


def median(runs: list[Taken]) -> Taken:
    """The medians of several runs, each number by itself."""
    stages = {name: statistics.median(one.stages[name] for one in runs) for name in runs[0].stages}
    return Taken(
        wall=statistics.median(one.wall for one in runs),
        processor=statistics.median(one.processor for one in runs),
        stages=stages,
    )


def measure(sources: dict[str, Path], folder: Path, sizes: tuple[int, ...], quick: bool) -> dict[tuple[str, str, int], Taken]:
    """Run everything, and print a row for each way and size; the sources take turns."""
    from memberscope.clock import Stage

    print(f"| code | way | records | wall s | processor s | {' | '.join(Stage)} |")
    print("| --- " * (5 + len(Stage)) + "|")
    found: dict[tuple[str, str, int], Taken] = {}
    for name, source in sources.items():
        run(source, folder / f"store-{name}", folder / str(sizes[0]), "attack", sizes[0], "none")  # makes the tables
    for n in sizes:
        controls = "full" if n == max(SIZES) else "auto"
        runs: dict[tuple[str, str], list[Taken]] = {(way, name): [] for way in WAYS for name in sources}
        for _ in range(1 if quick else TIMES[n]):  # in turns, since a shared machine is faster in one minute than in the next
            for way, name in runs:
                runs[way, name].append(run(sources[name], folder / f"store-{name}", folder / str(n), way, n, controls))
        for way in WAYS:
            for name in sources:
                taken = found[name, way, n] = median(runs[way, name])
                stages = [taken.stages.get(f"processor_seconds/{stage}") for stage in Stage]
                cells = " | ".join("" if value is None else f"{value:.2f}" for value in stages)
                print(f"| {name} | {way} | {n:,} | {taken.wall:.2f} | {taken.processor:.2f} | {cells} |", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="audit 500 records alone, each way once")
    parser.add_argument("--before", default="", help="an earlier commit to be measured beside this code")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help=f"numbers of records, of {SIZES}")
    arguments = parser.parse_args()
    sizes = SIZES[:1] if arguments.quick else tuple(map(int, arguments.sizes.split(",")))
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for n in sizes:
            (folder / str(n)).mkdir()
            make_data(folder / str(n), n)
        if arguments.before:
            with checked_out(arguments.before) as other:
                found = measure({"before": other, "now": HERE}, folder, sizes, arguments.quick)
        else:
            found = measure({"now": HERE}, folder, sizes, arguments.quick)
    ratios = []
    for n in sizes:
        ours, theirs = found["now", "evaluator", n], found["now", "default evaluator", n]
        print(
            f"evaluator over MLflow's own, {n:,} records: wall {ours.wall / theirs.wall:.2f}, "
            f"processor {ours.processor / theirs.processor:.2f} (target: at most 1.0)"
        )
        ratios.append(min(theirs.wall / ours.wall, theirs.processor / ours.processor))
        if arguments.before:
            share = found["now", "audit", n].processor / found["before", "audit", n].processor
            if n == SIZES[-1]:
                ratios.append(SHARE / share)
            print(f"processor time of an audit over that at {arguments.before}, {n:,} records: {share:.2f}")
    if SIZES[0] in sizes:
        ratios.append(BUDGET / found["now", "audit", SIZES[0]].processor)
    print(last_line("audit", min(ratios), quick=arguments.quick))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
