"""What a study hands back for the terminal: a table, and an answer in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memberscope.errors import GateError

if TYPE_CHECKING:
    from memberscope.studies.model_audit import Trained


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A table and an answer, as text; and the gate's error, raised once these are shown, if it did not pass."""

    table: str
    answer: str
    gate: GateError | None = None


def leakage_table(models: Sequence[Trained]) -> str:
    """A row per model: accuracies, the AUC of each attack on all records, and the primary attack with its figures (see `Headline`)."""
    import pandas as pd

    rows, halved = [], False
    for model in models:
        row: dict[str, str] = {
            "model": model.name,
            "train": f"{model.summary['train_accuracy']:.3f}",
            "val": f"{model.summary['val_accuracy']:.3f}",
        }
        for cell in model.report.whole():
            row[f"AUC {cell.attack}"] = f"{cell.figures['auc'].value:.3f}"
        found = model.report.headline
        if found is not None:
            low, high = found.auc.ci_low, found.auc.ci_high
            row["primary"] = found.attack
            row["its AUC"] = f"{found.auc.value:.3f}" + ("" if low is None else f" ({low:.3f}-{high:.3f})")
            row["advantage"] = f"{found.figures['advantage_heldout'].value:.3f}"
            halved |= found.halved
        rows.append(row)
    frame = pd.DataFrame(rows)
    renamed = {
        column: column.replace("AUC ", "").replace("threshold_", "t_").replace("trained_", "") for column in frame.columns
    }
    head = (
        "AUC by attack (t_: threshold on that signal; lr, mlp, rf, knn: attack models cross-fitted on the target's own outputs)"
    )
    if halved:
        head += "\nprimary: the strongest attack on half of the records, with AUC (95% interval) and held-out advantage on the other half"
    return f"{head}\n{frame.rename(columns=renamed).to_string(index=False)}"
