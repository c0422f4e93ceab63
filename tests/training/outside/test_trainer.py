"""Fleets of a user's own function: the same models as a plain loop makes, in any process, kept, asked again, and failing in one line."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope import queries
from memberscope.datasets import LabeledData, load_dataset
from memberscope.errors import Interrupted, UserError
from memberscope.interrupt import StopFlag
from memberscope.training.execution.work import JobFailed, Unit
from memberscope.training.outside import estimator
from memberscope.training.outside.fleet import OutsideFleet
from memberscope.training.outside.trainer import OutsideTrainer, outside_trainer
from memberscope.training.query import Query
from memberscope.training.store import Store
from memberscope.training.trainer import Execution, TrainingJob, jobs_for

FUNCTIONS = Path(__file__).parent / "functions.py"
ROOT = Path(__file__).parents[3]
N, WIDTH, CLASSES, K = 120, 4, 3, 6


def _data(seed: int = 0) -> LabeledData:
    rng = np.random.default_rng(seed)
    return LabeledData(
        name="made", x=rng.normal(size=(N, WIDTH)), y=rng.integers(0, CLASSES, N), class_names=("a", "b", "c"), source="a test"
    )


DATA = _data()
MEMBERS = [np.sort(np.random.default_rng(k).permutation(N)[: N // 2]) for k in range(K)]
SEEDS = [100 + k for k in range(K)]
EVERY = (Query(index=np.arange(N)),)


def _trainer(name: str, **params: Any) -> OutsideTrainer:
    return outside_trainer(f"{FUNCTIONS}:{name}", params)


def _fleet(name: str, *, models: int = K, run: dict[str, Any] | None = None, **params: Any) -> OutsideFleet:
    jobs = jobs_for(DATA, MEMBERS[:models], SEEDS[:models])
    return _trainer(name, **params).train(jobs, Execution(**{"workers": 2, "queries": EVERY, **(run or {})}))


def _by_hand(name: str, x: np.ndarray, *, models: Sequence[int] = range(K), **params: Any) -> np.ndarray:
    function = _trainer(name).source.load()
    trained = [function(TrainingJob(data=DATA, indices=MEMBERS[k], seed=SEEDS[k], params=params), **params) for k in models]
    return np.stack([model(x) for model in trained])


# ---- the same models as a loop over the index sets makes


def test_outputs_are_those_of_a_plain_loop_to_the_last_bit() -> None:
    fleet = _fleet("neighbour", sharpness=2.0)
    np.testing.assert_array_equal(fleet.outputs(DATA.x), _by_hand("neighbour", DATA.x, sharpness=2.0))
    np.testing.assert_array_equal(fleet.outputs(DATA.x, models=[4, 1]), fleet.outputs(DATA.x)[[4, 1]])
    assert (fleet.n_models, fleet.reused, fleet.trained, fleet.form) == (K, 0, K, "logits")
    assert fleet.capabilities == frozenset()
    assert not fleet.curves


def test_every_kind_of_query_is_answered_without_a_second_training(tmp_path: Path) -> None:
    rows = np.arange(10, 40)
    wanted = (
        Query(index=rows),
        Query(index=rows, kind="perturbed", copies=3, seed=5, models=(1,)),
        Query(index=rows, models=(1,), measures=("gradient_norms", "losses_by_epoch")),
    )
    fleet = _fleet("offering", models=2, run={"queries": wanted})
    fleet = dataclasses.replace(fleet, program=None)  # type: ignore[arg-type]  # nothing can be trained or loaded any more
    np.testing.assert_array_equal(fleet.outputs(DATA.x[rows]), _by_hand("offering", DATA.x[rows], models=[0, 1]))
    for copy in queries.perturbations(DATA.x[rows], 3, seed=5):
        np.testing.assert_array_equal(fleet.outputs(copy, models=[1])[0], _by_hand("offering", copy, models=[1])[0])
    assert fleet.capabilities == {"gradients", "losses"}
    assert fleet.gradient_norms(1, DATA.x[rows], DATA.y[rows]).shape == (30, CLASSES)
    assert fleet.losses_by_epoch(1, DATA.x[rows], DATA.y[rows]).shape == (30, 2)


def test_what_a_function_reports_are_the_curves() -> None:
    fleet = _fleet("reporting", models=3, epochs=4)
    assert set(fleet.curves) == {"epoch", "loss", "accuracy"}
    assert fleet.curves["epoch"].tolist() == [[1, 2, 3, 4]] * 3
    assert (np.diff(fleet.curves["loss"], axis=1) < 0).all()


def test_the_seed_decides_what_code_draws_from_global_generators() -> None:
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first, second = (_fleet("global_draws", models=3).outputs(DATA.x) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[0], first[1])
    _fleet("global_draws", models=1, run={"queries": ()}).outputs(DATA.x)  # in this process
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_trainings_in_threads_of_one_process_do_not_share_its_generators() -> None:
    """As on a worker of a cluster that has several threads."""
    trainer = _trainer("draws_slowly")
    work = trainer._spec(DATA, Execution(queries=EVERY)).work(DATA.x, DATA.y)
    units = [Unit(positions=(k,), members=(MEMBERS[k],), seeds=(SEEDS[k],), steps=1) for k in range(2)]
    with ThreadPoolExecutor(2) as pool:
        trained = list(pool.map(lambda unit: work.program(1, work.shared()).train(unit, lambda steps: None)[0]["probe"], units))
    for unit, probe in zip(units, trained, strict=True):
        np.testing.assert_array_equal(work.program(1, work.shared()).train(unit, lambda steps: None)[0]["probe"], probe)


def test_workers_share_the_threads_and_get_the_devices_in_turn() -> None:
    told = _fleet("says_its_environment", run={"devices": ("6", "7")}).outputs(DATA.x)[:, 0]
    assert set(told[:, 0]) == {max(1, len(os.sched_getaffinity(0)) // 2)}
    assert set(told[:, 1]) == {6, 7}
    assert len({(device, process) for _, device, process in told}) == 2  # each process keeps its device


def test_a_worker_looks_for_garbage_among_what_models_made_alone() -> None:
    """What libraries made is frozen once they are loaded; a model in a cycle of references is still freed before the next one."""
    frozen, alive, _ = _fleet("makes_garbage").outputs(DATA.x)[:, 0].T
    assert frozen.min() > 10_000
    np.testing.assert_array_equal(alive, 0)


def test_each_array_of_a_query_is_read_once_for_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    from memberscope.training.outside import program
    from memberscope.training.query import content_digest

    read: list[str] = []
    monkeypatch.setattr(program, "content_digest", lambda x: read.append(content_digest(x)) or read[-1])
    rows = np.arange(10, 40)
    wanted = (Query(index=rows), Query(index=rows, kind="perturbed", copies=3, seed=5), Query(index=rows + 1, models=(2,)))
    work = _trainer("neighbour")._spec(DATA, Execution(queries=wanted)).work(DATA.x, DATA.y)
    trains = work.program(1, work.shared())
    units = [Unit(positions=(k,), members=(MEMBERS[k],), seeds=(SEEDS[k],), steps=1) for k in range(3)]
    found = [trains.train(unit, lambda steps: None)[0] for unit in units]
    assert len(read) == len(set(read)) == 5
    for k, answers in enumerate(found):
        arrays = [x for query in wanted if query.concerns(k) for x in query.arrays(DATA.x)]
        assert {name for name in answers if name.startswith("outputs_")} == {f"outputs_{content_digest(x)}" for x in arrays}
        for x in arrays:
            np.testing.assert_array_equal(answers[f"outputs_{content_digest(x)}"], _by_hand("neighbour", x, models=[k])[0])


# ---- models that are asked again


def test_a_query_that_nobody_declared_is_answered_by_a_second_training() -> None:
    fleet = _fleet("neighbour", models=2)
    np.testing.assert_array_equal(fleet.outputs(DATA.x[5:9] + 1), _by_hand("neighbour", DATA.x[5:9] + 1, models=[0, 1]))


def test_a_second_training_that_fails_is_one_line() -> None:
    with pytest.raises(JobFailed, match=r"model 0 \(seed 100, 60 members\) failed: .*RuntimeError: not in this process"):
        _fleet("trains_in_workers_alone", models=1, run={"queries": ()}, parent=os.getpid()).outputs(DATA.x[:5])
    with pytest.raises(JobFailed, match=r"model 0 \(seed 100, 60 members\) failed: .*it gave outputs of shape \(5, 1\)"):
        _fleet("narrow_for_five", models=1, run={"queries": ()}).outputs(DATA.x[:5])


def test_a_model_that_can_be_saved_is_loaded_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = _fleet("offering", models=2)
    monkeypatch.setattr("memberscope.training.outside.program.OutsideProgram.fit", None)
    np.testing.assert_array_equal(fleet.outputs(DATA.x[5:9] + 1), _by_hand("offering", DATA.x[5:9] + 1, models=[0, 1]))


def test_a_second_training_that_gives_another_model_is_told() -> None:
    fleet = _fleet("clock", models=1)
    fleet.outputs(DATA.x)
    with pytest.raises(
        UserError,
        match=r"clock: model 0, trained a second time .* gives other outputs than at first; allowed: a f",
    ):
        fleet.outputs(DATA.x[:5])


# ---- the store


def test_only_what_is_missing_is_trained(tmp_path: Path) -> None:
    run = {"store": Store(tmp_path)}
    first = _fleet("neighbour", models=3, run=run)
    again = _fleet("neighbour", run=run)
    assert (first.reused, again.reused, again.trained) == (0, 3, 3)
    np.testing.assert_array_equal(again.outputs(DATA.x), _by_hand("neighbour", DATA.x))
    assert _fleet("neighbour", run=run, sharpness=3.0).reused == 0
    assert _fleet("neighbour", run={**run, "queries": (Query(index=np.arange(5)),)}).reused == 0  # they were not asked this
    assert _fleet("neighbour", run={**run, "queries": ()}).reused == K


def test_a_model_that_offers_no_gradients_is_not_trained_again_for_them(tmp_path: Path) -> None:
    run = {"store": Store(tmp_path), "queries": (*EVERY, Query(index=np.arange(9), measures=("gradient_norms",)))}
    _fleet("neighbour", models=2, run=run)
    assert _fleet("neighbour", models=2, run=run).reused == 2


def test_a_changed_source_is_never_mixed_with_old_results(tmp_path: Path) -> None:
    own = tmp_path / "changing.py"
    own.write_text(FUNCTIONS.read_text())

    def train() -> OutsideFleet:
        return outside_trainer(f"{own}:neighbour", {}).train(
            jobs_for(DATA, MEMBERS[:2], SEEDS[:2]), Execution(workers=1, queries=EVERY, store=Store(tmp_path / "store"))
        )

    before = train().outputs(DATA.x)
    assert train().reused == 2
    own.write_text(FUNCTIONS.read_text().replace("-self.sharpness", "-2 * self.sharpness"))
    after = train()
    assert after.reused == 0
    np.testing.assert_allclose(after.outputs(DATA.x), 2 * before, rtol=1e-6)


def test_an_estimator_takes_the_parameters_of_its_constructor_and_those_that_it_does_not_declare() -> None:
    assert _trainer("OnlyWhatWasSet", iterations=3).with_params(iterations=4).params == {"iterations": 4}
    assert _trainer("FurtherParams", depth=2).with_params(verbose=-1).params == {"depth": 2, "verbose": -1}
    with pytest.raises(UserError, match="dept: no parameter of FurtherParams; allowed: depth, random_state; nearest: depth"):
        _trainer("FurtherParams").with_params(dept=2)
    job = TrainingJob(data=DATA, indices=MEMBERS[0], seed=2**32 + 5)
    fitted = estimator.train(_trainer("OnlyWhatWasSet").source.load(), job)
    assert fitted.predict_proba.__self__.given["random_state"] == 5


def test_a_parameter_called_name_does_not_hide_the_trainers_name() -> None:
    described = outside_trainer(f"{FUNCTIONS}:reporting", {"name": "wide", "widths": [1, 2]}).describe()
    assert described == {"trainer.name": "reporting", "trainer.params.name": "wide", "trainer.widths": "[1, 2]"}


# ---- failures


def test_a_failing_job_is_named_with_its_line_and_the_others_stay(tmp_path: Path) -> None:
    with pytest.raises(JobFailed) as caught:
        _fleet("fails_for_one", run={"store": Store(tmp_path), "workers": 1}, victim=SEEDS[2])
    line = 1 + FUNCTIONS.read_text().splitlines().index('        return {}["width"]')
    assert str(caught.value).endswith(
        f"functions.py:fails_for_one: model 2 (seed {SEEDS[2]}, {N // 2} members) failed: line {line} of functions.py: KeyError: 'width'; "
        "models finished before are kept"
    )
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_without_a_store_no_line_says_that_models_are_kept() -> None:
    with pytest.raises(JobFailed, match=r"KeyError: 'width'$"):
        _fleet("fails_for_one", run={"workers": 1}, models=1, victim=SEEDS[0])


def test_a_class_that_takes_no_words_is_told_from_which_columns_they_come(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("age,colour,label\n" + "".join(f"{k},{'red' if k % 3 else 'blue'},{k % 2}\n" for k in range(40)))
    data = load_dataset(str(file), data_dir="", archive_dir="", duplicates="keep", as_is=True)
    forest = outside_trainer("sklearn.ensemble:RandomForestClassifier", {})
    with pytest.raises(JobFailed, match=r"; 1 of the columns hold words \(colour\), which many classes do not take$"):
        forest.train(jobs_for(data, [np.arange(40)], [0]), Execution(workers=1))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("gives_nan", r"it gave outputs that are not finite for 16 of 16 records"),
        ("gives_nothing", r"it returned NoneType; allowed: a function of records"),
        ("exits", r"functions.py: SystemExit: 5"),
        ("stops_itself", r"functions.py: KeyboardInterrupt$"),
        ("gives_percentages", r"failed: it gave outputs: .* sum to 100: percentages; allowed: logits"),
        ("gives_sigmoids", r"failed: it gave outputs: .*apparently one sigmoid per class; allowed: logits"),
        (
            "Unnormalized",
            r"failed: it gave outputs by predict_proba: 120 rows do not sum to one, the first to 1.8 in row 0; allowed",
        ),
    ],
)
def test_what_a_function_may_not_do_is_one_line(name: str, line: str) -> None:
    with pytest.raises(JobFailed, match=line) as caught:
        _fleet(name, models=1)
    assert "\n" not in str(caught.value)


def test_models_that_give_logits_are_not_mixed_with_models_that_give_probabilities(tmp_path: Path) -> None:
    line = r"one_gives_probabilities: model 0 gives logits and model 2 probabilities; allowed: the same for all models"
    for _ in range(2):  # the second time from the store
        with pytest.raises(UserError, match=line):
            _fleet("one_gives_probabilities", models=3, run={"store": Store(tmp_path)}, victim=SEEDS[2])


def test_a_function_may_start_processes_of_its_own() -> None:
    np.testing.assert_array_equal(
        _fleet("starts_processes", models=1).outputs(DATA.x), _by_hand("neighbour", DATA.x, models=[0])
    )


@pytest.mark.parametrize(
    ("name", "params", "line"),
    [
        ("two_arguments", {}, r"its arguments are \(job, other\); allowed: a function of one argument, the job"),
        ("no_argument", {}, r"its arguments are \(\); allowed: a function of one argument"),
        ("NOT_CALLABLE", {}, r"is int; allowed: a function of one argument"),
        ("NoFit", {}, r"is the class NoFit, which has no fit; allowed"),
        (
            "neighbour",
            {"sharp": 1},
            r"params: sharp is not a parameter of .*functions.py:neighbour; allowed: sharpness; nearest: sharpness",
        ),
    ],
)
def test_another_interface_is_refused_before_anything_trains(name: str, params: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        outside_trainer(f"{FUNCTIONS}:{name}", params)


@pytest.mark.parametrize(
    ("spec", "params", "line"),
    [
        ("sklearn.linear_model:LinearRegression", {}, "LinearRegression has neither predict_proba nor decision_function"),
        ("sklearn.tree:DecisionTreeClassifier", {"max_dept": 3}, "max_dept is not a parameter of DecisionTreeClassifier.*"
         "nearest: max_depth"),
        ("sklearn.ensemble:IsolationForest", {}, "IsolationForest is of the kind outlier_detector; allowed: a classifier"),
        ("sklearn.mixture:GaussianMixture", {"n_components": 3}, "of the kind (DensityEstimator|density_estimator); allowed"),
        (f"{FUNCTIONS}:OnlyWhatWasSet", {"iteration": 3}, "iteration is not a parameter of OnlyWhatWasSet; "
         "allowed: iterations, random_state"),
        (f"{FUNCTIONS}:FurtherParams", {"dept": 3}, "dept is not a parameter of FurtherParams; "
         "allowed: depth, random_state; nearest: depth"),
    ],
)  # fmt: skip
def test_an_estimator_is_checked_before_anything_trains(spec: str, params: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        outside_trainer(spec, params)


def test_a_function_that_always_kills_its_process_ends_in_one_line(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match="workers=1: worker processes died 3 times while training model 1"):
        _fleet("kills_its_process", models=3, run={"workers": 1, "store": Store(tmp_path)}, victim=SEEDS[1])
    assert time.monotonic() - start < 120
    assert len(list(tmp_path.glob("*.npz"))) == 1


def test_a_stop_ends_the_training(tmp_path: Path) -> None:
    stop = StopFlag()
    threading.Timer(2.0, stop.set).start()
    start = time.monotonic()
    with pytest.raises(Interrupted):
        _fleet("slow", seconds=60, run={"stop": stop})
    assert time.monotonic() - start < 30


# ---- classes with scikit-learn's interface


def test_an_estimator_is_fitted_on_labels_without_gaps_and_seeded() -> None:
    from sklearn.tree import DecisionTreeClassifier

    y = np.where(DATA.y == 1, 3, DATA.y)  # class 1 is empty
    data = LabeledData(name="gap", x=DATA.x, y=y, class_names=("a", "b", "c", "d"), source="a test")
    trainer = outside_trainer("sklearn.tree:DecisionTreeClassifier", {"max_features": 1})
    run = Execution(workers=1, queries=EVERY)
    fleet = trainer.train(jobs_for(data, MEMBERS[:2], SEEDS[:2]), run)
    outputs = fleet.outputs(data.x)
    assert fleet.form == "probs"
    assert outputs.shape == (2, N, 4)
    assert (outputs[:, :, 1] == 0).all()
    expected = DecisionTreeClassifier(max_features=1, random_state=SEEDS[0]).fit(data.x[MEMBERS[0]], y[MEMBERS[0]])
    np.testing.assert_array_equal(outputs[0][:, [0, 2, 3]], expected.predict_proba(data.x))


def test_images_are_rows_for_an_estimator_of_rows() -> None:
    images = LabeledData(name="images", x=DATA.x.reshape(N, 2, 2, 1), y=DATA.y, class_names=DATA.class_names, source="a test")
    run = Execution(workers=1, queries=EVERY)
    found = [
        outside_trainer("sklearn.linear_model:LogisticRegression", {"C": 1.0})
        .train(jobs_for(data, MEMBERS[:1], SEEDS[:1]), run)
        .outputs(data.x)
        for data in (images, DATA)
    ]
    np.testing.assert_array_equal(*found)


def test_a_parameter_called_name_does_not_hide_the_trainers() -> None:
    assert dict(outside_trainer(f"{FUNCTIONS}:reporting", {"name": "mine"}).describe()) == {
        "trainer.name": "reporting",
        "trainer.params.name": "mine",
    }


# ---- killed at any time


SCRIPT = """
import sys
sys.path.insert(0, {src!r})
sys.path.insert(0, {here!r})
import test_trainer as t
if __name__ == "__main__":
    members = [t.MEMBERS[k % t.K] for k in range(24)]
    jobs = t.jobs_for(t.DATA, members, list(range(24)))
    t._trainer("slow", seconds=0.1).train(jobs, t.Execution(workers=2, queries=t.EVERY, store=t.Store(sys.argv[1])))
"""


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npz"))}


@pytest.mark.thorough
def test_killed_at_random_moments_and_rerun_ends_with_the_same_bytes(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(src=str(ROOT / "src"), here=str(Path(__file__).parent)))
    command = [sys.executable, str(script)]
    subprocess.run([*command, str(tmp_path / "undisturbed")], check=True, timeout=120)
    rng, finished = np.random.default_rng(0), list[int]()
    for _ in range(10):
        process = subprocess.Popen([*command, str(tmp_path / "killed")], start_new_session=True)
        _wait_for_more(tmp_path / "killed", process, extra=rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)  # the workers notice that they have no parent
        process.wait()
        finished.append(len(_contents(tmp_path / "killed")))
    assert finished == sorted(finished)
    subprocess.run([*command, str(tmp_path / "killed")], check=True, timeout=120)
    assert len(_contents(tmp_path / "undisturbed")) == 24
    assert _contents(tmp_path / "killed") == _contents(tmp_path / "undisturbed")


def _wait_for_more(folder: Path, process: subprocess.Popen[bytes], *, extra: float) -> None:
    """Until another model is kept, and a little longer; or the process has ended by itself."""
    before, start = len(_contents(folder)), time.monotonic()
    while len(_contents(folder)) == before and process.poll() is None and time.monotonic() - start < 60:
        time.sleep(0.02)
    time.sleep(extra)


# ---- on a cluster


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "src"))
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path_factory.mktemp("dask")),
        ) as made:  # fmt: skip
            yield made


def test_a_cluster_gives_the_same_models_and_ships_the_file(dask: Any, tmp_path: Path) -> None:
    own = tmp_path / "shipped.py"
    own.write_text("from helper import neighbour\n\n\ndef train(job):\n    return neighbour(job)\n")
    (tmp_path / "helper.py").write_text(FUNCTIONS.read_text())
    trainer = outside_trainer(f"{own}:train", {})
    for path in (own, tmp_path / "helper.py"):
        path.unlink()  # as on another machine
    fleet = trainer.train(jobs_for(DATA, MEMBERS, SEEDS), Execution(scheduler=dask.scheduler_address, queries=EVERY))
    np.testing.assert_array_equal(fleet.outputs(DATA.x), _by_hand("neighbour", DATA.x))


def test_a_job_that_fails_on_a_cluster_is_one_line_and_the_others_stay(dask: Any, tmp_path: Path) -> None:
    run = {"scheduler": dask.scheduler_address, "store": Store(tmp_path)}
    with pytest.raises(JobFailed, match=r"model 2 .* failed: line \d+ of functions.py: KeyError: 'width'.*\(on "):
        _fleet("fails_for_one", run=run, victim=SEEDS[2])
    assert len(list(tmp_path.glob("*.npz"))) == K - 1


def test_a_dask_worker_killed_midway_loses_nothing(dask: Any, tmp_path: Path) -> None:
    first = next(iter(dask.workers.values())).pid

    class Killing(Store):
        killed = False

        def save(self, name: str, arrays: Any) -> None:
            if not self.killed:
                os.kill(first, signal.SIGKILL)
                self.killed = True
            super().save(name, arrays)

    fleet = _fleet("slow", run={"scheduler": dask.scheduler_address, "store": Killing(tmp_path)}, seconds=0.3)
    assert fleet.trained == K
    np.testing.assert_array_equal(fleet.outputs(DATA.x), _by_hand("neighbour", DATA.x))
