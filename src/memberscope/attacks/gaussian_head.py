"""Small networks that predict, for each record, the mean and the deviation of a normal distribution of its score.

All networks are trained together in batched numpy, as those of `memberscope.attacks.perceptron`, which are classifiers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.attacks.adam import descend
from memberscope.checks import FloatArray

NETWORKS, HIDDEN, BATCH = 8, 64, 128
RATE, DECAY = 3e-3, 1e-2
PATIENCE, MOST_EPOCHS, HELD_OUT = 5, 100, 0.1
TEMPER = 0.5
"""Power of the variance by which a record's gradient is weighted. With 0, the plain likelihood, records that are hard to predict would be
neglected.
"""
MOST_LOG = 4.0
"""Bound on the logarithm of a deviation, in the units of the targets."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianHeads:
    """`NETWORKS` networks with one hidden layer of rectified units and two outputs, mean and log deviation.

    Attributes:
        w1: (networks, inputs, hidden).
        b1: (networks, 1, hidden).
        w2: (networks, hidden, 2).
        b2: (networks, 1, 2).
    """

    w1: FloatArray
    b1: FloatArray
    w2: FloatArray
    b2: FloatArray

    def residual(self, x: FloatArray, values: FloatArray) -> FloatArray:
        """(r,) mean over the networks of (value - mean) / deviation, for features (r, inputs) and values (r,)."""
        mean, log_deviation = _split(_forward(self, x[None])[1])
        residual: FloatArray = ((values - mean) * np.exp(-log_deviation)).mean(axis=0)
        return residual


def _forward(p: GaussianHeads, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Hidden activations (networks, r, hidden) and outputs (networks, r, 2)."""
    hidden = np.maximum(x @ p.w1 + p.b1, 0.0)
    return hidden, hidden @ p.w2 + p.b2


def _split(out: FloatArray) -> tuple[FloatArray, FloatArray]:
    return out[..., 0], np.clip(out[..., 1], -MOST_LOG, MOST_LOG)


def _loss(out: FloatArray, values: FloatArray) -> FloatArray:
    """Negative log-likelihood of each network, (networks,), up to a constant."""
    mean, log_deviation = _split(out)
    loss: FloatArray = (log_deviation + 0.5 * ((values - mean) * np.exp(-log_deviation)) ** 2).mean(axis=-1)
    return loss


def _gradients(p: GaussianHeads, x: FloatArray, values: FloatArray) -> tuple[FloatArray, ...]:
    """Gradients of the mean loss and of the weight decay; each record's loss is weighted by its deviation to the power 2 `TEMPER` (Seitzer
    et al., ICLR 2022).
    """
    hidden, out = _forward(p, x)
    mean, log_deviation = _split(out)
    z = (values - mean) * np.exp(-log_deviation)
    slope = np.stack([-z * np.exp(-log_deviation), np.where(np.abs(out[..., 1]) < MOST_LOG, 1.0 - z * z, 0.0)], axis=-1)
    slope *= np.exp(2.0 * TEMPER * log_deviation)[..., None] / x.shape[1]
    back = (slope @ p.w2.transpose(0, 2, 1)) * (hidden > 0)
    return (
        x.transpose(0, 2, 1) @ back + DECAY * p.w1,
        back.sum(axis=1, keepdims=True),
        hidden.transpose(0, 2, 1) @ slope + DECAY * p.w2,
        slope.sum(axis=1, keepdims=True),
    )


def fit(x: FloatArray, values: FloatArray, rng: np.random.Generator) -> GaussianHeads:
    """Train on features (m, inputs) and values (m,) by Adam, each network on nine tenths of them, drawn at random for it.

    Each network keeps the weights of the epoch that is best on its other tenth; training ends when none has improved for `PATIENCE` epochs.
    """
    m, inputs = x.shape
    held = max(2, round(HELD_OUT * m))
    drawn = np.stack([rng.permutation(m) for _ in range(NETWORKS)])
    aside, used = drawn[:, :held], drawn[:, held:]
    weights = [
        rng.normal(size=(NETWORKS, inputs, HIDDEN)) * np.sqrt(2.0 / inputs),
        np.zeros((NETWORKS, 1, HIDDEN)),
        rng.normal(size=(NETWORKS, HIDDEN, 2)) * 0.1 * np.sqrt(1.0 / HIDDEN),
        np.zeros((NETWORKS, 1, 2)),
    ]
    net = GaussianHeads(w1=weights[0], b1=weights[1], w2=weights[2], b2=weights[3])
    best = descend(
        weights, used, aside, rng,
        gradients=lambda rows: _gradients(net, x[rows], values[rows]),
        loss=lambda rows: _loss(_forward(net, x[rows])[1], values[rows]),
        rate=RATE, batch=BATCH, epochs=MOST_EPOCHS, patience=PATIENCE, least_gain=1e-4,
    )  # fmt: skip
    return GaussianHeads(w1=best[0], b1=best[1], w2=best[2], b2=best[3])
