"""DP-SGD as a whole: plain SGD where nothing is clipped and no noise added, noise of the promised size, Poisson batches, and no more given
away than was promised.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from memberscope import seeds
from memberscope.errors import Interrupted, UserError
from memberscope.metrics import epsilon_lower_bound
from memberscope.models import build_model
from memberscope.training.keras.fit import predictor
from memberscope.training.keras.noise import normal
from memberscope.training.keras.private import PAD_TO, PrivateTraining, fit_private, padded, poisson_batches

N, CLASSES = 60, 3


def _data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (N, 4, 4, 1), dtype=np.uint8), rng.integers(0, CLASSES, N), rng.permutation(N)[:50]


def _model(seed: int = 4) -> tf.keras.Model:
    return build_model("dense", depth=1, input_shape=(4, 4, 1), classes=CLASSES, width=5, seed=seed)


def _fit(model: tf.keras.Model, **changes: object) -> PrivateTraining:
    x, y, members = _data()
    settings = {
        "scale": 255.0, "epochs": 3, "batch_size": 8, "learning_rate": 0.1, "seed": 7, "clip_norm": 1.0, "noise_multiplier": 1.0,
        "after_epoch": lambda epoch: None, "between_steps": lambda steps: None, **changes,
    }  # fmt: skip
    return fit_private(model, tf.constant(x), y, members, **settings)


def _by_hand(model: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer) -> None:
    """The same Poisson batches, unpadded, one by one, with Keras's optimizer: summed loss over the expected batch size."""
    x, y, members = _data()
    for epoch in (1, 2, 3):
        rng = seeds.stream(7, "poisson", epoch)
        for batch in poisson_batches(members, batch_size=8, steps=7, rng=rng):
            with tf.GradientTape() as tape:
                logits = model(x[batch].astype(np.float32) / 255)
                loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(y[batch], logits)) / 8
            optimizer.apply_gradients(
                zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
            )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("clipping", ["fast", "per_example"])
def test_without_noise_and_clipping_it_is_plain_sgd_on_the_same_batches(optimizer: str, clipping: str) -> None:
    ours, theirs = _model(), _model()
    training = _fit(ours, noise_multiplier=0.0, clip_norm=1e6, optimizer=optimizer, clipping=clipping, learning_rate=0.02)
    _by_hand(theirs, {"sgd": tf.keras.optimizers.SGD, "adam": tf.keras.optimizers.Adam}[optimizer](0.02))
    assert training.clipping == clipping
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_noise_has_the_promised_size_also_in_empty_batches() -> None:
    """InputSource that give no gradient (logits far apart): the weights move by noise alone, of learning rate * noise * C / B a step."""
    x = np.zeros((400, 50), np.float32)
    model = build_model("mlp", depth=1, input_shape=(50,), classes=2, width=60)
    model.layers[-1].bias.assign([200.0, 0.0])
    before = [weight.astype(np.float64) for weight in model.get_weights()]
    training = fit_private(
        model, tf.constant(x), np.zeros(400, np.int64), np.arange(400), scale=1.0, epochs=2, batch_size=2, learning_rate=0.01,
        clip_norm=0.5, noise_multiplier=3.0, seed=1, optimizer="sgd", after_epoch=lambda epoch: None, between_steps=lambda steps: None,
    )  # fmt: skip
    assert training.privacy.steps == 400  # of which exp(-2) are empty
    deviation = 0.01 * 3.0 * 0.5 / 2 * np.sqrt(400)
    moved = np.concatenate([(a - b).ravel() for a, b in zip(model.get_weights(), before, strict=True)]) / deviation
    square = float((moved**2).sum())
    low, high = stats.chi2.ppf([0.0005, 0.9995], moved.size)
    assert low < square < high
    assert abs(moved.mean()) < 3.5 / np.sqrt(moved.size)


def test_noise_is_standard_normal_and_finite_in_both_tails() -> None:
    draws = np.concatenate([normal(200_001, 12, tf.constant(step)).numpy() for step in range(5)]).astype(np.float64)
    assert draws.size == 1_000_005
    assert stats.kstest(draws, "norm").pvalue > 1e-3
    tail = int((np.abs(draws) > 4).sum())
    assert stats.poisson.ppf(0.0005, 63.34) <= tail <= stats.poisson.ppf(0.9995, 63.34)
    halves = np.split(draws[:200_000], 2)  # the two of each pair come from the same words
    assert abs(np.corrcoef(*halves)[0, 1]) < 3.5 / np.sqrt(1e5)
    assert abs(np.corrcoef(halves[0] ** 2, halves[1] ** 2)[0, 1]) < 3.5 / np.sqrt(1e5)
    assert not np.array_equal(normal(9, 12, tf.constant(0)), normal(9, 12, tf.constant(1)))
    assert not np.array_equal(normal(9, 12, tf.constant(0)), normal(9, 13, tf.constant(0)))


def test_the_word_that_would_be_the_logarithm_of_zero_is_finite() -> None:
    """The transform's least uniform is 2^-32, at the word 0; at -2^31 it is 1."""
    words = tf.constant([0, -(2**31), 2**31 - 1], tf.int32)
    uniform = tf.abs(tf.cast(words, tf.float32)) * 2.0**-31 + 2.0**-32
    np.testing.assert_array_equal(uniform, np.float32([2.0**-32, 1.0, 1.0]))


def test_batches_are_poisson_samples() -> None:
    members, q, steps = np.arange(100, 140), 0.1, 4000
    batches = poisson_batches(members, batch_size=4, steps=steps, rng=np.random.default_rng(3))
    drawn = np.zeros((steps, 40))
    for row, batch in zip(drawn, batches, strict=True):
        assert len(np.unique(batch)) == len(batch)
        row[batch - 100] = 1
    sizes = drawn.sum(axis=1)
    observed = np.bincount(sizes.astype(int), minlength=41)
    expected = steps * stats.binom.pmf(np.arange(41), 40, q)
    observed, expected = np.append(observed[:10], observed[10:].sum()), np.append(expected[:10], expected[10:].sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    each = (drawn.sum(axis=0) - steps * q) / np.sqrt(steps * q * (1 - q))
    assert (each**2).sum() < stats.chi2.ppf(0.9995, 40)
    between = np.corrcoef(drawn.T)[np.triu_indices(40, 1)] * np.sqrt(
        steps
    )  # members are in batches independently of each other
    assert np.abs(between).max() < stats.norm.isf(0.0005 / between.size)
    assert abs(np.corrcoef(sizes[1:], sizes[:-1])[0, 1]) < 3.5 / np.sqrt(steps)  # and steps of each other
    assert (sizes == 0).any()


def test_batches_are_padded_and_nothing_is_cut() -> None:
    batches = [np.arange(3), np.empty(0, np.int64), np.arange(PAD_TO), np.arange(PAD_TO + 1)]
    flat, offsets = padded(batches)
    assert np.diff(offsets).tolist() == [PAD_TO, PAD_TO, PAD_TO, 2 * PAD_TO]
    for batch, start, end in zip(batches, offsets[:-1], offsets[1:], strict=True):
        assert flat[start : start + len(batch)].tolist() == batch.tolist()
        assert (flat[start + len(batch) : end] == -1).all()


def test_same_seed_same_weights_other_seed_others() -> None:
    def trained(seed: int) -> list[np.ndarray]:
        model = _model()
        _fit(model, seed=seed)
        return model.get_weights()

    first, again, other = trained(1), trained(1), trained(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_epsilon_is_told_before_the_first_step_and_epochs_are_announced() -> None:
    told: list[object] = []
    training = _fit(_model(), on_start=told.append, after_epoch=told.append, between_steps=told.append)
    assert told == [training, 0, 7, 1, 7, 2, 7, 3]
    privacy = training.privacy
    assert (privacy.steps_per_epoch, privacy.sampling_probability, len(privacy.epsilons)) == (7, 8 / 50, 3)
    assert (privacy.noise_multiplier, privacy.delta) == (1.0, 50**-1.1)
    assert (training.clipping, training.clipping_reason) == ("fast", "")


def test_a_stop_ends_training_at_the_next_check() -> None:
    def stop(steps: int) -> None:
        raise Interrupted("stopped")

    epochs: list[int] = []
    with pytest.raises(Interrupted):
        _fit(_model(), between_steps=stop, after_epoch=epochs.append)
    assert epochs == [0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target_epsilon": 1.0}, "both given"),
        ({"batch_size": 51}, "batch_size=51: there are 50 members"),
        ({"optimizer": "lion"}, "optimizer=lion: unknown"),
        ({"clip_norm": -1.0}, "clip_norm=-1"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_the_model_alone(changes: dict[str, object], said: str) -> None:
    model = _model()
    with pytest.raises(UserError, match=said):
        _fit(model, **changes)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), _model().get_weights(), strict=True))


def _audited(noise_multiplier: float, clip_norm: float, seed: int) -> tuple[float, float]:
    """Promised epsilon and the one-run lower bound at alpha = 1e-4, for 400 records with random labels and coin-flip membership."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, 500)).astype(np.float32)  # more directions than records: each can be learned by heart
    y, member = rng.integers(0, 2, 400), rng.random(400) < 0.5
    model = build_model("mlp", depth=1, input_shape=(500,), classes=2, width=8, seed=seed)
    training = fit_private(
        model, tf.constant(x), y, np.flatnonzero(member), scale=1.0, epochs=8, batch_size=40, learning_rate=0.5, clip_norm=clip_norm,
        noise_multiplier=noise_multiplier, seed=seed, optimizer="sgd", delta=1e-8, after_epoch=lambda e: None, between_steps=lambda s: None,
    )  # fmt: skip
    logits = predictor(model, tf.constant(x), scale=1.0)(np.arange(400)).astype(np.float64)
    scores = logits[np.arange(400), y] - logits[np.arange(400), 1 - y]
    bound = epsilon_lower_bound(scores, member, rng=rng, delta=1e-8, confidence=1 - 1e-4)
    return training.privacy.epsilon, bound.value


@pytest.mark.parametrize("seed", [0, 1])
def test_the_empirical_lower_bound_is_below_what_is_promised(seed: int) -> None:
    """A false alarm has probability 1e-4 each. Noise that were lost on the way would be found: without it the audit shows more than 1.2."""
    promised, shown = _audited(8.0, 1.0, seed)
    assert 0 <= shown <= promised < 1.2
    nothing, shown = _audited(0.0, 10.0, seed)
    assert nothing == float("inf")
    assert shown > 1.2
