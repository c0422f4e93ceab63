"""Which records a fleet exposes: measures every record of a shadow study, and compares attacks by the records that they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.attacks.base import Attack, Skip
from memberscope.checks import BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.exposure.agreement import agreement, coverage_and_stability
from memberscope.exposure.detection import Detection, passes
from memberscope.exposure.ensemble import Ensemble, ensemble
from memberscope.exposure.relations import neighbours, rank_correlations, related
from memberscope.exposure.table import RATES, SIGNAL, Exposure, answers, measure
from memberscope.interrupt import StopFlag
from memberscope.plans.shadow import ShadowPlan
from memberscope.predictions import ShadowPredictions
from memberscope.progress import Progress
from memberscope.studies.shadow.evidence import FleetOutputs

if TYPE_CHECKING:
    import pandas as pd

REPETITIONS = 2  # of each attack, with shadows that share no model


@dataclass(kw_only=True)
class RotatedScores:
    """The scores of attacks under each target in turn, collected while the targets are attacked with growing numbers of shadows.

    Attributes:
        plan: whose targets they are.
        scores: attack -> target -> (m,) scores of the audited records with all shadows, or without any if the attack uses none.
        half: the same with the first half of the shadows, for the attacks that were run with as many.
    """

    plan: ShadowPlan
    scores: dict[str, dict[int, FloatArray]] = field(default_factory=dict)
    half: dict[str, dict[int, FloatArray]] = field(default_factory=dict)

    def keep(self, target: int, attack: str, shadows: int, scores: FloatArray) -> None:
        """Take one attack's scores under one target, with the first `shadows` of its shadows."""
        pool = self.plan.shadows_of(target)
        if shadows in (0, len(pool)):
            self.scores.setdefault(attack, {})[target] = scores
        elif any(np.array_equal(half, pool[:shadows]) for half in halves(self.plan, target)[:1]):
            self.half.setdefault(attack, {})[target] = scores

    def arrays(self) -> dict[str, FloatArray]:
        """Attack -> (targets, m), of the attacks that ran on every target."""
        return {
            attack: np.stack([by_target[target] for target in self.plan.targets.tolist()])
            for attack, by_target in self.scores.items()
            if len(by_target) == len(self.plan.targets)
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Everything that is logged.

    Attributes:
        exposure: the measures of every record.
        ensembles: one for each false positive rate.
        summary: a row for each attack, rate and kind of threshold: see `summary_table`.
        correlations: see `memberscope.exposure.relations.rank_correlations`.
        groups: see `memberscope.exposure.relations.related`.
        pairs: see `memberscope.exposure.agreement.agreement`.
        sets: see `memberscope.exposure.agreement.coverage_and_stability`.
        notes: what could not be measured, and why.
    """

    exposure: Exposure
    ensembles: tuple[Ensemble, ...]
    summary: pd.DataFrame
    correlations: pd.DataFrame
    groups: pd.DataFrame
    pairs: pd.DataFrame
    sets: pd.DataFrame
    notes: tuple[str, ...]


def measure_fleet(
    outputs: FleetOutputs,
    rotated: RotatedScores,
    attacks: Sequence[Attack],
    *,
    seed: int,
    stop: StopFlag,
    replaced: BoolArray | None = None,
    rates: Sequence[float] = RATES,
) -> Found:
    """Measure the exposure of every audited record, and which records each attack finds.

    In design ``half``, all models tell of every record. In ``disjoint``, the targets do: shadows share none of their records.

    Args:
        outputs: the outputs of all models.
        rotated: the scores of the attacks under each target.
        attacks: the attacks that were rotated; those that use shadows are repeated with halves of them.
        seed: of every draw.
        stop: checked between steps.
        replaced: (records of the data set,) bool, whether label noise replaced the label; None where unknown.
        rates: false positive rates of detection.
    """
    plan, data = outputs.plan, outputs.data
    own = plan.audited
    models = np.arange(plan.n_models) if plan.design == "half" else plan.targets
    records = plan.records[own]
    labels, member = data.y[records], plan.member[np.ix_(models, own)]
    known = outputs.outputs if plan.design == "half" else outputs.outputs[models][:, own]
    given = ShadowPredictions(**outputs.named(known), labels=labels, member=member)
    phi, correct = answers(given)
    stop.check()
    scores, targets = rotated.arrays(), plan.member[np.ix_(plan.targets, own)]
    exposure = measure(
        member=member, scaled_logits=phi, correct=correct, labels=labels, record_ids=records, scores=scores, targets=targets, rates=rates,
        seed=seed,
    )  # fmt: skip
    notes: list[str] = []
    if outputs.known_inputs:
        try:
            exposure = exposure.with_columns(**neighbours(data.inputs(records), labels, seed=seed))
        except UserError as error:
            notes.append(f"Density of the records: not measured, {error}.")
    stop.check()
    repeated = repeat(outputs, attacks, rotated, seed=seed, stop=stop)
    pairs, sets = [], []
    for fpr in rates:
        once = {attack: passes(of_targets, targets, fpr=fpr) for attack, of_targets in scores.items()}
        again = {
            attack: np.stack([passes(one, targets, fpr=fpr) for one in repeated[attack]]) if attack in repeated else found[None]
            for attack, found in once.items()
        }
        sets.append(coverage_and_stability(again, targets, fpr=fpr))
        pairs.append(agreement({attack: np.stack([found]) for attack, found in once.items()}, targets, fpr=fpr))
        several = {attack: found for attack, found in again.items() if len(found) > 1}
        of_sets = agreement(several, targets, fpr=fpr)
        pairs.append(of_sets[of_sets["set"] != "one"])
    import pandas as pd

    main = _main_values(exposure, rates[0])
    return Found(
        exposure=exposure, ensembles=tuple(ensemble(scores, targets, fpr=fpr, seed=seed) for fpr in rates),
        summary=summary_table(exposure.detections), correlations=rank_correlations(main),
        groups=related(main, labels=labels, noisy=None if replaced is None else replaced[records]),
        pairs=pd.concat(pairs, ignore_index=True), sets=pd.concat(sets, ignore_index=True), notes=tuple(notes),
    )  # fmt: skip


def repeat(
    outputs: FleetOutputs, attacks: Sequence[Attack], rotated: RotatedScores, *, seed: int, stop: StopFlag
) -> dict[str, NDArray[np.float64]]:
    """Each attack's scores with each of two halves of the shadows: attack -> (repetitions, targets, m).

    The halves share no model and no complementary pair, and each has a seed of its own. What was already scored while the targets were
    attacked is not scored again. Attacks that were skipped under a target are
    left out, and all are where a half would have no shadow, or no pair of them.
    """
    plan = outputs.plan
    found: dict[str, list[list[FloatArray]]] = {}
    targets = plan.targets.tolist()
    with Progress(len(targets) * REPETITIONS, "repeating attacks with half of the shadows", unit="turn") as progress:
        for target in targets:
            for number, shadows in enumerate(halves(plan, target)):
                evidence = outputs.evidence(target, shadows)
                for attack in attacks:
                    stop.check()
                    known = rotated.half.get(attack.name, {}).get(target) if number == 0 else None
                    if known is not None:
                        found.setdefault(attack.name, [[] for _ in range(REPETITIONS)])[number].append(known)
                        continue
                    result = attack.score(evidence, seed=seeds.integer(seed, "exposure", "repetition", number))
                    if not isinstance(result, Skip):
                        found.setdefault(attack.name, [[] for _ in range(REPETITIONS)])[number].append(result.scores)
                progress.advance()
    whole = {name for name, repetitions in found.items() if all(len(one) == len(targets) for one in repetitions)}
    return {name: np.array(found[name]) for name in found if name in whole}


def halves(plan: ShadowPlan, target: int) -> list[NDArray[np.intp]]:
    """Two halves of a target's shadows, in whole pairs if they come in pairs; none if there are fewer than two units."""
    pool = plan.shadows_of(target)
    unit = pool // 2 if plan.design == "half" else pool
    units = np.unique(unit)
    size = len(units) // REPETITIONS
    return [pool[np.isin(unit, units[size * k : size * (k + 1)])] for k in range(REPETITIONS)] if size else []


def _main_values(exposure: Exposure, fpr: float) -> dict[str, FloatArray]:
    """The measures whose relations are shown: at one rate, each attack at pooled thresholds, and the scaled logit at records' own."""
    shown = {one.name for one in exposure.detections if one.fpr == fpr and (one.at == "pooled" or one.attack == SIGNAL)}
    other = {one.name for one in exposure.detections} - shown
    return {name: values for name, values in exposure.values().items() if name not in other and not np.isnan(values).all()}


def summary_table(detections: Sequence[Detection]) -> pd.DataFrame:
    """How many members each attack finds.

    Returns:
        Columns attack, at, fpr, threshold; found, expected, members: means over targets; targets; false_rate; accused_twice and
        accused_twice_by_chance, of pooled thresholds (see `Detection`); records: those that have a rate; reason: of the first that has
        none.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for one in detections:
        usable = one.reason == ""
        targets = int((one.targets_in + one.targets_out).max(initial=0))
        members = one.targets_in[usable].sum() / max(targets, 1)
        rows.append(
            {
                "attack": one.attack, "at": one.at, "fpr": one.fpr, "threshold": one.threshold,
                "found": one.found[usable].sum() / max(targets, 1), "expected": one.fpr * members, "members": members, "targets": targets,
                "false_rate": one.false_rate, "accused_twice": one.accused_twice if one.at == "pooled" else None,
                "accused_twice_by_chance": one.accused_twice_by_chance if one.at == "pooled" else None,
                "records": int(usable.sum()), "reason": "" if usable.all() else one.reason[~usable][0],
            }
        )  # fmt: skip
    columns = [
        "attack", "at", "fpr", "threshold", "found", "expected", "members", "targets", "false_rate", "accused_twice",
        "accused_twice_by_chance", "records", "reason",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)
