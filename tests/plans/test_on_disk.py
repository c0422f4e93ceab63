"""A plan as a folder of plain files: what it holds, that it is read back exactly, and which folders are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from memberscope.datasets import Table, TableColumn
from memberscope.errors import UserError
from memberscope.plans.on_disk import PlanFolder, model_name, read_plan_folder
from memberscope.plans.shadow import make_shadow_plan

LABELS = np.arange(130) % 3


def _folder(*, seed: int = 0, design: str = "half", targets: int = 2) -> PlanFolder:
    plan = make_shadow_plan(
        LABELS, design=design, members=20, population=30, shadows=4, targets=targets, coin_flips=False, seed=seed
    )
    return PlanFolder(
        plan=plan, labels=LABELS[::-1].copy(), seeds=np.arange(plan.n_models) + 7, rows=np.arange(130) + 5, dataset="mine.csv",
        name="mine", source="a file", data_digest="ab" * 32, class_names=("a", "b", "c"), shape=(4,), noise=0.1,
        shifts=((0, 0), (0, 1)), table=Table(columns=(TableColumn(name="kind", kind="word", categories=("x", "y")),)),
        options={"dataset": "mine.csv", "shadows": 4, "coin_flips": "no"},
    )  # fmt: skip


@pytest.mark.parametrize("design", ["half", "disjoint"])
def test_a_plan_is_read_back_exactly(tmp_path: Path, design: str) -> None:
    made = _folder(design=design)
    made.write(tmp_path / "a" / "plan")
    found = read_plan_folder(tmp_path / "a" / "plan")
    assert found.plan.digest == made.plan.digest
    assert found.digest == made.digest
    for item in dataclasses.fields(PlanFolder):
        ours, theirs = getattr(made, item.name), getattr(found, item.name)
        if isinstance(ours, np.ndarray):
            assert np.array_equal(ours, theirs)
        elif item.name != "plan":
            assert ours == theirs, item.name


def test_the_files_are_plain_positions_of_each_model(tmp_path: Path) -> None:
    made = _folder()
    made.write(tmp_path)
    files = sorted(path.name for path in (tmp_path / "members").iterdir())
    assert files == [f"model_{k:03d}.npy" for k in range(6)]
    records = np.load(tmp_path / "records.npy", allow_pickle=False)
    assert np.array_equal(records, made.plan.records)
    assert np.array_equal(np.load(tmp_path / "population.npy"), made.plan.population)
    for k, name in enumerate(files):
        index = np.load(tmp_path / "members" / name, allow_pickle=False)
        assert index.dtype == np.int64
        assert np.array_equal(np.isin(records, index), made.plan.member[k])
    about = json.loads((tmp_path / "plan.json").read_text())
    assert about["arrays"]["logits"]["shape"] == [40, 3]
    assert about["arrays"]["population"]["shape"] == [30, 3]
    assert about["arrays"]["copies"]["shape"] == [40, 2, 3]
    assert about["members"] == [20] * 6
    assert "model_000.npz to model_005.npz" in about["expected_back"]
    assert json.loads((tmp_path / "columns.json").read_text())["columns"][0]["categories"] == ["x", "y"]


def test_the_digest_depends_on_everything_that_the_models_depend_on() -> None:
    made = _folder()
    seen = {made.digest}
    for change in (
        {"labels": LABELS}, {"seeds": made.seeds + 1}, {"data_digest": "cd" * 32}, {"class_names": ("a", "b", "c", "d")},
        {"plan": _folder(seed=1).plan}, {"shifts": ()},
    ):  # fmt: skip
        seen.add(dataclasses.replace(made, **change).digest)
    assert len(seen) == 7
    assert dataclasses.replace(made, name="another", dataset="elsewhere.csv").digest == made.digest, "a name is no content"


def test_names_have_as_many_digits_as_the_last_model_needs() -> None:
    assert [model_name(7, 18), model_name(7, 1000), model_name(7, 1001)] == ["model_007", "model_007", "model_0007"]


def test_a_folder_with_other_content_is_not_written_over(tmp_path: Path) -> None:
    made = _folder()
    made.write(tmp_path / "plan")
    made.write(tmp_path / "plan")  # the same plan
    with pytest.raises(UserError, match=r"holds another plan, [0-9a-f]{16}; allowed: a folder that is new or empty$"):
        _folder(seed=1).write(tmp_path / "plan")
    assert read_plan_folder(tmp_path / "plan").digest == made.digest
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "own.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        made.write(tmp_path / "notes")
    with pytest.raises(UserError, match="a file; allowed: a folder"):
        made.write(tmp_path / "notes" / "own.txt")


def _set(name: str, value: object) -> object:
    def change(folder: Path) -> None:
        about = json.loads((folder / "plan.json").read_text())
        about[name] = value
        (folder / "plan.json").write_text(json.dumps(about))

    return change


def _save(name: str, array: np.ndarray) -> object:
    return lambda folder: np.save(folder / name, array)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("version", 2), "plan.json is of format 'memberscope shadow plan', version 2; allowed: 'memberscope shadow plan', version 1"),
        (_set("format", "theirs"), "is of format 'theirs'"),
        (_set("digest", "00"), "its files do not belong together"),
        (_set("data_digest", "ef" * 32), "its files do not belong together"),
        (_set("class_names", None), "plan.json or columns.json is damaged"),
        (_save("labels.npy", LABELS), "its files do not belong together"),
        (_save("labels.npy", LABELS / 2), "labels.npy is float64 of shape (130,); allowed: whole numbers in a row"),
        (_save("members/model_003.npy", np.arange(20)), "members/model_003.npy differs from membership.npz"),
        (_save("records.npy", np.arange(40)), "records.npy differs from membership.npz"),
        (lambda folder: (folder / "plan.json").unlink(), "has no plan.json; allowed: a folder that memberscope plan wrote"),
        (lambda folder: (folder / "plan.json").write_text("{"), "plan.json is damaged"),
        (lambda folder: (folder / "seeds.npy").unlink(), "seeds.npy: cannot be read"),
        (lambda folder: (folder / "membership.npz").write_bytes(b"PK"), "truncated or damaged"),
    ],
)  # fmt: skip
def test_a_folder_that_was_changed_is_refused_in_one_line(tmp_path: Path, change: object, words: str) -> None:
    _folder().write(tmp_path)
    change(tmp_path)  # type: ignore[operator]
    with pytest.raises(UserError) as error:
        read_plan_folder(tmp_path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; allowed: a folder that memberscope plan wrote"):
        read_plan_folder(tmp_path / "plan")
