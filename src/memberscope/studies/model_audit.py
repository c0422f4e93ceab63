"""One model from data to audit: training, metrics by epoch, the final audit and their logging, as the studies share them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics, plots, queries, seeds, signals
from memberscope.audit import artifacts
from memberscope.audit.log import attack_progress, log_audit, log_exposed
from memberscope.audit.request import AuditRequest
from memberscope.audit.run import AuditReport, run_audit
from memberscope.config import AuditConfig, ModelConfig
from memberscope.datasets import LabeledData
from memberscope.evidence import Evidence
from memberscope.exposure.trace import LossTrace
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged, logged_each
from memberscope.plans.keyed import shown_digest
from memberscope.plans.split import Index, Plan
from memberscope.plans.target import Prepared
from memberscope.predictions import Predictions
from memberscope.progress import Progress, Waiting
from memberscope.studies import loss_trace
from memberscope.studies.curves import by_step
from memberscope.studies.data_notes import reading_facts
from memberscope.studies.forms import named
from memberscope.studies.logged_model import log_model
from memberscope.studies.seed_check import SeedCheck, compare
from memberscope.studies.trainer_log import log_trainer
from memberscope.tracking import DataInput, Plain, Tracker, as_json
from memberscope.training.query import Query
from memberscope.training.trainer import Execution, Fleet, Form, Outputs, Trainer, Training, TrainingJob

if TYPE_CHECKING:
    import pandas as pd

Predict = Callable[[Index], Outputs]
EXPOSED = 25  # number of the most exposed records that a run lists
ONSET_MARGIN = (
    0.02  # a model overfits from the epoch on from which train accuracy exceeds validation accuracy by more than this
)


@dataclass(frozen=True, kw_only=True)
class AuditedModel:
    """A trained and audited model, as studies compare it.

    Attributes:
        name: such as ``dense-d3-c10-s0``.
        setting: the name without the seed.
        seed: its seed.
        history: columns epoch, train_accuracy, train_loss, val_accuracy, val_loss, auc, advantage (the last two are missing in epochs
            without an audit; what a training that could not be followed did not report is missing in all rows but the last).
        report: the final audit.
        summary: final values of train_accuracy, val_accuracy, gap, overfit_onset_epoch (if any), parameters (if known).
        predictions: the final model's outputs for the audited records.
        form, predict: with canaries, the form of the final model's outputs and what returns them for positions on a side of the plan and of
            canaries; None without canaries, so that no model is kept.
    """

    name: str
    setting: str
    seed: int
    history: pd.DataFrame
    report: AuditReport
    summary: Mapping[str, float]
    predictions: Predictions
    form: Form = "logits"
    predict: Predict | None = field(default=None, repr=False)


def model_setting(trainer: Trainer, classes: int) -> str:
    """The name of a setting, such as ``conv-d3-c10``: the trainer's name and the number of classes. Of the options of architecture that the
    trainer describes, those that differ from their defaults are named too.
    """
    default, facts = ModelConfig(), trainer.describe()
    parts = [trainer.name, f"c{classes}"]
    parts += [
        f"{short}{facts[f'model.{name}']}"
        for short, name in (("w", "width"), ("f", "filters"))
        if facts.get(f"model.{name}", getattr(default, name)) != getattr(default, name)
    ]
    widths, activation = facts.get("model.widths", ""), facts.get("model.activation", default.activation)
    parts += ["w" + str(widths).replace(",", "x")] if widths else []
    parts += [str(activation)] if activation != default.activation else []
    return "-".join(parts)


def train_and_audit(
    prepared: Prepared,
    trainer: Trainer,
    request: AuditRequest,
    tracker: Tracker,
    stop: StopFlag,
    *,
    setting: str,
    requested: AuditConfig,
) -> AuditedModel:
    """Train one model with metrics by epoch, audit it, and log everything to `tracker`.

    Args:
        prepared: data and plan.
        trainer: trains the model. Metrics by epoch need the capability ``epochs``; without it there are those at the end.
        request: the audit, resolved.
        tracker: the model's run.
        stop: checked between steps.
        setting: the model's name without its seed.
        requested: the options of the audit before they were resolved, for the log.

    Raises:
        Interrupted: `stop` was set; everything logged so far stays.
    """
    data, plan, seed = prepared.data, prepared.plan, prepared.seed
    name = f"{setting}-s{seed}"
    followed = is_followed(trainer)
    epochs = int(trainer.params["epochs"]) if followed else None
    every = requested.audit_every if followed else 1
    wanted = requested.loss_trace
    with loss_trace.collected(data, plan.audited, plan.member, wanted=wanted, every=every, epochs=epochs) as trace:
        train = _followed if followed else _at_once
        model = train(prepared, trainer, tracker, stop, name=name, requested=requested, trace=trace)
        predictions = final_predictions(model, data, plan)
        evidence = loss_trace.evidence(predictions, trace)
        loss_trace.log_trace(trace, tracker, private=requested.private_artifacts)
    report = final_audit(evidence, request, setting=name, seed=seed, epoch=model.steps, stop=stop)
    history = _history([without_digits(row) for row in model.rows] if requested.private_artifacts else model.rows)
    trained = AuditedModel(
        name=name, setting=setting, seed=seed, history=history, report=report, summary=_summary(history, model), predictions=predictions,
        form=model.form, predict=None if prepared.canaries is None else model.predict,
    )  # fmt: skip
    log_result(
        trained,
        tracker,
        epochs=model.steps,
        source=data.digest,
        private=requested.private_artifacts,
        show_records=requested.show_records,
    )
    log_model(model.native, trainer, data, tracker)
    return trained


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """A model after its training, before its audit.

    Attributes:
        predict: returns its outputs for positions in the data, of the given `form`.
        form: ``logits`` or ``probs``.
        rows: its metrics by epoch; of a training that could not be followed, what the model reported, and its state at the end.
        steps: number of epochs, which is the step of the final audit.
        followed: whether every epoch was measured.
        parameters: number of its trainable parameters; None if it is not known.
        native: returns the framework's own model.
    """

    predict: Predict
    form: Form
    rows: list[dict[str, float]]
    steps: int
    followed: bool
    parameters: int | None
    native: Callable[[], Any]


def is_followed(trainer: Trainer) -> bool:
    """Whether a model can be queried after each epoch of its training."""
    return "epochs" in trainer.capabilities


def _followed(
    prepared: Prepared, trainer: Trainer, tracker: Tracker, stop: StopFlag, *, name: str, requested: AuditConfig,
    trace: LossTrace | None,
) -> _Trained:  # fmt: skip
    """Train a model and query it after each epoch."""
    data, plan = prepared.data, prepared.plan
    model = trainer.begin(TrainingJob(data=prepared.trained_data, indices=prepared.trained_on, seed=prepared.seed))
    _log_inputs(prepared, model, trainer, requested, tracker)
    rows: list[dict[str, float]] = []
    members = len(prepared.trained_on)
    epochs, batch = int(trainer.params["epochs"]), int(trainer.params.get("batch_size", members))
    steps = -(-members // batch) * epochs
    with Progress(steps, name) as progress:

        def between_steps(done: int) -> None:
            progress.advance(done)
            stop.check()

        def after_epoch(epoch: int) -> None:
            audited = epoch % requested.audit_every == 0 or epoch == epochs
            row, losses = look(model.outputs, data, plan, form="logits", epoch=epoch, audited=audited)
            rows.append(row)
            if trace is not None and epoch and audited:
                trace.update(losses, epoch=epoch)
            tracker.metrics(epoch_metrics(row, private=requested.private_artifacts), step=epoch)
            progress.advance(0, note=f"accuracy: train {row['train_accuracy']:.3f}, validation {row['val_accuracy']:.3f}")
            stop.check()

        model.fit(after_epoch=after_epoch, between_steps=between_steps)
    return _Trained(
        predict=model.outputs,
        form="logits",
        rows=rows,
        steps=epochs,
        followed=True,
        parameters=model.parameters,
        native=lambda: model.native,
    )


def _at_once(
    prepared: Prepared, trainer: Trainer, tracker: Tracker, stop: StopFlag, *, name: str, requested: AuditConfig,
    trace: LossTrace | None,
) -> _Trained:  # fmt: skip
    """Train a model that answers queries at its end alone."""
    data, plan = prepared.data, prepared.plan
    _log_inputs(prepared, None, trainer, requested, tracker)
    fleet, predict = _fleet_of_one(prepared, trainer, stop, label=name, traced=trace is not None)
    stop.check()
    if trace is not None and "losses" in fleet.capabilities:
        loss_trace.fill(trace, fleet.losses_by_epoch(0, data.x[plan.audited], data.y[plan.audited]))
    rows: list[dict[str, float]] = []
    for step, means in by_step(fleet.curves):
        tracker.metrics(logged_each({f"train/{reported}": value for reported, value in means.items()}), step=step)
        rows.append({"epoch": step, **{f"train_{key}": means[key] for key in ("accuracy", "loss") if key in means}})
    steps = int(rows[-1]["epoch"]) + 1 if rows else 0
    row, _ = look(predict, data, plan, form=fleet.form, epoch=steps, audited=True)
    tracker.metrics(epoch_metrics(row, private=requested.private_artifacts), step=steps)
    return _Trained(
        predict=predict,
        form=fleet.form,
        rows=[*rows, row],
        steps=steps,
        followed=False,
        parameters=None,
        native=lambda: fleet.native(0),
    )


def _fleet_of_one(
    prepared: Prepared, trainer: Trainer, stop: StopFlag, *, label: str, traced: bool = False, members: Index | None = None
) -> tuple[Fleet, Predict]:  # fmt: skip
    """A model that is asked right after its training for all records of the plan and all canaries (and for the losses by epoch of those
    that are audited, if `traced`), and what returns these outputs by position. `members` are its training set, if not `trained_on`.
    """
    data, plan, asked = prepared.trained_data, prepared.plan, prepared.queried
    job = TrainingJob(data=data, indices=prepared.trained_on if members is None else members, seed=prepared.seed)
    queries = [Query(index=asked), *([loss_trace.query_for(plan.audited)] if traced else [])]
    run = Execution(workers=1, queries=tuple(queries), label=label, stop=stop)
    fleet = trainer.train([job], run)
    outputs = fleet.outputs(data.x[asked])[0]
    return fleet, lambda index: outputs[np.searchsorted(asked, index)]


def train_again(
    prepared: Prepared, trainer: Trainer, stop: StopFlag, *, label: str, canaries: bool = True
) -> tuple[Form, Predict]:  # fmt: skip
    """Train a model once more, with the same seed, and without its canaries unless `canaries`; nothing of it is logged.

    Returns:
        The form of its outputs, and what returns them for positions in `Prepared.trained_data` that are on a side of the plan, or canaries.
    """
    members = prepared.trained_on if canaries else prepared.plan.members
    if not is_followed(trainer):
        fleet, predict = _fleet_of_one(prepared, trainer, stop, label=label, members=members)
        return fleet.form, predict
    model = trainer.begin(TrainingJob(data=prepared.trained_data, indices=members, seed=prepared.seed))
    with Waiting(label):
        model.fit(after_epoch=lambda epoch: stop.check(), between_steps=lambda done: stop.check())
    return "logits", model.outputs


def check_seed(trained: AuditedModel, prepared: Prepared, trainer: Trainer, stop: StopFlag) -> SeedCheck:
    """Train the model of an audit a second time and compare its outputs for the audited records."""
    _, predict = train_again(prepared, trainer, stop, label=f"{trained.name}, again")
    first = trained.predictions
    outputs = first.logits if first.logits is not None else first.probs
    assert outputs is not None
    return compare([outputs], [predict(prepared.plan.audited)])


def look(
    predict: Predict, data: LabeledData, plan: Plan, *, form: Form, epoch: int, audited: bool
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Accuracy and loss on both sides with the present weights and, if `audited`, AUC and advantage of the loss threshold.

    The second part is the losses of the plan's members and, as far as they were queried for this, of its non-members after them.
    """
    shared = plan.validation_is_nonmembers or not len(plan.validation)
    outside = [] if shared else [plan.validation]
    if audited or shared:
        outside.append(plan.nonmembers)
    index = np.concatenate([plan.members, *outside])
    ends = np.cumsum([len(plan.members), *map(len, outside)])
    outputs = named(form, predict(index))
    seen = Predictions(**outputs, labels=data.y[index], member=np.arange(len(index)) < ends[0])
    correct, loss = signals.correctness(seen), signals.loss_nats(seen)
    row: dict[str, float] = {"epoch": epoch}
    for side, start, end in (("train", 0, ends[0]), ("val", ends[0], ends[1])):
        row[f"{side}_accuracy"], row[f"{side}_loss"] = float(correct[start:end].mean()), float(loss[start:end].mean())
    losses = loss[: ends[0]]
    if audited or shared:
        losses = np.concatenate([losses, loss[-len(plan.nonmembers) :]])
    if audited:
        row["auc"] = metrics.auc(-losses, plan.member).value
        row["advantage"] = metrics.advantage(-losses, plan.member).value
    return row, losses


def epoch_metrics(row: Mapping[str, float], *, private: bool = False) -> dict[str, float]:
    """An epoch's row under the names of metrics in runs; if `private`, see `without_digits`."""
    names = {
        "train_accuracy": "train/accuracy", "train_loss": "train/loss", "val_accuracy": "val/accuracy", "val_loss": "val/loss",
        "auc": "auc/threshold_loss", "advantage": "advantage/threshold_loss",
    }  # fmt: skip
    shown = without_digits(row) if private else row
    return logged_each({names[key]: value for key, value in shown.items() if key in names})


def without_digits(row: Mapping[str, float]) -> dict[str, float]:
    """The row with mean losses of three decimals: with all digits, the mean over a few dozen records tells which records they were."""
    return {key: round(value, 3) if key.endswith("_loss") else value for key, value in row.items()}


def final_predictions(model: _Trained, data: LabeledData, plan: Plan) -> Predictions:
    """The model's outputs for members and non-members; record ids are positions in the data set, or numbers that kept copies share."""
    index = plan.audited
    outputs = named(model.form, model.predict(index))
    return Predictions(
        **outputs, labels=data.y[index], member=plan.member, record_ids=data.record_ids(index), groups=data.groups_of(index)
    )


def final_audit(
    evidence: Evidence, request: AuditRequest, *, setting: str, seed: int, epoch: int, stop: StopFlag
) -> AuditReport:
    """The audit of the trained model, with progress by attack."""
    from memberscope.tfprivacy import Metadata

    predictions = evidence.target
    correct = signals.correctness(predictions)
    loss = signals.loss_nats(predictions)
    sides = [predictions.member, ~predictions.member]
    accuracy_train, accuracy_test = (float(correct[side].mean()) for side in sides)
    loss_train, loss_test = (float(loss[side].mean()) for side in sides)
    metadata = Metadata(
        accuracy_train=accuracy_train, accuracy_test=accuracy_test, loss_train=loss_train, loss_test=loss_test, name=setting, epoch=epoch
    )  # fmt: skip
    with attack_progress(request.attacks, setting, stop) as on_attack:
        report = run_audit(evidence, request=request, seed=seed, metadata=metadata, on_attack=on_attack)
    stop.check()
    return report


def _history(rows: list[dict[str, float]]) -> pd.DataFrame:
    import pandas as pd

    columns = ["epoch", "train_accuracy", "train_loss", "val_accuracy", "val_loss", "auc", "advantage"]
    return pd.DataFrame(rows, columns=columns).astype({"epoch": int})


def overfit_onset(history: pd.DataFrame, margin: float = ONSET_MARGIN) -> int | None:
    """The first epoch from which train accuracy stays more than `margin` above validation accuracy to the end; None if there is none."""
    above = (history["train_accuracy"] - history["val_accuracy"]).to_numpy() > margin
    if not above[-1]:
        return None
    under = np.flatnonzero(~above)
    first = int(under[-1]) + 1 if len(under) else 0
    return int(history["epoch"].iloc[first])


def _summary(history: pd.DataFrame, model: _Trained) -> dict[str, float]:
    last = history.iloc[-1]
    summary = {
        "train_accuracy": float(last["train_accuracy"]),
        "val_accuracy": float(last["val_accuracy"]),
        "gap": float(last["train_accuracy"] - last["val_accuracy"]),
    }
    if model.parameters is not None:
        summary["parameters"] = float(model.parameters)
    onset = overfit_onset(history) if model.followed else None
    if onset is not None:
        summary["overfit_onset_epoch"] = float(onset)
    return summary


def _log_inputs(prepared: Prepared, model: Training | None, trainer: Trainer, audit: AuditConfig, tracker: Tracker) -> None:
    data, plan = prepared.data, prepared.plan
    resolved: dict[str, Plain] = {
        "data.name": data.name, "data.classes": data.classes, "data.class_names": ",".join(data.class_names),
        "data.digest": shown_digest(data, data.digest), "data.label_noise": prepared.noise,
        "data.members": len(plan.members), "data.nonmembers": len(plan.nonmembers),
        "data.validation": "nonmembers" if plan.validation_is_nonmembers else len(plan.validation),
        "plan.digest": shown_digest(data, plan.digest),
        **({} if prepared.canaries is None else prepared.canaries.facts),
        **trainer.describe(), **({"model.parameters": model.parameters} if model is not None else {}),
        "audit.attacks": audit.attacks, "audit.primary": audit.primary, "audit.slices": audit.slices,
        "audit.engine": audit.engine, "study.seed": prepared.seed, **reading_facts(data, plan.sides),
    }  # fmt: skip
    tracker.params(resolved)
    tracker.text(as_json(resolved), artifacts.CONFIG)
    if model is not None:
        tracker.text(model.summary, artifacts.MODEL_SUMMARY)
    log_trainer(trainer, tracker)
    splits = {"member": plan.members, "nonmember": plan.nonmembers}
    if not plan.validation_is_nonmembers:
        splits["validation"] = plan.validation
    for context, index in splits.items():
        tracker.data(
            DataInput(
                name=data.name,
                context=context,
                digest=shown_digest(data, data.part_digest(context, index)),
                source=data.source,
                shape=(len(index), *data.shape),
                classes=data.classes,
            )
        )
    hidden = audit.private_artifacts or (data.keyed and not audit.show_records)
    if not hidden and can_be_shown(data) and len(plan.validation) and not plan.validation_is_nonmembers:
        tracker.figure(sample_of(prepared), artifacts.DATA_SAMPLE)


def can_be_shown(data: LabeledData) -> bool:
    """Whether the records are images whose numbers stand for colours."""
    return queries.is_image(data.x) and (
        data.x.dtype in (np.uint8, np.bool_) or bool(((data.x[:1000] >= 0) & (data.x[:1000] <= 1)).all())
    )


def sample_of(prepared: Prepared) -> Any:
    """A figure of up to 25 validation records, which are never audited, with their class names."""
    data, plan = prepared.data, prepared.plan
    pool = plan.validation
    index = seeds.stream(prepared.seed, "sample").choice(pool, size=min(25, len(pool)), replace=False)
    noise = f", {prepared.noise:.0%} of labels replaced at random" if prepared.noise else ""
    return plots.sample_figure(
        data.x[index], [data.class_names[label] for label in data.y[index]], title=f"{data.name}: {data.classes} classes{noise}"
    )


def log_result(
    trained: AuditedModel, tracker: Tracker, *, epochs: int, source: str, private: bool = False, show_records: bool = False
) -> None:
    """Log the final audit, the history of the training and the most exposed records; `source` is the data set's digest.

    `private` and `show_records` are those of `memberscope.audit.log.log_exposed`.
    """
    title = f"{trained.name}: membership inference, all records"
    log_audit(trained.report, tracker, source=source, step=epochs, title=title, private=private)
    for name in ("gap", "overfit_onset_epoch"):
        tracker.metrics(logged(name, "", trained.summary.get(name)), step=epochs)
    log_exposed(
        trained.report, tracker, seed=trained.seed, top=EXPOSED, source=source, private=private, show_records=show_records
    )
    tracker.table(trained.history, artifacts.HISTORY)
