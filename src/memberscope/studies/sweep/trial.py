"""One trial of a sweep: train a cell's model for one seed, audit it, log it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics, seeds, signals
from memberscope.attacks import registry
from memberscope.audit import artifacts
from memberscope.audit.request import AuditRequest, make_request
from memberscope.audit.run import AuditReport, run_audit
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged, logged_each
from memberscope.plans import keyed
from memberscope.plans.canaries import CanaryRequest
from memberscope.plans.keyed import shown_digest
from memberscope.plans.split import Index
from memberscope.plans.target import Prepared
from memberscope.predictions import Predictions
from memberscope.studies import logged_model, loss_trace, model_audit
from memberscope.studies.canaries import CanaryResult
from memberscope.studies.canaries import audit as audit_canaries
from memberscope.studies.curves import by_step
from memberscope.sweeps.answer import ADVANTAGE, low_name, low_rate
from memberscope.sweeps.cells import Cell
from memberscope.sweeps.matching import parameter_count
from memberscope.sweeps.selection import Selection, select
from memberscope.tracking import DataInput, Tracker, as_json
from memberscope.training.query import Query
from memberscope.training.trainer import Execution, Form, PrivateSettings, Trainer, TrainingJob, jobs_for

Predict = Callable[[Index], Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trained and audited model.

    Attributes:
        seed: its seed.
        selection: its records.
        figures: final metrics: advantage_heldout, auc, the TPR at low FPR (of the first attack), accuracy (validation), train_accuracy,
            train_loss, gap, parameters (not of a user's own trainer); and ``tuning_...`` for the objectives, if half of the audited records
            were set apart for tuning.
        history: a row per audited epoch; see `look`.
        curves: what a user's own training function reported, by step; see `memberscope.studies.curves.by_step`.
        report: the final audit, on the records that tuning did not use.
        model: returns the framework's own model.
        trainer: the trainer with the parameters of the cell.
        losses: (n, epochs) the loss trace of the selection's audited records; None if it was not collected, or is not offered.
        seconds: of training; models that were trained together share the time equally.
        canaries: what the canaries showed; None if none were planted.
    """

    seed: int
    selection: Selection
    figures: Mapping[str, float]
    history: Sequence[Mapping[str, float]]
    curves: Sequence[tuple[int, Mapping[str, float]]]
    report: AuditReport
    model: Callable[[], Any]
    trainer: Trainer
    seconds: float
    losses: NDArray[np.float32] | None = None
    canaries: CanaryResult | None = None


def together(cell: Cell) -> bool:
    """Whether the seeds of a cell are trained in one batched program: it has dense layers only, and no audits during training."""
    return cell.params is None and cell.recipe.batched and not cell.look_every and not cell.clip


def trial_request(attacks: str, *, group_scores: str = "mean") -> AuditRequest:
    """The audit of every trial, whose primary attack is the first: its metrics are the trial's result.

    Raises:
        UserError: an unknown attack, or a first one that needs more than the target.
    """
    request = make_request(attacks=attacks, group_scores=group_scores)
    first = request.attacks[0]
    if not registry.get(first).needs <= {"target"}:
        raise UserError(
            f"attacks={attacks}: {first}, the first, needs shadow models; allowed as the first: threshold_loss and others that need none"
        )
    return dataclasses.replace(request, primary=first)


def run_cell(
    data: LabeledData,
    trainer: Trainer,
    cell: Cell,
    chosen_seeds: Sequence[int],
    *,
    request: AuditRequest,
    tuning: bool,
    stop: StopFlag,
    traced: bool = False,
    canaries: CanaryRequest | None = None,
    cost: bool = False,
) -> Iterator[Outcome]:
    """Train and audit a cell for each seed, in their order; seeds that can be trained together are.

    Args:
        data: all records.
        trainer: the trainer, which is given the cell's recipe.
        cell: the cell to train.
        chosen_seeds: the seeds to train it for.
        request: the audit; see `trial_request`.
        tuning: whether to set half of the audited records apart for the metrics that a search optimizes.
        stop: checked between steps.
        traced: whether to collect loss traces; models are then trained one at a time.
        canaries: what to plant in every training set; None for nothing.
        cost: whether to train each model without its canaries too.

    Raises:
        UserError: canaries that cannot be drawn.
        Interrupted: `stop` was set.
    """
    selections = {seed: select(data, cell.part, seed=seed) for seed in chosen_seeds}
    if canaries is not None:
        selections = {seed: one.with_canaries(canaries, seed=seed) for seed, one in selections.items()}
    own = trainer.with_params(**(cell.recipe.fields() if cell.params is None else cell.params))
    ways = _fleet if together(cell) and len(selections) > 1 and not traced else partial(_one_by_one, traced=traced)
    if cell.params is not None and "epochs" not in own.capabilities:
        ways = partial(_fleets_of_one, traced=traced)
    without: Iterator[_TrainedCell | None] = repeat(None)
    if canaries is not None and cost:
        without = ways(data, own, cell, {seed: one.unplanted() for seed, one in selections.items()}, stop)
    for trained, reference in zip(ways(data, own, cell, selections, stop), without, strict=False):
        stop.check()
        yield audited(trained, selections[trained.seed], cell, own, request, tuning=tuning, without=reference)


@dataclass(frozen=True, kw_only=True)
class _TrainedCell:
    """A model before its audit: functions that return its outputs and the model itself, and its metrics by epoch.

    `form` is whether the outputs are ``logits`` or ``probs``; `curves` and `losses` are those of `Outcome`.
    """

    seed: int
    predict: Predict
    model: Callable[[], Any]
    history: Sequence[Mapping[str, float]]
    seconds: float
    form: Form = "logits"
    curves: Sequence[tuple[int, Mapping[str, float]]] = ()
    losses: NDArray[np.float32] | None = None


def _one_by_one(
    data: LabeledData, trainer: Trainer, cell: Cell, selections: Mapping[int, Selection], stop: StopFlag, *, traced: bool
) -> Iterator[_TrainedCell]:
    epochs = cell.recipe.epochs if cell.params is None else int(trainer.params["epochs"])
    for seed, selection in selections.items():
        start = time.perf_counter()
        model = trainer.begin(TrainingJob(data=selection.trained_data, indices=selection.trained_on, seed=seed))
        history: list[dict[str, float]] = []
        losses: list[NDArray[np.float32]] = []

        def after_epoch(
            epoch: int, *, predict: Predict = model.outputs, selection: Selection = selection,
            history: list[dict[str, float]] = history, seed: int = seed, losses: list[NDArray[np.float32]] = losses,
        ) -> None:  # fmt: skip
            stop.check()
            if traced and epoch:
                losses.append(loss_trace.losses_at(predict, selection.data, selection.audited).astype(np.float32))
            if epoch == epochs or (epoch and cell.look_every and epoch % cell.look_every == 0):
                history.append(look(predict, selection, epoch=epoch, seed=seed))

        def between_steps(done: int) -> None:
            stop.check()

        if cell.clip:
            settings = PrivateSettings(clip_norm=cell.clip, noise_multiplier=cell.noise_multiplier)
            model.fit_private(settings, after_epoch=after_epoch, between_steps=between_steps)
        else:
            model.fit(after_epoch=after_epoch, between_steps=between_steps)
        seconds = time.perf_counter() - start
        yield _TrainedCell(
            seed=seed, predict=model.outputs, model=partial(_same, model.native), history=history, seconds=seconds,
            losses=np.stack(losses, axis=1) if losses else None,
        )  # fmt: skip


def _same(model: Any) -> Any:
    return model


def _fleet(
    data: LabeledData, trainer: Trainer, cell: Cell, selections: Mapping[int, Selection], stop: StopFlag
) -> Iterator[_TrainedCell]:
    """Train all seeds in one batched program. Labels differ by seed, so the fleet's records are the members of all seeds, concatenated."""
    start = time.perf_counter()
    every = list(selections.values())
    ends = np.cumsum([0, *(len(selection.trained_on) for selection in every)])
    members = dataclasses.replace(
        every[0].data,
        x=np.concatenate([selection.trained_data.x[selection.trained_on] for selection in every]),
        y=np.concatenate([selection.trained_data.y[selection.trained_on] for selection in every]),
        same=None,
        groups=None,
    )
    places = [np.arange(first, last) for first, last in pairwise(ends)]
    label = f"{len(every)} models together"
    fleet = trainer.train(jobs_for(members, places, list(selections)), Execution(workers=1, label=label, stop=stop))
    seconds = (time.perf_counter() - start) / len(every)
    for k, (seed, selection) in enumerate(selections.items()):

        def predict(index: Index, *, k: int = k, x: NDArray[Any] = selection.trained_data.x) -> Any:
            return fleet.outputs(x[index], models=[k])[0]

        row = look(predict, selection, epoch=cell.recipe.epochs, seed=seed)
        yield _TrainedCell(seed=seed, predict=predict, model=partial(fleet.native, k), history=[row], seconds=seconds)


def _fleets_of_one(
    data: LabeledData, trainer: Trainer, cell: Cell, selections: Mapping[int, Selection], stop: StopFlag, *, traced: bool
) -> Iterator[_TrainedCell]:
    """Train the model of each seed in a process of its own, which asks it at once all that its audit needs."""
    for seed, selection in selections.items():
        start = time.perf_counter()
        plan = selection.plan
        parts = [plan.members, plan.validation, selection.audited]
        if selection.canaries is not None:
            parts += [plan.nonmembers, selection.canaries.planted.rows]
        asked = np.unique(np.concatenate(parts))
        queries = (Query(index=asked), *([loss_trace.query_for(selection.audited)] if traced else []))
        run = Execution(workers=1, queries=queries, label=f"model of seed {seed}", stop=stop)
        fleet = trainer.train(jobs_for(selection.trained_data, [selection.trained_on], [seed]), run)
        losses = None
        if traced and "losses" in fleet.capabilities:
            at = selection.audited
            losses = fleet.losses_by_epoch(0, selection.data.x[at], selection.data.y[at]).astype(np.float32)
        outputs, form = fleet.outputs(selection.trained_data.x[asked])[0], fleet.form
        curves = list(by_step(fleet.curves))
        steps = curves[-1][0] + 1 if curves else 0

        def predict(index: Index, *, outputs: Any = outputs, asked: Index = asked) -> Any:
            return outputs[np.searchsorted(asked, index)]

        row = look(predict, selection, epoch=steps, seed=seed, form=form)
        yield _TrainedCell(
            seed=seed, predict=predict, model=partial(fleet.native, 0), history=[row], seconds=time.perf_counter() - start, form=form,
            curves=curves, losses=losses,
        )  # fmt: skip


def look(predict: Predict, selection: Selection, *, epoch: int, seed: int, form: Form = "logits") -> dict[str, float]:
    """Metrics with the present weights: epoch, loss and accuracy of members and validation records; AUC, held-out advantage and TPR at
    low FPR of the loss threshold on the audited records.
    """
    plan = selection.plan
    index = np.concatenate([plan.members, plan.validation, selection.audited])
    outputs: dict[str, Any] = {form: predict(index)}
    seen = Predictions(**outputs, labels=selection.data.y[index], member=np.isin(index, plan.members))
    correct, loss = signals.correctness(seen), signals.loss_nats(seen)
    row: dict[str, float] = {"epoch": epoch}
    start, end = len(plan.members), len(plan.members) + len(plan.validation)
    for side, part in (("train", slice(0, start)), ("val", slice(start, end))):
        if part.stop > part.start:
            row[f"{side}_accuracy"], row[f"{side}_loss"] = float(correct[part].mean()), float(loss[part].mean())
    scores, member, nonmembers = -loss[end:], selection.member, int((~selection.member).sum())
    row["auc"] = metrics.auc(scores, member).value
    row[ADVANTAGE] = metrics.advantage_heldout(scores, member, rng=seeds.stream(seed, "look")).value
    roc = metrics.roc_curve(scores, member)
    row[low_name(nonmembers)] = float(roc.tpr[roc.fpr <= low_rate(nonmembers)].max())
    return row


def _query(trained: _TrainedCell, selection: Selection, at: Index) -> Predictions:
    index = selection.audited[at]
    data = selection.data
    outputs: dict[str, Any] = {trained.form: trained.predict(index)}
    return Predictions(
        **outputs, labels=data.y[index], member=selection.member[at], record_ids=data.record_ids(index), groups=data.groups_of(index)
    )  # fmt: skip


def _evidence(trained: _TrainedCell, selection: Selection, at: Index) -> Evidence:
    return Evidence(
        target=_query(trained, selection, at),
        loss_trace=None if trained.losses is None else trained.losses[at],
        absent={"loss_trace": loss_trace.NOT_COLLECTED},
    )


def halves(selection: Selection) -> tuple[Index, Index]:
    """Positions in `audited` for tuning and for the final audit: every other record, or every other group, of each side."""
    groups = selection.data.groups
    place = np.zeros(len(selection.audited), dtype=np.int64)
    for side in (selection.member, ~selection.member):
        if groups is None:
            place[side] = np.arange(side.sum())
        else:
            place[side] = np.unique(groups[selection.audited[side]], return_inverse=True)[1].reshape(-1)
    order = np.argsort(~selection.member, kind="stable")
    return order[place[order] % 2 == 0], order[place[order] % 2 == 1]


def audited(
    trained: _TrainedCell, selection: Selection, cell: Cell, trainer: Trainer, request: AuditRequest, *, tuning: bool,
    without: _TrainedCell | None = None,
) -> Outcome:  # fmt: skip
    """The final audit and the metrics of the trial; `without` is the same model trained without its canaries."""
    seed = trained.seed
    figures: dict[str, float] = {}
    final = np.arange(len(selection.audited))
    if tuning:
        held, final = halves(selection)
        report = run_audit(_evidence(trained, selection, held), request=request, seed=seed)
        figures |= {f"tuning_{name}": value for name, value in _of_first(report).items()}
    report = run_audit(_evidence(trained, selection, final), request=request, seed=seed)
    last = trained.history[-1]
    figures |= _of_first(report)
    figures |= {name: last[name] for name in ("train_accuracy", "train_loss")}
    if "val_accuracy" in last:
        figures |= {"accuracy": last["val_accuracy"], "gap": last["train_accuracy"] - last["val_accuracy"]}
    if cell.params is None:
        figures["parameters"] = float(
            parameter_count(cell.recipe, input_shape=selection.data.shape, classes=selection.data.classes)
        )
    canaries = None
    if selection.canaries is not None:
        look_at = partial(
            audit_canaries, Prepared(data=selection.data, plan=selection.plan, noise=cell.part.label_noise, seed=seed),
            selection.canaries, (trained.form, trained.predict),
            without=None if without is None else (without.form, without.predict), seed=seed,
        )  # fmt: skip
        if tuning:
            figures |= {f"tuning_{name}": value for name, value in look_at(part=slice(0, None, 2)).figures.items()}
        canaries = look_at(part=slice(1, None, 2) if tuning else slice(None))
        figures |= canaries.figures
    return Outcome(
        canaries=canaries, seed=seed, selection=selection, figures=figures, history=trained.history, curves=trained.curves, report=report,
        model=trained.model, trainer=trainer, seconds=trained.seconds, losses=trained.losses,
    )  # fmt: skip


def _of_first(report: AuditReport) -> dict[str, float]:
    entire = report.whole()[0]
    names = ("auc", "advantage", ADVANTAGE, low_name(entire.n_nonmember))
    return {name: entire.figures[name].value for name in names if entire.figures[name].status != "skipped"}


def log_outcome(
    outcome: Outcome, cell: Cell, name: str, tracker: Tracker, *, attacks: str, log_model: bool, private: bool = False
) -> None:
    """Log the trial's run: params, metrics by epoch and at the end, the attack table, the ROC figure, the model. If `private`, nothing is
    logged of single records."""
    import pandas as pd

    selection = outcome.selection
    data, plan = selection.data, selection.plan
    params = run_params(outcome, cell, attacks)
    tracker.params(params)
    tracker.text(as_json({"cell": cell.to_dict(), "seed": outcome.seed, **params}), artifacts.CONFIG)
    for step, values in outcome.curves:
        tracker.metrics(logged_each({f"train/{reported}": value for reported, value in values.items()}), step=step)
    for row in outcome.history:
        tracker.metrics(model_audit.epoch_metrics(row), step=int(row["epoch"]))
    for context, index in plan.sides.items():
        tracker.data(
            DataInput(
                name=data.name, context=context.removesuffix("s"), digest=shown_digest(data, data.part_digest(context, index)),
                source=data.source, shape=(len(index), *data.shape), classes=data.classes,
            )
        )  # fmt: skip
    trained = model_audit.AuditedModel(
        name=name, setting=name.rpartition("-s")[0], seed=outcome.seed, history=pd.DataFrame(list(outcome.history)), report=outcome.report,
        summary={key: outcome.figures[key] for key in ("gap",) if key in outcome.figures}, predictions=outcome.report.target,
    )  # fmt: skip
    if outcome.losses is not None:
        loss_trace.log_losses(data, selection.audited, selection.member, outcome.losses, tracker, private=private)
    model_audit.log_result(trained, tracker, epochs=int(outcome.history[-1]["epoch"]), source=data.digest, private=private)
    for key, value in outcome.figures.items():
        if key.startswith("tuning_"):
            tracker.metrics(logged(key, "", value))
    if outcome.canaries is not None:
        outcome.canaries.log(tracker, step=int(outcome.history[-1]["epoch"]))
    if log_model:
        logged_model.log_model(outcome.model, outcome.trainer, data, tracker)


def without_digits(outcome: Outcome) -> Outcome:
    """The outcome with mean losses of three decimals; see `memberscope.studies.model_audit.without_digits`."""
    history = [model_audit.without_digits(row) for row in outcome.history]
    return dataclasses.replace(outcome, figures=model_audit.without_digits(outcome.figures), history=history)


def run_params(outcome: Outcome, cell: Cell, attacks: str) -> dict[str, Any]:
    """The trial's resolved configuration under dotted names."""
    selection, part = outcome.selection, cell.part
    data = selection.data
    of_recipe = {
        "model.parameters": int(outcome.figures["parameters"]),
        "train.noise_multiplier": cell.noise_multiplier, "train.clip_norm": cell.clip,
    } if cell.params is None else {}  # fmt: skip
    return {
        "data.name": data.name, "data.classes": part.classes, "data.treatment": part.treatment, "data.class_choice": part.choice,
        "data.class_names": ",".join(data.class_names)[:400], "data.label_noise": part.label_noise, "data.members": part.members,
        "data.nonmembers": part.nonmembers, "data.validation": part.validation, "data.audited_members": part.audited_members,
        **({} if selection.canaries is None else selection.canaries.facts),
        "data.audited_nonmembers": part.audited_nonmembers, "plan.digest": shown_digest(data, selection.plan.digest), **keyed.facts(data),
        **outcome.trainer.describe(), **of_recipe, "audit.attacks": attacks, "study.seed": outcome.seed,
    }  # fmt: skip
