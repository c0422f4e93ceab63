"""Adam with early stopping, for several small networks that take each step together.

scikit-learn trains one network at a time, with a classifier's loss or the squared one; see `memberscope.attacks.perceptron` for its speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from memberscope.checks import Array, FloatArray

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


def descend(
    weights: Sequence[FloatArray],
    used: Array,
    aside: Array,
    rng: np.random.Generator,
    *,
    gradients: Callable[[Array], Sequence[FloatArray]],
    loss: Callable[[Array], FloatArray],
    rate: float,
    batch: int,
    epochs: int,
    patience: int,
    least_gain: float,
) -> list[FloatArray]:
    """The weights of each network's best epoch; training ends when none has improved for `patience` epochs.

    Args:
        weights: arrays (networks, ...), which are changed in place; `gradients` and `loss` are those at their present values.
        used: (networks, m) rows on which each network trains.
        aside: (networks, held) rows on which its epochs are judged.
        rng: draws the order of the rows in each epoch.
        gradients: the gradients for each of `weights`, on rows (networks, b).
        loss: (networks,) on rows (networks, held).
        rate: the learning rate.
        batch: the number of rows per step.
        epochs: the largest number of epochs.
        patience: the number of epochs without an improvement after which training ends.
        least_gain: the smallest decrease of the loss that counts as an improvement.
    """
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    rooms = [np.empty_like(w) for w in weights], [np.empty_like(w) for w in weights]
    best = [w.copy() for w in weights]
    best_loss = np.full(len(used), np.inf)
    since = np.zeros(len(used), dtype=int)
    step = 0
    for _ in range(epochs):
        used = rng.permuted(used, axis=1)
        for start in range(0, used.shape[1], batch):
            step += 1
            size = rate * np.sqrt(1.0 - _BETA2**step) / (1.0 - _BETA1**step)
            found = gradients(used[:, start : start + batch])
            for w, a, b, g, change, root in zip(weights, first, second, found, *rooms, strict=True):
                a *= _BETA1
                a += np.multiply(g, 1.0 - _BETA1, out=change)
                b *= _BETA2
                np.multiply(g, 1.0 - _BETA2, out=change)
                b += np.multiply(change, g, out=change)
                np.sqrt(b, out=root)
                root += _EPSILON
                np.multiply(a, size, out=change)
                change /= root
                w -= change
        reached = loss(aside)
        better = reached < best_loss - least_gain
        best_loss = np.where(better, reached, best_loss)
        since = np.where(better, 0, since + 1)
        for kept, w in zip(best, weights, strict=True):
            kept[better] = w[better]
        if (since >= patience).all():
            break
    return best
