"""The canaries of a shadow study: their outputs under every model, their audit, and what planting them cost the first target."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.attacks import registry
from memberscope.audit.canaries import LEAST_SIDE, CanaryCost, canary_words, cost_of
from memberscope.audit.headline import AUTO
from memberscope.audit.report import AuditReport
from memberscope.audit.request import AuditRequest, make_request
from memberscope.audit.run import run_audit
from memberscope.config.outside import ShadowStudyConfig
from memberscope.datasets import LabeledData
from memberscope.interrupt import StopFlag
from memberscope.plans.canaries import CanaryRequest
from memberscope.plans.shadow import ShadowPlan
from memberscope.predictions import Predictions
from memberscope.studies import setup
from memberscope.studies.fleet_canaries import FleetCanaries, draw_for, plant_in_fleet
from memberscope.studies.forms import named
from memberscope.studies.shadow.draw import model_seeds
from memberscope.studies.shadow.evidence import FleetOutputs
from memberscope.training.query import Query
from memberscope.training.trainer import Trainer

ASKED = frozenset({"target", "shadows", "population"})  # the evidence on canaries


@dataclass(frozen=True, kw_only=True, eq=False)
class CanaryAudit:
    """What the canaries of the first target showed.

    Attributes:
        report: their audit.
        planted: what was planted.
        cost: what that cost the target; None if it was not trained without them.
    """

    report: AuditReport
    planted: FleetCanaries
    cost: CanaryCost | None

    @property
    def one_record(self) -> bool:
        """Whether each coin decided on one record."""
        return self.planted.planted.canaries.tests_one_record

    @property
    def words(self) -> str:
        """A sentence or two; on the strongest attack on the canaries if none was named beforehand."""
        canaries, report = self.planted.planted.canaries, self.report
        if report.primary == AUTO and report.headline is not None:
            report = dataclasses.replace(report, primary=report.headline.attack)
        named = self.report.primary != AUTO
        return canary_words(report, kind=canaries.kind, copies=canaries.copies, cost=self.cost, bound=named)


def plant_for(
    request: CanaryRequest, data: LabeledData, noisy: LabeledData, plan: ShadowPlan, *, noise: float, seed: int
) -> FleetCanaries:
    """Draw a study's canaries from the records that its plan leaves, and plant them behind the data set with its final labels.

    Raises:
        UserError: canaries that cannot be drawn, see `memberscope.plans.canaries.draw_canaries`.
    """
    used = [plan.records[plan.records < len(data)], plan.population[plan.population < len(data)]]
    return plant_in_fleet(request, draw_for(request, data, used, seed=seed, noise=noise), noisy, plan, seed=seed)


def outputs_of(canaries: FleetCanaries, outputs: FleetOutputs, read: NDArray[Any] | None = None) -> FleetOutputs:
    """The outputs of a fleet's models for the canaries, as those of a plan whose records are the canaries; `read` if they are known."""
    rows, plan = canaries.planted.rows, outputs.plan
    own = dataclasses.replace(
        plan, records=rows, block=np.ones(len(rows), dtype=np.bool_), member=canaries.member, coin_flips=True
    )
    found = outputs.fleet.outputs(canaries.data.x[rows]) if read is None else read
    return dataclasses.replace(outputs, data=canaries.data, plan=own, outputs=found, augmented=None)


def audit_canaries(
    canaries: FleetCanaries, outputs: FleetOutputs, request: AuditRequest, trainer: Trainer, config: ShadowStudyConfig, stop: StopFlag,
    *, read: NDArray[Any] | None = None,
) -> CanaryAudit:  # fmt: skip
    """Audit the canaries of the first target with the requested attacks that need no more than outputs, and measure their cost, unless all
    models were trained elsewhere and `read` is what was read of their outputs for the canaries.
    """
    target = int(outputs.plan.targets[0])
    attacks = [name for name in request.attacks if registry.get(name).needs <= ASKED] or ["threshold_loss"]
    of_canaries = make_request(attacks=attacks, primary=request.primary if request.primary in attacks else AUTO)
    report = run_audit(
        outputs_of(canaries, outputs, read).evidence(target), request=of_canaries, seed=config.seed, min_records=LEAST_SIDE,
        coin_flips=True, duplicates="keep",
    )  # fmt: skip
    stop.check()
    cost = cost_for(outputs, trainer, config, stop) if config.canary_cost and read is None else None
    return CanaryAudit(report=report, planted=canaries, cost=cost)


def cost_for(outputs: FleetOutputs, trainer: Trainer, config: ShadowStudyConfig, stop: StopFlag) -> CanaryCost:
    """Train the first target on the same members without the canaries, and compare the two on the audited records."""
    plan, data = outputs.plan, outputs.data
    target, index = int(plan.targets[0]), plan.records[plan.audited]
    alone = setup.train_fleet(
        trainer, data, [plan.members(target)], [model_seeds(plan, config.seed)[target]], config, stop,
        label="first target without canaries", queries=[Query(index=index)],
    )  # fmt: skip
    both = (
        Predictions(
            **named(form, found), labels=data.y[index], member=plan.member[target][plan.audited], groups=data.groups_of(index)
        )
        for form, found in (
            (outputs.form, outputs.outputs[target][plan.audited]),
            (alone.form, alone.outputs(data.x[index])[0]),
        )
    )
    return cost_of(*both, audited=np.ones(len(index), dtype=np.bool_))
