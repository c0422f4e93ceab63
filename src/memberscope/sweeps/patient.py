"""An Optuna storage that waits for its database: a restart of the server, or a lock of another process, ends no sweep.

A request may have taken effect although its answer never came. Most of Optuna's can simply be repeated. A new trial and the end of a trial
cannot, so these are looked for before they are tried again.
"""

from __future__ import annotations

import copy
import functools
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage

from memberscope.outages import Lookout, Unreachable, is_database_outage, nothing

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, TrialState

TOKEN = "memberscope:token"  # a system attribute that tells a trial apart from all others
REPEATABLE = (
    "create_new_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name", "get_study_name_from_id",
    "get_study_directions", "get_study_user_attrs", "get_study_system_attrs", "get_all_studies", "_set_trial_param",
    "get_trial_id_from_study_id_trial_number", "get_trial_number_from_id", "get_trial_param", "set_trial_intermediate_value",
    "set_trial_user_attr", "set_trial_system_attr", "get_trial", "get_all_trials", "get_n_trials", "_get_best_trial_id", "get_trial_params",
    "get_trial_user_attrs", "get_trial_system_attrs", "record_heartbeat", "_get_stale_trial_ids", "_get_trials",
)  # fmt: skip


class PatientStorage(RDBStorage):
    """An `RDBStorage` whose requests wait while its database does not answer, up to a limit.

    Attributes:
        lookout: what to say about the database, and how long to wait for it; None until `wait_with` is called.
    """

    lookout: Lookout | None = None

    def wait_with(self, what: str, *, seconds: float, check: Callable[[], None] = nothing) -> None:
        """Wait for the database from now on.

        Args:
            what: the storage, for people.
            seconds: how long an outage is waited for.
            check: called while waiting.
        """
        self.lookout = Lookout(what, seconds=seconds, check=check)

    def patiently(self, request: Callable[[bool], Any]) -> Any:
        """What a request returns; it is told whether it may have taken effect already.

        Raises:
            Unreachable: the database does not answer for longer than the limit.
        """
        again, looks = False, 0
        while True:
            try:
                answer = request(again)
            except Exception as error:
                lookout = self.lookout
                if lookout is None or isinstance(error, Unreachable) or not is_database_outage(error):
                    raise
                again, looks = True, looks + 1
                if looks == 1 and lookout.since is None:
                    continue  # a server that was restarted breaks its old connections once
                lookout.is_away(error)
                if not lookout.wait():
                    raise Unreachable(
                        f"{lookout.what} has not answered for {lookout.seconds:g} s ({lookout.why}); finished trials are kept; allowed, "
                        "once it answers: the same sweep again, which continues"
                    ) from error
                continue
            if self.lookout is not None:
                self.lookout.is_back()
            return answer

    def beat_once(self, trial_id: int) -> None:
        """Record a heartbeat, or fail: a later one will do."""
        super().record_heartbeat(trial_id)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        """See `RDBStorage`; Optuna's cache calls it in place of `create_new_trial`."""
        create = super()._create_new_trial
        token, marked = secrets.token_hex(8), copy.copy(template_trial)
        if template_trial is not None and marked is not None:
            marked.system_attrs = {**template_trial.system_attrs, TOKEN: token}

        def request(again: bool) -> FrozenTrial:
            for trial in self.get_all_trials(study_id, deepcopy=False) if again else ():
                if trial.system_attrs.get(TOKEN) == token:
                    return trial
            return create(study_id, marked)

        found: FrozenTrial = self.patiently(request)
        return found

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See `RDBStorage`. A trial that has the state already, after an answer that was lost, got it from this request: others would have
        made a copy of it.
        """
        change = super().set_trial_state_values

        def request(again: bool) -> bool:
            try:
                return change(trial_id, state, values)
            except UpdateFinishedTrialError:
                if again and state.is_finished() and self.get_trial(trial_id).state == state:
                    return True
                raise

        return bool(self.patiently(request))


def _patient(name: str) -> Callable[..., Any]:
    plain = getattr(RDBStorage, name)

    @functools.wraps(plain)
    def request(self: PatientStorage, *words: Any, **named: Any) -> Any:
        return self.patiently(lambda again: plain(self, *words, **named))

    return request


for _name in REPEATABLE:
    setattr(PatientStorage, _name, _patient(_name))
