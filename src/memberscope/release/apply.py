"""Applies a release to predictions, so that attacks see only what is published."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from memberscope.checks import Array
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.predictions import OUTPUTS, SUMMARIES, Predictions, ShadowPredictions
from memberscope.release.pipeline import Published, Release, noise_key
from memberscope.signals import PROB_FLOOR

Outputs = TypeVar("Outputs", Predictions, ShadowPredictions)


def apply(outputs: Outputs, release: Release, *, seed: int = 0) -> Outputs:
    """The predictions as the release publishes them: `probs` with ``released`` set, or `predicted`; everything else is unchanged.

    Args:
        outputs: one model's, or shadow models'. Logits or probabilities; labels only for ``label_only``; what is released
            already only for steps that cut confidences further.
        release: one that was fitted, if it must be. Shadow models may be given an unfitted one: each then gets a defence trained on
            its own members and non-members, as an attacker does who runs the defence on models of their own.
        seed: keys the noise; every shadow has a key of its own, none of them the target's.

    Raises:
        UserError: predictions that contain too little for the release, or a release that was not fitted.
    """
    if isinstance(outputs, Predictions):
        return _with(outputs, _publish(outputs, release, noise_key(seed)))
    own = _shadow_releases(outputs, release, seed=seed)
    return _with(outputs, _stacked(outputs, own, _shadow_keys(outputs.n_models, seed)))


def release_evidence(evidence: Evidence, release: Release, *, shadow_release: Release | None = None, seed: int = 0) -> Evidence:
    """The evidence that an attacker has if the models publish through `release`.

    Target, shadows and population are released as `apply` has it, each model by one and the same release throughout. Augmented
    queries become the logarithms of what is published, and are gone where that is labels. Trajectories, gradients and the loss trace are
    gone: gradients and losses during training are never published, and trajectories must be made anew from what is. Perturbed labels stay,
    since every release keeps them.

    Args:
        evidence: the outputs of all models.
        release: the target's; fitted, if it must be.
        shadow_release: the shadows'; `release` unless given. Where that was fitted, it should be: the target's defence learned from
            the target's members, and no attacker has it. Unfitted, each shadow gets one of its own, as `apply` has it.
        seed: keys the noise.
    """
    shadows, population, augmented = evidence.shadows, evidence.population, evidence.augmented
    releases, keys = [release], [noise_key(seed)]
    if shadows is not None:
        releases += _shadow_releases(shadows, release if shadow_release is None else shadow_release, seed=seed)
        keys += _shadow_keys(shadows.n_models, seed)
    target = _with(evidence.target, _publish(evidence.target, release, keys[0]))
    if population is not None:
        population = _with(population, _stacked(population, releases, keys))
    if augmented is not None:
        augmented = None if release.label_only else np.stack([
            _log_published(part, own, key) for part, own, key in zip(augmented, releases, keys, strict=True)
        ])  # fmt: skip
    return Evidence(
        target=target,
        shadows=None if shadows is None else _with(shadows, _stacked(shadows, releases[1:], keys[1:])),
        population=population,
        population_inputs=evidence.population_inputs,
        augmented=augmented,
        perturbed_labels=evidence.perturbed_labels,
        absent=evidence.absent,
    )


def _shadow_keys(n_models: int, seed: int) -> list[bytes]:
    return [noise_key(seed, "shadow", k) for k in range(n_models)]


def _shadow_releases(shadows: ShadowPredictions, release: Release, *, seed: int) -> list[Release]:
    if not release.unfitted:
        return [release] * shadows.n_models
    return [release.fit(shadows.model(k), seed=seed) for k in range(shadows.n_models)]


def _publish(predictions: Predictions, release: Release, key: bytes) -> Published:
    """The published part of one model's predictions."""
    if predictions.form == "summary" or (predictions.form == "predicted" and not release.label_only):
        allowed = "logits or probs" + (", or predicted" if release.label_only else "")
        raise UserError(f"release: {release} of {predictions.form}; allowed: predictions that hold {allowed}")
    if predictions.predicted is not None:
        return Published(predicted=predictions.predicted)
    if predictions.released and release.needs_scores:
        raise UserError(
            f"release: {release} of predictions that are released already; allowed: the model's own logits or probs"
        )
    scores = predictions.logits if predictions.logits is not None else predictions.probs
    assert scores is not None  # the forms are exhausted
    return release.publish(scores, predictions.form, key=key)


def _stacked(shadows: ShadowPredictions, releases: list[Release], keys: list[bytes]) -> Published:
    if len(releases) != shadows.n_models:
        raise UserError(f"release: {shadows.n_models} models in the population; the target and the shadows are {len(releases)}")
    parts = [_publish(shadows.model(k), own, key) for k, (own, key) in enumerate(zip(releases, keys, strict=True))]
    probs = [part.probs for part in parts if part.probs is not None]
    predicted = [part.predicted for part in parts if part.predicted is not None]
    return Published(probs=np.stack(probs)) if probs else Published(predicted=np.stack(predicted))


def _with(outputs: Outputs, published: Published) -> Outputs:
    """The same records with the published outputs in place of the model's own."""
    values: dict[str, Any] = {item.name: getattr(outputs, item.name) for item in fields(outputs)}
    values |= dict.fromkeys((*OUTPUTS, *SUMMARIES))
    return type(outputs)(**values | {"probs": published.probs, "predicted": published.predicted, "released": True})


def _log_published(logits: Array, release: Release, key: bytes) -> Array:
    """(n, queries, classes) logits to the logarithms of their published confidences, in float32."""
    flat = release.publish(logits.reshape(-1, logits.shape[-1]), "logits", key=key).probs
    assert flat is not None  # releases that publish labels do not come here
    logs: Array = np.log(np.maximum(flat, PROB_FLOOR)).astype(np.float32)
    return logs.reshape(logits.shape)
