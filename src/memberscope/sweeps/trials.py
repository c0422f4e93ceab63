"""A study as a queue: which trials wait, run and are done, claimed and closed so that none is lost and none is done twice.

A trial's state changes in one transaction of the storage. Claiming is the step from waiting to running, which one worker wins. A worker
shows signs of life for what it claimed; once they stop, any other worker fails the trial and puts a copy of it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memberscope.background import Background
from memberscope.sweeps.storage import quiet

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, Trial

RUN, RESULT, ERROR = "run", "result", "error"  # attributes of a trial: its run's address, its figures, what went wrong
CELL, SEED = "cell", "seed"
OPEN = ("COMPLETE", "RUNNING", "WAITING")
MOST_SEEDS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A trial that this worker runs: `number` in the study, `id` in the storage, its parameters and attributes at the time."""

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
    """The cell's name is an attribute; in older studies, whose parameters are not the cell's values, it is a parameter."""
    return str(attrs[CELL] if CELL in attrs else params[CELL]), int(params[SEED])


def distributions_of(settings: Mapping[str, Mapping[str, int | float | str]]) -> dict[str, Any]:
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
    """A study with the storage it lies in."""

    study: Study
    storage: RDBStorage

    def close(self) -> None:
        """Give the storage's connections of this thread back."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def trials(self, *states: str) -> list[FrozenTrial]:
        """Trials in some states (``COMPLETE``, ``RUNNING``, ``WAITING``, ``FAIL``), by number; all without any."""
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=tuple(TrialState[state] for state in states) or None)

    def enqueue_cells(self, settings: Mapping[str, Mapping[str, int | float | str]], seeds: Iterable[int]) -> int:
        """Put every (cell, seed) that is not done, running or waiting into the queue, a cell's seeds one after the other; how many.

        A trial's parameters are the cell's settings and the seed, so that Optuna's own tables and plots show them.

        Args:
            settings: those of all cells of the grid, by name and in the grid's order; see `Grid.settings`.
            seeds: of every cell.
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
        """Put points that are yet to be sampled into the queue until `count` are done, running or waiting; how many were put."""
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
        """Fail the trials whose workers show no sign of life any more, and put copies of them back."""
        import optuna

        with quiet():
            optuna.storages.fail_stale_trials(self.study)

    def claim(
        self, *, most: int = 1, like: Callable[[FrozenTrial, FrozenTrial], bool] = lambda first, other: False
    ) -> list[Claim]:
        """Claim the first waiting trial, and up to `most` - 1 further ones that are `like` it; none where none waits.

        The sign of life goes before the claim: a worker that dies between the two leaves a trial that waits, never one that runs for ever.
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
        """A claimed point as Optuna's `Trial`, of which values are asked."""
        import optuna

        return optuna.trial.Trial(self.study, claim.id)

    def note(self, claim: Claim, **attrs: Any) -> None:
        """Set attributes of a claimed trial; they go with its copy if it is taken up again."""
        for name, value in attrs.items():
            self.storage.set_trial_user_attr(claim.id, name, value)

    def complete(self, claim: Claim, result: Mapping[str, Any], values: Sequence[float]) -> bool:
        """Close a claimed trial with its figures; False if it was taken from us meanwhile, and its figures are another worker's to give."""
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
        """Put claimed trials back into the queue: we stop."""
        for claim in claims:
            trial = self.study.trials[claim.number]
            if self._close(claim, "given back: the worker was asked to stop"):
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
    """While entered, a thread says of claimed trials that their worker lives.

    Args:
        queue: the study.
        claims: the trials; closed ones may stay among them, their heartbeat means nothing.
        every: seconds between two signs.
        watch: called with each sign; a worker looks here whether its parent is there.
    """

    def __init__(
        self, queue: TrialQueue, claims: Sequence[Claim], *, every: float, watch: Callable[[], None] = lambda: None
    ) -> None:
        """A thread that has not begun."""
        super().__init__()
        self._ledger, self._claims, self._every, self._watch = queue, list(claims), every, watch

    def _run(self) -> None:
        import sqlalchemy
        from optuna.exceptions import StorageInternalError

        while not self._ended.wait(self._every):
            self._watch()
            for claim in self._claims:
                try:
                    self._ledger.storage.record_heartbeat(claim.id)
                except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError):
                    break  # a busy or absent storage is asked again at the next sign; the grace period allows for it
        self._ledger.storage.remove_session()  # sessions are a thread's own
