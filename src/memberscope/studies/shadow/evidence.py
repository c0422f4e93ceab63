"""Queries every model of a shadow study once, and assembles the evidence against each target from the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import queries, seeds
from memberscope.datasets import LabeledData
from memberscope.evidence import Evidence, Trajectories
from memberscope.interrupt import StopFlag
from memberscope.plans.shadow import ShadowPlan
from memberscope.plans.split import Index
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.progress import Progress
from memberscope.signals import loss_nats

if TYPE_CHECKING:
    from memberscope.training.trainer import Fleet, Trainer

Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class FleetOutputs:
    """All models of a plan, and their outputs for the plan's records.

    Attributes:
        data: the records, with labels after noise.
        plan: which records are members of which model.
        fleet: the trained models, in the order of the plan.
        logits: (n_models, n, classes) for the plan's records.
        population: (n_models, p, classes) for the plan's population.
        augmented: (n_models, n, queries, classes) for augmented copies of the records; None if there are no copies.
    """

    data: LabeledData
    plan: ShadowPlan
    fleet: Fleet
    logits: Logits
    population: Logits
    augmented: Logits | None = None

    def evidence(self, target: int, shadows: Sequence[int] | NDArray[np.intp] | None = None) -> Evidence:
        """The evidence against one target: its own outputs, those of its shadows (or of some of them), and the population.

        Args:
            target: a model of the plan.
            shadows: the models to use as shadows; None for all that the plan allows.
        """
        plan, data = self.plan, self.data
        rows = plan.shadows_of(target) if shadows is None else np.asarray(shadows, dtype=np.intp)
        own, labels = plan.audited, data.y[plan.records]
        audited = plan.records[own]
        outside = [target, *rows]
        return Evidence(
            target=Predictions(
                logits=self.logits[target][own],
                labels=labels[own],
                member=plan.member[target][own],
                record_ids=audited,
                inputs=data.x[audited],
            ),
            shadows=ShadowPredictions(
                logits=self.logits[rows], labels=labels, member=plan.member[rows], record_ids=plan.records
            ),
            population=ShadowPredictions(
                logits=self.population[outside],
                labels=data.y[plan.population],
                member=np.zeros((len(outside), len(plan.population)), dtype=np.bool_),
                record_ids=plan.population,
            )
            if len(plan.population)
            else None,
            population_inputs=data.x[plan.population] if len(plan.population) else None,
            augmented=None if self.augmented is None else self.augmented[np.array(outside)][:, own],
        )


def query_fleet(data: LabeledData, plan: ShadowPlan, fleet: Fleet, *, copies: int, stop: StopFlag) -> FleetOutputs:
    """Query every model with the plan's records, its population and, for images, `copies` augmented copies of each record."""
    several = copies > 1 and queries.is_image(data.x)
    with Progress(2 + (copies if several else 0), "querying all models", unit="query") as progress:
        x = data.x[plan.records]
        logits = fleet.outputs(x)
        progress.advance()
        stop.check()
        population = fleet.outputs(data.x[plan.population])
        progress.advance()
        augmented = None
        if several:
            augmented = np.empty((*logits.shape[:2], copies, logits.shape[2]), dtype=np.float32)
            for number, copy in enumerate(queries.augmentations(x, copies)):
                stop.check()
                augmented[:, :, number] = logits if number == 0 else fleet.outputs(copy)
                progress.advance()
    return FleetOutputs(data=data, plan=plan, fleet=fleet, logits=logits, population=population, augmented=augmented)


def evidence_fields(
    data: LabeledData, plan: ShadowPlan, trainer: Trainer, *, copies: int, perturbed: int, distill_epochs: int
) -> frozenset[str]:
    """The fields of `Evidence` that `query_fleet` and `query_target` can fill, known before anything is trained.

    A primary attack that needs another one is rejected by this before the training.
    """
    able = {
        "augmented": copies > 1 and queries.is_image(data.x),
        "population": len(plan.population) > 0, "population_inputs": len(plan.population) > 0, "perturbed_labels": perturbed > 0,
        "gradients": "gradients" in trainer.capabilities,
        "trajectories": distill_epochs > 0 and len(plan.population) > 0 and "distill" in trainer.capabilities,
    }  # fmt: skip
    return frozenset({"target", "shadows", *(name for name, possible in able.items() if possible)})


def query_target(
    outputs: FleetOutputs,
    target: int,
    *,
    trainer: Trainer,
    perturbed: int,
    distill_epochs: int,
    seed: int,
    stop: StopFlag,
    wanted: Callable[[str], bool] = lambda need: True,
) -> Evidence:
    """The evidence against one target, with the queries that would be too costly for all: perturbed copies, gradients, distillations.

    Args:
        outputs: the outputs of all models.
        target: the audited model.
        trainer: trains the students of the distillation.
        perturbed: perturbed copies per record.
        distill_epochs: epochs of the target's student and of one shadow's student.
        seed: seed of the copies and the students.
        stop: checked between steps.
        wanted: whether any attack needs that field of `Evidence`.
    """
    evidence = outputs.evidence(target)
    plan, data = outputs.plan, outputs.data
    own = plan.audited
    audited = plan.records[own]
    changes: dict[str, Any] = {}
    capabilities = trainer.capabilities
    students = distill_epochs * 2 if wanted("trajectories") and len(plan.population) and "distill" in capabilities else 0
    copies = perturbed if wanted("perturbed_labels") else 0
    gradients = 1 if wanted("gradients") and "gradients" in capabilities else 0
    with Progress(copies + students + gradients, "querying the target", unit="query") as progress:
        if copies:
            labels = np.empty((len(own), copies), dtype=np.int64)
            for number, copy in enumerate(queries.perturbations(data.x[audited], copies, seed=seed)):
                stop.check()
                labels[:, number] = outputs.fleet.outputs(copy, models=[target])[0].argmax(axis=1)
                progress.advance()
            changes["perturbed_labels"] = labels
        if gradients:
            stop.check()
            changes["gradients"] = outputs.fleet.gradient_norms(
                target, data.x[audited], data.y[audited], between_batches=lambda records: stop.check()
            )
            progress.advance()
        if students:
            shadow = int(plan.shadows_of(target)[0])

            def trace(model: int, watched: Index, final: Logits) -> NDArray[np.float64]:
                def between() -> None:
                    stop.check()
                    progress.advance()

                losses = trainer.distill(
                    data, transfer=plan.population, teacher=outputs.population[model], watched=watched, epochs=distill_epochs,
                    seed=seeds.integer(seed, "student", model), between_epochs=between,
                )  # fmt: skip
                at_end = Predictions(logits=final, labels=data.y[watched], member=np.arange(len(watched)) < 1)
                return np.column_stack([losses, loss_nats(at_end)])

            pool = np.flatnonzero(plan.block if plan.design == "half" else ~plan.block)
            changes["trajectories"] = Trajectories(
                target=trace(target, audited, outputs.logits[target][own]),
                shadow=trace(shadow, plan.records[pool], outputs.logits[shadow][pool]),
                shadow_labels=data.y[plan.records[pool]],
                shadow_member=plan.member[shadow][pool],
            )
    return replace(evidence, **changes)
