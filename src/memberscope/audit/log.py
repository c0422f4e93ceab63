"""Logs audits for every study, so that all runs show the same metrics and artifacts under the same names."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import plots, seeds, slices
from memberscope.attacks import risk
from memberscope.attacks.base import Skip
from memberscope.audit import artifacts
from memberscope.audit.controls import Controls, null_of
from memberscope.audit.promise import log_bounds, sentences
from memberscope.audit.report import AuditReport
from memberscope.audit.results import LEAST_STEP
from memberscope.audit.statement_text import statement_text
from memberscope.audit.wording import headline_table, summary
from memberscope.clock import Stage
from memberscope.cores import one_blas_thread
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics import registry
from memberscope.metrics.rounding import in_full, logged
from memberscope.progress import Progress
from memberscope.scores import KeptScores
from memberscope.secret import key
from memberscope.tracking import Tracker, as_json

THUMBNAILS = 25


def log_audit(
    report: AuditReport,
    tracker: Tracker,
    *,
    source: str,
    step: int = 0,
    controls: Controls | None = None,
    title: str = "membership inference, all records",
    band_seed: int | None = None,
    private: bool = False,
) -> None:
    """Log what every audit has: metrics, the primary attack, the tables, bounds of epsilon if memberships were drawn by coins, the
    records' scores, the controls and the ROC curves.

    Args:
        report: the audit.
        tracker: the run.
        source: what the record ids refer to, see `memberscope.scores.KeptScores`.
        step: the step of the metrics: the epoch, for a model that was trained here.
        controls: the controls that were run; None for only the null control of the primary attack, as a metric.
        title: the title of the figure with the ROC curves.
        band_seed: the seed of the bootstrap band around the primary attack's curve; None for no band.
        private: whether to leave out what is stored of each record, such as its scores.
    """
    made = Controls(null=null_of(report)) if controls is None else controls
    log_headline(report, tracker, step=step, beside=report.headlines(rounded=True) | made.metrics())
    log_bounds(report, tracker, step=step)
    tracker.table(report.to_frame(), artifacts.ATTACKS)
    tracker.table(headline_table(report), artifacts.ATTACKS_TABLE)
    tracker.text(report.risk_statement.to_json(), artifacts.RISK_STATEMENT)
    if not private:
        keep_scores(report, tracker, source=source)
    log_curves(report, tracker, title=title, band_seed=band_seed)


@one_blas_thread()
def log_whole_audit(
    report: AuditReport,
    tracker: Tracker,
    *,
    controls: Controls,
    notes: Mapping[str, str],
    seed: int,
    top: int,
    source: str = "given",
    private: bool = False,
    show_records: bool = False,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Log an audit that is a run's whole content: all that `log_audit` logs, and its sizes, histograms, most exposed records, class
    dispersion, the summary page, and how long each stage took up to here.

    Args:
        report: the audit.
        tracker: the run.
        controls: the controls of the audit.
        notes: name -> sentence that a reader must know before any metric.
        seed: the seed of the random draws behind the artifacts.
        top: the number of most exposed records to list.
        source: what the record ids refer to, see `memberscope.scores.KeptScores`.
        private: whether to leave out what is stored of each record: its scores, the most exposed records.
        show_records: whether the most exposed records are shown by their own ids and pictures; otherwise by keyed identities.
        check: called between figures; an exception that it raises ends the logging.
    """
    target = report.target
    tracker.tags({"memberscope.kind": "audit", "memberscope.engine": report.engine})
    tracker.params(
        {
            "data.members": target.n_member, "data.nonmembers": target.n_nonmember, "data.classes": target.n_classes or 0,
            "data.form": target.form, **({} if report.distinct is None else report.distinct.facts),
            **({} if report.groups is None else report.groups.facts), **({} if report.near is None else report.near.facts),
        }
    )  # fmt: skip
    log_audit(report, tracker, source=source, controls=controls, band_seed=seed, private=private)
    tracker.text(controls_json(controls, notes), artifacts.CONTROLS)
    reusable = None
    for result in report.whole():
        check()
        if result.scores is not None and result.member is not None:
            title = f"{result.attack}: AUC {result.figures['auc'].value:.3f}"
            with tracker.clock.stage(Stage.FIGURES):
                figure = plots.drawn(
                    plots.score_figure(result.scores, result.member, title=title, least=LEAST_STEP, reuse=reusable)
                )
            reusable = figure if tracker.figure(figure, artifacts.score_figure(result.attack)) else None
    check()
    exposed = log_exposed(report, tracker, seed=seed, top=top, source=source, private=private, show_records=show_records)
    details = [*sentences(report), exposed, log_dispersion(report, tracker, seed=seed)]
    text = summary(report, notes=notes, controls=controls, details=details) + "\n" + statement_text(report.risk_statement)
    tracker.text(text, artifacts.SUMMARY)
    tracker.describe(text)
    tracker.metrics(tracker.clock.metrics())


def log_repeated(reports: Mapping[int, AuditReport], tracker: Tracker) -> None:
    """Log audits of one setting at several seeds in one run: metrics with the seed as the step, and one table with a column ``seed``."""
    import pandas as pd

    frames = [report.to_frame().assign(seed=seed) for seed, report in reports.items()]
    tracker.table(pd.concat(frames, ignore_index=True), artifacts.ATTACKS)
    for seed, report in reports.items():
        tracker.metrics(report.headlines(rounded=True), step=seed)


def controls_json(controls: Controls, notes: Mapping[str, str]) -> str:
    """The content of `artifacts.CONTROLS`: name -> its ``text`` and, for a control, its values; the notes come first."""
    kept: dict[str, dict[str, Any]] = {name: {"text": text} for name, text in notes.items()}
    return as_json(kept | controls.to_dict())


@contextmanager
def attack_progress(
    names: Sequence[str], label: str, stop: StopFlag, *, alive: bool = False
) -> Iterator[Callable[[str], None]]:
    """Show a progress bar over attacks; with `alive`, also every few seconds while an attack runs.

    Yields a function to call with each attack's name before the attack runs; it raises if a stop was requested.
    """
    with Progress(len(names), f"{label} attacks", unit="attack", alive=alive) as progress:
        begun = 0

        def on_attack(name: str) -> None:
            nonlocal begun
            stop.check()
            progress.advance(min(begun, 1), note=name)
            begun += 1

        yield on_attack
        progress.advance(1)


def keep_scores(report: AuditReport, tracker: Tracker, *, source: str) -> None:
    """Log every attack's scores as ranks, so that the run can be compared with others record by record, or group by group, later."""
    if report.whole_scores:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / artifacts.SCORES
            counted = report.counted
            kept = KeptScores.of(
                report.counted_scores, member=counted.member, record_ids=counted.ids, labels=counted.labels, source=source
            )
            kept.save(path, key=key())
            tracker.file(path, artifacts.SCORES)


def log_headline(
    report: AuditReport, tracker: Tracker, *, step: int = 0, beside: Mapping[str, float] = MappingProxyType({})
) -> None:  # fmt: skip
    """Log the headline as ``headline.json``, as metrics that end in ``/headline``, and its attack as a tag.

    Metrics `beside` these are sent with them: each time, a store looks up the last values of all that it gets.
    """
    tracker.metrics({**beside, **headline_metrics(report, rounded=True)}, step=step)
    found = report.headline
    if found is None:
        return
    tracker.tags({"memberscope.headline": found.attack, "memberscope.headline_chosen": found.chosen})
    tracker.text(found.to_json(), artifacts.HEADLINE)


def headline_metrics(report: AuditReport, *, rounded: bool = False) -> dict[str, float]:
    """The metrics of the headline under names that end in ``/headline``; `rounded` as in `AuditReport.headlines`. Empty without one."""
    values: dict[str, float] = {}
    known = {} if report.headline is None else report.headline.figures
    for spec in registry.headline():
        figure = known.get(spec.name)
        if figure is None or figure.status == "skipped":
            continue
        values |= (logged if rounded else in_full)(spec.name, "headline", figure.value, figure.ci_low, figure.ci_high)
    return values


def log_curves(report: AuditReport, tracker: Tracker, *, title: str, band_seed: int | None) -> None:
    """Log the ROC curves of all attacks on all records, the primary one first and with its band if wanted, and their points."""
    results = report.primary_first()
    if not results:
        return
    curves = {result.attack: result.roc for result in results}
    points = plots.roc_points(curves, least=LEAST_STEP)
    labels = {name: f"{name} (AUC {report.result(name).figures['auc'].value:.3f})" for name in curves}
    tracker.table(points.drop(columns="threshold"), artifacts.ROC)  # a threshold is the score of a record on a known side
    band = None
    if band_seed is not None:
        band = plots.band_points(results[0], rng=seeds.stream(band_seed, "band")).assign(attack=results[0].attack)
        for end in ("low", "high"):  # two digits: a pointwise quantile with all of them is one more equation for the members
            band[end] = [float(f"{value:.2g}") for value in band[end]]
        tracker.table(band, artifacts.ROC_BAND)
    with tracker.clock.stage(Stage.FIGURES):
        figure = plots.drawn(plots.roc_figure(points, title=title, labels=labels, band=band))
    tracker.figure(figure, artifacts.ROC_FIGURE)


def log_exposed(
    report: AuditReport, tracker: Tracker, *, seed: int, top: int, source: str = "given", private: bool = False,
    show_records: bool = False,
) -> str:  # fmt: skip
    """Log the most exposed records, and return one sentence on the lift of the riskiest.

    They are named by keyed identities, without their loss or other signal and without their ranks among all records, unless `show_records`
    asks for these, their own ids, positions and, for images, pictures. If `private`, nothing is logged about single records.
    """
    import pandas as pd

    target = report.target
    found = risk.privacy_risk(target, seed=seed)
    if isinstance(found, Skip):
        return f"Privacy risk score: skipped, {found.reason}."
    rows = risk.most_exposed(found, target, top=top)
    if not private:
        given = [row | {"position": int(report.positions[row["position"]])} for row in rows]
        shown = given if show_records else [_unnamed(row, place, source) for place, row in enumerate(given, start=1)]
        tracker.table(pd.DataFrame(shown), artifacts.MOST_EXPOSED)
    k = max(1, min(len(target) // 100, 1000))
    lift = risk.lift(found, target, k=k)
    inputs = target.inputs
    if show_records and not private and inputs is not None and inputs.ndim == 4 and inputs.shape[-1] in (1, 3):
        chosen = [row["position"] for row in rows[:THUMBNAILS]]
        names = [f"{row['label']}: {row['probability']:.2f}" for row in rows[:THUMBNAILS]]
        images = inputs[chosen]
        if images.dtype != np.uint8:
            images = np.clip(images / (255.0 if images.max() > 1 else 1.0), 0, 1)
        with tracker.clock.stage(Stage.FIGURES):
            figure = plots.drawn(plots.sample_figure(images, names, title="most exposed members (class: risk)"))
        tracker.figure(figure, artifacts.MOST_EXPOSED_FIGURE)
    return (
        f"Privacy risk score (cross-fitted): of the {k} riskiest records {lift.members} are members, "
        f"{lift.lift:.2f} times the share among all (95% {lift.lift_low:.2f} to {lift.lift_high:.2f})."
    )


def _unnamed(row: Mapping[str, Any], place: int, source: str) -> dict[str, Any]:
    """A row of the most exposed records without what could tell the record: its id and position; its signal, which whoever has the model
    knows of each candidate; and its rank among all records, whose gaps are the non-members. `place` is that in the list.
    """
    by_id = row["record_id"] is not None
    one = np.array([row["record_id"] if by_id else row["position"]])
    identity = int(key().identities(one, source=source if by_id else "position")[0])
    return {
        "rank": place, "record": f"{identity:016x}", "label": row["label"], "probability": round(row["probability"], 2),
    }  # fmt: skip


def without_gaps(inputs: NDArray[Any]) -> NDArray[Any]:
    """Inputs (n, ...) whose missing or infinite numbers are replaced by their column's mean, as in the blind control."""
    if inputs.dtype.kind != "f" or np.isfinite(inputs).all():
        return inputs
    known = np.isfinite(inputs)
    totals = np.where(known, inputs, 0.0).sum(axis=0, dtype=np.float64)
    filled: NDArray[Any] = np.where(known, inputs, totals / np.maximum(known.sum(axis=0), 1))
    return filled


def log_dispersion(report: AuditReport, tracker: Tracker, *, seed: int) -> str:
    """Log within-class dispersion against the primary attack's AUC by class; return one sentence, empty where inputs are not known."""
    import pandas as pd

    from memberscope.audit import dispersion

    target = report.target
    if target.inputs is None or target.labels is None or report.headline is None:
        return ""
    first = report.headline.attack
    names = slices.class_names(target)
    results = {
        names.index(result.slice): result
        for result in report.results
        if result.attack == first and result.slice in names and result.status == "ok"
    }
    scored = target.form in ("logits", "probs")
    numbers = target.labels if scored else np.unique(target.labels, return_inverse=True)[1]  # positions among the names
    try:
        by_class = dispersion.class_dispersion(without_gaps(target.inputs), numbers, seed=seed)
    except UserError as error:
        return f"Class dispersion against AUC: skipped, {error}."
    shared = [label for label in results if label in by_class.by_class]
    relation = dispersion.dispersion_against(
        {label: results[label].figures["auc"].value for label in shared}, by_class, seed=seed
    )
    frame = pd.DataFrame(
        [
            {
                "class": names[label].removeprefix("class_"), "dispersion": by_class.by_class[label],
                "auc": results[label].figures["auc"].value,
                "ci_low": results[label].figures["auc"].ci_low, "ci_high": results[label].figures["auc"].ci_high,
            }
            for label in shared
        ]
    )  # fmt: skip
    tracker.table(frame, artifacts.DISPERSION)
    if relation.status != "ok":
        return f"Class dispersion against AUC: skipped, {relation.reason}."
    with tracker.clock.stage(Stage.FIGURES):
        figure = plots.drawn(plots.dispersion_figure(frame, title=f"{first} by class"))
    tracker.figure(figure, artifacts.DISPERSION_FIGURE)
    return (
        f"Class dispersion ({by_class.kind}) against AUC of `{first}` by class: rank correlation {relation.correlation:+.2f} over "
        f"{relation.n_classes} classes, permutation p {relation.p_value:.3g}. The case study expects a negative correlation."
    )
