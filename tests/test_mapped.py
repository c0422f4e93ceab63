"""Memory-mapped outputs: the same figures as in memory, a memory that depends on the piece, and files that change or are cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_outputs import CLASSES, MODELS, RECORDS, cut, losses_of_models, outputs
from numpy.typing import NDArray

from memberscope import (
    Evidence,
    Predictions,
    ShadowPredictions,
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
from memberscope.exposure.table import measure_models


def _mapped(folder: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    np.save(folder / f"{name}.npy", array)
    found: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r")
    return found


def test_an_audit_of_mapped_logits_equals_that_of_logits_in_memory(tmp_path: Path, small_pieces: None) -> None:
    held = outputs()
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
    held, ids = losses_of_models(), np.arange(RECORDS)
    held["member"][MODELS // 2] = np.roll(held["member"][MODELS // 2], 1)  # no twin of the target, which is model 0
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
    held = outputs()
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
        (cut, "it had 12,128 bytes and has 6,064"),
        (_written, "it was written to"),
        (_replaced, "another file replaced it"),
        (Path.unlink, "it cannot be found any more"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, small_pieces: None, change: Callable[[Path], None], how: str
) -> None:
    held = outputs()
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
    held = outputs()
    ours = Predictions(**held | {"logits": _mapped(tmp_path, "l", held["logits"])})
    read, seen = signals._Rows.loss_nats, []

    def cut_in_the_middle(rows: signals._Rows) -> NDArray[np.float64]:
        seen.append(len(rows.scores))
        if len(seen) == 20:
            cut(tmp_path / "l.npy")
        return read(rows)

    monkeypatch.setattr(signals._Rows, "loss_nats", cut_in_the_middle)
    with pytest.raises(UserError, match="it had 12,128 bytes and has 6,064"):
        signals.loss_nats(ours)
    assert len(seen) == 20, "nothing was read of the file after it was cut"


def test_a_piece_that_memory_cannot_hold_is_an_error(
    tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = outputs()
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


def test_another_membership_reads_no_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As each draw of a null control with refitting takes one."""
    held = outputs()
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
    held = outputs()
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
    held = losses_of_models()
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
    held = outputs()
    np.save(tmp_path / "t.npy", held["logits"])
    arrays = held | {"logits": npz.open_npy(tmp_path / "t.npy", where="predictions=t.npy", allowed="y")}
    cut(tmp_path / "t.npy")
    with pytest.raises(UserError, match=r"^predictions=t\.npy: changed while it was read"):
        Predictions.from_arrays(arrays, source="predictions=t.npy")


def test_a_mapped_file_that_is_shorter_than_its_header_ends_with_exit_code_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], small_pieces: None
) -> None:
    pytest.importorskip("mlflow")
    np.save(tmp_path / "t.npy", outputs()["logits"])
    cut(tmp_path / "t.npy")
    assert main(["attack", "--predictions", str(tmp_path / "t.npy")]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert "shorter than its header says: that promises 12,000 bytes of data, and it holds 5,936 bytes" in line
