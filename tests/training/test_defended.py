"""Fleets with DP-SGD or against an attack: the same bytes as one model after another, kept one by one, as many at a time as asked for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope.datasets import LabeledData
from memberscope.errors import Interrupted, UserError
from memberscope.interrupt import StopFlag
from memberscope.training.keras import defended
from memberscope.training.keras.trainer import KerasTrainer
from memberscope.training.keras.weights import TrainedModel
from memberscope.training.recipe import Recipe
from memberscope.training.store import Store
from memberscope.training.trainer import Execution, PrivateSettings, TrainingJob, TrainsDefended

pytestmark = pytest.mark.slow

MEMBERS, REFERENCE, SEEDS = [np.arange(60), np.arange(20, 95), np.arange(40, 97)], np.arange(120, 160), [5, 6, 7]
SETTINGS = PrivateSettings(clip_norm=1.0, target_epsilon=2.0, delta=1e-3, batch_size=20, learning_rate=0.01, epochs=3)
TRAINER = KerasTrainer(recipe=Recipe(model="mlp", depth=1, width=8, epochs=2, batch_size=20))


@pytest.fixture(scope="module")
def jobs() -> list[TrainingJob]:
    rng = np.random.default_rng(0)
    data = LabeledData(
        name="made up", x=rng.random((160, 6), np.float32), y=rng.integers(0, 3, 160), class_names=("a", "b", "c"), source="a test"
    )  # fmt: skip
    return [TrainingJob(data=data, indices=index, seed=seed) for index, seed in zip(MEMBERS, SEEDS, strict=True)]


@pytest.fixture(scope="module")
def plain(jobs: list[TrainingJob]) -> Any:
    """The models that the tuned ones start from."""
    return TRAINER.train(jobs, Execution())


def _fleet(way: str, jobs: list[TrainingJob], plain: Any = None, **run: Any) -> Any:
    assert isinstance(TRAINER, TrainsDefended)
    execution = Execution(**{"label": way, **run})
    if way == "private":
        return TRAINER.train_private(jobs, SETTINGS, execution)[0]
    start = plain if way == "tuned" else None
    return TRAINER.train_adversarial(
        jobs, REFERENCE, execution, strength=2.0, epochs=2, warm_up_steps=0 if start is None else 4, start=start
    )


# `make test` trains single models against an attack, in test_adversarial.py
@pytest.fixture(
    scope="module", params=["private", *(pytest.param(way, marks=pytest.mark.thorough) for way in ("adversarial", "tuned"))]
)
def expected(request: pytest.FixtureRequest, jobs: list[TrainingJob], plain: Any) -> tuple[str, list[list[np.ndarray]]]:
    """A way to train, and each model by the trainer's own loop for a single model, which compiles every one anew."""
    way, found = request.param, []
    start = plain if way == "tuned" else None
    nothing = {"after_epoch": lambda epoch: None, "between_steps": lambda steps: None}
    for place, job in enumerate(jobs):
        training = TRAINER.begin(job, start=None if start is None else (start, place))
        if way == "private":
            training.fit_private(SETTINGS, **nothing)
        else:
            training.fit_adversarial(REFERENCE, strength=2.0, epochs=2, warm_up_steps=0 if start is None else 4, **nothing)
        found.append(training.native.get_weights())
    return way, found


def _is(fleet: Any, expected: list[list[np.ndarray]]) -> bool:
    return all(
        np.array_equal(a, b)
        for ours, theirs in zip(fleet.weights, expected, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )


def test_a_fleet_has_the_bytes_of_models_trained_one_by_one(
    expected: tuple[str, list[list[np.ndarray]]], jobs: list[TrainingJob], plain: Any
) -> None:
    """With one thread, a program trains all three models: nothing of one is left for the next."""
    way, weights = expected
    for workers in (1, None):
        fleet = _fleet(way, jobs, plain, workers=workers)
        assert (fleet.n_models, fleet.trained, fleet.reused) == (3, 3, 0)
        assert _is(fleet, weights)
    assert not np.array_equal(weights[0][0], weights[1][0])


def test_a_stopped_fleet_goes_on_with_what_is_missing(
    expected: tuple[str, list[list[np.ndarray]]],
    jobs: list[TrainingJob],
    plain: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    way, weights = expected
    stop = StopFlag()
    whole = Store.save

    def save(store: Store, name: str, arrays: Any) -> None:
        whole(store, name, arrays)
        stop.set()

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", save)
        with pytest.raises(Interrupted):
            _fleet(way, jobs, plain, workers=1, store=Store(tmp_path), stop=stop)
    kept = len(list(tmp_path.glob("*.npz")))
    assert 1 <= kept < 3
    fleet = _fleet(way, jobs, plain, workers=1, store=Store(tmp_path))
    assert (fleet.reused, fleet.trained) == (kept, 3 - kept)
    assert _is(fleet, weights)
    assert _fleet(way, jobs, plain, store=Store(tmp_path)).trained == 0


def _untrained(*_: object) -> list[Any]:
    return [TrainedModel(weights=[np.zeros(1, np.float32)], curves=defended.NO_CURVES)]


def test_what_decides_a_model_decides_its_name_in_the_store(
    jobs: list[TrainingJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other strengths, reference records, warm-ups, starts, privacy settings and plain training have files of their own."""
    for program in (defended.PrivateProgram, defended.AdversarialProgram):
        monkeypatch.setattr(program, "train", _untrained)  # only the names are looked at, and each of them would be compiled
    store, recipe = Store(tmp_path), TRAINER.recipe
    settings: dict[str, Any] = {"strength": 2.0, "epochs": 1}
    one, run = jobs[:1], Execution(store=store)
    starts = [TRAINER.train([TrainingJob(data=one[0].data, indices=one[0].indices, seed=seed)], Execution()) for seed in (1, 2)]
    for changes in ({}, {"strength": 1.0}, {"epochs": 2}, {"warm_up_steps": 1}, {"start": starts[0]}, {"start": starts[1]}):
        assert defended.train_adversarial(one, recipe, REFERENCE, run, **(settings | changes)).trained == 1, changes
    assert defended.train_adversarial(one, recipe, REFERENCE[1:], run, **settings).trained == 1
    assert defended.train_adversarial(one, recipe, REFERENCE, run, **settings).trained == 0
    for changes in ({}, {"clip_norm": 0.5}, {"target_epsilon": 3.0}, {"learning_rate": 0.1}, {"epochs": 2}):
        private = PrivateSettings(**{**vars(SETTINGS), **changes})
        assert defended.train_private(one, recipe, private, run)[0].trained == 1, changes
    assert TRAINER.train(one, run).trained == 1


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (2, 2)])
def test_as_many_train_at_a_time_as_asked_for(
    workers: int, most: int, jobs: list[TrainingJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two, both must have begun before either ends."""
    busy, peak, lock, both = 0, 0, threading.Lock(), threading.Barrier(most)

    def train(self: object, unit: Any, between_steps: object) -> list[Any]:
        nonlocal busy, peak
        with lock:
            busy, peak = busy + 1, max(peak, busy + 1)
        both.wait(timeout=30)
        with lock:
            busy -= 1
        return _untrained()

    monkeypatch.setattr(defended.PrivateProgram, "train", train)
    _fleet("private", jobs[:2], workers=workers)
    assert peak == most


def test_defended_models_are_trained_here_though_others_are_sent_to_a_cluster(
    jobs: list[TrainingJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers would train them without the defence."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("sent to the cluster")

    monkeypatch.setattr("memberscope.training.execution.dask.on_cluster", refuse)
    for way in ("private", "adversarial"):
        assert _fleet(way, jobs[:1], scheduler="tcp://127.0.0.1:1").trained == 1


def test_a_fleet_has_the_guarantee_of_its_first_model_and_the_noise_of_each(
    jobs: list[TrainingJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    from memberscope.training.accounting import plan_privacy
    from memberscope.training.keras.private import CompiledPrivate

    given = {}

    def run(self: object, members: np.ndarray, *, noise_multiplier: float, **options: object) -> None:
        given[len(members)] = noise_multiplier

    monkeypatch.setattr(CompiledPrivate, "run", run)
    _, plan = TRAINER.train_private(jobs, SETTINGS, Execution())
    plans = [plan_privacy(members=len(index), epochs=3, batch_size=20, target_epsilon=2.0, delta=1e-3) for index in MEMBERS]
    assert plan == plans[0]
    assert given == {one.members: one.noise_multiplier for one in plans}
    assert len(set(given.values())) == 3


def test_what_cannot_train_is_refused_before_any_model(jobs: list[TrainingJob]) -> None:
    with pytest.raises(UserError, match="reference: 0 records"):
        TRAINER.train_adversarial(jobs, REFERENCE[:0], Execution(), strength=1.0, epochs=1, warm_up_steps=0)
    with pytest.raises(UserError, match="strength=-1"):
        TRAINER.train_adversarial(jobs, REFERENCE, Execution(), strength=-1.0, epochs=1, warm_up_steps=0)
    with pytest.raises(UserError, match="batch_size=61: there are 60 members"):
        TRAINER.train_private(jobs, PrivateSettings(**{**vars(SETTINGS), "batch_size": 61}), Execution())
