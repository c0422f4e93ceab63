"""How faithful must a shadow be? The same attacks are run with shadows that resemble the target less and less, from the target as its own
shadow (the position of threshold attacks) to models of another architecture and models trained on random records.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics, queries, seeds
from memberscope.attacks import registry
from memberscope.attacks.base import Skip
from memberscope.audit.groups import counted
from memberscope.datasets import LabeledData
from memberscope.evidence import Evidence
from memberscope.plans.split import Index
from memberscope.predictions import ShadowPredictions
from memberscope.studies.forms import named
from memberscope.studies.shadow.evidence import FleetOutputs, can_be_perturbed
from memberscope.studies.shadow.rotation import point_figures
from memberscope.training.trainer import DataFacts

if TYPE_CHECKING:
    import pandas as pd

    from memberscope.training.trainer import Fleet, Trainer

SHADOWS = 8
ATTACKS = ("metric_modified_entropy", "shadow_shokri", "lira_offline", "rmia_offline")
FIGURES = ("balanced_accuracy", "auc", "tpr_at_fpr_0_01")
BASE = "same recipe, same pool"
Train = Callable[[LabeledData, Sequence[Index], "Trainer", Sequence[int], str, Sequence[Index]], "Fleet"]
"""Trains models on index sets: data, index sets, trainer, seeds, name, and the index sets of all queries that will be made."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way in which shadows differ from the target.

    Attributes:
        name: its name in the table.
        trainer: trains the shadows.
        data: the records that they are trained on; None for the targets' own pool, with the plan's own membership.
        shadows: number of shadows that the attacks use.
    """

    name: str
    trainer: Trainer
    data: LabeledData | None = None
    shadows: int = SHADOWS


def variants(outputs: FleetOutputs, trainer: Trainer, *, seed: int) -> list[Variant]:
    """The variants to try: fewer shadows, other depths, another width, another architecture; other, noisy and shuffled records.

    Records that replace the pool are as many as the pool holds, so that shadows have as many members as the target (other records may be
    fewer, and the variant's name states their number). In a disjoint plan they come from the shadows' own pool, never from the targets'
    records.
    """
    data, plan = outputs.data, outputs.plan
    found = [Variant(name=BASE, trainer=trainer), Variant(name="two shadows", trainer=trainer, shadows=2)]
    facts = DataFacts(shape=data.shape, classes=data.classes, table=data.table)
    found += [Variant(name=name, trainer=other) for name, other in trainer.variants(facts)]
    own = plan.records if plan.design == "half" else plan.records[~plan.block]  # the pool of the shadows
    outside = np.setdiff1d(np.arange(len(data)), plan.records)
    if len(outside) >= 40:
        # At most as many as the pool holds: otherwise the shadows would differ in their number of members, too.
        outside = seeds.stream(seed, "fidelity", "outside").permutation(outside)[: len(own)]
        part = data.part(outside)
        found.append(Variant(name=f"other records ({len(outside)})", trainer=trainer, data=part))
    pool = data.part(own)
    if can_be_perturbed(pool):
        noisy = queries.perturbed(pool.x, bit_rate=0.1, noise_scale=0.2, rng=seeds.stream(seed, "perturb", 3))
        found.append(Variant(name="noisy records", trainer=trainer, data=dataclasses.replace(pool, x=noisy)))
    junk = seeds.stream(seed, "fidelity", "junk").permuted(pool.x.reshape(len(pool), -1), axis=0).reshape(pool.x.shape)
    found.append(Variant(name="shuffled features", trainer=trainer, data=dataclasses.replace(pool, x=junk)))
    return found


def measure(outputs: FleetOutputs, trainer: Trainer, train: Train, *, seed: int, workers: int | None = None) -> pd.DataFrame:
    """Train each variant's shadows and attack every target with them.

    Returns:
        Columns variant, attack, figure (the metric), mean, ci_low, ci_high (t over targets), difference, difference_ci_low,
        difference_ci_high (paired with `BASE`), targets. The balanced accuracy is that of the attack's own decisions.
    """
    import pandas as pd

    frames = [_of_evidence("the target itself", own_shadow(outputs), seed=seed, workers=workers)]
    trained: dict[tuple[str, str], Any] = {}
    for variant in variants(outputs, trainer, seed=seed):
        key = (
            json.dumps(dict(variant.trainer.signature()), sort_keys=True),
            variant.data.digest if variant.data is not None else "",
        )
        if key not in trained:
            trained[key] = _shadows(outputs, variant, train, seed=seed)
        frames.append(_of_evidence(variant.name, trained[key](variant.shadows), seed=seed, workers=workers))
    return summarize(pd.concat(frames, ignore_index=True))


def own_shadow(outputs: FleetOutputs) -> dict[int, Evidence]:
    """The evidence against each target if it is its own and only shadow: the attacker knows the members.

    The shadow has no record ids: an attack that compares a record with itself under a model whose members it knows would be given the
    answer.
    """
    found = {}
    for target in outputs.plan.targets.tolist():
        evidence = outputs.evidence(target)
        own = evidence.target
        scores = own.logits if own.logits is not None else own.probs
        assert scores is not None
        shadow = ShadowPredictions(**outputs.named(scores[None]), labels=own.labels, member=own.member[None])
        found[target] = Evidence(target=own, shadows=shadow)
    return found


def _shadows(outputs: FleetOutputs, variant: Variant, train: Train, *, seed: int) -> Callable[[int], dict[int, Evidence]]:
    """Train a variant's models; the returned function maps a number of shadows to every target's evidence with that many of them."""
    plan = outputs.plan
    targets = plan.targets.tolist()
    if variant.data is None:
        shadows = sorted(
            {int(model) for target in targets[:1] for model in plan.shadows_of(target)[:SHADOWS]} | _twins(outputs)
        )
        model_seeds = [seeds.integer(seed, "fidelity", variant.name, model) for model in shadows]
        asked = [plan.records, plan.population]
        members = [plan.members(model) for model in shadows]
        fleet = train(outputs.data, members, variant.trainer, model_seeds, variant.name, asked)
        logits = fleet.outputs(outputs.data.x[plan.records])
        population = fleet.outputs(outputs.data.x[plan.population])  # empty if every record is in the plan

        def on_pool(count: int) -> dict[int, Evidence]:
            found = {}
            for target in targets:
                allowed = set(plan.shadows_of(target).tolist())
                rows = [place for place, model in enumerate(shadows) if model in allowed][:count]
                evidence = outputs.evidence(target, [shadows[place] for place in rows])
                assert evidence.shadows is not None
                outside = evidence.population and dataclasses.replace(
                    evidence.population, **outputs.named(np.concatenate([outputs.population[[target]], population[rows]]))
                )
                found[target] = dataclasses.replace(
                    evidence,
                    augmented=None,
                    shadows=dataclasses.replace(evidence.shadows, **outputs.named(logits[rows])),
                    population=outside,
                )
            return found

        return on_pool
    data = variant.data
    rng = seeds.stream(seed, "fidelity", variant.name)
    half = len(data) // 2
    first = [rng.permutation(len(data))[: 2 * half] for _ in range(SHADOWS // 2)]
    sides = [side for order in first for side in (np.sort(order[:half]), np.sort(order[half:]))]
    own = [seeds.integer(seed, "fidelity", variant.name, k) for k in range(SHADOWS)]
    fleet = train(data, sides, variant.trainer, own, variant.name, [np.arange(len(data))])
    logits, member = fleet.outputs(data.x), np.zeros((SHADOWS, len(data)), dtype=np.bool_)
    for row, side in zip(member, sides, strict=True):
        row[side] = True

    def elsewhere(count: int) -> dict[int, Evidence]:
        shadows = ShadowPredictions(**named(fleet.form, logits[:count]), labels=data.y, member=member[:count])
        return {target: Evidence(target=outputs.evidence(target).target, shadows=shadows) for target in targets}

    return elsewhere


def _twins(outputs: FleetOutputs) -> set[int]:
    """The first target and its twin, which later targets may use, so that these have as many shadows as the first."""
    first = int(outputs.plan.targets[0])
    return {first, first ^ 1} if outputs.plan.design == "half" else set()


def _of_evidence(variant: str, evidence: dict[int, Evidence], *, seed: int, workers: int | None) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for target, known in evidence.items():
        for name in ATTACKS:
            result = registry.get(name).score(known, seed=seed, workers=workers)
            if isinstance(result, Skip):
                continue
            member = known.target.member
            figures = point_figures(*counted(result.scores, known.target))
            if result.decisions is not None:
                figures["balanced_accuracy"] = _balanced(result.decisions, member)
            rows += [
                {"variant": variant, "target": target, "attack": name, "figure": figure, "value": figures[figure]}
                for figure in FIGURES
                if figure in figures
            ]
    return pd.DataFrame(rows, columns=["variant", "target", "attack", "figure", "value"])


def _balanced(decisions: NDArray[np.bool_], member: NDArray[np.bool_]) -> float:
    return float((decisions[member].mean() + 1.0 - decisions[~member].mean()) / 2)


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over targets, and paired differences from `BASE`; see `measure`."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    wide = frame.pivot_table(index=["attack", "figure", "target"], columns="variant", values="value", sort=False)
    for (attack, figure), part in wide.groupby(level=["attack", "figure"], sort=False):
        for variant in frame["variant"].unique():
            values = part[variant].dropna()
            if not len(values):
                continue
            mean = metrics.paired_seeds(values.to_numpy())
            row = {
                "variant": variant, "attack": attack, "figure": figure, "mean": mean.mean, "ci_low": mean.ci_low, "ci_high": mean.ci_high,
                "targets": mean.n_seeds,
            }  # fmt: skip
            against = (part[variant] - part[BASE]).dropna()
            if variant != BASE and len(against):
                gap = metrics.paired_seeds(against.to_numpy())
                row |= {"difference": gap.mean, "difference_ci_low": gap.ci_low, "difference_ci_high": gap.ci_high}
            rows.append(row)
    columns = [
        "variant", "attack", "figure", "mean", "ci_low", "ci_high", "difference", "difference_ci_low", "difference_ci_high", "targets",
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=columns)
