"""The GAN at its smallest: it learns classes, draws alike from alike seeds, and refuses too few."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.errors import Interrupted, UserError
from memberscope.interrupt import StopFlag

gan = pytest.importorskip("memberscope.synthesis.gan")


def blocks(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Twelve bits; those of the class's half are ones with probability 0.9, the others with 0.1."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    p = np.where((np.arange(12) // 6)[None] == y[:, None], 0.9, 0.1)
    return (rng.random((n, 12)) < p).astype(np.float32), y


def test_a_table_is_learned_by_class_and_varies() -> None:
    x, y = blocks(400)
    trained = gan.train_gan(x, y, kind="binary", classes=2, epochs=40, seed=0, learning_rate=1e-3)
    drawn, label = trained.sample(200, seed=1)
    assert drawn.shape == (400, 12)
    assert np.bincount(label).tolist() == [200, 200]
    assert set(np.unique(drawn)) == {0.0, 1.0}
    for c in (0, 1):
        own, other = drawn[label == c][:, c * 6 : c * 6 + 6].mean(), drawn[label == c][:, 6 - c * 6 : 12 - c * 6].mean()
        assert 0.75 < own < 0.97
        assert 0.03 < other < 0.25
    assert len(np.unique(drawn, axis=0)) > 40
    assert not trained.collapsed
    assert trained.checks[-1].epoch == 40
    assert all(len(check.spread) == 2 for check in trained.checks)


def test_the_same_seed_draws_the_same() -> None:
    x, y = blocks(64)
    first, again = (gan.train_gan(x, y, kind="real", classes=2, epochs=2, seed=0) for _ in range(2))
    assert np.array_equal(first.sample(5, seed=3)[0], again.sample(5, seed=3)[0])
    assert not np.array_equal(first.sample(5, seed=3)[0], first.sample(5, seed=4)[0])
    assert first.checks == again.checks


@pytest.mark.thorough  # the largest networks, which take seconds to compile; `make test` draws tables alone
def test_images_have_their_shape() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(32) % 2
    x = np.clip(rng.normal(0.2 + 0.6 * y[:, None, None, None], 0.1, (32, 16, 16, 3)), 0, 1).astype(np.float32)
    trained = gan.train_gan(x, y, kind="image", classes=2, epochs=1, seed=0)
    drawn, label = trained.sample(3, seed=0)
    assert drawn.shape == (6, 16, 16, 3)
    assert label.tolist() == [0, 1, 0, 1, 0, 1]
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_a_collapse_is_seen_and_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that forgets its noise collapses in every start, and says so."""
    x, y = blocks(64)

    def constant(shape, kind, classes, seed):
        from tensorflow import keras

        latent, label = keras.layers.Input((gan.LATENT,)), keras.layers.Input((classes,))
        h = keras.layers.Dense(12, activation="sigmoid", kernel_initializer="zeros", bias_initializer="ones")(label)
        return keras.Model([latent, label], h)

    monkeypatch.setattr(gan, "_generator", constant)
    trained = gan.train_gan(x, y, kind="real", classes=2, epochs=4, seed=0)
    assert trained.collapsed
    assert trained.starts == gan.RESTARTS + 1
    assert all(check.collapsed for check in trained.checks)


def test_too_few_seeds_are_refused_by_class() -> None:
    x, y = blocks(40)
    keep = (y == 0) | (np.arange(40) < 10)
    with pytest.raises(UserError, match=r"too few seed records of 1 of 2 classes: 1 \(5\); allowed: at least 8"):
        gan.train_gan(x[keep], y[keep], kind="binary", classes=2, epochs=1, seed=0)
    with pytest.raises(UserError, match=r"values from 0 to 255"):
        gan.train_gan(x * 255, y, kind="real", classes=2, epochs=1, seed=0)
    with pytest.raises(UserError, match="multiples of 4"):
        gan.train_gan(x, y, kind="image", classes=2, epochs=1, seed=0)
    flag = StopFlag()
    flag.set()
    with pytest.raises(Interrupted):
        gan.train_gan(x, y, kind="binary", classes=2, epochs=1, seed=0, stop=flag)
