"""What the store promises: nothing reused that was made otherwise, nothing trusted that is damaged, nothing lost to a full disk."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from memberscope.errors import UserError
from memberscope.training.keras.versions import versions
from memberscope.training.store import Store, digest, signature

COMMON = {"data": "d" * 64, "recipe": {"learning_rate": 0.001, "widths": [64, 32]}, **versions()}
EACH = [{"seed": 0, "members": "a"}, {"seed": 1, "members": "b"}]
ARRAYS = {"weight_000": np.arange(6, dtype=np.float32).reshape(2, 3), "loss": np.array([0.5, 0.25])}


def _filled(folder: Path) -> list[str]:
    store = Store(folder)
    names = store.plan("shadows", COMMON, EACH)
    for name in names:
        store.save(name, ARRAYS)
    return names


def test_what_is_saved_comes_back_in_type_and_shape(tmp_path: Path) -> None:
    name = _filled(tmp_path)[0]
    found = Store(tmp_path).load(name)
    assert found is not None
    assert found.keys() == ARRAYS.keys()
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype


def test_same_arrays_same_bytes(tmp_path: Path) -> None:
    first, again = _filled(tmp_path / "a")[0], _filled(tmp_path / "b")[0]
    assert first == again
    assert (tmp_path / "a" / f"{first}.npz").read_bytes() == (tmp_path / "b" / f"{again}.npz").read_bytes()


def test_no_folder_before_the_first_write(tmp_path: Path) -> None:
    assert Store(tmp_path / "store").load("0" * 64) is None
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {**COMMON, "data": "e" * 64},
        {**COMMON, "recipe": {"learning_rate": 0.01, "widths": [64, 32]}},
        {**COMMON, "recipe": {"learning_rate": 0.001, "widths": [32, 64]}},
        {**COMMON, "version.tensorflow": "2.16.0"},
        {**COMMON, "format": -1},
    ],
)
def test_any_changed_fact_changes_the_signature(changed: dict[str, object]) -> None:
    assert signature(changed) != signature(COMMON)


def test_digest_tells_type_shape_and_content_apart() -> None:
    array = np.arange(6)
    others = [array.reshape(2, 3), array.astype(np.int32), array[::-1], array[:5]]
    assert len({digest(a) for a in [array, *others]}) == 5
    assert digest(array[::2]) == digest(array[::2].copy())


def test_a_file_cut_short_is_refused_with_its_name(tmp_path: Path) -> None:
    name = _filled(tmp_path)[0]
    path = tmp_path / f"{name}.npz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(UserWarning, match=f"{name}.npz is not used and will be computed again: .*damaged"):
        assert Store(tmp_path).load(name) is None


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    one, two = _filled(tmp_path)
    shutil.copy(tmp_path / f"{one}.npz", tmp_path / f"{two}.npz")
    with pytest.warns(UserWarning, match="belongs to another model"):
        assert Store(tmp_path).load(two) is None
    np.savez(tmp_path / f"{two}.npz", **ARRAYS)
    with pytest.warns(UserWarning, match="belongs to another model"):
        assert Store(tmp_path).load(two) is None


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    name = _filled(tmp_path)[0]
    np.savez(tmp_path / f"{name}.npz", weight_000=np.array([{}], dtype=object))
    with pytest.warns(UserWarning, match="Python objects"):
        assert Store(tmp_path).load(name) is None


def test_changed_content_is_found_by_the_checksum(tmp_path: Path) -> None:
    name = _filled(tmp_path)[0]
    with np.load(tmp_path / f"{name}.npz") as archive:
        inside = dict(archive)
    inside["loss"] = inside["loss"] + 1
    np.savez(tmp_path / f"{name}.npz", **inside)
    with pytest.warns(UserWarning, match="checksum"):
        assert Store(tmp_path).load(name) is None


def test_no_reuse_loads_nothing(tmp_path: Path) -> None:
    name = _filled(tmp_path)[0]
    assert Store(tmp_path, reuse="no").load(name) is None


def test_force_takes_the_same_facts_and_names_others(tmp_path: Path) -> None:
    names = _filled(tmp_path)
    forced = Store(tmp_path, reuse="force")
    assert forced.plan("shadows", COMMON, EACH) == names
    assert forced.plan("shadows", COMMON, EACH[:1]) == names[:1]
    changed = {**COMMON, "recipe": {"learning_rate": 0.01, "widths": [64, 32]}, "data": "e" * 64}
    with pytest.raises(
        UserError, match=r"reuse=force: .* written with other settings: other data; learning_rate was 0.001, is 0.01; allowed"
    ):
        forced.plan("shadows", changed, EACH)
    with pytest.raises(UserError, match="model 1: seed was 1, is 7"):
        forced.plan("shadows", COMMON, [EACH[0], {**EACH[1], "seed": 7}])
    with pytest.raises(UserError, match="it holds 2 models, not 3"):
        forced.plan("shadows", COMMON, [*EACH, EACH[0]])
    with pytest.raises(UserError, match="not a list of finished models"):
        forced.plan("others", COMMON, EACH)
    assert forced.load(names[0]) is not None


def test_another_word_for_reuse() -> None:
    with pytest.raises(UserError, match="reuse=always: unknown; allowed: auto, force, no"):
        Store("x", reuse="always")


def test_a_full_disk_is_one_line_and_what_was_finished_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, other = _filled(tmp_path)[0], "f" * 64

    def full(file: object, **arrays: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError) as raised:
        Store(tmp_path).save(other, ARRAYS)
    assert f"store={tmp_path}: cannot be written (No space left on device)" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert Store(tmp_path).load(name) is not None
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Store(tmp_path / "file" / "store").save("0" * 64, ARRAYS)
    with pytest.raises(UserError, match="cannot be written"):
        Store(tmp_path / "file" / "store").plan("shadows", COMMON, EACH)


def test_a_folder_of_another_format_is_refused_in_one_line(tmp_path: Path) -> None:
    each = [{"seed": 0}]
    (name,) = Store(tmp_path).plan("models", {"format": 1}, each)
    Store(tmp_path).save(name, {"x": np.arange(3)})
    for reuse in ("auto", "force"):
        with pytest.raises(
            UserError,
            match=r"store=.*: models.json is of format 1, and this version has format 2; allowed: another folder, or reuse=no",
        ):
            Store(tmp_path, reuse=reuse).plan("models", {"format": 2}, each)
    assert Store(tmp_path).plan("models", {"format": 1}, each) == [name]  # the refusals wrote nothing
    assert Store(tmp_path, reuse="no").plan("models", {"format": 2}, each) != [name]
