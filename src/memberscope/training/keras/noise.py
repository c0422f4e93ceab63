"""Normal noise from a seeded, counter-based stream, fast enough to be added at every step.

A private step of a small dense model spends about as much time on noise as on arithmetic, and `tf.random.stateless_normal` transforms one
number at a time. Here the same kind of stream (`tf.random.stateless_uniform`, all 32 bits) goes through the transform of Box and Muller
(1958) in whole-tensor operations, which was measured to take about half the time. The noise is float32: it is reproducible, and not from a
secure sampler (see `memberscope.training.keras.private`).
"""

from __future__ import annotations

import math

import tensorflow as tf


def spread_of(deviation: float) -> float:
    """The number -2 deviation^2, by which `normal` multiplies a logarithm."""
    return -2.0 * deviation**2


def normal(
    count: int, key: int | tf.Tensor, step: tf.Tensor, *, deviation: float = 1.0, spread: tf.Tensor | None = None
) -> tf.Tensor:
    """Independent N(0, deviation^2) numbers (count,) float32, within 6.7 deviations, determined by `key` (below 2^31) and `step` (int32).

    With words w1, w2 uniform over the 32-bit integers, u = (abs(w1) + 1/2) / 2^31 in (0, 1] and t = pi w2 / 2^31:
    deviation sqrt(-2 log u) (cos t, sin t). u is never 0: its least value is 2^-32. `spread`, which is `spread_of` a deviation as a float32
    tensor, takes the place of `deviation` in a program that is compiled once for several.
    """
    pairs = (count + 1) // 2
    seed = tf.stack([tf.cast(key, tf.int32), step])
    words = tf.cast(tf.random.stateless_uniform([2, pairs], seed, minval=None, maxval=None, dtype=tf.int32), tf.float32)
    radius = tf.sqrt((spread_of(deviation) if spread is None else spread) * tf.math.log(tf.abs(words[0]) * 2.0**-31 + 2.0**-32))
    angle = words[1] * (math.pi * 2.0**-31)
    both = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)
    return both if count == 2 * pairs else both[:count]
