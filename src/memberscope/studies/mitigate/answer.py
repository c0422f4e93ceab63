"""The result of a mitigation study: its tables, verdicts and page, from the audits of all mitigations at all seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope import metrics, plots
from memberscope.audit import artifacts
from memberscope.audit.bounds_table import Judgement
from memberscope.audit.canaries import canary_metrics
from memberscope.audit.log import log_repeated
from memberscope.audit.promise import log_frame, metrics_of
from memberscope.audit.wording import finding, markdown
from memberscope.config.mitigation import MitigateConfig
from memberscope.metrics.rounding import logged, logged_each
from memberscope.release import parse_release
from memberscope.release.undo import temperature_of
from memberscope.studies.mitigate import promises
from memberscope.studies.mitigate.audited import MitigationAudit
from memberscope.studies.mitigate.mitigations import UNDEFENDED, Mitigation
from memberscope.studies.mitigate.promises import Promise
from memberscope.studies.mitigate.verdicts import DISAGREE, AttackChange, attack_changes, changes_table, opposed
from memberscope.studies.result import StudyResult
from memberscope.tracking import Tracker

if TYPE_CHECKING:
    import pandas as pd

CHANGED = ("auc", "advantage_heldout", "tpr_at_fpr_0_01")
BOUND = ("epsilon_lower_bound", "epsilon_lower_bound_ceiling")
COST = ("canary/accuracy_without", "canary/accuracy_cost")


def estimate_of(one: MitigationAudit, attack: str, figure: str) -> metrics.Estimate | None:
    """A metric of a mitigation's audit, with its interval over the records; None if the attack was skipped."""
    estimate = one.report.result(attack).figures.get(figure)
    return None if estimate is None or estimate.status == "skipped" else estimate


def figure_of(one: MitigationAudit, attack: str, figure: str) -> float | None:
    """The value of a metric of a mitigation's audit; None if the attack was skipped."""
    estimate = estimate_of(one, attack, figure)
    return None if estimate is None else float(estimate.value)


def frame_by_seed(
    mitigations: Sequence[Mitigation], audits: Mapping[str, list[MitigationAudit]], promise: Promise
) -> pd.DataFrame:  # fmt: skip
    """A row per mitigation and seed: utility, and each metric of `CHANGED`, of the mitigation's primary attack and of `Mitigation.against`
    on the undefended model; and whether the seed by itself keeps the promise.
    """
    import pandas as pd

    rows = []
    for mitigation in mitigations:
        for one, plain in zip(audits[mitigation.name], audits[UNDEFENDED], strict=True):
            row: dict[str, Any] = {
                "rung": mitigation.name,
                "seed": one.seed,
                "primary": mitigation.primary,
                "against": mitigation.against,
                **one.utility,
            }
            for figure in CHANGED:
                own = estimate_of(one, mitigation.primary, figure)
                row[figure] = None if own is None else float(own.value)
                row |= {f"{figure}_{end}": None if own is None else getattr(own, end) for end in ("ci_low", "ci_high")}
                row[f"undefended_{figure}"] = figure_of(plain, mitigation.against, figure)
            result = one.report.result(mitigation.primary)
            for figure in BOUND:
                row[figure] = figure_of(one, mitigation.primary, figure)
            row["epsilon"] = one.mitigated.epsilon
            row["delta"] = one.mitigated.delta if result.one_run is None else result.one_run.delta
            row["seconds"] = one.mitigated.seconds
            rows.append(row | promises.columns_of(promises.judge([one], promise)))
    return pd.DataFrame(rows)


def attack_frame(mitigations: Sequence[Mitigation], audits: Mapping[str, list[MitigationAudit]]) -> pd.DataFrame:
    """Columns rung (the mitigation), seed, attack, auc; a row for each attack that could be run on a mitigation at a seed."""
    import pandas as pd

    rows = [
        (mitigation.name, one.seed, result.attack, figure_of(one, result.attack, "auc"))
        for mitigation in mitigations
        for one in audits[mitigation.name]
        for result in one.report.whole()
        if result.status == "ok"
    ]
    return pd.DataFrame(rows, columns=["rung", "seed", "attack", "auc"]).dropna()


def judge(frame: pd.DataFrame, *, margin: float) -> dict[str, dict[str, metrics.Verdict]]:
    """For each metric of `CHANGED`, the verdict on each mitigation's per-seed change from the undefended model; Holm over mitigations."""
    found: dict[str, dict[str, metrics.Verdict]] = {}
    for figure in CHANGED:
        changes: dict[str, list[float]] = {}
        for mitigation, part in frame.groupby("rung", sort=False):
            change = (part[figure] - part[f"undefended_{figure}"]).dropna()
            if mitigation != UNDEFENDED and len(change):
                changes[str(mitigation)] = change.tolist()
        found[figure] = metrics.verdicts(changes, margin=margin) if changes else {}
    return found


def table_of(
    frame: pd.DataFrame, judged: Mapping[str, Mapping[str, metrics.Verdict]], kept: Mapping[str, Judgement]
) -> pd.DataFrame:  # fmt: skip
    """The table of mitigations: a row per mitigation, with means over seeds and their t intervals, changes with verdicts, and whether the
    promise is kept, judged by all seeds.

    With one seed there is no interval over seeds: the metrics of its audit keep their intervals over the records.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for mitigation, part in frame.groupby("rung", sort=False):
        row: dict[str, Any] = {
            "rung": mitigation,
            "primary": part["primary"].iloc[0],
            "against": part["against"].iloc[0],
            "seeds": len(part),
        }
        row["delta"] = part["delta"].iloc[0]
        for name in ("train/accuracy", "val/accuracy", "val/loss", "val/ece", *COST, *CHANGED, "seconds"):
            values = part[name].dropna().to_numpy(dtype=float) if name in part else np.empty(0)
            if len(values):
                mean = metrics.paired_seeds(values)
                row |= {name: mean.mean, f"{name}_ci_low": mean.ci_low, f"{name}_ci_high": mean.ci_high}
        if len(part) == 1:
            row |= {f"{figure}_{end}": part[f"{figure}_{end}"].iloc[0] for figure in CHANGED for end in ("ci_low", "ci_high")}
        for figure in CHANGED:
            verdict = judged.get(figure, {}).get(str(mitigation))
            if verdict is not None:
                change = verdict.difference
                row |= {
                    f"{figure}_change": change.mean,
                    f"{figure}_change_ci_low": change.ci_low,
                    f"{figure}_change_ci_high": change.ci_high,
                }
                row |= {f"{figure}_verdict": verdict.verdict}
        row["epsilon"] = part["epsilon"].max()
        row |= {figure: part[figure].iloc[0] for figure in BOUND}  # of the first seed: the best of several would not be a bound
        rows.append(row | promises.columns_of(kept[str(mitigation)]))
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table of mitigations for people, with metrics and intervals as text."""
    import pandas as pd

    def text(row: Mapping[str, Any], name: str, *, signed: bool = False) -> str:
        value, low, high = (row.get(key) for key in (name, f"{name}_ci_low", f"{name}_ci_high"))
        if value is None or value != value:
            return ""
        form = "+.3f" if signed else ".3f"
        return f"{value:{form}}" + ("" if low is None or low != low else f" ({low:{form}} to {high:{form}})")

    rows = []
    for row in table.to_dict("records"):
        shown_row = {
            "rung": row["rung"],
            "accuracy": text(row, "val/accuracy"),
            "loss": text(row, "val/loss"),
            "ECE": text(row, "val/ece"),
        }
        shown_row |= {"primary attack": row["primary"], "AUC": text(row, "auc"), "advantage": text(row, "advantage_heldout")}
        shown_row |= {"TPR at FPR 0.01": text(row, "tpr_at_fpr_0_01"), "AUC change": text(row, "auc_change", signed=True)}
        shown_row |= {"verdict": row.get("auc_verdict") if isinstance(row.get("auc_verdict"), str) else ""}
        if COST[1] in row:
            shown_row["cost of canaries"] = text(row, COST[1], signed=True)
        shown_row["epsilon"] = "" if row["epsilon"] != row["epsilon"] else f"{row['epsilon']:.2f}"
        shown_row["delta"] = "" if row["delta"] != row["delta"] else f"{row['delta']:.1e}"
        bound, ceiling, ratio = (row[name] for name in ("bound", "bound_ceiling", "promise_ratio"))
        shown_row["epsilon at least"] = "" if bound is None or bound != bound else f"{bound:.2f} of at most {ceiling:.2f}"
        ratio = "" if ratio is None or ratio != ratio else f", {ratio:.2f} of it shown"
        shown_row["promise"] = f"{row['promise_verdict']}{ratio}"
        seconds = row.get("seconds")
        shown_row["seconds"] = "" if seconds is None or seconds != seconds else f"{seconds:.1f}"
        rows.append(shown_row)
    return pd.DataFrame(rows)


def pareto(table: pd.DataFrame) -> list[str]:
    """The Pareto front of accuracy and AUC of the primary attack, among the mitigations that share the most frequent primary attack."""
    part = table.dropna(subset=["auc"])
    common = part["primary"].mode().iloc[0] if len(part) else ""
    part = part[part["primary"] == common]
    front = []
    for row in part.to_dict("records"):
        better = (part["val/accuracy"] >= row["val/accuracy"]) & (part["auc"] <= row["auc"])
        strictly = (part["val/accuracy"] > row["val/accuracy"]) | (part["auc"] < row["auc"])
        if not (better & strictly).any():
            front.append(str(row["rung"]))
    return front


def conclude(
    config: MitigateConfig, mitigations: Sequence[Mitigation], audits: Mapping[str, list[MitigationAudit]], tracker: Tracker,
    *, skipped: Mapping[str, str], promise: Promise,
) -> StudyResult:  # fmt: skip
    """Log a child run for each mitigation, the tables, the plot and the page; `skipped` are mitigations that could not be made, and why."""
    frame = frame_by_seed(mitigations, audits, promise)
    kept = {mitigation.name: promises.judge(audits[mitigation.name], promise) for mitigation in mitigations}
    judged = judge(frame, margin=config.margin)
    changes = attack_changes(attack_frame(mitigations, audits), undefended=UNDEFENDED, margin=config.margin)
    disagreeing = opposed(changes, judged["auc"])
    table = table_of(frame, judged, kept)
    if disagreeing:
        table.loc[table["rung"].isin(disagreeing), "auc_verdict"] = DISAGREE
    answers = {
        mitigation.name: sentence(mitigation, judged, disagreeing.get(mitigation.name, ()))
        for mitigation in mitigations
        if mitigation.name in judged["auc"]
    }
    for mitigation in mitigations:
        first = answers.get(mitigation.name) or f"{mitigation.name}: {finding(audits[mitigation.name][0].report)}"
        log_mitigation(mitigation, audits[mitigation.name], table, promise, kept[mitigation.name], tracker, answer=first)
    front = pareto(table)
    readable = shown(table)
    tracker.table(frame, artifacts.BY_SEED)
    tracker.table(table, artifacts.MITIGATIONS)
    tracker.table(readable, artifacts.MITIGATIONS_TABLE)
    log_promises(audits, promise, kept, tracker)
    all_changes = changes_table(changes)
    tracker.table(all_changes, artifacts.ATTACK_CHANGES)
    tracker.table(all_changes.astype(object).where(all_changes.notna(), None), artifacts.ATTACK_CHANGES_TABLE)
    tracker.figure(plots.pareto_figure(table, front), artifacts.UTILITY_FIGURE)
    plain = table.set_index("rung").loc[UNDEFENDED]
    for name in ("auc", "val/accuracy"):
        tracker.metrics(logged(name, UNDEFENDED, *_with_ends(plain, name)))
    verdicts = {
        mitigation: DISAGREE if mitigation in disagreeing else verdict.verdict for mitigation, verdict in judged["auc"].items()
    }
    tracker.tags({f"memberscope.verdict.{mitigation}": verdict for mitigation, verdict in verdicts.items()})
    lines = list(answers.values())
    lines += filter(None, [promises.words_of(name, one) for name, one in kept.items()])
    notes = [*filter(None, [promises.describe(kept[UNDEFENDED])]), *skipped_lines(mitigations, audits), *unmade_lines(skipped)]
    tracker.describe(f"**{opening(judged['auc'], verdicts)}**\n\n" + page(config, mitigations, readable, front, lines, notes))
    return StudyResult(table=readable.to_string(index=False), answer="\n".join([*lines, *notes]))


def log_promises(
    audits: Mapping[str, list[MitigationAudit]], promise: Promise, kept: Mapping[str, Judgement], tracker: Tracker
) -> None:  # fmt: skip
    """Log the table of bounds of all mitigations, and of those with a promise the verdict as a tag, and bound and ratio as metrics."""
    bounds = promises.table_of_bounds(audits, promise)
    if len(bounds):
        log_frame(bounds, tracker)
    for name, judged in kept.items():
        if judged.promise is not None:
            tracker.tags({f"memberscope.promise.{name}": judged.verdict})
            tracker.metrics(metrics_of(judged, name))


def log_mitigation(
    mitigation: Mitigation, audits: Sequence[MitigationAudit], table: pd.DataFrame, promise: Promise, kept: Judgement, tracker: Tracker,
    *, answer: str,
) -> None:  # fmt: skip
    """Log a mitigation's child run: every attack at every seed, mean metrics, epsilon by epoch, bounds of epsilon and the promise. Its page
    begins with `answer`.
    """
    tags = {"memberscope.kind": "mitigation", "memberscope.rung": mitigation.name, "memberscope.primary": mitigation.primary}
    tags["memberscope.promise"] = kept.verdict
    about = f"{mitigation.about}. Assessed by `{mitigation.primary}`."
    with tracker.child(mitigation.name, tags=tags, description=f"**{answer}**\n\n{about}") as child:
        child.params(
            {"mitigate.rung": mitigation.name, "mitigate.training": mitigation.training, "mitigate.release": mitigation.release}
        )
        if mitigation.rung is not None:
            child.params(dict(mitigation.rung.trainer.describe()))
        log_repeated({one.seed: one.report for one in audits}, child)
        log_canaries_of(audits, child)
        log_promises({mitigation.name: list(audits)}, promise, {}, child)
        child.metrics(metrics_of(kept, promises.attack_of(audits[0])))
        for one in audits:
            child.metrics(logged_each(one.utility), step=one.seed)
        for epoch, epsilon in enumerate(audits[0].mitigated.epsilons.tolist(), start=1):
            if np.isfinite(epsilon):
                child.metrics({"epsilon": epsilon}, step=epoch)
        row = table.set_index("rung").loc[mitigation.name]
        for name in CHANGED:
            child.metrics(logged(f"{name}_mean", mitigation.primary, *_with_ends(row, name)))
        child.metrics(logged("accuracy_mean", "", *_with_ends(row, "val/accuracy")))


def _with_ends(row: pd.Series, name: str) -> tuple[float | None, float | None, float | None]:
    """A metric of a row of the table, and the ends of its interval; None for what is not known."""
    value, low, high = (
        None if one is None or one != one else float(one)
        for one in (row.get(f"{name}{end}") for end in ("", "_ci_low", "_ci_high"))
    )
    return value, low, high


def opening(judged: Mapping[str, metrics.Verdict], verdicts: Mapping[str, str]) -> str:
    """All verdicts in one sentence, those that were reached first: MLflow folds away whatever comes after the first two lines."""
    reached = ("decreases", "increases", "no difference", DISAGREE)
    order = sorted(
        dict.fromkeys(verdicts.values()), key=lambda verdict: reached.index(verdict) if verdict in reached else len(reached)
    )
    parts = []
    for verdict in order:
        names = [f"{name} ({judged[name].difference.mean:+.3f})" for name, own in verdicts.items() if own == verdict]
        parts.append(f"{verdict}: {', '.join(names)}")
    return f"AUC of the primary attack against the undefended model: {'; '.join(parts) or 'nothing to compare'}."


def log_canaries_of(audits: Sequence[MitigationAudit], tracker: Tracker) -> None:
    """Log the audits of a mitigation's canaries at all seeds: metrics with the seed as the step, and one table with a column ``seed``."""
    import pandas as pd

    reports = {one.seed: one.canaries for one in audits if one.canaries is not None}
    for seed, report in reports.items():
        tracker.metrics(canary_metrics(report), step=seed)
    if reports:
        frames = [report.to_frame().assign(seed=seed) for seed, report in reports.items()]
        tracker.table(pd.concat(frames, ignore_index=True), artifacts.CANARIES)


def sentence(
    mitigation: Mitigation, judged: Mapping[str, Mapping[str, metrics.Verdict]], disagreeing: Sequence[AttackChange] = ()
) -> str:
    """One line: how the mitigation changes the AUC of its primary attack, or how each attack changes if they disagree."""
    verdict = judged["auc"][mitigation.name]
    if disagreeing:
        shown = ", ".join(f"{one.attack} {one.change.mean:+.3f}" for one in disagreeing)
        primary = f"primary {mitigation.primary} {verdict.difference.mean:+.3f}"
        return f"{mitigation.name}: {DISAGREE} ({shown}; each shown at 95%, Holm over the mitigations); {primary}."
    change = verdict.difference
    if temperature_of(parse_release(mitigation.release)) is not None:
        mean = f"{change.mean:+.3f} over {change.n_seeds} seed{'s' if change.n_seeds > 1 else ''}"
        return f"{mitigation.name}: {verdict.verdict} ({mean}): an attacker who knows the temperature undoes it exactly."
    against = "" if mitigation.against == mitigation.primary else f" from that of {mitigation.against} on the undefended model"
    line = f"{mitigation.name}: AUC of {mitigation.primary} {verdict.verdict}{against} ({change.mean:+.3f}"
    if change.ci_low is not None and change.ci_high is not None:
        line += f", 95% {change.ci_low:+.3f} to {change.ci_high:+.3f} over {change.n_seeds} seeds"
    return line + (f"; {verdict.reason})." if verdict.reason else ").")


def skipped_lines(mitigations: Sequence[Mitigation], audits: Mapping[str, list[MitigationAudit]]) -> list[str]:
    """The attacks that could not be run on a mitigation, and why."""
    lines = []
    for mitigation in mitigations:
        results = audits[mitigation.name][0].report.results
        missing = {result.attack: result.reason for result in results if result.status != "ok"}
        if missing:
            reasons = dict.fromkeys(missing.values())
            text = "; ".join(f"{', '.join(a for a, r in missing.items() if r == reason)}: {reason}" for reason in reasons)
            lines.append(f"Skipped on {mitigation.name}: {text}.")
    return lines


def unmade_lines(skipped: Mapping[str, str]) -> list[str]:
    """A line for each reason why mitigations could not be made with this trainer and these data."""
    reasons = dict.fromkeys(skipped.values())
    return [f"Not made: {', '.join(name for name, reason in skipped.items() if reason == each)}: {each}." for each in reasons]


def page(
    config: MitigateConfig,
    mitigations: Sequence[Mitigation],
    readable: pd.DataFrame,
    front: Sequence[str],
    lines: Sequence[str],
    notes: Sequence[str],
) -> str:
    """The parent run's page."""
    parts = [
        f"# Mitigations on {config.dataset}, {config.seeds} seed{'s' if config.seeds > 1 else ''}",
        "Results are those of each mitigation's primary attack, chosen before anything ran. Every attack sees only what is published, and "
        "shadows are trained and released as the target is. If a release can be inverted (a temperature), the attacker inverts it. "
        "Changes are relative to the same attack on the undefended model, paired by seed; if only labels are published, relative to the "
        "undefended model's primary attack, which labels alone do not allow. Verdicts are adjusted for the number of mitigations (Holm) "
        f"at a margin of {config.margin:g} and need at least 5 seeds. Every attack's change is in "
        f"`{artifacts.ATTACK_CHANGES}`; if attacks are shown to change in opposite directions, the mitigation has no "
        f"verdict (*{DISAGREE}*).",
        markdown(readable),
        f"Pareto front of mean accuracy and mean AUC: {', '.join(front)}.",
        "\n".join(f"- {line}" for line in lines),
        "\n".join(f"- **{mitigation.name}**: {mitigation.about}." for mitigation in mitigations),
        "\n".join(f"- {line}" for line in notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
