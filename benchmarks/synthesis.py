"""Compares thousands of hill climbs at once with the same algorithm run record by record, in one process: records per second.

    python benchmarks/synthesis.py            5,000 records of 30 classes; about two minutes
    python benchmarks/synthesis.py --quick    fewer for the peer; under a minute

The data is like Location-30 (446 bits, 30 classes, an eighth of the bits set), simulated so that nothing needs to be downloaded. The target
is a Keras model with Shokri et al.'s hidden layer (128 units, tanh) trained on 1,000 records. Ours and the peer call the same compiled
`tf.function` with a variable number of rows and get numpy arrays back, which is the fastest call for one record that Keras offers
(`model.predict`, which public implementations use, takes many times as long and is shown for comparison). The peer is the published
algorithm in plain numpy, with one query of one record per step and the same parameters; its classes are in the same proportions.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", category=FutureWarning)

BITS, CLASSES, MEMBERS = 446, 30, 1_000


def simulated(n: int, rng: np.random.Generator):
    """Bits drawn around 30 similar prototypes, so that the classes overlap."""
    prototypes = 0.8 * rng.beta(0.25, 1.8, size=BITS) + 0.2 * rng.beta(0.25, 1.8, size=(CLASSES, BITS))
    y = np.arange(n) % CLASSES
    return (rng.random((n, BITS)) < prototypes[y]).astype(np.float32), y


def trained_target(seed: int):
    """The Keras model and its compiled forward pass, (m, 446) float32 -> (m, 30) probabilities."""
    import tensorflow as tf
    from tensorflow import keras

    tf.keras.utils.set_random_seed(seed)
    x, y = simulated(2 * MEMBERS, np.random.default_rng(seed))
    model = keras.Sequential(
        [keras.layers.Input((BITS,)), keras.layers.Dense(128, "tanh"), keras.layers.Dense(CLASSES, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[:MEMBERS], y[:MEMBERS], epochs=40, batch_size=50, verbose=0)
    train, test = (model.evaluate(x[part], y[part], verbose=0)[1] for part in (slice(0, MEMBERS), slice(MEMBERS, None)))
    print(f"target: 128 tanh units, accuracy {train:.3f} on its {MEMBERS} members, {test:.3f} on others")
    forward = tf.function(model.call, input_signature=[tf.TensorSpec([None, BITS], tf.float32)])

    def query(rows):
        return forward(tf.constant(rows)).numpy()

    return model, query


def one_record(query, c: int, config, rng: np.random.Generator):
    """Algorithm 1 of Shokri et al. 2017, as published: a record of class c, or None; and the queries made."""
    x = rng.integers(0, 2, BITS).astype(np.float32)
    best, rejected, k, kept = 0.0, 0, config.k_max, x
    for iteration in range(1, config.iter_max + 1):
        y = query(x[None])[0]
        if y[c] >= best:
            if y[c] > config.conf_min and y.argmax() == c and rng.random() < y[c]:
                return x, iteration
            kept, best, rejected = x, y[c], 0
        else:
            rejected += 1
            if rejected > config.rej_max:
                k, rejected = max(config.k_min, -(-k // 2)), 0
        x = kept.copy()
        flips = rng.choice(BITS, k, replace=False)
        x[flips] = 1 - x[flips]
    return None, config.iter_max


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use fewer records for the peer")
    parser.add_argument("--records", type=int, default=5_000, help="number of records for ours")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from memberscope.synthesis.hill_climb import HillClimb, HillClimbConfig

    model, query = trained_target(arguments.seed)
    config = HillClimbConfig(kind="binary", classes=CLASSES, records=arguments.records, k_max=BITS // 2, iter_max=2_000)
    for rows in (1, arguments.records):
        query(np.zeros((rows, BITS), np.float32))  # so that tracing is not measured
    rng, ours, peer = np.random.default_rng(arguments.seed), [], []
    peer_records = (6 if arguments.quick else 10) * CLASSES
    for turn in range(1 if arguments.quick else 3):  # in turns, so that a busy machine slows both
        start = time.perf_counter()
        found = HillClimb(config).run(query, shape=(BITS,), seed=arguments.seed + turn)
        ours.append((time.perf_counter() - start, len(found.y), found.queries))
        start = time.perf_counter()
        results = [one_record(query, c % CLASSES, config, rng) for c in range(peer_records)]
        peer.append(
            (time.perf_counter() - start, sum(x is not None for x, _ in results), sum(queries for _, queries in results))
        )
        assert found.complete, found.rows()
    print(f"{'':34}{'records':>9}{'seconds':>9}{'records/s':>11}{'queries/s':>11}{'queries/record':>16}")
    speeds = []
    for name, runs in (("record by record, compiled call", peer), ("all at once", ours)):
        seconds, records, queries = sorted(runs, key=lambda run: run[0] / run[1])[len(runs) // 2]
        speeds.append(records / seconds)
        print(f"{name:34}{records:9}{seconds:9.2f}{speeds[-1]:11.1f}{queries / seconds:11.0f}{queries / records:16.1f}")
    start = time.perf_counter()
    for _ in range(20):
        model.predict(np.zeros((1, BITS), np.float32), verbose=0)
    print(f"one record through model.predict: {(time.perf_counter() - start) / 20 * 1e3:.1f} ms, not part of the ratio")
    print(last_line("synthesis", speeds[1] / speeds[0], quick=arguments.quick, digits=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
