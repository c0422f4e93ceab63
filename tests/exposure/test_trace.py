"""The loss trace on disk: what is read is what was written, after every kind of stop; and what bad input gets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope import LossTrace, Predictions, file_state, pieces
from memberscope.errors import UserError
from memberscope.sealed import OtherKey
from memberscope.secret import Key

KEY = Key(value=bytes(range(32)))
IDS = np.array(["ann", "bob", "eve", "joe", "sam"])
MEMBER = np.array([True, False, True, False, True])


def _losses(epochs: int, n: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.0, size=(epochs, n)).astype(np.float32)


def _collected(path: Path, losses: np.ndarray, **options: object) -> LossTrace:
    trace = LossTrace.create(path, **{"record_ids": IDS, "member": MEMBER, "labels": np.arange(5), **options})
    for row in losses:
        trace.update(row)
    return trace


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    losses = _losses(7)
    _collected(tmp_path / "t", losses)
    found = LossTrace.open(tmp_path / "t")
    assert (len(found), found.steps, found.every) == (7, (1, 2, 3, 4, 5, 6, 7), 1)
    np.testing.assert_array_equal(found.record_ids, IDS)
    np.testing.assert_array_equal(found.member, MEMBER)
    np.testing.assert_array_equal(found.labels, np.arange(5))
    np.testing.assert_array_equal(found.losses, losses)
    np.testing.assert_array_equal(found.by_record(), losses.T)
    assert found.losses.dtype == np.float32
    assert isinstance(found.losses.base, np.memmap) or isinstance(found.losses, np.memmap)
    assert not found.losses.flags.writeable
    assert (tmp_path / "t").stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_any_array_of_losses_is_taken(tmp_path: Path) -> None:
    class Tensor:
        """As PyTorch's: no array until it is detached and on the CPU."""

        def __init__(self, values: list[float], *, detached: bool = False) -> None:
            self.values, self.detached = values, detached

        def detach(self) -> Tensor:
            return Tensor(self.values, detached=True)

        def cpu(self) -> Tensor:
            return self

        def numpy(self) -> np.ndarray:
            if not self.detached:
                raise RuntimeError("Can't call numpy() on Tensor that requires grad")
            return np.array(self.values, dtype=np.float16)

    trace = LossTrace.create(tmp_path / "t", record_ids=3)
    trace.update([1, 2, 3])
    trace.update(np.array([0.5, 0.25, 0.125]))
    trace.update(Tensor([4.0, 5.0, 6.0]))
    np.testing.assert_array_equal(trace.losses, [[1, 2, 3], [0.5, 0.25, 0.125], [4, 5, 6]])


@pytest.mark.parametrize("torn", [1, 20, 35])
def test_a_row_that_was_cut_short_is_written_again(tmp_path: Path, torn: int) -> None:
    losses = _losses(4)
    _collected(tmp_path / "t", losses)
    row = 16 + 4 * 5
    os.truncate(tmp_path / "t", (tmp_path / "t").stat().st_size - row + torn)
    again = LossTrace.resume(tmp_path / "t", record_ids=IDS, member=MEMBER, labels=np.arange(5))
    assert again.steps == (1, 2, 3)
    again.update(losses[3])
    np.testing.assert_array_equal(LossTrace.open(tmp_path / "t").losses, losses)


def test_a_last_row_without_its_losses_does_not_count(tmp_path: Path) -> None:
    """A file system may make room for a row before its content is there."""
    losses = _losses(3)
    _collected(tmp_path / "t", losses)
    with open(tmp_path / "t", "r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"\0" * 8)
    found = LossTrace.open(tmp_path / "t")
    assert found.steps == (1, 2)
    found.update(losses[2])
    np.testing.assert_array_equal(LossTrace.open(tmp_path / "t").losses, losses)


def test_a_training_from_a_checkpoint_replaces_later_epochs(tmp_path: Path) -> None:
    old, new = _losses(6), _losses(6, seed=1)
    _collected(tmp_path / "t", old)
    trace = LossTrace.resume(tmp_path / "t", record_ids=IDS, member=MEMBER, labels=np.arange(5))
    for epoch in (4, 5):
        trace.update(new[epoch - 1], epoch=epoch)
    found = LossTrace.open(tmp_path / "t")
    assert found.steps == (1, 2, 3, 4, 5)
    np.testing.assert_array_equal(found.losses, np.concatenate([old[:3], new[3:5]]))


@pytest.mark.parametrize(
    "read", [lambda trace: trace.check(), lambda trace: trace.by_record(), lambda trace: trace.by_record(np.arange(2))]
)
def test_a_trace_that_is_cut_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[LossTrace], object]
) -> None:
    """Reading it through the map would kill the process."""
    losses = np.random.default_rng(0).random((6, 3000)).astype(np.float32)
    trace = LossTrace.create(tmp_path / "t", record_ids=3000)
    for epoch, row in enumerate(losses, start=1):
        trace.update(row, epoch=epoch)
    inner, reads = file_state._read, list[int]()

    def cut(file: Any, part: Any, place: int) -> Any:
        reads.append(place)
        if len(reads) == at:
            os.truncate(tmp_path / "t", 5000)
        return inner(file, part, place)

    monkeypatch.setattr(pieces, "CHUNK_ELEMENTS", 3000)
    monkeypatch.setattr(file_state, "_read", cut)
    at = -1
    read(trace)
    at, whole = len(reads), reads.copy()
    reads.clear()
    with pytest.raises(UserError, match=rf"^{tmp_path / 't'}: changed while it was read \(it has 5,000 bytes\)"):
        read(trace)
    assert reads == whole[:at]


def test_resume_begins_where_there_is_no_file(tmp_path: Path) -> None:
    LossTrace.resume(tmp_path / "t", record_ids=4).update(np.ones(4))
    assert LossTrace.open(tmp_path / "t").steps == (1,)


def test_create_does_not_overwrite(tmp_path: Path) -> None:
    _collected(tmp_path / "t", _losses(2))
    with pytest.raises(UserError, match=r"t: exists; allowed: a new file, LossTrace.resume"):
        LossTrace.create(tmp_path / "t", record_ids=IDS)
    assert len(LossTrace.open(tmp_path / "t")) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"record_ids": np.array(["ann", "bob", "joe", "eve", "sam"])}, "2 of 5 records differ from this training, the first at 2"),
        ({"record_ids": np.arange(5)}, "record_ids: 5 of 5 records differ"),
        ({"record_ids": IDS[:4], "member": MEMBER[:4], "labels": np.arange(4)}, "a loss trace of 5 records"),
        ({"member": ~MEMBER}, "member: 5 of 5 records differ"),
        ({"labels": None}, "labels is present"),
        ({"every": 2}, "a row for every 1 epochs"),
    ],
)  # fmt: skip
def test_resume_refuses_other_records(tmp_path: Path, change: dict[str, object], said: str) -> None:
    _collected(tmp_path / "t", _losses(2))
    with pytest.raises(UserError, match=said) as error:
        LossTrace.resume(tmp_path / "t", **{"record_ids": IDS, "member": MEMBER, "labels": np.arange(5), **change})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (np.array([1.0, np.nan, 2.0, np.inf, np.nan]), "losses of epoch 1: 3 NaN or infinite values, the first at 1"),
        (
            np.array([1.0, 1e300, 2.0, 1.0, 1.0]),
            "losses of epoch 1: 1 NaN or infinite values, the first at 1",
        ),  # beyond float32
        (np.ones(4), r"losses of epoch 1: shape \(4,\); allowed: \(5,\)"),
        (np.ones((5, 1)), r"losses of epoch 1: shape \(5, 1\)"),
        (["a"] * 5, "losses of epoch 1: gave <U1"),
    ],
)
def test_losses_that_cannot_be_used_are_refused_and_leave_the_trace(tmp_path: Path, losses: object, said: str) -> None:
    trace = _collected(tmp_path / "t", np.empty((0, 5)))
    with pytest.raises(UserError, match=said):
        trace.update(losses)
    assert len(LossTrace.open(tmp_path / "t")) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"record_ids": ["a", "b", "a", "b"]}, "record_ids: 2 repeat, the first a"),
        ({"record_ids": 0}, "record_ids: int64 of shape"),
        ({"record_ids": np.array([0.5, 1.5])}, "record_ids: float64"),
        ({"record_ids": 3, "member": [1, 0, 1]}, "member: int64"),
        ({"record_ids": 3, "member": [True, False]}, r"member: bool of shape \(2,\)"),
        ({"record_ids": 3, "labels": [0, 1]}, r"labels: shape \(2,\)"),
        ({"record_ids": 3, "every": 0}, "every=0: out of range"),
        ({"record_ids": 3, "epochs": 0}, "epochs=0: out of range"),
    ],
)
def test_create_refuses(tmp_path: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        LossTrace.create(tmp_path / "t", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("steps", "options", "said"),
    [
        ((1, 2, 4, 7), {}, "3 of 7 epochs are missing from the loss trace, the first 3, 5, 6"),
        ((1, 2, 3), {"epochs": 5}, "2 of 5 epochs are missing from the loss trace, the first 4, 5"),
        ((3, 4), {}, "2 of 4 epochs are missing from the loss trace, the first 1, 2"),
        ((2, 6), {"every": 2}, "1 of 3 epochs are missing from the loss trace, the first 4"),
        ((1, 2, 3), {"every": 2}, "1 of 2 epochs are too many in the loss trace, the first 2"),
        ((), {}, "a loss trace without any epoch"),
    ],
)  # fmt: skip
def test_missing_epochs_are_counted(tmp_path: Path, steps: tuple[int, ...], options: dict[str, int], said: str) -> None:
    trace = _collected(tmp_path / "t", np.empty((0, 5)), **options)
    for step in steps:
        trace.update(np.ones(5), epoch=step)
    with pytest.raises(UserError, match=said):
        LossTrace.open(tmp_path / "t").by_record()


def test_the_last_epoch_may_lie_beside_the_stride(tmp_path: Path) -> None:
    trace = _collected(tmp_path / "t", np.empty((0, 5)), every=2, epochs=5)
    for step in (2, 4, 5):
        trace.update(np.full(5, step), epoch=step)
    np.testing.assert_array_equal(LossTrace.open(tmp_path / "t").by_record()[0], [2, 4, 5])


def test_a_changed_row_is_seen(tmp_path: Path) -> None:
    trace = _collected(tmp_path / "t", _losses(4))
    with open(tmp_path / "t", "r+b") as file:
        file.seek(-3 * (16 + 4 * 5) + 16, os.SEEK_END)
        file.write(np.float32(9).tobytes())
    with pytest.raises(UserError, match="damaged at epoch 2 of the loss trace"):
        trace.by_record()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a loss trace"),
        (b"some text\n", "not a loss trace"),
        (b"memberscope loss trace 1\n{}\n", "truncated or damaged"),
        (b"memberscope loss trace 1\n{\n", "truncated or damaged"),
        (b'memberscope loss trace 1\n{"every": 1, "epochs": null, "records": 9, "check": 0}\nshort', "truncated or damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(UserError, match=said):
        LossTrace.open(tmp_path / "t")


def test_a_missing_file_and_an_npz_of_other_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        LossTrace.open(tmp_path / "none")
    np.savez(tmp_path / "p.npz", logits=np.ones(3))
    with pytest.raises(UserError, match="not a loss trace"):
        LossTrace.open(tmp_path / "p.npz")


def test_records_are_found_by_their_ids(tmp_path: Path) -> None:
    losses = _losses(3)
    trace = _collected(tmp_path / "t", losses)
    order = np.array([3, 0, 4])
    some = Predictions(loss_nats=np.ones(3), member=MEMBER[order], labels=order, record_ids=IDS[order])
    np.testing.assert_array_equal(trace.of(some), losses.T[order])


def test_records_that_do_not_match_are_counted(tmp_path: Path) -> None:
    trace = _collected(tmp_path / "t", _losses(3))

    def predictions(**changes: object) -> Predictions:
        return Predictions(**{"loss_nats": np.arange(5.0), "member": MEMBER, "record_ids": IDS, **changes})

    for changes, said in (
        (
            {"record_ids": np.array(["ann", "kim", "eve", "lou", "sam"])},
            "2 of the 5 records of the predictions are not in the loss trace, the first kim",
        ),
        ({"record_ids": np.arange(5)}, "5 of the 5 records of the predictions"),
        ({"member": np.array([True, False, False, True, True])}, "member: 2 of 5 records differ from the predictions, the first at 2"),
        ({"labels": np.array([0, 1, 2, 3, 3])}, "labels: 1 of 5 records differ from the predictions, the first at 4"),
        ({"record_ids": None, "loss_nats": np.ones(4), "member": MEMBER[:4]}, "a loss trace of 5 records, and the predictions hold 4"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said) as error:
            trace.of(predictions(**changes))
        assert "\n" not in str(error.value)


def test_without_ids_the_last_losses_tell_whether_the_order_is_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 400
    last = rng.gamma(1.0, size=n)
    trace = LossTrace.create(tmp_path / "t", record_ids=n)
    trace.update(last + 1)
    trace.update(last)
    member = np.arange(n) % 2 == 0
    same = Predictions(loss_nats=last + rng.normal(size=n) * 0.3 + 2, member=member)
    np.testing.assert_allclose(trace.of(same)[:, 1], last, rtol=1e-6)
    shuffled = Predictions(loss_nats=rng.permutation(last), member=member)
    with pytest.raises(UserError, match="not the same or not in the same order"):
        trace.of(shuffled)


def test_a_sealed_copy_tells_nothing_without_the_key_and_all_with_it(tmp_path: Path) -> None:
    losses = _losses(300)
    trace = _collected(tmp_path / "t", losses, epochs=300)
    trace.save_sealed(tmp_path / "sealed.npz", key=KEY)
    found = LossTrace.open(tmp_path / "sealed.npz", key=KEY)
    np.testing.assert_array_equal(found.by_record(), losses.T)
    np.testing.assert_array_equal(found.member, MEMBER)
    assert (found.steps, found.every, found.epochs) == (trace.steps, 1, 300)
    content = (tmp_path / "sealed.npz").read_bytes()
    assert losses[0].tobytes() not in content
    assert IDS.tobytes() not in content
    assert b"member.npy" not in content
    with np.load(tmp_path / "sealed.npz") as file:
        bits = np.unpackbits(file["sealed"])
    assert 0.48 < bits.mean() < 0.52  # 6,000 bytes and more: 11 standard errors
    with pytest.raises(OtherKey, match="written with another key"):
        LossTrace.open(tmp_path / "sealed.npz", key=Key(value=bytes(32)))
    with pytest.raises(UserError, match="cannot be continued"):
        found.update(np.ones(5))


def test_the_last_losses_are_the_predictions_of_a_trace_alone(tmp_path: Path) -> None:
    losses = _losses(3)
    found = _collected(tmp_path / "t", losses).predictions()
    np.testing.assert_array_equal(found.loss_nats, losses[-1])
    np.testing.assert_array_equal(found.member, MEMBER)
    with pytest.raises(UserError, match="does not say who is a member"):
        _collected(tmp_path / "u", losses, member=None).predictions()
