"""Summarizes several audits, as plain values: the first screen, a row per setting, and the seeds of one setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memberscope.audit import artifacts
from memberscope.report import facts, figures
from memberscope.report.columns import COLUMNS, extra, legend
from memberscope.report.parts import DASH, PageTable, Picture, TableCell, number, svg_picture, with_interval
from memberscope.report.sections import Finding
from memberscope.report.settings import VERDICTS, Setting
from memberscope.tracking import KeptRun

MOST_NAMED = 3  # a piece of advice names at most this many settings
WORDS = {
    "leaks": "leaks",
    "doubt": "in doubt: see its controls",
    "odd": "check the split",
    "quiet": "no better than chance",
    "none": "no interval",
}
TOLD = {
    "leaks": "give away which records they were trained on",
    "doubt": "are in doubt, since members and non-members differ even without the model",
    "odd": "rank non-members above members, which suggests a problem with the split",
    "quiet": "cannot be told from chance with these records",
    "none": "have no interval to judge by",
}


@dataclass(frozen=True, kw_only=True)
class Gates:
    """The gates of several audits.

    Attributes:
        outcome: the most serious outcome; empty if no audit had a gate.
        counted: the number of gates with each outcome, in words.
        unset: the number of audits without a gate.
        not_passed: for each gate that did not pass, the name of the run and the reason.
    """

    outcome: str
    counted: str
    unset: int
    not_passed: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class OverviewScreen:
    """The finding over all settings, the gates, and what to do."""

    finding: Finding
    gates: Gates
    advice: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """The seeds of one setting: a row per seed, the attacks' means over seeds (with descriptions of other packages' metrics), and figures;
    None for a figure whose data were not stored.
    """

    by_seed: PageTable
    attacks: PageTable
    legend: str
    count: int
    epochs: Picture | None
    roc: Picture | None


def seeds_of(setting: Setting) -> Seeds:
    """The summary of a setting with several seeds."""
    histories = [history for run in setting.runs if (history := facts.history(run)) is not None and facts.followed(history)]
    epochs = svg_picture(lambda: figures.by_epoch(histories), alt="accuracy and AUC by epoch") if histories else None
    drawn = any(artifacts.ROC in run.tables for run in setting.runs) and setting.attack
    roc = (
        svg_picture(lambda: figures.over_seeds(setting.runs, setting.labels), alt="ROC curves, one per seed") if drawn else None
    )
    return Seeds(
        by_seed=by_seed(setting), attacks=attacks_over_seeds(setting), legend=legend(extra(setting.runs)), count=len(setting.runs),
        epochs=epochs, roc=roc,
    )  # fmt: skip


def first_screen(settings: Sequence[Setting]) -> OverviewScreen:
    """The finding over all settings, the gates, and what to do."""
    runs = [run for setting in settings for run in setting.runs]
    return OverviewScreen(finding=_finding(settings, runs), gates=_gates(runs), advice=tuple(_advice(settings)))


def _finding(settings: Sequence[Setting], runs: Sequence[KeptRun]) -> Finding:
    judged = [setting.judged for setting in settings]
    seeds = any(setting.several for setting in settings)
    counts, worst = _counted(judged, "settings" if seeds else "models")
    lines: list[str] = []
    if seeds:
        lines.append(f"The runs judged one by one: {_counted([facts.judged(run) for run in runs], 'runs')[0]}.")
    if len(runs) > 1:
        lines.append(
            "Each verdict is a separate test at 95% confidence: of models that give nothing away, one in forty is called leaking by chance."
        )
    lines += dict.fromkeys(facts.doubt(run) for run in runs if facts.doubted(run))
    over = ", judged by the mean AUC over their seeds" if seeds else ""
    return Finding(verdict=worst, text=f"{counts}{over}.", lines=tuple(lines))


def _counted(judged: Sequence[str], what: str) -> tuple[str, str]:
    """The number of verdicts of each kind, in words, and the most serious of them."""
    seen = [verdict for verdict in VERDICTS if verdict in judged]
    total = len(judged)
    return "; ".join(f"{judged.count(verdict)} of {total} {what} {TOLD[verdict]}" for verdict in seen), seen[0]


def _gates(runs: Sequence[KeptRun]) -> Gates:
    """The gates' outcomes, counted, and the reason of each gate that did not pass."""
    decided = [(run.name, found) for run in runs if (found := facts.gate(run)) is not None]
    outcomes = [found.outcome for _, found in decided]
    order = ("trip", "undecided", "pass")
    return Gates(
        outcome=next((outcome for outcome in order if outcome in outcomes), ""),
        counted=", ".join(
            f"{facts.OUTCOMES[outcome]} in {outcomes.count(outcome)}" for outcome in order if outcome in outcomes
        ),
        unset=len(runs) - len(decided),
        not_passed=tuple((name, found.reason) for name, found in decided if found.outcome != "pass"),
    )


def _advice(settings: Sequence[Setting]) -> list[str]:
    """Each piece of advice once, the most serious setting's first, with the names of the settings concerned unless that is all of them."""
    of: dict[str, list[str]] = {}
    for setting in sorted(settings, key=_seriousness):
        for line in dict.fromkeys(line for run in setting.runs for line in facts.advice(run, setting.judged)):
            of.setdefault(line, []).append(setting.name)

    def named(line: str, names: list[str]) -> str:
        if len(names) == len(settings):
            return line
        which = ", ".join(f"`{name}`" for name in names) if len(names) <= MOST_NAMED else f"{len(names)} of {len(settings)}"
        return f"{line.removesuffix('.')} ({which})."

    return [named(line, names) for line, names in of.items()]


def _seriousness(setting: Setting) -> tuple[int, int]:
    """Gates that did not pass first, then by verdict."""
    gates = ("trip", "undecided")
    outcomes = [found.outcome for run in setting.runs if (found := facts.gate(run)) is not None]
    worst = min((gates.index(outcome) for outcome in outcomes if outcome in gates), default=len(gates))
    return worst, list(WORDS).index(setting.judged)


def verdict_of(setting: Setting) -> str:
    """A setting's verdict; with several seeds, also the verdicts of its runs judged one by one."""
    if not setting.several:
        return WORDS[setting.judged]
    judged = [facts.judged(run) for run in setting.runs]
    seen = "; ".join(f"{WORDS[verdict]} {judged.count(verdict)}" for verdict in WORDS if verdict in judged)
    return (
        f"{WORDS[setting.judged]} (single runs: {seen} of {len(judged)})"
        if set(judged) != {setting.judged}
        else WORDS[setting.judged]
    )


def table_of(settings: Sequence[Setting]) -> PageTable:
    """A row per setting."""
    rows: list[list[str | TableCell]] = []
    for setting in settings:
        if not setting.attack:
            rows.append([setting.name, "no attack ran", *[DASH] * 5])
            continue
        members, nonmembers = facts.sizes(setting.runs[0])
        rows.append(
            [
                setting.name, verdict_of(setting), setting.attack, str(len(setting.runs)), with_interval(setting.mean("auc")),
                with_interval(setting.mean("tpr_at_fpr_0_01")), f"{members:,} / {nonmembers:,}",
            ]
        )  # fmt: skip
    head = ["run or setting", "finding", "primary attack", "seeds", "AUC", "TPR at FPR 0.01", "members / non-members"]
    return PageTable.of(head, rows, words=3)


def by_seed(setting: Setting) -> PageTable:
    """A row per seed with the results of its primary attack."""
    rows: list[list[str | TableCell]] = []
    for seed, run in zip(setting.labels, setting.runs, strict=True):
        found, history = facts.headline(run), facts.history(run)
        gap = None if history is None else float(history["train_accuracy"].iloc[-1] - history["val_accuracy"].iloc[-1])
        rows.append(
            [
                seed, WORDS[facts.judged(run)], found.attack if found else DASH, with_interval(facts.headline_metric(run, "auc")),
                with_interval(facts.headline_metric(run, "advantage_heldout")),
                with_interval(facts.headline_metric(run, "tpr_at_fpr_0_01")), number(gap),
            ]
        )  # fmt: skip
    head = ["seed", "finding", "primary attack", "AUC", "advantage (held out)", "TPR at FPR 0.01", "accuracy gap"]
    return PageTable.of(head, rows, words=3)


def attacks_over_seeds(setting: Setting) -> PageTable:
    """Every attack on all records: the mean over seeds."""
    names = dict.fromkeys(name for run in setting.runs for name in facts.attacks(run))
    columns = [*COLUMNS, *((one.metric, one.heading) for one in extra(setting.runs))]  # bounds have no mean
    rows: list[list[str | TableCell]] = [
        [name, *(with_interval(setting.mean_of(name, metric)) for metric, _ in columns)] for name in names
    ]
    return PageTable.of(["attack", *(name for _, name in columns)], rows)
