"""The time of a private epoch relative to a plain one and to tensorflow_privacy's, with the same model, records and number of steps.

    python benchmarks/dp.py            10,000 records (2,500 for the convolutional model); some minutes
    python benchmarks/dp.py --quick    2,000 and 500 records; under a minute

The plain epoch is one of `memberscope.training.keras.fit.fit`, which is itself faster than `keras.Model.fit`. Ours is `fit_private`:
Poisson batches, clipping, noise, and Adam by a fused kernel. tensorflow_privacy is run as its users run it: batches of one size through
`keras.Model.fit`, with its vectorized optimizer, and with its `DPModel` with fast clipping (whose batches and noise are not those that an
accountant of Poisson sampling assumes; it is timed all the same). It is run for the dense model only: its layer registry has no
convolution, and a step of the convolutional model took 0.7 s with it and 2 s with its vectorized optimizer, while plain training took 9 ms.
The implementations take turns, each epoch is timed, epochs that include tracing are left out, and the least time of each counts, as the
time without disturbance by other work. The images are random ones of CIFAR-10's shape, since the time does not depend on the pixels.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", category=FutureWarning)

PLAIN_TARGETS = {"dense": 2.0, "conv": 3.0}
BATCH, RATE, CLIP, NOISE = 50, 1e-3, 1.0, 1.1
DEPTH, SHAPE, CLASSES = 3, (32, 32, 3), 10

SHORT = ("plain", "ours, fast clipping")  # their epochs are so short that more are run, for at least one without disturbance

Epochs = Callable[[int], list[float]]


def ways(architecture: str, n: int) -> dict[str, Epochs]:
    """Functions that train a new model for a number of epochs and return the seconds of all but the first, which includes tracing."""
    import tensorflow as tf

    from memberscope.models import build_model
    from memberscope.training.keras.fit import fit
    from memberscope.training.keras.private import fit_private

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, *SHAPE), dtype=np.uint8)
    x, y, members = tf.constant(images), rng.integers(0, CLASSES, n), np.arange(n)

    def fresh() -> Any:
        return build_model(architecture, depth=DEPTH, input_shape=SHAPE, classes=CLASSES)

    def of_ours(train: Callable[..., Any], **options: Any) -> Epochs:
        def epochs(count: int) -> list[float]:
            ends: list[float] = []
            train(
                fresh(), x, y, members, scale=255.0, epochs=count + 1, batch_size=BATCH, learning_rate=RATE, seed=0,
                after_epoch=lambda epoch: ends.append(time.perf_counter()), between_steps=lambda steps: None, **options,
            )  # fmt: skip
            return [float(seconds) for seconds in np.diff(ends)[1:]]

        return epochs

    def of_theirs(make: Callable[[Any], Any]) -> Epochs:
        def epochs(count: int) -> list[float]:
            model, seconds = make(fresh()), []
            data = (images.astype(np.float32) / 255, y)
            for _ in range(count + 1):
                start = time.perf_counter()
                model.fit(*data, batch_size=BATCH, verbose=0)
                seconds.append(time.perf_counter() - start)
            return seconds[1:]

        return epochs

    losses = {
        reduction: tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        for reduction in ("none", "sum_over_batch_size")
    }

    def vectorized(model: Any) -> Any:
        from tensorflow_privacy.privacy.optimizers import dp_optimizer_keras_vectorized as theirs

        optimizer = theirs.VectorizedDPKerasAdamOptimizer(
            l2_norm_clip=CLIP, noise_multiplier=NOISE, num_microbatches=BATCH, learning_rate=RATE
        )
        model.compile(optimizer, losses["none"])
        return model

    def fast(model: Any) -> Any:
        from tensorflow_privacy.privacy.fast_gradient_clipping import layer_registry
        from tensorflow_privacy.privacy.keras_models.dp_keras_model import DPModel

        private = DPModel(
            l2_norm_clip=CLIP, noise_multiplier=NOISE, inputs=model.inputs, outputs=model.outputs,
            layer_registry=layer_registry.make_default_layer_registry(),
        )  # fmt: skip
        private.compile(tf.keras.optimizers.Adam(RATE), losses["sum_over_batch_size"])
        return private

    private = {"clip_norm": CLIP, "noise_multiplier": NOISE}
    found = {"plain": of_ours(fit), "ours, fast clipping": of_ours(fit_private, clipping="fast", **private)}
    found["ours, per-example gradients"] = of_ours(fit_private, clipping="per_example", **private)
    if architecture == "dense":
        found["tensorflow_privacy, vectorized optimizer"] = of_theirs(vectorized)
        found["tensorflow_privacy, DPModel, fast clipping"] = of_theirs(fast)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use fewer records and rounds")
    arguments = parser.parse_args()
    ratio = 0.0
    for architecture in ("dense", "conv"):
        n = {"dense": 2_000, "conv": 500}[architecture] if arguments.quick else {"dense": 10_000, "conv": 2_500}[architecture]
        rounds, epochs = (2, 1) if arguments.quick else (3, 2)
        seconds: dict[str, float] = {}
        of = ways(architecture, n)
        for _ in range(rounds):
            for way, run in of.items():
                seconds[way] = min([seconds.get(way, np.inf), *run(epochs * (4 if way in SHORT else 1))])
        steps = n // BATCH
        print(f"{architecture} of depth {DEPTH}, {n} records, {steps} steps of {BATCH} an epoch")
        for way, taken in seconds.items():
            print(
                f"  {way:44}{taken:9.3f} s{1e3 * taken / steps:9.2f} ms a step{taken / seconds['plain']:8.2f} plain epochs",
                flush=True,
            )
        ours = seconds["ours, fast clipping"]
        print(
            f"  a private epoch costs {ours / seconds['plain']:.2f} plain ones (target: at most {PLAIN_TARGETS[architecture]:.1f})"
        )
        if architecture == "dense":
            ratio = seconds["tensorflow_privacy, vectorized optimizer"] / ours
    print(last_line("dp", ratio, quick=arguments.quick, digits=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
