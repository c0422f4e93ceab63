"""A few small perceptrons trained side by side, as one batched numpy program.

scikit-learn's `MLPClassifier` holds the interpreter's lock between its many small steps, so folds in threads slow each other
down: 4.8 s with two threads where one took 3.7 s. Here all networks of a fold take each step together. Early stopping uses
the log-loss of held-out records, not their accuracy, which is mostly noise at an AUC of 0.58.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from memberscope.attacks.adam import descend
from memberscope.checks import Array, BoolArray, FloatArray

NETWORKS, HIDDEN, BATCH = 4, 32, 512
RATE, DECAY = 3e-3, 1e-2
PATIENCE, MOST_EPOCHS, HELD_OUT = 5, 100, 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Perceptrons:
    """`NETWORKS` networks with one hidden layer of rectified units.

    All weights lie in one array, so that a step of the optimizer is a handful of operations, whatever the number of layers. The layers are
    views of it, made once: with a few hundred records, a step takes about as long as making them.

    Attributes:
        weights: (networks, inputs * hidden + 2 * hidden + 1), of each network: `w1`, `b1`, `w2` and `b2`.
        inputs: the number of features.
    """

    weights: FloatArray
    inputs: int

    @cached_property
    def w1(self) -> FloatArray:
        """(networks, inputs, hidden), a view."""
        return self.first[:, :-1]

    @cached_property
    def first(self) -> FloatArray:
        """(networks, inputs + 1, hidden), a view: `w1`, and `b1` as the weights of one more input, which is always 1."""
        return self.weights[:, : (self.inputs + 1) * HIDDEN].reshape(len(self.weights), self.inputs + 1, HIDDEN)

    @cached_property
    def b1(self) -> FloatArray:
        """(networks, 1, hidden), a view."""
        return self.first[:, -1:]

    @cached_property
    def w2(self) -> FloatArray:
        """(networks, hidden, 1), a view."""
        return self.weights[:, -HIDDEN - 1 : -1, None]

    @cached_property
    def b2(self) -> FloatArray:
        """(networks, 1, 1), a view."""
        return self.weights[:, -1:, None]

    def __call__(self, x: FloatArray) -> FloatArray:
        """Mean log-odds over the networks, (r,), of features (r, inputs)."""
        hidden: FloatArray = x[None] @ self.w1
        hidden += self.b1
        np.maximum(hidden, 0.0, out=hidden)
        mean: FloatArray = (hidden @ self.w2 + self.b2)[..., 0].mean(axis=0)
        return mean


@dataclass(frozen=True, kw_only=True, eq=False)
class _Steps:
    """The gradients and the losses of networks on rows of `x` (m, inputs + 1), whose last column is 1, and `target` (m,).

    `hidden` and `back` are room for the hidden units of all rows of a step, and `gradient` for the gradients, in the order of the
    weights: new arrays of this size in each step would cost as much as what is computed. The rows of a step lie along the last axis, since
    numpy takes several times as long where that axis is as short as the hidden layer.
    """

    net: Perceptrons
    x: FloatArray
    target: FloatArray
    hidden: FloatArray
    back: FloatArray
    gradient: Perceptrons

    @classmethod
    def of(cls, net: Perceptrons, x: FloatArray, member: BoolArray, *, most: int) -> _Steps:
        """For networks that are changed in place, on features (m, inputs) of members and non-members, up to `most` of them at once."""
        room = len(net.weights) * HIDDEN * most
        # `take` copies an array that lies by column as a whole, in each step: with 40,000 records that was 40% of the training
        rows = np.ascontiguousarray(np.column_stack([x, np.ones(len(x))]))
        return cls(
            net=net, x=rows, target=member.astype(np.float64), hidden=np.empty(room), back=np.empty(room),
            gradient=Perceptrons(weights=np.empty_like(net.weights), inputs=net.inputs),
        )  # fmt: skip

    def _forward(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Of rows (networks, r, inputs + 1): hidden activations (networks, hidden, r), which the next call overwrites, and log-odds
        (networks, 1, r).
        """
        hidden = self.hidden[: HIDDEN * x.shape[0] * x.shape[1]].reshape(len(x), HIDDEN, -1)
        np.matmul(self.net.first.transpose(0, 2, 1), x.transpose(0, 2, 1), out=hidden)
        np.maximum(hidden, 0.0, out=hidden)
        odds = self.net.w2.transpose(0, 2, 1) @ hidden
        odds += self.net.b2
        return hidden, odds

    def gradients(self, rows: Array) -> list[FloatArray]:
        """Gradients (networks, weights) of the mean log-loss plus half `DECAY` times the squared weights, on rows (networks, r)."""
        x, into = self.x.take(rows, axis=0), self.gradient
        hidden, odds = self._forward(x)
        back = self.back[: hidden.size].reshape(hidden.shape)
        slope = np.minimum(np.maximum(odds, -500.0), 500.0)
        slope = (1.0 / (1.0 + np.exp(-slope)) - self.target[rows][:, None]) / rows.shape[1]
        np.greater(hidden, 0.0, out=back, casting="unsafe")  # ones and zeros, which multiply faster than booleans
        back *= slope
        np.matmul(x.transpose(0, 2, 1), back.transpose(0, 2, 1), out=into.first)
        # w2 is the same for all rows, so it is applied once, to their sum
        np.multiply(into.first, self.net.w2.transpose(0, 2, 1), out=into.first)
        np.matmul(hidden, slope.transpose(0, 2, 1), out=into.w2)
        np.add.reduce(slope, axis=2, keepdims=True, out=into.b2)
        for gradient, weight in ((into.w1, self.net.w1), (into.w2, self.net.w2)):
            gradient += DECAY * weight
        return [into.weights]

    def loss(self, rows: Array) -> FloatArray:
        """Mean log-loss (networks,) on rows (networks, r)."""
        odds = self._forward(self.x.take(rows, axis=0))[1][:, 0]
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
    net.w1[...] = rng.normal(size=(NETWORKS, inputs, HIDDEN)) * np.sqrt(2.0 / inputs)
    net.w2[...] = rng.normal(size=(NETWORKS, HIDDEN, 1)) * np.sqrt(1.0 / HIDDEN)
    steps = _Steps.of(net, x, member, most=max(held, min(BATCH, m - held)))
    (best,) = descend(
        [net.weights], used, aside, rng, gradients=steps.gradients, loss=steps.loss,
        rate=RATE, batch=BATCH, epochs=MOST_EPOCHS, patience=PATIENCE, least_gain=1e-5,
    )  # fmt: skip
    return Perceptrons(weights=best, inputs=inputs)
