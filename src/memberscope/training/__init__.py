"""Training: one model (`fit`)."""

from __future__ import annotations

from memberscope.training.fit import fit, predict_logits

__all__ = ["fit", "predict_logits"]
