"""Memory-mapped outputs: the same figures as in memory, a memory that depends on the piece, and files that change or are cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from memberscope import (
    Evidence,
    Predictions,
    ShadowPredictions,
    arrow_files,
    file_state,
    mapped,
    npz,
    pieces,
    run_audit,
    signals,
)
from memberscope.attacks import calibration
from memberscope.cli import main
from memberscope.errors import UserError
from memberscope.evidence_from_files import read_evidence, read_target
from memberscope.exposure.table import measure_models
from memberscope.reading import files

RECORDS, CLASSES, MODELS = 600, 5, 8


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array is read in many pieces, every file is mapped, and what is put together goes to a temporary file."""
    monkeypatch.setattr(pieces, "CHUNK_ELEMENTS", 64)
    monkeypatch.setattr(signals, "CHUNK", 35)
    monkeypatch.setattr(npz, "MAPPED_FROM", 0)
    monkeypatch.setattr(mapped, "SPILLED", 0)


def _outputs() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, CLASSES, RECORDS), rng.random(RECORDS) < 0.5
    logits = rng.normal(size=(RECORDS, CLASSES)).astype(np.float32)
    logits[np.arange(RECORDS), labels] += np.where(member, 3, 2)
    return {"logits": logits, "labels": labels, "member": member}


def _models() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(1)
    half = np.argsort(rng.random((MODELS // 2, RECORDS)), axis=1) < RECORDS // 2
    member = np.concatenate([half, ~half])
    losses = rng.exponential(size=(MODELS, RECORDS)) * np.where(member, 0.5, 1.0)
    return {"loss_nats": losses.astype(np.float32), "member": member}


def _mapped(folder: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    np.save(folder / f"{name}.npy", array)
    found: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r")
    return found


def test_an_audit_of_mapped_logits_equals_that_of_logits_in_memory(tmp_path: Path, small_pieces: None) -> None:
    held = _outputs()
    ours = Predictions(**held | {"logits": _mapped(tmp_path, "l", held["logits"])}, record_ids=np.arange(RECORDS))
    with pytest.MonkeyPatch.context() as whole:
        whole.setattr(pieces, "CHUNK_ELEMENTS", 1 << 20)
        whole.setattr(signals, "CHUNK", 1 << 20)
        expected = run_audit(
            Predictions(**held, record_ids=np.arange(RECORDS)), attacks="threshold,metric_correctness", slices="all"
        )
    found = run_audit(ours, attacks="threshold,metric_correctness", slices="all")
    assert found.to_frame().equals(expected.to_frame())
    for name, scores in expected.whole_scores.items():
        np.testing.assert_array_equal(found.whole_scores[name], scores)


@pytest.mark.slow
def test_attacks_on_mapped_losses_of_many_models_equal_those_in_memory(tmp_path: Path, small_pieces: None) -> None:
    held, ids = _models(), np.arange(RECORDS)
    outside = np.random.default_rng(2).exponential(size=(MODELS, 90)).astype(np.float32)
    labels = np.arange(RECORDS) % CLASSES

    def evidence(losses: NDArray[Any], population: NDArray[Any], order: NDArray[Any]) -> Evidence:
        target = Predictions(
            loss_nats=losses[0][order], labels=labels[order], member=held["member"][0][order], record_ids=ids[order]
        )
        shadows = ShadowPredictions(loss_nats=losses[1:], member=held["member"][1:], labels=labels, record_ids=ids)
        outsiders = ShadowPredictions(
            loss_nats=population, member=np.zeros(population.shape, bool), labels=np.arange(90) % CLASSES
        )
        return Evidence(target=target, shadows=shadows, population=outsiders)

    attacks = "lira_online,lira_offline,rmia_online,rmia_offline"
    for order in (
        ids,
        np.random.default_rng(3).permutation(RECORDS)[:400],
    ):  # the pool itself, and a part of it in another order
        found = run_audit(
            evidence(_mapped(tmp_path, "s", held["loss_nats"]), _mapped(tmp_path, "p", outside), order), attacks=attacks
        )
        with pytest.MonkeyPatch.context() as whole:
            whole.setattr(pieces, "CHUNK_ELEMENTS", 1 << 20)
            expected = run_audit(evidence(held["loss_nats"], outside, order), attacks=attacks)
        assert sorted(found.whole_scores) == sorted(expected.whole_scores)
        for name, scores in expected.whole_scores.items():
            np.testing.assert_array_equal(found.whole_scores[name], scores)


@pytest.mark.parametrize("form", ["logits", "probs", "released"])
def test_log_probabilities_at_a_temperature_are_those_of_all_rows_at_once(
    tmp_path: Path, small_pieces: None, form: str
) -> None:
    held = _outputs()
    scores = held["logits"] if form == "logits" else np.exp(held["logits"]) / np.exp(held["logits"]).sum(axis=1, keepdims=True)
    if form == "released":
        scores = np.where(scores < np.median(scores, axis=1, keepdims=True), 0, scores)
    name = "logits" if form == "logits" else "probs"
    made = [
        Predictions(**{name: array}, labels=held["labels"], member=held["member"], released=form == "released")
        for array in (scores, _mapped(tmp_path, "s", scores))
    ]
    whole = calibration.log_prob_of_margins(calibration.margins(made[0]), 0.7)
    for one in made:
        np.testing.assert_array_equal(calibration.log_prob(one, 0.7), whole)


def test_records_of_a_mapped_array_are_those_of_the_array(tmp_path: Path, small_pieces: None) -> None:
    cube = np.random.default_rng(0).normal(size=(3, 50, 4)).astype(np.float32)
    mapping, index = _mapped(tmp_path, "c", cube), np.random.default_rng(1).permutation(50)[:33]
    np.testing.assert_array_equal(mapped.taken(mapping[1], index), cube[1][index])
    np.testing.assert_array_equal(mapped.taken_of_each(mapping, index), cube[:, index])
    np.testing.assert_array_equal(mapped.taken_of_each(mapping, np.arange(50) % 3 == 0), cube[:, np.arange(50) % 3 == 0])
    np.testing.assert_array_equal(mapped.together([mapping[2], mapping[0]]), cube[[2, 0]])
    plain = np.asarray(mapping)
    assert mapped.together(list(plain)) is plain, "entries of one array, in their order, are not copied"
    starts = [start for start, _ in pieces.pieces(mapping, keep=1)]
    assert len(starts) > 3, "several pieces of each entry"
    assert len(set(starts)) == len(starts)
    np.testing.assert_array_equal(
        np.concatenate([part.reshape(-1, 4) for _, part in pieces.pieces(mapping, keep=1)]), cube.reshape(-1, 4)
    )


def test_faults_of_mapped_arrays_are_counted_and_placed_as_in_memory(tmp_path: Path, small_pieces: None) -> None:
    cube = np.random.default_rng(0).normal(size=(2, 40, 4)).astype(np.float32)
    cube[1, 37, 2], cube[1, 38, 0] = np.nan, np.inf
    member = np.arange(80).reshape(2, 40) % 2 == 0
    with pytest.raises(UserError, match=r"^logits: 2 NaN or infinite values, the first at \[1, 37, 2\]; all must be finite$"):
        ShadowPredictions(logits=_mapped(tmp_path, "c", cube), labels=np.zeros(40, int), member=member)
    probs = np.full((2, 40, 4), 0.25)
    probs[1, 21, 3] = 0.5
    with pytest.raises(UserError, match=r"^probs: 1 rows do not sum to one, the first to 1\.25 in row \[1, 21\]"):
        ShadowPredictions(probs=_mapped(tmp_path, "p", probs), labels=np.zeros(40, int), member=member)
    probs[1, 21, 3] = -0.25
    with pytest.raises(UserError, match=r"^probs: 1 negative values, the first at \[1, 21, 3\]"):
        ShadowPredictions(probs=_mapped(tmp_path, "p", probs), labels=np.zeros(40, int), member=member)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _written(path: Path) -> None:
    before = path.stat().st_mtime_ns
    os.utime(path, ns=(before, before + 10**9))


def _replaced(path: Path) -> None:
    other = path.with_name("other.npy")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_mtime_ns,) * 2)
    os.replace(other, path)


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (_cut, "it had 12,128 bytes and has 6,064"),
        (_written, "it was written to"),
        (_replaced, "another file replaced it"),
        (Path.unlink, "it cannot be found any more"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, small_pieces: None, change: Callable[[Path], None], how: str
) -> None:
    held = _outputs()
    ours = Predictions(**held | {"logits": _mapped(tmp_path, "l", held["logits"])})
    change(tmp_path / "l.npy")
    with pytest.raises(UserError) as error:
        run_audit(ours, attacks="threshold_loss")
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith("logits: changed while it was read (")
    assert how in line
    assert line.endswith("allowed: a file that does not change during the audit")


def test_a_file_that_changes_between_two_pieces_is_an_error(
    tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _outputs()
    ours = Predictions(**held | {"logits": _mapped(tmp_path, "l", held["logits"])})
    read, seen = signals._Rows.loss_nats, []

    def cut_in_the_middle(rows: signals._Rows) -> NDArray[np.float64]:
        seen.append(len(rows.scores))
        if len(seen) == 20:
            _cut(tmp_path / "l.npy")
        return read(rows)

    monkeypatch.setattr(signals._Rows, "loss_nats", cut_in_the_middle)
    with pytest.raises(UserError, match="it had 12,128 bytes and has 6,064"):
        signals.loss_nats(ours)
    assert len(seen) == 20, "nothing was read of the file after it was cut"


def test_a_piece_that_memory_cannot_hold_is_an_error(
    tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _outputs()
    monkeypatch.setattr(mapped, "free_memory_bytes", lambda: 41_000)
    ours = held | {"logits": _mapped(tmp_path, "l", held["logits"])}
    with pytest.raises(UserError) as error:
        Predictions(**ours)
    assert str(error.value) == (
        "logits: shape (600, 5); 600 records and a piece of 12 of them take 42,240 bytes, and 41,000 bytes are free; "
        "allowed: fewer records or classes, or a machine with more memory"
    )
    Predictions(**held)  # what is in memory already has its place
    monkeypatch.setattr(mapped, "free_memory_bytes", lambda: 43_000)
    Predictions(**ours)


def test_a_folder_of_mapped_files_and_arrow_tables_are_read_as_arrays_are(tmp_path: Path, small_pieces: None) -> None:
    pa = pytest.importorskip("pyarrow")
    held, models, ids = _outputs(), _models(), np.arange(RECORDS)
    np.savez(tmp_path / "t.npz", **held, record_ids=ids)
    np.save(tmp_path / "t.npy", held["logits"])
    for name in ("labels", "member"):
        np.save(tmp_path / f"t.{name}.npy", held[name])
    np.save(tmp_path / "t.record_ids.npy", ids)
    columns = {f"logit_{k}": held["logits"][:, k] for k in reversed(range(CLASSES))}
    table = pa.table({**columns, "label": held["labels"], "member": held["member"], "record_id": ids})
    for path, size in (("t.arrow", 70), ("t.feather", 1000)):
        with pa.OSFile(str(tmp_path / path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=size)
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
    table = make(pa, good)
    path = tmp_path / "t.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
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


def _arrow(path: Path, columns: dict[str, Any], *, size: int = 7) -> str:
    pa = pytest.importorskip("pyarrow")
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=size)
    return str(path)


@pytest.mark.parametrize("name", ["logits", "probs"])
def test_lists_of_a_fixed_size_are_a_column_for_each_class(tmp_path: Path, small_pieces: None, name: str) -> None:
    pa, held = pytest.importorskip("pyarrow"), _outputs()
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
    held = _outputs()
    wide = {f"logit_{number}": held["logits"][:, number] for number in range(CLASSES)}
    path = Path(_arrow(tmp_path / "t.arrow", {**wide, "label": held["labels"], "member": held["member"]}, size=70))
    monkeypatch.setattr(arrow_files, "_BLOCK", 4_000)
    seen = list[int]()

    class Cut(arrow_files.FileIO):
        def read(self, size: int = -1, /) -> bytes:
            seen.append(size)
            if len(seen) == 3:
                _cut(path)
            return super().read(size) or b""

    monkeypatch.setattr(arrow_files, "FileIO", Cut)
    size = path.stat().st_size
    with pytest.raises(UserError, match=rf"changed while it was read \(it had {size:,} bytes and has {size // 2:,}\)") as error:
        read_target(str(path))
    assert "\n" not in str(error.value)
    assert len(seen) > 3


def test_a_whole_file_that_the_system_gives_no_memory_for_says_how_much_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "t.npy", np.zeros((1000, 5)))
    np.savez(tmp_path / "t.npz", logits=np.zeros((1000, 5)))

    def none_left(*given: Any, **options: Any) -> None:
        raise MemoryError("Unable to allocate 39.1 KiB")

    def not_mapped(*given: Any, **options: Any) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(npz.npy, "read_array", none_left)
    monkeypatch.setattr(npz.npy, "open_memmap", not_mapped)
    told = "takes 40,000 bytes, and the system gives this process less; allowed: a smaller file, or more free memory"
    for read, name, what in (
        (lambda path: npz.read_npy(path, where="x", allowed="y"), "t.npy", "x: its array"),
        (lambda path: npz.map_npy(path, where="x", allowed="y"), "t.npy", "x: its array"),
        (npz.read_npz, "t.npz", f"{tmp_path / 't.npz'}: logits"),
    ):
        with pytest.raises(UserError) as error:
            read(tmp_path / name)
        assert str(error.value) == f"{what} {told}"


def test_a_limit_of_the_process_is_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    whole = files.memory_bytes()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (10**6, 10**7))
    assert files.memory_bytes() == 10**6
    with pytest.raises(UserError, match=r"^x: its array takes 2\.0 MB, and this machine has 1\.0 MB; allowed"):
        files.check_memory(2 * 10**6, where="x", what="its array")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert files.memory_bytes() == whole


def test_files_that_a_containers_system_keeps_in_memory_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = "anon 90000\nactive_file 500000\ninactive_file 400000\n"
    for name, text in (("CGROUP", "1000000"), ("CGROUP_USED", "990000"), ("CGROUP_STAT", stat)):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(files, name, tmp_path / name)
    assert files.free_memory_bytes() == 1_000_000 - 90_000


def test_another_membership_reads_no_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As each draw of a null control with refitting takes one."""
    held = _outputs()
    ours = Predictions(**held | {"logits": _mapped(tmp_path, "l", held["logits"])}, record_ids=np.arange(RECORDS))
    monkeypatch.setattr(file_state, "_read", lambda *given: pytest.fail("read"))
    other = ours.with_member(~held["member"])
    np.testing.assert_array_equal(other.member, ~held["member"])
    assert other.logits is ours.logits
    assert not other.member.flags.writeable
    assert (ours.member == held["member"]).all()
    same = np.ones(RECORDS, dtype=np.bool_)
    for wrong, what in ((same[:-1], "member: shape"), (same, "member: all True"), (same.astype(float), "member: dtype")):
        with pytest.raises(UserError, match=f"^{what}"):
            ours.with_member(wrong)


def test_numbers_whose_squares_are_none_are_refused(tmp_path: Path, small_pieces: None) -> None:
    held = _outputs()
    large = held["logits"].astype(np.float64)
    large[7, 2], large[9, 1] = 1e101, -1e200
    for logits in (large, _mapped(tmp_path, "l", large), np.asarray(large, dtype=np.longdouble)):
        with pytest.raises(
            UserError, match=r"^logits: 2 values beyond 1e\+100, the first at \[7, 2\]; allowed: from -1e\+100 to 1e\+100$"
        ):
            Predictions(**held | {"logits": logits})
    large[9, 1] = np.nan
    with pytest.raises(UserError, match=r"^logits: 1 NaN or infinite values, the first at \[9, 1\]"):
        Predictions(**held | {"logits": large})
    Predictions(**held | {"logits": held["logits"].astype(np.float64) * 1e98})
    for name in ("loss_nats", "entropy_nats"):
        with pytest.raises(UserError, match=f"^{name}: 600 values beyond"):
            Predictions(**{name: np.full(RECORDS, 1e300), "member": held["member"]})


def test_exposure_from_mapped_losses_alone_equals_that_in_memory(tmp_path: Path, small_pieces: None) -> None:
    held = _models()
    labels, paired = np.arange(RECORDS) % CLASSES, held["member"]
    single = np.random.default_rng(4).random(paired.shape) < 0.5
    for member in (paired, single):
        found, expected = (
            measure_models(ShadowPredictions(loss_nats=losses, member=member, labels=labels), rates=(0.05,))
            for losses in (_mapped(tmp_path, "s", held["loss_nats"]), held["loss_nats"])
        )
        pd.testing.assert_frame_equal(found.to_frame(), expected.to_frame(), check_exact=True)
        assert np.isfinite(found.privacy_score.value).sum() > RECORDS // 2
        assert np.isnan(found.memorization.value).all(), "which needs classes"
        assert [one.name for one in found.detections] == ["detection_own_fpr_0_05/scaled_logit"]


def test_a_file_that_changed_before_it_was_checked_is_named_once(tmp_path: Path, small_pieces: None) -> None:
    held = _outputs()
    np.save(tmp_path / "t.npy", held["logits"])
    arrays = held | {"logits": npz.open_npy(tmp_path / "t.npy", where="predictions=t.npy", allowed="y")}
    _cut(tmp_path / "t.npy")
    with pytest.raises(UserError, match=r"^predictions=t\.npy: changed while it was read"):
        Predictions.from_arrays(arrays, source="predictions=t.npy")


def test_a_mapped_file_that_is_shorter_than_its_header_ends_with_exit_code_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], small_pieces: None
) -> None:
    pytest.importorskip("mlflow")
    np.save(tmp_path / "t.npy", _outputs()["logits"])
    _cut(tmp_path / "t.npy")
    assert main(["attack", "--predictions", str(tmp_path / "t.npy")]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert "shorter than its header says: that promises 12,000 bytes of data, and it holds 5,936 bytes" in line
