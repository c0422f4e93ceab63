"""A view of the runs table that the UI can open for everyone: the leakiest run first, with its metrics.

MLflow keeps shared views as tags of the experiment, under a name that its documentation does not mention; the browser's test holds this to
the version that we pin. A UI that does not know the tag shows its own table and says so.
"""

from __future__ import annotations

import json

KEY = "memberscope"
TAG = f"mlflow.sharedViewState.{KEY}"
LEAKAGE = "auc/threshold_loss"
COLUMNS = (
    "params.`data.name`", "params.`model.architecture`", "params.`model.depth`", f"metrics.`{LEAKAGE}`",
    "metrics.`auc_ci_low/threshold_loss`", "metrics.`auc_ci_high/threshold_loss`", "metrics.`tpr_at_fpr_0_01/threshold_loss`",
    "metrics.`val/accuracy`", "tags.`memberscope.study`",
)  # fmt: skip


def state() -> str:
    """The tag's value: the order of the runs, and which columns are shown."""
    return json.dumps({"orderByKey": f"metrics.`{LEAKAGE}`", "orderByAsc": False, "selectedColumns": COLUMNS})


def link(base: str, experiment_id: str) -> str:
    """The view's address in the UI at `base`."""
    return f"{base}/#/experiments/{experiment_id}/runs?viewStateShareKey={KEY}&workflowType=machine_learning"
