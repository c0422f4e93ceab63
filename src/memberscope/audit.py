"""An audit: attacks on slices, to one tidy table.

Scores are computed once on all records and then sliced, unless an engine refits its attacks on each slice; every row says which. Each
figure comes from `memberscope.metrics` with its interval, whichever engine made the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics, seeds
from memberscope.errors import UserError, nearest
from memberscope.metrics import Estimate, Roc
from memberscope.predictions import Evidence, Predictions

if TYPE_CHECKING:
    import pandas as pd

    from memberscope.tfprivacy import Metadata

ENGINES = ("tfp",)
SIX = ("threshold_loss", "threshold_entropy", "trained_lr", "trained_mlp", "trained_rf", "trained_knn")
GROUPS = {"all": SIX, "threshold": SIX[:2], "trained": SIX[2:]}
SLICINGS = ("entire", "class", "correctness", "percentile")
COLUMNS = (
    "attack", "family", "slice", "metric", "value", "ci_low", "ci_high", "n_member", "n_nonmember", "status", "reason",
)  # fmt: skip
HEADLINES = ("auc", "advantage", "advantage_heldout", "tpr_at_fpr_0_1", "tpr_at_fpr_0_01", "tpr_at_fpr_0_001", "ppv")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One attack on one slice.

    Attributes:
        attack, slice: names.
        n_member, n_nonmember: records on each side.
        figures: name -> `Estimate`; empty where the attack was skipped.
        scores: (n_member + n_nonmember,) membership scores, members first; None where skipped.
        status, reason: ``ok``, or ``skipped`` and why.
    """

    attack: str
    slice: str
    n_member: int
    n_nonmember: int
    figures: Mapping[str, Estimate] = field(default_factory=dict)
    scores: NDArray[np.float64] | None = None
    status: str = "ok"
    reason: str = ""

    @property
    def family(self) -> str:
        """What the attack needs: the part of its name before the underscore."""
        return self.attack.split("_")[0]

    @property
    def roc(self) -> Roc:
        """The cell's ROC curve; ValueError where it was skipped."""
        if self.scores is None:
            raise ValueError(f"{self.attack} on {self.slice} was skipped: {self.reason}")
        return metrics.roc_curve(self.scores, np.repeat([True, False], [self.n_member, self.n_nonmember]))


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What an audit found: one `Cell` an attack and slice."""

    cells: tuple[Cell, ...]
    engine: str
    seed: int

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks, in order."""
        return tuple(dict.fromkeys(cell.attack for cell in self.cells))

    def cell(self, attack: str, slice: str = "entire") -> Cell:
        """One cell; KeyError if the audit has none of that name."""
        for cell in self.cells:
            if (cell.attack, cell.slice) == (attack, slice):
                return cell
        raise KeyError(f"no attack {attack!r} on slice {slice!r} in this report")

    def roc(self, attack: str, slice: str = "entire") -> Roc:
        """The ROC curve of an attack on a slice."""
        return self.cell(attack, slice).roc

    def to_frame(self) -> pd.DataFrame:
        """One row a figure, columns `COLUMNS`; a skipped attack is one row with its reason."""
        import pandas as pd

        rows: list[tuple[Any, ...]] = []
        for cell in self.cells:
            sizes = (cell.n_member, cell.n_nonmember)
            head = (cell.attack, cell.family, cell.slice)
            if cell.status != "ok":
                rows.append((*head, "auc", None, None, None, *sizes, cell.status, cell.reason))
            for name, figure in cell.figures.items():
                value = None if figure.status == "skipped" else figure.value
                rows.append((*head, name, value, figure.ci_low, figure.ci_high, *sizes, figure.status, figure.reason))
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        return frame.astype({"value": float, "ci_low": float, "ci_high": float})

    def headlines(self, slice: str = "entire", names: Sequence[str] = HEADLINES) -> dict[str, float]:
        """The figures of one slice as tracked metrics: ``auc/trained_mlp``, ``auc_ci_low/trained_mlp``, ..."""
        found: dict[str, float] = {}
        for cell in self.cells:
            if cell.slice != slice:
                continue
            for name in names:
                figure = cell.figures.get(name)
                if figure is None or figure.status == "skipped":
                    continue
                found[f"{name}/{cell.attack}"] = figure.value
                if figure.ci_low is not None and figure.ci_high is not None:
                    found[f"{name}_ci_low/{cell.attack}"] = figure.ci_low
                    found[f"{name}_ci_high/{cell.attack}"] = figure.ci_high
        return found


def resolve_attacks(attacks: str | Sequence[str]) -> tuple[str, ...]:
    """Names of attacks from ``all``, ``threshold``, ``trained``, or names separated by commas.

    Raises:
        UserError: an unknown name, with the nearest.
    """
    asked = attacks.split(",") if isinstance(attacks, str) else attacks
    found: list[str] = []
    for name in (part.strip() for part in asked):
        if name in GROUPS:
            found += GROUPS[name]
        elif name in SIX:
            found.append(name)
        else:
            known = (*GROUPS, *SIX)
            raise UserError(f"attacks={name}: unknown; allowed: {', '.join(known)}{nearest(name, known)}")
    return tuple(dict.fromkeys(found))


def resolve_slicings(slices: str | Sequence[str]) -> tuple[str, ...]:
    """Slicings from ``all`` or names of `SLICINGS` separated by commas.

    Raises:
        UserError: an unknown name, with the nearest.
    """
    asked = slices.split(",") if isinstance(slices, str) else slices
    found: list[str] = []
    for name in (part.strip() for part in asked):
        if name != "all" and name not in SLICINGS:
            raise UserError(f"slices={name}: unknown; allowed: all, {', '.join(SLICINGS)}{nearest(name, ('all', *SLICINGS))}")
        found += SLICINGS if name == "all" else [name]
    return tuple(dict.fromkeys(found))


def run_audit(
    predictions: Predictions | Evidence,
    *,
    attacks: str | Sequence[str] = "all",
    slices: str | Sequence[str] | Mapping[str, Sequence[str]] = ("entire",),
    engine: str = "tfp",
    seed: int = 0,
    metadata: Metadata | None = None,
    on_attack: Callable[[str], None] = lambda attack: None,
) -> AuditReport:
    """Run attacks on a model's predictions.

    Args:
        predictions: what the model said of members and non-members.
        attacks: see `resolve_attacks`.
        slices: see `resolve_slicings`; a mapping gives families (``threshold``, ``trained``) slicings of their own.
        engine: ``tfp``, tensorflow_privacy's own `run_attacks`, which refits trained attacks on each slice.
        seed: of every random draw; the same seed and inputs give the same report.
        metadata: the model's true accuracies and losses, for tensorflow_privacy's reports.
        on_attack: called with each attack's name before it runs.

    Raises:
        UserError: an unknown attack, slicing or engine.
    """
    target = predictions.target if isinstance(predictions, Evidence) else predictions
    names = resolve_attacks(attacks)
    if engine not in ENGINES:
        raise UserError(f"engine={engine}: unknown; allowed: {', '.join(ENGINES)}{nearest(engine, ENGINES)}")
    by_family = slices if isinstance(slices, Mapping) else {"threshold": slices, "trained": slices}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(resolve_slicings(by_family[name.split("_")[0]]), []).append(name)
    from memberscope import tfprivacy

    cells: list[Cell] = []
    for slicings, members in groups.items():
        for result in tfprivacy.run_attacks(target, members, slicings, seed=seed, metadata=metadata, on_attack=on_attack):
            cells.append(_cell(result.attack, result.slice, result.scores_member, result.scores_nonmember, seed=seed))
    return AuditReport(cells=tuple(cells), engine=engine, seed=seed)


def _cell(attack: str, slice: str, member: NDArray[np.float64], nonmember: NDArray[np.float64], *, seed: int) -> Cell:
    scores = np.concatenate([member, nonmember])
    truth = np.repeat([True, False], [len(member), len(nonmember)])
    figures = metrics.figures(scores, truth, rng=seeds.stream(seed, "figures", attack, slice))
    return Cell(attack=attack, slice=slice, n_member=len(member), n_nonmember=len(nonmember), figures=figures, scores=scores)
