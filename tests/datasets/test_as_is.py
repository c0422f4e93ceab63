from __future__ import annotations

import dataclasses
import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from memberscope.config.outside import ShadowStudyConfig
from memberscope.datasets import LabeledData, load_dataset
from memberscope.errors import UserError
from memberscope.studies import setup
from memberscope.sweeps.data_files import load_data, save_data

OWN = "trainer=sklearn.ensemble:RandomForestClassifier"


def _refused(tmp_path: Path, name: str, **options: str) -> str:
    with pytest.raises(UserError) as caught:
        load_dataset(str(tmp_path / name), as_is=True, **options)  # type: ignore[arg-type]  # texts only
    message = str(caught.value)
    assert "\n" not in message
    assert "allowed" in message or "write it again" in message
    return message


@pytest.mark.parametrize(
    ("text", "options", "wanted"),
    [
        ("a,b\n1,0\n2,1\n", {}, "label=label: no column of"),
        ("a,targt\n1,0\n2,1\n", {"label": "target"}, "nearest: targt"),
        ("a,label\n1,0\n2,\n3,1\n", {}, "1 records have no label; allowed: a label per record"),
        ("a,label\n1,0\n2,nan\n3,1\n4,NA\n", {}, "2 records have no label but NA or nan; allowed: a label per record"),
        ("a,label\n1,True\n2,nan\n3,False\n", {}, "1 records have no label but nan"),
        ("a,label\n1,0\n2,0\n", {}, "label=label has only one class; allowed: at least two classes"),
        ("a,label\n1,0.5\n2,0\n", {}, "label=label holds 0.5 in row 0 (counted from 0); allowed: whole numbers"),
        ("a,a,label\n1,1,0\n2,2,1\n", {}, "two columns are named a; allowed: a name for each column"),
        ("a,label,label\n1,1,0\n2,2,1\n", {}, "two columns are named label"),
        ("label\n0\n1\n", {}, "no columns besides label; allowed: at least one feature"),
        ("g,label\n1,0\n2,1\n", {"group": "g"}, "no columns besides label and g"),
        ("a,g,label\n1,1,0\n2,1,1\n", {"group": "g"}, "group=g: all records are in one group, 1; allowed: at least two groups"),
        ("a,g,label\n1,1,0\n2,,1\n", {"group": "g"}, "group=g: 1 records of"),
        ("a,g,label\n1,x,0\n2,,1\n", {"group": "g"}, "group=g: 1 records of"),
        ("a,gr,label\n1,1,0\n2,3,1\n", {"group": "gg"}, "group=gg: no column of"),
        ("a,g,label\n1,1,0\n2,3,1\n", {"group": "label"}, "group=label: no column of"),
        ("a,label\n", {}, "no records; allowed: at least one"),
        ("", {}, "cannot be read"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str, options: dict[str, str], wanted: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert wanted in _refused(tmp_path, "t.csv", **options)


def test_labels_of_a_table_are_classes_in_sorted_order(tmp_path: Path) -> None:
    for labels, names, codes in (
        ("10,9,10", ("9", "10"), [1, 0, 1]),
        ("-1,1,1", ("-1", "1"), [0, 1, 1]),
        ("90210000000,5,5", ("5", "90210000000"), [1, 0, 0]),
        ("1.0,0,1", ("0", "1"), [1, 0, 1]),
        ("b,a,NA", ("NA", "a", "b"), [2, 1, 0]),
        ("007,7,7", ("007", "7"), [0, 1, 1]),
        ("True,False,False", ("False", "True"), [1, 0, 0]),
    ):
        rows = "".join(f"{number},{label}\n" for number, label in enumerate(labels.split(",")))
        (tmp_path / "t.csv").write_text("a,label\n" + rows)
        data = load_dataset(str(tmp_path / "t.csv"), as_is=True)
        assert (data.class_names, data.y.tolist(), data.y.dtype) == (names, codes, np.int64)


def test_words_for_missing_values(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("w,n,label\n?,1,a\nx,?,b\n,2,a\n")
    data = load_dataset(str(tmp_path / "t.csv"), as_is=True, na_values=("?",))
    nan = np.nan
    np.testing.assert_array_equal(data.x, [[nan, 1], [0, nan], [nan, 2]])


def test_the_built_in_trainer_takes_tables_of_numbers_from_0_to_1(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,g,label\n0.5,True,7,x\n1,False,8,y\n0,True,8,x\n")
    data = load_dataset(str(path), group="g")
    assert data.table is None
    assert data.x.dtype == np.float32
    assert data.x.tolist() == [[0.5, 1], [1, 0], [0, 1]]
    assert data.groups is not None
    assert data.groups.tolist() == [0, 1, 1]
    for text, wanted in (
        ("a,label\n17,x\n18,y\n", "column a holds numbers from 17 to 18; allowed for the built-in models: numbers in [0, 1]"),
        ("a,label\n1,x\n,y\n", "column a has 1 missing or infinite values"),
        ("a,w,label\n1,u,x\n0,v,y\n", "column w holds words"),
    ):
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            load_dataset(str(path))
        assert wanted in str(caught.value)
        assert OWN in str(caught.value)
    with pytest.raises(
        UserError, match=r"a \.npy file; allowed for the built-in models: an \.npz with x and y; a \.npy is allowed with"
    ):
        load_dataset(str(tmp_path / "x.npy"), label="y.npy")


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int16, np.uint8, np.bool_, np.int64])
def test_arrays_keep_their_numbers_and_type(tmp_path: Path, dtype: type) -> None:
    x = (np.random.default_rng(0).normal(size=(30, 4, 2)) * 50).astype(dtype)
    np.savez(tmp_path / "own.npz", x=x, y=np.where(np.arange(30) % 3, 10**12, -1), who=np.arange(30) // 2)
    data = load_dataset(str(tmp_path / "own.npz"), as_is=True, group="who", duplicates="keep")
    assert data.x.dtype == dtype
    np.testing.assert_array_equal(data.x, x)
    assert data.class_names == ("-1", "1000000000000")
    assert data.groups is not None
    assert data.groups.tolist() == (np.arange(30) // 2).tolist()


def test_arrays_that_cannot_be_read(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    for name, arrays, options, wanted in (
        ("nan", {"x": x, "y": np.where(y, np.nan, 1.0)}, {}, "y has 10 missing or infinite labels"),
        ("length", {"x": x, "y": y[:-1]}, {}, "y has shape (19,) for 20 records"),
        ("one", {"x": x, "y": y * 0}, {}, "y has only one class"),
        ("rank", {"x": x[:, 0], "y": y}, {}, "allowed: numbers (records, ...)"),
        ("group", {"x": x, "y": y, "who": y}, {"group": "whp"}, "group=whp: no array of"),
        ("gap", {"x": x, "y": y, "who": np.where(y, np.nan, 1.0)}, {"group": "who"}, "group=who: 10 records have no group"),
        ("short", {"x": x, "y": y, "who": y[:5]}, {"group": "who"}, "group=who is int64 of shape (5,) for 20 records"),
        ("features", {"x": x, "y": y}, {"group": "x"}, "group=x: no array of"),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)  # type: ignore[arg-type]  # a dictionary of arrays
        assert wanted in _refused(tmp_path, f"{name}.npz", **options)
    with pytest.raises(UserError, match="group=who: digits has no groups; allowed: a column of a"):
        load_dataset("digits", group="who")


@pytest.fixture
def mapped(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).normal(size=(40_000, 64))
    y = np.arange(40_000) % 3
    x[7], y[7] = x[3], y[3]
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y * 1000)
    np.save(tmp_path / "who.npy", np.arange(40_000) // 4)
    return tmp_path


def test_a_mapped_file_is_never_read_as_a_whole(mapped: Path) -> None:
    x = np.load(mapped / "x.npy")
    size = x.nbytes
    whole = hashlib.sha256(f"{x.dtype.str}{np.delete(x, 7, 0).shape}".encode() + np.delete(x, 7, 0).tobytes())
    tracemalloc.start()
    try:
        data = load_dataset(str(mapped / "x.npy"), as_is=True, label=str(mapped / "y.npy"), group=str(mapped / "who.npy"))
        digest = data.digest
        chosen = data.choose("0,2000", choice="first", seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size  # 20 MB; the chunks have 8 MB
    assert (len(data), data.copies, data.class_names) == (39_999, 1, ("0", "1000", "2000"))
    assert isinstance(data.x, np.memmap)
    assert isinstance(chosen.x, np.memmap)
    assert data.groups is not None
    assert np.array_equal(data.x, np.delete(x, 7, 0))
    assert np.array_equal(data.groups, np.delete(np.arange(40_000) // 4, 7))
    assert np.array_equal(chosen.x, data.x[data.y != 1])
    assert chosen.groups is not None
    assert np.array_equal(chosen.groups, data.groups[data.y != 1])
    whole.update(f"{data.y.dtype.str}{data.y.shape}".encode() + data.y.tobytes())
    assert digest == whole.hexdigest()


def test_mapped_files_that_cannot_be_read(mapped: Path) -> None:
    content = (mapped / "x.npy").read_bytes()
    (mapped / "half.npy").write_bytes(content[: len(content) // 2])
    (mapped / "head.npy").write_bytes(content[:20])
    (mapped / "empty.npy").write_bytes(b"")
    (mapped / "pickle.npy").write_bytes(b"\x80\x04]K\x01a.")
    np.save(mapped / "objects.npy", np.array([1, "a", None], dtype=object))
    np.save(mapped / "flat.npy", np.arange(40_000))
    np.save(mapped / "short.npy", np.arange(10))
    np.save(mapped / "gaps.npy", np.where(np.arange(40_000) % 2, np.nan, 1.0))
    np.save(mapped / "one.npy", np.ones(40_000))
    y = str(mapped / "y.npy")
    for name, options, wanted in (
        ("half", {"label": y}, "shorter than its header says"),
        ("head", {"label": y}, "truncated or damaged"),
        ("empty", {"label": y}, "truncated or damaged"),
        ("pickle", {"label": y}, "not a .npy file"),
        ("objects", {"label": y}, "holds Python objects (a pickle)"),
        ("flat", {"label": y}, "allowed: numbers (records, ...)"),
        ("none", {"label": y}, "cannot be read (No such file"),
        ("x", {}, "label=: not a .npy file"),
        ("x", {"label": "label"}, "label=label: not a .npy file; allowed with dataset="),
        ("x", {"label": str(mapped / "objects.npy")}, "holds Python objects (a pickle)"),
        ("x", {"label": str(mapped / "short.npy")}, "has shape (10,) for 40000 records; allowed: one label per record"),
        ("x", {"label": str(mapped / "gaps.npy")}, "has 20000 missing or infinite labels"),
        ("x", {"label": str(mapped / "one.npy")}, "has only one class"),
        ("x", {"label": y, "group": "who"}, "group=who: not a .npy file"),
        ("x", {"label": y, "group": str(mapped / "one.npy")}, "all records are in one group"),
        ("x", {"label": y, "group": str(mapped / "short.npy")}, "is int64 of shape (10,) for 40000 records"),
    ):
        assert wanted in _refused(mapped, f"{name}.npy", **options)


def test_groups_and_columns_follow_the_records(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.uint8).reshape(6, 2)
    data = LabeledData(
        name="toy", x=x, y=np.arange(6) % 3, class_names=("a", "b", "c"), source="", groups=np.array([4, 4, 2, 2, 0, 0])
    )
    longer = data.extended(np.full((2, 2), 0.5), np.array([0, 1]), source="made")
    assert longer.groups is not None
    assert longer.groups.tolist() == [4, 4, 2, 2, 0, 0, 5, 6]
    chosen = data.choose("a,c", choice="first", seed=0).groups
    assert chosen is not None
    assert chosen.tolist() == [4, 2, 2, 0]
    with pytest.raises(ValueError, match=r"\(2,\) numbers of groups for 6 records"):
        LabeledData(name="toy", x=x, y=data.y, class_names=data.class_names, source="", groups=np.zeros(2, dtype=np.int64))
    (tmp_path / "t.csv").write_text("w,who,label\na,1,x\nb,2,y\nc,2,x\n")
    table = load_dataset(str(tmp_path / "t.csv"), as_is=True, group="who")
    again = load_data(save_data(table, tmp_path / "kept"))
    assert again.table == table.table
    assert again.digest == table.digest
    assert again.groups is not None
    assert table.groups is not None
    assert np.array_equal(again.groups, table.groups)
    bare = load_dataset(str(tmp_path / "t.csv"), as_is=True, group="w")  # other records, so another folder
    assert load_data(save_data(bare, tmp_path / "kept")).groups is not None
    with pytest.raises(
        UserError, match="shadow_data: t is a table with words, to which made records cannot be added; allowed: real"
    ):
        table.extended(np.zeros((1, 1)), np.array([0]), source="made")


@pytest.mark.parametrize("trainer", ["sklearn.ensemble", "my_model.py"])
def test_a_trainer_without_the_name_of_its_function_is_said_before_its_records_are_refused(
    trainer: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("age,label\n17,x\n18,y\n")
    with pytest.raises(
        UserError, match=rf"^trainer={trainer}: unknown; allowed: keras, or a function or class of your own, as path"
    ):
        setup.load_data(ShadowStudyConfig(dataset=str(path), trainer=trainer))


def test_a_study_reads_data_as_they_are_for_a_trainer_from_outside(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("age,city,who,target\n17,Rome,1,x\n18,?,2,y\n19,Oslo,2,x\n")

    config = ShadowStudyConfig(dataset=str(path), label="target", group="who", na_values="?, -")
    with pytest.raises(UserError, match="column age holds numbers from 17 to 19"):
        setup.load_data(config)
    own = dataclasses.replace(config, trainer="sklearn.ensemble:RandomForestClassifier")
    data = setup.load_data(own)
    assert data.table is not None
    assert setup.facts_of(data).table == data.table
    assert data.table.columns[1].categories == ("Oslo", "Rome")
    assert data.groups is not None
    assert data.groups.tolist() == [0, 1, 1]
    other = setup.load_data(own, name="digits")  # a second data set has no such column
    assert (other.groups, other.table) == (None, None)
