"""A few small perceptrons trained side by side, as one batched numpy program.

scikit-learn's `MLPClassifier` holds the interpreter's lock between its many small steps, so folds in threads slow each other
down: 4.8 s with two threads where one took 3.7 s. Here all networks of a fold take each step together. Early stopping uses
the log-loss of held-out records, not their accuracy, which is mostly noise at an AUC of 0.58.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.attacks.adam import descend
from memberscope.checks import BoolArray, FloatArray

NETWORKS, HIDDEN, BATCH = 4, 32, 512
RATE, DECAY = 3e-3, 1e-2
PATIENCE, MOST_EPOCHS, HELD_OUT = 5, 100, 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Perceptrons:
    """`NETWORKS` networks with one hidden layer of rectified units.

    Attributes:
        w1: (networks, inputs, hidden).
        b1: (networks, 1, hidden).
        w2: (networks, hidden, 1).
        b2: (networks, 1, 1).
    """

    w1: FloatArray
    b1: FloatArray
    w2: FloatArray
    b2: FloatArray

    def __call__(self, x: FloatArray) -> FloatArray:
        """Mean log-odds over the networks, (r,), of features (r, inputs)."""
        mean: FloatArray = _forward(self, x[None])[1].mean(axis=0)
        return mean


def _forward(p: Perceptrons, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Hidden activations (networks, r, hidden) and log-odds (networks, r)."""
    hidden = x @ p.w1
    hidden += p.b1
    np.maximum(hidden, 0.0, out=hidden)
    return hidden, (hidden @ p.w2 + p.b2)[..., 0]


def _log_loss(odds: FloatArray, member: FloatArray) -> FloatArray:
    loss: FloatArray = (np.logaddexp(0.0, odds) - member * odds).mean(axis=-1)
    return loss


def _gradients(p: Perceptrons, x: FloatArray, member: FloatArray) -> tuple[FloatArray, ...]:
    """Gradients of the mean log-loss plus half `DECAY` times the squared weights, in the order of the fields."""
    hidden, odds = _forward(p, x)
    slope = (1.0 / (1.0 + np.exp(-np.clip(odds, -500, 500))) - member)[..., None] / x.shape[1]
    back = slope * p.w2.transpose(0, 2, 1)
    back *= hidden > 0
    return (
        x.transpose(0, 2, 1) @ back + DECAY * p.w1,
        back.sum(axis=1, keepdims=True),
        hidden.transpose(0, 2, 1) @ slope + DECAY * p.w2,
        slope.sum(axis=1, keepdims=True),
    )


def fit(x: FloatArray, member: BoolArray, rng: np.random.Generator) -> Perceptrons:
    """Train on features (m, inputs) of members and non-members, by Adam, each network on its own random nine tenths.

    A network keeps the weights of its best epoch; training ends when none has improved for `PATIENCE` epochs.
    """
    m, inputs = x.shape
    target = member.astype(np.float64)
    held = max(2, round(HELD_OUT * m))
    drawn = np.stack([rng.permutation(m) for _ in range(NETWORKS)])
    aside, used = drawn[:, :held], drawn[:, held:]
    weights = [
        rng.normal(size=(NETWORKS, inputs, HIDDEN)) * np.sqrt(2.0 / inputs),
        np.zeros((NETWORKS, 1, HIDDEN)),
        rng.normal(size=(NETWORKS, HIDDEN, 1)) * np.sqrt(1.0 / HIDDEN),
        np.zeros((NETWORKS, 1, 1)),
    ]
    net = Perceptrons(w1=weights[0], b1=weights[1], w2=weights[2], b2=weights[3])
    best = descend(
        weights, used, aside, rng,
        gradients=lambda rows: _gradients(net, x[rows], target[rows]),
        loss=lambda rows: _log_loss(_forward(net, x[rows])[1], target[rows]),
        rate=RATE, batch=BATCH, epochs=MOST_EPOCHS, patience=PATIENCE, least_gain=1e-5,
    )  # fmt: skip
    return Perceptrons(w1=best[0], b1=best[1], w2=best[2], b2=best[3])
