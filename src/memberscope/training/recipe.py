"""The recipe of a model, which determines it up to its records and its seed; a fleet shares one recipe. Plain values, no TensorFlow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from memberscope.config import ModelConfig, TrainConfig
from memberscope.errors import UserError, nearest
from memberscope.models import build_model, check_model, hidden_widths, is_convolutional, largest_depth

if TYPE_CHECKING:
    from tensorflow import keras


class LoopRecipe(Protocol):
    """What the built-in training loop knows about the models that it trains: those of a `Recipe`, or of a user's builder."""

    @property
    def name(self) -> str:
        """Name of the models in tables and in the names of runs."""

    @property
    def epochs(self) -> int:
        """Passes over the members."""

    @property
    def batch_size(self) -> int:
        """Records per step."""

    @property
    def learning_rate(self) -> float:
        """Learning rate of Adam."""

    @property
    def l2(self) -> float:
        """Weight of the penalty on squared kernels."""

    @property
    def label_smoothing(self) -> float:
        """Share of each label that is spread evenly over all classes."""

    @property
    def dropout(self) -> float:
        """Share of each dense hidden layer's outputs that the loop itself sets to zero."""

    @property
    def batched(self) -> bool:
        """Whether models are trained many at a time; only a `Recipe` can be."""

    @property
    def own_state(self) -> bool:
        """Whether models draw random numbers themselves, so that each must be built separately, in a process that trains one model at a
        time."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Its parameters by name, with those that keep their defaults."""

    def sources(self) -> Mapping[str, str]:
        """The text of each local file of a user's builder by its path; empty for the built-in models."""

    def check(self, input_shape: Sequence[int], classes: int) -> None:
        """Raise UserError for what cannot be built for these records and classes."""

    def build(self, *, input_shape: Sequence[int], classes: int, seed: int) -> keras.Model:
        """The untrained model; `seed` draws its weights."""

    def changed(self, **changes: Any) -> Self:
        """The recipe with some parameters changed; UserError for an unknown parameter."""

    def variants(self, input_shape: Sequence[int]) -> Sequence[tuple[str, LoopRecipe]]:
        """Recipes that differ from this one in one respect, each with a name that states the respect."""

    def describe(self) -> Mapping[str, int | float | str]:
        """Parameters that a run logs, under dotted names."""

    def to_dict(self) -> dict[str, object]:
        """Every fact that determines a model up to its records and its seed, as plain values for signatures."""


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

    @property
    def name(self) -> str:
        """Such as ``mlp-d2``."""
        return f"{self.model}-d{self.depth}"

    def check(self, input_shape: Sequence[int], classes: int | None = None) -> None:
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

    @property
    def own_state(self) -> bool:
        """See `LoopRecipe.own_state`."""
        return False

    def changed(self, **changes: Any) -> Self:
        """See `LoopRecipe.changed`."""
        known = [item.name for item in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise UserError(
                    f"{name}: no parameter of the built-in models; allowed: {', '.join(known)}{nearest(name, known)}"
                )
        return dataclasses.replace(self, **changes)

    def variants(self, input_shape: Sequence[int]) -> Sequence[tuple[str, LoopRecipe]]:
        """See `LoopRecipe.variants`: other depths, another width, another activation, another architecture."""
        found = list[tuple[str, LoopRecipe]]()
        for depth in (1, 2 * self.depth):
            most = largest_depth(self.model, tuple(input_shape))
            if depth != self.depth and (most is None or depth <= most):
                found.append((f"depth {depth} instead of {self.depth}", self.changed(widths=(), depth=depth)))
        narrow = max(8, self.width // 8)
        if narrow != self.width:
            found.append((f"width {narrow} instead of {self.width}", self.changed(widths=(), width=narrow)))
        other = "tanh" if self.activation != "tanh" else "relu"
        found.append((f"{other} instead of {self.activation}", self.changed(activation=other)))
        if is_convolutional(self.model):
            found.append(("dense instead of conv", self.changed(widths=(), model="dense")))
        return found

    def sources(self) -> Mapping[str, str]:
        """See `LoopRecipe.sources`."""
        return {}

    def describe(self) -> Mapping[str, int | float | str]:
        """See `LoopRecipe.describe`."""
        found: dict[str, int | float | str] = {"model.architecture": self.model}
        found |= {f"model.{name}": getattr(self, name) for name in ("depth", "width", "filters", "activation")}
        found["model.widths"] = ",".join(map(str, self.widths))
        return found | described_training(self)

    @property
    def values(self) -> Mapping[str, Any]:
        """See `LoopRecipe.values`."""
        return self.to_dict()

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


def described_training(recipe: LoopRecipe) -> dict[str, int | float | str]:
    """The options of training that a run logs."""
    return {
        "train.epochs": recipe.epochs, "train.batch_size": recipe.batch_size, "train.learning_rate": recipe.learning_rate,
        "train.optimizer": "adam",
    }  # fmt: skip
