"""Shadow data made from a model, its card, and how well its shadows transfer: on a little of the embedded data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memberscope.config.outside import ShadowStudyConfig, SynthesizeConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.studies import setup
from memberscope.studies.result import StudyResult
from memberscope.studies.shadow import study as shadow
from memberscope.studies.synthesize import study as synthesize
from memberscope.studies.synthesize.answer import sentences
from memberscope.tracking import MemoryTracker

CLASSES, BITS = 4, 40
TINY = {"members": 120, "shadows": 2, "epochs": 20, "width": 32, "depth": 1, "batch_size": 20}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bits whose frequencies tell four classes apart."""
    rng = np.random.default_rng(0)
    y = np.arange(800) % CLASSES
    frequency = rng.random((CLASSES, BITS)) * 0.5
    x = (rng.random((800, BITS)) < frequency[y]).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "bits.npz"
    np.savez(path, x=x, y=y)
    return path


def _run(dataset: Path, folder: Path, **changes: object) -> tuple[MemoryTracker, StudyResult]:
    tracker = MemoryTracker()
    config = SynthesizeConfig(**({**TINY, "dataset": str(dataset), "store": str(folder), "records": 240} | changes))
    with StopFlag() as stop:
        return tracker, synthesize.run(config, tracker, stop)


@pytest.fixture(scope="module")
def done(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryTracker, StudyResult]:
    return _run(table, tmp_path_factory.mktemp("models"), method="hill_climb,marginal", fleets=5)


def test_the_records_are_a_data_set_with_a_card(done: tuple[MemoryTracker, StudyResult], tmp_path: Path) -> None:
    tracker, result = done
    assert tracker.description.startswith(f"**{result.answer.splitlines()[0]}**"), "MLflow folds all but the first two lines"
    path = tmp_path / "records.npz"
    path.write_bytes(tracker.artifacts["hill_climb/records.npz"])
    with np.load(path) as made:
        assert made["x"].shape == (240, BITS)
        assert np.bincount(made["y"]).tolist() == [60] * CLASSES
        assert set(np.unique(made["x"])) <= {0.0, 1.0}
    card = tracker.artifacts["hill_climb/card.csv"].set_index("figure")["value"]
    assert card["agreement"] == 1.0
    assert card["confidence"] > 0.8
    assert card["queries"] == tracker.artifacts["hill_climb/by_class.csv"]["queries"].sum()
    assert {"hill_climb/records.png", "marginal/card.json", "cards.csv", "transfer.png"} <= set(tracker.artifacts)


def test_transfer_is_measured_against_real_records_and_junk_over_fleets(done: tuple[MemoryTracker, StudyResult]) -> None:
    tracker, result = done
    rows = tracker.artifacts["fleets.csv"]
    assert set(rows["method"]) == {"real", "junk", "hill_climb", "marginal"}
    assert set(rows["fleet"]) == set(range(5))
    table = tracker.artifacts["transfer.csv"].set_index(["method", "attack"])
    for method in ("hill_climb", "marginal"):
        row = table.loc[(method, "shadow_shokri")]
        assert row["transfer_status"] in ("ok", "undefined")
        assert row["gain_ci_low"] < row["gain"] < row["gain_ci_high"]
    assert pd.isna(table.loc[("real", "shadow_shokri"), "transfer"])
    assert "hill_climb minus junk: balanced accuracy" in result.answer


def test_real_records_and_junk_are_as_many_as_the_records_made(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """80 records are made where the pool holds 240: what differs between shadows is then their data and not their number."""
    sizes: dict[str, set[int]] = {}
    whole = setup.train_fleet

    def watched(trainer: Any, data: Any, members: Any, *rest: Any, label: str, queries: Any) -> Any:
        sizes[label] = {len(index) for index in members}
        return whole(trainer, data, members, *rest, label=label, queries=queries)

    monkeypatch.setattr(setup, "train_fleet", watched)
    _run(table, tmp_path, method="noisy,marginal", fleets=1, records=80)
    for label in ("real", "junk", "noisy", "marginal"):
        assert sizes[f"fleet 0, {label}"] == {40}


def test_the_releases_defence_knows_no_record_that_is_audited_as_a_non_member(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    whole = synthesize.defence_data

    def watched(data: Any, plan: Any, fleet: Any) -> Any:
        known = whole(data, plan, fleet)
        seen.append((plan, data, known))
        return known

    monkeypatch.setattr(synthesize, "defence_data", watched)
    tracker, _ = _run(table, tmp_path, method="junk", fleets=1, records=80, release="memguard=0.5")
    assert set(tracker.artifacts["fleets.csv"]["method"]) == {"real", "junk"}
    ((plan, data, known),) = seen
    assert known.member.sum() == plan.member[0].sum()
    assert np.array_equal(known.labels[~known.member], data.y[plan.population])


def test_fewer_than_five_fleets_are_not_assessed_and_holm_goes_over_all_lines() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=8)
    noise -= noise.mean()
    slight = 2.6 * noise.std(ddof=1) / np.sqrt(8)  # p = 0.035 alone, 0.14 of four

    def frame(fleets: int, methods: dict[str, float]) -> pd.DataFrame:
        rows = [
            {"fleet": fleet, "method": method, "attack": "a", "balanced_accuracy": value}
            for method, shift in methods.items()
            for fleet, value in enumerate(0.7 + shift + (0.0 if method in ("junk", "real") else 1.0) * noise[:fleets])
        ]
        return pd.DataFrame(rows)

    alone = sentences(frame(8, {"real": 0.0, "junk": 0.0, "noisy": slight}), ("noisy",))
    assert len(alone) == 1
    assert ": above (Holm" in alone[0]
    names = ("noisy", "hill_climb", "gan", "junk", "noisier")
    several = sentences(frame(8, {"real": 0.0, "junk": 0.0} | dict.fromkeys([n for n in names if n != "junk"], slight)), names)
    assert len(several) == 4
    assert all("not told apart" in line for line in several)
    assert "not assessed" in sentences(frame(4, {"real": 0.0, "junk": 0.0, "noisy": 0.2}), ("noisy",))[0]


def test_same_seed_same_records(table: Path, tmp_path: Path) -> None:
    once, _ = _run(table, tmp_path / "a", method="hill_climb", fleets=0, records=40)
    again, _ = _run(table, tmp_path / "b", method="hill_climb", fleets=0, records=40)
    assert once.artifacts["hill_climb/records.npz"] == again.artifacts["hill_climb/records.npz"]


def test_a_rounded_release_can_be_climbed(table: Path, tmp_path: Path) -> None:
    tracker, _ = _run(table, tmp_path, method="hill_climb", fleets=0, records=40, release="top=2,digits=2")
    assert tracker.artifacts["hill_climb/card.csv"].set_index("figure")["value"]["records"] == 40


def test_shadows_can_be_trained_on_made_records(table: Path, tmp_path: Path) -> None:
    tracker = MemoryTracker()
    config = ShadowStudyConfig(
        **TINY, dataset=str(table), store=str(tmp_path), design="disjoint", shadow_data="hill_climb", targets=1, population=60,
        attacks="shadow,threshold", distill_epochs=2, perturbed=4,
    )  # fmt: skip
    with StopFlag() as stop:
        shadow.run(config, tracker, stop)
    models = tracker.children[0].artifacts["models.csv"]
    assert models["role"].tolist() == ["target", "shadow", "shadow"]
    frame = tracker.children[1].artifacts["attacks.csv"]
    ran = frame[(frame["metric"] == "auc") & (frame["slice"] == "entire") & (frame["status"] == "ok")]
    assert {"shadow_shokri", "shadow_salem", "lira_offline", "rmia_offline"} <= set(ran["attack"])
    assert "made by hill_climb" in next(given for given in tracker.inputs if given.context == "shadow").source
    assert len(list((tmp_path / "climbs").glob("*.npz"))) == 1, "a climb that is stopped goes on from here"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "hill_clim"}, "method=hill_clim: unknown"),
        ({"method": "hill_climb", "release": "label_only"}, "release=label_only: the climb needs confidences"),
        ({"release": "top=9"}, "top"),
        ({"method": "junk", "release": "label_only"}, "the attacks that measure transfer need confidences"),
        (
            {"release": "memguard=0.5", "members": 200},
            "leaves 0 records as the non-members on which the defence of release=memguard=0.5 is fitted",
        ),
        ({"method": "gan", "records": 24, "fleets": 0}, "allowed: at least 8 of each class"),
        ({"method": "hill_climb", "fleets": 0, "iter_max": 1, "attempts": 1, "conf_min": 0.999999}, "not reached in"),
        ({"members": 400}, "members=400: design=disjoint needs 4 x members"),
    ],
)
def test_what_cannot_be_made_gets_one_line(table: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        _run(table, tmp_path, **changes)


def test_what_was_found_is_kept_where_a_class_was_not_reached(table: Path, tmp_path: Path) -> None:
    tracker = MemoryTracker()
    config = SynthesizeConfig(
        **TINY,
        dataset=str(table),
        store=str(tmp_path),
        method="hill_climb",
        fleets=0,
        records=400,
        iter_max=4,
        attempts=1,
        conf_min=0.97,
    )
    with pytest.raises(UserError, match=r"are kept in hill_climb/records\.npz"), StopFlag() as stop:
        synthesize.run(config, tracker, stop)
    assert len(tracker.artifacts["hill_climb/records.npz"]) > 200
    assert len(tracker.artifacts["hill_climb/by_class.csv"]) == CLASSES


def test_a_file_for_shadows_may_not_hold_the_targets_records(table: Path, tmp_path: Path) -> None:
    config = ShadowStudyConfig(
        **TINY,
        dataset=str(table),
        store=str(tmp_path / "models"),
        design="disjoint",
        shadow_data=str(table),
        targets=1,
        population=60,
    )
    with pytest.raises(UserError, match=r"300 of its 800 records are the targets' or the population's"), StopFlag() as stop:
        shadow.run(config, MemoryTracker(), stop)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shadow_data": "hill_clim", "design": "disjoint"}, "shadow_data=hill_clim: unknown"),
        ({"shadow_data": "junk"}, "design=half: shadow_data=junk gives shadows a pool of their own"),
    ],
)
def test_shadow_data_that_there_is_not_or_has_no_room(
    table: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as error, StopFlag() as stop:
        shadow.run(ShadowStudyConfig(**TINY, dataset=str(table), store=str(tmp_path), **changes), MemoryTracker(), stop)
    assert message in str(error.value)
