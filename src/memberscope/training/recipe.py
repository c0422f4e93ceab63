"""How a model is made, but for its records and its seed: what a fleet of shadow models has in common. Plain values, no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from memberscope.config import ModelConfig, TrainConfig
from memberscope.models import build_model, check_model

if TYPE_CHECKING:
    from tensorflow import keras


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An architecture and a training configuration; Adam on cross-entropy, the loss averaged over each batch.

    Attributes:
        model, depth, width, widths, filters, activation: see `memberscope.models.build_model`.
        epochs: passes over the members.
        batch_size: records a step; the last batch of an epoch may be smaller.
        learning_rate: of Adam.
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

    @classmethod
    def of(cls, model: ModelConfig, train: TrainConfig) -> Self:
        """The recipe that configurations ask for."""
        return cls(
            model=model.model, depth=model.depth, width=model.width, widths=model.hidden, filters=model.filters,
            activation=model.activation, epochs=train.epochs, batch_size=train.batch_size, learning_rate=train.learning_rate,
        )  # fmt: skip

    def check(self, input_shape: Sequence[int]) -> None:
        """Raise UserError for an architecture that the inputs cannot carry."""
        check_model(self.model, depth=self.depth, input_shape=tuple(input_shape), widths=self.widths)

    def build(self, *, input_shape: Sequence[int], classes: int, seed: int) -> keras.Model:
        """The untrained model; `seed` draws its weights."""
        return build_model(
            self.model, depth=self.depth, input_shape=tuple(input_shape), classes=classes, width=self.width, widths=self.widths,
            filters=self.filters, activation=self.activation, seed=seed,
        )  # fmt: skip

    def to_dict(self) -> dict[str, object]:
        """Names and plain values, for JSON and signatures."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()}
