"""All evidence from files: it gives the same figures as in Python, whatever the format and order, and files that do not fit are named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memberscope import Evidence, Predictions, ShadowPredictions, run_audit
from memberscope.errors import UserError
from memberscope.evidence_from_files import read_evidence, read_target

N, CLASSES, MODELS, OUTSIDE, QUERIES = 120, 3, 4, 60, 2
NAMES = ("target", *(f"m{k}" for k in range(MODELS)))


@dataclass(frozen=True)
class World:
    """A target, its shadows and all else that an attacker may have, as arrays."""

    target: Predictions
    shadows: ShadowPredictions
    population: ShadowPredictions
    inputs: np.ndarray
    augmented: np.ndarray
    perturbed: np.ndarray

    @property
    def evidence(self) -> Evidence:
        return Evidence(
            target=self.target, shadows=self.shadows, population=self.population, population_inputs=self.inputs,
            augmented=self.augmented, perturbed_labels=self.perturbed,
        )  # fmt: skip


def make_world() -> World:
    rng = np.random.default_rng(0)
    labels, half = rng.integers(0, CLASSES, N), np.argsort(rng.random((MODELS // 2 + 1, N)), axis=1) < N // 2
    member = np.concatenate([half[1:], ~half[1:]])

    def outputs(labels: np.ndarray, member: np.ndarray | float = 0.0) -> np.ndarray:
        scores = rng.normal(size=(len(labels), CLASSES))
        scores[np.arange(len(labels)), labels] += 1.0 + 1.5 * member
        return scores

    ids = np.arange(N) + 500
    target = Predictions(
        logits=outputs(labels, half[0]), labels=labels, member=half[0], record_ids=ids, inputs=rng.normal(size=(N, 2))
    )
    shadows = ShadowPredictions(
        logits=np.stack([outputs(labels, side) for side in member]), labels=labels, member=member, record_ids=ids
    )
    others = rng.integers(0, CLASSES, OUTSIDE)
    population = ShadowPredictions(
        logits=np.stack([outputs(others) for _ in NAMES]), labels=others, member=np.zeros((len(NAMES), OUTSIDE), bool),
        record_ids=np.arange(OUTSIDE),
    )  # fmt: skip
    copies = [np.stack([outputs(labels, side) for _ in range(QUERIES)], axis=1) for side in (half[0], *member)]
    perturbed = np.where(rng.random((N, 5)) < 0.5 + 0.3 * half[0][:, None], labels[:, None], rng.integers(0, CLASSES, (N, 5)))
    return World(
        target=target, shadows=shadows, population=population, inputs=rng.normal(size=(OUTSIDE, 2)),
        augmented=np.stack(copies), perturbed=perturbed,
    )  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


@pytest.fixture(scope="module")
def figures(world: World) -> dict[tuple[str, str], float]:
    return values(world.evidence)


def values(evidence: Evidence) -> dict[tuple[str, str], float]:
    frame = run_audit(evidence, attacks="all").to_frame()
    return {(row.attack, row.metric): row.value for row in frame.itertuples() if row.status != "skipped"}


def scores(array: np.ndarray, prefix: str = "logit") -> dict[str, np.ndarray]:
    return {f"{prefix}_{number}": array[:, number] for number in range(array.shape[1])}


def write(folder: Path, world: World, suffix: str, *, scrambled: bool = False) -> dict[str, str]:
    """All files of one format; `scrambled` puts rows of tables in another order in each file."""
    rng = np.random.default_rng(1)

    def table(name: str, frame: pd.DataFrame) -> None:
        frame = frame.iloc[rng.permutation(len(frame))] if scrambled else frame
        frame.to_csv(folder / name, index=False) if suffix == "csv" else frame.to_parquet(folder / name, index=False)

    (folder / "shadows").mkdir()
    world.target.save(folder / f"t.{suffix}")
    for k in range(MODELS):
        one = world.shadows.model(k)
        kept = one.select(rng.permutation(N)) if scrambled else one
        kept.save(folder / "shadows" / f"m{k}.{suffix}")
    if suffix == "npz":
        population = {"logits": world.population.logits, "labels": world.population.labels, "inputs": world.inputs}
        np.savez(folder / "p.npz", **population)  # membership is known: none
        np.savez(folder / "a.npz", logits=world.augmented)
        np.savez(folder / "q.npz", perturbed_labels=world.perturbed)
    else:
        ids = world.target.record_ids
        known = {"record_id": world.population.record_ids, "label": world.population.labels, **scores(world.inputs, "input")}
        if not scrambled:
            del known["record_id"]  # the rows are in order
        table(
            f"p.{suffix}",
            pd.concat(
                [pd.DataFrame({"model": name, **known, **scores(world.population.logits[k])}) for k, name in enumerate(NAMES)]
            ),
        )
        copies = [
            pd.DataFrame({"model": name, "record_id": ids, "query": query, **scores(world.augmented[k, :, query])})
            for k, name in enumerate(NAMES)
            for query in range(QUERIES)
        ]
        table(f"a.{suffix}", pd.concat(copies))
        table(f"q.{suffix}", pd.DataFrame({"record_id": ids, **scores(world.perturbed, "predicted")}))
    names = {"shadows": "shadows", "population": f"p.{suffix}", "augmented": f"a.{suffix}", "perturbed": f"q.{suffix}"}
    return {name: str(folder / path) for name, path in names.items()}


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_files_give_the_figures_of_the_arrays(
    suffix: str, world: World, figures: dict[tuple[str, str], float], tmp_path: Path
) -> None:
    files = write(tmp_path, world, suffix)
    evidence, _ = read_evidence(read_target(str(tmp_path / f"t.{suffix}")), **files)
    if suffix == "parquet":  # with the same arrays the figures are the same
        for name in ("logits", "labels", "member"):
            np.testing.assert_array_equal(getattr(evidence.shadows, name), getattr(world.shadows, name))
        assert evidence.population is not None
        np.testing.assert_array_equal(evidence.population.logits, world.population.logits)
        np.testing.assert_array_equal(evidence.population_inputs, world.inputs)
        np.testing.assert_array_equal(evidence.augmented, world.augmented)
        return
    found = values(evidence)
    assert {"rmia_online", "lira_online", "quantile", "label_only_robust", "shadow_shokri"} <= {attack for attack, _ in found}
    assert found.keys() == figures.keys()
    for name, value in figures.items():
        assert found[name] == (value if suffix == "npz" else pytest.approx(value, rel=0, abs=1e-12)), name


def test_the_order_of_rows_changes_nothing(world: World, tmp_path: Path) -> None:
    straight, turned = tmp_path / "straight", tmp_path / "turned"
    for folder in (straight, turned):
        folder.mkdir()
    first = read_evidence(read_target(str(straight / "t.csv")) if write(straight, world, "csv") else None, **_paths(straight))[
        0
    ]
    write(turned, world, "csv", scrambled=True)
    second = read_evidence(read_target(str(turned / "t.csv")), **_paths(turned))[0]
    assert first.shadows is not None
    assert second.shadows is not None
    for name in ("logits", "member", "labels", "record_ids"):
        np.testing.assert_array_equal(getattr(first.shadows, name), getattr(second.shadows, name))
    np.testing.assert_array_equal(first.augmented, second.augmented)
    np.testing.assert_array_equal(first.perturbed_labels, second.perturbed_labels)
    assert first.population is not None
    assert second.population is not None
    order = np.argsort(second.population.record_ids)
    np.testing.assert_array_equal(first.population.logits, second.population.logits[:, order])
    np.testing.assert_array_equal(first.population_inputs, second.population_inputs[order])


def text_of(path: Path) -> pd.DataFrame:
    """A CSV file's cells as they are written: pandas would read some numbers to all digits but the last."""
    return pd.read_csv(path, dtype=str)


def _paths(folder: Path) -> dict[str, str]:
    return {
        "shadows": str(folder / "shadows"), "population": str(folder / "p.csv"), "augmented": str(folder / "a.csv"),
        "perturbed": str(folder / "q.csv"),
    }  # fmt: skip


def test_arrays_keep_their_order(world: World, tmp_path: Path) -> None:
    order = np.random.default_rng(5).permutation(N)  # as `Evidence` keeps it
    world.target.save(tmp_path / "t.npz")
    world.shadows.select(order).save(tmp_path / "s.npz")
    found, _ = read_evidence(read_target(str(tmp_path / "t.npz")), shadows=str(tmp_path / "s.npz"))
    assert found.shadows is not None
    np.testing.assert_array_equal(found.shadows.record_ids, world.target.record_ids[order])
    assert found.aligned


def test_plain_arrays_are_read_with_what_lies_beside_them(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "shadows"
    folder.mkdir()
    for k in range(MODELS):
        np.save(folder / f"m{k}.npy", world.shadows.logits[k])
    for name in ("labels", "member", "record_ids"):
        np.save(folder / f"{name}.npy", getattr(world.shadows, name))
        np.save(tmp_path / f"t.{name}.npy", getattr(world.target, name))
    np.save(tmp_path / "t.npy", world.target.logits)
    np.save(tmp_path / "p.npy", world.population.logits)
    np.save(tmp_path / "p.labels.npy", world.population.labels)
    np.save(tmp_path / "a.npy", world.augmented)
    np.save(tmp_path / "q.npy", world.perturbed)
    names = {"population": "p.npy", "augmented": "a.npy", "perturbed": "q.npy", "shadows": "shadows"}
    found, notes = read_evidence(
        read_target(str(tmp_path / "t.npy")), **{name: str(tmp_path / path) for name, path in names.items()}
    )
    assert found.shadows is not None
    assert found.population is not None
    np.testing.assert_array_equal(found.target.logits, world.target.logits)
    for name in ("logits", "member", "labels", "record_ids"):
        np.testing.assert_array_equal(getattr(found.shadows, name), getattr(world.shadows, name))
    np.testing.assert_array_equal(found.population.logits, world.population.logits)
    np.testing.assert_array_equal(found.augmented, world.augmented)
    np.testing.assert_array_equal(found.perturbed_labels, world.perturbed)
    assert f"population={tmp_path}/p.npy: (5, 60, 3) as logits; p.labels.npy beside it." in notes


def test_models_come_from_one_table_or_from_folders_alike(world: World, tmp_path: Path) -> None:
    write(tmp_path, world, "csv")
    target = read_target(str(tmp_path / "t.csv"))
    folder, notes = read_evidence(target, shadows=str(tmp_path / "shadows"))
    assert notes[1].endswith("3 more files of the same form.")
    whole = [text_of(tmp_path / "shadows" / f"m{k}.csv").assign(model=f"m{k}") for k in range(MODELS)]
    pd.concat(whole[::-1]).to_csv(tmp_path / "s.csv", index=False)
    (tmp_path / "p").mkdir()
    for name, rows in text_of(tmp_path / "p.csv").groupby("model"):
        rows.drop(columns="model").to_csv(tmp_path / "p" / f"{name}.csv", index=False)
    table, _ = read_evidence(target, shadows=str(tmp_path / "s.csv"), population=str(tmp_path / "p"))
    assert folder.shadows is not None
    assert table.shadows is not None
    assert table.population is not None
    for name in ("logits", "member", "labels", "record_ids"):
        np.testing.assert_array_equal(getattr(folder.shadows, name), getattr(table.shadows, name))
    np.testing.assert_array_equal(table.population.logits, world.population.logits)
    alone, _ = read_evidence(target, population=str(tmp_path / "p.csv"))  # no shadows: the target's suffices, as for quantile
    assert alone.population is not None
    np.testing.assert_array_equal(alone.population.logits, world.population.logits[:1])


def test_what_python_saves_is_read_by_the_places_of_models(world: World, tmp_path: Path) -> None:
    world.target.save(tmp_path / "t.csv")
    world.shadows.save(tmp_path / "s.csv")
    world.population.save(tmp_path / "p.csv")  # its column model counts from 0, the target
    found, _ = read_evidence(
        read_target(str(tmp_path / "t.csv")), shadows=str(tmp_path / "s.csv"), population=str(tmp_path / "p.csv")
    )
    assert found.shadows is not None
    assert found.population is not None
    np.testing.assert_array_equal(found.shadows.logits, world.shadows.logits)
    np.testing.assert_array_equal(found.population.logits, world.population.logits)


def test_words_name_classes_and_records_in_every_file(world: World, tmp_path: Path) -> None:
    words = np.array(["ant", "bee", "cow"])

    def named(frame: pd.DataFrame, order: list[int]) -> pd.DataFrame:
        frame = frame.rename(columns={f"logit_{k}": f"logit_{words[k]}" for k in range(CLASSES)})
        own = [f"logit_{words[k]}" for k in order]
        rest = [name for name in frame.columns if name not in own]
        frame = frame[[*rest, *own]]
        return frame.assign(**({"label": words[frame["label"].astype(int)]} if "label" in frame else {}))

    write(tmp_path, world, "csv")
    for number, path in enumerate([tmp_path / "t.csv", tmp_path / "p.csv", *(tmp_path / "shadows").iterdir()]):
        named(text_of(path), [[0, 1, 2], [2, 1, 0], [1, 0, 2]][number % 3]).to_csv(path, index=False)
    q = pd.read_csv(tmp_path / "q.csv")
    q.assign(**{name: words[q[name]] for name in q.columns if name != "record_id"}).to_csv(tmp_path / "q.csv", index=False)
    found, _ = read_evidence(read_target(str(tmp_path / "t.csv")), **{**_paths(tmp_path), "augmented": ""})
    assert found.shadows is not None
    np.testing.assert_array_equal(found.target.logits, world.target.logits)
    np.testing.assert_array_equal(found.target.labels, world.target.labels)
    np.testing.assert_array_equal(found.shadows.logits, world.shadows.logits)
    np.testing.assert_array_equal(found.perturbed_labels, world.perturbed)
    np.savez(
        tmp_path / "s.npz", logits=world.shadows.logits, labels=world.shadows.labels, member=world.shadows.member,
        record_ids=world.shadows.record_ids.astype(str),
    )  # fmt: skip
    assert read_evidence(read_target(str(tmp_path / "t.csv")), shadows=str(tmp_path / "s.npz"))[0].aligned


# ------------------------------------------------------------------------------------------------------------- what does not fit


def _edit(path: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        change(pd.read_csv(folder / path)).to_csv(folder / path, index=False)

    return act


def _npz(path: str, **arrays: Any) -> Callable[[Path], None]:
    return lambda folder: np.savez(folder / path, **arrays)


def _text(path: str, text: str) -> Callable[[Path], None]:
    return lambda folder: _written(folder / path, text)


def _written(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _as_probs(frame: pd.DataFrame) -> pd.DataFrame:
    names = [f"logit_{k}" for k in range(CLASSES)]
    exp = np.exp(frame[names].to_numpy())
    return frame.drop(columns=names).assign(**scores(exp / exp.sum(axis=1, keepdims=True), "prob"))


def _emptied(folder: Path) -> None:
    for path in (folder / "shadows").iterdir():
        path.unlink()


W = make_world()
M2 = "shadows/m2.csv"
DOES_NOT_FIT: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "fewer records of a shadow": (_edit(M2, lambda f: f[:-3]), ("m2.csv: 117 records, and", "m0.csv has 120")),
    "other records of a shadow": (_edit(M2, lambda f: f.assign(record_id=f["record_id"] + 1)), ("m2.csv: no record 500, which is in", "m0.csv")),
    "other classes of a shadow": (
        _edit(M2, lambda f: f.assign(logit_3=0.5)), ("m2.csv: classes 0, 1, 2, 3, and", "m0.csv has 0, 1, 2; allowed: the same for every"),
    ),
    "other labels of a shadow": (_edit(M2, lambda f: f.assign(label=(f["label"] + 1) % 3)), ("m2.csv: 120 labels differ from those of", "m0.csv")),
    "probabilities among logits": (_edit(M2, _as_probs), ("m2.csv: holds probs, and", "m0.csv holds logits; allowed: the same for every model")),
    "no membership": (_edit(M2, lambda f: f.drop(columns="member")), ("m2.csv: does not say who its members are; allowed: a column",)),
    "shadows that are nowhere": (
        lambda f: shutil.rmtree(f / "shadows"), ("shadows=", "cannot be read (No such file or directory); allowed: an .npz, .npy, .csv, .parquet, .arrow or .feather, or a folder"),
    ),
    "copies that are nowhere": (lambda f: (f / "a.csv").unlink(), ("augmented=", "cannot be read (No such file or directory); allowed: ")),
    "a population that is nowhere": (lambda f: (f / "p.csv").unlink(), ("population=", "cannot be read (No such file or directory); allowed: ")),
    "a model is missing": (lambda f: (f / M2).unlink(), ("shadows=", "no file for 1 of the models from m0 to m3 (m2)")),
    "two files of one model": (_npz("shadows/m2.npz", a=np.ones(1)), ("m2.csv and m2.npz are for the same model",)),
    "an empty folder": (_emptied, ("shadows=", "no files; allowed: a folder with one file for each model, an .npz, .npy, .csv, .parquet, .arrow or .feather")),
    "a file of another kind": (_text("shadows/m9.xlsx", "x"), ("m9.xlsx: unknown kind of file .xlsx; allowed: an .npz, .npy, .csv",)),
    "several models in a file of a folder": (
        _edit(M2, lambda f: pd.concat([f.assign(model=1), f.assign(model=2)])), ("m2.csv: 2 models; allowed in a folder: one file for each model",),
    ),
    "a word among the scores": (
        _edit(M2, lambda f: f.assign(logit_1=["x", *f["logit_1"][1:]])), ("m2.csv: column logit_1 holds 'x' in row 0",),
    ),
    "shadows with other labels than the target": (
        _edit("t.csv", lambda f: f.assign(label=[(f["label"][0] + 1) % 3, *f["label"][1:]])),
        ("shadows=", "1 records have another label than in predictions=", "such as record 500"),
    ),
    "shadows of probabilities": (
        lambda folder: [_edit(f"shadows/m{k}.csv", _as_probs)(folder) for k in range(MODELS)],
        ("shadows=", "holds probs, and predictions=", "t.csv holds logits; allowed: the same for all files"),
    ),
    "ids that are words": (
        lambda folder: [_edit(f"shadows/m{k}.csv", lambda f: f.assign(record_id="r" + f["record_id"].astype(str)))(folder) for k in range(MODELS)],
        ("m0.csv: record ids are words, such as 'r500', and those of predictions=", "whole numbers"),
    ),
    "a population with audited records": (
        _edit("p.csv", lambda f: f.assign(record_id=np.tile(np.arange(OUTSIDE) + 480, len(NAMES)))),
        ("population=", "p.csv: 40 of its 60 records are audited (such as record 500); allowed: records that are not audited"),
    ),
    "a population without the target": (
        _edit("p.csv", lambda f: f[f["model"] != "target"]), ("p.csv: no model target, only m0, m1, m2, m3; allowed: target and the 4 shadows",),
    ),
    "a population without a shadow": (
        _edit("p.csv", lambda f: f[f["model"] != "m2"]), ("p.csv: no outputs of m2; allowed: target and the 4 shadows, named as among the shadows",),
    ),
    "a population of another shadow": (
        _edit("p.csv", lambda f: pd.concat([f, f[f["model"] == "m2"].assign(model="m7")])), ("p.csv: outputs of m7, which are not shadows",),
    ),
    "a population of the target alone": (
        _edit("p.csv", lambda f: f[f["model"] == "target"].drop(columns="model")), ("p.csv: 1 models; allowed: target and the 4 shadows",),
    ),
    "a population with members": (_edit("p.csv", lambda f: f.assign(member=True)), ("population=", "p.csv: member: all True")),
    "a population of another class": (
        _edit("p.csv", lambda f: f.rename(columns={"logit_2": "logit_x"}).assign(label=0)),
        ("p.csv: classes 0, 1, x, and predictions=", "has 0, 1, 2; allowed: the same classes"),
    ),
    "copies of fewer records": (_edit("a.csv", lambda f: f[f["record_id"] < 610]), ("a.csv: model target: 110 records, and predictions=", "has 120")),
    "copies without a query": (_edit("a.csv", lambda f: f[(f["query"] == 0) | (f["record_id"] > 505)]), ("a.csv: model m0: 114 rows of query 1, and 120 of query 0",)),
    "copies without their number": (_edit("a.csv", lambda f: f.drop(columns="query")), ("a.csv: no column query; allowed: a column that names",)),
    "copies of other classes": (_npz("a.npz", logits=np.ones((5, N, 2, 4))), ("a.npz: model 0: 4 classes, and predictions=", "has 3")),
    "copies of fewer models": (_npz("a.npz", logits=W.augmented[:3]), ("a.npz: 3 models; allowed: target and the 4 shadows",)),
    "copies that are not finite": (_npz("a.npz", logits=np.full((5, N, 2, 3), np.nan)), ("a.npz: model 0: logits: 720 NaN",)),
    "copies of an axis too few": (_npz("a.npz", logits=W.augmented[0, :, 0]), ("a.npz: logits of shape (120, 3); allowed: (models, records, queries",)),
    "copies without outputs": (_npz("a.npz", labels=np.arange(N)), ("a.npz: holds labels; allowed: logits or probs of copies",)),
    "perturbed copies of fewer records": (_edit("q.csv", lambda f: f[3:]), ("q.csv: 117 records, and predictions=", "has 120")),
    "perturbed copies of other records": (_edit("q.csv", lambda f: f.assign(record_id=f["record_id"] + 9)), ("q.csv: no record 500",)),
    "perturbed copies of another class": (_edit("q.csv", lambda f: f.assign(predicted_1=7)), ("q.csv holds '7' in row 0", "not a class; allowed: 0, 1, 2")),
    "perturbed copies of fractions": (_edit("q.csv", lambda f: f.assign(predicted_1=0.5)), ("q.csv holds '0.5' in row 0",)),
    "no perturbed copies": (_edit("q.csv", lambda f: f[["record_id"]]), ("q.csv: no column predicted_NAME",)),
    "perturbed copies of one axis": (_npz("q.npz", predicted=W.perturbed[:, 0]), ("q.npz: int64 of shape (120,); allowed: the predicted classes",)),
    "no such file": (lambda f: (f / "p.csv").unlink(), ("population=", "p.csv: cannot be read (No such file or directory)")),
    "a suffix that is unknown": (lambda f: (f / "p.csv").rename(f / "p.tsv"), ("population=", "p.tsv: unknown kind of file .tsv; allowed: an .npz, .npy")),
}  # fmt: skip


@pytest.fixture(scope="module")
def good(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write(folder, world, "csv")
    return folder


@pytest.mark.parametrize("case", DOES_NOT_FIT)
def test_files_that_do_not_fit_are_named_in_one_line(case: str, good: Path, tmp_path: Path) -> None:
    act, parts = DOES_NOT_FIT[case]
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    act(tmp_path)
    paths = _paths(tmp_path)
    for name, path in (("augmented", "a.npz"), ("perturbed", "q.npz"), ("population", "p.tsv")):
        if (tmp_path / path).exists():
            paths[name] = str(tmp_path / path)
    with pytest.raises(UserError) as error:
        read_evidence(read_target(str(tmp_path / "t.csv")), **paths)
    line = str(error.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_words_beside_numbers_are_refused_as_classes_of_copies(world: World) -> None:
    with pytest.raises(
        UserError, match=r"perturbed_labels: dtype <U1, and the target's labels are int64; allowed: both numbers"
    ):
        Evidence(target=world.target, perturbed_labels=np.full((N, 2), "a"))


@pytest.mark.parametrize("side", [True, False])
def test_a_shadow_with_exactly_the_members_of_the_target_is_refused(side: bool, tmp_path: Path) -> None:
    world = make_world()
    member = world.shadows.member.copy()
    member[2] = world.target.member if side else ~world.target.member
    order = np.argsort(np.random.default_rng(1).random(N))  # records are matched by their ids
    shadows = ShadowPredictions(
        logits=np.asarray(world.shadows.logits)[:, order], labels=np.asarray(world.target.labels)[order],
        member=member[:, order], record_ids=np.asarray(world.target.record_ids)[order],
    )  # fmt: skip
    words = "exactly the target's members" if side else "exactly the records that are not the target's members"
    with pytest.raises(
        UserError, match=rf"^shadows: of the target's records, model 2 \(of 4, counted from 0\) was trained on {words}, "
    ):
        run_audit(world.target, shadows, attacks="lira_online")
    world.target.save(tmp_path / "target.csv")
    shadows.save(tmp_path / "shadows.csv")
    evidence, _ = read_evidence(read_target(str(tmp_path / "target.csv")), shadows=str(tmp_path / "shadows.csv"))
    with pytest.raises(UserError, match=r"^shadows: of the target's records, model 2 "):
        run_audit(evidence, attacks="lira_online")
    # a part of the records, on which shadows may agree with the target by chance, and one record less are no mistake
    member[2, 0] = ~member[2, 0]
    given = Evidence(target=world.target, shadows=ShadowPredictions(
        logits=world.shadows.logits, labels=world.target.labels, member=member, record_ids=world.target.record_ids
    ))  # fmt: skip
    assert np.isfinite(run_audit(given, attacks="lira_online").scores("lira_online")).all()
    assert len(given.select(np.flatnonzero(member[2] == world.target.member) if side else np.arange(1, N)).target) > 1
