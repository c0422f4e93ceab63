"""The batched program against Keras itself, model by model, for members of different numbers and short last batches."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from memberscope.training.keras import batched
from memberscope.training.keras.batched import Program, initial_weights
from memberscope.training.keras.fit import epoch_order
from memberscope.training.keras.inputs import DenseSource, SparseSource, source_of
from memberscope.training.keras.weights import TrainedModel
from memberscope.training.recipe import Recipe

N, CLASSES, SHAPE = 150, 3, (8, 8, 1)
SIZES = (110, 128, 90, 17)  # of batches of 32: short last ones of 14, none, 26, 17; 4, 4, 3, 1 steps an epoch
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (N, *SHAPE), dtype=np.uint8), RNG.integers(0, CLASSES, N)
MEMBERS = [RNG.permutation(N)[:size] for size in SIZES]
SEEDS = (3, 4, 5, 6)


def _recipe(**changes: object) -> Recipe:
    settings = {"model": "dense", "depth": 2, "width": 16, "epochs": 3, "batch_size": 32, "learning_rate": 0.002, **changes}
    return Recipe(**settings)  # type: ignore[arg-type]


def _train(recipe: Recipe, members: list[np.ndarray] = MEMBERS, x: np.ndarray = X) -> list[TrainedModel]:
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    program = Program(recipe, models=len(members), x=source_of(x), y=tf.constant(Y, tf.int32), scale=scale, classes=CLASSES)
    return program.train(members, SEEDS[: len(members)], lambda steps: None)


def _keras(
    recipe: Recipe, members: np.ndarray, seed: int, records: np.ndarray = X
) -> tuple[list[np.ndarray], list[float], list[float]]:
    """`keras.Model.fit` on the same order: weights, and its own running accuracy and loss by epoch."""
    model = recipe.build(input_shape=SHAPE, classes=CLASSES, seed=seed)
    if recipe.l2:
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dense):
                layer.kernel_regularizer = keras.regularizers.L2(recipe.l2)
        weights = model.get_weights()
        model = keras.models.model_from_json(model.to_json())  # a regularizer counts from when the layer is built
        model.set_weights(weights)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    model.compile(keras.optimizers.Adam(recipe.learning_rate), loss, metrics=["accuracy"])
    accuracy, losses = [], []
    for epoch in range(1, recipe.epochs + 1):
        order = epoch_order(members, seed=seed, epoch=epoch)
        x, y = records[order].astype(np.float32) / (255 if records.dtype == np.uint8 else 1), np.eye(CLASSES)[Y[order]]
        history = model.fit(x, y, batch_size=recipe.batch_size, shuffle=False, verbose=0).history
        accuracy += history["accuracy"]
        losses += history["loss"]
    return model.get_weights(), accuracy, losses


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, marks=pytest.mark.thorough),  # all models of the fleet, of which `make test` compares every third
        {"activation": "gelu", "l2": 0.01, "label_smoothing": 0.2},
        {"model": "mlp", "widths": (24, 12), "activation": "tanh"},
    ],
    ids=["plain", "penalized", "mlp"],
)
def test_weights_and_curves_equal_those_of_keras_fit(changes: dict[str, object]) -> None:
    recipe = _recipe(**changes)
    some = slice(None) if not changes else slice(None, None, 3)  # a fit of Keras costs a second
    for model, members, seed in zip(_train(recipe)[some], MEMBERS[some], SEEDS[some], strict=True):
        weights, accuracy, loss = _keras(recipe, members, seed)
        for ours, theirs in zip(model.weights, weights, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        np.testing.assert_allclose(model.curves.accuracy, accuracy, atol=1e-6)
        if not recipe.l2:  # Keras counts the penalty in, ours does not
            np.testing.assert_allclose(model.curves.loss, loss, rtol=1e-5)


def test_records_of_mostly_zeros_train_as_those_of_keras_fit() -> None:
    """Through products that skip the zeros; a record without any entry among them."""
    x = np.where(RNG.random((N, *SHAPE)) < 0.1, X, 0).astype(np.float32) / 255
    x[MEMBERS[1][0]] = 0
    recipe = _recipe(l2=0.001)
    assert isinstance(source_of(x), SparseSource)
    model, (weights, accuracy, _) = _train(recipe, x=x)[1], _keras(recipe, MEMBERS[1], SEEDS[1], x)
    for ours, theirs in zip(model.weights, weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(model.curves.accuracy, accuracy, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_products_without_zeros_equal_those_of_matrices(share: float) -> None:
    models, batch, features, units, steps = 3, 5, 64, 7, 4
    x = np.where(RNG.random((N, features)) < share, RNG.normal(size=(N, features)), 0).astype(np.float32)
    index = RNG.integers(0, N, (steps, models, batch))
    kernel, delta = (tf.constant(RNG.normal(size=(models, rows, units)), tf.float32) for rows in (features, batch))
    records = SparseSource(x)
    fed = [tf.constant(part) for part in records.feed(index)]
    for step in range(steps):
        found = records.batch(tf.constant(index[step]), fed, tf.constant(step))
        wanted = x[index[step]]
        np.testing.assert_allclose(found.times(kernel), wanted @ kernel.numpy(), atol=1e-5)
        np.testing.assert_allclose(found.transposed_times(delta), wanted.transpose(0, 2, 1) @ delta.numpy(), atol=1e-5)


def test_dense_records_are_kept_whole() -> None:
    assert isinstance(source_of(X), DenseSource)
    assert isinstance(source_of(np.ones((4, 3), np.float32)), DenseSource)
    assert isinstance(source_of(np.eye(20, dtype=np.float32)), SparseSource)


@pytest.mark.parametrize("model", ["dense", "mlp"])
def test_initial_weights_are_those_of_the_built_model(model: str) -> None:
    recipe = _recipe(model=model, widths=(9, 5) if model == "mlp" else ())
    built = recipe.build(input_shape=SHAPE, classes=CLASSES, seed=11).get_weights()
    ours = initial_weights(recipe, input_shape=SHAPE, classes=CLASSES, seed=11)
    assert all(np.array_equal(a, b) for a, b in zip(ours, built, strict=True))
    assert len(ours) == len(built)


def _same(a: TrainedModel, b: TrainedModel) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.weights, b.weights, strict=True)) and np.array_equal(
        a.curves.loss, b.curves.loss
    )


def test_a_model_does_not_depend_on_its_company() -> None:
    first = _train(_recipe())
    others = _train(_recipe(), [MEMBERS[0], *(RNG.permutation(N)[:size] for size in (150, 3, 64))])
    assert _same(first[0], others[0])
    assert not _same(first[1], others[1])


def test_stops_between_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _train(_recipe())
    monkeypatch.setattr(batched, "CHUNK_STEPS", 2)
    assert all(_same(a, b) for a, b in zip(whole, _train(_recipe()), strict=True))


def test_a_program_starts_afresh_with_each_group() -> None:
    program = Program(_recipe(), models=2, x=source_of(X), y=tf.constant(Y, tf.int32), scale=255.0, classes=CLASSES)
    steps: list[int] = []
    first, other, again = (program.train(MEMBERS[:2], pair, steps.append)[0] for pair in ((3, 4), (8, 9), (3, 4)))
    assert _same(first, again)
    assert not _same(first, other)
    assert sum(steps) == 3 * 3 * (4 + 4), "three trainings of three epochs"


def test_float_records_are_taken_as_they_are() -> None:
    scaled = _train(_recipe(), x=X.astype(np.float32) / 255)
    for a, b in zip(_train(_recipe()), scaled, strict=True):
        for x, y in zip(a.weights, b.weights, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-5)
