"""One schema for all tables: the same record from CSV, Parquet and a frame, words that stay words, and what is refused."""

from __future__ import annotations

import datetime
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memberscope.datasets.records import plain_labels, read_records, record_ids
from memberscope.datasets.schema import Records, column_values, one_schema
from memberscope.errors import UserError


def every_type(n: int = 12) -> pd.DataFrame:
    """Columns of each type that pandas reads."""
    rng = np.random.default_rng(0)
    gap = np.arange(n) % 5 == 4
    frame = pd.DataFrame(
        {
            "nullable": pd.array(np.arange(n), dtype="Int64"), "byte": np.arange(n, dtype=np.uint8), "real": rng.normal(size=n),
            "small": rng.normal(size=n) * 1e-300, "flag": pd.array(np.arange(n) % 2 == 0, dtype="boolean"), "bit": np.arange(n) % 3 == 0,
            "zip": [f"{17 * k:05d}" for k in range(n)], "word": ["NA", "null", "x,y", 'say "so"'] * (n // 4),
            "kind": pd.Categorical(["a", "b", "c"] * (n // 3)), "text": pd.array(["p", "q"] * (n // 2), dtype="string"),
            "since": pd.date_range("2020-01-01", periods=n), "at": pd.date_range("2020-01-01 10:00:00.5", periods=n, freq="h"),
            "day": [datetime.date(2020, 1, 1 + k) for k in range(n)], "price": [Decimal("1.10") + k for k in range(n)],
            "huge": 2**53 + np.arange(n), "code": ["1e5", "2E3", "x"] * (n // 3), "label": ["NA", "yes", "no"] * (n // 3),
        }
    )  # fmt: skip
    for name in ("nullable", "real", "flag", "kind", "text", "since", "word"):
        frame.loc[gap, name] = None
    return frame


def of_frame(frame: pd.DataFrame) -> Records:
    return Records(x=frame.drop(columns="label"), y=plain_labels(frame["label"]), name="data", path="a frame")


def of_csv(text: str, name: str = "members", **options: Any) -> Records:
    frame = pd.read_csv(io.StringIO(text), dtype=str, na_filter=False)
    y = frame.pop("label").to_numpy(dtype=object) if "label" in frame else np.full(len(frame), "0", dtype=object)
    return Records(x=frame, y=y, name=name, path=f"{name}.csv", text=True)


def typed(*texts: str, shown: dict[str, str] | None = None, **options: Any) -> tuple[list[Records], str]:
    names = ("members", "nonmembers")
    return one_schema([of_csv(text, name) for text, name in zip(texts, names, strict=False)], shown=shown, **options)


@pytest.mark.parametrize("kinds", [("csv",), ("csv", "parquet")])
def test_a_record_is_the_same_from_csv_parquet_and_a_frame_alone_or_beside_each_other(
    tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    frame = every_type()
    frame.to_csv(tmp_path / "a.csv", index=False)
    if "parquet" in kinds:
        pytest.importorskip("pyarrow", reason="needs pyarrow, which reads Parquet, of the extra [mlflow]")
        frame.to_parquet(tmp_path / "a.parquet", index=False)
    sides = [read_records("members", str(tmp_path / f"a.{kind}"), label="label") for kind in kinds] + [of_frame(frame)]
    assert [side.y.tolist() for side in sides] == [["NA", "yes", "no"] * 4] * len(sides), "a class named NA is a word"
    first = record_ids(sides[0], sides[0])[0]
    assert len(np.unique(first)) == len(frame)
    for one in sides:
        for other in sides:
            for found in record_ids(one, other):
                np.testing.assert_array_equal(found, first)


def test_arrow_columns_are_read_as_what_they_hold() -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow, which reads Parquet")
    frame = every_type()[["nullable", "byte", "real", "flag", "zip", "since", "price", "label"]]
    arrow = frame.assign(
        nullable=frame["nullable"].astype(pd.ArrowDtype(pa.int64())), byte=frame["byte"].astype(pd.ArrowDtype(pa.uint8())),
        real=frame["real"].astype(pd.ArrowDtype(pa.float64())), flag=pd.Series(frame["flag"].tolist(), dtype=pd.ArrowDtype(pa.bool_())),
        zip=frame["zip"].astype(pd.ArrowDtype(pa.string())),
        since=pd.Series(frame["since"].tolist(), dtype=pd.ArrowDtype(pa.timestamp("us"))),
        price=pd.Series(frame["price"].tolist(), dtype=pd.ArrowDtype(pa.decimal128(6, 2))),
    )  # fmt: skip
    np.testing.assert_array_equal(*record_ids(of_frame(frame), of_frame(arrow)))
    (plain,), _ = one_schema([of_frame(arrow)])
    assert [plain.x[name].dtype.kind for name in plain.x] == list("fufOOMf")
    np.testing.assert_array_equal(plain.numbers(), of_frame(frame).numbers())


def test_one_odd_cell_does_not_make_one_record_two() -> None:
    inside, outside = "zip,a\n10001,1\n10002,2\n", "zip,a\nunknown,3\n10002,2\n"
    a, b = record_ids(of_csv(inside), of_csv(outside, "nonmembers"))
    assert np.isin(a, b).tolist() == [False, True]
    (ours, theirs), _ = typed(inside, outside)
    assert ours.x["zip"].tolist() == ["10001", "10002"]
    np.testing.assert_array_equal(
        ours.numbers(theirs)[1], theirs.numbers(ours)[1], err_msg="nor members another kind than others"
    )


@pytest.mark.parametrize(
    ("cells", "type_name", "expected"),
    [
        (["007", "7"], "string", ["007", "7"]), (["007", "7"], "long", [7, 7]), (["007", "7"], "", ["007", "7"]),
        (["7", "8"], "", [7, 8]), (["7", "8"], "string", ["7", "8"]), (["1.0", "2.50"], "string", ["1.0", "2.50"]),
        (["1.0", "2.50"], "double", [1.0, 2.5]), (["NA", "b"], "string", ["NA", "b"]), (["NA", "b"], "", ["NA", "b"]),
        (["NA", "1"], "", [np.nan, 1.0]), (["NA", "1"], "double", [np.nan, 1.0]), (["NA", "1"], "string", ["NA", "1"]),
        (["NA", "NA"], "", ["NA", "NA"]), (["", "b"], "", [np.nan, "b"]), (["", "1"], "", [np.nan, 1.0]),
        (["True", "False"], "", [True, False]), (["True", "False"], "string", ["True", "False"]), (["1", "0"], "boolean", [True, False]),
        (["True", "False"], "double", [1, 0]), (["True", ""], "", [True, np.nan]), (["1,000", "2"], "", ["1,000", "2"]),
        (["1_000", "2"], "", ["1_000", "2"]), ([" 1", "2 "], "", [1, 2]), (["1e3", "-.5"], "", [1000.0, -0.5]),
        (["inf", "1"], "", [np.inf, 1]),
        (["\u0663", "1"], "", ["\u0663", "1"]), (["2020-01-02", "2020-01-03"], "", ["2020-01-02", "2020-01-03"]),
        (["12345678901234567890", "1"], "", ["12345678901234567890", "1"]), (["9007199254740993", "1"], "", [2**53 + 1, 1]),
        (["0.1", "0.30000000000000004"], "", [0.1, 0.1 + 0.2]), (["0", "-0"], "", [0, 0]), (["0.5", "00.5"], "", ["0.5", "00.5"]),
    ],
)  # fmt: skip
def test_how_cells_are_read(cells: list[str], type_name: str, expected: list[Any]) -> None:
    text = pd.DataFrame({"c": cells, "other": 1}).to_csv(index=False)
    (side,), _ = typed(text, shown={"c": type_name, "other": ""})
    found = side.x["c"].tolist()
    assert [None if value != value else value for value in found] == [None if value != value else value for value in expected]
    assert [isinstance(value, str) for value in found] == [isinstance(value, str) for value in expected]
    assert [isinstance(value, bool) for value in found if value == value] == [isinstance(v, bool) for v in expected if v == v]


def test_dates_are_dates_where_the_model_says_so() -> None:
    (side,), _ = typed("c\n2020-01-02\n2020-01-03 10:30:00\n\n".replace("\n\n", "\n"), shown={"c": "datetime"})
    assert side.x["c"].tolist() == [pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-03 10:30")]
    zoned = of_frame(pd.DataFrame({"c": pd.to_datetime(["2020-01-02T01:00+01:00"], utc=True), "label": 1}))
    (plain,), _ = one_schema([of_csv("c,label\n2020-01-02,1\n")], shown={"c": "datetime"})
    np.testing.assert_array_equal(record_ids(zoned, zoned)[0] == record_ids(plain, plain)[0], [False], err_msg="UTC is said")


def test_words_that_mean_missing_are_the_users_to_name(tmp_path: Path) -> None:
    text = "country,n,label\nNA,1,NA\n?,?,b\nDE,3,b\n"
    (side,), told = typed(text)
    assert side.x["country"].tolist() == ["NA", "?", "DE"]
    assert side.y.tolist() == ["NA", "b", "b"]
    assert "column country: 'NA' was read as a word (na_values=NA makes it a missing value)" in told
    (side,), told = typed(text, na_values=("NA", "?"))
    assert side.x["country"].isna().tolist() == [True, True, False]
    assert side.x["n"].tolist()[::2] == [1.0, 3.0]
    assert told == ""
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match="1 records have no label"):
        read_records("members", str(tmp_path / "a.csv"), label="label", na_values=("NA",))
    frame = pd.DataFrame({"country": ["NA", "DE"], "label": 0})
    (side,), _ = one_schema([of_frame(frame)], na_values=("NA",))
    assert side.x["country"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("classes", "labels", "expected"),
    [
        (None, ["1", "2"], [1, 2]), (["01", "02"], ["01", "02"], ["01", "02"]), (["1", "2"], ["1", "2"], ["1", "2"]),
        (None, ["01", "02"], ["01", "02"]), ([1, 2], ["01", "2.0"], [1, 2]), (None, ["1", "NA"], ["1", "NA"]),
        ([1, 2], ["1", "NA"], ["1", "NA"]),
        (None, ["True", "False"], [True, False]), (["a", "NA"], ["NA", "a"], ["NA", "a"]), (None, ["None", "nan"], ["None", "nan"]),
    ],
)  # fmt: skip
def test_labels_take_the_type_of_the_models_classes(classes: list[Any] | None, labels: list[str], expected: list[Any]) -> None:
    (side,), _ = typed("a,label\n" + "".join(f"1,{label}\n" for label in labels), classes=classes)
    assert side.y.tolist() == expected
    assert side.y.dtype.kind != "O"


@pytest.mark.parametrize(
    ("ours", "theirs", "shown", "part"),
    [
        ("c\n1\n2\n", "c\n3\nx7\n", {"c": "double"},
         "nonmembers=nonmembers.csv: column c holds text; the model's signature asks for double, and 'x7' in row 1 .*allowed: numbers"),
        ('c\n"1,000"\n', "c\n1\n", {"c": "long"}, "'1,000' in row 0 .*no thousands separator"),
        ("c\n31/12/2024\n", "c\n2024-12-31\n", {"c": "datetime"}, "'31/12/2024' in row 0 .*allowed: dates such as"),
        ("c\n2024-13-31\n", "c\n2024-12-31\n", {"c": "datetime"}, "'2024-13-31' in row 0"),
        ("c\nyes\n", "c\nno\n", {"c": "boolean"}, "'yes' in row 0 .*allowed: True, False"),
        ("c\n2\n", "c\n1\n", {"c": "boolean"}, "'2' in row 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_of_the_schema_is_refused_with_its_cell(
    ours: str, theirs: str, shown: dict[str, str], part: str
) -> None:
    with pytest.raises(UserError, match=part) as caught:
        typed(ours, theirs, shown=shown)
    assert "\n" not in str(caught.value)


def test_a_typed_file_beside_a_csv_says_what_its_columns_are() -> None:
    numbers = of_frame(pd.DataFrame({"c": [1, 2], "label": 0}))
    with pytest.raises(
        UserError, match=r"members=members.csv: column c holds text; data=a frame holds numbers there, and 'x' in row 1"
    ):
        one_schema([of_csv("c\n1\nx\n"), numbers])
    words = of_frame(pd.DataFrame({"c": ["1", "x"], "label": 0}))
    (ours, theirs, ints), _ = one_schema([of_csv("c\n1\n2\n"), words, numbers])
    assert [side.x["c"].tolist() for side in (ours, theirs, ints)] == [["1", "2"], ["1", "x"], ["1", "2"]]
    with pytest.raises(UserError, match=r"holds numbers; .* holds words there, and 0.5 in row 0"):
        one_schema([words, of_frame(pd.DataFrame({"c": [0.5, 1], "label": 0}))])
    with pytest.raises(UserError, match="holds dates there, and 3 in row 0"):
        one_schema(
            [
                of_frame(pd.DataFrame({"c": pd.to_datetime(["2020-01-01"]), "label": 0})),
                of_frame(pd.DataFrame({"c": [3], "label": 0})),
            ]
        )


def test_numbers_of_two_precisions_are_compared_in_the_narrower() -> None:
    frame = pd.DataFrame({"c": [0.1, 1 / 3, 5.0], "label": 0})
    narrow = of_frame(frame.astype({"c": np.float32}))
    np.testing.assert_array_equal(*record_ids(narrow, of_frame(frame)))
    (a, b), _ = one_schema([narrow, of_csv(frame.to_csv(index=False))])
    np.testing.assert_array_equal(a.numbers(b), b.numbers(a))
    wide = np.array([[0.1], [1 / 3]])
    arrays = [Records(x=x, y=np.zeros(2), name="members", path="a") for x in (wide, wide.astype(np.float32))]
    np.testing.assert_array_equal(*record_ids(*arrays))
    other = of_frame(pd.DataFrame({"c": [2**24 + 1], "label": 0}))
    (_, kept), _ = one_schema([narrow, other])
    assert kept.x["c"].tolist() == [2**24 + 1], "no whole number changes for it"


def test_a_missing_number_is_the_same_in_whatever_bits_it_is_held() -> None:
    frame = pd.DataFrame({"c": [np.nan, 1.0], "label": 0})
    other = frame.assign(c=np.array([-np.nan, 1.0]))
    assert frame["c"].to_numpy().tobytes() != other["c"].to_numpy().tobytes()
    np.testing.assert_array_equal(*record_ids(of_frame(frame), of_frame(other)))


def test_whole_numbers_beyond_float64_are_still_different() -> None:
    side = of_frame(pd.DataFrame({"c": [2**53, 2**53 + 1, 2**53 + 2], "label": 0}))
    assert len(set(record_ids(side, side)[0].tolist())) == 3


def test_cells_do_not_run_into_each_other() -> None:
    frame = pd.DataFrame({"a": ["x", "x=y", None, "", " ", "x2:=y"], "b": ["y=z", "z", "", None, "", ""], "label": 0})
    side = of_frame(frame)
    assert len(set(record_ids(side, side)[0].tolist())) == 6
    long = [f"{'c' * 80}{k}" for k in range(2)]
    (named,), _ = one_schema([of_csv(f"a,label\n1,{long[0]}\n1,{long[1]}\n")])
    assert len(set(record_ids(named, named)[0].tolist())) == 2, "a label is part of a record to its last letter"


def test_only_what_the_model_is_shown_is_part_of_a_record() -> None:
    inside, outside = "id,a,label\n1,5,0\n2,6,1\n", "id,a,label\n8,6,1\n9,7,0\n"
    sides, told = typed(inside, outside, shown={"a": "long"})
    a, b = record_ids(*sides)
    assert np.isin(a, b).tolist() == [False, True]
    assert told == "columns left out, since the model does not take them: id"
    whole, _ = typed(inside, outside)
    assert not np.isin(*record_ids(*whole)).any()
    bytes_beside = of_frame(pd.DataFrame({"a": [6], "raw": [b"x"], "label": 1}))
    np.testing.assert_array_equal(record_ids(one_schema([bytes_beside], shown={"a": ""})[0][0], sides[1])[0], b[:1])


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        ([[1], [2]], "list"), ([b"a", b"b"], "bytes"), (pd.to_timedelta([1, 2], unit="s"), "timedelta64"), ([1j, 2j], "complex128"),
        ([{"a": 1}, None], "dict"), (pd.period_range("2020", periods=2, freq="D"), "Period"), ([datetime.time(1), None], "time"),
    ],
)  # fmt: skip
def test_what_is_none_of_the_four_kinds_is_refused_in_one_line(cells: Any, named: str) -> None:
    side = Records(x=pd.DataFrame({"odd": cells}), y=np.arange(2), name="data", path="a frame")
    with pytest.raises(
        UserError, match=f"data=a frame: column odd holds {named}.*; allowed: one number, word, boolean or date"
    ):
        one_schema([side])


def test_categories_stay_categories_and_are_the_same_on_both_sides() -> None:
    ours = of_frame(pd.DataFrame({"c": pd.Categorical(["b", "a"], categories=["b", "a"]), "label": 0}))
    theirs = of_frame(pd.DataFrame({"c": pd.Categorical(["c", "a"]), "label": 0}))
    (a, b, text), _ = one_schema([ours, theirs, of_csv("c\na\n\nd\n".replace("\n\n", "\n"))])
    assert [list(side.x["c"].cat.categories) for side in (a, b, text)] == [["b", "a", "c", "d"]] * 3
    assert [side.x["c"].tolist() for side in (a, b, text)] == [["b", "a"], ["c", "a"], ["a", "d"]]
    first, second = record_ids(ours, theirs)
    assert np.isin(first, second).tolist() == [False, True]


def test_a_side_on_which_a_column_is_empty_does_not_differ_in_kind() -> None:
    full = of_frame(pd.DataFrame({"w": ["a", None], "n": [1.0, np.nan], "label": 0}))
    empty = of_frame(pd.DataFrame({"w": [None, None], "n": [np.nan, 1.0], "label": 0}))
    a, b = record_ids(full, empty)
    assert a[1] == b[0]
    assert a[0] not in b


def test_columns_to_slice_by() -> None:
    sides = [of_csv("id,region,n\n1,north,1\n2,,2\n"), of_csv("id,region,n\n3,NA,3\n", "nonmembers")]
    assert [part.tolist() for part in column_values(sides, "region")] == [["north", "missing"], ["NA"]]
    assert [part.tolist() for part in column_values(sides, "n")] == [[1, 2], [3]]
    with pytest.raises(
        UserError, match=r"slices: column:regio: no column of members.csv; nearest: region; its columns: id, region, n"
    ):
        column_values(sides, "regio")
    with pytest.raises(UserError, match="none, it has arrays"):
        column_values([Records(x=np.zeros((2, 2)), y=np.zeros(2), name="members", path="a.npz")], "a")


def test_labels_of_every_type_are_plain() -> None:
    for labels in (
        pd.array([1, 2, 3], dtype="UInt64"), pd.Categorical([1, 2, 3]), np.array([1, 2, 3], dtype=object), np.array([1, 2, 3], np.uint64),
        [Decimal(1), Decimal(2), Decimal(3)], np.array([1.0, 2.0, 3.0], dtype=object), np.array([[1], [2], [3]]),
    ):  # fmt: skip
        found = plain_labels(labels)
        assert found.tolist() == [1, 2, 3]
        assert found.dtype.kind in "iuf"
    assert plain_labels(pd.array(["a", "b"], dtype="string")).tolist() == ["a", "b"]
    assert plain_labels(np.array(["a", 1], dtype=object)).tolist() == ["a", "1"]
    assert plain_labels(pd.array([True, False], dtype="boolean")).dtype == np.bool_
    for missing in (np.array(["a", None], dtype=object), pd.array([1, None], dtype="Int64"), np.array([1.0, np.nan])):
        with pytest.raises(UserError, match="1 records have no label"):
            plain_labels(missing)


def test_a_parquet_file_without_a_label_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow, which reads Parquet, of the extra [mlflow]")
    pd.DataFrame({"a": [1, 2], "label": pd.array([1, None], dtype="Int64")}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="1 records have no label"):
        read_records("members", str(tmp_path / "a.parquet"), label="label")


def test_a_table_that_pandas_would_shift_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,label\n1,0,\n2,1,\n")
    with pytest.raises(UserError, match="every line ends in a separator"):
        read_records("members", str(tmp_path / "a.csv"), label="label")
