"""The file of the how-to page on Keras models is what the page says, and the project trains it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from memberscope.config import ModelConfig, TrainConfig
from memberscope.datasets import LabeledData
from memberscope.studies import setup
from memberscope.training.trainer import DataFacts, Execution, TrainingJob, jobs_for

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "keras_model.md"


@pytest.fixture(scope="module")
def trainer_option(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("page") / "my_models.py"
    file.write_text(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[0])
    return f"keras:{file}:resnet"


def test_three_blocks_are_the_resnet_20_of_the_paper(trainer_option: str) -> None:
    trainer = setup.trainer_for(ModelConfig(trainer=trainer_option), TrainConfig())
    model = trainer.recipe.build(input_shape=(32, 32, 3), classes=10, seed=0)
    kernels = [weight for weight in model.trainable_weights if len(weight.shape) in (2, 4)]
    assert len(kernels) == 20 + 2  # two of them in skip connections
    assert 0.27e6 <= sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) < 0.28e6  # the paper: 0.27 million


@pytest.mark.thorough  # `make test` trains a small network of a builder in tests/training/test_builder.py
def test_it_learns_small_images_and_is_the_same_in_a_fleet(trainer_option: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 160)
    x = (rng.normal(90, 40, (160, 32, 32, 3)) + 50 * y[:, None, None, None]).clip(0, 255).astype(np.uint8)
    data = LabeledData(name="bright and dark", x=x, y=y, class_names=("dark", "bright"), source="a test")
    params = "blocks=1,width=8,dropout=0.1,weight_decay=0.0001"
    options = TrainConfig(epochs=4, batch_size=20, learning_rate=0.01)
    trainer = setup.trainer_for(ModelConfig(trainer=trainer_option, params=params), options)
    trainer.check(DataFacts(shape=data.shape, classes=2, members=80))
    training = trainer.begin(TrainingJob(data=data, indices=np.arange(80), seed=3))
    training.fit(after_epoch=lambda epoch: None, between_steps=lambda steps: None)
    outputs = training.outputs(np.arange(160))
    fleet = trainer.train(jobs_for(data, [np.arange(80)], [3]), Execution(workers=1))
    np.testing.assert_allclose(fleet.outputs(data.x)[0], outputs, atol=0.05)  # up to the order of sums on several threads
    loss, accuracy = (fleet.curves[name][0] for name in ("loss", "accuracy"))
    assert 0 < loss[-1] < 0.5 * loss[0]
    assert 0.5 < accuracy[0] < accuracy[-1] <= 1
