"""The page's figures as SVG, each drawn from tables that are stored with the run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from memberscope import plots, seeds
from memberscope.audit import artifacts
from memberscope.installed import require
from memberscope.report import facts
from memberscope.report.facts import Figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

    from memberscope.tracking import KeptRun

MOST_CURVES = 8  # as many as there are colours
_FONTS = ["DejaVu Sans", "Liberation Sans", "Arial", "sans-serif"]


def svg(drawing: Drawing) -> bytes:
    """A drawing as SVG, with the same bytes each time: no date, no random names; text as outlines, so that it looks alike everywhere."""
    require("matplotlib", by="report")
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "memberscope", "svg.fonttype": "path", "font.sans-serif": _FONTS}):
        drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def drawn(first: str, names: Sequence[str]) -> list[str]:
    """The attacks whose curves are drawn: the primary one, and as many others as there are colours for."""
    return [first, *(name for name in names if name != first)][:MOST_CURVES]


def roc(run: KeptRun, shown: Sequence[str], shaded: pd.DataFrame | None) -> bytes:
    """ROC curves of attacks on all records, on logarithmic and linear axes, with the band of the first attack if it has one."""
    import pandas as pd

    points = run.tables[artifacts.ROC]
    part = pd.concat([points[points["attack"] == name] for name in shown])
    labels = {}
    for name in shown:
        auc = facts.figure(run, name, "auc").value
        labels[name] = f"{name} ({auc:.3f})" if auc is not None else name
    drawing, axes = plots.new_figure(1, 2, width=5.2, height=4.7)
    for ax, log in ((axes[0, 0], True), (axes[0, 1], False)):
        if shaded is not None and len(shaded):
            plots.draw_band(ax, shaded, log=log)
        plots.draw_roc(ax, part, labels=labels, log=log)
    handles, texts = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, texts, loc="outside lower center", ncols=min(3, len(texts)), fontsize=8, frameon=False)
    return svg(drawing)


def band(run: KeptRun, attack: str) -> pd.DataFrame | None:
    """The attack's band: the stored one, if it is this attack's, or one computed from the stored scores; None without either.

    A band from an older version does not name its attack; it is that of the table's first attack.
    """
    stored = run.tables.get(artifacts.ROC_BAND)
    if stored is not None and len(stored):
        of = str(stored["attack"].iloc[0]) if "attack" in stored.columns else next(iter(facts.attacks(run)), "")
        if of == attack:
            return stored
    if run.scores is None or attack not in run.scores.ranks:
        return None
    member, ranks = run.scores.member, run.scores.ranks[attack].astype(np.float64)
    result = SimpleNamespace(scores=ranks, member=member, n_nonmember=int((~member).sum()))
    return plots.band_points(result, rng=seeds.stream(0, "report", "band"))


def over_seeds(runs: Sequence[KeptRun], seeds_of: Sequence[str]) -> bytes:
    """The ROC curve of each run's primary attack, one curve per seed."""
    import pandas as pd

    parts, labels = [], {}
    for run, seed in zip(runs, seeds_of, strict=True):
        found = facts.headline(run)
        if found is None or artifacts.ROC not in run.tables:
            continue
        points, name = run.tables[artifacts.ROC], f"seed {seed}"
        parts.append(points[points["attack"] == found.attack].assign(attack=name))
        labels[name] = f"{name}: {found.attack}"
    drawing, axes = plots.new_figure(1, 2, width=5.2, height=4.7)
    for ax, log in ((axes[0, 0], True), (axes[0, 1], False)):
        plots.draw_roc(ax, pd.concat(parts), labels=labels, log=log)
    handles, texts = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, texts, loc="outside lower center", ncols=min(3, len(texts)), fontsize=8, frameon=False)
    return svg(drawing)


def by_epoch(histories: Sequence[pd.DataFrame]) -> bytes:
    """Accuracy of members and others, and the AUC of the loss threshold, by epoch; for several trainings the mean, over thin lines."""
    import pandas as pd

    frame = pd.concat([history.assign(model="", seed=seed) for seed, history in enumerate(histories)])
    leaked = "auc" in frame.columns and frame["auc"].notna().any()
    drawing, axes = plots.new_figure(1, 2 if leaked else 1, width=5.2, height=3.3)
    columns = [("train_accuracy", "members"), ("val_accuracy", "validation")]
    plots.draw_by_epoch(axes[0, 0], frame, columns, ylabel="accuracy")
    if leaked:
        plots.draw_by_epoch(axes[0, 1], frame, [("auc", "loss threshold")], ylabel="AUC", chance=0.5)
    return svg(drawing)


def intervals(rows: Sequence[tuple[str, Figure]], *, xlabel: str, chance: float) -> bytes:
    """Metrics with their intervals, one per row, the first on top."""
    drawing, axes = plots.new_figure(1, 1, width=6.6, height=0.9 + 0.27 * len(rows))
    ax = axes[0, 0]
    for place, (_, found) in enumerate(rows):
        value = found.value or 0.0
        low, high = (value if end is None else end for end in (found.ci_low, found.ci_high))
        ax.plot([low, high], [place, place], color=plots.COLOURS[0], linewidth=1.6)
        ax.plot([value], [place], "o", color=plots.COLOURS[0], markersize=4.5)
    ax.axvline(chance, color="0.6", linewidth=0.8)
    ax.set_yticks(range(len(rows)), [plots.as_text(name) for name, _ in rows], fontsize=9)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    ax.grid(axis="x", alpha=0.25)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return svg(drawing)
