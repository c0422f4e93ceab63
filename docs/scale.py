"""Measures and fits the cost of an audit as a function of its size, for the table in docs/scale.md. It takes about two minutes of one core.

python docs/scale.py

Costs are processor seconds, so that other work on the machine has little effect. A line, a + b x, is fitted to each series by least
squares, and its largest relative deviation is printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from memberscope import AuditReport, Evidence, Predictions, ShadowPredictions, run_audit

CLASSES = 10
POPULATION = 2_000


def predictions(records: int, *, classes: int = CLASSES) -> Predictions:
    """Outputs like those of a leaking model: the logit of the label is larger on members."""
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, classes, records), np.arange(records) < records // 2
    logits = rng.normal(size=(records, classes)).astype(np.float32)
    logits[np.arange(records), labels] += np.where(member, 3.0, 2.0)
    return Predictions(logits=logits, labels=labels, member=member, record_ids=np.arange(records))


def with_shadows(records: int, shadows: int) -> Evidence:
    """The same target with shadows, each of which was trained on half of the records."""
    target, rng = predictions(records), np.random.default_rng(1)
    half = np.argsort(rng.random((shadows // 2, records)), axis=1) < records // 2
    member = np.concatenate([half, ~half])
    logits = rng.normal(size=(shadows, records, CLASSES)).astype(np.float32)
    logits[:, np.arange(records), target.labels] += np.where(member, 3.0, 2.0)
    others = rng.integers(0, CLASSES, POPULATION)
    outside = rng.normal(size=(1 + shadows, POPULATION, CLASSES)).astype(np.float32)
    outside[:, np.arange(POPULATION), others] += 2.0
    return Evidence(
        target=target,
        shadows=ShadowPredictions(logits=logits, labels=target.labels, member=member, record_ids=target.record_ids),
        population=ShadowPredictions(logits=outside, labels=others, member=np.zeros((1 + shadows, POPULATION), dtype=np.bool_)),
    )


def seconds(call: Callable[[], AuditReport]) -> float:
    """Processor seconds of an audit; RuntimeError if an attack was skipped, since it would cost nothing."""
    start = time.process_time()
    report = call()
    spent = time.process_time() - start
    for result in report.results:
        if result.status != "ok":
            raise RuntimeError(f"{result.attack} did not run: {result.reason}")
    return spent


def fit(name: str, unit: str, sizes: Sequence[int], found: Sequence[float]) -> None:
    """Print a series and its fitted line."""
    slope, constant = np.polyfit(sizes, found, 1)
    deviation = max(abs(constant + slope * size - cost) / cost for size, cost in zip(sizes, found, strict=True))
    series = ", ".join(f"{size:,}: {cost:.2f}" for size, cost in zip(sizes, found, strict=True))
    print(f"| {name} | {series} | {constant:.2f} + {slope * 1e5:.2f} per 100,000 {unit} | {deviation:.0%} |", flush=True)


def main() -> None:
    """Measure and fit all series."""
    run_audit(predictions(2_000), attacks="tfp", slices=("entire",))  # imports are not counted
    run_audit(with_shadows(500, 4), attacks="lira_online,rmia_online", slices=("entire",))
    print("| what | measured, processor s | fit, s | largest miss |\n| --- | --- | --- | --- |")
    sizes = (60_000, 120_000, 240_000)  # trained attacks are fitted on at most 20,000 records: with more, only scoring grows
    for attacks in ("threshold_loss", "trained_lr", "trained_mlp", "trained_rf", "trained_knn"):
        found = [
            seconds(lambda n=n, attacks=attacks: run_audit(predictions(n), attacks=attacks, slices=("entire",))) for n in sizes
        ]
        fit(f"`{attacks}`", "records", sizes, found)
    pairs = ((5_000, 16), (10_000, 32), (20_000, 64))
    products = [records * shadows for records, shadows in pairs]
    for attack in ("lira_online", "rmia_online"):
        found = [
            seconds(lambda pair=pair, attack=attack: run_audit(with_shadows(*pair), attacks=attack, slices=("entire",)))
            for pair in pairs
        ]
        fit(f"`{attack}`", "records x shadows", products, found)


if __name__ == "__main__":
    main()
