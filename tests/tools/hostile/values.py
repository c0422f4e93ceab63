"""Values whose cost could follow their size instead of the amount of data, texts that could be drawn as mathematics, and full disks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hostile import Case

NAMES = ("$x^2$", "a_b^c", r"\frac{1}{2}", "$", "$$", r"$\undefined{", "50% & more #1", "_", "a\nb", "<b>", "naïve ☃")


def _published(folder: Path, *, value: int, attacks: str) -> None:
    from memberscope import Predictions, run_audit

    rng = np.random.default_rng(0)
    n = 400
    labels, member = rng.integers(0, 4, n), np.arange(n) < n // 2
    predicted = np.where(rng.random(n) < 0.7 + 0.3 * member, labels, (labels + 1) % 4)
    predicted[3] = value
    labels[5] = value if value > 0 else labels[5]
    run_audit(Predictions(predicted=predicted, labels=labels, member=member), attacks=attacks, slices="all")


def _labels(folder: Path, *, value: int, form: str) -> None:
    from memberscope import Predictions, run_audit

    rng = np.random.default_rng(0)
    n = 400
    labels = rng.integers(0, 4, n)
    labels[3] = value
    given: dict[str, Any] = {form: rng.random(n)}
    run_audit(Predictions(labels=labels, member=np.arange(n) < n // 2, **given), attacks="all", slices="all")


def _sets(folder: Path, *, classes: int) -> None:
    """A set whose names promise many classes, split as studies split it."""
    from memberscope.datasets import load_dataset

    np.savez(folder / "d.npz", x=np.random.default_rng(0).random((40, 8)), y=np.r_[np.arange(39) % 4, classes - 1])
    data = load_dataset(str(folder / "d.npz"))
    assert data.classes <= 1000


def _corners(folder: Path, *, levels: int, factors: int) -> None:
    """What `sweep` checks of a space before a search."""
    from memberscope.config.training import SweepStudyConfig
    from memberscope.datasets import load_dataset
    from memberscope.sweeps.space import base_cell, check_corners, read_space

    names = ("epochs", "width", "members", "filters", "depth")[:factors]
    lines = [f"  {name}: {list(range(20, 20 + levels)) if name != 'depth' else list(range(1, 1 + levels))}" for name in names]
    (folder / "space.yaml").write_text("factors:\n" + "\n".join(lines) + "\n")
    data = load_dataset("digits")
    config = SweepStudyConfig(space=str(folder / "space.yaml"), dataset="digits", sampler="random")
    check_corners(data, base_cell(data, config), read_space(config.space))


def _drawn(folder: Path, *, name: str, which: str) -> None:
    import pandas as pd

    from memberscope import plots
    from memberscope.report import figures
    from memberscope.report.facts import Figure

    points = pd.DataFrame({"attack": [name] * 3, "fpr": [0, 0.2, 1.0], "tpr": [0, 0.5, 1.0], "threshold": [2.0, 1.0, 0.0]})
    history = pd.DataFrame(
        {
            "model": [name] * 2,
            "seed": [0, 0],
            "epoch": [0, 1],
            "train_accuracy": [0.1, 0.2],
            "val_accuracy": [0.1, 0.1],
            "train_loss": [1.0, 0.5],
            "val_loss": [1.0, 0.9],
            "auc": [0.5, 0.6],
            "advantage": [0.0, 0.1],
        }
    )
    ends = {"ci_low": [0.4], "ci_high": [0.6]}
    made: Any = (
        {
            "roc": lambda: plots.roc_figure(points, title=name, labels={name: name}),
            "scores": lambda: plots.score_figure(np.arange(20.0), np.arange(20) < 10, title=name),
            "dispersion": lambda: plots.dispersion_figure(
                pd.DataFrame({"class": [name], "dispersion": [1.0], "auc": [0.5], **ends}), title=name
            ),
            "training": lambda: plots.training_figure(history, title=name),
            "leakage": lambda: plots.leakage_figure(history, title=name),
            "samples": lambda: plots.sample_figure(np.zeros((4, 8, 8, 3), np.uint8), [name] * 4, title=name),
            "pareto": lambda: plots.pareto_figure(
                pd.DataFrame(
                    {
                        "rung": [name],
                        "val/accuracy": [0.5],
                        "val/accuracy_ci_low": [0.4],
                        "val/accuracy_ci_high": [0.6],
                        "auc": [0.5],
                        "auc_ci_low": [0.4],
                        "auc_ci_high": [0.6],
                    }
                ),
                [name],
            ),
            "shadows": lambda: plots.by_shadows_figure(
                pd.DataFrame(
                    {"attack": [name, name], "shadows": [2, 4], "figure": "auc", "mean": 0.5, "ci_low": 0.4, "ci_high": 0.6}
                ),
                figure="auc",
            ),
            "fidelity": lambda: plots.fidelity_figure(
                pd.DataFrame(
                    {"variant": [name], "attack": [f"metric{name}"], "figure": ["balanced_accuracy"], "mean": [0.5], **ends}
                )
            ),
        }[which]
        if which != "intervals"
        else None
    )
    if made is None:
        figures.intervals([(name, Figure(value=0.5, ci_low=0.4, ci_high=0.6))], xlabel="AUC", chance=0.5)
        return
    drawing = made()
    (folder / "f.svg").write_bytes(figures.svg(drawing))


def _channels(folder: Path, *, shape: tuple[int, ...], what: str) -> None:
    from memberscope import plots, queries

    x = np.random.default_rng(0).random((6, *shape)).astype(np.float32)
    if what == "pictures":
        drawing = plots.sample_figure(x, ["a"] * 6, title="t")
        drawing.savefig(folder / "f.png")
        return
    for made in (queries.augmentations(x, 9), queries.perturbations(x, 4, seed=0)):
        for copy in made:
            assert copy.shape == x.shape


def cases() -> list[Case]:
    """Values."""
    found = []
    for value in (10**6, 10**8, 2**62, 10**5, -1):
        for attacks in ("all", "threshold"):
            found.append(
                Case(
                    name=f"values: a published class of {value:,}, {attacks}",
                    act=partial(_published, value=value, attacks=attacks),
                )
            )
    for value in (10**6, 10**8, 2**62):
        for form in ("loss_nats", "entropy_nats"):
            found.append(Case(name=f"values: a label of {value:,} with {form}", act=partial(_labels, value=value, form=form)))
    for classes in (10**3, 10**6, 10**9):
        found.append(Case(name=f"values: a set with a label of {classes - 1:,}", act=partial(_sets, classes=classes)))
    for levels, factors in ((3, 2), (30, 2), (30, 4), (30, 5)):
        found.append(
            Case(name=f"values: a space of {levels}^{factors} corners", act=partial(_corners, levels=levels, factors=factors))
        )
    for which in (
        "roc",
        "scores",
        "dispersion",
        "training",
        "leakage",
        "samples",
        "pareto",
        "shadows",
        "fidelity",
        "intervals",
    ):
        for number, name in enumerate(NAMES):
            found.append(
                Case(
                    name=f"drawn, {which}: {name!r}",
                    act=partial(_drawn, name=name, which=which),
                    slow=(number + len(which)) % 4 > 0,
                )
            )
    for shape in ((8, 8, 2), (8, 8, 4), (8, 8, 5), (8, 8, 0), (8, 0, 3), (0, 8, 1), (8, 8), (1, 1, 1)):
        for what in ("pictures", "copies"):
            found.append(Case(name=f"images of {shape}, {what}", act=partial(_channels, shape=shape, what=what)))
    return found
