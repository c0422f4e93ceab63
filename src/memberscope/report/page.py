"""The page: what was found and what to do, an overview, comparisons, each setting or run, and how to read it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from memberscope import __version__
from memberscope.audit import artifacts
from memberscope.errors import UserError
from memberscope.report import comparison, facts, overview, sections
from memberscope.report.html import Content, Markup, escaped, folded, joined, pairs, section, table, tag
from memberscope.report.sections import number
from memberscope.report.settings import Setting, settings_of
from memberscope.report.style import STYLE
from memberscope.tracking import KeptRun

READING = (
    (
        "primary attack",
        "the attack whose figures are a run's headline: named before the audit, or the strongest on one half of the records, with the "
        "figures of the other half. On the records that it was picked on, the best of several attacks always looks strong",
    ),
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
            f"runs={names}: none holds an audit ({artifacts.ATTACKS}); allowed: runs of audit, attack, train, main or shadow"
        )
    name = title or _title(runs, shown)
    settings = settings_of(shown)
    anchors = {run.id: f"run{place}" for place, run in enumerate(shown, 1)}
    body: list[Content] = [_header(name, shown)]
    if len(shown) == 1:
        body += [sections.first_screen(shown[0]), _run(shown[0], anchors[shown[0].id])]
    else:
        studies = [run for run in runs if "experiments.csv" in run.tables]
        own = len(studies) == len(runs)  # all runs are studies, which compare their settings themselves
        parts = [(f"setting{place}", setting) for place, setting in enumerate(settings, 1)]
        compares = len(settings) > 1 and not own
        links = [("overview", "Overview"), *([("verdicts", "Settings compared")] if studies else [])]
        links += [*([("compared", "Against the first")] if compares else []), *((anchor, part.name) for anchor, part in parts)]
        body += [
            overview.first_screen(settings),
            _contents([*links, ("reading", "How to read this")]),
            overview.table_of(settings),
        ]
        body += [joined([_verdicts(run) for run in studies])]
        body += [comparison.section_of(settings, seed=seed)] if compares else []
        body += [_setting(part, anchor, anchors) for anchor, part in parts]
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


def _header(title: str, shown: Sequence[KeptRun]) -> Markup:
    dates = sorted(run.started for run in shown if run.started)
    when = "" if not dates else dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    count = f"{len(shown)} audits" if len(shown) > 1 else f"run {shown[0].id}"
    return tag(
        "header",
        tag("p", "Membership inference audit", class_="kind"),
        tag("h1", title),
        tag("p", " · ".join(part for part in (count, when) if part), class_="made"),
    )


def _contents(links: Sequence[tuple[str, str]]) -> Markup:
    return tag("nav", *(tag("a", name, href=f"#{anchor}") for anchor, name in links))


def _verdicts(study: KeptRun) -> Markup:
    """A study's own comparison over seeds, which a comparison of single models cannot replace."""
    rows = [
        [
            str(row["experiment"]), f"{row['first']} – {row['second']}", _text(row.get("figure")), str(row["verdict"]),
            number(float(row["difference"])),
            f"{number(_end(row['ci_low']))} to {number(_end(row['ci_high']))}", str(row["seeds"]), number(_end(row["p_holm"])),
        ]
        for _, row in study.tables["experiments.csv"].iterrows()
    ]  # fmt: skip
    head = ["experiment", "settings", "figure", "verdict", "difference", "95%, over seeds", "seeds", "p (Holm)"]
    return section("Settings compared over seeds", table(head, rows, words=4), anchor="verdicts")


def _setting(setting: Setting, anchor: str, anchors: Mapping[str, str]) -> Markup:
    """A run, or a summary of a setting's seeds with each run collapsed beneath it."""
    if not setting.several:
        (run,) = setting.runs
        inside = [sections.finding(run), sections.gate_line(run), _run(run, anchors[run.id])]
    else:
        inside = [
            overview.by_seed(setting), overview.attacks_over_seeds(setting), overview.pictures(setting),
            *(
                folded(
                    f"{run.name}: everything on this run",
                    sections.first_screen(run),
                    _run(run, f"{anchors[run.id]}-in"),
                    anchor=anchors[run.id],
                )
                for run in setting.runs
            ),
        ]  # fmt: skip
    return tag("section", tag("h2", setting.name), *inside, id=anchor, class_="setting" if setting.several else "run")


def _run(run: KeptRun, anchor: str) -> Markup:
    return joined(
        [
            sections.tiles(run), sections.asked(run, anchor), sections.memorization(run, anchor), sections.curves(run, anchor),
            sections.attack_table(run, anchor), sections.worst_classes(run, anchor), sections.exposed(run, anchor),
            sections.checks(run, anchor), sections.done(run, anchor),
        ]
    )  # fmt: skip


def _reading() -> Markup:
    return section(
        "How to read this", pairs([(name, text[:1].upper() + text[1:] + ".") for name, text in READING]), anchor="reading"
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _end(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value == value else None
