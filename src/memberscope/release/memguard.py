"""MemGuard (Jia, Salem, Backes, Zhang & Gong, CCS 2019): noise on the confidences that misleads a neural attack classifier.

The defender trains a classifier g of members against non-members on sorted confidences, h being its log-odds, and publishes s + n
for a record with confidences s. Phase I finds a noise vector r that keeps the label and makes g undecided, g(s + r) = 1/2, with as
little distortion ``d = |r|_1`` as possible. Phase II adds r with probability min(epsilon / d, 1) and nothing otherwise, so that the
expected distortion of every record is at most epsilon; it adds nothing where ``|g(s) - 1/2| <= |g(s + r) - 1/2|``.

Phase I is the paper's Algorithm 1: with s = softmax(z), descend from e = 0 along the normalized gradient of
``|h(softmax(z + e))| + c2 max(0, max over other classes j of (z + e)_j - (z + e)_label) + c3 |softmax(z + e) - s|_1``, until the label
is kept and h has changed its sign. This is repeated with ten times the c3 as long as it succeeds, and the last success is used.

Differences from the paper: the last e is scaled down to where h crosses 0 (the label is kept for every such scale, since the constraint is
linear), so that g(s + r) is exactly 1/2 and d is smaller. The random decision is not stored in a table under the hash of a query, but
drawn from a keyed hash of the record's own confidences: the same record gets the same answer from any copy of the service. The
descent runs on all records at once.

Its limits: it changes no record's label, and an attacker who trains on defended outputs, or uses a threshold for each class (Song &
Mittal 2021, section 5), keeps most of the advantage.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from scipy.special import softmax

from memberscope import seeds
from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.config import Real
from memberscope.errors import UserError
from memberscope.release.steps import Confidences, plain, settle
from memberscope.signals import PROB_FLOOR

STEP, MOST_STEPS, LABEL_WEIGHT = 0.1, 300, 10.0
"""Algorithm 1's step length, steps and c2."""
DISTORTION_WEIGHTS = tuple(10.0**k for k in range(-1, 6))
"""The values of c3 that are tried, in this order."""
UNDECIDED = 1e-5
"""Records whose log-odds differ from 0 by less than this need no noise."""

HIDDEN, EPOCHS, BATCH, RIDGE, MOST_RECORDS = 32, 60, 128, 1e-3, 20_000
QUANTUM = 1e-4
"""The hash rounds log-confidences to multiples of this, since the last bits of a prediction depend on its batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Defence:
    """The defender's classifier of members against non-members: one hidden layer of rectified units on sorted confidences.

    All confidences share one scale; in the paper they are not scaled. A classifier of logarithms, or of inputs that are each scaled on its
    own, becomes undecided after changes to tiny confidences that have no effect on another classifier, so that the noise would not
    mislead an attacker's.

    Attributes:
        w1: (classes, hidden) weights, those of the largest confidence first.
        b1: (hidden,).
        w2: (hidden,).
        b2: the last bias.
        centre: (classes,), which is subtracted from the sorted confidences.
        scale: the number by which they are then divided.
    """

    w1: FloatArray
    b1: FloatArray
    w2: FloatArray
    b2: float
    centre: FloatArray
    scale: float

    def odds(self, probs: FloatArray) -> FloatArray:
        """Log-odds of membership h, (r,), of confidences (r, classes)."""
        ranked = -np.sort(-probs, axis=1)
        odds: FloatArray = np.maximum((ranked - self.centre) / self.scale @ self.w1 + self.b1, 0.0) @ self.w2 + self.b2
        return odds

    def odds_and_slope(self, probs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """h (r,), and its gradient (r, classes) with respect to logits whose softmax is `probs`."""
        order = np.argsort(-probs, axis=1)
        ranked = np.take_along_axis(probs, order, axis=1)
        hidden = (ranked - self.centre) / self.scale @ self.w1 + self.b1
        odds: FloatArray = np.maximum(hidden, 0.0) @ self.w2 + self.b2
        slope = np.empty_like(probs)
        np.put_along_axis(slope, order, ((hidden > 0) * self.w2) @ self.w1.T / self.scale, axis=1)
        return odds, _through_softmax(probs, slope)


def _through_softmax(probs: FloatArray, slope: FloatArray) -> FloatArray:
    """The gradient with respect to logits, from the gradient with respect to their softmax: p (g - <p, g>)."""
    out: FloatArray = probs * (slope - (probs * slope).sum(axis=1, keepdims=True))
    return out


def fit_defence(probs: FloatArray, member: BoolArray, *, seed: int) -> Defence:
    """Train the classifier on confidences (m, classes) of known members and non-members, as many of either, by Adam.

    Raises:
        UserError: fewer than ten on a side.
    """
    from sklearn.neural_network import MLPClassifier

    sides = [np.flatnonzero(member == side) for side in (True, False)]
    used = min(MOST_RECORDS, *map(len, sides))
    if used < 10:
        raise UserError(f"memguard: {len(sides[0])} members and {len(sides[1])} non-members known; allowed: 10 or more of each")
    rng = seeds.stream(seed, "release", "defence")
    rows = np.concatenate([rng.permutation(side)[:used] for side in sides])
    ranked = -np.sort(-probs[rows], axis=1)
    centre, scale = ranked.mean(axis=0), float(ranked.std(axis=0).max()) or 1.0
    network = MLPClassifier(
        (HIDDEN,), alpha=RIDGE, batch_size=min(BATCH, len(rows)), random_state=seeds.integer(seed, "release", "defence")
    )
    for _ in range(EPOCHS):
        network.partial_fit((ranked - centre) / scale, member[rows], classes=[False, True])
    (w1, w2), (b1, b2) = network.coefs_, network.intercepts_
    return Defence(w1=w1, b1=b1, w2=w2[:, 0], b2=float(b2[0]), centre=centre, scale=scale)


@dataclass(frozen=True)
class MemGuard(Confidences):
    """MemGuard with expected distortion at most `epsilon` per record, in the L1 norm (2 at most between two confidence vectors)."""

    name: ClassVar[str] = "memguard"
    rank: ClassVar[int] = 1
    epsilon: float
    defence: Defence | None = field(default=None, repr=False)

    def __post_init__(self) -> None:  # noqa: D105
        object.__setattr__(self, "epsilon", Real(low=0.0, high=2.0, open_low=True).parse("release: memguard", self.epsilon))

    @property
    def text(self) -> str:
        """``memguard=0.5``."""
        return f"memguard={plain(self.epsilon)}"

    def fitted(self, probs: FloatArray, label: Array, member: Array, *, seed: int) -> MemGuard:
        """A copy with a classifier trained on these records."""
        del label
        return replace(self, defence=fit_defence(probs, member, seed=seed))

    @property
    def unfitted(self) -> bool:
        """Whether its classifier has not been trained yet."""
        return self.defence is None

    def __call__(self, probs: FloatArray, label: Array, *, key: bytes) -> FloatArray:
        """The confidences; noise is added to those of some records."""
        if self.defence is None:
            raise UserError(f"release: {self.text}: not fitted; allowed: Release.fit(known, seed=...) before use")
        if probs.shape[1] != len(self.defence.centre):
            raise UserError(f"release: {self.text}: fitted on {len(self.defence.centre)} classes; these have {probs.shape[1]}")
        noised = representative(self.defence, probs, label)
        chance = add_probability(self.defence, probs, noised, self.epsilon)
        return np.where((_coins(probs, key) < chance)[:, None], noised, probs)


def add_probability(defence: Defence, probs: FloatArray, noised: FloatArray, epsilon: float) -> FloatArray:
    """Phase II: the probability (r,) with which each record's noise is added."""
    distance = np.abs(noised - probs).sum(axis=1)
    before, after = np.abs(defence.odds(probs)), np.abs(defence.odds(noised))  # |g - 1/2| increases in |h|
    chance = np.minimum(epsilon / np.maximum(distance, 1e-300), 1.0)
    return np.where(before <= after, 0.0, chance)


def representative(defence: Defence, probs: FloatArray, label: Array) -> FloatArray:
    """Phase I: confidences s + r (r, classes) on which the classifier is undecided; `probs` for records where none were found."""
    z = np.log(np.maximum(probs, PROB_FLOOR))
    start = defence.odds(probs)
    best = np.zeros_like(z)
    active = np.flatnonzero(np.abs(start) > UNDECIDED)
    for weight in DISTORTION_WEIGHTS:
        found, shift = _descend(defence, z[active], probs[active], label[active], start[active], weight)
        active = active[found]
        best[active] = shift[found]
        if not len(active):
            break
    moved = np.flatnonzero(best.any(axis=1))
    out = probs.copy()
    low, high = np.zeros(len(moved)), np.ones(len(moved))  # h has its original sign at low, the opposite one at high
    for _ in range(40):
        middle = (low + high) / 2
        crossed = defence.odds(softmax(z[moved] + middle[:, None] * best[moved], axis=1)) * start[moved] <= 0
        low, high = np.where(crossed, low, middle), np.where(crossed, middle, high)
    out[moved] = settle(softmax(z[moved] + high[:, None] * best[moved], axis=1), label[moved])
    return out


def _descend(
    defence: Defence, z: FloatArray, probs: FloatArray, label: Array, start: FloatArray, weight: float
) -> tuple[BoolArray, FloatArray]:
    """Algorithm 1's inner loop: which records (r,) succeeded, and their shifts e (r, classes)."""
    shift = np.zeros_like(z)
    found = np.zeros(len(z), dtype=np.bool_)
    rows = np.arange(len(z))
    for _ in range(MOST_STEPS):
        scores, at, here = z[rows] + shift[rows], label[rows], np.arange(len(rows))
        now = softmax(scores, axis=1)
        odds, slope = defence.odds_and_slope(now)
        own = scores[here, at]
        scores[here, at] = -np.inf
        rival = scores.argmax(axis=1)
        kept = own > scores[here, rival]
        done = kept & (odds * start[rows] <= 0)
        found[rows[done]] = True
        gradient = np.sign(odds)[:, None] * slope + weight * _through_softmax(now, np.sign(now - probs[rows]))
        gradient[here, rival] += LABEL_WEIGHT * ~kept
        gradient[here, at] -= LABEL_WEIGHT * ~kept
        norm = np.linalg.norm(gradient, axis=1, keepdims=True)
        rows, step = rows[~done], (gradient / np.maximum(norm, 1e-300))[~done]
        if not len(rows):
            break
        shift[rows] -= STEP * step
    return found, shift


def _coins(probs: FloatArray, key: bytes) -> FloatArray:
    """One uniform number in [0, 1) per row, from a keyed hash of the row's quantized log-confidences."""
    quantized = np.rint(np.log(np.maximum(probs, PROB_FLOOR)) / QUANTUM).astype("<i4")
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in quantized]
    coins: FloatArray = (np.frombuffer(b"".join(digests), dtype="<u8") >> 11) / 2.0**53
    return coins
