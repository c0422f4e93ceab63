"""A worker of a sweep: it claims trials, runs them and completes each with its metrics, until none is waiting or running."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from memberscope.addresses import in_use
from memberscope.config.shared import BUILT_IN_TRAINER
from memberscope.datasets import LabeledData
from memberscope.errors import Interrupted, UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import logged
from memberscope.outages import Unreachable, nothing
from memberscope.plans.canaries import CanaryRequest
from memberscope.redact import redact
from memberscope.studies import setup
from memberscope.studies.logged_model import why_no_model
from memberscope.studies.model_page import with_finding
from memberscope.studies.sweep.trial import Outcome, log_outcome, run_cell, together, trial_request, without_digits
from memberscope.sweeps import storage as storages
from memberscope.sweeps.answer import ADVANTAGE
from memberscope.sweeps.cells import Cell, Grid
from memberscope.sweeps.data_files import load_data
from memberscope.sweeps.search import Search
from memberscope.sweeps.silence import errors_alone
from memberscope.sweeps.trials import RUN, Claim, SignsOfLife, TrialQueue, claim_key, trial_key
from memberscope.tracking import Tracker
from memberscope.training import registry
from memberscope.training.recipe import Recipe
from memberscope.training.trainer import Trainer

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

TRAINER = "trainer"  # what decides the results of a user's own trainer, in the space that an Optuna study keeps
ADDRESS = "MEMBERSCOPE_SWEEP_STORAGE"  # the environment variable in which a worker process gets the address of the storage
POLL_SECONDS = 0.5
MOST_TOGETHER = 8  # most seeds of one cell that are trained in one program


class TakenOver(Interrupted):
    """Another worker took over this trial since our heartbeats stopped; its metrics count, and our run ends KILLED."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The instructions of a worker.

    Attributes:
        url, study, heartbeat: the storage, its Optuna study (which keeps the grid or search), and its heartbeat in seconds.
        storage: the option that named the storage.
        data: folder of the prepared records.
        log_models: whether models are logged in their runs.
        private: whether nothing is logged of single records.
        loss_trace: whether loss traces are collected.
        worker: the number of the worker, from 0.
        trainer, params: the trainer, and the parameters of a user's own, as the options name them.
        recipe: the options of architecture and training, which a user's own Keras models are trained with.
        canaries: kind, count and copies of the canaries, and as ``other`` the folder of the prepared records of another data set; empty for
            none.
        canary_cost: whether each model is trained without its canaries too.
    """

    url: str
    study: str
    heartbeat: int
    data: str
    log_models: bool = True
    private: bool = False
    loss_trace: bool = False
    worker: int = 0
    trainer: str = BUILT_IN_TRAINER
    params: str = ""
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    storage: str = ""
    canaries: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    canary_cost: bool = False

    def to_json(self) -> str:
        """The job as JSON, without the passwords of its addresses."""
        shown = {"url": storages.shown(self.url, self.storage), "storage": redact(self.storage)}
        return json.dumps({**dataclasses.asdict(self), **shown})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the output of `to_json`."""
        return cls(**json.loads(text))


def open_queue(job: Job, *, check: Callable[[], None] = nothing) -> tuple[TrialQueue, Mapping[str, Any]]:
    """The job's Optuna study, and its space; `check` is called while the storage is waited for."""
    storage = storages.open_storage(job.url, heartbeat=job.heartbeat, given=job.storage, check=check)
    queue = TrialQueue(study=storages.load_study(storage, job.study), storage=storage)
    space = json.loads(queue.study.user_attrs[storages.SPACE])
    if "search" in space:
        sampler = Search.from_dict(space["search"]).sampler(worker=job.worker, done=len(queue.trials("COMPLETE", "FAIL")))
        queue = TrialQueue(study=storages.load_study(storage, job.study, sampler=sampler), storage=storage)
    return queue, space


def work(
    job: Job, tracker: Tracker, stop: StopFlag, *, watch: Callable[[], None] = lambda: None,
    on_ready: Callable[[], None] = lambda: None, on_claim: Callable[[], None] = lambda: None,
    on_done: Callable[[], None] = lambda: None,
) -> int:  # fmt: skip
    """Run trials until none is waiting or running; returns the number of trials completed by this worker.

    Args:
        job: the worker's instructions.
        tracker: the parent run; every trial is a child run.
        stop: checked between steps; once it is set, claimed trials go back into the queue.
        watch: called with every heartbeat.
        on_ready: called once everything is loaded, before the first trial is claimed.
        on_claim: called once trials are claimed, before they are trained.
        on_done: called after every trial.

    Raises:
        Interrupted: `stop` was set.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each model is retraced
    queue, space = open_queue(job, check=stop.check)
    try:
        with errors_alone:
            return _until_done(job, queue, space, tracker, stop, watch, on_ready, on_claim, on_done)
    finally:
        queue.close()


def _until_done(
    job: Job, queue: TrialQueue, space: Mapping[str, Any], tracker: Tracker, stop: StopFlag, watch: Callable[[], None],
    on_ready: Callable[[], None], on_claim: Callable[[], None], on_done: Callable[[], None],
) -> int:  # fmt: skip
    data = load_data(Path(job.data))
    worker = _Worker(job, queue, space, data, tracker, stop)
    done = 0
    on_ready()
    while True:
        stop.check()
        queue.revive()
        claims = queue.claim(most=MOST_TOGETHER, like=worker.alike)
        if not claims:
            if not queue.trials("RUNNING", "WAITING"):
                return done
            time.sleep(POLL_SECONDS)
            continue
        on_claim()
        with SignsOfLife(queue, claims, every=job.heartbeat, watch=watch):
            for closed in worker.run(claims, watch):
                done += closed
                on_done()


def trainer_of(job: Job, space: Mapping[str, Any]) -> Trainer:
    """The trainer of the job's trials.

    Raises:
        UserError: the user's own trainer is absent or has changed since the sweep was begun.
    """
    if job.trainer == BUILT_IN_TRAINER:
        return setup.trainer_of(Recipe())
    recipe = Recipe(**{**job.recipe, "widths": tuple(job.recipe.get("widths", ()))})
    trainer = registry.make(job.trainer, recipe, job.params)
    here = json.loads(json.dumps(dict(trainer.signature())))
    if here != space.get(TRAINER):
        raise UserError(
            f"trainer={job.trainer}: it has changed since the sweep was started ({storages.difference(space.get(TRAINER), here)}); "
            "allowed: the trainer as it was, or a new start of the sweep"
        )
    return trainer


def canaries_of(job: Job) -> CanaryRequest | None:
    """The canaries of the job's trials; None for none."""
    if not job.canaries:
        return None
    given = dict(job.canaries)
    other = given.pop("other", "")
    return CanaryRequest(**given, other=load_data(Path(other)) if other else None)


class _Worker:
    """The state that all trials of a worker share."""

    def __init__(
        self, job: Job, queue: TrialQueue, space: Mapping[str, Any], data: LabeledData, tracker: Tracker, stop: StopFlag
    ) -> None:  # fmt: skip
        self.job, self.queue, self.data, self.tracker, self.stop = job, queue, data, tracker, stop
        self.trainer = trainer_of(job, space)
        self.attacks: str = space["attacks"]
        self.request = trial_request(self.attacks, group_scores=space.get("groups", {}).get("scores", "mean"))
        self.canaries = canaries_of(job)
        self.grid = Grid.from_dict(space["grid"]) if "grid" in space else None
        self.search = Search.from_dict(space["search"]) if "search" in space else None

    def alike(self, first: FrozenTrial, other: FrozenTrial) -> bool:
        """Whether two waiting trials are seeds of one cell that can be trained together."""
        return (
            self.grid is not None
            and not self.job.loss_trace
            and trial_key(first)[0] == trial_key(other)[0]
            and together(self.grid.cells[trial_key(first)[0]])
        )

    def run(self, claims: Sequence[Claim], watch: Callable[[], None] = lambda: None) -> Iterator[bool]:
        """Run one claim after the other; yields for each whether it was completed.

        If a trial fails, the reason is printed to stderr and kept in the Optuna study, and the others continue. Before that, `watch` is
        called: where it asks to stop, the trial goes back into the queue.
        """
        waiting = list(claims)
        outcomes: Iterator[list[Outcome]] | None = None
        while waiting:
            claim = waiting[0]
            try:
                if claim.attrs.get(RUN):  # an earlier attempt, whose worker died or was stopped
                    self.tracker.settle(str(claim.attrs[RUN]), "KILLED")
                if self.search is not None:
                    self._point(claim, self.search)
                else:
                    outcomes = outcomes or self._cell(waiting)
                    self._seed(claim, outcomes)
                yield True
            except TakenOver:
                yield False
            except (Interrupted, KeyboardInterrupt):
                self.queue.give_back(waiting)
                raise
            except Unreachable:  # nothing can be said about the trial; another start takes it up
                raise
            except Exception as error:
                watch()  # if our parent is gone, so are those who read what a trainer prints: a broken pipe
                if (
                    self.stop.left or self.stop.requested
                ):  # a library left in its midst, or such a pipe: the trial has not failed
                    self.queue.give_back(waiting)
                    raise self.stop.interrupted() from error
                said = redact(" ".join(str(error).split()), about=[self.job.url, *in_use(())])
                reason = redact(f"{type(error).__name__}: {said}")[:500]
                self.queue.fail(claim, reason)
                print(f"memberscope: trial {claim.number} failed: {reason}", file=sys.stderr, flush=True)
                outcomes = None  # the shared training may have failed: the others are trained anew
                yield False
            del waiting[0]

    def _cell(self, claims: Sequence[Claim]) -> Iterator[list[Outcome]]:
        """The outcomes of claims of one cell, in their order; a model is trained when its outcome is requested."""
        assert self.grid is not None
        cell = self.grid.cells[claim_key(claims[0])[0]]
        of_claims = [claim_key(claim)[1] for claim in claims]
        for outcome in self._outcomes(cell, of_claims, tuning=False):
            yield [outcome]

    def _outcomes(self, cell: Cell, of: Sequence[int], *, tuning: bool) -> Iterator[Outcome]:
        return run_cell(
            self.data, self.trainer, cell, of, request=self.request, tuning=tuning, stop=self.stop, traced=self.job.loss_trace,
            canaries=self.canaries, cost=self.job.canary_cost,
        )  # fmt: skip

    def _seed(self, claim: Claim, outcomes: Iterator[list[Outcome]]) -> None:
        """Run a trial of a grid."""
        assert self.grid is not None
        name, seed = claim_key(claim)
        serves = [
            f"{item.control}={level.value}" for item in self.grid.comparisons for level in item.levels if name in level.cells
        ]
        listed = ", ".join(serves[:40])
        tags = {"memberscope.setting": name, "memberscope.seed": str(seed), "memberscope.serves": listed}
        about = f"Trial {claim.number} of the Optuna study `{self.job.study}`: cell `{name}`, seed {seed}. Serves in {listed}."
        self._trial(claim, f"{name}-s{seed}", self.grid.cells[name], outcomes, tags, about)

    def _point(self, claim: Claim, search: Search) -> None:
        """Run a trial of a search: a point, trained for every seed."""
        values = search.ask(self.queue.sample(claim))
        cell, of_point = search.cell(values), range(search.seed, search.seed + search.seeds)
        text = ", ".join(f"{key}={value}" for key, value in values.items())
        about = (
            f"Trial {claim.number} of the Optuna study `{self.job.study}`: {text}. Metrics are means over {search.seeds} seeds."
        )

        def outcomes() -> Iterator[list[Outcome]]:
            yield list(self._outcomes(cell, of_point, tuning=True))

        self._trial(claim, f"trial-{claim.number}", cell, outcomes(), {"memberscope.point": text}, about)

    def _trial(
        self, claim: Claim, name: str, cell: Cell, outcomes: Iterator[list[Outcome]], tags: Mapping[str, str], about: str
    ) -> None:  # fmt: skip
        """Train, audit and log. The trial is completed before its run ends FINISHED, so that no trial has two FINISHED runs."""
        if self.job.log_models and (missing := why_no_model(self.trainer, self.tracker)):
            about += f"\n\n{missing}"
        tags = {**tags, "memberscope.sweep": self.job.study, "memberscope.trial": str(claim.number)}
        with self.tracker.child(name, tags=tags, description=about) as child:
            self.queue.note(claim, **{RUN: child.address})
            found = next(outcomes)
            if self.job.private:
                found = [without_digits(one) for one in found]
            start = time.perf_counter()
            log_outcome(
                found[0], cell, name, child, attacks=self.attacks, log_model=self.job.log_models, private=self.job.private
            )
            figures = mean_figures(found)
            if len(found) > 1:
                for key, value in figures.items():
                    child.metrics(logged(f"mean_{key}", "", value), step=int(found[0].history[-1]["epoch"]))
            child.describe(with_finding(found[0].report, about))
            seconds = {"train": sum(one.seconds for one in found), "track": time.perf_counter() - start}
            child.metrics({f"seconds/{key}": value for key, value in seconds.items()})
            result = {"figures": figures, "history": [dict(row) for row in found[0].history], "seconds": seconds}
            values = [figures[ADVANTAGE]] if self.search is None else self.search.values(figures)
            if not self.queue.complete(claim, result, values):
                raise TakenOver(f"trial {claim.number} was taken over by another worker")


def mean_figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Each metric's mean over the outcomes that have it."""
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.figures)
    found = {}
    for name in names:
        values = [outcome.figures[name] for outcome in outcomes if name in outcome.figures]
        found[name] = sum(values) / len(values)
    return found
