"""Queries every model of a shadow study once, and assembles the evidence against each target from the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import queries, seeds
from memberscope.checks import row_chunks
from memberscope.datasets import LabeledData
from memberscope.evidence import Evidence, Trajectories
from memberscope.interrupt import StopFlag
from memberscope.plans.shadow import ShadowPlan
from memberscope.plans.split import Index
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.progress import Progress
from memberscope.signals import loss_nats
from memberscope.studies.forms import OutputForm, as_logits, named
from memberscope.training.query import Query

if TYPE_CHECKING:
    from memberscope.training.trainer import Fleet, Outputs, Trainer

"""`Form`, or ``loss_nats`` for models that were trained elsewhere, of which only losses are known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FleetOutputs:
    """All models of a plan, and their outputs for the plan's records.

    Attributes:
        data: the records, with labels after noise.
        plan: which records are members of which model.
        fleet: the trained models, in the order of the plan.
        form: whether the outputs are ``logits``, ``probs`` or ``loss_nats``.
        outputs: (n_models, n, classes) for the plan's records; (n_models, n) losses.
        population: (n_models, p, classes) or (n_models, p) for the plan's population; p is 0 where they are not known.
        augmented: (n_models, n, queries, classes) logits for augmented copies of the records; None if there are no copies.
        known_inputs: whether `data` holds the records themselves, and not only their labels.
        can_query: whether the fleet answers further queries.
    """

    data: LabeledData
    plan: ShadowPlan
    fleet: Fleet
    form: OutputForm
    outputs: Outputs
    population: Outputs
    augmented: Outputs | None = None
    known_inputs: bool = True
    can_query: bool = True

    def named(self, outputs: Outputs) -> dict[str, Any]:
        """See `named`, for outputs of this fleet."""
        return named(self.form, outputs)

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
        answered = self.population.shape[1] > 0
        return Evidence(
            target=Predictions(
                **self.named(self.outputs[target][own]),
                labels=labels[own],
                member=plan.member[target][own],
                record_ids=audited,
                inputs=data.inputs(audited) if self.known_inputs else None,
                groups=data.groups_of(audited),
            ),
            shadows=ShadowPredictions(
                **self.named(self.outputs[rows]), labels=labels, member=plan.member[rows], record_ids=plan.records
            ),
            population=ShadowPredictions(
                **self.named(self.population[outside]),
                labels=data.y[plan.population],
                member=np.zeros((len(outside), len(plan.population)), dtype=np.bool_),
                record_ids=plan.population,
            )
            if answered
            else None,
            population_inputs=data.inputs(plan.population) if answered and self.known_inputs else None,
            augmented=None if self.augmented is None else self.augmented[np.array(outside)][:, own],
        )


def query_fleet(data: LabeledData, plan: ShadowPlan, fleet: Fleet, *, copies: int, stop: StopFlag) -> FleetOutputs:
    """Query every model with the plan's records, its population and, for images, `copies` augmented copies of each record."""
    several = copies > 1 and queries.is_image(data.x)
    with Progress(2 + (copies if several else 0), "querying all models", unit="query") as progress:
        x, form = data.x[plan.records], fleet.form
        outputs = fleet.outputs(x)
        progress.advance()
        stop.check()
        population = fleet.outputs(data.x[plan.population])
        progress.advance()
        augmented = None
        if several:
            augmented = np.empty((*outputs.shape[:2], copies, outputs.shape[2]), dtype=outputs.dtype)
            for number, copy in enumerate(queries.augmentations(x, copies)):
                stop.check()
                augmented[:, :, number] = as_logits(outputs if number == 0 else fleet.outputs(copy), form)
                progress.advance()
    return FleetOutputs(
        data=data, plan=plan, fleet=fleet, form=form, outputs=outputs, population=population, augmented=augmented
    )


def declared_queries(
    data: LabeledData, plan: ShadowPlan, *, copies: int, perturbed: int, seed: int, wanted: Callable[[str], bool]
) -> tuple[Query, ...]:
    """All that `query_fleet` and `query_target` ask of a plan's models, but for distillation, known before any training.

    Args:
        data, plan: the records, and which of them are members of which model.
        copies: augmented copies per record, for images.
        perturbed: perturbed copies per record, of which the first target is asked.
        seed: seed of the perturbed copies.
        wanted: whether any attack needs that field of `Evidence`.
    """
    target = int(plan.targets[0])
    found = [Query(index=plan.records), Query(index=plan.population)]
    if copies > 1 and queries.is_image(data.x):
        found.append(Query(index=plan.records, kind="augmented", copies=copies))
    if wanted("perturbed_labels") and can_be_perturbed(data):
        found.append(Query(index=plan.records[plan.audited], kind="perturbed", copies=perturbed, seed=seed, models=(target,)))
    if wanted("gradients"):
        found.append(Query(index=plan.records[plan.audited], models=(target,), measures=("gradient_norms",)))
    if wanted("trajectories"):
        shadow = int(plan.shadows_of(target)[0])
        found.append(Query(index=plan.records[plan.audited], models=(target,), measures=("losses_by_epoch",)))
        found.append(Query(index=plan.records[shadow_pool(plan)], models=(shadow,), measures=("losses_by_epoch",)))
    return tuple(found)


def can_be_perturbed(data: LabeledData) -> bool:
    """Whether records have noisy copies: not those with words or missing numbers."""
    if data.table is not None and data.table.words:
        return False
    chunks = row_chunks(len(data), math.prod(data.shape)) if data.x.dtype.kind == "f" else ()
    return all(bool(np.isfinite(data.x[rows]).all()) for rows in chunks)


def shadow_pool(plan: ShadowPlan) -> NDArray[np.intp]:
    """Places among the plan's records of those that the first target's shadows may know."""
    return np.flatnonzero(plan.block if plan.design == "half" else ~plan.block)


def evidence_fields(
    data: LabeledData, plan: ShadowPlan, offered: Container[str], *, copies: int, perturbed: int, distill_epochs: int
) -> frozenset[str]:
    """The fields of `Evidence` that `query_fleet` and `query_target` can fill, known before anything is trained.

    A primary attack that needs another one is rejected by this before the training. `offered` are the capabilities that the trainer or its
    models have, or may turn out to have.
    """
    distilled = distill_epochs > 0 and len(plan.population) > 0 and "distill" in offered
    able = {
        "augmented": copies > 1 and queries.is_image(data.x),
        "population": len(plan.population) > 0, "population_inputs": len(plan.population) > 0,
        "perturbed_labels": perturbed > 0 and can_be_perturbed(data),
        "gradients": "gradients" in offered, "trajectories": distilled or "losses" in offered,
    }  # fmt: skip
    return frozenset({"target", "shadows", *(name for name, possible in able.items() if possible)})


def why_absent(outputs: FleetOutputs, trainer: Trainer) -> dict[str, str]:
    """Why fields of `Evidence` stay empty where the records or the models are the reason, as phrases for the attacks that need them."""
    found: dict[str, str] = {}
    offered = outputs.fleet.capabilities
    if "gradients" not in offered:
        found["gradients"] = f"models from {trainer.name} offer no gradient_norms"
    if "distill" not in trainer.capabilities and "losses" not in offered:
        found["trajectories"] = f"models from {trainer.name} offer no losses_by_epoch"
    if not can_be_perturbed(outputs.data):
        found["perturbed_labels"] = "records with words or missing numbers have no noisy copies"
    return found


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
    copies = perturbed if wanted("perturbed_labels") and outputs.can_query and can_be_perturbed(data) else 0
    gradients = 1 if wanted("gradients") and "gradients" in outputs.fleet.capabilities else 0
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

            def trace(model: int, watched: Index, final: Outputs) -> NDArray[np.float64]:
                def between() -> None:
                    stop.check()
                    progress.advance()

                losses = trainer.distill(
                    data, transfer=plan.population, teacher=outputs.population[model], watched=watched, epochs=distill_epochs,
                    seed=seeds.integer(seed, "student", model), between_epochs=between,
                )  # fmt: skip
                at_end = Predictions(**outputs.named(final), labels=data.y[watched], member=np.arange(len(watched)) < 1)
                return np.column_stack([losses, loss_nats(at_end)])

            pool = shadow_pool(plan)
            changes["trajectories"] = Trajectories(
                target=trace(target, audited, outputs.outputs[target][own]),
                shadow=trace(shadow, plan.records[pool], outputs.outputs[shadow][pool]),
                shadow_labels=data.y[plan.records[pool]],
                shadow_member=plan.member[shadow][pool],
            )
        elif wanted("trajectories") and "losses" in outputs.fleet.capabilities:
            shadow, pool = int(plan.shadows_of(target)[0]), shadow_pool(plan)
            known = plan.records[pool]
            changes["trajectories"] = Trajectories(
                target=outputs.fleet.losses_by_epoch(target, data.x[audited], data.y[audited]),
                shadow=outputs.fleet.losses_by_epoch(shadow, data.x[known], data.y[known]),
                shadow_labels=data.y[known],
                shadow_member=plan.member[shadow][pool],
            )
    return replace(evidence, **changes, absent=why_absent(outputs, trainer))
