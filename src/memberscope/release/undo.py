"""Inverts a release, if it can be inverted, as an attacker who knows the release would.

A verdict on a release should not assume an attacker who could invert it but does not. A temperature can be inverted: all confidences are
published, and their logarithms are the divided logits up to a constant.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

import numpy as np

from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions
from memberscope.release.pipeline import Release
from memberscope.release.steps import Temperature
from memberscope.signals import PROB_FLOOR

Outputs = TypeVar("Outputs", Predictions, ShadowPredictions)


def temperature_of(release: Release) -> float | None:
    """The number that a release divides the logits by, if that is all it does; else None."""
    values = [step.value for step in release.steps if isinstance(step, Temperature)]
    return math.prod(values) if values and len(values) == len(release.steps) else None


def undo(evidence: Evidence, release: Release) -> Evidence:
    """The evidence as it was before the release, if the release can be inverted; else the evidence that was given.

    Confidences become logits again, except for rounding errors and confidences that were published as 0.

    Args:
        evidence: what `memberscope.release.apply.release_evidence` returned.
        release: the target's release; that of the shadows is assumed to be the same.
    """
    temperature = temperature_of(release)
    if temperature is None:
        return evidence
    shadows, population, augmented = evidence.shadows, evidence.population, evidence.augmented
    return replace(
        evidence,
        target=_logits(evidence.target, temperature),
        shadows=None if shadows is None else _logits(shadows, temperature),
        population=None if population is None else _logits(population, temperature),
        augmented=None if augmented is None else augmented * temperature,
    )


def _logits(outputs: Outputs, temperature: float) -> Outputs:
    if outputs.probs is None:
        return outputs
    logits = np.log(np.maximum(outputs.probs, PROB_FLOOR)) * temperature
    return replace(outputs, logits=logits, probs=None, released=False)
