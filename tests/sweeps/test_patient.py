"""A storage whose database fails at each request of a sweep, before and after it took effect: no trial is lost, and none is there twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.exc import OperationalError

from memberscope import outages
from memberscope.errors import Interrupted
from memberscope.outages import Unreachable
from memberscope.sweeps import patient
from memberscope.sweeps import storage as storages
from memberscope.sweeps.trials import TrialQueue

SENT = (*patient.REPEATABLE, "_create_new_trial", "set_trial_state_values")


def _lost() -> Exception:
    """What Optuna raises when a server closes the connection."""
    error = optuna.exceptions.StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = OperationalError("SELECT 1", {}, Exception("server closed the connection unexpectedly"))
    return error


class Faults:
    """Counts requests to the plain storage, of which some fail."""

    def __init__(self) -> None:
        self.count = 0
        self.fails: Callable[[int, str], bool] = lambda number, when: False

    def around(self, plain: Any) -> Any:
        def request(storage: Any, *words: Any, **named: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if self.fails(number, "before"):
                raise _lost()
            answer = plain(storage, *words, **named)
            if self.fails(number, "after"):
                raise _lost()
            return answer

        return request


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Around every request of Optuna's storage that ours sends on."""
    made = Faults()
    for name in SENT:
        around = made.around(getattr(RDBStorage, name))
        monkeypatch.setattr(RDBStorage, name, around)
        if name in patient.REPEATABLE:
            monkeypatch.setattr(patient.PatientStorage, name, patient._patient(name))
    monkeypatch.setattr(outages, "POLL_SECONDS", 0.0)
    return made


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[str], TrialQueue]]:
    """Opens studies in one file, which is not synchronized with the disk: that takes most of the time."""
    storage = storages.open_storage(f"sqlite:///{tmp_path / 'studies.db'}", heartbeat=60)
    sqlalchemy.event.listen(storage.engine, "connect", lambda connection, record: connection.execute("PRAGMA synchronous=OFF"))

    def opened(name: str) -> TrialQueue:
        return TrialQueue(study=storages.open_study(storage, name, {}, directions=["minimize"]), storage=storage)

    yield opened
    TrialQueue(study=optuna.create_study(), storage=storage).close()


def _sweep(queue: TrialQueue) -> None:
    """Three trials: one is given back and done later, one fails, the others are completed."""
    queue.enqueue_cells({"a": {"width": 8}}, range(3))
    queue.give_back(queue.claim())
    (failing,) = queue.claim()
    queue.fail(failing, "no")
    while claims := queue.claim():
        assert queue.complete(claims[0], {"figures": {}}, [0.5])


def _states(queue: TrialQueue) -> list[str]:
    return sorted(f"{trial.state.name} {trial.params['seed']}" for trial in queue.trials())


@pytest.mark.slow  # a sweep for each of its requests, or in `make test` for one in four, which lose the answers to two claims
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.thorough)])
def test_an_outage_at_any_request_changes_nothing(faults: Faults, opened: Callable[[str], TrialQueue], step: int) -> None:
    queue = opened("undisturbed")
    begun = faults.count
    _sweep(queue)
    requests, expected = faults.count - begun, _states(queue)
    assert expected == ["COMPLETE 0", "COMPLETE 2", "FAIL 0", "FAIL 1"]
    assert requests > 15
    claims_lost = 0
    for number in range(0, requests, step):
        for when in ("before", "after"):
            queue = opened(f"{number} {when}")
            first = faults.count + number
            faults.fails = lambda at, moment, first=first, when=when: (  # type: ignore[misc]
                (at == first and moment == when) or (first < at < first + 3 and moment == "before")
            )
            _sweep(queue)
            faults.fails = lambda at, moment: False
            found = _states(queue)
            running = [state for state in found if state.startswith("RUNNING")]
            if running:  # whose claim it was cannot be seen: it is taken up once its heartbeats stop
                claims_lost += 1
                assert (when, len(running), len(found)) in (("after", 1, 3), ("after", 1, 4)), (number, found)
            else:
                assert found == expected, (number, when)
    assert 0 < claims_lost <= 4, "one for each claim whose answer was lost"


def test_a_longer_outage_is_one_line_and_a_stop_is_heeded(
    faults: Faults, opened: Callable[[str], TrialQueue], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = opened("x")
    queue.storage.wait_with("the storage", seconds=0.0)
    faults.fails = lambda number, when: True
    with pytest.raises(
        Unreachable, match=r"the storage has not answered for 0 s \(.*server closed the connection.*same sweep again"
    ) as error:
        queue.trials()
    assert "\n" not in str(error.value)
    assert capsys.readouterr().err.count("does not answer") == 1

    def stop() -> None:
        raise Interrupted("stopped")

    queue.storage.wait_with("the storage", seconds=60.0, check=stop)
    with pytest.raises(Interrupted):
        queue.trials()


def test_a_mistake_is_not_waited_for(faults: Faults, opened: Callable[[str], TrialQueue]) -> None:
    queue = opened("x")
    with pytest.raises(KeyError):
        queue.storage.get_trial(10**6)
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        queue.storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "x")


def test_a_heartbeat_is_not_repeated(faults: Faults, opened: Callable[[str], TrialQueue]) -> None:
    queue = opened("x")
    faults.fails = lambda number, when: True
    begun = faults.count
    with pytest.raises(optuna.exceptions.StorageInternalError):
        queue.storage.beat_once(1)
    assert faults.count == begun + 1


def test_a_locked_file_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(storages, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(outages, "POLL_SECONDS", 0.0)
    storage = storages.open_storage(f"sqlite:///{tmp_path / 'studies.db'}", heartbeat=60)
    queue = TrialQueue(study=storages.open_study(storage, "x", {}, directions=["minimize"]), storage=storage)
    holder = sqlite3.connect(tmp_path / "studies.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            holder.rollback()

    queue.storage.wait_with("the storage", seconds=60.0, check=look)
    queue.enqueue_cells({"a": {"width": 8}}, [0])
    holder.close()
    assert (looks, len(queue.trials("WAITING"))) == (3, 1)
    queue.close()
    assert "database is locked" in capsys.readouterr().err
