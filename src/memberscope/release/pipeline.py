"""A release: a sequence of steps from the model's output to what its service publishes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from memberscope import seeds
from memberscope.checks import Array, FloatArray, check_finite, row_chunks
from memberscope.errors import UserError, nearest
from memberscope.predictions import Predictions
from memberscope.release.memguard import MemGuard
from memberscope.release.steps import Confidences, Decimals, Digits, LabelOnly, Step, Temperature, Top, settle
from memberscope.signals import PROB_FLOOR

_PARSERS: dict[str, Callable[[Any], Step]] = {
    "temperature": lambda value: Temperature(value),
    "memguard": lambda value: MemGuard(value),
    "digits": lambda value: Digits(value),
    "decimals": lambda value: Decimals(value),
    "top": lambda value: Top(value),
    "top_spread": lambda value: Top(value, spread=True),
}
_ORDER = "temperature, then memguard, then top, top_spread, digits and decimals as they come, then label_only"


@dataclass(frozen=True, kw_only=True, eq=False)
class Published:
    """What a service publishes about n records: either `probs` (n, classes), whose rows may sum to less than one, or `predicted` (n,)."""

    probs: FloatArray | None = None
    predicted: Array | None = None


@dataclass(frozen=True)
class Release:
    """Steps that turn a model's logits into what is published; without steps, its confidences.

    Raises:
        UserError: steps in an order that has no meaning, or two of MemGuard or of `LabelOnly`.
    """

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:  # noqa: D105
        for before, after in zip(self.steps, self.steps[1:], strict=False):
            if before.rank > after.rank:
                raise UserError(f"release: {after.text} after {before.text}; allowed: {_ORDER}")
            if type(before) is type(after) and isinstance(after, MemGuard | LabelOnly):
                raise UserError(f"release: {after.name} twice; allowed: once")

    def __str__(self) -> str:
        """The release as `parse_release` reads it."""
        return ",".join(step.text for step in self.steps) or "none"

    @property
    def label_only(self) -> bool:
        """Whether it publishes labels and no confidences."""
        return any(isinstance(step, LabelOnly) for step in self.steps)

    @property
    def unfitted(self) -> bool:
        """Whether it must be fitted before it can be used."""
        return any(step.unfitted for step in self.steps)

    @property
    def needs_scores(self) -> bool:
        """Whether a step needs the model's own logits or full confidences, so that it cannot be applied to released outputs."""
        return any(step.rank < 2 for step in self.steps)

    def check(self, classes: int) -> None:
        """Raise UserError where a model with this number of classes cannot be released in this way."""
        for step in self.steps:
            step.check(classes)

    def fit(self, known: Predictions, *, seed: int) -> Release:
        """The release with its defence trained on `known`: the defender's own members and non-members, logits or probs.

        Records that are audited later as non-members do not belong in it; the defender does not know them.
        """
        done: list[Step] = []
        for step in self.steps:
            if step.unfitted:
                scores, form = _scores_of(known)
                probs, label = Release(tuple(done))._confidences(scores, form, b"")
                step = step.fitted(probs, label, known.member, seed=seed)
            done.append(step)
        return replace(self, steps=tuple(done))

    def __call__(self, logits: ArrayLike, *, seed: int = 0) -> Published:
        """What is published for `logits` (n, classes); `seed` keys the noise of the steps that add some.

        Raises:
            UserError: not (n, classes) of finite numbers, fewer classes than `Top` keeps, or a step that was not fitted.
        """
        array = np.asarray(logits)
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.number):
            raise UserError(f"release: logits of shape {array.shape}, dtype {array.dtype}; allowed: numbers (records, classes)")
        check_finite("release: logits", array)
        return self.publish(array, "logits", key=noise_key(seed))

    def publish(self, scores: Array, form: str, *, key: bytes) -> Published:
        """Like `__call__`, for ``logits`` or ``probs`` that were already checked, with the key of the noise itself."""
        if self.label_only:
            return Published(predicted=scores.argmax(axis=1).astype(np.int64))
        self.check(scores.shape[1])
        out = np.empty(scores.shape)
        for rows in row_chunks(*scores.shape):
            out[rows] = self._confidences(scores[rows], form, key)[0]
        return Published(probs=out)

    def _confidences(self, scores: Array, form: str, key: bytes) -> tuple[FloatArray, Array]:
        """Published confidences (r, classes) and labels (r,) of a chunk of rows."""
        values = np.asarray(scores, dtype=np.float64)
        label = values.argmax(axis=1)
        heat = [step.value for step in self.steps if isinstance(step, Temperature)]
        if form == "logits" or heat:
            if form == "probs":
                values = np.log(
                    np.maximum(values, PROB_FLOOR)
                )  # as the attacks do, so that a temperature can be undone exactly
            values = values - values.max(axis=1, keepdims=True)
            for value in heat:
                values = values / value
            values = np.exp(values)
            values /= values.sum(axis=1, keepdims=True)
        probs = settle(values, label)
        for step in self.steps:
            if isinstance(step, Confidences):
                probs = step(probs, label, key=key)
        return probs, label


def noise_key(seed: int, *names: str | int) -> bytes:
    """The key of one model's noise: whoever knows it can undo the noise, so shadows have keys of their own."""
    return seeds.stream(seed, "release", *names).bytes(32)


def _scores_of(predictions: Predictions) -> tuple[Array, str]:
    scores = predictions.logits if predictions.logits is not None else predictions.probs
    if scores is None or predictions.released:
        raise UserError(f"release: fit on {predictions.form}; allowed: the model's own logits or probs, unreleased")
    return scores, predictions.form


def parse_release(text: str) -> Release:
    """Parse a release: ``none``, or steps with commas, such as ``temperature=2,top=3,digits=2``.

    Steps, in this order: ``temperature=T``; ``memguard=EPSILON``; any of ``top=N``, ``top_spread=N``, ``digits=D``,
    ``decimals=D``; ``label_only``. ``memguard`` must be fitted before use.

    Raises:
        UserError: an unknown step (with the nearest), a value that is missing, of the wrong type or out of range, or an order
            that has no meaning.
    """
    known = [*_PARSERS, "label_only", "none"]
    parts = [part.strip() for part in str(text).split(",") if part.strip()]
    if not parts:
        raise UserError(f"release: {text!r} names no step; allowed: none, {', '.join(known[:-1])}")
    steps: list[Step] = []
    for part in parts:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise UserError(f"release: {name!r}{nearest(name, known)}; allowed: {', '.join(known)}")
        if name in _PARSERS:
            if not value:
                raise UserError(f"release: {name} without a value; allowed: {name}=NUMBER")
            steps.append(_PARSERS[name](value))
            continue
        if equals:
            raise UserError(f"release: {part}; {name} takes no value")
        if name == "none" and len(parts) > 1:
            raise UserError(f"release: none together with other steps in {text!r}; allowed: none alone")
        if name == "label_only":
            steps.append(LabelOnly())
    return Release(tuple(steps))
