"""Models that were trained elsewhere, of which only outputs are known: a trainer that trains nothing, a fleet that answers no query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError
from memberscope.training.trainer import DataFacts, Execution, Fleet, Form, Trainer, Training, TrainingJob


def _refuse(what: str) -> NoReturn:
    raise UserError(f"{what}: the models were trained elsewhere, and only their outputs are known; allowed: attacks on these")


@dataclass(frozen=True, kw_only=True)
class ElsewhereTrainer:
    """See `memberscope.training.trainer.Trainer`. It has no capabilities, and whatever would need a model is refused."""

    capabilities: frozenset[str] = frozenset()
    name: str = "elsewhere"
    framework: str = ""

    @property
    def params(self) -> Mapping[str, Any]:
        """None are known."""
        return {}

    def with_params(self, **changes: Any) -> ElsewhereTrainer:
        """Refused: it has no parameters."""
        _refuse(", ".join(changes))

    def check(self, data: DataFacts) -> None:
        """Any data may have been used."""

    def signature(self) -> Mapping[str, object]:
        """The name alone."""
        return {"trainer": self.name}

    def describe(self) -> Mapping[str, int | float | str]:
        """See `memberscope.training.trainer.Trainer.describe`."""
        return {"model.trainer": self.name}

    def prepare_process(self) -> None:
        """Nothing is trained here."""

    def train(self, jobs: Sequence[TrainingJob], run: Execution) -> Fleet:
        """Refused."""
        _refuse("train")

    def variants(self, data: DataFacts) -> Sequence[tuple[str, Trainer]]:
        """There are none."""
        return ()

    def begin(self, job: TrainingJob, *, start: tuple[Fleet, int] | None = None) -> Training:
        """Refused."""
        _refuse("begin")

    def fleet_of(self, trainings: Sequence[Training]) -> Fleet:
        """Refused."""
        _refuse("fleet_of")

    def distill(self, *args: Any, **options: Any) -> NDArray[np.float64]:
        """Refused."""
        _refuse("distill")


@dataclass(frozen=True, kw_only=True)
class ElsewhereFleet:
    """See `memberscope.training.trainer.Fleet`. Every query is refused: the outputs were read from files.

    Attributes:
        n_models: the number of models.
        form: whether the outputs that were read are ``logits`` or ``probs``.
    """

    n_models: int
    form: Form = "logits"
    reused: int = 0
    capabilities: frozenset[str] = frozenset()

    @property
    def curves(self) -> Mapping[str, NDArray[np.float64]]:
        """None are known."""
        return {}

    def outputs(self, x: NDArray[Any], *, models: Sequence[int] | None = None) -> NDArray[Any]:
        """Refused."""
        _refuse("outputs")

    def gradient_norms(
        self,
        model: int,
        x: NDArray[Any],
        y: NDArray[np.int64],
        *,
        between_batches: Callable[[int], None] = lambda records: None,
    ) -> NDArray[np.float64]:
        """Refused."""
        _refuse("gradient_norms")

    def losses_by_epoch(self, model: int, x: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64]:
        """Refused."""
        _refuse("losses_by_epoch")

    def native(self, model: int) -> Any:
        """Refused."""
        _refuse("native")
