"""A fleet is trained once, survives kills, and comes out the same wherever it was trained."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from memberscope.datasets import LabeledData
from memberscope.errors import Interrupted, UserError
from memberscope.interrupt import StopFlag
from memberscope.training.execution import dask as cluster
from memberscope.training.execution import local
from memberscope.training.keras.fleet import KerasFleet, train_fleet
from memberscope.training.keras.groups import GROUP, a_thread_each, group_size, has_a_thread_each, split
from memberscope.training.keras.weights import TrainedModel, TrainingCurves
from memberscope.training.recipe import Recipe
from memberscope.training.store import Store

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)
N = 90
DATA = LabeledData(
    name="made up", x=RNG.integers(0, 256, (N, 8, 8, 1), dtype=np.uint8), y=RNG.integers(0, 3, N), class_names=("a", "b", "c"), source=""
)  # fmt: skip
DENSE = Recipe(model="dense", depth=1, width=8, epochs=2, batch_size=32)
CONV = Recipe(model="conv", depth=1, width=8, filters=4, epochs=2, batch_size=32)
K = 2 * GROUP + 3


def _members(k: int = K) -> list[np.ndarray]:
    """Independent coin flips: members of different numbers."""
    return [np.flatnonzero(np.random.default_rng(i).random(N) < 0.5) for i in range(k)]


def _fleet(k: int = K, recipe: Recipe = DENSE, **options: Any) -> KerasFleet:
    return train_fleet(DATA, _members(k), recipe, seeds=range(k), **options)


def _same(a: KerasFleet, b: KerasFleet, tolerance: float = 0.0) -> bool:
    return a.n_models == b.n_models and all(
        np.allclose(x, y, rtol=0, atol=tolerance)
        for u, v in zip(a.weights, b.weights, strict=True)
        for x, y in zip(u, v, strict=True)
    )


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[KerasFleet, Path]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return _fleet(store=Store(folder)), folder


# ---- the fleet itself


def test_models_differ_and_are_each_their_own_seeds(undisturbed: tuple[KerasFleet, Path]) -> None:
    fleet, _ = undisturbed
    assert (fleet.n_models, fleet.reused, fleet.trained) == (K, 0, K)
    assert {name: curve.shape for name, curve in fleet.curves.items()} == {"loss": (K, 2), "accuracy": (K, 2)}
    assert len({weights[0].tobytes() for weights in fleet.weights}) == K
    assert np.allclose(fleet.curves["loss"][:, 0], np.log(3), atol=0.5), "nats over three classes, untrained"


@pytest.mark.parametrize("records", [DATA.x, DATA.x.astype(np.float32) / 255], ids=["uint8", "float32"])
def test_logits_are_those_of_each_model(undisturbed: tuple[KerasFleet, Path], records: np.ndarray) -> None:
    fleet, _ = undisturbed
    logits = fleet.outputs(records, models=[GROUP, 0, K - 1])
    assert (logits.shape, logits.dtype) == ((3, N, 3), np.float32)
    for row, k in zip(logits, (GROUP, 0, K - 1), strict=True):
        np.testing.assert_allclose(row, fleet.native(k)(DATA.x.astype(np.float32) / 255).numpy(), atol=1e-5)
    assert fleet.outputs(records[:0]).shape == (K, 0, 3)


def test_groups_do_not_depend_on_how_many_there_are() -> None:
    few, many = (split(DENSE, _members(k), range(k), input_shape=(8, 8, 1), classes=4) for k in (2 * GROUP, K))
    assert [unit.positions for unit in few] == [unit.positions for unit in many[:2]]
    assert [unit.positions for unit in split(CONV, _members(2), range(2), input_shape=(32, 32, 3), classes=10)] == [(0,), (1,)]


def test_groups_are_smaller_for_larger_models() -> None:
    sizes = [
        group_size(Recipe(model="mlp", widths=(width,)), input_shape=(446,), classes=30) for width in (8, 128, 256, 512, 4_096)
    ]
    assert sizes == [
        GROUP,
        4,
        2,
        2,
        2,
    ]  # 16 bytes a weight, (447 w + 30 (w + 1)) weights, of 4 MiB
    assert group_size(DENSE, input_shape=(8, 8, 1), classes=3) == GROUP
    assert group_size(CONV, input_shape=(8, 8, 1), classes=3) == 1
    assert group_size(dataclasses.replace(DENSE, dropout=0.5), input_shape=(8, 8, 1), classes=3) == 1


def test_a_thread_each_is_for_a_process_where_tensorflow_has_not_started() -> None:
    import tensorflow as tf

    tf.constant(0)  # it has here; the next test begins where it has not
    before = has_a_thread_each()  # a study that ran in this process earlier may have asked in time
    a_thread_each()
    assert has_a_thread_each() == before


THREADS = """
import sys
sys.path.insert(0, {here!r})
from memberscope.training.keras.groups import a_thread_each, has_a_thread_each
from memberscope.training.execution import local
a_thread_each()
assert has_a_thread_each()
local.in_processes = None  # not to be called
from test_fleet import CONV, DATA, _fleet
from memberscope.training.store import Store
import numpy as np
fleet = _fleet(3, CONV, store=Store({folder!r}))
np.save({folder!r} + "/logits.npy", fleet.outputs(DATA.x, models=[2, 0, 1]))
"""


@pytest.fixture(scope="module")
def by_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of three models that another process trained; only one, since each takes the time in which TensorFlow is imported."""
    folder = tmp_path_factory.mktemp("processes")
    fleet = _fleet(3, CONV, workers=1, store=Store(folder))
    assert (fleet.reused, fleet.trained) == (0, 3)
    return folder


@pytest.mark.thorough  # `make test` trains the same models in processes, below
def test_conv_models_in_threads_come_out_as_those_of_processes(tmp_path: Path, by_processes: Path) -> None:
    """Byte for byte, from one process and from two at a time: all keep to one thread a kernel."""
    code = THREADS.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    fleet = _fleet(3, CONV, store=Store(by_processes, reuse="force"))
    threads = _fleet(3, CONV, store=Store(tmp_path, reuse="force"))
    assert (threads.reused, threads.trained) == (3, 0)
    assert _same(fleet, threads)
    assert _same(fleet, _fleet(3, CONV, workers=2))
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), fleet.outputs(DATA.x, models=[2, 0, 1]), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"members": [], "seeds": []}, "shadows=0"),
        ({"members": [np.array([], dtype=np.int64)]}, "members of model 0: 0 records"),
        ({"members": [np.array([N])]}, f"all from 0 to {N - 1}"),
        ({"workers": 0}, "workers=0"),
        ({"recipe": Recipe(model="dense", dropout=1.0)}, "dropout=1"),
        ({"recipe": Recipe(model="conv", depth=9)}, "depth=9"),
    ],
)
def test_what_cannot_be_trained_is_one_line(changes: dict[str, Any], part: str) -> None:
    settings = {"members": _members(1), "recipe": DENSE, "seeds": [0], "workers": None, **changes}
    with pytest.raises(UserError, match=part):
        train_fleet(DATA, settings.pop("members"), settings.pop("recipe"), **settings)


# ---- what the store keeps


def test_a_second_run_trains_nothing(undisturbed: tuple[KerasFleet, Path]) -> None:
    fleet, folder = undisturbed
    again = _fleet(store=Store(folder, reuse="force"))
    assert (again.reused, again.trained) == (K, 0)
    assert _same(fleet, again)
    np.testing.assert_array_equal(fleet.curves["loss"], again.curves["loss"])


def test_damaged_and_missing_models_come_back_with_the_same_bytes(undisturbed: tuple[KerasFleet, Path], tmp_path: Path) -> None:
    _, folder = undisturbed
    before = _bytes(folder)
    names = [name for name in before if name.endswith(".npz")]
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).write_bytes(before[names[1]][:100])
    with pytest.warns(UserWarning, match=names[1]):
        again = _fleet(store=Store(tmp_path))
    assert (again.reused, again.trained) == (K - 2, 2)
    assert _bytes(tmp_path) == before


def test_other_labels_members_seeds_or_recipes_are_not_reused(undisturbed: tuple[KerasFleet, Path]) -> None:
    _, folder = undisturbed
    files = len(_bytes(folder))
    other = DATA.with_labels((DATA.y + 1) % 3)
    recipe = Recipe(**{**DENSE.to_dict(), "widths": (), "l2": 0.1})  # type: ignore[arg-type]
    changes = [(other, DENSE, 0, 0), (DATA, recipe, 0, 0), (DATA, DENSE, 1, 0), (DATA, DENSE, 0, 1)]
    for number, (data, changed, seed, drop) in enumerate(changes):
        members = [index[drop:] for index in _members(GROUP)]
        store = Store(folder)
        fleet = train_fleet(
            data, members, changed, seeds=range(seed * 50, seed * 50 + GROUP), store=store, label=f"other{number}"
        )
        assert (fleet.reused, fleet.trained) == (0, GROUP)
    assert len(_bytes(folder)) == files + len(changes) * (GROUP + 1)


def test_a_store_that_fills_up_ends_the_work_and_keeps_what_is_there(
    tmp_path: Path, undisturbed: tuple[KerasFleet, Path]
) -> None:
    class Filling(Store):
        def save(self, name: str, arrays: Any) -> None:
            if len(_bytes(tmp_path)) > GROUP:
                raise self._unwritable("No space left on device")
            super().save(name, arrays)

    with pytest.raises(UserError, match="No space left on device"):
        _fleet(store=Filling(tmp_path))
    again = _fleet(store=Store(tmp_path))
    assert again.reused == GROUP
    assert _same(again, undisturbed[0])


def test_a_stop_ends_the_work_between_steps_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[KerasFleet, Path]
) -> None:
    stop = StopFlag()

    class Stopping(Store):
        def save(self, name: str, arrays: Any) -> None:
            super().save(name, arrays)
            stop.set()

    monkeypatch.setattr("memberscope.training.keras.fleet.cores", lambda: 1)
    with pytest.raises(Interrupted):
        _fleet(store=Stopping(tmp_path), stop=stop)
    kept = len(_bytes(tmp_path)) - 1
    assert kept in (GROUP, 2 * GROUP)  # the second group may have been past its last look
    assert _fleet(store=Store(tmp_path)).reused == kept
    assert _bytes(tmp_path) == {name: _bytes(undisturbed[1])[name] for name in _bytes(tmp_path)}


KILLED = """
import os, signal, sys
import numpy as np
from memberscope.training.store import Store
sys.path.insert(0, {here!r})
from test_fleet import _fleet

class Killed(Store):
    saved = 0
    def save(self, name, arrays):
        super().save(name, arrays)
        self.saved += 1
        if self.saved == {after}:
            os.kill(os.getpid(), signal.SIGKILL)

_fleet(store=Killed({folder!r}))
"""


@pytest.mark.thorough
def test_a_fleet_killed_midway_and_rerun_equals_an_undisturbed_one(
    tmp_path: Path, undisturbed: tuple[KerasFleet, Path]
) -> None:
    after = GROUP + 2  # in the middle of a group
    code = KILLED.format(here=str(Path(__file__).parent), after=after, folder=str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(tmp_path.glob("*.npz"))) == after
    again = _fleet(store=Store(tmp_path))
    assert (again.reused, again.trained) == (after, K - after)
    whole = _bytes(undisturbed[1])
    assert _bytes(tmp_path) == {name: whole[name] for name in _bytes(tmp_path)}
    assert _same(again, undisturbed[0])


# ---- worker processes


def test_conv_models_train_in_processes_as_one_would_alone(by_processes: Path) -> None:
    from memberscope.training.keras.fit import fit, to_tensor

    fleet = _fleet(3, CONV, store=Store(by_processes, reuse="force"))
    for k, members in enumerate(_members(3)):
        model = CONV.build(input_shape=DATA.shape, classes=3, seed=k)
        curves = fit(
            model, to_tensor(DATA.x), DATA.y, members, scale=255.0, epochs=2, batch_size=32, learning_rate=0.001, seed=k,
            after_epoch=lambda epoch: None, between_steps=lambda steps: None,
        )  # fmt: skip
        for ours, alone in zip(fleet.weights[k], model.get_weights(), strict=True):
            np.testing.assert_allclose(ours, alone, atol=1e-5)
        np.testing.assert_allclose(fleet.curves["loss"][k], curves.loss, atol=1e-5)
        np.testing.assert_allclose(fleet.outputs(DATA.x)[k], model(DATA.x.astype(np.float32) / 255).numpy(), atol=1e-4)


def test_a_fleet_asked_again_builds_no_further_model(monkeypatch: pytest.MonkeyPatch, by_processes: Path) -> None:
    """A climb asks thousands of times; each type of record has a program of its own, and all keep to the weights that are asked for."""
    monkeypatch.setattr("memberscope.training.keras.fleet.has_a_thread_each", lambda: False)
    fleet, built = _fleet(3, CONV, store=Store(by_processes, reuse="force")), []
    model = KerasFleet.native
    monkeypatch.setattr(KerasFleet, "native", lambda fleet, k: built.append(k) or model(fleet, k))
    first, real = fleet.outputs(DATA.x), DATA.x.astype(np.float32) / 255
    for models in ([1], [0], [0], [2, 0]):
        np.testing.assert_array_equal(fleet.outputs(DATA.x[:7], models=models), first[models, :7])
        np.testing.assert_allclose(fleet.outputs(real, models=models), first[models], atol=1e-5)
    assert len(built) == 2  # of bytes and of real numbers, in one thread


def _quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers without TensorFlow: what happens to them is the test's own, sent to them by value."""

    def nothing(spec: object, places: str) -> None:
        return None

    monkeypatch.setattr(local, "start_worker", nothing)


def test_a_killed_worker_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _quick_start(monkeypatch)
    marker = str(tmp_path / "killed")

    def work_on(unit: Any, folder: Any) -> list[TrainedModel]:
        from pathlib import Path

        if unit.positions == (3,) and not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        curves = TrainingCurves(loss=np.zeros(2), accuracy=np.full(2, unit.seeds[0]))
        return [TrainedModel(weights=[np.float32([unit.positions[0]])], curves=curves)]

    monkeypatch.setattr(local, "work_on", work_on)
    fleet = _fleet(6, CONV, workers=2, store=Store(tmp_path / "store"))
    assert Path(marker).exists()
    assert [weights[0].item() for weights in fleet.weights] == [0, 1, 2, 3, 4, 5]
    assert fleet.curves["accuracy"][:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert len(list((tmp_path / "store").glob("*.npz"))) == 6


def test_a_task_that_always_kills_its_worker_ends_in_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _quick_start(monkeypatch)

    def work_on(unit: Any, folder: Any) -> list[TrainedModel]:
        if unit.positions == (1,):
            os.kill(os.getpid(), signal.SIGKILL)
        return [TrainedModel(weights=[np.zeros(1, np.float32)], curves=TrainingCurves(loss=np.zeros(2), accuracy=np.zeros(2)))]

    monkeypatch.setattr(local, "work_on", work_on)
    start = time.monotonic()
    with pytest.raises(UserError, match="workers=1: worker processes died 3 times while training model 1"):
        _fleet(3, CONV, workers=1, store=Store(tmp_path))
    assert time.monotonic() - start < 60
    assert len(list(tmp_path.glob("*.npz"))) == 1, "the model before it is kept"


def test_a_stop_ends_worker_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    _quick_start(monkeypatch)
    stop = StopFlag()

    def work_on(unit: Any, folder: Any) -> list[TrainedModel]:
        time.sleep(60)
        return []

    monkeypatch.setattr(local, "work_on", work_on)
    threading.Timer(1.0, stop.set).start()
    start = time.monotonic()
    with pytest.raises(Interrupted):
        _fleet(2, CONV, workers=1, stop=stop)
    assert time.monotonic() - start < 30


# ---- a Dask cluster on loopback


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import distributed

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "src"))
        with distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path_factory.mktemp("dask")),
        ) as made:
            yield made


@pytest.mark.thorough  # `make test` does the same with a function of a user's own, whose workers import no TensorFlow
def test_a_dask_worker_killed_midway_loses_nothing(dask: Any, tmp_path: Path, undisturbed: tuple[KerasFleet, Path]) -> None:
    pids = [worker.pid for worker in dask.workers.values()]
    killed: list[int] = []

    class Killing(Store):
        def save(self, name: str, arrays: Any) -> None:
            if not killed:  # the first unit is finished: the other worker is in the middle of the second
                killed.extend(pids)
                for pid in pids[:1]:
                    os.kill(pid, signal.SIGKILL)
            super().save(name, arrays)

    fleet = _fleet(scheduler=dask.scheduler_address, store=Killing(tmp_path))
    assert killed
    assert not psutil.pid_exists(pids[0]) or psutil.Process(pids[0]).status() == psutil.STATUS_ZOMBIE
    assert (fleet.reused, fleet.trained) == (0, K)
    assert _same(fleet, undisturbed[0], tolerance=1e-5)
    assert _fleet(store=Store(tmp_path)).reused == K


@pytest.mark.thorough
def test_a_task_that_kills_every_dask_worker_ends_in_a_clear_error(dask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def work_on(*arguments: Any) -> list[TrainedModel]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    monkeypatch.setattr(cluster, "work_on", work_on)
    with pytest.raises(UserError, match=r"every worker .* died|all its workers were lost 3 times"):
        _fleet(1, scheduler=dask.scheduler_address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere"])
def test_an_unreachable_scheduler_is_one_line_after_the_wait(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed  # noqa: F401  # its import is no part of the wait

    assert cluster.CONNECT_SECONDS <= 8
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(UserError, match=f"scheduler={address}: cannot be reached") as raised:
        _fleet(1, scheduler=address)
    assert time.monotonic() - start < 6  # not the eight of the constant
    assert "\n" not in str(raised.value)
