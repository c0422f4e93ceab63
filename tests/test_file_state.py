"""Numbers of mapped files are read from the files: the same for any part of any layout, and an error where a file lost them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memberscope import Predictions, ShadowPredictions, file_state, pieces, scales, signals
from memberscope.attacks import calibration
from memberscope.checks import check_finite
from memberscope.errors import UserError
from memberscope.exposure.table import measure_models
from memberscope.file_state import FileState, known_state, loaded, state_of, with_state

PARTS = (
    np.s_[:], np.s_[2], np.s_[:, 10:60], np.s_[:, ::3], np.s_[::-1], np.s_[:, :, 4], np.s_[:, :, 2:4], np.s_[3, :, ::-2],
    np.s_[:, 40:41, 8], np.s_[:, 5:5], np.s_[:, 7:250:70, 3], np.s_[None, 3],
)  # fmt: skip


def _mapped(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    np.save(path, array)
    found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def _known(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    return with_state(_mapped(path, array), FileState.of(path, where="logits"))


@pytest.mark.parametrize("far", [64, 1 << 14])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_part_of_any_layout_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any, dtype: str, far: int
) -> None:
    monkeypatch.setattr(file_state, "_NEAR", far)
    monkeypatch.setattr(file_state, "_BLOCK", 1000)
    cube = np.asarray(np.random.default_rng(0).normal(size=(7, 300, 9)) > 0.1 if dtype == "?" else np.arange(7 * 300 * 9.0))
    cube = np.asarray(cube.reshape(7, 300, 9).astype(dtype), order=order)
    mapping = _known(tmp_path / "a.npy", cube)
    for part in PARTS:
        found = loaded(mapping[part])
        assert found.dtype == cube.dtype
        np.testing.assert_array_equal(found, cube[part])
        np.testing.assert_array_equal(loaded(mapping[part].T), cube[part].T)
        assert pieces.mapping_of(found) is None or not found.size
    np.testing.assert_array_equal(loaded(np.broadcast_to(mapping[1], (4, 300, 9))), np.broadcast_to(cube[1], (4, 300, 9)))


def test_what_is_no_file_of_others_is_returned_as_it_is(tmp_path: Path) -> None:
    held = np.arange(6.0)
    assert loaded(held) is held
    with tempfile.TemporaryFile() as file:
        file.write(held.tobytes())
        file.flush()
        unnamed = np.memmap(file, dtype=float, mode="r", shape=(6,))
    assert loaded(unnamed) is unnamed
    np.save(tmp_path / "a.npy", held)
    own = np.load(tmp_path / "a.npy", mmap_mode="c", allow_pickle=False)
    own[2] = 9.0
    assert loaded(own)[2] == 9.0, "the process's own changes"


def test_a_file_that_was_cut_is_an_error_where_the_map_would_kill_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    array = _mapped(path, np.arange(100_000.0).reshape(1000, 100))
    known = with_state(array, FileState.of(path, where="logits"))
    os.truncate(path, 128 + 500 * 800)
    np.testing.assert_array_equal(loaded(array[:500], where="x"), np.arange(50_000.0).reshape(500, 100))
    with pytest.raises(UserError, match=r"^x: changed while it was read \(it has 400,128 bytes\); allowed"):
        loaded(array[500:501], where="x")
    with pytest.raises(UserError, match=r"^x: changed while it was read \(it has 400,128 bytes\)"):
        loaded(array[400:].T, where="x")
    with pytest.raises(UserError, match=r"^logits: changed while it was read \(it had 800,128 bytes and has 400,128\)"):
        loaded(known[500:])
    path.unlink()
    for part, where in ((array[:1], "x"), (known[:1], "logits")):
        with pytest.raises(
            UserError, match=rf"^{where}: changed .* \(it cannot be found any more: No such file or directory\)"
        ):
            loaded(part, where="x" if where == "x" else "")


LISTED = pytest.mark.skipif(not file_state.MAPS.exists(), reason="the system has no list of maps")


@pytest.mark.parametrize(
    ("other", "maps"), [(None, "/none"), (50, "/none"), pytest.param(40, str(file_state.MAPS), marks=LISTED)]
)
def test_a_name_that_is_no_longer_the_mapped_files_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: int | None, maps: str
) -> None:
    """As where a temporary file is deleted right after it was mapped, or its name was used again, for as many records or for others."""
    monkeypatch.setattr(file_state, "MAPS", Path(maps))
    rng, path = np.random.default_rng(0), tmp_path / "a.npy"
    logits = rng.normal(size=(40, 3))
    array = _mapped(path, logits)
    path.unlink()
    if other is not None:
        np.save(path, np.full((other, 3), 7.0))
    ours = Predictions(logits=array, labels=rng.integers(0, 3, 40), member=np.arange(40) < 20)
    assert state_of(array, where="logits") is None
    np.testing.assert_array_equal(
        signals.margin(ours), signals.margin(Predictions(logits=logits, labels=ours.labels, member=ours.member))
    )


def test_slices_lead_back_to_the_state_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    array = _mapped(path, np.arange(24.0).reshape(2, 3, 4))
    assert known_state(array) is None
    state = FileState.of(path, where="logits")
    known = with_state(array[1:], state)
    assert type(known) is np.ndarray
    for part in (known, known[0], known[0][1:], known[0, 1].T):
        assert state_of(part, where="another") is state
        np.testing.assert_array_equal(loaded(part), part)
    before = path.stat().st_mtime_ns
    os.utime(path, ns=(before, before + 10**9))
    with pytest.raises(UserError, match=r"^logits: changed while it was read \(it was written to\)"):
        loaded(known[0, 1])


def _cut_at(monkeypatch: pytest.MonkeyPatch, path: Path, number: int) -> list[int]:
    """Cut the file in half right before its `number`-th read."""
    read, seen = file_state._read, list[int]()

    def cut(file: Any, part: NDArray[Any], place: int) -> NDArray[Any]:
        seen.append(place)
        if len(seen) == number:
            os.truncate(path, path.stat().st_size // 2)
        return read(file, part, place)

    monkeypatch.setattr(file_state, "_read", cut)
    return seen


@pytest.mark.parametrize(
    "work",
    [
        lambda logits, rest: check_finite("logits", with_state(logits, FileState.of(logits.filename, where="logits"))),
        lambda logits, rest: scales.facts(with_state(logits, FileState.of(logits.filename, where="logits"))),
        lambda logits, rest: Predictions(logits=logits, **rest),
        lambda logits, rest: signals.margin(Predictions(logits=logits, **rest)),
        lambda logits, rest: calibration.log_prob(Predictions(logits=logits, **rest), 2.0),
        lambda logits, rest: signals.loss_nats(Predictions(loss_nats=logits[:, 0], **rest)),
        lambda logits, rest: calibration.scaled_logit(Predictions(loss_nats=logits[:, 0], **rest)),
        lambda logits, rest: measure_models(
            ShadowPredictions(loss_nats=logits.T, member=np.arange(4)[:, None] * rest["member"] > 1, labels=rest["labels"])
        ),
    ],
)
def test_a_file_that_is_cut_after_its_state_was_compared_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Any
) -> None:
    """The moment that no check beforehand can see; before, it killed the process."""
    monkeypatch.setattr(pieces, "CHUNK_ELEMENTS", 4_000)
    monkeypatch.setattr(signals, "CHUNK", 4_000)
    rng, path = np.random.default_rng(0), tmp_path / "l.npy"
    rest = {"labels": rng.integers(0, 4, 20_000), "member": np.arange(20_000) % 2 == 0}
    logits = rng.exponential(size=(20_000, 4))
    logits[0, 0] = -1.0
    with pytest.MonkeyPatch.context() as counted:
        reads = _cut_at(counted, path, -1)
        work(_mapped(path, logits), rest)
    assert len(reads) >= 5, "read in pieces"
    for number in {3, len(reads) - 1}:
        array = _mapped(path, logits)
        with pytest.MonkeyPatch.context() as cut:
            _cut_at(cut, path, number)
            with pytest.raises(UserError, match=r"changed while it was read \(it ha[sd] ") as error:
                work(array, rest)
        assert "\n" not in str(error.value)
