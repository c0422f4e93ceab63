"""Arrow files are read as arrays are: columns and lists, in pieces; what is wrong in them is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_outputs import CLASSES, RECORDS, cut, losses_of_models, outputs

from memberscope import arrow_files, pieces
from memberscope.errors import UserError
from memberscope.evidence_from_files import read_evidence, read_target


def _arrow(path: Path, columns: Any, *, size: int = 7) -> str:
    """Write columns by name, or a table, in batches of so many records; the path."""
    pa = pytest.importorskip("pyarrow")
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=size)
    return str(path)


def test_a_folder_of_mapped_files_and_arrow_tables_are_read_as_arrays_are(tmp_path: Path, small_pieces: None) -> None:
    held, models, ids = outputs(), losses_of_models(), np.arange(RECORDS)
    np.savez(tmp_path / "t.npz", **held, record_ids=ids)
    np.save(tmp_path / "t.npy", held["logits"])
    for name in ("labels", "member"):
        np.save(tmp_path / f"t.{name}.npy", held[name])
    np.save(tmp_path / "t.record_ids.npy", ids)
    columns = {f"logit_{k}": held["logits"][:, k] for k in reversed(range(CLASSES))}
    columns |= {"label": held["labels"], "member": held["member"], "record_id": ids}
    for path, size in (("t.arrow", 70), ("t.feather", 1000)):
        _arrow(tmp_path / path, columns, size=size)
    (tmp_path / "shadows").mkdir()
    for k, (losses, member) in enumerate(zip(models["loss_nats"], models["member"], strict=True)):
        np.save(tmp_path / "shadows" / f"m{k}.npy", losses)
        np.save(tmp_path / "shadows" / f"m{k}.member.npy", member)
    for name, array in (("labels", held["labels"]), ("record_ids", ids)):
        np.save(tmp_path / "shadows" / f"{name}.npy", array)
    np.savez(tmp_path / "s.npz", **models, labels=held["labels"], record_ids=ids)
    first, _ = read_evidence(read_target(str(tmp_path / "t.npz")), shadows=str(tmp_path / "s.npz"))
    for path in ("t.npy", "t.arrow", "t.feather"):
        found, _ = read_evidence(read_target(str(tmp_path / path)), shadows=str(tmp_path / "shadows"))
        for name in ("logits", "labels", "member", "record_ids"):
            np.testing.assert_array_equal(getattr(found.target, name), getattr(first.target, name))
        assert found.target.logits is not None
        assert found.target.logits.dtype == np.float32
        assert pieces.mapping_of(found.target.logits) is not None
        assert found.shadows is not None
        assert first.shadows is not None
        for name in ("loss_nats", "labels", "member", "record_ids"):
            np.testing.assert_array_equal(getattr(found.shadows, name), getattr(first.shadows, name))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda pa, good: pa.table({**good, "logit_1": ["a"] * 4}), "column logit_1 holds string; allowed: numbers"),
        (lambda pa, good: pa.table({**good, "logit_1": [1.0, 2.0, None, 3.0]}), "column logit_1 is empty in row 2 (counted"),
        (lambda pa, good: pa.table({name: good[name] for name in ("logit_0", "logit_1")}), "no column label"),
        (lambda pa, good: pa.table([pa.array([1])] * 2, names=["member", "member"]), "two columns are named member"),
    ],
)  # fmt: skip
def test_an_arrow_file_with_wrong_columns_is_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[..., Any], what: str
) -> None:
    pa = pytest.importorskip("pyarrow")
    good = {
        "logit_0": [1.0, 2.0, 3.0, -4.0],
        "logit_1": [1.0, 2.0, -3.0, 4.0],
        "label": [0, 1, 0, 1],
        "member": [True, False] * 2,
    }
    path = Path(_arrow(tmp_path / "t.arrow", make(pa, good)))
    with pytest.raises(UserError) as error:
        read_target(str(path))
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"predictions={path}: ")
    assert what in line
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(
        UserError, match=r"^predictions=.*t\.arrow: cannot be read \(.*; allowed: an \.npz, \.npy, \.csv"
    ) as cut:
        read_target(str(path))
    assert "\n" not in str(cut.value)


@pytest.mark.parametrize("name", ["logits", "probs"])
def test_lists_of_a_fixed_size_are_a_column_for_each_class(tmp_path: Path, small_pieces: None, name: str) -> None:
    pa, held = pytest.importorskip("pyarrow"), outputs()
    values = held["logits"] if name == "logits" else np.exp(held["logits"]) / np.exp(held["logits"]).sum(axis=1, keepdims=True)
    prefix = name.removesuffix("s") + "_"
    rest = {"label": held["labels"], "member": held["member"], "record_id": np.arange(RECORDS)}
    listed = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), CLASSES)
    found = read_target(_arrow(tmp_path / "lists.arrow", {name: listed, **rest}, size=70))
    wide = {f"{prefix}{number}": values[:, number] for number in range(CLASSES)}
    expected = read_target(_arrow(tmp_path / "columns.arrow", {**wide, **rest}, size=70))
    for field in (name, "labels", "member", "record_ids"):
        np.testing.assert_array_equal(getattr(found.predictions, field), getattr(expected.predictions, field))
    assert getattr(found.predictions, name).dtype == np.float32
    assert pieces.mapping_of(getattr(found.predictions, name)) is not None
    assert found.classes == expected.classes


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda pa: {"logits": pa.array([[1.0, 2.0]] * 9)}, "column logits holds list<item: double>; allowed: lists of a fixed size"),
        (lambda pa: {"logits": pa.array([[1.0]] * 9, pa.list_(pa.float32(), 1))}, "column logits holds fixed_size_list<"),
        (lambda pa: {"logits": pa.array([["a", "b"]] * 9, pa.list_(pa.string(), 2))}, "column logits holds fixed_size_list<"),
        (lambda pa: {"probs": pa.array([0.5] * 9)}, "column probs holds double; allowed: lists of a fixed size of numbers, one for"),
        (
            lambda pa: {"logits": pa.array([[1.0, 2.0]] * 8 + [None], pa.list_(pa.float32(), 2))},
            "column logits is empty in row 8 (counted from 0); allowed: a number",
        ),
        (
            lambda pa: {"logits": pa.array([[1.0, 2.0]] * 4 + [[3.0, None]] + [[1.0, 2.0]] * 4, pa.list_(pa.float32(), 2))},
            "column logits is empty in row 4 (counted from 0); allowed: a number",
        ),
        (
            lambda pa: {"logits": pa.array([[1.0, 2.0]] * 9, pa.list_(pa.float32(), 2)), "logit_1": [1.0] * 9},
            "two columns are named logit_1; allowed: a name for each column",
        ),
        (lambda pa: {"logit_0": [1.0] * 9, "logit_1": [-1.0] * 9, "member": [True] * 8 + [None]}, "column member is empty in row 8"),
        (lambda pa: {"logit_0": [1.0] * 9, "logit_1": [-1.0] * 9, "label": pa.array([[1]] * 9)}, "column label holds ndarray"),
    ],
)  # fmt: skip
def test_lists_and_gaps_that_are_no_outputs_are_named_in_one_line(tmp_path: Path, make: Callable[..., Any], what: str) -> None:
    pa = pytest.importorskip("pyarrow")
    good = {"label": [0, 1, 0] * 3, "member": [True, False, True] * 3}
    path = _arrow(tmp_path / "t.arrow", {**good, **make(pa)}, size=5)
    with pytest.raises(UserError) as error:
        read_target(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"predictions={path}: {what}")


def test_an_arrow_file_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = outputs()
    wide = {f"logit_{number}": held["logits"][:, number] for number in range(CLASSES)}
    path = Path(_arrow(tmp_path / "t.arrow", {**wide, "label": held["labels"], "member": held["member"]}, size=70))
    monkeypatch.setattr(arrow_files, "_BLOCK", 4_000)
    seen = list[int]()

    class Cut(arrow_files.FileIO):
        def read(self, size: int = -1, /) -> bytes:
            seen.append(size)
            if len(seen) == 3:
                cut(path)
            return super().read(size) or b""

    monkeypatch.setattr(arrow_files, "FileIO", Cut)
    size = path.stat().st_size
    with pytest.raises(UserError, match=rf"changed while it was read \(it had {size:,} bytes and has {size // 2:,}\)") as error:
        read_target(str(path))
    assert "\n" not in str(error.value)
    assert len(seen) > 3
