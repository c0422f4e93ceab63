"""The queue of trials: claimed once, closed once, given back, revived; the space of a study held against the one that is asked for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memberscope.errors import UserError
from memberscope.sweeps import storage as storages
from memberscope.sweeps.silence import quiet
from memberscope.sweeps.trials import CELL, SEED, SignsOfLife, TrialQueue, claim_key, trial_key

SPACE = {"grid": {"cells": {"a": {"epochs": 4}}}}


def _settings(*names: str) -> dict[str, dict[str, int | float | str]]:
    return {name: {"width": 8 + place, "model": f"model-{name}"} for place, name in enumerate(names)}


@pytest.fixture
def open_queue(tmp_path: Path) -> Callable[..., TrialQueue]:
    def opened(space: Any = SPACE, heartbeat: int = 60) -> TrialQueue:
        storage = storages.open_storage(storages.storage_url("", tmp_path), heartbeat=heartbeat)
        return TrialQueue(
            study=storages.open_study(storage, "s", space, directions=["minimize"], objectives=["leak"]), storage=storage
        )

    return opened


def test_every_cell_and_seed_waits_once_however_often_it_is_enqueued(open_queue: Callable[..., TrialQueue]) -> None:
    queue = open_queue()
    assert queue.enqueue_cells(_settings("a", "b"), range(2)) == 4
    assert queue.enqueue_cells(_settings("a", "b"), range(3)) == 2
    assert open_queue().enqueue_cells(_settings("a", "b"), range(3)) == 0
    keys = [trial_key(trial) for trial in queue.trials("WAITING")]
    assert sorted(keys) == [(cell, seed) for cell in "ab" for seed in range(3)]


def test_racing_claims_share_the_queue_without_overlap(open_queue: Callable[..., TrialQueue]) -> None:
    open_queue().enqueue_cells(_settings("a", "b", "c"), range(4))
    won: list[int] = []
    start = threading.Barrier(3, timeout=60)

    def claim_all() -> None:
        queue = open_queue()
        start.wait()
        while claims := queue.claim():
            won.extend(claim.number for claim in claims)

    threads = [threading.Thread(target=claim_all) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(won) == Counter(range(12))


def test_a_group_is_of_one_cell(open_queue: Callable[..., TrialQueue]) -> None:
    queue = open_queue()
    queue.enqueue_cells(_settings("a", "b"), range(3))
    claims = queue.claim(most=5, like=lambda first, other: trial_key(first)[0] == trial_key(other)[0])
    assert [claim_key(claim) for claim in claims] == [("a", 0), ("a", 1), ("a", 2)]


def test_a_closed_trial_is_closed_once(open_queue: Callable[..., TrialQueue]) -> None:
    queue = open_queue()
    queue.enqueue_cells(_settings("a"), [0])
    (claim,) = queue.claim()
    assert queue.complete(claim, {"auc": 0.5}, [0.1])
    assert not queue.complete(claim, {"auc": 0.6}, [0.2])
    (trial,) = queue.trials()
    assert (trial.user_attrs["result"], trial.value) == ({"auc": 0.5}, 0.1)
    assert queue.enqueue_cells(_settings("a"), [0]) == 0


def test_what_is_given_back_waits_again_with_its_attributes(open_queue: Callable[..., TrialQueue]) -> None:
    queue = open_queue()
    queue.enqueue_cells(_settings("a"), [0])
    claims = queue.claim()
    queue.note(claims[0], run="address")
    queue.give_back(claims)
    assert not queue.complete(claims[0], {}, [0.0])
    (again,) = queue.claim()
    assert (again.number, again.attrs["cell"], again.attrs["run"]) == (1, "a", "address")


def test_a_failed_trial_is_enqueued_anew(open_queue: Callable[..., TrialQueue]) -> None:
    queue = open_queue()
    queue.enqueue_cells(_settings("a"), [0])
    queue.fail(queue.claim()[0], "broken")
    assert queue.enqueue_cells(_settings("a"), [0]) == 1


def test_a_silent_worker_loses_its_trial_and_a_speaking_one_keeps_it(open_queue: Callable[..., TrialQueue]) -> None:
    queue = open_queue(heartbeat=1)
    queue.enqueue_cells(_settings("a", "b"), [0])
    silent, speaking = queue.claim()[0], queue.claim()[0]
    with SignsOfLife(queue, [speaking], every=0.5):
        deadline = time.monotonic() + 20
        while not queue.trials("WAITING") and time.monotonic() < deadline:
            time.sleep(0.3)
            queue.revive()
        (again,) = queue.claim()
        assert (again.attrs["cell"], again.number) == ("a", 2)
        assert not queue.complete(silent, {}, [0.0])
        assert queue.complete(speaking, {}, [0.0])


def test_optunas_own_views_show_factors_and_the_name_of_the_objective(open_queue: Callable[..., TrialQueue]) -> None:
    import matplotlib
    import optuna

    queue = open_queue()
    settings = {
        "dense-1": {"model": "dense", "depth": 1, "learning_rate": 0.001, "widths": "8"},
        "conv-4": {"model": "conv", "depth": 4, "learning_rate": 0.01, "widths": ""},
    }
    assert queue.enqueue_cells(settings, range(2)) == 4
    for value, claim in enumerate(queue.claim(most=4, like=lambda first, other: True)):
        assert queue.complete(claim, {}, [float(value)])
    assert [trial_key(trial) for trial in queue.trials("COMPLETE")] == [(cell, seed) for cell in settings for seed in (0, 1)]
    study = storages.load_study(queue.storage, "s")
    frame = study.trials_dataframe(attrs=("value", "params"))
    assert list(frame.columns) == [
        "value_leak",
        "params_depth",
        "params_learning_rate",
        "params_model",
        "params_seed",
        "params_widths",
    ]
    assert list(frame["params_depth"]) == [1, 1, 4, 4]
    assert list(frame["params_model"]) == ["dense", "dense", "conv", "conv"]
    with quiet, matplotlib.rc_context():  # Optuna sets a style for all figures that follow
        axes = optuna.visualization.matplotlib.plot_parallel_coordinate(study, target_name="leak")
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == ["leak", "depth", "learning_rate", "model", "seed", "widths"]


def test_a_study_begun_with_names_of_cells_alone_goes_on(open_queue: Callable[..., TrialQueue]) -> None:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    queue = open_queue()
    old = {CELL: CategoricalDistribution(("a", "b")), SEED: IntDistribution(0, 2**31 - 1)}
    for cell, seed in (("a", 0), ("a", 1)):
        queue._add_waiting({CELL: cell, SEED: seed}, old)
    (claim,) = queue.claim()
    assert claim_key(claim) == ("a", 0)
    assert queue.complete(claim, {"auc": 0.5}, [0.1])
    assert queue.enqueue_cells(_settings("a", "b"), range(2)) == 2, "what is done or waits is not asked for again"
    waiting = [trial_key(trial) for trial in queue.trials("WAITING")]
    assert waiting == [("a", 1), ("b", 0), ("b", 1)]
    claims = queue.claim(most=3, like=lambda first, other: True)
    queue.give_back(claims)
    assert [trial_key(trial) for trial in queue.trials("WAITING")] == waiting


def test_points_are_counted_exactly(open_queue: Callable[..., TrialQueue]) -> None:
    queue = open_queue()
    assert queue.enqueue_points(3) == 3
    (claim,) = queue.claim()
    trial = queue.sample(claim)
    depth = trial.suggest_int("depth", 1, 4)
    assert queue.complete(claim, {}, [1.0])
    assert queue.enqueue_points(3) == 0
    assert queue.enqueue_points(4) == 1
    assert queue.trials("COMPLETE")[0].params == {"depth": depth}


def test_a_study_of_another_format_is_refused_and_one_without_goes_on(open_queue: Callable[..., TrialQueue]) -> None:
    queue = open_queue()
    assert queue.study.user_attrs[storages.FORMAT_KEY] == storages.FORMAT
    queue.study.set_user_attr(storages.FORMAT_KEY, None)  # the first version wrote none
    open_queue()
    queue.study.set_user_attr(storages.FORMAT_KEY, storages.FORMAT + 1)
    with pytest.raises(UserError, match=r"study=s: .* in format 2, and this version has format 1; allowed: another name"):
        open_queue()


def test_another_space_under_one_name_is_refused_with_the_difference(open_queue: Callable[..., TrialQueue]) -> None:
    open_queue()
    with pytest.raises(UserError, match=r"study=s: .*grid\.cells\.a\.epochs is 4 there and 5 here"):
        open_queue(space={"grid": {"cells": {"a": {"epochs": 5}}}})
    with pytest.raises(UserError, match=r"grid\.cells\.b\.epochs is missing there and 4 here"):
        open_queue(space={"grid": {"cells": {"a": {"epochs": 4}, "b": {"epochs": 4}}}})


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("sqlite:////no/such/folder/studies.db", "cannot be written"),
        ("postgresql://someone:secret@127.0.0.1:1/nothing", r"psycopg://someone:\*\*\*@127.0.0.1:1/nothing: does not answer"),
        ("gopher://host/thing", "unknown kind 'gopher'"),
    ],
)  # fmt: skip
def test_an_unreachable_storage_is_one_line_within_seconds(url: str, line: str, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=line) as caught:
        storages.open_storage(storages.storage_url(url, tmp_path), heartbeat=60)
    assert "secret" not in str(caught.value)
    assert time.monotonic() - start < 8


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / storages.DATABASE).write_text("no database, but long enough to be taken for one" * 40)
    with pytest.raises(UserError, match="cannot be used"):
        storages.open_storage(storages.storage_url("", tmp_path), heartbeat=60)
