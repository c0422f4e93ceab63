"""Compares measures of the loss trace, which need no shadow model, with LiRA: do they rank highest the members that LiRA finds?

python benchmarks/trace_against_lira.py                        digits and location30, 64 shadows, 8 targets; an hour on two cores
python benchmarks/trace_against_lira.py --shadows 16 --dataset digits
python benchmarks/trace_against_lira.py --quick                digits, 8 shadows, 2 targets; under a minute

Each target is trained once more than the fleet, with its losses on all records after each epoch. LiRA (online) finds members at a false
positive rate of .001 over the target's non-members. Precision at k and recall are those of the 1% of members that a measure ranks highest
(see `memberscope.exposure.trace_scores`). Published beside it, for a Wide ResNet on CIFAR-10 and 256 shadows: a precision of .920 for
LT-IQR and of .208 for the final loss (Pollock et al. 2024).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

import numpy as np

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

STRIDES = (5, 10)  # epochs from one row of a trace to the next
PUBLISHED = {"final": 0.208, "lt_iqr": 0.920}


def traced(data, trainer, members, seed, index):
    """The logits (n, classes) of a model for the records at `index`, and their losses (n, epochs) after each epoch."""
    from memberscope.studies.loss_trace import losses_at
    from memberscope.training.trainer import TrainingJob

    model = trainer.begin(TrainingJob(data=data, indices=members, seed=seed))
    found = []

    def after_epoch(epoch: int) -> None:
        if epoch:
            found.append(losses_at(model.outputs, data, index))

    model.fit(after_epoch=after_epoch, between_steps=lambda done: None)
    return model.outputs(index), np.stack(found, axis=1)


def compared(config) -> list:
    """For each target, its `Agreement`s: of the measures, of minus the final and the mean loss, and of LT-IQR of fewer epochs."""
    from memberscope.attacks import registry
    from memberscope.exposure.trace_scores import MEASURES, agreement, compare_trace
    from memberscope.interrupt import StopFlag
    from memberscope.studies import setup
    from memberscope.studies.shadow import draw
    from memberscope.studies.shadow.evidence import query_fleet

    data = setup.choose_classes(setup.load_data(config, each_once=True), config)
    plan, trainer, stop = draw.plan_for(data, config), setup.trainer_for(config, config), StopFlag()
    _, data = draw.with_noise(data, plan, config)
    seeds = draw.model_seeds(plan, config.seed)
    trainer.prepare_process()
    fleet = setup.train_fleet(trainer, data, [plan.members(model) for model in range(plan.n_models)], seeds, config, stop)
    outputs = query_fleet(data, plan, fleet, copies=1, stop=stop)
    found = []
    for target in map(int, plan.targets):
        logits, losses = traced(data, trainer, plan.members(target), seeds[target], plan.records[plan.audited])
        evidence = outputs.evidence(target)
        evidence = dataclasses.replace(evidence, target=dataclasses.replace(evidence.target, logits=logits))
        lira = registry.get("lira_online").score(evidence, seed=config.seed)
        member = evidence.target.member
        of_target = compare_trace(losses, lira.scores, member)
        others = {f"minus {name}": -MEASURES[name](losses) for name in ("final", "mean")}
        others |= {f"lt_iqr of every {every}th": MEASURES["lt_iqr"](losses[:, every - 1 :: every]) for every in STRIDES}
        of_target += [agreement(values, lira.scores, member, measure=name) for name, values in others.items()]
        found.append(of_target)
    return found


def show(dataset: str, shadows: int, found: list) -> dict[str, float]:
    """Print a table of means over targets, with the smallest and the largest in parentheses; returns the precisions."""
    first = found[0][0]
    print(
        f"\n{dataset}: {shadows} shadows, {len(found)} targets of {first.members} members, of whom the highest {first.k} count"
    )
    print(f"LiRA finds {np.mean([of[0].found for of in found]):.1f} members a target: random ranks have a precision of "
          f"{np.mean([of[0].chance for of in found]):.3f}")  # fmt: skip
    print(f"{'measure':20} {'precision at 1%':22} {'recall':22} {'rank correlation':24} published precision")
    precisions = {}
    for place, one in enumerate(found[0]):
        row = [of[place] for of in found]
        cells = []
        for values in ([a.precision for a in row], [a.recall for a in row], [a.rank_correlation for a in row]):
            known = np.array(values)[np.isfinite(values)]
            cells.append(f"{known.mean():.3f} ({known.min():.3f} to {known.max():.3f})" if len(known) else "-")
        precisions[one.measure] = float(np.mean([a.precision for a in row]))
        published = f"{PUBLISHED[one.measure]:.3f}" if one.measure in PUBLISHED else "-"
        print(f"{one.measure:20} {cells[0]:22} {cells[1]:22} {cells[2]:24} {published}")
    return precisions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits,location30", help="data sets, separated by commas")
    parser.add_argument("--shadows", type=int, default=64)
    parser.add_argument("--targets", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--store", default="none", help="folder in which trained models are kept")
    parser.add_argument("--quick", action="store_true", help="digits alone, 8 shadows, 2 targets")
    asked = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if asked.quick:
        asked.dataset, asked.shadows, asked.targets, asked.epochs = "digits", 8, 2, 20
    from memberscope.config.outside import ShadowStudyConfig

    ratio = 0.0
    for dataset in asked.dataset.split(","):
        config = ShadowStudyConfig(
            dataset=dataset, shadows=asked.shadows, targets=asked.targets, epochs=asked.epochs, store=asked.store
        )
        precisions = show(dataset, asked.shadows, compared(config))
        ratio = ratio or precisions["lt_iqr"] / max(precisions["final"], 1e-9)
    line = last_line("trace_against_lira", ratio, quick=asked.quick)
    print(f"{line}, precision of LT-IQR by that of the final loss on {asked.dataset.split(',')[0]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
