"""Plan folders and the outputs of models that were trained elsewhere, and other files that a study keeps and reads again."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from hostile import Case
from hostile.arrays import HEADERS, PLACES, npy_bytes, place

DEEP = 10_000


@functools.cache
def _good() -> Path:
    """A small plan folder, made once a process."""
    from memberscope.datasets.table import Table, TableColumn
    from memberscope.plans.on_disk import PlanFolder
    from memberscope.plans.shadow import make_shadow_plan

    labels = np.arange(80) % 4
    plan = make_shadow_plan(labels, design="half", members=20, population=10, shadows=2, targets=1, coin_flips=False, seed=0)
    table = Table(columns=(TableColumn(name="a", kind="number"), TableColumn(name="b", kind="word", categories=("x", "y"))))
    folder = Path(tempfile.mkdtemp()) / "plan"
    PlanFolder(
        plan=plan,
        labels=labels,
        seeds=np.arange(4),
        rows=np.arange(80),
        dataset="d.csv",
        name="d",
        source="the file d.csv",
        data_digest="0" * 64,
        class_names=("a", "b", "c", "d"),
        shape=(2,),
        noise=0.0,
        table=table,
        options={"seed": 0},
    ).write(folder)
    return folder


def _plan(folder: Path, *, change: Callable[[Path], None]) -> None:
    from memberscope.plans.on_disk import read_plan_folder

    shutil.copytree(_good(), folder / "plan")
    change(folder / "plan")
    read_plan_folder(folder / "plan").about()


def _bytes(folder: Path, *, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def _placed(folder: Path, *, name: str, kind: str) -> None:
    if (folder / name).is_dir():
        shutil.rmtree(folder / name)
    else:
        (folder / name).unlink()
    place(folder / name, kind)


def _field(folder: Path, *, name: str, value: Any) -> None:
    about = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps({**about, name: value}))


def _column(folder: Path, *, name: str, value: Any) -> None:
    table = json.loads((folder / "columns.json").read_text())
    table["columns"][1][name] = value
    (folder / "columns.json").write_text(json.dumps(table))


def _membership(folder: Path, *, name: str, array: Any) -> None:
    with np.load(folder / "membership.npz", allow_pickle=False) as file:
        arrays = dict(file)
    np.savez(folder / "membership.npz", **{**arrays, name: array})


JSON: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)),
    "not UTF-8": b'{"a": "\xff"}',
    "a list": b"[1]",
    "a number": b"7",
    "null": b"null",
    "text": b"hello",
    "nested ten thousand deep": b"[" * DEEP + b"]" * DEEP,
    "braces ten thousand deep": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "a number of 5,000 digits": b'{"digest": ' + b"9" * 5000 + b"}",
    "not a number": b'{"label_noise": NaN}',
    "cut": b'{"format": "memberscope',
    "the same key twice": b'{"format": 1, "format": 2}',
    "a surrogate": b'{"format": "\\ud800"}',
    "UTF-16": '{"format": 1}'.encode("utf-16"),
    "a mark in front": b"\xef\xbb\xbf{}",
}
WRONG: dict[str, Any] = {
    "a number": 7,
    "text": "x",
    "null": None,
    "a list": [1, "a", None],
    "a map": {"a": 1},
    "huge": 10**400,
    "not a number": float("nan"),
    "negative": -1,
    "nested": [[[[[1]]]]],
    "surrogate": "\ud800",
}
FIELDS = ("class_names", "record_shape", "label_noise", "shifts", "options", "dataset", "data_digest", "version")


def _outputs(folder: Path, *, content: bytes, suffix: str) -> None:
    from memberscope.studies.shadow import from_files

    path = folder / f"model_000{suffix}"
    path.write_bytes(content)
    from_files._named_arrays(path, f"outputs={path}")


def _outputs_place(folder: Path, *, kind: str, suffix: str) -> None:
    from memberscope.plans.on_disk import read_plan_folder
    from memberscope.studies.shadow import from_files

    outputs = folder / "outputs"
    outputs.mkdir()
    for model in range(4):
        np.save(outputs / f"model_{model:03d}.npy", np.zeros((40, 4), np.float32))
    (outputs / "model_002.npy").unlink()
    place(outputs / f"model_002{suffix}", kind)
    plan = read_plan_folder(_good())
    for path in from_files._files(outputs, 4):
        from_files._read_model(path, plan)


def _store(folder: Path, *, content: bytes, reuse: str) -> None:
    from memberscope.training.store import Store

    (folder / "shadows.json").write_bytes(content)
    store = Store(folder, reuse=reuse)
    store.plan("shadows", {"format": 3, "name": "x"}, [{"seed": 0}])


def _climb(folder: Path, *, content: bytes) -> None:
    from memberscope.npz import read_npz

    (folder / "state.npz").write_bytes(content)
    read_npz(folder / "state.npz")


def _key(folder: Path, *, content: bytes | None, kind: str = "") -> None:
    from memberscope import secret

    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"), str(folder))
    with mock.patch.dict(os.environ, homes):
        os.environ.pop("MEMBERSCOPE_KEY", None)
        made = secret.key()  # writes one
        assert made is not None
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files
        for path in files:
            path.unlink()
            if content is None:
                place(path, kind)
            else:
                path.write_bytes(content)
        clear = getattr(secret.key, "cache_clear", None)
        if clear:
            clear()
        secret.key()


def cases() -> list[Case]:
    """Plans and what is read beside them."""
    found = []
    for name in ("plan.json", "columns.json"):
        found += [
            Case(
                name=f"plan, {name}: {what}",
                act=partial(_plan, change=partial(_bytes, name=name, content=content)),
                refused=True,
            )
            for what, content in JSON.items()
        ]
    for name in (
        "plan.json",
        "columns.json",
        "labels.npy",
        "membership.npz",
        "members",
        "members/model_000.npy",
        "records.npy",
    ):
        found += [
            Case(
                name=f"plan, {name}: {kind}",
                act=partial(_plan, change=partial(_placed, name=name, kind=kind)),
                refused=name != "columns.json",
            )
            for kind in PLACES[:6]
        ]
    for name in ("labels.npy", "seeds.npy", "rows.npy", "records.npy", "members/model_001.npy"):
        found += [
            Case(
                name=f"plan, {name}: {what}",
                act=partial(_plan, change=partial(_bytes, name=name, content=content)),
                refused=True,
            )
            for number, (what, content) in enumerate(HEADERS.items())
            if number % 4 == len(name) % 4 or "ten to" in what
        ]
    for name in FIELDS:
        found += [
            Case(name=f"plan, {name}: {what}", act=partial(_plan, change=partial(_field, name=name, value=value)))
            for what, value in WRONG.items()
        ]
    for name in ("name", "kind", "whole", "categories"):
        found += [
            Case(name=f"plan, column's {name}: {what}", act=partial(_plan, change=partial(_column, name=name, value=value)))
            for what, value in WRONG.items()
        ]
    arrays: dict[str, Any] = {
        "no axis": np.array(3),
        "text": np.full(4, "a"),
        "two axes": np.ones((4, 4), int),
        "none": np.zeros(0, int),
        "fractions": np.ones(4) / 3,
        "negative": -np.arange(1, 5),
        "huge": np.full(4, 2**62),
        "dates": np.zeros(4, "M8[s]"),
    }
    for name in ("member", "targets", "design", "coin_flips", "population", "block"):
        found += [
            Case(
                name=f"plan, membership's {name}: {what}",
                act=partial(_plan, change=partial(_membership, name=name, array=array)),
                refused=True,
            )
            for what, array in arrays.items()
        ]
    for suffix in (".npy", ".npz"):
        found += [
            Case(name=f"outputs {suffix}: {kind}", act=partial(_outputs_place, kind=kind, suffix=suffix), refused=True)
            for kind in PLACES[:6]
        ]
    found += [
        Case(name=f"outputs .npy: {what}", act=partial(_outputs, content=content, suffix=".npy"))
        for what, content in HEADERS.items()
    ]
    for reuse in ("auto", "force"):
        found += [
            Case(name=f"store, reuse={reuse}: {what}", act=partial(_store, content=content, reuse=reuse))
            for what, content in JSON.items()
        ]
    keys = {"empty": b"", "short": b"a", "binary": bytes(range(256)), "a megabyte": b"a" * 1_000_000}
    found += [Case(name=f"key: {what}", act=partial(_key, content=content)) for what, content in keys.items()]
    found += [
        Case(name=f"key: {kind}", act=partial(_key, content=None, kind=kind))
        for kind in ("a folder", "a pipe", "a link to a device")
    ]
    assert npy_bytes(1)
    return found
