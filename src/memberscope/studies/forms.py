"""Outputs of models in either form, logits or probabilities, as studies pass them on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from memberscope.signals import PROB_FLOOR

if TYPE_CHECKING:
    from memberscope.training.trainer import Form, Outputs


OutputForm = Literal["logits", "probs", "loss_nats"]
"""The forms in which outputs may be read from files; a fleet's are logits or probabilities."""


def named(form: OutputForm, outputs: Outputs) -> dict[str, Any]:
    """Outputs under the name that `Predictions` and `ShadowPredictions` have for them."""
    return {form: outputs}


def as_logits(outputs: Outputs, form: Form) -> Outputs:
    """Logits whose softmax is the given probabilities; logits are returned as they are."""
    return outputs if form == "logits" else np.log(np.maximum(outputs, PROB_FLOOR))
