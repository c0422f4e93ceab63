"""Compares fleets of models with a loop of `keras.Model.fit`: seconds, ratio, and GFLOP/s compared with those of a plain matrix product.

    python benchmarks/fleet.py            64 MLPs, 16 dense models, 8 conv models; some five minutes
    python benchmarks/fleet.py --quick    the same 64 MLPs; the others on fewer records; under a minute on an idle machine

The peer builds, compiles and fits one model after another with Keras's defaults, on float32 records. Only some of its models are timed, and
the median is multiplied by the number of models, which are all alike. It runs in a process of its own, with TensorFlow's own threads; ours
runs as in `memberscope shadow`, in threads with one core each. The two take turns and never run at once. Ours is a complete `train_fleet`
without a store. Tracing is included for both, and importing TensorFlow is not. The MLP is that of Shokri et al. 2017 for this data, with
one hidden layer of 128 units; `--wide` adds one of 512,256, in which matrix products leave less room for improvement. Ours keeps both cores
busy, and Keras hardly more than one: on a machine with other work, the ratio is lower.

Location-30 is read from the folder in MEMBERSCOPE_ARCHIVE_DIR, CIFAR-10 from that in TFDS_DATA_DIR; without them, random records of the
same shape are used, since the speed does not depend on values.
"""

from __future__ import annotations

import argparse
import io
import itertools
import multiprocessing
import os
import statistics
import sys
import tarfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.targets import last_line, target_text

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", category=FutureWarning)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A number of models of a recipe, each with a number of members; `timed` models are run with Keras; `target` names its ratio."""

    name: str
    recipe: Any
    models: int
    members: int
    timed: int
    repeat: int
    target: str | None


def location() -> Any:
    """5,010 records of 446 bits in 30 classes."""
    from memberscope.datasets import LabeledData

    archive = Path(os.environ.get("MEMBERSCOPE_ARCHIVE_DIR", "")) / "dataset_location.tgz"
    if os.environ.get("MEMBERSCOPE_ARCHIVE_DIR") and archive.exists():
        with tarfile.open(archive) as tar:
            inside = next(member for member in tar.getmembers() if member.isfile() and member.name.endswith("bangkok"))
            text = tar.extractfile(inside).read().decode().replace('"', "")
        table = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.int64)
        x, y, name = table[:, 1:].astype(np.float32), table[:, 0] - 1, "location30"
    else:
        rng = np.random.default_rng(0)
        x, y, name = (rng.random((5_010, 446)) < 0.2).astype(np.float32), rng.integers(0, 30, 5_010), "random bits"
    return LabeledData(name=name, x=x, y=y, class_names=tuple(map(str, range(30))), source="")


def cifar() -> Any:
    """50,000 or 60,000 images."""
    from memberscope.datasets import LabeledData, load_dataset

    if os.environ.get("TFDS_DATA_DIR"):
        return load_dataset("cifar10")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
    return LabeledData(
        name="random pixels", x=x, y=rng.integers(0, 10, len(x)), class_names=tuple(map(str, range(10))), source=""
    )


def product_gflops() -> float:
    """The machine's limit with TensorFlow: GFLOP/s of a product of two 2,048 x 2,048 matrices, the best of ten."""
    import tensorflow as tf

    side = 2_048
    a, best = tf.random.stateless_normal((side, side), seed=(0, 0)), float("inf")
    multiply = tf.function(lambda a: tf.reduce_max(a @ a))
    multiply(a).numpy()
    for _ in range(10):
        start = time.perf_counter()
        multiply(a).numpy()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e9


def dense_flops(case: Case, data: Any) -> float:
    """Multiplications and additions of all products: forward, for the gradients of kernels, and for those of all inputs but the first."""
    sizes = case.recipe.layer_sizes(input_shape=data.shape, classes=data.classes)
    kernels = [a * b for a, b in itertools.pairwise(sizes)]
    return 2.0 * case.models * case.recipe.epochs * case.members * (2 * sum(kernels) + sum(kernels[1:]))


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def keras_fit(case: Case, data: Any, index: np.ndarray, seed: int) -> float:
    """Train one model with `keras.Model.fit`; returns its accuracy at the end."""
    from tensorflow import keras

    recipe = case.recipe
    model = recipe.build(input_shape=data.shape, classes=data.classes, seed=seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(recipe.learning_rate), loss, metrics=["accuracy"])
    history = model.fit(data.scaled(index), data.y[index], batch_size=recipe.batch_size, epochs=recipe.epochs, verbose=0)
    return float(history.history["accuracy"][-1])


def warm_up() -> Case:
    """A small case that both sides run first, so that TensorFlow's work once per process is not measured."""
    from memberscope.training.recipe import Recipe

    return Case(
        name="warm-up",
        recipe=Recipe(model="mlp", widths=(16,), epochs=1),
        models=2,
        members=100,
        timed=1,
        repeat=1,
        target=None,
    )


def peer(orders: Any) -> None:
    """The process of Keras: it returns seconds and accuracy for each order (case, seed, members), and GFLOP/s for "limit"."""
    loaded: dict[str, Any] = {}
    keras_fit(warm_up(), location(), np.arange(100), 0)
    while (order := orders.recv()) is not None:
        if order == "limit":
            orders.send(product_gflops())
            continue
        case, seed, index = order
        name = "location" if case.recipe.model == "mlp" else "cifar"
        loaded[name] = loaded.get(name) or {"location": location, "cifar": cifar}[name]()
        orders.send(seconds(lambda case=case, name=name, index=index, seed=seed: keras_fit(case, loaded[name], index, seed)))


def exchange(orders: Any, order: Any) -> Any:
    orders.send(order)
    return orders.recv()


def compare(case: Case, data: Any, limit: float, orders: Any, *, quick: bool) -> float:
    """Run both sides, print a line, and return the ratio."""
    from memberscope.training.keras.fleet import train_fleet

    members = [np.random.default_rng(k).permutation(len(data))[: case.members] for k in range(case.models)]
    theirs, ours, accuracies = [], [], []
    for k in range(max(case.timed, case.repeat)):  # in turns, so that a busy minute of the machine falls on both
        if k < case.timed:
            took, accuracy = exchange(orders, (case, k, members[k]))
            theirs.append(took)
            accuracies.append(accuracy)
        if k < case.repeat:
            took, fleet = seconds(lambda: train_fleet(data, members, case.recipe, seeds=range(case.models), label=case.name))
            ours.append(took)
    plain, fast = case.models * statistics.median(theirs), statistics.median(ours)
    flops = (
        f", {dense_flops(case, data) / fast / 1e9:.0f} GFLOP/s beside {limit:.0f} of a plain product"
        if case.recipe.batched
        else ""
    )
    target = f" {target_text(case.target, quick=quick)}" if case.target else ""
    last = fleet.curves["accuracy"][:, -1]
    print(
        f"{case.name}: {case.models} models on {case.members} records of {data.name}, {case.recipe.epochs} epochs of batch "
        f"{case.recipe.batch_size}: keras.Model.fit {plain:.1f} s ({len(theirs)} timed), fleet {fast:.1f} s (median of {len(ours)}), "
        f"ratio {plain / fast:.1f}{target}{flops}; train accuracy {np.mean(accuracies):.3f} and {last.mean():.3f}",
        flush=True,
    )  # fmt: skip
    return plain / fast


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use fewer records for dense and conv; targets are then smaller")
    parser.add_argument("--wide", action="store_true", help="also an MLP of 512,256")
    parser.add_argument("--only", default="", help="run only mlp, dense or conv")
    arguments = parser.parse_args()
    from memberscope.training.keras.fleet import train_fleet
    from memberscope.training.keras.groups import a_thread_each
    from memberscope.training.recipe import Recipe

    quick = arguments.quick
    mlp = Case(
        name="mlp", recipe=Recipe(model="mlp", widths=(128,), epochs=40), models=64, members=1_000, timed=3 if quick else 7,
        repeat=1 if quick else 3, target="fleet",
    )  # fmt: skip
    wide = Case(
        name="wide mlp", recipe=Recipe(model="mlp", widths=(512, 256), epochs=40), models=64, members=1_000, timed=3, repeat=1,
        target=None,
    )  # fmt: skip
    dense = Case(
        name="dense", recipe=Recipe(model="dense", depth=3, epochs=2 if quick else 3), models=16, members=2_500 if quick else 25_000,
        timed=2 if quick else 3, repeat=1, target="fleet, dense",
    )  # fmt: skip
    conv = Case(
        name="conv", recipe=Recipe(model="conv", depth=3, epochs=2 if quick else 10), models=2 if quick else 8,
        members=2_500 if quick else 10_000, timed=1 if quick else 2, repeat=1, target="fleet, conv",
    )  # fmt: skip
    a_thread_each()
    train_fleet(location(), [np.arange(100)] * 2, warm_up().recipe, seeds=range(2))
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=peer, args=(there,), daemon=True)
    process.start()
    limit = exchange(here, "limit")
    print(f"a plain matrix product: {limit:.0f} GFLOP/s")
    ratio = 0.0
    for case, load in ((conv, cifar), (dense, cifar), (wide, location), (mlp, location)):
        if (case is wide and not arguments.wide) or (arguments.only and case.name != arguments.only):
            continue
        found = compare(case, load(), limit, here, quick=quick)
        ratio = found if case is mlp else ratio
    here.send(None)
    process.join()
    print(last_line("fleet", ratio, quick=quick, digits=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
