"""MLflow, and only here: the store, the runs, and the `Tracker` over them."""

from __future__ import annotations

from memberscope.mlflow_adapter.session import Session, open_session

__all__ = ["Session", "open_session"]
