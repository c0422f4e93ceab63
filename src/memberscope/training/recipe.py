"""The recipe of a model, which determines it up to its records and its seed; a fleet shares one recipe. Plain values, no TensorFlow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from memberscope.config import ModelConfig, TrainConfig
from memberscope.errors import UserError
from memberscope.models import build_model, check_model, hidden_widths

if TYPE_CHECKING:
    from tensorflow import keras


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An architecture and a training configuration: Adam on cross-entropy, with the loss averaged over each batch.

    Attributes:
        model, depth, width, widths, filters, activation: see `memberscope.models.build_model`.
        epochs: passes over the members.
        batch_size: records per step; the last batch of an epoch may be smaller.
        learning_rate: learning rate of Adam.
        l2: weight of the penalty on the loss, `l2` times the sum of squared kernels (biases are not penalized).
        label_smoothing: share of each label that is spread evenly over all classes.
        dropout: share of each dense hidden layer's outputs that is set to zero during training.
    """

    model: str = "conv"
    depth: int = 3
    width: int = 64
    widths: tuple[int, ...] = ()
    filters: int = 32
    activation: str = "relu"
    epochs: int = 40
    batch_size: int = 50
    learning_rate: float = 0.001
    l2: float = 0.0
    label_smoothing: float = 0.0
    dropout: float = 0.0

    @classmethod
    def of(cls, model: ModelConfig, train: TrainConfig) -> Self:
        """The recipe that configurations request."""
        return cls(
            model=model.model, depth=model.depth, width=model.width, widths=model.hidden, filters=model.filters,
            activation=model.activation, epochs=train.epochs, batch_size=train.batch_size, learning_rate=train.learning_rate,
        )  # fmt: skip

    def check(self, input_shape: Sequence[int]) -> None:
        """Raise UserError for an architecture that does not suit the inputs, or a share outside its range."""
        if self.l2 < 0:
            raise UserError(f"l2={self.l2:g}: negative; allowed: 0 or more")
        for name in ("label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name):g}: not a share; allowed: at least 0, below 1")
        check_model(self.model, depth=self.depth, input_shape=tuple(input_shape), widths=self.widths)

    def build(self, *, input_shape: Sequence[int], classes: int, seed: int) -> keras.Model:
        """The untrained model; `seed` draws its weights."""
        return build_model(
            self.model, depth=self.depth, input_shape=tuple(input_shape), classes=classes, width=self.width, widths=self.widths,
            filters=self.filters, activation=self.activation, seed=seed,
        )  # fmt: skip

    @property
    def batched(self) -> bool:
        """Whether models are trained many at a time: all but those with convolutions, which gain nothing by it on a CPU, or dropout."""
        return self.model in ("dense", "mlp") and not self.dropout

    def layer_sizes(self, *, input_shape: Sequence[int], classes: int) -> tuple[int, ...]:
        """Sizes of the layers that a dense model's kernels connect: features of a record, units of each hidden layer, classes."""
        hidden = hidden_widths(self.model, depth=self.depth, width=self.width, widths=self.widths)
        return (math.prod(input_shape), *hidden, classes)

    def fields(self) -> dict[str, Any]:
        """Names and values, unchanged."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}

    def to_dict(self) -> dict[str, object]:
        """Names and plain values, for JSON and signatures."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()}
