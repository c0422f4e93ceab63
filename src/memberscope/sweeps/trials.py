"""An Optuna study as a queue of trials, which are claimed and closed such that none is lost and none is done twice.

A trial's state changes in one transaction of the storage. Claiming is the change from waiting to running, which only one worker wins. A
worker records heartbeats for its claimed trials; if they stop, any other worker fails the trial and puts a copy of it into the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memberscope.background import Background
from memberscope.redact import redact_values
from memberscope.sweeps.cells import SettingValue
from memberscope.sweeps.silence import quiet

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

    from memberscope.sweeps.patient import PatientStorage

RUN, RESULT, ERROR = "run", "result", "error"  # attributes of a trial: the address of its run, its metrics, its error
CELL, SEED = "cell", "seed"
OPEN = ("COMPLETE", "RUNNING", "WAITING")
MOST_SEEDS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A trial that this worker runs: its `number` in the study, its `id` in the storage, its parameters and attributes when claimed."""

    number: int
    id: int
    params: Mapping[str, Any]
    attrs: Mapping[str, Any]


def trial_key(trial: FrozenTrial) -> tuple[str, int]:
    """The cell and seed of a grid's trial."""
    return _key(trial.params, trial.user_attrs)


def claim_key(claim: Claim) -> tuple[str, int]:
    """The cell and seed of a claimed trial of a grid."""
    return _key(claim.params, claim.attrs)


def _key(params: Mapping[str, Any], attrs: Mapping[str, Any]) -> tuple[str, int]:
    """The cell's name is an attribute; in studies of older versions, whose parameters are not the cell's values, it is a parameter."""
    return str(attrs[CELL] if CELL in attrs else params[CELL]), int(params[SEED])


def distributions_of(settings: Mapping[str, Mapping[str, SettingValue]]) -> dict[str, Any]:
    """Optuna's distribution of each setting: the range of its numbers, or the list of its words."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for name in next(iter(settings.values())):
        values = [of_cell[name] for of_cell in settings.values()]
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) < len(values):
            found[name] = CategoricalDistribution(tuple(dict.fromkeys(values)))
        elif all(isinstance(value, int) for value in numbers):
            found[name] = IntDistribution(int(min(numbers)), int(max(numbers)))
        else:
            found[name] = FloatDistribution(float(min(numbers)), float(max(numbers)))
    return found


@dataclass(frozen=True, kw_only=True)
class TrialQueue:
    """An Optuna study and its storage."""

    study: Study
    storage: PatientStorage

    def close(self) -> None:
        """Close the storage's connections."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def trials(self, *states: str) -> list[FrozenTrial]:
        """Trials in some states (``COMPLETE``, ``RUNNING``, ``WAITING``, ``FAIL``), by number; all trials if no state is given."""
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=tuple(TrialState[state] for state in states) or None)

    def enqueue_cells(self, settings: Mapping[str, Mapping[str, SettingValue]], seeds: Iterable[int]) -> int:
        """Put every (cell, seed) that is not done, running or waiting into the queue, ordered by cell and seed; returns their number.

        A trial's parameters are the cell's settings and the seed, so that Optuna's own tables and plots show them.

        Args:
            settings: the settings of all cells of the grid, by name and in the order of the grid; see `Grid.settings`.
            seeds: the seeds of every cell.
        """
        from optuna.distributions import IntDistribution

        there = {trial_key(trial) for trial in self.trials(*OPEN)}
        distributions = {**distributions_of(settings), SEED: IntDistribution(0, MOST_SEEDS)}
        wanted = [(cell, seed) for cell in settings for seed in seeds]
        missing = [key for key in wanted if key not in there]
        for cell, seed in missing:
            self._add_waiting({**settings[cell], SEED: seed}, distributions, {CELL: cell})
        return len(missing)

    def enqueue_points(self, count: int) -> int:
        """Put points, to be sampled later, into the queue until `count` are done, running or waiting; returns the number added."""
        missing = max(0, count - len(self.trials(*OPEN)))
        for _ in range(missing):
            self._add_waiting({}, {})
        return missing

    def _add_waiting(
        self, params: Mapping[str, Any], distributions: Mapping[str, Any], attrs: Mapping[str, Any] | None = None
    ) -> None:
        import optuna

        self.study.add_trial(
            optuna.create_trial(
                state=optuna.trial.TrialState.WAITING, params=dict(params), distributions=dict(distributions),
                user_attrs=dict(attrs or {}),
            )
        )  # fmt: skip

    def revive(self) -> None:
        """Fail the trials whose heartbeats have stopped, and put copies of them into the queue."""
        import optuna

        with quiet:
            optuna.storages.fail_stale_trials(self.study)

    def claim(
        self, *, most: int = 1, like: Callable[[FrozenTrial, FrozenTrial], bool] = lambda first, other: False
    ) -> list[Claim]:
        """Claim the first waiting trial and up to `most` - 1 further ones that are `like` it; empty if no trial is waiting.

        The heartbeat is recorded before the claim: if a worker dies between the two, the trial stays waiting instead of running for ever.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        claims: list[Claim] = []
        first: FrozenTrial | None = None
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        for trial in self.trials("WAITING"):
            if first is not None and not like(first, trial):
                continue
            trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
            self.storage.record_heartbeat(trial_id)
            try:
                won = self.storage.set_trial_state_values(trial_id, state=TrialState.RUNNING)
            except UpdateFinishedTrialError:
                won = False
            if won:
                first = first or trial
                claims.append(Claim(number=trial.number, id=trial_id, params=trial.params, attrs=trial.user_attrs))
            if len(claims) == most:
                break
        return claims

    def sample(self, claim: Claim) -> Trial:
        """A claimed point as Optuna's `Trial`, from which values are sampled."""
        import optuna

        return optuna.trial.Trial(self.study, claim.id)

    def note(self, claim: Claim, **attrs: Any) -> None:
        """Set attributes of a claimed trial, without passwords; its copy keeps them if another worker takes it over."""
        for name, value in attrs.items():
            self.storage.set_trial_user_attr(claim.id, name, redact_values(value))

    def complete(self, claim: Claim, result: Mapping[str, Any], values: Sequence[float]) -> bool:
        """Close a claimed trial with its metrics; False if another worker has taken it over, whose metrics will count."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self.note(claim, **{RESULT: dict(result)})
            return bool(self.storage.set_trial_state_values(claim.id, state=TrialState.COMPLETE, values=list(values)))
        except UpdateFinishedTrialError:
            return False

    def fail(self, claim: Claim, reason: str) -> None:
        """Close a claimed trial as failed; a later start of the sweep tries it anew."""
        self._close(claim, reason)

    def give_back(self, claims: Iterable[Claim]) -> None:
        """Put claimed trials back into the queue because this worker stops."""
        for claim in claims:
            trial = self.study.trials[claim.number]
            if self._close(claim, "given back: the worker was stopped"):
                self._add_waiting(trial.params, trial.distributions, {**trial.user_attrs})

    def _close(self, claim: Claim, reason: str) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self.note(claim, **{ERROR: reason})
            return bool(self.storage.set_trial_state_values(claim.id, state=TrialState.FAIL))
        except UpdateFinishedTrialError:
            return False


class SignsOfLife(Background):
    """Context in which a thread records heartbeats for claimed trials.

    Args:
        queue: the study.
        claims: the trials; closed ones may stay among them, since their heartbeats have no effect.
        every: seconds between two heartbeats.
        watch: called with each heartbeat; a worker checks here whether its parent process exists.
    """

    def __init__(
        self, queue: TrialQueue, claims: Sequence[Claim], *, every: float, watch: Callable[[], None] = lambda: None
    ) -> None:
        """Create the thread; it starts when the context is entered."""
        super().__init__()
        self._queue, self._claims, self._every, self._watch = queue, list(claims), every, watch

    def _run(self) -> None:
        import sqlalchemy
        from optuna.exceptions import StorageInternalError

        while not self._ended.wait(self._every):
            self._watch()
            for claim in self._claims:
                try:
                    self._queue.storage.beat_once(claim.id)
                except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError):
                    break  # a busy or absent storage is tried again at the next heartbeat; the grace period allows for that
        self._queue.storage.remove_session()  # each thread has its own session
