"""Members and non-members from files: what is read, which records are the same, and what bad files get."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memberscope import installed
from memberscope.datasets.records import Records, check_apart, digest, read_records, record_ids
from memberscope.errors import UserError
from memberscope.reading import frames


def frame(n: int = 40, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    words = np.array(["red", "green", "blue"])[rng.integers(0, 3, n)]
    return pd.DataFrame(
        {"age": rng.integers(18, 90, n), "income": rng.normal(size=n), "colour": words, "label": rng.integers(0, 2, n)}
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_one_record_is_the_same_in_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    table = frame()
    table.to_csv(tmp_path / "a.csv", index=False)
    turned = table.astype({"age": float}).iloc[::-1]
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow, which reads Parquet, of the extra [mlflow]")
        turned.to_parquet(tmp_path / "b.parquet", index=False)
    else:
        turned.to_csv(tmp_path / "b.csv", index=False)
    ours, theirs = (
        read_records(name, str(tmp_path / file), label="label")
        for name, file in (("members", "a.csv"), ("nonmembers", f"b.{kind}"))
    )
    assert ours.columns == ("age", "income", "colour")
    a, b = record_ids(ours, theirs)
    np.testing.assert_array_equal(a, b[::-1])
    assert len(np.unique(a)) == len(a)
    shuffled = replace(theirs, x=theirs.x[["colour", "age", "income"]])
    np.testing.assert_array_equal(record_ids(ours, shuffled)[1], b)


def test_without_pyarrow_a_csv_file_is_read_alike_and_parquet_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame().to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "b.parquet").touch()
    found = read_records("members", str(tmp_path / "a.csv"), label="label")
    monkeypatch.setattr(frames, "is_installed", lambda module: module != "pyarrow")
    monkeypatch.setattr(installed, "is_installed", lambda module: module != "pyarrow")
    plain = read_records("members", str(tmp_path / "a.csv"), label="label")
    assert {str(dtype) for dtype in plain.x.dtypes} == {"string"}
    assert all(dtype.storage == "python" for dtype in plain.x.dtypes)
    np.testing.assert_array_equal(*record_ids(found, plain))
    with pytest.raises(
        UserError, match=r"members=.*b.parquet: needs pyarrow, .* allowed: an .npz or a .csv, or .*memberscope\[mlflow\]"
    ):
        read_records("members", str(tmp_path / "b.parquet"), label="label")


def test_arrays_are_compared_as_numbers_and_labels_belong_to_a_record() -> None:
    x, y = np.arange(12, dtype=np.uint8).reshape(4, 3), np.array([0, 1, 0, 1])
    ours = Records(x=x, y=y, name="members", path="a")
    a, b = record_ids(ours, Records(x=x.astype(np.float32), y=y.astype(float), name="nonmembers", path="b"))
    np.testing.assert_array_equal(a, b)
    _, other = record_ids(ours, Records(x=x, y=1 - y, name="nonmembers", path="b"))
    assert not np.isin(a, other).any()
    negative = Records(x=np.array([[-0.0, 1.0]]), y=y[:1], name="members", path="a")
    a, b = record_ids(negative, Records(x=np.array([[0.0, 1.0]]), y=y[:1], name="nonmembers", path="b"))
    assert a[0] == b[0]


def test_records_on_both_sides_are_counted_and_placed() -> None:
    members, nonmembers = np.array([5, 6, 7, 8]), np.array([1, 7, 2, 5])
    with pytest.raises(UserError, match=r"2 of 4 members are also non-members .*0 is 3, 2 is 1"):
        check_apart(members, nonmembers, allowed=False)
    kept = check_apart(members, nonmembers, allowed=True)
    assert kept.startswith("2 of 4 members are also non-members; allow_overlap=yes")
    assert "0 is 3" not in kept, "runs keep it, and it would name two members"
    assert check_apart(members, nonmembers + 100, allowed=False) == ""
    assert digest(members) != digest(members[::-1])


def test_numbers_for_controls_code_words_alike() -> None:
    ours = Records(x=pd.DataFrame({"c": ["b", "a"], "n": [1.0, np.nan]}), y=np.zeros(2), name="members", path="a")
    theirs = Records(x=pd.DataFrame({"c": ["c", "a"], "n": [1, 2]}), y=np.zeros(2), name="nonmembers", path="b")
    np.testing.assert_array_equal(ours.numbers(theirs), [[1, 1], [0, np.nan]], err_msg="what is missing stays missing")
    np.testing.assert_array_equal(theirs.numbers(ours), [[2, 1], [0, 2]])


def _write(folder: Path) -> dict[str, Path]:
    frame().to_csv(folder / "good.csv", index=False)
    (folder / "text.txt").write_text("x")
    (folder / "broken.parquet").write_bytes(b"PAR1 no")
    (folder / "empty.csv").write_text("label,a\n")
    gap = frame().astype({"label": float})
    gap.loc[3, "label"] = np.nan
    gap.to_csv(folder / "gap.csv", index=False)
    np.savez(folder / "flat.npz", x=np.zeros(5), y=np.zeros(5))
    np.savez(folder / "short.npz", x=np.zeros((5, 2)), y=np.zeros(4))
    np.savez(folder / "named.npz", x=np.zeros((5, 2)), labels=np.zeros(5))
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("file", "label", "part"),
    [
        ("nowhere.csv", "label", "members=.*cannot be read .No such file"),
        ("text.txt", "label", "unknown kind"),
        ("broken.parquet", "label", "cannot be read|needs pyarrow"),
        ("empty.csv", "label", "no record"),
        ("gap.csv", "label", "1 records have no label"),
        ("good.csv", "labl", "label=labl: no column .*nearest: label"),
        ("flat.npz", "label", "x is float64 of shape"),
        ("short.npz", "label", "y is float64 of shape"),
        ("named.npz", "label", "has no array 'y', only labels, x"),
    ],
)
def test_bad_files_get_one_line(tmp_path: Path, file: str, label: str, part: str) -> None:
    _write(tmp_path)
    with pytest.raises(UserError, match=part):
        read_records("members", str(tmp_path / file), label=label)
    with pytest.raises(UserError, match="members=: missing"):
        read_records("members", "", label=label)


def test_files_that_differ_are_named() -> None:
    table = frame().drop(columns="label")
    y = np.zeros(40)
    ours = Records(x=table, y=y, name="members", path="a.csv")
    with pytest.raises(UserError, match="columns age, years are in one file only"):
        record_ids(ours, Records(x=table.rename(columns={"age": "years"}), y=y, name="nonmembers", path="b.csv"))
    with pytest.raises(UserError, match="one file has an array"):
        record_ids(ours, Records(x=np.zeros((40, 3)), y=y, name="nonmembers", path="b.npz"))
    with pytest.raises(UserError, match=r"records of shape \(2,\), but members of shape \(3,\)"):
        record_ids(*(Records(x=np.zeros((4, k)), y=np.zeros(4), name="x", path="p") for k in (3, 2)))
