"""A user's builder of Keras models: how it is called, what it may return, and that the built-in loop trains that as Keras would."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from memberscope import metrics
from memberscope.config import ModelConfig, TrainConfig
from memberscope.config.mitigation import MitigateConfig
from memberscope.config.training import TrainStudyConfig
from memberscope.datasets import LabeledData, load_dataset
from memberscope.datasets.table import Table, TableColumn
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.studies import setup
from memberscope.studies.mitigate import study as mitigate
from memberscope.tracking import MemoryTracker
from memberscope.training import registry
from memberscope.training.execution.work import Unit
from memberscope.training.keras.fit import epoch_order, fit
from memberscope.training.keras.groups import KerasSpec
from memberscope.training.recipe import Recipe
from memberscope.training.trainer import DataFacts, Execution, PrivateSettings, TrainingJob, jobs_for

CLASSES = 3
BUILDERS = """
import os

import numpy as np
from tensorflow import keras

layers = keras.layers
SHARED = layers.Dense(8)


def ended(inputs, x, classes, **last):
    return keras.Model(inputs, layers.Dense(classes, **last)(layers.Flatten()(x)))


def dense(input_shape, classes, depth=1, width=64):
    x = inputs = keras.Input(input_shape)
    x = layers.Flatten()(x)
    for _ in range(depth + 1):
        x = layers.Dense(width, activation="relu")(x)
    return ended(inputs, x, classes)


def ours(input_shape, classes, seed):
    from memberscope.models import build_model

    return build_model("dense", depth=1, input_shape=input_shape, classes=classes, seed=seed)


def random_layers(input_shape, classes, rate=0.4):
    inputs = keras.Input(input_shape)
    x = layers.RandomFlip("horizontal")(inputs)
    return ended(inputs, layers.Dropout(rate)(layers.Dense(8, activation="relu")(x)), classes)


def normalized(input_shape, classes, penalty=0.0):
    inputs = keras.Input(input_shape)
    regularizer = keras.regularizers.L2(penalty) if penalty else None
    x = layers.Dense(8, use_bias=False, kernel_regularizer=regularizer)(layers.Flatten()(inputs))
    return ended(inputs, layers.ReLU()(layers.BatchNormalization(momentum=0.5, name="norm")(x)), classes)


def sequential(classes):
    return keras.Sequential([layers.Flatten(), layers.Dense(classes)])


def with_softmax(input_shape, classes):
    inputs = keras.Input(input_shape)
    return ended(inputs, inputs, classes, activation="softmax")


def with_sigmoid(input_shape, classes):
    inputs = keras.Input(input_shape)
    return ended(inputs, inputs, classes, activation="sigmoid")


def no_model(input_shape, classes):
    return "a model"


def other_classes(input_shape):
    inputs = keras.Input(input_shape)
    return ended(inputs, inputs, 7)


def other_shape(classes):
    inputs = keras.Input((5, 5))
    return ended(inputs, inputs, classes)


def shared(input_shape, classes):
    inputs = keras.Input(input_shape)
    return ended(inputs, SHARED(layers.Flatten()(inputs)), classes)


def unseeded(input_shape, classes):
    inputs = keras.Input(input_shape)
    initial = keras.initializers.Constant(int.from_bytes(os.urandom(4), "big") / 2**32)
    return ended(inputs, inputs, classes, kernel_initializer=initial)


def by_numpy(input_shape, classes):
    inputs = keras.Input(input_shape)
    return ended(inputs, inputs, classes, kernel_initializer=keras.initializers.Constant(np.random.random()))


def two_inputs(input_shape, classes):
    inputs = [keras.Input(input_shape), keras.Input(input_shape)]
    return ended(inputs, layers.Add()(inputs), classes)


class Subclassed(keras.Model):
    def __init__(self, classes):
        super().__init__()
        self.last = layers.Dense(classes)

    def call(self, x):
        return self.last(x)


def half(input_shape, classes):
    inputs = keras.Input(input_shape)
    return ended(inputs, inputs, classes, dtype="float16")


def fails(input_shape, classes):
    raise KeyError("width")


def needs(input_shape, classes, width):
    return dense(input_shape, classes, width=width)


def positional(input_shape, classes, /):
    return dense(input_shape, classes)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("builders") / "my_models.py"
    file.write_text(BUILDERS)
    return f"keras:{file}"


def _trainer(path: str, name: str, params: str = "", **training: Any) -> Any:
    return registry.make(f"{path}:{name}", Recipe(**{"epochs": 2, "batch_size": 20, **training}), params)


def _data(n: int = 240) -> LabeledData:
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, n)
    x = (rng.normal(90, 40, (n, 6, 6, 1)) + 30 * y[:, None, None, None]).clip(0, 255).astype(np.uint8)
    return LabeledData(name="made up", x=x, y=y, class_names=("a", "b", "c"), source="a test")


def _weights(trainer: Any, data: LabeledData, jobs: Sequence[tuple[int, int]]) -> dict[int, list[np.ndarray]]:
    """The weights after training in one program, by seed; a job is the first of 60 members, and a seed."""
    work = KerasSpec(recipe=trainer.recipe, scale=data.scale, classes=CLASSES).work(data.x, data.y)
    program, found = work.program(1, work.shared()), {}
    for first, seed in jobs:
        unit = Unit(positions=(0,), members=(np.arange(first, first + 60),), seeds=(seed,), steps=6)
        found[seed] = program.train(unit, lambda steps: None)[0].weights
    return found


def _same(one: Sequence[np.ndarray], two: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


# ------------------------------------------------------------------------------------------------------------------------- seeds


def test_the_seed_alone_decides_a_model_whose_layers_draw_random_numbers(path: str) -> None:
    """Neither the model that a process trained before it, nor what the process has drawn otherwise, changes a byte."""
    data, trainer = _data(), _trainer(path, "random_layers")
    both = _weights(trainer, data, [(0, 1), (60, 2)])
    keras.utils.set_random_seed(99)
    assert _same(_weights(trainer, data, [(60, 2)])[2], both[2])
    assert not _same(_weights(trainer, data, [(0, 2)])[2], both[2])
    assert not _same(_weights(_trainer(path, "random_layers", "rate=0"), data, [(60, 2)])[2], both[2])  # dropout was active
    first, again, other = (trainer.recipe.build(input_shape=data.shape, classes=CLASSES, seed=seed) for seed in (5, 5, 6))
    assert _same(first.get_weights(), again.get_weights())
    assert not _same(first.get_weights(), other.get_weights())


def test_the_processs_own_generators_go_on_as_if_no_model_had_been_built(path: str) -> None:
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    trainer = _trainer(path, "by_numpy")
    kernels = [trainer.recipe.build(input_shape=(4,), classes=CLASSES, seed=seed).get_weights()[0] for seed in (0, 0, 1)]
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002
    assert _same(kernels[0], kernels[1])
    assert not _same(kernels[0], kernels[2])


# ---------------------------------------------------------------------------------------------------------------------- training


def test_batch_normalization_and_a_regularizer_train_as_in_keras_fit(path: str) -> None:
    data, members = _data(), np.arange(20, 190)
    recipe = _trainer(path, "normalized", "penalty=0.01").recipe
    ours, theirs = (recipe.build(input_shape=data.shape, classes=CLASSES, seed=4) for _ in range(2))
    start = ours.get_weights()
    fit(
        ours, tf.constant(data.x), data.y, members, scale=255.0, epochs=3, batch_size=32, learning_rate=0.01, seed=7,
        after_epoch=lambda epoch: None, between_steps=lambda steps: None,
    )  # fmt: skip
    theirs.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for epoch in (1, 2, 3):
        order = epoch_order(members, seed=7, epoch=epoch)
        theirs.fit(data.x[order].astype(np.float32) / 255, data.y[order], batch_size=32, shuffle=False, verbose=0)
    for a, b, before in zip(ours.get_weights(), theirs.get_weights(), start, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
        assert not np.allclose(a, before, atol=1e-3)  # the moving statistics too
    plain = _trainer(path, "normalized").recipe.build(input_shape=data.shape, classes=CLASSES, seed=4)
    assert _same(plain.get_weights(), start)
    assert not plain.losses
    assert len(ours.losses) == 1


# `make test` trains the random layers above; only the normalized model has moving statistics
@pytest.mark.parametrize("name", ["normalized", pytest.param("random_layers", marks=pytest.mark.thorough)])
def test_models_answer_in_inference_mode_with_the_moving_statistics_that_were_stored(
    path: str, name: str, tmp_path: Path
) -> None:
    from memberscope.training.store import Store

    data, trainer = _data(), _trainer(path, name)
    run = Execution(workers=1, store=Store(tmp_path))
    fleet = trainer.train(jobs_for(data, [np.arange(60)], [5]), run)
    again = trainer.train(jobs_for(data, [np.arange(60)], [5]), run)
    assert (fleet.reused, again.reused) == (0, 1)
    whole = again.outputs(data.x)[0]
    np.testing.assert_array_equal(whole, fleet.outputs(data.x)[0])
    np.testing.assert_allclose(again.outputs(data.x[:1])[0], whole[:1], atol=1e-5)  # alone as among others
    hand = fleet.native(0)(data.x.astype(np.float32) / 255, training=False)
    np.testing.assert_allclose(whole, hand, atol=1e-4)


def test_every_kernel_is_penalized_and_nothing_else(path: str) -> None:
    """A large penalty brings the kernels to about 0; scale and offset of the normalization, and biases, are not penalized."""
    data = _data()
    sizes = {}
    for l2 in (0.0, 10.0):
        training = _trainer(path, "normalized", epochs=60, learning_rate=0.01, l2=l2).begin(
            TrainingJob(data=data, indices=np.arange(120), seed=1)
        )
        training.fit(after_epoch=lambda epoch: None, between_steps=lambda steps: None)
        layer = training.native.get_layer("norm")
        kernels = [weight for weight in training.native.trainable_weights if len(weight.shape) == 2]
        sizes[l2] = [float(np.abs(weight.numpy()).mean()) for weight in (*kernels, layer.gamma)]
    assert sizes[10.0][0] < 0.02 < 0.1 < sizes[0.0][0]
    assert sizes[10.0][1] < 0.02 < 0.1 < sizes[0.0][1]
    assert 0.5 < sizes[10.0][2] < 1.5


def _figures(trainer: Any, data: LabeledData, seeds: Sequence[int]) -> np.ndarray:
    """(models, 2): accuracy on others, and AUC of the loss threshold, of models with half of the records as members each."""
    halves = [np.random.default_rng(seed).permutation(len(data))[: len(data) // 2] for seed in seeds]
    outputs = trainer.train(jobs_for(data, halves, list(seeds)), Execution(workers=1)).outputs(data.x).astype(np.float64)
    found = []
    for logits, members in zip(outputs, halves, strict=True):
        member = np.isin(np.arange(len(data)), members)
        loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(data)), data.y]
        found.append(((logits.argmax(axis=1) == data.y)[~member].mean(), metrics.auc(-loss, member).value))
    return np.array(found)


@pytest.mark.thorough  # twelve trainings
def test_the_built_in_network_as_a_builder_gives_the_built_in_figures(path: str) -> None:
    """With the same initial weights up to rounding; with Keras's own initialization within the spread of seeds."""
    digits = load_dataset("digits")
    data = digits.with_labels(
        np.where(
            np.random.default_rng(0).random(len(digits)) < 0.2, np.random.default_rng(1).integers(0, 10, len(digits)), digits.y
        )
    )
    training = {"epochs": 15, "batch_size": 50}
    built_in = _figures(registry.make("keras", Recipe(model="dense", depth=1, **training)), data, range(4))
    same = _figures(_trainer(path, "ours", **training), data, range(4))
    own = _figures(_trainer(path, "dense", "depth=1,width=64", **training), data, range(4))
    np.testing.assert_allclose(same, built_in, atol=0.01)
    for figures in (built_in, own):
        assert 0.65 < figures[:, 0].mean() < 0.80, figures  # a fifth of the labels are random
        assert 0.53 < figures[:, 1].mean() < 0.62, figures
    spread = np.sqrt((built_in.var(axis=0, ddof=1) + own.var(axis=0, ddof=1)) / 4)
    assert (np.abs(built_in.mean(axis=0) - own.mean(axis=0)) < 4 * spread + 0.005).all()


# ------------------------------------------------------------------------------------------------------------ what it says, refuses


def test_the_signature_changes_with_the_file_and_the_parameters(path: str, tmp_path: Path) -> None:
    one = _trainer(path, "dense", "width=16")
    (tmp_path / "my_models.py").write_text(BUILDERS + "\n# changed\n")
    others = [
        _trainer(f"keras:{tmp_path / 'my_models.py'}", "dense", "width=16"), _trainer(path, "dense", "width=17"),
        _trainer(path, "dense", "width=16", epochs=3), _trainer(path, "ours"), one.with_params(l2=0.1),
    ]  # fmt: skip
    assert one.signature() == _trainer(path, "dense", "width=16").signature()
    assert all(other.signature() != one.signature() for other in others)
    assert one.describe() == {
        "trainer.name": "dense", "trainer.width": 16, "train.epochs": 2, "train.batch_size": 20, "train.learning_rate": 0.001,
        "train.optimizer": "adam",
    }  # fmt: skip
    assert one.params["depth"] == 1  # the function's default
    assert one.with_params(width=8).describe()["trainer.width"] == 8
    model = one.recipe.build(input_shape=(4,), classes=CLASSES, seed=0)
    assert model.get_weights()[0].shape == (4, 16)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("with_softmax", "its model gives probabilities; allowed: logits"),
        ("with_sigmoid", "its model gives probabilities; allowed: logits"),
        ("no_model", "returned str; allowed: a functional or Sequential model"),
        ("other_classes", r"its model has outputs of shape \(None, 7\); allowed: \(None, 3\)"),
        ("other_shape", r"its model takes records of shape \(5, 5\), but they have shape \(4,\)"),
        ("shared", "two calls returned models that share weights; allowed: a new model"),
        ("unseeded", "two calls with one seed gave models with different initial weights; allowed: weights that follow from"),
        ("two_inputs", "with 2 inputs and 1 outputs that Keras knows of; allowed: a functional or Sequential model of one input"),
        ("Subclassed", "returned Subclassed with 0 inputs and 0 outputs that Keras knows of; allowed: a functional"),
        ("half", "its model has outputs of type float16; allowed: float32"),
        ("fails", r"line \d+ of my_models.py: KeyError: 'width'"),
    ],
)  # fmt: skip
def test_a_model_that_the_loop_cannot_train_is_refused_in_one_line(path: str, name: str, line: str) -> None:
    trainer = _trainer(path, name)
    with pytest.raises(UserError, match=rf"trainer={path}:{name}: .*{line}") as caught:
        trainer.check(DataFacts(shape=(4,), classes=CLASSES))
    assert "\n" not in str(caught.value)


def test_models_that_the_loop_can_train_are_accepted(path: str) -> None:
    for name in ("dense", "ours", "random_layers", "normalized", "sequential", "by_numpy"):
        _trainer(path, name).check(DataFacts(shape=(6, 6, 1), classes=CLASSES, members=20))


@pytest.mark.parametrize(
    ("name", "params", "line"),
    [
        ("dense", "widht=3", "params: widht is not a parameter of keras:.*; allowed: depth, width; nearest: width"),
        ("dense", "epochs=3", "params: epochs is an option of the training loop, not a parameter of the builder; allowed: --epochs"),
        ("dense", "seed=3", "params: seed is not a parameter of"),
        ("needs", "", "nothing is given for width; allowed: a function such as"),
        ("positional", "", "nothing is given for input_shape, classes; allowed: a function such as"),
        ("nothing", "", "my_models.py has no nothing"),
        ("CLASSES", "", "has no CLASSES"),
        ("SHARED.units", "", "not the name of a function or class; allowed: keras:path/to/file.py:NAME"),
    ],
)  # fmt: skip
def test_a_builder_with_another_interface_is_refused(path: str, name: str, params: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        _trainer(path, name, params)


def test_a_missing_file_names_the_form_with_its_prefix() -> None:
    with pytest.raises(
        UserError, match=r"trainer=keras:none.py:f: no file none.py; allowed: keras:path/to/file.py:NAME, or keras:package"
    ):
        registry.make("keras:none.py:f", Recipe())
    with pytest.raises(
        UserError, match=r"trainer=keras:none.py: not the name of a function .*allowed: keras:path/to/file.py:NAME"
    ):
        registry.make("keras:none.py", Recipe())


def test_options_of_training_are_read_and_those_of_the_built_in_architectures_refused(path: str) -> None:
    given = {"trainer": f"{path}:dense", "params": "width=8"}
    trainer = setup.trainer_for(ModelConfig(**given), TrainConfig(epochs=7, batch_size=11, learning_rate=0.5))
    assert [trainer.params[name] for name in ("epochs", "batch_size", "learning_rate", "width")] == [7, 11, 0.5, 8]
    for name, value in {"model": "dense", "depth": 2, "width": 8, "widths": "3,4", "filters": 2, "activation": "tanh"}.items():
        config = TrainStudyConfig(**{**given, name: value})
        with pytest.raises(UserError, match=f"^{name}={value}: .*does not read; allowed: params={name}={value}"):
            setup.trainer_for(config, config)


def test_records_of_any_finite_numbers_are_taken_but_no_words_and_no_gaps(path: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, 90)
    x = 1000.0 * y[:, None] + rng.normal(-5000, 50, (90, 4))
    data = LabeledData(name="wide", x=x, y=y, class_names=("a", "b", "c"), source="a test")
    trainer = _trainer(path, "normalized", epochs=60, learning_rate=0.02)
    job = TrainingJob(data=data, indices=np.arange(60), seed=1)
    training = trainer.begin(job)
    training.fit(after_epoch=lambda epoch: None, between_steps=lambda steps: None)
    assert (
        training.outputs(np.arange(60, 90)).argmax(axis=1) == y[60:]
    ).mean() > 0.9  # read as they are, neither clipped nor scaled
    x[7, 2] = np.nan
    broken = LabeledData(name="gaps", x=x, y=y, class_names=("a", "b", "c"), source="a test")
    line = "dataset=gaps: 1 of 90 records have missing or infinite values"
    with pytest.raises(UserError, match=line):
        trainer.begin(TrainingJob(data=broken, indices=np.arange(60), seed=1))
    with pytest.raises(UserError, match=line):
        trainer.train(jobs_for(broken, [np.arange(60)], [1]), Execution(workers=1))
    words = Table(
        columns=(TableColumn(name="age", kind="number"), TableColumn(name="job", kind="word", categories=("cook", "nurse")))
    )
    with pytest.raises(UserError, match="the columns job hold words, and Keras models are given numbers"):
        trainer.check(DataFacts(shape=(2,), classes=CLASSES, table=words))


# ------------------------------------------------------------------------------------------------------------------- DP-SGD, studies


def test_dp_sgd_trains_what_keeps_records_apart_and_refuses_the_rest(path: str) -> None:
    data, settings = _data(), PrivateSettings(clip_norm=1.0, noise_multiplier=1.0)
    job = TrainingJob(data=data, indices=np.arange(120), seed=1)
    for name, params, line in (
        ("normalized", "", "layer 'norm' normalizes over the batch"),
        ("normalized", "penalty=0.1", "its layers add losses of their own"),
    ):
        training = _trainer(path, name, params).begin(job)
        with pytest.raises(UserError, match=line):
            training.check_private(settings)
    training = _trainer(path, "dense", "width=8").begin(job)
    training.check_private(settings)
    before = training.native.get_weights()
    plan = training.fit_private(settings, after_epoch=lambda epoch: None, between_steps=lambda steps: None)
    assert 0 < plan.epsilon < 100
    assert not _same(before, training.native.get_weights())


def test_mitigate_refuses_a_private_rung_of_a_normalized_model_before_it_trains_anything(path: str, tmp_path: Path) -> None:
    data = _data(480)
    np.savez(tmp_path / "images.npz", x=data.x, y=data.y)
    config = MitigateConfig(
        dataset=str(tmp_path / "images.npz"), trainer=f"{path}:normalized", mitigations="l2,dp", epochs=1, batch_size=20, members=60,
        private_batch_size=20, shadows=0, seeds=1, store=str(tmp_path / "store"),
    )  # fmt: skip
    tracker = MemoryTracker()
    with pytest.raises(UserError, match="layer 'norm' normalizes over the batch, which mixes examples; allowed with DP-SGD"):
        mitigate.run(config, tracker, StopFlag())
    assert not list(tmp_path.rglob("store/**/*.npz"))
    assert not tracker.children
