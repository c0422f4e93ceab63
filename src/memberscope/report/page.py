"""Renders the page: the findings and what to do, an overview, comparisons, each setting or run, and how to read the page.

This module and those beside it collect the content as plain values; ``templates/`` determines how it looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from memberscope import __version__
from memberscope.audit import artifacts
from memberscope.audit.declared import Declared
from memberscope.errors import UserError
from memberscope.report import comparison, facts, overview, sections
from memberscope.report.compare import Pair, compare_runs
from memberscope.report.facts import Gate
from memberscope.report.parts import PageTable, number
from memberscope.report.risk import under
from memberscope.report.sections import Finding, RunView
from memberscope.report.settings import Setting, settings_of
from memberscope.report.templating import render
from memberscope.tracking import KeptRun


@dataclass(frozen=True, kw_only=True)
class FoldedRun:
    """A run of a setting with several seeds, collapsed until the reader opens it."""

    name: str
    anchor: str
    first_screen: sections.FirstScreen
    view: RunView


@dataclass(frozen=True, kw_only=True)
class SettingView:
    """A setting: its only run (`finding`, `gate`, `run`), or a summary of its seeds (`seeds`, `runs`)."""

    name: str
    anchor: str
    finding: Finding | None = None
    gate: Gate | None = None
    run: RunView | None = None
    seeds: overview.Seeds | None = None
    runs: tuple[FoldedRun, ...] = ()


def pairs_of(runs: Sequence[KeptRun], *, seed: int) -> tuple[Pair, ...]:
    """The runs compared with the first, as the page of these runs shows it; empty where it compares settings over seeds, or nothing."""
    shown = _unique_names(facts.audited(list(runs)))
    settings = settings_of(shown)
    if not _compares(runs, settings) or settings[0].several:
        return ()
    return tuple(compare_runs([run for setting in settings for run in setting.runs], seed=seed))


def render_page(
    runs: Sequence[KeptRun],
    *,
    title: str = "",
    seed: int = 0,
    declared: Declared | None = None,
    pairs: Sequence[Pair] | None = None,
) -> str:
    """The whole page as HTML: self-contained, without script, the same text for the same runs and seed.

    Args:
        runs: the runs, in the requested order; a study with several models stands for its models. The first is the reference of
            comparisons.
        title: the title; if empty, it is made from the runs' names.
        seed: the seed of the paired bootstraps.
        declared: what the risk statements rest on, beside what the runs' audits declared, or in place of it.
        pairs: what `pairs_of` found for these runs; None: it is computed.

    Raises:
        UserError: fewer subjects are declared than members were audited; no run contains an audit, or jinja2 is not installed.
    """
    shown = [under(run, declared or Declared()) for run in _unique_names(facts.audited(list(runs)))]
    if not shown:
        names = ", ".join(run.name for run in runs)
        raise UserError(
            f"runs={names}: none contains an audit ({artifacts.ATTACKS}); allowed: runs of audit, attack, train, main or shadow"
        )
    values = {"title": title or _title(runs, shown), "made": _made(shown), "version": __version__}
    if len(shown) == 1:
        (run,) = shown
        return render("one_run.html.j2", **values, first_screen=sections.first_screen(run), run=sections.run_view(run, "run1"))
    settings = settings_of(shown)
    anchors = {run.id: f"run{place}" for place, run in enumerate(shown, 1)}
    studies = [run for run in runs if artifacts.EXPERIMENTS in run.tables]
    first, others = settings[0], settings[1:]
    compares = _compares(runs, settings)
    paired = pairs_of(runs, seed=seed) if pairs is None else _renamed(pairs, shown)
    return render(
        "several_runs.html.j2", **values,
        first_screen=overview.first_screen(settings),
        overview=overview.table_of(settings),
        verdicts=[_verdicts(study) for study in studies],
        compares=compares,
        over_seeds=comparison.over_seeds(first, others) if compares and first.several else None,
        pairs=comparison.pairs(paired) if compares and paired else None,
        settings=[_setting(part, f"setting{place}", anchors) for place, part in enumerate(settings, 1)],
    )  # fmt: skip


def _compares(runs: Sequence[KeptRun], settings: Sequence[Setting]) -> bool:
    """Whether the page compares with the first: there are several settings, and not all runs are studies that compare theirs themselves."""
    return len(settings) > 1 and not all(artifacts.EXPERIMENTS in run.tables for run in runs)


def _renamed(pairs: Sequence[Pair], shown: Sequence[KeptRun]) -> list[Pair]:
    """The pairs with the runs under the names that the page gives them."""
    known = {run.id: run for run in shown}
    return [replace(pair, first=known[pair.first.id], second=known[pair.second.id]) for pair in pairs]


def _unique_names(runs: Sequence[KeptRun]) -> list[KeptRun]:
    """Append the start of the run id to names that several runs share."""
    names = [run.name for run in runs]
    return [replace(run, name=f"{run.name} ({run.id[:8]})") if names.count(run.name) > 1 else run for run in runs]


def _title(runs: Sequence[KeptRun], shown: Sequence[KeptRun]) -> str:
    return runs[0].name if len(runs) == 1 else f"{runs[0].name} and {len(shown) - 1} more"


def _made(shown: Sequence[KeptRun]) -> str:
    """The line under the title: the run's id or the number of audits, and when they were started."""
    dates = sorted(run.started for run in shown if run.started)
    when = "" if not dates else dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    count = f"{len(shown)} audits" if len(shown) > 1 else f"run {shown[0].id}"
    return " · ".join(part for part in (count, when) if part)


def _verdicts(study: KeptRun) -> PageTable:
    """A study's own comparison over seeds, which a comparison of single models cannot replace."""
    rows = [
        [
            str(row["experiment"]), f"{row['first']} – {row['second']}", _text(row.get("figure")), str(row["verdict"]),
            number(float(row["difference"])),
            f"{number(_end(row['ci_low']))} to {number(_end(row['ci_high']))}", str(row["seeds"]), number(_end(row["p_holm"])),
        ]
        for _, row in study.tables[artifacts.EXPERIMENTS].iterrows()
    ]  # fmt: skip
    head = ["experiment", "settings", "metric", "verdict", "difference", "95%, over seeds", "seeds", "p (Holm)"]
    return PageTable.of(head, rows, words=4)


def _setting(setting: Setting, anchor: str, anchors: Mapping[str, str]) -> SettingView:
    """A run, or a summary of a setting's seeds with each run collapsed beneath it."""
    if not setting.several:
        (run,) = setting.runs
        return SettingView(
            name=setting.name,
            anchor=anchor,
            finding=sections.finding(run),
            gate=facts.gate(run),
            run=sections.run_view(run, anchors[run.id]),
        )
    folded = [
        FoldedRun(
            name=run.name,
            anchor=anchors[run.id],
            first_screen=sections.first_screen(run),
            view=sections.run_view(run, f"{anchors[run.id]}-in"),
        )
        for run in setting.runs
    ]
    return SettingView(name=setting.name, anchor=anchor, seeds=overview.seeds_of(setting), runs=tuple(folded))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _end(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value == value else None
