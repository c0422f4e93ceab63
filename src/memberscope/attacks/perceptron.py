"""A few small perceptrons trained side by side, as one batched numpy program.

scikit-learn's `MLPClassifier` holds the interpreter's lock between its many small steps, so folds in threads slow each other
down: 4.8 s with two threads where one took 3.7 s. Here all networks of a fold take each step together. Early stopping goes by
the log-loss of held-out records, not by their accuracy, which at AUC 0.58 is noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.checks import BoolArray, FloatArray

NETWORKS, HIDDEN, BATCH = 4, 32, 512
RATE, DECAY = 3e-3, 1e-2
PATIENCE, MOST_EPOCHS, HELD_OUT = 5, 100, 0.1
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


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
    hidden = np.maximum(x @ p.w1 + p.b1, 0.0)
    return hidden, (hidden @ p.w2 + p.b2)[..., 0]


def _log_loss(odds: FloatArray, member: FloatArray) -> FloatArray:
    loss: FloatArray = (np.logaddexp(0.0, odds) - member * odds).mean(axis=-1)
    return loss


def _gradients(p: Perceptrons, x: FloatArray, member: FloatArray) -> tuple[FloatArray, ...]:
    """Of the mean log-loss plus half `DECAY` times the squared weights, in the order of the fields."""
    hidden, odds = _forward(p, x)
    slope = (1.0 / (1.0 + np.exp(-np.clip(odds, -500, 500))) - member)[..., None] / x.shape[1]
    back = (slope @ p.w2.transpose(0, 2, 1)) * (hidden > 0)
    return (
        x.transpose(0, 2, 1) @ back + DECAY * p.w1,
        back.sum(axis=1, keepdims=True),
        hidden.transpose(0, 2, 1) @ slope + DECAY * p.w2,
        slope.sum(axis=1, keepdims=True),
    )


def fit(x: FloatArray, member: BoolArray, rng: np.random.Generator) -> Perceptrons:
    """Train on features (m, inputs) of members and non-members, by Adam, each network on nine tenths of its own drawing.

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
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    best = [w.copy() for w in weights]
    best_loss = np.full(NETWORKS, np.inf)
    since = np.zeros(NETWORKS, dtype=int)
    step = 0
    net = Perceptrons(w1=weights[0], b1=weights[1], w2=weights[2], b2=weights[3])
    for _ in range(MOST_EPOCHS):
        used = rng.permuted(used, axis=1)
        for start in range(0, used.shape[1], BATCH):
            rows = used[:, start : start + BATCH]
            step += 1
            rate = RATE * np.sqrt(1.0 - _BETA2**step) / (1.0 - _BETA1**step)
            for w, a, b, g in zip(weights, first, second, _gradients(net, x[rows], target[rows]), strict=True):
                a *= _BETA1
                a += (1.0 - _BETA1) * g
                b *= _BETA2
                b += (1.0 - _BETA2) * g * g
                w -= rate * a / (np.sqrt(b) + _EPSILON)
        loss = _log_loss(_forward(net, x[aside])[1], target[aside])
        better = loss < best_loss - 1e-5
        best_loss = np.where(better, loss, best_loss)
        since = np.where(better, 0, since + 1)
        for kept, w in zip(best, weights, strict=True):
            kept[better] = w[better]
        if (since >= PATIENCE).all():
            break
    return Perceptrons(w1=best[0], b1=best[1], w2=best[2], b2=best[3])
