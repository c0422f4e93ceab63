"""The outputs of models that no longer exist: a fleet that looks outputs up, and trains a model again only for a query that nobody
declared."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError
from memberscope.training.outside.answers import UserModel, unpacked
from memberscope.training.outside.program import PROBE, Answers, OutsideProgram
from memberscope.training.query import content_digest
from memberscope.training.trainer import Form, TrainingJob

RTOL, ATOL = 1e-3, 1e-4  # outputs of a model and of its second training, which may differ in their last digits


@dataclass(frozen=True, kw_only=True, eq=False)
class OutsideFleet:
    """See `memberscope.training.trainer.Fleet`.

    Attributes:
        spec: the trainer as the user named it, for errors.
        answers: what is kept of each model.
        jobs: the jobs of the models.
        program: makes a program that trains in this process.
        reused: number of models from the store.
        trained: number of models trained now.
    """

    spec: str
    answers: Sequence[Answers]
    jobs: Sequence[TrainingJob]
    program: Callable[[], OutsideProgram]
    reused: int
    trained: int
    _live: dict[int, UserModel] = field(default_factory=dict, repr=False)

    @property
    def n_models(self) -> int:
        """K."""
        return len(self.answers)

    @property
    def form(self) -> Form:
        """That of all models.

        Raises:
            UserError: some models gave logits and others probabilities.
        """
        forms: list[Form] = [_facts(one)["form"] for one in self.answers]
        for k, form in enumerate(forms):
            if form != forms[0]:
                words = {"logits": "logits", "probs": "probabilities"}
                raise UserError(
                    f"trainer={self.spec}: model 0 gives {words[forms[0]]} and model {k} {words[form]}; allowed: the same for all models"
                )
        return forms[0]

    @property
    def capabilities(self) -> frozenset[str]:
        """``gradients`` and ``losses`` if the models were queried for them and returned them."""
        offered = {"gradients": "gradient_norms_", "losses": "losses_by_epoch_"}
        return frozenset(
            name for name, start in offered.items() if any(key.startswith(start) for one in self.answers for key in one)
        )  # fmt: skip

    @property
    def curves(self) -> Mapping[str, NDArray[np.float64]]:
        """See `memberscope.training.trainer.Fleet.curves`: what all models reported, equally often."""
        names = set.intersection(*({key for key in one if key.startswith("curve_")} for one in self.answers))
        found = {name.removeprefix("curve_"): [one[name] for one in self.answers] for name in sorted(names)}
        return {name: np.stack(rows) for name, rows in found.items() if len({len(row) for row in rows}) == 1}

    def outputs(self, x: NDArray[Any], *, models: Sequence[int] | None = None) -> NDArray[Any]:
        """See `memberscope.training.trainer.Fleet.outputs`.

        Raises:
            UserError: records that were not declared, a model that cannot be loaded again, and a second training that gave another model.
        """
        chosen = range(self.n_models) if models is None else models
        name = f"outputs_{content_digest(x)}"
        found = [
            self.answers[k][name] if name in self.answers[k] else self._ask(k, lambda model: model.outputs(x)) for k in chosen
        ]
        return np.stack(found) if found else np.empty((0, len(x), self.jobs[0].data.classes), np.float32)

    def gradient_norms(
        self,
        model: int,
        x: NDArray[Any],
        y: NDArray[np.int64],
        *,
        between_batches: Callable[[int], None] = lambda records: None,
    ) -> NDArray[np.float64]:
        """See `memberscope.training.trainer.Fleet.gradient_norms`."""
        return self._by_record("gradient_norms", model, x, y)

    def losses_by_epoch(self, model: int, x: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `memberscope.training.trainer.Fleet.losses_by_epoch`."""
        return self._by_record("losses_by_epoch", model, x, y)

    def _by_record(self, measure: str, model: int, x: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64]:
        name = f"{measure}_{content_digest(x)}"
        if name in self.answers[model]:
            return self.answers[model][name]
        found: NDArray[np.float64] | None = self._ask(model, lambda one: getattr(one, measure)(x, y))
        if found is None:
            raise UserError(f"trainer={self.spec}: its models have no {measure}; allowed: attacks that need none")
        return found

    def native(self, model: int) -> Any:
        """The model itself, loaded or trained again."""
        return self._model(model).native

    def _ask(self, k: int, ask: Callable[[UserModel], Any]) -> Any:
        """What `ask` gets of a live model; whatever goes wrong in a user's code is one line."""
        model, job = self._model(k), self.jobs[k]
        with self.program().failures(k, len(job.indices), job.seed):
            return ask(model)

    def _model(self, k: int) -> UserModel:
        """A live model: the latest is kept, others are loaded or trained again."""
        if k not in self._live:
            job, kept, program = self.jobs[k], self.answers[k], self.program()
            how = "loaded again" if "model" in kept else "trained a second time"
            with program.failures(k, len(job.indices), job.seed):
                model = self._loaded(program, kept) if "model" in kept else program.fit(job.indices, job.seed)
                probe = model.outputs(job.data.x[job.indices[:PROBE]])
            if probe.shape != kept["probe"].shape or not np.allclose(probe, kept["probe"], rtol=RTOL, atol=ATOL):
                raise UserError(
                    f"trainer={self.spec}: model {k}, {how} for queries that were not known before training, gives other outputs than "
                    "at first; allowed: a function whose seed decides its result, or a model whose load gives what save kept"
                )
            self._live.clear()
            self._live[k] = model
        return self._live[k]

    @staticmethod
    def _loaded(program: OutsideProgram, kept: Answers) -> UserModel:
        module, name = _facts(kept)["class"]
        owner: Any = sys.modules.get(module) or importlib.import_module(module)
        for part in name.split("."):
            owner = getattr(owner, part)
        with tempfile.TemporaryDirectory(prefix="memberscope-") as folder:
            return program.model(owner.load(str(unpacked(kept["model"], Path(folder)))))


def _facts(answers: Answers) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(answers["facts"]))
    return found
