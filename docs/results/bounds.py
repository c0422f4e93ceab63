"""Measures what docs/results/bounds.md says: lower bounds on epsilon by kind of canary, under DP-SGD at several epsilons and without it.

    python docs/results/bounds.py --folder /tmp/bounds --dataset digits

Each data set, kind of canary, seed and epsilon is one line of FOLDER/results.jsonl; what is there is not measured again, and a stopped run
goes on where it stopped. ``--table`` prints the tables of what is there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from memberscope import metrics
from memberscope.audit.bounds_table import primary_method
from memberscope.audit.request import make_request
from memberscope.config.mitigation import MitigateConfig
from memberscope.interrupt import StopFlag
from memberscope.studies import setup
from memberscope.studies.mitigate import promises, study
from memberscope.studies.mitigate.mitigations import UNDEFENDED, mitigations_of
from memberscope.studies.mitigate.models import train_mitigated

KINDS = ("natural", "mislabelled", "out_of_distribution", "noise", "duplicated")
METHODS = ("one_run", "fdp_one_run", "gaussian_dp", "clopper_pearson")
EPSILONS = (None, 8.0, 4.0, 1.0)  # None: plain training
SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"dataset": "digits", "members": 300, "label_noise": 0.0},
    "location30": {"dataset": "location30", "members": 500, "archive_dir": os.environ.get("MEMBERSCOPE_ARCHIVE_DIR", "")},
}
SHARED: dict[str, Any] = {
    "canaries": 500, "canary_cost": "no", "shadows": 2, "perturbed": 4, "model": "mlp", "depth": 1, "width": 128, "epochs": 40,
    "mitigations": "dp", "delta": 1e-5, "private_batch_size": 100, "private_epochs": 20, "private_learning_rate": 0.01,
}  # fmt: skip


def other_data(dataset: str, folder: Path) -> str:
    """The path of the records that are planted as ``out_of_distribution``, made from another data set on first use.

    For digits, CIFAR-10's first 5,000 images in gray; for Location-30, the scans of digits as bits, which say of 446 random pixels whether
    there is any ink.
    """
    path = folder / f"other_than_{dataset}.npz"
    if path.exists():
        return str(path)
    if dataset == "digits":
        images = setup.load_data(MitigateConfig(dataset="cifar10"), each_once=True)
        x = np.rint(images.x[:5000].mean(axis=-1, keepdims=True)).astype(np.uint8)
        y = images.y[:5000]
    else:
        scans = setup.load_data(MitigateConfig(dataset="digits"), each_once=True)
        pixels = np.random.default_rng(0).permutation(np.prod(scans.shape))[:446]
        x = scans.x.reshape(len(scans), -1)[:, pixels] > 0
        y = scans.y
    np.savez_compressed(path, x=x, y=y)
    return str(path)


def measure(dataset: str, kind: str, seed: int, folder: Path, known: set[tuple[Any, ...]], stop: StopFlag) -> None:
    """Train and audit a seed's models that are not among the `known` results, and append their bounds."""
    wanted = [epsilon for epsilon in EPSILONS if (dataset, kind, seed, epsilon) not in known]
    other = {"canary_data": other_data(dataset, folder)} if wanted and kind == "out_of_distribution" else {}
    request = make_request(attacks=("threshold_loss", "rmia_online"))
    for epsilon in wanted:
        config = MitigateConfig(
            **SHARED | SETTINGS[dataset] | other,
            canary_kind=kind,
            seed=seed,
            target_epsilon=epsilon or 1.0,
            store=str(folder / "store"),
        )
        data = setup.choose_classes(setup.load_data(config, each_once=True), config)
        split = study.prepare(data, config, seed, setup.canary_request(config, config, data))
        trainer = setup.trainer_for(config, config)
        mitigation = {one.name: one for one in mitigations_of(config, trainer)}[UNDEFENDED if epsilon is None else "dp"]
        trained = train_mitigated(mitigation.training, split, trainer, config, stop, shadows=True)
        promise = promises.Promise(delta=float(config.delta), epsilon=epsilon)
        audit = study.audit_mitigation(mitigation, trained, split, request, promise)
        judged = promises.judge([audit], promise)
        assert audit.canaries is not None
        line = {
            "dataset": dataset, "kind": kind, "seed": seed, "epsilon": epsilon, "promised": promises.promised_by([audit]),
            "accuracy": audit.utility["val/accuracy"], "verdict": judged.verdict, "method": judged.method, "bound": judged.bound,
            "rows": [
                {name: getattr(row, name) for name in ("records", "method", "primary", "bound", "ceiling", "n")}
                for row in promises.rows_of(audit, promise)
            ],
            "auc": {
                "ordinary": audit.report.result("rmia_online").figures["auc"].value,
                "canaries": audit.canaries.result("rmia_online").figures["auc"].value,
            },
        }  # fmt: skip
        with (folder / "results.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def results(folder: Path) -> list[dict[str, Any]]:
    """The lines that are there."""
    path = folder / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def interval(values: list[float], digits: int = 2) -> str:
    """The mean of values of several seeds, with its t interval."""
    if not values:
        return ""
    found = metrics.paired_seeds(np.array(values))
    text = f"{found.mean:.{digits}f}"
    return text if found.ci_low is None else f"{text} ({found.ci_low:.{digits}f} to {found.ci_high:.{digits}f})"


def contradicted(line: dict[str, Any], promise: float) -> bool:
    """Whether a training's canaries alone would contradict a promise that it does not keep, by the primary bound."""
    n = next(row["n"] for row in line["rows"] if row["records"] == "canaries")
    method = primary_method(n, delta=float(SHARED["delta"]), promise=promise)
    return any(
        row["bound"] > promise
        for row in line["rows"]
        if (row["method"], row["records"]) == (method, "canaries") and row["bound"]
    )


def name_of(epsilon: float | None) -> str:
    """An epsilon in a table."""
    return "none" if epsilon is None else f"{epsilon:g}"


def tables(lines: list[dict[str, Any]]) -> str:
    """The tables of the page, for the data sets that are there."""
    parts = []
    for dataset in dict.fromkeys(line["dataset"] for line in lines):
        own = [line for line in lines if line["dataset"] == dataset]

        def of(kind: str, epsilon: float | None, own: list[dict[str, Any]] = own) -> dict[int, dict[str, Any]]:
            return {line["seed"]: line for line in own if (line["kind"], line["epsilon"]) == (kind, epsilon)}

        def bound(line: dict[str, Any], method: str, records: str) -> float:
            return next(row["bound"] for row in line["rows"] if (row["method"], row["records"]) == (method, records)) or 0.0

        rows = [
            f"| canaries | promised | seeds | accuracy | AUC, canaries | {' | '.join(METHODS)} | above the promise |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for kind in KINDS:
            for epsilon in EPSILONS:
                here = list(of(kind, epsilon).values())
                if not here:
                    continue
                bounds = {method: [bound(line, method, "canaries") for line in here] for method in METHODS}
                above = sum(value > epsilon for of_method in bounds.values() for value in of_method) if epsilon else None
                cells = [
                    kind, name_of(epsilon), str(len(here)), interval([line["accuracy"] for line in here], 3),
                    interval([line["auc"]["canaries"] for line in here], 3), *[interval(of_method) for of_method in bounds.values()],
                    "" if above is None else f"{above} of {len(METHODS) * len(here)}",
                ]  # fmt: skip
                rows.append(f"| {' | '.join(cells)} |")
        compared = ["| compared | AUC, canaries | fdp_one_run |", "| --- | --- | --- |"]
        pairs = [(kind, a, kind, b) for kind in KINDS for a, b in itertools.pairwise(EPSILONS)]
        pairs += [("mislabelled", epsilon, "natural", epsilon) for epsilon in EPSILONS]
        for kind, epsilon, other, at in pairs:
            one, two = of(kind, epsilon), of(other, at)
            shared = sorted(one.keys() & two.keys())
            if shared:
                aucs = [one[seed]["auc"]["canaries"] - two[seed]["auc"]["canaries"] for seed in shared]
                of_bounds = [
                    bound(one[s], "fdp_one_run", "canaries") - bound(two[s], "fdp_one_run", "canaries") for s in shared
                ]
                what = (
                    f"{kind}: {name_of(epsilon)} - {name_of(at)}" if kind == other else f"{kind} - {other}, {name_of(epsilon)}"
                )
                compared.append(f"| {what} | {interval(aucs, 3)} | {interval(of_bounds)} |")
        broken = ["| canaries | promised 1 | promised 4 | promised 8 |", "| --- | --- | --- | --- |"]
        for kind in KINDS[:-1]:  # copies say nothing about a promise for one record
            plain = list(of(kind, None).values())
            found = [sum(contradicted(line, promise) for line in plain) for promise in (1.0, 4.0, 8.0)]
            broken.append(f"| {kind} | {' | '.join(f'{count} of {len(plain)}' for count in found)} |")
        verdicts = sorted({(line["verdict"], name_of(line["epsilon"])) for line in own})
        counted = ", ".join(
            f"{name} {verdict} {sum(line['verdict'] == verdict and name_of(line['epsilon']) == name for line in own)}"
            for verdict, name in verdicts
        )
        parts.append("\n".join([f"## {dataset}", "", *rows, "", *compared, "", *broken, "", f"Verdicts: {counted}"]))
    return "\n\n".join(parts)


def main() -> None:
    """Measure what is missing, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dataset", choices=tuple(SETTINGS), default="digits")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if not given.table:
        with StopFlag() as stop:
            for seed in range(given.seeds):
                for kind in given.kinds:
                    lines = results(given.folder)
                    known = {(one["dataset"], one["kind"], one["seed"], one["epsilon"]) for one in lines}
                    measure(given.dataset, kind, seed, given.folder, known, stop)
    print(tables(results(given.folder)))


if __name__ == "__main__":
    main()
