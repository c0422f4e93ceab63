"""A few small perceptrons trained side by side, as one batched numpy program.

scikit-learn's `MLPClassifier` holds the interpreter's lock between its many small steps, so folds in threads slow each other
down: 4.8 s with two threads where one took 3.7 s. Here all networks of a fold take each step together. Early stopping uses
the log-loss of held-out records, not their accuracy, which is mostly noise at an AUC of 0.58.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from memberscope.attacks.adam import descend
from memberscope.checks import Array, BoolArray, FloatArray

NETWORKS, HIDDEN, BATCH = 4, 32, 512
RATE, DECAY = 3e-3, 1e-2
PATIENCE, MOST_EPOCHS, HELD_OUT = 5, 100, 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Perceptrons:
    """`NETWORKS` networks with one hidden layer of rectified units.

    All weights lie in one array, so that a step of the optimizer is a handful of operations, whatever the number of layers.

    Attributes:
        weights: (networks, (inputs + 1) * hidden + hidden + 1), of each network: `first`, then `second`, then `bias`.
        inputs: the number of features.
    """

    weights: FloatArray
    inputs: int

    @property
    def first(self) -> FloatArray:
        """(networks, inputs + 1, hidden), a view; the last row of each network holds the biases of its hidden units."""
        end = (self.inputs + 1) * HIDDEN
        return self.weights[:, :end].reshape(len(self.weights), self.inputs + 1, HIDDEN)

    @property
    def second(self) -> FloatArray:
        """(networks, hidden, 1), a view."""
        end = (self.inputs + 1) * HIDDEN
        return self.weights[:, end : end + HIDDEN, None]

    @property
    def bias(self) -> FloatArray:
        """(networks, 1) of the output, a view."""
        return self.weights[:, -1:]

    def __call__(self, x: FloatArray) -> FloatArray:
        """Mean log-odds over the networks, (r,), of features (r, inputs)."""
        x = _with_ones(x)
        total: FloatArray = np.zeros(len(x))
        for net in range(len(self.weights)):
            total += np.maximum(x @ self.first[net], 0.0) @ self.second[net, :, 0] + self.bias[net]
        total /= len(self.weights)
        return total


def _with_ones(x: FloatArray) -> FloatArray:
    """Features (r, inputs) and a last column of ones, row by row in memory."""
    wide: FloatArray = np.ones((len(x), x.shape[1] + 1))
    wide[:, :-1] = x
    return wide


@dataclass(frozen=True, kw_only=True, eq=False)
class _Steps:
    """The gradients and the losses of networks on rows of `x` (m, inputs + 1) and `target` (m,).

    `hidden` and `active` are room for the hidden units of all rows of a step, and `gradient` for the gradients, in the order of the
    weights: new arrays of this size in each step would cost as much as what is computed.
    """

    net: Perceptrons
    x: FloatArray
    target: FloatArray
    hidden: FloatArray
    active: FloatArray
    gradient: Perceptrons

    @classmethod
    def of(cls, net: Perceptrons, x: FloatArray, member: BoolArray, *, most: int) -> _Steps:
        """For networks that are changed in place, on features (m, inputs) of members and non-members, up to `most` of them at once."""
        room = (len(net.weights) * most, HIDDEN)
        return cls(
            net=net, x=_with_ones(x), target=member.astype(np.float64), hidden=np.empty(room), active=np.empty(room),
            gradient=Perceptrons(weights=np.empty_like(net.weights), inputs=net.inputs),
        )  # fmt: skip

    def _forward(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Which hidden units are active, as 0 or 1, and their values (both networks, r, hidden), and log-odds (networks, r)."""
        shape = (*x.shape[:2], HIDDEN)
        hidden, active = (room[: shape[0] * shape[1]].reshape(shape) for room in (self.hidden, self.active))
        np.matmul(x, self.net.first, out=hidden)
        np.greater(hidden, 0.0, out=active, casting="unsafe")
        hidden *= active
        return active, hidden, (hidden @ self.net.second)[..., 0] + self.net.bias

    def gradients(self, rows: Array) -> list[FloatArray]:
        """Gradients (networks, weights) of the mean log-loss plus half `DECAY` times the squared weights, on rows (networks, r).

        The gradient of a weight of the first layer is the mean of slope * input over the records for which its unit is active, times
        the unit's weight in the second layer.
        """
        first, second, bias = self.gradient.first, self.gradient.second, self.gradient.bias
        x = np.take(self.x, rows, axis=0)
        active, hidden, odds = self._forward(x)
        slope = expit(odds)
        slope -= self.target[rows]
        slope /= rows.shape[1]
        np.matmul(hidden.transpose(0, 2, 1), slope[..., None], out=second)
        np.sum(slope, axis=1, keepdims=True, out=bias)
        x *= slope[..., None]
        np.matmul(x.transpose(0, 2, 1), active, out=first)
        first *= self.net.second.transpose(0, 2, 1)
        first[:, :-1] += DECAY * self.net.first[:, :-1]
        second += DECAY * self.net.second
        return [self.gradient.weights]

    def loss(self, rows: Array) -> FloatArray:
        """Mean log-loss (networks,) on rows (networks, r)."""
        odds = self._forward(np.take(self.x, rows, axis=0))[2]
        loss = np.maximum(odds, 0.0) + np.log1p(np.exp(-np.abs(odds))) - self.target[rows] * odds
        mean: FloatArray = loss.mean(axis=-1)
        return mean


def fit(x: FloatArray, member: BoolArray, rng: np.random.Generator) -> Perceptrons:
    """Train on features (m, d) of members and non-members, by Adam, each network on its own random nine tenths.

    A network keeps the weights of its best epoch; training ends when none has improved for `PATIENCE` epochs.
    """
    m, inputs = x.shape
    held = max(2, round(HELD_OUT * m))
    drawn = np.stack([rng.permutation(m) for _ in range(NETWORKS)])
    aside, used = drawn[:, :held], drawn[:, held:]
    net = Perceptrons(weights=np.zeros((NETWORKS, (inputs + 2) * HIDDEN + 1)), inputs=inputs)
    net.first[:, :-1] = rng.normal(size=(NETWORKS, inputs, HIDDEN)) * np.sqrt(2.0 / inputs)
    net.second[...] = rng.normal(size=(NETWORKS, HIDDEN, 1)) * np.sqrt(1.0 / HIDDEN)
    steps = _Steps.of(net, x, member, most=max(held, min(BATCH, m - held)))
    (best,) = descend(
        [net.weights], used, aside, rng, gradients=steps.gradients, loss=steps.loss,
        rate=RATE, batch=BATCH, epochs=MOST_EPOCHS, patience=PATIENCE, least_gain=1e-5,
    )  # fmt: skip
    return Perceptrons(weights=best, inputs=inputs)
