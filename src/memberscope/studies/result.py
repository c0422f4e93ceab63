"""What a study hands back for the terminal: a table, and an answer in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memberscope.errors import GateError

if TYPE_CHECKING:
    from memberscope.studies.one_model import Trained


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A table and an answer, as text; and the gate's error, raised once these are shown, if it did not pass."""

    table: str
    answer: str
    gate: GateError | None = None


def leakage_table(models: Sequence[Trained]) -> str:
    """A row a model: accuracies, and AUC with its interval and advantage of each attack that ran on all records; best attack last."""
    import pandas as pd

    rows = []
    for model in models:
        row: dict[str, str] = {
            "model": model.name,
            "train": f"{model.summary['train_accuracy']:.3f}",
            "val": f"{model.summary['val_accuracy']:.3f}",
        }
        for cell in model.report.whole():
            row[f"AUC {cell.attack}"] = f"{cell.figures['auc'].value:.3f}"
        first = next((cell for cell in model.report.whole() if cell.attack == "threshold_loss"), None)
        if first is not None:
            row["95% of threshold_loss"] = f"{first.figures['auc'].ci_low:.3f}-{first.figures['auc'].ci_high:.3f}"
            row["advantage"] = f"{first.figures['advantage'].value:.3f}"
        rows.append(row)
    frame = pd.DataFrame(rows)
    renamed = {
        column: column.replace("AUC ", "").replace("threshold_", "t_").replace("trained_", "") for column in frame.columns
    }
    head = (
        "AUC by attack (t_: threshold on that signal; lr, mlp, rf, knn: attack models cross-fitted on the target's own outputs)"
    )
    return f"{head}\n{frame.rename(columns=renamed).to_string(index=False)}"
