"""The canaries of one model: their audit, with or without the same model trained without them, and what planting them cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope.audit.canaries import (
    ALONE,
    DELTA,
    WITH_REFERENCE,
    CanaryCost,
    audit_canaries,
    canary_words,
    cost_of,
    log_bounds_of_canaries,
    log_canaries,
)
from memberscope.audit.report import AuditReport
from memberscope.evidence import Evidence
from memberscope.plans.canaries import Canaries, TargetCanaries
from memberscope.plans.split import Index
from memberscope.plans.target import Prepared
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.studies.forms import named
from memberscope.tracking import Tracker
from memberscope.training.trainer import Form

Predict = Callable[[Index], Any]


@dataclass(frozen=True, kw_only=True)
class CanaryResult:
    """What the canaries of a model showed.

    Attributes:
        report: their audit.
        cost: what they cost the model; None if it was not trained without them.
        planted: what was planted.
    """

    report: AuditReport
    cost: CanaryCost | None
    planted: Canaries

    @property
    def words(self) -> str:
        """A sentence or two."""
        return canary_words(self.report, kind=self.planted.kind, copies=self.planted.copies, cost=self.cost)

    @property
    def figures(self) -> dict[str, float]:
        """The metrics of a sweep's trial: ``canary_auc`` of the primary attack, and the bound and the cost where there are any."""
        primary = self.report.result(self.report.primary)
        wanted = {"canary_auc": "auc", "canary_epsilon_lower_bound": "epsilon_lower_bound"}
        found = {key: primary.figures[name] for key, name in wanted.items() if name in primary.figures}
        cost = {} if self.cost is None else {"canary_accuracy_cost": self.cost.accuracy.cost}
        return {key: one.value for key, one in found.items() if one.status != "skipped"} | cost

    def log(self, tracker: Tracker, *, step: int) -> None:
        """Log metrics and tables."""
        log_canaries(self.report, tracker, step=step, cost=self.cost)
        log_bounds_of_canaries(self.report, tracker, step=step, one_record=self.planted.tests_one_record)


def audit(
    prepared: Prepared, canaries: TargetCanaries, model: tuple[Form, Predict], *, without: tuple[Form, Predict] | None, seed: int,
    part: slice = slice(None), delta: float = DELTA, promise: float | None = None,
) -> CanaryResult:  # fmt: skip
    """Audit the canaries of a trained model.

    Args:
        prepared: the data and the plan.
        canaries: the canaries of `prepared`.
        model: the form of the model's outputs, and what returns them for positions in `Prepared.trained_data`.
        without: the same of the model that was trained without them, if it was.
        seed: the seed of the audit's random draws.
        part: the canaries to audit, all by default.
        delta: the delta of the bounds of epsilon.
        promise: the epsilon that the training promised for one record, if any.
    """
    rows, planted = canaries.planted.rows, canaries.planted.canaries
    rows = rows[part]
    target = _of_canaries(model, canaries, part)
    if without is None:
        report = audit_canaries(Evidence(target=target), attacks=ALONE, seed=seed, delta=delta, promise=promise)
        return CanaryResult(report=report, cost=None, planted=planted)
    unseen = unseen_records(prepared)
    models = (model, without)
    population = _side_by_side(models, unseen, labels=prepared.data.y[unseen])
    evidence = Evidence(
        target=target,
        shadows=ShadowPredictions(
            **named(without[0], np.asarray(without[1](rows))[None]), labels=target.labels, member=np.zeros((1, len(rows)), dtype=np.bool_),
            record_ids=target.record_ids,
        ),
        population=population,
    )  # fmt: skip
    report = audit_canaries(evidence, attacks=WITH_REFERENCE, seed=seed, delta=delta, promise=promise)
    index = np.concatenate([prepared.plan.members, unseen])
    cost = cost_of(*(_of(one, prepared, index) for one in models), audited=np.isin(index, prepared.plan.audited))
    return CanaryResult(report=report, cost=cost, planted=planted)


def unseen_records(prepared: Prepared) -> Index:
    """Positions of the plan's records that the model was not trained on: non-members, and those for validation."""
    plan = prepared.plan
    return plan.nonmembers if plan.validation_is_nonmembers else np.concatenate([plan.nonmembers, plan.validation])


def _of_canaries(model: tuple[Form, Predict], canaries: TargetCanaries, part: slice) -> Predictions:
    form, predict = model
    rows = canaries.planted.rows[part]
    return Predictions(
        **named(form, predict(rows)), labels=canaries.planted.canaries.y[part], member=canaries.member[part], record_ids=rows
    )


def _of(model: tuple[Form, Predict], prepared: Prepared, index: Index) -> Predictions:
    form, predict = model
    return Predictions(
        **named(form, predict(index)), labels=prepared.data.y[index], member=np.isin(index, prepared.plan.members),
        groups=prepared.data.groups_of(index),
    )  # fmt: skip


def _side_by_side(models: tuple[tuple[Form, Predict], ...], index: Index, *, labels: Any) -> ShadowPredictions:
    """The outputs of several models of one trainer for records that none was trained on, the target's first."""
    form = models[0][0]
    outputs = np.stack([np.asarray(predict(index)) for _, predict in models])
    return ShadowPredictions(**named(form, outputs), labels=labels, member=np.zeros(outputs.shape[:2], dtype=np.bool_))
