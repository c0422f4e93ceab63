from __future__ import annotations

import numpy as np
import pytest

from memberscope.config.training import TrainStudyConfig
from memberscope.datasets import LabeledData, duplicates, load_dataset
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.studies import train
from memberscope.tracking import MemoryTracker


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """300 records, of which the first 100 stand there three times in all, and ten more with another label."""
    rng = np.random.default_rng(0)
    x, y = rng.random((300, 6), dtype=np.float32), rng.integers(0, 3, 300)
    rows = np.r_[np.arange(300), np.arange(100), np.arange(100), np.arange(200, 210)]
    labels = y[rows]
    labels[-10:] = (labels[-10:] + 1) % 3
    made = tmp_path_factory.mktemp("copies") / "own.npz"
    np.savez(made, x=x[rows], y=labels)
    return str(made)


def test_copies_are_dropped_kept_or_refused(path: str) -> None:
    dropped = load_dataset(path)
    assert (len(dropped), dropped.copies, dropped.same) == (310, 200, None)
    assert dropped.notes == (
        "10 of 510 records have the same features as another, but a different label; they are kept",
        "200 of 510 records are exact copies of others and were left out: each record counts once",
    )
    kept = load_dataset(path, duplicates="keep")
    assert (len(kept), kept.copies) == (510, 200)
    assert kept.same is not None
    assert kept.same[300:400].tolist() == kept.same[400:500].tolist() == list(range(100))
    with pytest.raises(UserError, match=r"duplicates=refuse: 200 of 510 records of own are exact copies of others; allowed:"):
        load_dataset(path, duplicates="refuse")


def test_what_was_kept_is_counted_within_and_across_sides(path: str) -> None:
    data = load_dataset(path, duplicates="keep")
    sides = {"members": np.r_[0:100, 300:340], "nonmembers": np.r_[200:250, 400:410]}
    assert duplicates.kept_copies(data, sides) == {"within": 40, "across": 10 + 10 + 10}
    said = duplicates.notes(data, sides)
    assert "40 are on the side of another, and 30 records have a copy on another side" in said[-1]
    assert duplicates.facts(data, sides) == {"data.copies": 200, "data.copies_within": 40, "data.copies_across": 30}
    few = data.choose("2", choice="first", seed=0)
    assert few.same is not None
    assert np.array_equal(few.same, data.same[data.y < 2])
    with pytest.raises(UserError, match="duplicates=keep: own has exact copies, and with shadow models"):
        duplicates.check_each_once(data)
    duplicates.check_each_once(load_dataset(path))


def test_sizes_that_no_longer_fit_are_forgotten() -> None:
    from memberscope.datasets import Sizes

    sizes = Sizes(members=0, nonmembers=30, validation=15)
    data = LabeledData(
        name="a", x=np.arange(60)[:, None] // 2, y=np.zeros(60, int), class_names=("a", "b"), source="", sizes=sizes
    )
    assert duplicates.settle_copies(data, duplicates="keep").sizes == sizes
    assert duplicates.settle_copies(data, duplicates="drop").sizes is None


def run(path: str, **options: object) -> tuple[MemoryTracker, str]:
    tracker = MemoryTracker()
    config = TrainStudyConfig(
        dataset=path, model="mlp", depth=1, epochs=2, attacks="threshold_loss", slices="entire", members=100, nonmembers=100,
        validation=50, **options,
    )  # fmt: skip
    return tracker, train.run(config, tracker, StopFlag()).answer


def test_a_study_says_what_copies_there_were_and_audits_each_record_once(path: str) -> None:
    tracker, answer = run(path)
    assert "200 of 510 records are exact copies of others and were left out" in answer
    assert tracker.logged_params["data.copies"] == 200
    assert tracker.logged_params["data.copies_across"] == 0
    tracker, answer = run(path, duplicates="keep")
    assert "200 exact copies were kept" in answer
    frame = tracker.artifacts["attacks.csv"]
    within = tracker.logged_params["data.copies_within"]
    assert 0 < within < 200
    row = frame[frame["metric"] == "auc"].iloc[0]
    data = load_dataset(path, duplicates="keep")
    assert row["n_member"] < 100, "copies on one side count once in the audit"
    assert row["n_member"] + row["n_nonmember"] >= 200 - within
    assert data.record_ids(np.array([0, 300, 400])).tolist() == [0, 0, 0]
