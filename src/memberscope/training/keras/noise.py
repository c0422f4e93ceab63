"""Standard normal noise from a seeded, counter-based stream, fast enough to be added at every step.

A private step of a small dense model costs about as much noise as arithmetic: `tf.random.stateless_normal` transforms number by
number. Here the same kind of stream (`tf.random.stateless_uniform`, all 32 bits) goes through Box and Muller's transform (1958)
as whole-tensor operations, which took about half of the time where it was measured. Float32: reproducible, and not a secure
sampler (see `memberscope.training.keras.private`).
"""

from __future__ import annotations

import math

import tensorflow as tf


def normal(count: int, key: int, step: tf.Tensor, *, deviation: float = 1.0) -> tf.Tensor:
    """(count,) independent N(0, deviation^2), float32, within 6.7 deviations; the same for the same `key` (under 2^31) and `step` (int32).

    With words w1, w2 uniform over the 32-bit integers, u = (abs(w1) + 1/2) / 2^31 in (0, 1] and t = pi w2 / 2^31:
    deviation sqrt(-2 log u) (cos t, sin t). u is never 0: its least value is 2^-32.
    """
    pairs = (count + 1) // 2
    seed = tf.stack([tf.constant(key, tf.int32), step])
    words = tf.cast(tf.random.stateless_uniform([2, pairs], seed, minval=None, maxval=None, dtype=tf.int32), tf.float32)
    radius = tf.sqrt((-2.0 * deviation**2) * tf.math.log(tf.abs(words[0]) * 2.0**-31 + 2.0**-32))
    angle = words[1] * (math.pi * 2.0**-31)
    both = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)
    return both if count == 2 * pairs else both[:count]
