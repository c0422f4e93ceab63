"""A user's own training: a function of a job, or a class with scikit-learn's interface, as a trainer of every study."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError, nearest
from memberscope.plans.split import Index
from memberscope.training.execution.run import execute
from memberscope.training.execution.work import Unit
from memberscope.training.outside import estimator
from memberscope.training.outside.fleet import OutsideFleet
from memberscope.training.outside.params import logged
from memberscope.training.outside.program import Answers, OutsideSpec, asked_of
from memberscope.training.outside.source import Source, find_source
from memberscope.training.query import Query, content_digest
from memberscope.training.store import digest
from memberscope.training.trainer import DataFacts, Execution, Fleet, Outputs, Trainer, Training, TrainingJob

FORMAT = 1  # of stored answers; to be raised when a change of this package gives other bytes for the same facts
GENERIC = ("train", "fit", "main", "make", "build", "build_model", "make_model", "model", "create_model")
"""Names of functions that say nothing, so that the file's name is shown instead."""
SIGNATURE = "a function of one argument, the job; further arguments are keyword parameters with defaults"


@dataclass(frozen=True, kw_only=True)
class OutsideTrainer:
    """See `memberscope.training.trainer.Trainer`.

    Attributes:
        source: the function or class.
        params: its parameters, apart from those that keep their defaults.
    """

    source: Source
    params: Mapping[str, Any]
    capabilities: frozenset[str] = frozenset()
    framework: str = ""

    @property
    def spec(self) -> str:
        """As the user named it."""
        return self.source.spec

    @property
    def name(self) -> str:
        """The class or function, or its file where the function has a name such as ``train``."""
        return short_name(self.spec)

    def with_params(self, **changes: Any) -> Self:
        """See `Trainer.with_params`; a function that declares no parameters takes any."""
        thing = self.source.load()
        known = declared_params(thing) or ()
        for name in changes:
            if _refuses(thing, name):
                allowed = ", ".join(known) or "none"
                raise UserError(f"{name}: no parameter of {self.name}; allowed: {allowed}{nearest(name, known)}")
        return dataclasses.replace(self, params={**self.params, **changes})

    def check(self, data: DataFacts) -> None:
        """See `Trainer.check`: the function or class must be one that can be called, with the parameters that it declares."""
        check_interface(self.spec, self.source.load(), self.params)

    def signature(self) -> Mapping[str, object]:
        """See `Trainer.signature`: the source of the function and of the local modules it imports, parameters and versions."""
        return {"trainer": self.source.facts(), "params": dict(self.params), "answers": FORMAT}

    def describe(self) -> Mapping[str, int | float | str]:
        """See `Trainer.describe`."""
        return logged(self.name, self.params)

    def sources(self) -> Mapping[str, str]:
        """The text of each local file by its path, for the run's artifacts."""
        return dict(self.source.files)

    def prepare_process(self) -> None:
        """See `Trainer.prepare_process`."""

    def train(self, jobs: Sequence[TrainingJob], run: Execution) -> OutsideFleet:
        """See `Trainer.train`; the jobs share one data set."""
        if not jobs:
            raise UserError("shadows=0: no model to train; allowed: 1 or more")
        run.stop.check()
        data = jobs[0].data
        self.check(DataFacts(shape=data.shape, classes=data.classes))
        spec = self._spec(data, run)
        units = [Unit(positions=(k,), members=(job.indices,), seeds=(job.seed,), steps=1) for k, job in enumerate(jobs)]
        wanted = _wanted(data, run.queries)

        def from_arrays(position: int, arrays: Mapping[str, NDArray[Any]]) -> Answers | None:
            """None for a kept model that was not asked what is wanted now."""
            asked = asked_of(arrays)
            return dict(arrays) if all(asked >= names for query, names in wanted if query.concerns(position)) else None

        answers, reused = execute(
            spec.work(data.x, data.y), units, run, threads=0, common=self._common(data),
            each=[{"members": digest(job.indices.astype("<i8")), "seed": job.seed} for job in jobs],
            to_arrays=dict, from_arrays=from_arrays,
        )  # fmt: skip

        def program() -> Any:
            work = spec.work(data.x, data.y)
            return work.program(1, work.shared())

        fleet = OutsideFleet(
            spec=self.spec, answers=answers, jobs=list(jobs), program=program, reused=reused, trained=len(jobs) - reused
        )  # fmt: skip
        _ = fleet.form  # raises where models differ in it
        return fleet

    def _spec(self, data: LabeledData, run: Execution) -> OutsideSpec:
        return OutsideSpec(
            source=self.source, params=json.dumps(dict(self.params), sort_keys=True), frames=self._frames(data), queries=run.queries,
            devices=run.devices, name=data.name, class_names=data.class_names, table=data.table,
        )  # fmt: skip

    def _frames(self, data: LabeledData) -> bool:
        """Whether models take frames: where a table has words, or the function has the attribute ``frames``."""
        return data.table is not None and bool(getattr(self.source.load(), "frames", data.table.words))

    def _common(self, data: LabeledData) -> dict[str, Any]:
        return {
            "data": data.digest, "input_shape": list(data.shape), "classes": data.classes, "frames": self._frames(data),
            "table": data.table.to_dict() if data.table is not None else None, **self.signature(),
        }  # fmt: skip

    def variants(self, data: DataFacts) -> Sequence[tuple[str, Trainer]]:
        """See `Trainer.variants`: none, because what a parameter means is not known."""
        return []

    def begin(self, job: TrainingJob, *, start: tuple[Fleet, int] | None = None) -> Training:
        """Not offered."""
        raise NotImplementedError

    def fleet_of(self, trainings: Sequence[Training]) -> Fleet:
        """Not offered."""
        raise NotImplementedError

    def distill(
        self, data: LabeledData, *, transfer: Index, teacher: Outputs, watched: Index, epochs: int, seed: int,
        between_epochs: Callable[[], None] = lambda: None,
    ) -> NDArray[np.float64]:  # fmt: skip
        """Not offered."""
        raise NotImplementedError


def short_name(spec: str) -> str:
    """The class or function that a value such as ``train.py:train`` names, or its file where the name says nothing."""
    place, _, name = spec.rpartition(":")
    file = place.replace("\\", "/").rpartition("/")[2].rpartition(":")[2].removesuffix(".py")
    return file.rpartition(".")[2] if name in GENERIC else name


def outside_trainer(spec: str, params: Mapping[str, Any]) -> OutsideTrainer:
    """The trainer that a value such as ``train.py:train`` names, with its interface and parameters checked.

    Raises:
        UserError: no such file, module or name; it cannot be imported; another signature; a parameter that it does not know.
    """
    trainer = OutsideTrainer(source=find_source(spec), params=dict(params))
    check_interface(spec, trainer.source.load(), params)
    return trainer


def declared_params(thing: Any) -> tuple[str, ...] | None:
    """The names of the parameters that a function declares as keywords, or a class knows; None if it declares none and takes any."""
    if estimator.is_estimator(thing):
        return estimator.known_params(thing)
    _, further = _arguments(thing)
    if any(item.kind is item.VAR_KEYWORD for item in further):
        return None
    return tuple(item.name for item in further) or None


def _refuses(thing: Any, name: str) -> bool:
    """Whether a function or class does not take a parameter."""
    if estimator.is_estimator(thing):
        return estimator.refuses(thing, name)
    known = declared_params(thing)
    return known is not None and name not in known


def default_params(thing: Any) -> dict[str, Any]:
    """The values of the parameters that are not set, as far as a function or class declares them."""
    if not estimator.is_estimator(thing):
        return {item.name: item.default for item in _arguments(thing)[1] if item.default is not item.empty}
    try:
        return dict(thing().get_params())
    except Exception:  # a class that needs arguments, or has no such method
        return {}


def check_interface(spec: str, thing: Any, params: Mapping[str, Any]) -> None:
    """Raise UserError for what is neither a training function nor an estimator's class, or does not know a parameter."""
    if estimator.is_estimator(thing):
        estimator.check_estimator(spec, thing, params)
        return
    if inspect.isclass(thing) or not callable(thing):
        kind = f"the class {thing.__name__}, which has no fit" if inspect.isclass(thing) else type(thing).__name__
        raise UserError(f"trainer={spec}: is {kind}; allowed: {SIGNATURE}, or a class with fit and predict_proba")
    first, further = _arguments(thing)
    needed = [item.name for item in further if item.default is item.empty and item.kind is not item.VAR_KEYWORD]
    if first is None or [name for name in needed if name not in params]:
        raise UserError(f"trainer={spec}: its arguments are {inspect.signature(thing)}; allowed: {SIGNATURE}")
    known = declared_params(thing) or ()
    for name in params:
        if _refuses(thing, name):
            raise UserError(f"params: {name} is not a parameter of {spec}; allowed: {', '.join(known)}{nearest(name, known)}")


def _arguments(thing: Any) -> tuple[inspect.Parameter | None, list[inspect.Parameter]]:
    """The argument that takes the job, None if there is none, and the others, apart from ``*args``."""
    try:
        found = list(inspect.signature(thing).parameters.values())
    except (TypeError, ValueError):
        return None, []
    place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    if not found or found[0].kind not in place:
        return None, found
    return found[0], [item for item in found[1:] if item.kind is not item.VAR_POSITIONAL]


def _wanted(data: LabeledData, queries: Sequence[Query]) -> list[tuple[Query, set[str]]]:
    """For each query the names of the answers to it."""
    return [
        (query, {f"{measure}_{content_digest(x)}" for x in query.arrays(data.x) for measure in query.measures})
        for query in queries
    ]
