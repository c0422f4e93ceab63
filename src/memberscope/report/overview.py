"""Summaries of several audits: the first screen, a row per setting, and the seeds of one setting."""

from __future__ import annotations

from collections.abc import Sequence

from memberscope.report import facts, figures, sections
from memberscope.report.columns import COLUMNS, extra, legend
from memberscope.report.html import Content, Markup, image, joined, paragraph, section, spans, table, tag
from memberscope.report.sections import number, with_interval
from memberscope.report.settings import Setting
from memberscope.tracking import KeptRun

MOST_NAMED = 3  # a piece of advice names at most so many settings
WORDS = {
    "leaks": "leaks",
    "doubt": "in doubt: see its controls",
    "odd": "look at the split",
    "quiet": "no better than chance",
    "none": "no interval",
}
TOLD = {
    "leaks": "give away which records were trained on",
    "doubt": "are in doubt, since members and non-members differ without the model, too",
    "odd": "rank non-members above members, which suggests a problem with the split",
    "quiet": "cannot be told from chance with these records",
    "none": "have no interval to judge by",
}


def first_screen(settings: Sequence[Setting]) -> Markup:
    """The finding over all settings, the gates, and what to do."""
    runs = [run for setting in settings for run in setting.runs]
    return joined([_finding(settings, runs), _gates(runs), sections.to_do(_advice(settings))])


def _finding(settings: Sequence[Setting], runs: Sequence[KeptRun]) -> Markup:
    judged = [setting.judged for setting in settings]
    seeds = any(setting.several for setting in settings)
    told, worst = _counted(judged, "settings" if seeds else "models")
    lines = [f"{told}{', judged by the mean AUC over their seeds' if seeds else ''}."]
    if seeds:
        lines.append(f"Each run judged by itself: {_counted([facts.judged(run) for run in runs], 'runs')[0]}.")
    if len(runs) > 1:
        lines.append(
            "Each verdict is a separate one at 95%: of models that give nothing away, one in forty is called leaking by chance."
        )
    lines += dict.fromkeys(facts.doubt(run) for run in runs if facts.doubt(run))
    return tag("div", tag("p", lines[0], class_="verdict"), *map(paragraph, lines[1:]), class_=f"finding {worst}")


def _counted(judged: Sequence[str], what: str) -> tuple[str, str]:
    """How many verdicts of each kind there are, in words, and the most serious of them."""
    seen = [verdict for verdict in TOLD if verdict in judged]
    total = len(judged)
    return "; ".join(f"{judged.count(verdict)} of {total} {what} {TOLD[verdict]}" for verdict in seen), seen[0]


def _gates(runs: Sequence[KeptRun]) -> Markup:
    """The gates' outcomes: one line for all, and one for each gate that did not pass."""
    decided = [(run.name, found) for run in runs if (found := facts.gate(run)) is not None]
    if not decided:
        return tag("p", spans("**Gate:** none was set."), class_="gate")
    words = {"trip": "tripped", "undecided": "undecided", "pass": "passed"}
    outcomes = [found.outcome for _, found in decided]
    counted = ", ".join(f"{words[outcome]} in {outcomes.count(outcome)}" for outcome in words if outcome in outcomes)
    left = f", none was set in {len(runs) - len(decided)}" if len(decided) < len(runs) else ""
    lines: list[Content] = [tag("p", spans(f"**Gate:** {counted}{left}."))]
    lines += [tag("p", spans(f"`{name}`: {found.reason}")) for name, found in decided if found.outcome != "pass"]
    return tag("div", *lines, class_=f"gate {next(outcome for outcome in words if outcome in outcomes)}")


def _advice(settings: Sequence[Setting]) -> list[str]:
    """Each piece of advice once, that for the most serious setting first, with the settings that it is for unless it is for all."""
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
    """A setting's verdict; with several seeds, also how many runs have the same verdict by themselves."""
    if not setting.several:
        return WORDS[setting.judged]
    judged = [facts.judged(run) for run in setting.runs]
    seen = "; ".join(f"{WORDS[verdict]} {judged.count(verdict)}" for verdict in WORDS if verdict in judged)
    return (
        f"{WORDS[setting.judged]} (by itself: {seen} of {len(judged)})"
        if set(judged) != {setting.judged}
        else WORDS[setting.judged]
    )


def table_of(settings: Sequence[Setting]) -> Markup:
    """A row per setting."""
    rows: list[list[Content]] = []
    for setting in settings:
        if not setting.attack:
            rows.append([setting.name, "no attack ran", "–", "–", "–", "–", "–"])
            continue
        members, nonmembers = facts.sizes(setting.runs[0])
        rows.append(
            [
                setting.name, verdict_of(setting), setting.attack, str(len(setting.runs)), with_interval(setting.mean("auc")),
                with_interval(setting.mean("tpr_at_fpr_0_01")), f"{members:,} / {nonmembers:,}",
            ]
        )  # fmt: skip
    head = ["run or setting", "finding", "primary attack", "seeds", "AUC", "TPR at FPR 0.01", "members / non-members"]
    note = (
        "Each run is judged by its primary attack: the one named beforehand, else the strongest on one half of the records, reported on "
        "the other half. With several seeds, figures are means over the runs with 95% t intervals over seeds. An asterisk marks "
        "fewer than ten false positives."
    )
    return section("Overview", table(head, rows, words=3), tag("p", note, class_="note"), anchor="overview")


def by_seed(setting: Setting) -> Markup:
    """A row per seed: what its primary attack found."""
    rows: list[list[Content]] = []
    for seed, run in zip(setting.seeds, setting.runs, strict=True):
        found, history = facts.headline(run), facts.history(run)
        gap = None if history is None else float(history["train_accuracy"].iloc[-1] - history["val_accuracy"].iloc[-1])
        rows.append(
            [
                str(seed), WORDS[facts.judged(run)], found.attack if found else "–", with_interval(facts.spoken(run, "auc")),
                with_interval(facts.spoken(run, "advantage_heldout")), with_interval(facts.spoken(run, "tpr_at_fpr_0_01")), number(gap),
            ]
        )  # fmt: skip
    head = ["seed", "finding", "primary attack", "AUC", "advantage (held out)", "TPR at FPR 0.01", "accuracy gap"]
    return table(head, rows, words=3)


def attacks_over_seeds(setting: Setting) -> Markup:
    """Every attack on all records: the mean over seeds."""
    names = dict.fromkeys(name for run in setting.runs for name in facts.attacks(run))
    others = extra(setting.runs)
    columns = [*COLUMNS, *((one.metric, one.heading) for one in others)]  # bounds have no mean
    rows: list[list[Content]] = [
        [name, *(with_interval(setting.mean_of(name, metric)) for metric, _ in columns)] for name in names
    ]
    body = table(["attack", *(name for _, name in columns)], rows)
    note = (
        f"On all records, the mean over {len(setting.runs)} seeds; beneath it the 95% t interval, whose unit is the seed. TPR at false "
        "positive rates of 0.1, 0.01 and 0.001. The best of several attacks looks better than it is." + legend(others)
    )
    return joined([tag("h3", "Attacks over seeds"), body, tag("p", note, class_="note")])


def pictures(setting: Setting) -> Markup:
    """Memorization by epoch, and the ROC curve of each seed's primary attack."""
    parts: list[Content] = []
    histories = [history for run in setting.runs if (history := facts.history(run)) is not None]
    if histories:
        parts.append(
            image(
                figures.by_epoch(histories), "svg+xml", alt="accuracy and AUC by epoch",
                caption="Mean over seeds, with a thin line per seed. Left: accuracy on members and on validation records. Right: how well "
                "the loss tells members from non-members.",
            )
        )  # fmt: skip
    if any("roc.csv" in run.tables for run in setting.runs) and setting.attack:
        parts.append(
            image(
                figures.over_seeds(setting.runs, setting.seeds), "svg+xml", alt="ROC curves, one a seed",
                caption="ROC curve of each seed's primary attack, on all records; logarithmic axes on the left.",
            )
        )  # fmt: skip
    return joined(parts)
