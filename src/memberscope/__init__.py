"""memberscope: measure how much a classifier memorizes its training data.

The public names load on first use, so that ``import memberscope`` costs nothing and the numpy core never pulls in TensorFlow or MLflow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memberscope.audit.report import AuditReport
    from memberscope.audit.run import run_audit
    from memberscope.evidence import Evidence, Trajectories
    from memberscope.exposure.trace import LossTrace
    from memberscope.predictions import Predictions, ShadowPredictions
    from memberscope.shadows import shadow_evidence
    from memberscope.training.trainer import TrainingJob

__version__ = "0.1.0"

_HOME = {
    "AuditReport": "memberscope.audit.report",
    "Evidence": "memberscope.evidence",
    "LossTrace": "memberscope.exposure.trace",
    "Predictions": "memberscope.predictions",
    "ShadowPredictions": "memberscope.predictions",
    "TrainingJob": "memberscope.training.trainer",
    "Trajectories": "memberscope.evidence",
    "run_audit": "memberscope.audit.run",
    "shadow_evidence": "memberscope.shadows",
}

__all__ = [
    "AuditReport", "Evidence", "LossTrace", "Predictions", "ShadowPredictions", "TrainingJob", "Trajectories", "__version__", "run_audit",
    "shadow_evidence",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'memberscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
