"""The frozen types: what is refused and how it is said, files in and out, parts."""

from __future__ import annotations

import dataclasses
import os
import pickle  # noqa: TID251 - to see that it is refused
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memberscope
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions, ShadowPredictions

N, C = 40, 3


@pytest.fixture
def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(N, C)).astype(np.float32)
    return {"logits": logits, "labels": rng.integers(0, C, N), "member": np.arange(N) < N // 2}


def _sigmoids(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-3 * logits))


def _probs(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits)
    return e / e.sum(axis=1, keepdims=True)


def _with(array: np.ndarray, index: Any, value: float) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed


BAD = {
    "nan": (
        lambda a: {"logits": _with(_with(a["logits"], (5, 2), np.nan), (7, 0), np.inf)},
        r"logits: 2 NaN or infinite values, the first at \[5, 2\]",
    ),
    "rank": (lambda a: {"logits": a["logits"][0]}, r"logits: 1 axes, shape \(3,\); allowed: 2, \(records, classes\)"),
    "classes": (lambda a: {"logits": a["logits"][:, :1]}, "logits: 1 classes; allowed: at least 2"),
    "length": (lambda a: {"logits": a["logits"][:10]}, r"logits: shape \(10, 3\); member has shape \(40,\)"),
    "text": (lambda a: {"logits": a["logits"].astype(str)}, "logits: dtype <U32; allowed: real numbers"),
    "objects": (lambda a: {"logits": a["logits"].astype(object)}, "logits: holds Python objects"),
    "ragged": (lambda a: {"logits": [[1.0, 2.0], [3.0]]}, "logits: rows of unequal lengths"),
    "two forms": (lambda a: {"probs": _probs(a["logits"])}, "logits and probs together; allowed: exactly one of"),
    "none": (lambda a: {"logits": None}, "predictions: none given; allowed: one of logits, probs, predicted"),
    "loss beside": (lambda a: {"loss_nats": np.ones(N)}, "logits and loss_nats together"),
    "labels high": (lambda a: {"labels": a["labels"] + 1}, "labels: .* outside the 3 classes, the largest 3"),
    "labels low": (lambda a: {"labels": a["labels"] - 1}, "labels: smallest value -1"),
    "labels float": (lambda a: {"labels": a["labels"] * 1.0}, "labels: dtype float64; allowed: integers"),
    "labels rank": (lambda a: {"labels": a["labels"][:, None]}, r"labels: 2 axes, shape \(40, 1\)"),
    "labels length": (lambda a: {"labels": a["labels"][:5]}, r"labels: shape \(5,\); the other arrays require \(40,\)"),
    "labels none": (lambda a: {"labels": None}, "labels: missing; only loss_nats or entropy_nats alone"),
    "member int": (lambda a: {"member": a["member"].astype(int)}, "member: dtype int64; allowed: bool"),
    "member all": (lambda a: {"member": np.ones(N, bool)}, "member: all True; allowed: at least one member"),
    "member none": (lambda a: {"member": np.zeros(N, bool)}, "member: all False"),
    "member rank": (lambda a: {"member": a["member"][:, None]}, r"member: 2 axes, shape \(40, 1\); allowed: 1"),
    "ids": (lambda a: {"record_ids": np.arange(3)}, r"record_ids: shape \(3,\)"),
    "inputs": (lambda a: {"inputs": np.zeros((3, 2))}, r"inputs: shape \(3, 2\); the first axis must have the 40 records"),
    "column": (lambda a: {"columns": {"age": np.arange(2)}}, r"column age: shape \(2,\)"),
    "released": (lambda a: {"released": True}, "released: true; allowed only together with probs"),
    "released text": (lambda a: {"released": "yes"}, "released: 'yes'; allowed: true or false"),
    "negative": (
        lambda a: {"logits": None, "probs": _with(_probs(a["logits"]), (3, 1), -0.1)},
        r"probs: 1 negative values, the first at \[3, 1\]",
    ),
    "sum": (
        lambda a: {"logits": None, "probs": _probs(a["logits"]) / 2},
        "probs: 40 rows do not sum to one, the first to 0.5 in row 0; .* released=true",
    ),
    "released sum": (
        lambda a: {"logits": None, "probs": _probs(a["logits"]) * 2, "released": True},
        "probs: 40 rows sum to more than one",
    ),
    "predicted float": (lambda a: {"logits": None, "predicted": np.ones(N)}, "predicted: dtype float64; allowed: classes"),
    "words and numbers": (
        lambda a: {"logits": None, "predicted": np.array(["a"] * N)},
        "predicted: dtype <U1.*both numbers, or both",
    ),
    "words beside scores": (lambda a: {"labels": np.array(["a"] * N)}, "labels: dtype <U1; allowed: integers"),
    "softmax as logits": (
        lambda a: {"logits": _probs(a["logits"])},
        "logits: the rows are non-negative and sum to one: probabilities",
    ),
    "percentages as logits": (
        lambda a: {"logits": 100 * _probs(a["logits"])},
        "logits: .* all sum to 100: percentages.*as probs",
    ),
    "sigmoids as logits": (lambda a: {"logits": _sigmoids(a["logits"])}, "logits: .*one sigmoid per class.*normalize the rows"),
    "surprise": (
        lambda a: {"logits": None, "probs": -np.log(_probs(a["logits"]))},
        "probs: .*negative logarithms.*change their sign",
    ),
    "percentages": (
        lambda a: {"logits": None, "probs": 100 * _probs(a["logits"])},
        "probs: all rows sum to 100: .*divided by 100",
    ),
    "log-probabilities": (lambda a: {"logits": None, "probs": np.log(_probs(a["logits"]))}, "probs: logarithms.*as logits"),
    "sigmoids": (lambda a: {"logits": None, "probs": _sigmoids(a["logits"])}, "probs: .*normalize the rows.*sigmoids' logits"),
    "loss rank": (lambda a: {"logits": None, "loss_nats": np.ones((N, 2))}, r"loss_nats: 2 axes, shape \(40, 2\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_fault_is_refused_in_one_line_that_names_it(case: str, arrays: dict[str, Any]) -> None:
    change, message = BAD[case]
    with pytest.raises(UserError, match=message) as caught:
        Predictions(**(arrays | change(arrays)))
    assert "\n" not in str(caught.value)


def test_first_fault_is_found_beyond_the_first_chunk() -> None:
    logits = np.zeros((1_500_000, 2), dtype=np.float32)
    logits[1_400_000, 1] = np.nan
    with pytest.raises(UserError, match=r"logits: 1 NaN or infinite values, the first at \[1400000, 1\]"):
        Predictions(logits=logits, labels=np.zeros(len(logits), int), member=np.arange(len(logits)) % 2 == 0)


def test_a_partial_release_need_not_sum_to_one(arrays: dict[str, Any]) -> None:
    probs = np.where(_probs(arrays["logits"]) > 0.3, 0.3, 0.0)
    kept = Predictions(probs=probs, labels=arrays["labels"], member=arrays["member"], released=True)
    assert kept.released
    assert kept.n_classes == C


def test_losses_and_entropies_do_without_labels() -> None:
    member = np.arange(N) < 10
    assert Predictions(loss_nats=np.ones(N), entropy_nats=np.ones(N), member=member).n_classes is None
    assert Predictions(entropy_nats=np.ones(N), labels=np.arange(N) % 4, member=member).n_classes == 4


def test_arrays_are_views_that_cannot_be_written_and_keep_their_dtype(arrays: dict[str, Any]) -> None:
    predictions = Predictions(**arrays)
    assert predictions.logits is not None
    assert predictions.logits.dtype == np.float32
    assert np.shares_memory(predictions.logits, arrays["logits"])
    with pytest.raises(ValueError, match="read-only"):
        predictions.logits[0, 0] = 1.0
    arrays["logits"][0, 0] = 1.0  # the caller's own array stays writable


def test_what_is_saved_is_loaded(arrays: dict[str, Any], tmp_path: Path) -> None:
    extra = {"record_ids": np.arange(N), "inputs": np.ones((N, 2, 2), np.uint8), "columns": {"age": np.array(["a", "b"] * 20)}}
    Predictions(**arrays, **extra).save(tmp_path / "p.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]
    loaded = Predictions.load(tmp_path / "p.npz")
    for name, array in (arrays | extra).items():
        if name == "columns":
            np.testing.assert_array_equal(loaded.columns["age"], array["age"])
        else:
            np.testing.assert_array_equal(getattr(loaded, name), array)
            assert getattr(loaded, name).dtype == array.dtype
    released = Predictions(probs=_probs(arrays["logits"]) / 2, labels=arrays["labels"], member=arrays["member"], released=True)
    released.save(tmp_path / "p.npz")
    assert Predictions.load(tmp_path / "p.npz").released


def test_a_failed_write_leaves_the_old_file(arrays: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Predictions(**arrays).save(tmp_path / "p.npz")
    before = (tmp_path / "p.npz").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match="No space left on device"):
        Predictions(**arrays).save(tmp_path / "p.npz")
    assert (tmp_path / "p.npz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UserError, match="cannot be written"):
        Predictions(**arrays).save(tmp_path / "absent" / "p.npz")


def _refused(path: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Predictions.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_foreign_and_damaged_files_are_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    _refused(path, "cannot be read")
    Predictions(**arrays).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    _refused(path, "truncated or damaged")
    path.write_bytes(whole[:200] + bytes([whole[200] ^ 255]) + whole[201:])
    _refused(path, "truncated or damaged")
    path.write_bytes(pickle.dumps(arrays))
    _refused(path, "a pickle; allowed: an .npz file")
    path.write_bytes(b"not an archive")
    _refused(path, "not an .npz")
    with open(path, "wb") as file:
        np.save(file, arrays["logits"])
    _refused(path, "a single .npy array")


def test_a_pickle_inside_the_file_is_refused_and_never_run(arrays: dict[str, Any], tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    path = tmp_path / "p.npz"
    np.savez(path, logits=np.array([Trap()], dtype=object), member=arrays["member"])
    _refused(path, "logits holds Python objects")
    assert not (tmp_path / "sprung").exists()


def test_keys_are_checked_and_the_nearest_named(arrays: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, logit=arrays["logits"], labels=arrays["labels"], member=arrays["member"])
    _refused(path, "unknown key 'logit'; nearest: logits")
    np.savez(path, logits=arrays["logits"], labels=arrays["labels"])
    _refused(path, "key member is missing; present are labels, logits")
    np.savez(path, logits=arrays["logits"], member=arrays["member"])
    _refused(path, "labels: missing")
    np.savez(path, **arrays, released=np.ones(3))
    _refused(path, "released: dtype float64")


def test_select_takes_parts_of_everything(arrays: dict[str, Any]) -> None:
    predictions = Predictions(**arrays, record_ids=np.arange(N), columns={"age": np.arange(N)})
    for index in (arrays["member"], np.flatnonzero(arrays["member"])):
        part = predictions.select(index)
        assert len(part) == part.n_member == N // 2
        np.testing.assert_array_equal(part.columns["age"], np.arange(N // 2))
        np.testing.assert_array_equal(part.record_ids, np.arange(N // 2))


def test_shadows_have_an_axis_of_models(arrays: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    logits, member = rng.normal(size=(5, N, C)), rng.random((5, N)) < 0.5
    shadows = ShadowPredictions(logits=logits, labels=arrays["labels"], member=member)
    assert (shadows.n_models, len(shadows), shadows.n_classes) == (5, N, C)
    np.testing.assert_array_equal(shadows.model(3).logits, logits[3])
    np.testing.assert_array_equal(shadows.select(np.arange(4)).member, member[:, :4])
    shadows.save(tmp_path / "s.npz")
    np.testing.assert_array_equal(ShadowPredictions.load(tmp_path / "s.npz").logits, logits)
    with pytest.raises(UserError, match=r"member: 1 axes, shape \(40,\); allowed: 2, \(models, records\)"):
        ShadowPredictions(logits=logits, labels=arrays["labels"], member=member[0])
    with pytest.raises(UserError, match="member: all True; shadows need records that they were not trained on"):
        ShadowPredictions(logits=logits, labels=arrays["labels"], member=member | True)
    with pytest.raises(UserError, match=r"logits: 1 NaN or infinite values, the first at \[2, 3, 1\]"):
        ShadowPredictions(logits=_with(logits, (2, 3, 1), np.nan), labels=arrays["labels"], member=member)


def test_one_models_file_is_read_as_one_shadow(arrays: dict[str, Any], tmp_path: Path) -> None:
    Predictions(**arrays, inputs=np.zeros((N, 2)), columns={"age": np.arange(N)}).save(tmp_path / "p.npz")
    shadows = ShadowPredictions.load(tmp_path / "p.npz")
    assert (shadows.n_models, len(shadows)) == (1, N)


def test_evidence_checks_lengths_and_classes_and_selects_what_is_aligned(arrays: dict[str, Any]) -> None:
    ids = np.arange(N)
    target = Predictions(**arrays, record_ids=ids)
    logits = np.stack([arrays["logits"]] * 2)
    member = np.stack([arrays["member"]] * 2)
    aligned = ShadowPredictions(logits=logits, labels=arrays["labels"], member=member, record_ids=ids)
    own_pool = ShadowPredictions(logits=logits, labels=arrays["labels"], member=member)
    half = arrays["member"]
    evidence = Evidence(target=target, shadows=aligned, gradients=np.zeros((N, 7)), augmented=np.zeros((3, N, 2, C)))
    part = evidence.select(half)
    assert len(part.target) == N // 2
    assert part.shadows is not None
    assert len(part.shadows) == N // 2
    assert part.augmented is not None
    assert part.augmented.shape == (3, N // 2, 2, C)
    assert Evidence(target=target, shadows=own_pool).select(half).shadows is own_pool
    with pytest.raises(
        UserError, match=r"gradients: shape \(3, 7\); axis 0 must have length 40, the number of the target's records"
    ):
        Evidence(target=target, gradients=np.zeros((3, 7)))
    wide = ShadowPredictions(logits=np.zeros((2, N, 5)), labels=arrays["labels"], member=member)
    assert not Evidence(target=target, shadows=wide).same_classes  # of another data set
    shared = dataclasses.replace(wide, record_ids=np.arange(N) + N - 1)
    with pytest.raises(UserError, match="shadows: 5 classes; the target has 3, and some record_ids are in both"):
        Evidence(target=target, shadows=shared)
    with pytest.raises(UserError, match="population: 5 classes; the target has 3"):
        Evidence(target=target, population=dataclasses.replace(wide, member=np.zeros((2, N), bool)))
    for name, bad, message in (
        ("gradients", np.full((N, 2), np.nan), "gradients: 80 NaN or infinite values"),
        ("gradients", np.zeros(N), r"gradients: shape \(40,\); allowed: \(records, columns\)"),
        ("gradients", np.full((N, 2), "a"), "gradients: dtype <U1; allowed: real numbers"),
        ("perturbed_labels", np.zeros((N, 2)), "perturbed_labels: dtype float64; allowed: classes"),
    ):
        with pytest.raises(UserError, match=message):
            Evidence(target=target, **{name: bad})


def test_some_of_the_shadow_models_are_taken_with_what_is_theirs(arrays: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    member = rng.random((5, N)) < 0.5
    shadows = ShadowPredictions(
        logits=rng.normal(size=(5, N, C)), labels=arrays["labels"], member=member, record_ids=np.arange(N)
    )
    outside = ShadowPredictions(loss_nats=rng.normal(size=(5, 7)), labels=np.zeros(7, int), member=np.zeros((5, 7), bool))
    for index, kept in ((np.array([3, 0]), [3, 0]), (np.arange(5) % 2 == 1, [1, 3])):
        assert shadows.logits is not None
        np.testing.assert_array_equal(shadows.models(index).logits, shadows.logits[kept])
        np.testing.assert_array_equal(shadows.models(index).member, member[kept])
        np.testing.assert_array_equal(shadows.models(index).record_ids, np.arange(N))
        np.testing.assert_array_equal(outside.models(index).loss_nats, outside.loss_nats[kept])
    assert np.shares_memory(shadows.models(slice(2)).logits, shadows.logits)
    with pytest.raises(UserError, match="models: none chosen of 5; allowed: at least one"):
        shadows.models(np.zeros(5, bool))


def test_the_numpy_core_imports_without_tensorflow_mlflow_or_scikit_learn() -> None:
    code = """
import sys
for name in ("tensorflow", "tensorflow_privacy", "mlflow", "sklearn", "pandas", "optuna"):
    sys.modules[name] = None
import memberscope.predictions, memberscope.signals, memberscope.slices
import memberscope.attacks.registry, memberscope.attacks.risk
"""
    environment = os.environ | {"PYTHONPATH": str(Path(memberscope.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_largest_numbers_are_refused_as_probabilities_in_one_line() -> None:
    with pytest.raises(UserError, match="3 rows do not sum to one, the first to inf in row 0"):
        Predictions(probs=np.full((3, 4), np.finfo(np.float64).max), labels=np.zeros(3, dtype=int), member=np.arange(3) < 2)
