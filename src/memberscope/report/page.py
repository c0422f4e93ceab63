"""The page: an overview, each run, the runs against one another, and how to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memberscope import __version__
from memberscope.errors import UserError
from memberscope.metrics.paired import NOTE
from memberscope.report import facts, sections
from memberscope.report.compare import Pair, compare_runs
from memberscope.report.html import Content, Markup, escaped, joined, pairs, paragraph, section, table, tag
from memberscope.report.sections import minus, number, with_interval
from memberscope.report.style import STYLE
from memberscope.tracking import KeptRun

READING = (
    (
        "AUC",
        "the share of pairs of one member and one non-member that an attack puts in the right order: 0.5 is a coin, 1 is certainty",
    ),
    (
        "advantage (held out)",
        "true positive rate minus false positive rate, at a threshold chosen on the other half of the records",
    ),
    (
        "TPR at FPR 0.001",
        "of the members, how many an attack finds while it accuses at most one non-member in a thousand. An average such as AUC can look "
        "harmless while a few people are exposed for certain; this figure shows them",
    ),
    (
        "95% interval",
        "how far the figure may be off because the records are a sample. It does not cover training the model again",
    ),
    (
        "p",
        "the share of 200 reshufflings of who is a member, within class, with an AUC at least as high; small means no accident",
    ),
    (
        "a null result",
        "says that these attacks, on these records, found nothing. It bounds nothing for a stronger attacker",
    ),
)


def render_page(runs: Sequence[KeptRun], *, title: str = "", seed: int = 0) -> str:
    """The whole page as HTML: self-contained, without script, the same text for the same runs and seed.

    Args:
        runs: in the order asked for; a study with several models stands for its models. The first is the reference of comparisons.
        title: empty: from the runs.
        seed: of the paired bootstraps.

    Raises:
        UserError: no run holds an audit.
    """
    shown = _told_apart(facts.audited(list(runs)))
    if not shown:
        names = ", ".join(run.name for run in runs)
        raise UserError(
            f"runs={names}: none holds an audit ({facts.ATTACKS}); allowed: runs of audit, attack, train, main or shadow"
        )
    name = title or _title(runs, shown)
    several = len(shown) > 1
    compared = compare_runs(shown, seed=seed) if several else []
    anchors = [f"run{place}" for place in range(1, len(shown) + 1)]
    body: list[Content] = [_header(name, runs, shown)]
    if several:
        body += [_contents(shown, anchors), _overview(shown)]
        body += [_verdicts(run) for run in runs if "experiments.csv" in run.tables]
        body += [_comparison(shown[0], compared)]
    body += [_run(run, anchor, several=several) for run, anchor in zip(shown, anchors, strict=True)]
    body += [_reading(), tag("footer", f"Written by memberscope {__version__}. Everything shown is in this one file.")]
    head = joined(
        [
            Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            tag("title", name),
            Markup(f"<style>{STYLE}</style>"),
        ]
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{escaped(head)}</head>\n<body>{escaped(tag("main", *body))}</body></html>\n'


def _told_apart(runs: Sequence[KeptRun]) -> list[KeptRun]:
    """Runs that share a name get the start of their id behind it."""
    names = [run.name for run in runs]
    return [replace(run, name=f"{run.name} ({run.id[:8]})") if names.count(run.name) > 1 else run for run in runs]


def _title(runs: Sequence[KeptRun], shown: Sequence[KeptRun]) -> str:
    return runs[0].name if len(runs) == 1 else f"{runs[0].name} and {len(shown) - 1} more"


def _header(title: str, runs: Sequence[KeptRun], shown: Sequence[KeptRun]) -> Markup:
    dates = sorted(run.started for run in shown if run.started)
    when = "" if not dates else dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    count = f"{len(shown)} audits" if len(shown) > 1 else f"run {shown[0].id}"
    return tag(
        "header",
        tag("p", "Membership inference audit", class_="kind"),
        tag("h1", title),
        tag("p", " · ".join(part for part in (count, when) if part), class_="made"),
    )


def _contents(shown: Sequence[KeptRun], anchors: Sequence[str]) -> Markup:
    links = [("overview", "Overview"), ("compared", "Run against run")]
    links += [(anchor, run.name) for run, anchor in zip(shown, anchors, strict=True)]
    return tag("nav", *(tag("a", name, href=f"#{anchor}") for anchor, name in [*links, ("reading", "How to read this")]))


def _overview(shown: Sequence[KeptRun]) -> Markup:
    rows: list[list[Content]] = []
    words = {
        "leaks": "leaks",
        "doubt": "in doubt: see its controls",
        "quiet": "not told from chance",
        "odd": "look at the split",
        "none": "–",
    }
    for run in shown:
        names = facts.attacks(run)
        if not names:
            rows.append([run.name, "no attack ran", "–", "–", "–", "–"])
            continue
        first = names[0]
        members, nonmembers = facts.sizes(run)
        auc = facts.figure(run, first, "auc")
        rows.append(
            [
                run.name, words[facts.judged(run)], first, with_interval(auc),
                with_interval(facts.figure(run, first, "tpr_at_fpr_0_01")), f"{members:,} / {nonmembers:,}",
            ]
        )  # fmt: skip
    head = ["run", "finding", "attack", "AUC", "TPR at FPR 0.01", "members / non-members"]
    note = (
        "Each run is judged by the attack that stands first in its audit, not by the best of several. An asterisk marks fewer than ten "
        "false positives."
    )
    return section("Overview", table(head, rows, words=3), tag("p", note, class_="note"), anchor="overview")


def _verdicts(study: KeptRun) -> Markup:
    """A study's own comparison over seeds, which a comparison of single models cannot replace."""
    rows = [
        [
            str(row["experiment"]), f"{row['first']} – {row['second']}", str(row["verdict"]), number(float(row["difference"])),
            f"{number(_end(row['ci_low']))} to {number(_end(row['ci_high']))}", str(row["seeds"]), number(_end(row["p_holm"])),
        ]
        for _, row in study.tables["experiments.csv"].iterrows()
    ]  # fmt: skip
    head = ["experiment", "settings", "verdict", "AUC difference", "95%, over seeds", "seeds", "p (Holm)"]
    return section("Settings compared over seeds", table(head, rows, words=3), anchor="verdicts")


def _comparison(reference: KeptRun, compared: Sequence[Pair]) -> Markup:
    parts: list[Content] = [
        paragraph(
            f"Every run against `{reference.name}`: its figure minus the reference's. A paired test asks record by record and sees smaller "
            f"differences than two intervals side by side; p-values are adjusted over all of this section (Holm). It {NOTE}."
        )
    ]
    for pair in compared:
        parts.append(tag("h3", f"{pair.second.name} minus {pair.first.name}"))
        lead = "Paired" if pair.paired else "Not paired"
        parts.append(paragraph(f"**{lead}:** {pair.why}."))
        if not pair.paired and pair.rows:
            parts.append(
                paragraph(
                    "No paired test can be made. What can still be said: the AUCs side by side, with an interval of their difference as "
                    "if the two sets of records were independent (MOVER)."
                )
            )
        if pair.rows:
            parts.append(_rows(pair))
        else:
            parts.append(paragraph("No attack ran in both."))
    return section("Run against run", *parts, anchor="compared")


def _rows(pair: Pair) -> Markup:
    names = {"auc": "AUC", "tpr_at_fpr_0_01": "TPR at FPR 0.01"}
    head = ["attack", "figure", "reference", "this run", "difference", "95% interval", *(["p (Holm)"] if pair.paired else [])]
    rows: list[list[Content]] = []
    for row in pair.rows:
        weak = tag("span", " *", class_="low", title=row.note) if row.note else ""
        cells: list[Content] = [
            row.attack, names[row.metric], number(row.first), joined([number(row.second), weak]), minus(f"{row.difference:+.3f}"),
            minus(f"{row.ci_low:+.3f} to {row.ci_high:+.3f}"),
        ]  # fmt: skip
        rows.append([*cells, *([_p(row.p_holm)] if pair.paired else [])])
    return table(head, rows, words=2)


def _run(run: KeptRun, anchor: str, *, several: bool) -> Markup:
    inside = [
        sections.finding(run), sections.tiles(run), sections.asked(run, anchor), sections.memorization(run, anchor),
        sections.curves(run, anchor), sections.attack_table(run, anchor), sections.worst_classes(run, anchor),
        sections.exposed(run, anchor), sections.checks(run, anchor), sections.done(run, anchor),
    ]  # fmt: skip
    heading = tag("h2", run.name) if several else ""
    return tag("section", heading, *inside, id=anchor, class_="run" if several else "only")


def _reading() -> Markup:
    return section(
        "How to read this", pairs([(name, text[:1].upper() + text[1:] + ".") for name, text in READING]), anchor="reading"
    )


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _end(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value == value else None
