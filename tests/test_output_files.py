"""Outputs of models in files: what is saved is loaded, in every format, to the last bit; what tables and arrays are read as; bad files."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from memberscope import Predictions, ShadowPredictions
from memberscope.errors import UserError
from memberscope.output_files import ModelPart, named, natural, read_outputs, stacked
from memberscope.score_tables import class_numbers

QUICK = settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
SUFFIXES = ("npz", "csv", "parquet")
FIELDS = ("logits", "probs", "predicted", "loss_nats", "entropy_nats", "labels", "member", "record_ids", "groups", "inputs")
WORDS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=8)


def same(kept: Any, loaded: Any, *, exact: bool) -> None:
    """Every field is the same: to the last bit and in its type if `exact`, else as a value."""
    for name in FIELDS:
        ours, theirs = getattr(kept, name, None), getattr(loaded, name, None)
        assert (ours is None) == (theirs is None), name
        if ours is None:
            continue
        assert ours.shape == theirs.shape, name
        if exact:
            assert ours.dtype.kind == theirs.dtype.kind, name
            assert ours.dtype == theirs.dtype or ours.dtype.kind == "U", name
            assert ours.astype(theirs.dtype).tobytes() == theirs.tobytes(), name
        elif ours.dtype.kind == "U":
            assert ours.tolist() == [str(value) for value in theirs.tolist()], name
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    assert loaded.released == kept.released
    assert set(getattr(loaded, "columns", {})) == set(getattr(kept, "columns", {}))


def there_and_back(kept: Any, suffix: str) -> Any:
    if suffix == "parquet":
        import pyarrow  # noqa: F401  # where it is absent, the test is skipped
    with tempfile.TemporaryDirectory() as folder:
        kept.save(Path(folder) / f"a.{suffix}")
        assert [path.name for path in Path(folder).iterdir()] == [f"a.{suffix}"]
        return type(kept).load(Path(folder) / f"a.{suffix}")


def floats(dtype: Any, shape: Any, **bounds: Any) -> st.SearchStrategy[Any]:
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=np.dtype(dtype).itemsize * 8, **bounds)
    return hnp.arrays(dtype, shape, elements=numbers)


@st.composite
def outputs(draw: Any) -> Predictions:
    n, c = draw(st.integers(2, 7)), draw(st.integers(2, 4))
    member = draw(hnp.arrays(np.bool_, n))
    member[:2] = [True, False]
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    labels = draw(hnp.arrays(draw(st.sampled_from([np.int64, np.uint8, np.int32])), n, elements=st.integers(0, c - 1)))
    values: dict[str, Any] = {"labels": labels, "member": member}
    form = draw(st.sampled_from(["logits", "probs", "released", "predicted", "words", "summary"]))
    if form == "logits":
        values["logits"] = draw(floats(dtype, (n, c), min_value=-(2.0**100), max_value=2.0**100))
    elif form in ("probs", "released"):
        shares = draw(floats(np.float64, (n, c), min_value=2**-10, max_value=1.0))
        values["probs"] = (shares / shares.sum(axis=1, keepdims=True)).astype(dtype) * (0.5 if form == "released" else 1)
        values["released"] = form == "released"
    elif form == "predicted":
        values["predicted"] = labels[::-1].copy()
    elif form == "words":
        names = np.array(draw(st.lists(WORDS, min_size=c, max_size=c, unique=True)))
        values |= {"labels": names[labels], "predicted": names[labels[::-1]]}
    else:
        values["loss_nats"] = draw(floats(dtype, n, min_value=0.0, max_value=2.0**100))
    if draw(st.booleans()):
        values["record_ids"] = draw(hnp.arrays(np.int64, n, unique=True)) if draw(st.booleans()) else np.array(
            draw(st.lists(WORDS, min_size=n, max_size=n, unique=True)))  # fmt: skip
    if draw(st.booleans()):
        values["groups"] = np.arange(n) % 2
    if draw(st.booleans()):
        values["inputs"] = draw(floats(np.float64, draw(st.sampled_from([(n, 3), (n,)]))))
    if draw(st.booleans()):
        values["columns"] = {draw(WORDS): np.arange(n) / 7}
    try:
        return Predictions(**values)
    except UserError:  # such as logits that are probabilities
        assume(False)
        raise


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_saved_is_loaded_in_every_format(suffix: str) -> None:
    @QUICK
    @given(kept=outputs())
    def check(kept: Predictions) -> None:
        same(kept, there_and_back(kept, suffix), exact=suffix != "csv")

    check()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_shadows_are_loaded_as_they_are_saved(suffix: str) -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        probs = rng.dirichlet(np.ones(3), size=(12, 9)).astype(dtype)
        kept = ShadowPredictions(
            probs=probs, labels=rng.integers(0, 3, 9), member=rng.random((12, 9)) < 0.5, record_ids=rng.permutation(9)
        )
        same(kept, there_and_back(kept, suffix), exact=suffix != "csv")  # twelve models: 10 comes after 9, not after 1
    losses = ShadowPredictions(loss_nats=rng.gamma(1.0, size=(2, 9)), member=rng.random((2, 9)) < 0.5)
    same(losses, there_and_back(losses, suffix), exact=suffix != "csv")


def test_a_csv_file_has_as_many_digits_as_a_number_needs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(100, 3)) * 10.0 ** rng.integers(-300, 99, (100, 3))
    logits[0] = [np.nextafter(1, 2), -5e-324, 0.1 + 0.2]
    kept = Predictions(logits=logits, labels=np.zeros(100, int), member=np.arange(100) < 50)
    kept.save(tmp_path / "a.csv")
    np.testing.assert_array_equal(Predictions.load(tmp_path / "a.csv").logits, logits)
    assert "0.30000000000000004" in (tmp_path / "a.csv").read_text()


def test_a_table_cannot_hold_everything(tmp_path: Path) -> None:
    rows = {"logits": np.eye(4), "labels": np.arange(4), "member": np.arange(4) < 2}
    for extra, said in (
        ({"inputs": np.zeros((4, 2, 2))}, r"inputs: float64 of shape \(4, 2, 2\); allowed in a table: numbers"),
        ({"record_ids": np.array(["a", "", "b", "c"])}, "record_id: ''; allowed in a table: words that are not empty"),
        ({"columns": {"c": np.array([b"a"] * 4)}}, "column_c: |S1"),
    ):
        with pytest.raises(UserError, match=said):
            Predictions(**{**rows, "logits": np.eye(4) * 3 - 1}, **extra).save(tmp_path / "a.csv")
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"a.txt: unknown kind of file .txt; allowed: an .npz, .csv or .parquet"):
        Predictions(**{**rows, "logits": np.eye(4) * 3 - 1}).save(tmp_path / "a.txt")
    with pytest.raises(UserError, match="cannot be written"):
        Predictions(**{**rows, "logits": np.eye(4) * 3 - 1}).save(tmp_path / "absent" / "a.csv")


# --------------------------------------------------------------------------------------------------------------------- tables


TABLE = pd.DataFrame(
    {
        "record_id": ["a", "b", "c", "d"], "label": ["cat", "dog", "owl", "cat"], "member": [True, False, True, False],
        "logit_dog": [0.0, 2.0, 1.0, -1.0], "logit_cat": [3.0, 0.0, 1.5, 0.0], "logit_owl": [0.5, 1.0, 4.0, 2.5], "age": [1, 2, 3, 4],
    }
)  # fmt: skip


def csv(folder: Path, frame: pd.DataFrame | str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(frame if isinstance(frame, str) else frame.to_csv(index=False))
    return path


def test_columns_are_found_by_their_names_in_any_order(tmp_path: Path) -> None:
    path = csv(tmp_path, TABLE)
    file = read_outputs(path, where="predictions=t.csv")
    assert file.classes == ("dog", "cat", "owl")
    found = Predictions.of_file(file)
    np.testing.assert_array_equal(found.labels, [1, 0, 2, 1])
    assert found.logits is not None
    np.testing.assert_array_equal(found.logits[:, 1], TABLE["logit_cat"])
    assert found.record_ids is not None
    assert found.record_ids.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(found.columns["age"], [1, 2, 3, 4])
    assert file.note == (
        "predictions=t.csv: 4 rows; logit_dog, logit_cat, logit_owl as logits; label as labels; record_id as record_ids; member as member; "
        "age to slice by."
    )
    other = read_outputs(csv(tmp_path, TABLE[TABLE.columns[::-1]]), where="t", classes=file.classes)
    np.testing.assert_array_equal(other.arrays["logits"], found.logits)
    np.testing.assert_array_equal(other.arrays["labels"], found.labels)


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({f"prob_{k}": [0.1] * 2 for k in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)}).assign(label=[10, 1], member=[1, 0])
    file = read_outputs(csv(tmp_path, frame), where="t")
    assert file.classes == tuple(str(k) for k in range(1, 11))
    np.testing.assert_array_equal(file.arrays["labels"], [9, 0])  # the classes' own numbers, not column numbers
    np.testing.assert_array_equal(file.arrays["member"], [True, False])
    by_place = TABLE.assign(label=[1, 0, 2, 1])  # no number is the name of a class
    np.testing.assert_array_equal(read_outputs(csv(tmp_path, by_place), where="t").arrays["labels"], [1, 0, 2, 1])
    flags = pd.DataFrame({"prob_0": [0.2, 0.9], "prob_1": [0.8, 0.1], "label": [True, False], "member": [1, 0]})
    np.testing.assert_array_equal(read_outputs(csv(tmp_path, flags), where="t").arrays["labels"], [1, 0])


def test_columns_may_be_named_after_the_classes_alone(tmp_path: Path) -> None:
    plain = TABLE.rename(columns=lambda name: name.removeprefix("logit_")).drop(columns="age")
    file = read_outputs(csv(tmp_path, plain), where="t")
    assert "logits" in file.arrays
    assert file.classes == ("dog", "cat", "owl")
    assert "which are named after the labels, as logits" in file.note
    names = ["dog", "cat", "owl"]
    scores = np.exp(plain[names].to_numpy())
    probs = plain.assign(**dict(zip(names, (scores / scores.sum(axis=1, keepdims=True)).T, strict=True)), age=[30, 40, 50, 60])
    found = read_outputs(csv(tmp_path, probs), where="t")
    assert "probs" in found.arrays
    np.testing.assert_array_equal(found.arrays["column_age"], [30, 40, 50, 60])
    unseen = probs[probs["label"] != "owl"]  # no record is of the class owl: its column is needed for a sum of one
    with pytest.raises(UserError, match=r"columns are named after labels .*it is not clear whether owl, age are scores"):
        read_outputs(csv(tmp_path, unseen), where="t")
    assert read_outputs(csv(tmp_path, unseen.drop(columns="age")), where="t").classes == ("dog", "cat", "owl")
    with pytest.raises(UserError, match=r"columns are named after labels .*it is not clear whether age are scores"):
        read_outputs(csv(tmp_path, plain.assign(age=[1, 2, 3, 4])), where="t")


def test_the_form_that_says_most_is_read(tmp_path: Path) -> None:
    both = TABLE.assign(loss=[0.1, 0.2, 0.3, 0.4], predicted=["cat"] * 4)
    file = read_outputs(csv(tmp_path, both), where="t")
    assert {"logits", "labels", "member"} <= set(file.arrays)
    assert not {"loss_nats", "predicted"} & set(file.arrays)
    assert "not read, since logits say more: predicted, loss" in file.note
    losses = read_outputs(csv(tmp_path, both[["loss", "label", "member"]].assign(entropy=[1.0, 2, 3, 4])), where="t")
    assert Predictions.of_file(losses).form == "summary"
    np.testing.assert_array_equal(losses.arrays["entropy_nats"], [1, 2, 3, 4])
    words = read_outputs(
        csv(tmp_path, pd.DataFrame({"label": ["1", "x"], "predicted": ["1", "1"], "member": [1, 0]})), where="t"
    )
    assert words.arrays["predicted"].dtype.kind == words.arrays["labels"].dtype.kind == "U"


def test_words_stay_words(tmp_path: Path) -> None:
    text = "record_id,label,predicted,member\n007,NA,NA,1\n008,null,NA,0\n010,NA,null,0\n"
    arrays = read_outputs(csv(tmp_path, text), where="t").arrays
    assert arrays["record_ids"].tolist() == ["007", "008", "010"]
    assert arrays["labels"].tolist() == ["NA", "null", "NA"]


BAD_TABLES = {
    "no scores": (TABLE[["label", "member", "age"]], "no column of scores; its columns: label, member, age; allowed: logit_CLASS"),
    "no label": (TABLE.rename(columns={"label": "lable"}), "no column label; nearest: lable"),
    "a word among scores": (
        TABLE.assign(logit_cat=["1.5", "high", "2", "3"]), "column logit_cat holds 'high' in row 1 (counted from 0); allowed: a number",
    ),
    "an empty score": (TABLE.assign(logit_owl=[1.0, None, 2, 3]), "column logit_owl is empty in row 1 (counted from 0); allowed: a number"),
    "a score that is no number": (TABLE.assign(logit_owl=["1", "nan", "2", "3"]), "logits: 1 NaN or infinite values"),
    "member in words": (TABLE.assign(member=["yes", "no", "yes", "no"]), "column member holds 'yes' in row 0"),
    "member empty": (TABLE.assign(member=[True, None, True, False]), "column member is empty in row 1"),
    "no member": (TABLE.drop(columns="member"), "no column member; allowed: a column member that says"),
    "a member column that is misspelt": (TABLE.rename(columns={"member": "memeber"}), "no column member; nearest: memeber; allowed"),
    "semicolons": (TABLE.to_csv(index=False, sep=";", decimal=","), "cells of its first line are separated by ;; allowed: commas"),
    "tabs": (TABLE.to_csv(index=False, sep="\t"), "cells of its first line are separated by tabs; allowed: commas"),
    "a label that is no class": (
        TABLE.assign(label=["cat", "cow", "dog", "owl"]),
        "column label holds 'cow' in row 1 (counted from 0), which is not a class; allowed: dog, cat, owl",
    ),
    "a label empty": (TABLE.assign(label=["cat", None, "dog", "owl"]), "column label is empty in row 1"),
    "a label beyond the classes": (TABLE.assign(label=[0, 1, 2, 3]), "column label holds '3' in row 3"),
    "two names of one thing": (TABLE.assign(labels=TABLE["label"]), "columns label and labels mean the same"),
    "one name twice": ("label,label,member\n1,2,1\n", "two columns are named label"),
    "several models": (TABLE.assign(model=["a", "a", "b", "b"]), "column model has 2 models, such as a and b; allowed: the outputs of"),
    "copies": (TABLE.assign(query=[0, 1, 0, 1]), "a column query, of copies of records; allowed: one row for each record"),
    "no rows": (TABLE[:0], "no records; allowed: at least one"),
    "nothing": ("", "cannot be read"),
    "half a release": (TABLE.assign(released=[True, False, True, True]), "column released is true in some rows"),
    "one class": (TABLE.drop(columns=["logit_cat", "logit_owl"]).assign(label="dog"), "logits: 1 classes; allowed: at least 2"),
    "softmax as logits": (
        TABLE.assign(logit_dog=[0.2, 0.3, 0.1, 0.5], logit_cat=[0.2, 0.3, 0.1, 0.25], logit_owl=[0.6, 0.4, 0.8, 0.25]),
        "sum to one: probabilities",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_table_that_cannot_be_read_gets_one_line_that_names_the_column(case: str, tmp_path: Path) -> None:
    frame, said = BAD_TABLES[case]
    path = csv(tmp_path, frame)
    with pytest.raises(UserError) as error:
        Predictions.load(path)
    assert said in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_parquet_keeps_types_and_nullable_columns_are_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow, which reads Parquet, of the extra [mlflow]")
    frame = TABLE.assign(
        label=TABLE["label"].astype("category"), member=TABLE["member"].astype("boolean"), when=pd.Timestamp("2024-05-01")
    )
    frame["logit_dog"] = frame["logit_dog"].astype("float32")
    frame["tags"] = [["a"], [], ["b"], []]
    frame.to_parquet(tmp_path / "t.parquet")
    file = read_outputs(tmp_path / "t.parquet", where="t")
    found = Predictions.of_file(file)
    np.testing.assert_array_equal(found.labels, [1, 0, 2, 1])
    assert "not read, since slices need numbers or words: tags" in file.note
    assert set(found.columns) == {"age", "when"}
    frame["member"] = pd.array([True, None, False, True], dtype="boolean")
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="column member is empty in row 1"):
        Predictions.load(tmp_path / "t.parquet")


# --------------------------------------------------------------------------------------------------------------------- arrays


def test_an_array_alone_is_read_with_what_lies_beside_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits, labels, member = rng.normal(size=(9, 3)), rng.integers(0, 3, 9), np.arange(9) < 4
    np.save(tmp_path / "t.npy", logits)
    with pytest.raises(UserError, match=r"key member is missing"):
        Predictions.load(tmp_path / "t.npy")
    np.save(tmp_path / "t.labels.npy", labels)
    np.save(tmp_path / "t.member.npy", member.astype(int))
    np.save(tmp_path / "t.record_ids.npy", np.arange(9) + 5)
    found = Predictions.load(tmp_path / "t.npy")
    np.testing.assert_array_equal(found.logits, logits)
    np.testing.assert_array_equal(found.record_ids, np.arange(9) + 5)
    assert found.member.dtype == np.bool_
    np.save(tmp_path / "t.npy", np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    assert Predictions.load(tmp_path / "t.npy").form == "probs"
    np.save(tmp_path / "t.npy", rng.gamma(1.0, size=9))
    assert Predictions.load(tmp_path / "t.npy").form == "summary"
    np.save(tmp_path / "t.npy", labels)
    assert Predictions.load(tmp_path / "t.npy").form == "predicted"
    np.save(tmp_path / "t.npy", rng.normal(size=(4, 9, 3)))
    np.save(tmp_path / "t.member.npy", rng.random((4, 9)) < 0.5)
    assert ShadowPredictions.load(tmp_path / "t.npy").n_models == 4
    np.save(tmp_path / "t.npy", rng.normal(size=(8, 3)))
    np.save(tmp_path / "t.member.npy", member)
    with pytest.raises(UserError, match=r"logits: shape \(8, 3\); member has shape \(9,\)"):
        Predictions.load(tmp_path / "t.npy")


def test_an_array_whose_axes_could_be_either_is_refused() -> None:
    with pytest.raises(UserError, match=r"a: shape \(5, 5\) for 5 records: either axis may count them; allowed: an .npz"):
        named(np.ones((5, 5)), where="a", records=5)
    assert named(np.ones((2, 5)), where="a", records=5) == "loss_nats"
    assert named(np.eye(5)[:, :3] + 1, where="a", records=5) == "logits"
    with pytest.raises(UserError, match=r"a: complex128 of shape \(2,\)"):
        named(np.ones(2, complex), where="a")


# -------------------------------------------------------------------------------------------------------------- several models


def test_names_are_sorted_as_people_count() -> None:
    names = ["model_10", "model_9", "model_010", "b2", "b10", "a", "2", "10", ""]
    assert sorted(names, key=natural) == ["", "2", "10", "a", "b2", "b10", "model_9", "model_010", "model_10"]


def part(name: str, **changes: Any) -> ModelPart:
    rng = np.random.default_rng(len(name))
    arrays = {
        "logits": rng.normal(size=(6, 3)), "labels": np.array([0, 1, 2, 0, 1, 2]), "member": np.arange(6) < 3, "record_ids": np.arange(6),
    }  # fmt: skip
    return ModelPart(
        where=name, name=name, arrays={key: value for key, value in {**arrays, **changes}.items() if value is not None}
    )


def test_models_are_stacked_in_the_records_order_of_the_first() -> None:
    first, second = part("one"), part("three")
    turned = dataclasses.replace(second, arrays={name: array[::-1] for name, array in second.arrays.items()})
    straight, found = stacked([first, second], member=True), stacked([first, turned], member=True)
    for name, array in straight.items():
        np.testing.assert_array_equal(found[name], array)
    assert found["logits"].shape == (2, 6, 3)
    words = part("three", record_ids=np.arange(6).astype(str))
    np.testing.assert_array_equal(stacked([first, words], member=True)["logits"], straight["logits"])
    without = stacked([part("a", member=None), part("b", member=None)], member=False)
    assert without["member"].shape == (2, 6)
    assert not without["member"].any()


UNLIKE = {
    "another form": ({"logits": None, "loss_nats": np.ones(6)}, "b: holds loss_nats, and a holds logits"),
    "other classes": ({"logits": np.ones((6, 4))}, "b: logits of shape (6, 4), and a has (6, 3); allowed: the same classes"),
    "fewer records": ({name: array[:5] for name, array in part("b").arrays.items()}, "b: 5 records, and a has 6"),
    "other records": ({"record_ids": np.arange(6) + 1}, "b: no record 0, which is in a; allowed: outputs for the same records"),
    "no ids": ({"record_ids": None}, "b: has no record_ids, and a has"),
    "other labels": ({"labels": np.array([0, 1, 2, 0, 1, 1])}, "b: 1 labels differ from those of a, such as 1 for 2 in row 5"),
    "no labels": ({"labels": None}, "b: no labels, unlike a"),
    "no members": ({"member": None}, "b: does not say who its members are; allowed: a column, or an array, member"),
    "members of others": ({"member": np.ones(4, bool)}, "b: member has shape (4,) for 6 records"),
}


@pytest.mark.parametrize("case", UNLIKE)
def test_models_that_do_not_fit_are_named(case: str) -> None:
    changes, said = UNLIKE[case]
    with pytest.raises(UserError) as error:
        stacked([part("a"), part("b", **changes)], member=True)
    assert said in str(error.value)


def test_classes_that_are_allowed_are_named_once() -> None:
    assert class_numbers(np.array(["True", "0", "1"]), ("0", "1"), where="q.csv").tolist() == [1, 0, 1]
    with pytest.raises(UserError, match=r"^q.csv holds '9' in row 1 \(counted from 0\), which is not a class; allowed: 0, 1$"):
        class_numbers(np.array([0, 9]), ("0", "1"), where="q.csv")
