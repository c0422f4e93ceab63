"""Entry point `sweep`: a grid, or a search of a space, as an Optuna study of full trainings and audits, and its result.

The Optuna study is kept in a storage that outlives the run. If the same sweep is started again, it resumes, or prints its result if it is
complete; if it is started on another machine with the same storage, it takes a share of the trials.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope.audit import artifacts
from memberscope.config import groups
from memberscope.config.shared import BUILT_IN_TRAINER, LEAST_CANARIES
from memberscope.config.training import SweepStudyConfig
from memberscope.cores import cores
from memberscope.datasets import LabeledData
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.plans import keyed
from memberscope.plans.canaries import CanaryRequest
from memberscope.plans.keyed import shown_digest
from memberscope.progress import Progress, Waiting
from memberscope.secret import make_private
from memberscope.studies import setup
from memberscope.studies.data_notes import log_reading, with_reading
from memberscope.studies.recorder import writes_evidence
from memberscope.studies.result import StudyResult
from memberscope.studies.sweep import answer as sweep_answer
from memberscope.studies.sweep import front
from memberscope.studies.sweep.trial import trial_request
from memberscope.studies.sweep.work import ADDRESS, TRAINER, Job, work
from memberscope.studies.trainer_log import log_trainer
from memberscope.sweeps import storage as storages
from memberscope.sweeps.answer import ADVANTAGE
from memberscope.sweeps.cells import Grid
from memberscope.sweeps.data_files import save_data
from memberscope.sweeps.grids import FEWEST, make_grid
from memberscope.sweeps.search import OF_CANARIES, Search, read_objectives
from memberscope.sweeps.silence import errors_alone
from memberscope.sweeps.space import base_cell, check_corners, read_space, space_grid
from memberscope.sweeps.trials import SEED, TrialQueue, trial_key
from memberscope.tracking import Tracker, as_json
from memberscope.training.execution.jobs import run_workers
from memberscope.training.recipe import Recipe
from memberscope.training.trainer import Trainer

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

WORKER = "memberscope.sweep_worker"  # the program of a worker process
SHOWN = 3  # at most this many trials are named in the progress line
ROUNDS = 3  # times that workers are started: the last worker may end just before another gives a trial back to the queue


@writes_evidence("sweep", children=False)
def run(config: SweepStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Run or resume a sweep; `tracker` is the parent run, with a child run for each trial.

    Raises:
        UserError: before any training, for anything that would fail later.
        Interrupted: the run was stopped; finished trials stay in the Optuna study, unfinished ones go back into its queue.
        RuntimeError: some trials failed; the result of the others is logged, and the next start tries the failed ones anew.
    """
    if config.check_seed:
        raise UserError(
            "check_seed=yes: sweep does not train a model twice; allowed: no, or train or shadow with the same trainer"
        )
    trial_request(
        config.attacks, group_scores=config.group_scores
    )  # rejects what a trial could not run; each worker resolves it for itself
    own = setup.trainer_for(config, config) if config.trainer != BUILT_IN_TRAINER else None
    with Waiting(f"sweep: reading {config.dataset} and planning the trials"):
        data = setup.choose_classes(setup.load_data(config), config)
        canaries = setup.canary_request(config, config, data)
        plan = plan_of(data, config, own)
    folder = Path(config.folder)
    if not config.storage:
        make_folder(folder)
    url = storages.storage_url(config.storage, folder)
    space = space_of(plan, data, config, own, canaries)
    name = config.study if config.study != "auto" else study_name(space, config)
    directions = plan.directions if isinstance(plan, Search) else ("minimize",)
    objectives = plan.objectives if isinstance(plan, Search) else (ADVANTAGE,)
    with Waiting(f"sweep: opening the Optuna study {name} in {storages.shown(url, config.storage)}"):
        storage = storages.open_storage(url, heartbeat=config.heartbeat, given=config.storage, check=stop.check)
        study = storages.open_study(storage, name, space, directions=directions, objectives=objectives)
    queue = TrialQueue(study=study, storage=storage)
    try:
        with errors_alone:
            return _resume(plan, queue, url, space, data, canaries, config, tracker, stop)
    finally:
        queue.close()


def _resume(
    plan: Grid | Search, queue: TrialQueue, url: str, space: Mapping[str, Any], data: LabeledData, canaries: CanaryRequest | None,
    config: SweepStudyConfig, tracker: Tracker, stop: StopFlag,
) -> StudyResult:  # fmt: skip
    """Enqueue the trials that are missing, run those that wait, and conclude."""
    name, folder = queue.study.study_name, Path(config.folder)
    seeds = range(config.seed, config.seed + config.seeds)
    with Waiting(f"sweep: queueing the trials of {name}"):
        if isinstance(plan, Search):
            queue.enqueue_points(config.trials)
        else:
            queue.enqueue_cells(plan.settings(), seeds)
    tracker.text(as_json(groups(config)), artifacts.STUDY)
    tracker.text(as_json(space), artifacts.SPACE)
    if config.trainer != BUILT_IN_TRAINER:
        log_trainer(setup.trainer_for(config, config), tracker)
    notes = log_reading(data, tracker)
    tracker.tags({"memberscope.sweep": name, "memberscope.storage": storages.shown(url, config.storage)})
    waiting = len(queue.trials("WAITING", "RUNNING"))
    if waiting:
        job = Job(
            url=url, storage=config.storage, study=name, heartbeat=config.heartbeat,
            data=str(save_data(data, make_folder(folder) / "data")),
            log_models=config.log_models, private=config.private_artifacts, loss_trace=config.loss_trace, trainer=config.trainer,
            params=config.params, recipe=Recipe.of(config, config).to_dict(), canaries=of_job(canaries, folder),
            canary_cost=canaries is not None and config.canary_cost,
        )  # fmt: skip
        train(job, queue, config, tracker, stop)
    with Waiting(f"sweep: drawing conclusions from {name}"):
        settle(queue, tracker, adopt=waiting > 0)
        shown = storages.shown(url, config.storage)
        conclusion = sweep_answer.Conclusion(config=config, queue=queue, name=name, storage=shown, data=data)
        if isinstance(plan, Search):
            return with_reading(front.of_search(conclusion, plan, tracker), notes)
        return with_reading(conclusion.of_grid(plan, seeds, tracker), notes)


def plan_of(data: LabeledData, config: SweepStudyConfig, own: Trainer | None = None) -> Grid | Search:
    """The grid or search that a configuration requests, checked against the data; `own` is a trainer of the user's own."""
    if not config.space:
        return make_grid(config.grid, data, config, own)
    factors = read_space(config.space, own)
    if config.sampler == "grid":
        return space_grid(data, config, factors, own)
    base = base_cell(data, config, own)
    check_corners(data, base, factors, own, reserved=config.reserved)
    if min(base.part.audited_members, base.part.audited_nonmembers) < 2 * FEWEST:
        raise UserError(
            f"members={base.part.members}: a search halves the audited records; allowed: at least {2 * FEWEST} on each side"
        )
    if 0 < config.canaries < 2 * LEAST_CANARIES:
        raise UserError(f"canaries={config.canaries}: a search halves them; allowed: 0, or {2 * LEAST_CANARIES} or more")
    objectives = read_objectives(config.objectives)
    if OF_CANARIES in objectives and not config.canaries:
        raise UserError(
            f"objectives={config.objectives}: {OF_CANARIES} needs canaries; allowed: canaries={2 * LEAST_CANARIES} or more"
        )
    return Search(
        factors=factors, base=base, objectives=objectives, kind=config.sampler, seeds=config.seeds, seed=config.seed
    )  # fmt: skip


def of_job(canaries: CanaryRequest | None, folder: Path) -> dict[str, Any]:
    """The canaries of a worker's job; the records of another data set are prepared beside the sweep's own."""
    if canaries is None:
        return {}
    other = {} if canaries.other is None else {"other": str(save_data(canaries.other, make_folder(folder) / "data"))}
    return {"kind": canaries.kind, "count": canaries.count, "copies": canaries.copies, **other}


def space_of(
    plan: Grid | Search, data: LabeledData, config: SweepStudyConfig, own: Trainer | None = None,
    canaries: CanaryRequest | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Everything that determines a trial's result but its seed; the Optuna study keeps it, and it is compared at the next start.

    It does not include the numbers of seeds and trials: a grid may get more seeds later, and a search more trials. Of a trainer of the
    user's own it includes the source code.
    """
    about: dict[str, Any] = {
        "data": {"name": data.name, "digest": shown_digest(data, data.digest), **keyed.facts(data)},
        "attacks": config.attacks,
    }
    if data.groups is not None:
        digest = hashlib.sha256(data.groups.astype("<i8").tobytes()).hexdigest()
        about["groups"] = {"digest": shown_digest(data, digest), "scores": config.group_scores}
    if canaries is not None:
        other = None if canaries.other is None else shown_digest(canaries.other, canaries.other.digest)
        about["canaries"] = {
            "kind": canaries.kind, "count": canaries.count, "copies": canaries.copies, "other": other, "cost": config.canary_cost,
        }  # fmt: skip
    if own is not None:
        about[TRAINER] = dict(own.signature())
    return {**about, "search": plan.to_dict()} if isinstance(plan, Search) else {**about, "grid": plan.to_dict()}


def study_name(space: Mapping[str, Any], config: SweepStudyConfig) -> str:
    """A name made of the grid or space, the data set and six digits of a digest of its content: only equal sweeps share a name."""
    digest = hashlib.sha256(json.dumps(space, sort_keys=True).encode()).hexdigest()
    topic = config.grid if not config.space else f"{Path(config.space).stem}-{config.sampler}"
    return f"{topic}-{space['data']['name']}-{digest[:6]}"


def make_folder(folder: Path) -> Path:
    """Create the folder if it does not exist, and return it; UserError if that fails."""
    try:
        make_private(folder)
    except OSError as error:
        raise UserError(
            f"folder={folder}: cannot be created ({error.strerror}); allowed: a folder that can be written"
        ) from None
    return folder


def train(job: Job, queue: TrialQueue, config: SweepStudyConfig, tracker: Tracker, stop: StopFlag) -> None:
    """Run the waiting trials: in this process if there is one worker, else in worker processes."""
    open_trials = len(queue.trials("WAITING", "RUNNING"))
    done = len(queue.trials("COMPLETE"))
    workers = min(cores() if config.workers == "auto" else int(config.workers), open_trials)
    with Progress(open_trials, job.study, unit="trial", alive=True) as progress:
        progress.note = f"{workers} workers are starting" if workers > 1 else "training is starting"

        def look(starting: int = 0) -> None:
            nonlocal done
            now = len(queue.trials("COMPLETE"))
            progress.advance(now - done, note=at_work(queue, starting=starting, workers=workers))
            done = now

        if workers == 1:
            work(job, tracker, stop, on_claim=look, on_done=look)
            return
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                run_workers(
                    job_files(job, workers, Path(folder), tracker),
                    stop,
                    module=WORKER,
                    on_poll=look,
                    secrets={ADDRESS: job.url},
                )
            look()
            if not queue.trials("WAITING", "RUNNING"):
                return


def at_work(queue: TrialQueue, *, starting: int, workers: int) -> str:
    """The note beside a sweep's progress: which trials are being trained, and how many workers are still starting."""
    running = [trial_name(trial) for trial in queue.trials("RUNNING")]
    more = f" and {len(running) - SHOWN} more" if len(running) > SHOWN else ""
    training = f"training {', '.join(running[:SHOWN])}{more}" if running else ""
    workers_starting = f"{starting} of {workers} workers {'is' if starting == 1 else 'are'} starting" if starting else ""
    return "; ".join(part for part in (training, workers_starting) if part) or "between trials"


def trial_name(trial: FrozenTrial) -> str:
    """A trial's name: in a grid, cell and seed as in the name of its run; in a search, its number."""
    if SEED not in trial.params:
        return f"trial-{trial.number}"
    cell, seed = trial_key(trial)
    return f"{cell}-s{seed}"


def job_files(job: Job, workers: int, folder: Path, tracker: Tracker) -> list[Path]:
    """Write a file for each worker, which `memberscope.sweep_worker` reads; returns their paths.

    The files have no passwords: the worker gets the storage's address in an environment variable, and inherits the tracking store's.
    """
    files = []
    for worker in range(workers):
        instructions = {
            "job": {**json.loads(job.to_json()), "worker": worker},
            "tracker": tracker.address,
            "parent": os.getpid(),
        }
        files.append(folder / f"worker-{worker}.json")
        files[-1].write_text(json.dumps(instructions))
    return files


def settle(queue: TrialQueue, tracker: Tracker, *, adopt: bool) -> None:
    """Make the status of the runs agree with the Optuna study: the run of a finished trial is FINISHED and, with `adopt`, a child of this
    parent; the runs of attempts that failed or were taken over are KILLED, whatever happened to their processes.
    """
    finished = {trial.user_attrs["run"] for trial in queue.trials("COMPLETE") if "run" in trial.user_attrs}
    for address in finished:
        tracker.settle(address, "FINISHED", adopt=adopt)
    for trial in queue.trials("FAIL"):
        address = trial.user_attrs.get("run")
        if address and address not in finished and "error" not in trial.user_attrs:
            tracker.settle(address, "KILLED")
