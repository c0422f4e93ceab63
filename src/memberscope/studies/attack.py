"""Entry point `attack`: audit what a model said, from a file; no model, no training, no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import controls as room
from memberscope import kept_controls, metrics, plots, seeds, slices
from memberscope.attacks import registry, risk
from memberscope.attacks.base import Skip
from memberscope.audit import AuditReport, Cell, check_engine, resolve_attacks, resolve_primary, run_audit
from memberscope.config import AttackOptionsConfig, AttackStudyConfig, groups
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.interrupt import StopFlag
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.studies import gated
from memberscope.studies.audited import (
    Checks,
    attack_progress,
    finding,
    headline_table,
    keep_scores,
    log_headline,
    markdown,
)
from memberscope.studies.result import StudyResult
from memberscope.tracking import Tracker, as_json

THUMBNAILS = 25
NEURAL, METRIC = "trained_mlp", "metric_modified_entropy"


def run(config: AttackStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Audit the file and log the report to one run.

    Raises:
        UserError: before anything is logged, for a file, attack, slice or engine that is not as it should be.
    """
    if not config.predictions:
        raise UserError("predictions=: missing; allowed: the path of an .npz with the keys of Predictions")
    check_engine(config.engine)
    names = resolve_attacks(config.attacks, engine=config.engine)
    primary = resolve_primary(config.primary, names, present=("target", *(["shadows"] if config.shadow else [])))
    gated.check_rules(config, names)
    target = Predictions.load(config.predictions)
    gated.check_rules(config, names, classes=slices.class_names(target))
    shadow = ShadowPredictions.load(config.shadow) if config.shadow else None
    evidence = Evidence(target=target, shadows=shadow)
    with attack_progress(names, "audit", stop) as on_attack:
        report = report_on(evidence, config, names=names, primary=primary, on_attack=on_attack)
    stop.check()
    tracker.text(as_json(groups(config)), "study.json")
    checks = controls(config, distinct(report, evidence), report, names, stop).with_notes(said_of_copies(report))
    log_report(report, tracker, config, checks)
    stopped = gated.gate(report, config, tracker)
    lines = [finding(report), *checks.texts.values(), *gated.sentences(config, stopped)]
    return StudyResult(table=headline_table(report).to_string(index=False), answer="\n".join(lines), gate=stopped)


def report_on(
    evidence: Evidence,
    config: AttackOptionsConfig,
    *,
    names: tuple[str, ...],
    primary: str,
    duplicates: str = "",
    on_attack: Callable[[str], None] = lambda name: None,
) -> AuditReport:
    """Run an audit with the options of a configuration.

    Args:
        evidence: what is audited.
        config: the options.
        names: the attacks that `config` asks for, resolved.
        primary: the primary attack that it asks for, resolved.
        duplicates: what happens to exact copies; that of `config` unless given.
        on_attack: see `memberscope.audit.run_audit`.
    """
    return run_audit(
        evidence, attacks=names, primary=primary, slices=f"entire,{config.slices}", engine=config.engine,
        seed=config.seed, refit=config.refit == "yes", min_records=config.min_records, prior=config.prior,
        coin_flips=config.coin_flips == "yes", duplicates=duplicates or config.duplicates, delta=config.delta,
        promise=config.promise, on_attack=on_attack,
    )  # fmt: skip


def distinct(report: AuditReport, evidence: Evidence) -> Evidence:
    """The evidence on the distinct records that the report is about."""
    return evidence if report.distinct is None else report.distinct.evidence


def said_of_copies(report: AuditReport, *, overlap: bool = True) -> dict[str, str]:
    """A sentence on exact copies on one side and, if `overlap`, one on records on both sides; only those with something to say."""
    found = report.distinct
    if found is None:
        return {}
    lines = {"copies": found.copies_line, "overlap": found.overlap_line if overlap else ""}
    return {name: line for name, line in lines.items() if line}


def controls(
    config: AttackOptionsConfig, evidence: Evidence, report: AuditReport, names: tuple[str, ...], stop: StopFlag
) -> Checks:
    """The controls, and one sentence on each: what it says of the figures."""
    first = report.headline
    if config.controls == "none" or first is None:
        return Checks()
    found: dict[str, str] = {}
    if "null_auc" in first.figures:
        null, p = first.figures["null_auc"], first.figures["null_p_value"]
        found["null"] = (
            f"null control of {first.attack} ({null.reason}): AUC {null.value:.3f}, 95% between {null.ci_low:.3f} and "
            f"{null.ci_high:.3f}; p {p.value:.3g}."
        )
    blind = room.blind_control(evidence.target, seed=config.seed)
    found["blind"] = f"Blind control: {blind.sentence}."
    if config.controls == "full" and config.engine == "fast":
        for attack in registry.resolve(names):
            if attack.family == "trained":
                stop.check()
                null_refit = room.refitted_null(evidence, attack, seed=config.seed)
                if not isinstance(null_refit, Skip):
                    chance = f"mean AUC {null_refit.mean_auc:.3f}; p {null_refit.p_value:.3g}"
                    found[f"refit_{attack.name}"] = f"{attack.name} refitted on {len(null_refit.draws)} permutations: {chance}."
    return Checks(texts=found, blind=blind)


def log_report(
    report: AuditReport, tracker: Tracker, config: AttackOptionsConfig, checks: Checks, *, source: str = "given"
) -> None:
    """Everything that the run shows; `source` says what its record ids count (see `memberscope.kept_scores`)."""
    target = report.target
    tracker.tags({"memberscope.kind": "audit", "memberscope.engine": report.engine})
    tracker.params(
        {
            "data.members": target.n_member, "data.nonmembers": target.n_nonmember, "data.classes": target.n_classes or 0,
            "data.form": target.form, **({} if report.distinct is None else report.distinct.facts),
        }
    )  # fmt: skip
    tracker.metrics(report.headlines())
    log_headline(report, tracker)
    tracker.table(report.to_frame(), "attacks.csv")
    tracker.table(headline_table(report), "attacks.json")
    keep_scores(report, tracker, source=source)
    tracker.text(checks.to_json(), kept_controls.FILE)
    for cell in report.whole():
        if cell.scores is not None and cell.member is not None:
            title = f"{cell.attack}: AUC {cell.figures['auc'].value:.3f}"
            tracker.figure(plots.score_figure(cell.scores, cell.member, title=title), f"scores/{cell.attack}.png")
    log_curves(report, tracker, seed=config.seed)
    exposed = log_risk(report, tracker, seed=config.seed, top=config.top)
    dispersion = log_dispersion(report, tracker, seed=config.seed)
    text = summary(report, checks, exposed, dispersion)
    tracker.text(text, "summary.md")
    tracker.describe(text)


def log_curves(report: AuditReport, tracker: Tracker, *, seed: int) -> None:
    """ROC curves of all attacks on all records, the primary one first and with its band, and the points they draw."""
    cells = primary_first(report)
    if not cells:
        return
    curves = {cell.attack: cell.roc for cell in cells}
    points = plots.roc_points(curves)
    band = plots.band_points(cells[0], rng=seeds.stream(seed, "band")).assign(attack=cells[0].attack)
    labels = {name: f"{name} (AUC {report.cell(name).figures['auc'].value:.3f})" for name in curves}
    tracker.table(points, "roc.csv")
    tracker.table(band, "roc_band.csv")
    tracker.figure(plots.roc_figure(points, title="membership inference, all records", labels=labels, band=band), "roc.png")


def primary_first(report: AuditReport) -> list[Cell]:
    """The cells of all records, that of the primary attack first."""
    first = report.headline.attack if report.headline else ""
    return sorted(report.whole(), key=lambda cell: cell.attack != first)


def log_risk(report: AuditReport, tracker: Tracker, *, seed: int, top: int) -> str:
    """The risk table, the lift of the riskiest records, and thumbnails; one sentence on them."""
    import pandas as pd

    target = report.target
    found = risk.privacy_risk(target, seed=seed)
    if isinstance(found, Skip):
        return f"Privacy risk score: skipped, {found.reason}."
    rows = risk.most_exposed(found, target, top=top)
    given = [row | {"position": int(report.positions[row["position"]])} for row in rows]
    tracker.table(pd.DataFrame(given), "most_exposed.csv")
    k = max(1, min(len(target) // 100, 1000))
    lift = risk.lift(found, target, k=k)
    inputs = target.inputs
    if inputs is not None and inputs.ndim == 4 and inputs.shape[-1] in (1, 3):
        chosen = [row["position"] for row in rows[:THUMBNAILS]]
        names = [f"{row['label']}: {row['probability']:.2f}" for row in rows[:THUMBNAILS]]
        images = inputs[chosen]
        if images.dtype != np.uint8:
            images = np.clip(images / (255.0 if images.max() > 1 else 1.0), 0, 1)
        tracker.figure(plots.sample_figure(images, names, title="most exposed members (class: risk)"), "most_exposed.png")
    return (
        f"Privacy risk score (cross-fitted): of the {k} riskiest records {lift.members} are members, "
        f"{lift.lift:.2f} times the share among all (95% {lift.lift_low:.2f} to {lift.lift_high:.2f})."
    )


def without_gaps(inputs: NDArray[Any]) -> NDArray[Any]:
    """Inputs (n, ...) whose missing or infinite numbers are their column's mean, as the blind control takes them."""
    if inputs.dtype.kind != "f" or np.isfinite(inputs).all():
        return inputs
    known = np.isfinite(inputs)
    totals = np.where(known, inputs, 0.0).sum(axis=0, dtype=np.float64)
    filled: NDArray[Any] = np.where(known, inputs, totals / np.maximum(known.sum(axis=0), 1))
    return filled


def log_dispersion(report: AuditReport, tracker: Tracker, *, seed: int) -> str:
    """Within-class dispersion against the primary attack's AUC by class; one sentence, or nothing where inputs are not known."""
    import pandas as pd

    from memberscope import dispersion

    target = report.target
    if target.inputs is None or target.labels is None or report.headline is None:
        return ""
    first = report.headline.attack
    names = slices.class_names(target)
    cells = {
        names.index(cell.slice): cell
        for cell in report.cells
        if cell.attack == first and cell.slice in names and cell.status == "ok"
    }
    scored = target.form in ("logits", "probs")
    numbers = target.labels if scored else np.unique(target.labels, return_inverse=True)[1]  # positions among the names
    try:
        by_class = dispersion.class_dispersion(without_gaps(target.inputs), numbers, seed=seed)
    except UserError as error:
        return f"Class dispersion against AUC: skipped, {error}."
    shared = [label for label in cells if label in by_class.by_class]
    result = dispersion.dispersion_against({label: cells[label].figures["auc"].value for label in shared}, by_class, seed=seed)
    frame = pd.DataFrame(
        [
            {
                "class": names[label].removeprefix("class_"), "dispersion": by_class.by_class[label],
                "auc": cells[label].figures["auc"].value,
                "ci_low": cells[label].figures["auc"].ci_low, "ci_high": cells[label].figures["auc"].ci_high,
            }
            for label in shared
        ]
    )  # fmt: skip
    tracker.table(frame, "dispersion.csv")
    if result.status != "ok":
        return f"Class dispersion against AUC: skipped, {result.reason}."
    tracker.figure(plots.dispersion_figure(frame, title=f"{first} by class"), "dispersion.png")
    return (
        f"Class dispersion ({by_class.kind}) against AUC of `{first}` by class: rank correlation {result.correlation:+.2f} over "
        f"{result.n_classes} classes, permutation p {result.p_value:.3g}. The case study expects it below zero."
    )


def neural_against_metric(report: AuditReport) -> str:
    """Does a neural attack understate the risk, as Song & Mittal say? A paired test on the same records, of this one model.

    With shadows, of their figure: the balanced accuracy of the metric attack's decisions against the perceptron's, whose log-odds come
    from balanced training parts and decide at 0. Without shadows there is no metric attack with a threshold of its own; then of the AUCs
    of the loss threshold and the perceptron.
    """
    scores = report.whole_scores
    if NEURAL not in scores:
        return ""
    if METRIC in scores:
        figure, other = "balanced accuracy", METRIC
        difference, low, high, p = compare_decisions(scores[METRIC] >= 0, scores[NEURAL] >= 0, report.target.member)
    elif "threshold_loss" in scores:
        figure, other = "AUC", "threshold_loss"
        test = metrics.compare_auc(scores[other], scores[NEURAL], report.target.member)
        difference, low, high, p = test.difference, test.ci_low, test.ci_high, test.p_value
    else:
        return ""
    if p > 0.05:
        found = "for this model neither is shown to be stronger"
    elif difference > 0:
        found = "for this model the neural attack understates the risk, as they say"
    else:
        found = "for this model the neural attack is the stronger one, against their claim"
    note = "" if other == METRIC else " (without shadows, the loss threshold stands for the metric attacks)"
    return (
        f"Song & Mittal: {found}{note}: {figure} `{other}` minus `{NEURAL}` {difference:+.4f} "
        f"(95% {low:+.4f} to {high:+.4f}, p {p:.2g}; paired, of this one model)."
    )


def compare_decisions(
    first: NDArray[np.bool_], second: NDArray[np.bool_], member: NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    """The paired difference of two rules' balanced accuracies on the same records: value, 95% interval, two-sided p.

    Each record's difference in correctness is averaged over members and over non-members; the two means are independent, so the
    variance of their half sum is a quarter of the sum of theirs (normal approximation: hundreds of records a side).

    Args:
        first, second: (n,) called a member?
        member: (n,) truth; both sides must occur.
    """
    from statistics import NormalDist

    gain = (first == member).astype(np.float64) - (second == member)
    sides = [gain[member], gain[~member]]
    difference = sum(float(side.mean()) for side in sides) / 2
    error = float(np.sqrt(sum(side.var(ddof=1) / len(side) for side in sides))) / 2
    normal = NormalDist()
    if error == 0.0:
        return difference, difference, difference, 1.0 if difference == 0 else 0.0
    z = normal.inv_cdf(0.975)
    return difference, difference - z * error, difference + z * error, 2 * (1 - normal.cdf(abs(difference) / error))


def low_fpr_against_symmetric(report: AuditReport) -> str:
    """The attacker who minds false accusations beside the symmetric one."""
    cells = {cell.attack: cell for cell in report.whole()}
    if not {"trained_lowfpr", NEURAL} <= set(cells):
        return ""
    parts = []
    for name in ("trained_lowfpr", NEURAL):
        figure = cells[name].figures["partial_auc_fpr_0_01"]
        if figure.status == "skipped" or figure.ci_low is None:
            return ""
        parts.append(f"`{name}` {figure.value:.4f} (95% {figure.ci_low:.4f} to {figure.ci_high:.4f})")
    return f"Partial AUC below FPR 0.01, standardized: {parts[0]} against the symmetric {parts[1]}."


def summary(report: AuditReport, checks: Checks, exposed: str, dispersion: str) -> str:
    """The markdown page: what was found and how sure it is, then the controls, then the table."""
    target = report.target
    lines = [
        f"**{finding(report)}**",
        f"{target.n_member:,} members against {target.n_nonmember:,} non-members, engine `{report.engine}`.",
    ]
    first = report.headline.attack if report.headline else ""
    worst = [cell for cell in report.cells if (cell.attack, cell.slice) == (first, "worst_slice")]
    if worst:
        figure = worst[0].figures["auc"]
        lines.append(
            f"Worst slice by `{worst[0].attack}`: {figure.reason}: AUC {figure.value:.3f} ({figure.ci_low:.3f} to {figure.ci_high:.3f})."
        )
    lines += [*checks.texts.values(), neural_against_metric(report), low_fpr_against_symmetric(report), exposed, dispersion]
    skipped = {cell.attack: cell.reason for cell in report.cells if cell.slice == "entire" and cell.status != "ok"}
    lines += [f"Skipped: `{attack}`, {reason}." for attack, reason in skipped.items()]
    lines.append("Figures of different attacks are not to be compared as if they measured one thing; see GLOSSARY.md.")
    return "\n\n".join(line for line in lines if line) + "\n\n" + markdown(headline_table(report)) + "\n"
