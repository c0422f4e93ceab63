"""A class-conditional GAN that is small enough for a CPU. It makes more records like its seed records, climbed ones or a real sample.

For tables it consists of two perceptrons; for images, of a generator with two transposed convolutions and a discriminator with two strided
convolutions, after DCGAN (Radford, Metz & Chintala 2016), but without batch normalization, which is unreliable with small batches. Both
networks get the class as input (Mirza & Osindero 2014). Bits are drawn from the generator's probabilities in training too, so that the
discriminator compares bits with bits; the gradient is that of a smooth relaxation (binary concrete: Maddison, Mnih & Teh 2017, appendix B;
Jang, Gu & Poole 2017).

To prevent collapse, the discriminator classifies `PACK` records of a class at a time (PacGAN: Lin et al. 2018), so that it can detect
identical records, and its gradient at real records is penalized (R1: Mescheder, Geiger & Nowozin 2018, section 4.1). Without the two, every
training on a table of twelve bits collapsed; with them none did. Collapse is also measured: every few epochs, samples are compared with
the seed records by the distance to the nearest neighbour of the same class. If it falls below `COLLAPSED` times that of the seed records,
training stops, and the last weights without collapse are used; if those are from too early an epoch, the training starts again from other
initial weights, up to `RESTARTS` times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from memberscope import seeds
from memberscope.checks import Array
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.synthesis.card import diversity

Kind = Literal["binary", "real", "image"]

LEAST_SEEDS = 8  # fewest seed records per class: the discriminator would only memorize fewer
LATENT = 64
WIDTH = 256
FILTERS = 32
PACK = 4
TEMPERATURE = 0.5
SLOPE_WEIGHT = 1.0
COLLAPSED = 0.25
RESTARTS = 2
CHECKS = 8  # checks for collapse per training
CHECK_RECORDS = 32  # records per class in a check


@dataclass(frozen=True, kw_only=True)
class GanCheck:
    """A check for collapse: training and epoch, and by class the ratio of nearest-neighbour distances of samples and seed records."""

    start: int
    epoch: int
    spread: tuple[float, ...]

    @property
    def collapsed(self) -> bool:
        """Whether the mean over classes is below `COLLAPSED`."""
        return float(np.mean(self.spread)) < COLLAPSED


@dataclass(frozen=True, kw_only=True, eq=False)
class Gan:
    """A trained generator.

    Attributes:
        model: the generator.
        kind, classes, shape: the kind, number of classes and shape of its records.
        epochs: number of epochs after which its weights were taken.
        starts: number of trainings, 1 unless one collapsed.
        checks: all checks for collapse.
        collapsed: whether the last training collapsed too. It generates records all the same, and their card shows the collapse.
    """

    model: keras.Model
    kind: Kind
    classes: int
    shape: tuple[int, ...]
    epochs: int
    starts: int
    checks: tuple[GanCheck, ...]
    collapsed: bool

    def sample(self, n_per_class: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Records (classes * n_per_class, ...) in [0, 1], which are bits for tables of bits, and their labels, in turn of all classes."""
        y = np.arange(self.classes * n_per_class, dtype=np.int64) % self.classes
        out = []
        for part, first in enumerate(range(0, len(y), 1000)):
            label = y[first : first + 1000]
            latent, chance = _noise(seeds.integer(seed, "synthesis", "gan", "sample"), part, len(label), self.shape)
            mean = self.model([latent, tf.one_hot(label, self.classes)], training=False)
            out.append((tf.cast(chance < mean, tf.float32) if self.kind == "binary" else mean).numpy())
        return np.concatenate(out) if out else np.empty((0, *self.shape), np.float32), y


def train_gan(
    x: Array,
    y: NDArray[np.int64],
    *,
    kind: Kind,
    classes: int,
    epochs: int,
    seed: int,
    batch_size: int = 64,
    learning_rate: float = 2e-4,
    stop: StopFlag | None = None,
    progress: Callable[[int], None] | None = None,
) -> Gan:
    """Train on seed records; the same seed gives the same generator on the same machine.

    Args:
        x: (n, ...) seed records in [0, 1]; bits if `kind` is ``binary``, (n, height, width, channels) if it is ``image``.
        y: (n,) their classes.
        kind: kind of the features.
        classes: number of classes, each of which needs `LEAST_SEEDS` seed records.
        epochs: passes over the seed records; all classes are drawn equally often.
        seed: seed of weights, batches and noise.
        batch_size: records per step.
        learning_rate: learning rate of Adam, for both networks.
        stop: checked after every epoch.
        progress: called with the number of epochs just done.

    Raises:
        UserError: too few seed records of some classes (the message names them), values outside [0, 1], images whose sides are not
            multiples of 4.
        Interrupted: `stop` was set.
    """
    shape = tuple(int(side) for side in x.shape[1:])
    x = np.asarray(x, dtype=np.float32)
    _check(x, y, kind, classes)
    interval = max(1, epochs // CHECKS)
    own = _spread_of(x, y, classes, seeds.stream(seed, "synthesis", "gan", "seeds"))
    checks: list[GanCheck] = []
    for start in range(RESTARTS + 1):
        pair = _Pair(shape, kind, classes, seeds.integer(seed, "synthesis", "gan", start), learning_rate)
        sound: tuple[int, list[Array]] | None = None
        for epoch in range(1, epochs + 1):
            pair.epoch(*_batches(x, y, classes, batch_size, seeds.stream(seed, "synthesis", "gan", start, epoch)))
            if stop is not None:
                stop.check()
            if progress is not None:
                progress(1)
            if epoch % interval and epoch != epochs:
                continue
            check = GanCheck(start=start, epoch=epoch, spread=_spread(pair, own, kind, classes, shape, seed))
            checks.append(check)
            if check.collapsed and epoch >= epochs // 4:
                break
            if not check.collapsed:
                sound = (epoch, pair.generator.get_weights())
        enough = sound is not None and sound[0] >= epochs // 2
        if enough or start == RESTARTS:
            if sound is not None:
                pair.generator.set_weights(sound[1])
            return Gan(
                model=pair.generator, kind=kind, classes=classes, shape=shape, epochs=epoch if sound is None else sound[0],
                starts=start + 1, checks=tuple(checks), collapsed=not enough,
            )  # fmt: skip
    raise AssertionError  # the last start returns


def _check(x: Array, y: NDArray[np.int64], kind: Kind, classes: int) -> None:
    counts = np.bincount(y, minlength=classes)
    if len(y) != len(x) or len(counts) > classes:
        raise UserError(
            f"y: {len(y)} labels up to {len(counts) - 1} for {len(x)} seed records of {classes} classes; allowed: a label below "
            f"{classes} for each record"
        )
    few = np.flatnonzero(counts < LEAST_SEEDS)
    if len(few):
        names = ", ".join(f"{c} ({counts[c]})" for c in few[:10]) + (", ..." if len(few) > 10 else "")
        raise UserError(
            f"seeds: too few seed records of {len(few)} of {classes} classes: {names}; allowed: at least {LEAST_SEEDS} of each class"
        )
    if not np.isfinite(x).all() or x.min() < 0 or x.max() > 1:
        raise UserError(f"seeds: values from {x.min():g} to {x.max():g}; allowed: 0 to 1")
    if kind == "image" and (x.ndim != 4 or x.shape[1] % 4 or x.shape[2] % 4):
        raise UserError(
            f"seeds: records of shape {x.shape[1:]}; allowed: images (height, width, channels) whose sides are multiples of 4, such as "
            "32x32x3"
        )
    if kind == "binary" and not np.isin(x, (0.0, 1.0)).all():
        raise UserError("seeds: values other than 0 and 1; allowed: bits, or kind=real")


def _batches(
    x: Array, y: NDArray[np.int64], classes: int, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Records (steps, packs, PACK, ...) and labels (steps, packs), about as many as the seed records, with all classes equally likely."""
    packs = max(1, size // PACK)
    steps = max(1, len(x) // (packs * PACK))
    label = rng.integers(0, classes, size=steps * packs)
    order, counts = np.argsort(y, kind="stable"), np.bincount(y, minlength=classes)
    first = np.cumsum(counts) - counts
    within = (rng.random((len(label), PACK)) * counts[label][:, None]).astype(np.int64)
    index = order[first[label][:, None] + within]
    return x[index].reshape(steps, packs, PACK, *x.shape[1:]), label.reshape(steps, packs)


def _noise(seed: int, step: Any, size: Any, shape: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    key = tf.stack([tf.cast(seed, tf.int32), tf.cast(step, tf.int32)])
    latent = tf.random.stateless_normal([size, LATENT], key)
    return latent, tf.random.stateless_uniform([size, *shape], key + tf.constant([0, 1 << 20]))


def _spread_of(x: Array, y: NDArray[np.int64], classes: int, rng: np.random.Generator) -> list[float]:
    """The mean nearest-neighbour distance within each class, over at most `CHECK_RECORDS` of its records."""
    out = []
    for label in range(classes):
        rows = np.flatnonzero(y == label)
        part = diversity(x[rng.permutation(rows)[:CHECK_RECORDS]])
        out.append(part.mean)
    return out


def _spread(pair: _Pair, own: list[float], kind: Kind, classes: int, shape: tuple[int, ...], seed: int) -> tuple[float, ...]:
    gan = Gan(model=pair.generator, kind=kind, classes=classes, shape=shape, epochs=0, starts=0, checks=(), collapsed=False)
    drawn = _spread_of(*gan.sample(CHECK_RECORDS, seed=seed), classes, seeds.stream(seed, "synthesis", "gan", "check"))
    return tuple(ours / theirs if theirs > 0 else 1.0 for ours, theirs in zip(drawn, own, strict=True))


class _Pair:
    """A generator and a discriminator, which are trained together."""

    def __init__(self, shape: tuple[int, ...], kind: Kind, classes: int, seed: int, learning_rate: float) -> None:
        self._shape, self._kind, self._classes, self._seed = shape, kind, classes, seed
        self.generator = _generator(shape, kind, classes, seed)
        self.discriminator = _discriminator(shape, kind, classes, seed)
        self._optimizers = [keras.optimizers.Adam(learning_rate, beta_1=0.5) for _ in range(2)]
        for optimizer, model in zip(self._optimizers, (self.generator, self.discriminator), strict=True):
            optimizer.build(model.trainable_variables)
        self._steps = tf.Variable(0, dtype=tf.int32)
        self._run = tf.function(self._steps_of)

    def epoch(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """Train one epoch, with one step per batch."""
        self._run(tf.constant(x), tf.constant(y))

    def _steps_of(self, x: tf.Tensor, y: tf.Tensor) -> None:
        for step in tf.range(tf.shape(x)[0]):
            self._step(x[step], tf.one_hot(y[step], self._classes))
            self._steps.assign_add(1)

    def _fake(self, label: tf.Tensor) -> tf.Tensor:
        """Generated records ``(packs, PACK, *shape)`` for one-hot labels (packs, classes)."""
        packs = tf.shape(label)[0]
        each = tf.repeat(label, PACK, axis=0)
        latent, chance = _noise(self._seed, self._steps, packs * PACK, self._shape)
        out = self.generator([latent, each], training=True)
        if self._kind == "binary":
            mean, u = (tf.clip_by_value(part, 1e-6, 1 - 1e-6) for part in (out, 1.0 - chance))
            soft = tf.sigmoid((tf.math.log(mean / (1 - mean)) + tf.math.log(u / (1 - u))) / TEMPERATURE)
            out = soft + tf.stop_gradient(tf.round(soft) - soft)
        return tf.reshape(out, tf.concat([[packs, PACK], tf.constant(self._shape)], axis=0))

    def _step(self, real: tf.Tensor, label: tf.Tensor) -> None:
        """One step of both networks on the non-saturating loss (Goodfellow et al. 2014, section 3) with the penalty R1."""
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        with tf.GradientTape() as for_generator, tf.GradientTape() as for_discriminator:
            fake = self._fake(label)
            with tf.GradientTape() as at_real:
                at_real.watch(real)
                of_real = self.discriminator([real, label], training=True)
            slope = tf.reshape(at_real.gradient(of_real, real), [tf.shape(real)[0], -1])
            of_fake = self.discriminator([fake, label], training=True)
            loss_d = loss(tf.ones_like(of_real), of_real) + loss(tf.zeros_like(of_fake), of_fake)
            loss_d += SLOPE_WEIGHT / 2 * tf.reduce_mean(tf.reduce_sum(slope**2, axis=1))
            loss_g = loss(tf.ones_like(of_fake), of_fake)
        for tape, model, value, optimizer in (
            (for_generator, self.generator, loss_g, self._optimizers[0]),
            (for_discriminator, self.discriminator, loss_d, self._optimizers[1]),
        ):
            optimizer.apply_gradients(
                zip(tape.gradient(value, model.trainable_variables), model.trainable_variables, strict=True)
            )


def _layers(seed: int, side: str) -> Callable[..., Any]:
    """A layer factory whose initial weights come from the seed tree by the layer's name."""

    def make(kind: str, name: str, *args: Any, **options: Any) -> Any:
        initial = keras.initializers.GlorotUniform(seed=seeds.integer(seed, side, name))
        return getattr(keras.layers, kind)(*args, name=name, kernel_initializer=initial, **options)

    return make


def _generator(shape: tuple[int, ...], kind: Kind, classes: int, seed: int) -> keras.Model:
    """(n, latent), (n, classes) -> ``(n, *shape)`` in [0, 1]: pixels, or the probability of each bit."""
    make = _layers(seed, "generator")
    latent, label = keras.layers.Input((LATENT,)), keras.layers.Input((classes,))
    h = keras.layers.Concatenate()([latent, label])
    if kind == "image":
        height, width, channels = shape
        h = make("Dense", "base", height // 4 * (width // 4) * 2 * FILTERS, activation="relu")(h)
        h = keras.layers.Reshape((height // 4, width // 4, 2 * FILTERS))(h)
        h = make("Conv2DTranspose", "up_1", FILTERS, 4, strides=2, padding="same", activation="relu")(h)
        out = make("Conv2DTranspose", "up_2", channels, 4, strides=2, padding="same", activation="sigmoid")(h)
    else:
        h = make("Dense", "hidden_1", WIDTH, activation="relu")(h)
        h = make("Dense", "hidden_2", WIDTH, activation="relu")(h)
        out = keras.layers.Reshape(shape)(make("Dense", "out", int(np.prod(shape)), activation="sigmoid")(h))
    return keras.Model([latent, label], out)


def _discriminator(shape: tuple[int, ...], kind: Kind, classes: int, seed: int) -> keras.Model:
    """``(n, PACK, *shape)``, (n, classes) -> (n, 1) logits of being real."""
    make, leaky = _layers(seed, "discriminator"), keras.layers.LeakyReLU
    record, label = keras.layers.Input((PACK, *shape)), keras.layers.Input((classes,))
    h = record
    if kind == "image":
        h = keras.layers.Reshape((*shape[:2], PACK * shape[2]))(keras.layers.Permute((2, 3, 1, 4))(h))
        h = leaky(0.2)(make("Conv2D", "down_1", FILTERS, 4, strides=2, padding="same")(h))
        h = leaky(0.2)(make("Conv2D", "down_2", 2 * FILTERS, 4, strides=2, padding="same")(h))
    h = keras.layers.Flatten()(h)
    h = leaky(0.2)(make("Dense", "hidden_1", WIDTH)(keras.layers.Concatenate()([h, label])))
    # The class also scales the features of the record, so that a record of another class can be detected (Miyato & Koyama 2018).
    gate = make("Dense", "gate", WIDTH, use_bias=False)(label)
    h = leaky(0.2)(make("Dense", "hidden_2", WIDTH)(keras.layers.Concatenate()([h, keras.layers.Multiply()([h, gate])])))
    return keras.Model([record, label], make("Dense", "out", 1)(h))
