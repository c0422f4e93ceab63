"""Trains one job after another in any process, and queries each model at once: only its outputs outlive the process."""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.cores import cores
from memberscope.datasets.labeled import LabeledData
from memberscope.datasets.table import WORD, Table
from memberscope.errors import Interrupted, UserError
from memberscope.plans.split import Index
from memberscope.training.execution.work import JobFailed, Unit
from memberscope.training.outside import estimator
from memberscope.training.outside.answers import BadModel, UserModel, check_scale, form_of
from memberscope.training.outside.source import Source, where_it_failed
from memberscope.training.query import Query, content_digest
from memberscope.training.trainer import Form, TrainingJob

_ONE_AT_A_TIME = threading.Lock()  # the generators that `seeded` sets belong to the process
PROBE = 16  # members whose outputs every model is asked for, by which a second training is recognized as the same
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Environment variables by which BLAS libraries, OpenMP (XGBoost, LightGBM, scikit-learn) and PyTorch take their number of threads."""

Answers = dict[str, NDArray[Any]]
"""What is kept of a model: ``outputs_DIGEST`` for each array of records, likewise ``gradient_norms_`` and ``losses_by_epoch_``;
``curve_NAME``; ``facts`` as JSON; ``probe``; and ``model``, its bytes, if it can be saved."""


@dataclass(frozen=True, kw_only=True)
class OutsideSpec:
    """A fleet's training without its records; see `memberscope.training.execution.work.Spec`.

    Attributes:
        source: the function or class.
        params: the parameters as JSON.
        frames: whether it takes frames.
        queries: what each model is asked after its training.
        devices: accelerators that the workers get in turn.
        name, class_names, table: of the data set.
    """

    source: Source
    params: str
    frames: bool
    queries: tuple[Query, ...]
    devices: tuple[str, ...]
    name: str
    class_names: tuple[str, ...]
    table: Table | None

    def work(self, x: NDArray[Any], y: NDArray[np.int64]) -> OutsideWork:
        """See `memberscope.training.execution.work.Spec.work`."""
        return OutsideWork(spec=self, x=x, y=y)

    def environment(self, workers: int) -> Mapping[str, str]:
        """See `memberscope.training.execution.work.Spec.environment`: the cores are divided among the workers' threads; a lower limit that
        this process has, such as that of a sweep's worker, is kept.
        """
        share = max(1, cores() // workers)
        return {name: str(min(share, _limit(name) or share)) for name in THREADS}

    def begin_worker(self, place: int) -> None:
        """See `memberscope.training.execution.work.Spec.begin_worker`: the worker gets its accelerator."""
        if self.devices and place >= 0:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.devices[place % len(self.devices)]


@dataclass(frozen=True, kw_only=True, eq=False)
class OutsideWork:
    """A fleet's training with its records."""

    spec: OutsideSpec
    x: NDArray[Any]
    y: NDArray[np.int64]

    def shared(self) -> LabeledData:
        """The records as the data set that jobs get."""
        spec = self.spec
        return LabeledData(name=spec.name, x=self.x, y=self.y, class_names=spec.class_names, source="", table=spec.table)

    def program(self, models: int, shared: LabeledData) -> OutsideProgram:
        """A program that trains units of one model."""
        return OutsideProgram(self.spec, shared)


class OutsideProgram:
    """Trains units of one model each."""

    def __init__(self, spec: OutsideSpec, data: LabeledData) -> None:
        """Load the function or class."""
        self._spec, self._data = spec, data
        self._trainer = spec.source.load()
        self._digests: dict[tuple[int, int], str] = {}

    def train(self, unit: Unit, between_steps: Callable[[int], None]) -> list[Answers]:
        """Train a model and query it.

        Raises:
            JobFailed: the function failed, or what it returned cannot be used; the message names the job, the line and its message.
        """
        (position,), (index,), (seed,) = unit.positions, unit.members, unit.seeds
        curves: list[Mapping[str, float]] = []

        def on_report(values: Mapping[str, float]) -> None:
            between_steps(0)
            curves.append(dict(values))

        with _ONE_AT_A_TIME, self.failures(position, len(index), seed):  # a worker of a cluster may have several threads
            model = self.fit(index, seed, on_report)
            answers = self._answers(model, position, index, between_steps)
        answers |= {f"curve_{name}": values for name, values in _curves(curves).items()}
        del model
        gc.collect()  # a model may hold gigabytes in cycles of references
        between_steps(1)
        return [answers]

    def fit(self, index: Index, seed: int, on_report: Callable[[Mapping[str, float]], None] = lambda values: None) -> UserModel:
        """Train a model and return it."""
        spec = self._spec
        job = TrainingJob(
            data=self._data, indices=index, seed=seed, params=json.loads(spec.params), frames=spec.frames, on_report=on_report
        )
        with seeded(seed):
            if estimator.is_estimator(self._trainer):
                native: Any = estimator.train(self._trainer, job)
            else:
                native = self._trainer(job, **_keywords(self._trainer, job.params))
        return self.model(native)

    def model(self, native: Any) -> UserModel:
        """What a training function returned as a model; BadModel if it cannot answer queries."""
        spec = self._spec
        model = UserModel(native=native, classes=len(spec.class_names), table=spec.table, frames=spec.frames)
        model.check()
        return model

    def _answers(self, model: UserModel, position: int, index: Index, between_steps: Callable[[int], None]) -> Answers:
        found: Answers = {"probe": model.outputs(self._data.x[index[:PROBE]])}
        lacking: set[str] = set()  # what the model does not offer
        for number, query in enumerate(self._spec.queries):
            if not query.concerns(position):
                continue
            for copy, x in enumerate(query.arrays(self._data.x)):
                name = self._digest(number, copy, x)
                if f"outputs_{name}" not in found and "outputs" in query.measures:
                    found[f"outputs_{name}"] = model.outputs(x, lambda: between_steps(0))
                for measure in ("gradient_norms", "losses_by_epoch"):
                    if measure in query.measures:
                        values = getattr(model, measure)(x, self._data.y[query.index])
                        if values is not None:
                            found[f"{measure}_{name}"] = values
                        else:
                            lacking.add(f"{measure}_{name}")
        asked = sorted({*found} - {"probe"} | lacking)
        forms = {
            form_of(model.method, array) for name, array in found.items() if name == "probe" or name.startswith("outputs_")
        }
        form: Form = "logits" if "logits" in forms else "probs"
        check_scale(form, model.method, [array for name, array in found.items() if name.startswith("outputs_")])
        kind = type(model.native)
        facts = {
            "form": form,
            "class": [kind.__module__, kind.__qualname__],
            "asked": asked,
        }
        saved = model.saved()
        if saved is not None:
            found["model"] = saved
        return found | {"facts": np.array(json.dumps(facts))}

    def _digest(self, query: int, copy: int, x: NDArray[Any]) -> str:
        """See `content_digest`; each array of a query is read once, for all models."""
        if (query, copy) not in self._digests:
            self._digests[query, copy] = content_digest(x)
        return self._digests[query, copy]

    @contextlib.contextmanager
    def failures(self, position: int, members: int, seed: int) -> Iterator[None]:
        """Turn whatever goes wrong in a user's code into one line."""
        try:
            yield
        except (Interrupted, JobFailed):
            raise
        except BaseException as error:  # SystemExit and KeyboardInterrupt of a user's code included: Ctrl-C goes to the parent
            if isinstance(error, BadModel | UserError):
                why = f"it {error}" if isinstance(error, BadModel) else str(error)
            else:
                why = where_it_failed(error, self._spec.source).rstrip(".") + self._about_words(error)
            raise JobFailed(
                f"trainer={self._spec.source.spec}: model {position} (seed {seed}, {members} members) failed: {why}"
            ) from None

    def _about_words(self, error: BaseException) -> str:
        """Why a class may have refused a table with words; empty for a user's own function, whose author sees the frame."""
        table = self._spec.table
        if not (estimator.is_estimator(self._trainer) and isinstance(error, ValueError | TypeError) and table and table.words):
            return ""
        words = [column.name for column in table.columns if column.kind == WORD]
        named = ", ".join(words[:3]) + ", ..." * (len(words) > 3)
        return f"; {len(words)} of the columns hold words ({named}), which many classes do not take"


def asked_of(answers: Mapping[str, NDArray[Any]]) -> set[str]:
    """The names of all outputs that were requested from a kept model, including those that it does not offer."""
    try:
        return set(json.loads(str(answers["facts"]))["asked"])
    except (KeyError, ValueError, TypeError):
        return set()


def _limit(name: str) -> int:
    """The number of threads that an environment variable sets; 0 if it sets none."""
    text = os.environ.get(name, "").strip()
    return int(text) if text.isdecimal() else 0


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and, if it is loaded, PyTorch, for code that draws from them; restored afterwards."""
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002, a user's code may use it
    torch: Any = sys.modules.get("torch")
    torch_before = torch.random.get_rng_state() if torch is not None else None
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002, as above
    if torch is not None:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002, as above
        if torch_before is not None:
            torch.random.set_rng_state(torch_before)


def _keywords(function: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a function declares as arguments after the job; any others it finds in ``job.params``."""
    arguments = list(inspect.signature(function).parameters.values())[1:]
    if any(item.kind is item.VAR_KEYWORD for item in arguments):
        return dict(params)
    return {item.name: params[item.name] for item in arguments if item.name in params}


def _curves(reports: list[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    """The values that all reports have in common, by name."""
    names = set.intersection(*(set(report) for report in reports)) if reports else set()
    return {name: np.array([report[name] for report in reports], dtype=np.float64) for name in sorted(names)}
