"""Readers for fuzzing: each takes the bytes of a file, begins with a good one, and must end in a result or a `UserError` of one line."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import hostile
from hostile import arrays, evidence, outputs, plans, records, runs, tables, texts

TOKENS = (
    b"\0", b"\xff" * 4, b"-1", b"1e999", b"nan", b"9" * 400, b"\xed\xa0\x80", b"[" * 50, b"{", b"}", b"*a", b"&a ", b"\n", b'"', b",", b"true", b"null",
    b"<f8", b"|O", b"(1000000000000,)", b"PK\3\4", b"PAR1", b"\x93NUMPY", b"\\ud800", b": ", b"- ", b"!!", b"$", b"7", b"0",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader of one kind of file.

    Attributes:
        suffix: of the file's name.
        good: makes the bytes of a good file.
        read: reads the file at a path.
    """

    suffix: str
    good: Callable[[], bytes]
    read: Callable[[Path], object]


def _npz(values: dict[str, object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(Path(folder) / "a.npz", **values)  # type: ignore[arg-type]
        return (Path(folder) / "a.npz").read_bytes()


def _parquet() -> bytes:
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        pd.DataFrame({"f0": np.arange(20) / 20, "f1": ["x", "y"] * 10, "label": ["a", "b"] * 10}).to_parquet(
            Path(folder) / "a.parquet"
        )
        return (Path(folder) / "a.parquet").read_bytes()


def _rules(path: Path) -> None:
    from memberscope.gate import parse_rules

    parse_rules(path.read_bytes().decode("utf-8", "surrogateescape"))


def _plan(name: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        from memberscope.plans.on_disk import read_plan_folder

        folder = path.parent / "plan"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(plans._good(), folder)
        shutil.copy(path, folder / name)
        read_plan_folder(folder).about()

    return read


def _run(name: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        folder = path.parent / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        client = runs.Client(folder)
        artifacts = client.add(runs.ONE)
        for one, content in runs.good().items():
            if one not in ("experiments.csv", "roc.csv") or one == name:
                (artifacts / one).write_bytes(content)
        shutil.copy(path, artifacts / name)
        runs.page(client, runs.ONE).encode("utf-8")

    return read


def _scores(path: Path) -> None:
    from memberscope.scores import KeptScores
    from memberscope.secret import key

    KeptScores.load(path, key=key())


READERS: dict[str, Reader] = {
    "predictions": Reader(suffix=".npz", good=lambda: _npz(arrays.GOOD), read=arrays._predictions),
    "records": Reader(suffix=".npz", good=lambda: _npz(records.GOOD), read=records.audit),
    "npy": Reader(suffix=".npy", good=lambda: arrays.npy_bytes(records.GOOD["x"]), read=lambda path: records._mapped(
        path.parent / "x", content=path.read_bytes(), labels=arrays.npy_bytes(records.GOOD["y"]))),
    "csv": Reader(suffix=".csv", good=lambda: tables.GOOD.encode(), read=records.audit),
    "csv of a study": Reader(suffix=".csv", good=lambda: tables.GOOD.encode(), read=functools.partial(records.load, as_is=True)),
    "parquet": Reader(suffix=".parquet", good=_parquet, read=records.audit),
    "space": Reader(suffix=".yaml", good=lambda: b"factors:\n  epochs: [20, 40]\n  learning_rate: {low: 0.001, high: 0.1, log: true}\n", read=texts._space),
    "rungs": Reader(suffix=".yaml", good=lambda: b"one: {width: 3, name: 'a b'}\ntwo:\n  widths: [1, 2]\n", read=texts._rungs),
    "params": Reader(suffix=".yaml", good=lambda: b"width: 3\nrate: 1e-3\nnames: [a, b]\n", read=texts._params),
    "rules": Reader(suffix=".txt", good=lambda: b"any.entire.auc > 0.6; threshold_loss.class_1.advantage_heldout > 0.2", read=_rules),
    "evidence": Reader(suffix=".json", good=evidence.good, read=evidence.report),
    "scores": Reader(suffix=".npz", good=lambda: runs.good()["scores.npz"], read=_scores),
    "plan": Reader(suffix=".json", good=lambda: (plans._good() / "plan.json").read_bytes(), read=_plan("plan.json")),
    "columns": Reader(suffix=".json", good=lambda: (plans._good() / "columns.json").read_bytes(), read=_plan("columns.json")),
    "membership": Reader(suffix=".npz", good=lambda: (plans._good() / "membership.npz").read_bytes(), read=_plan("membership.npz")),
} | {
    f"outputs {name}": Reader(suffix=".csv", good=functools.partial(lambda name: outputs.GOOD[name].encode(), name), read=read)
    for name, read in outputs.READERS.items()
} | {
    f"outputs {name} parquet": Reader(suffix=".parquet", good=functools.partial(outputs.parquet_bytes, name), read=outputs.READERS[name])
    for name in ("predictions table", "shadows")
} | {
    f"outputs {name} arrow": Reader(suffix=".arrow", good=functools.partial(outputs.arrow_bytes, name), read=outputs.READERS[name])
    for name in ("predictions table", "shadows")
} | {
    f"outputs {name} npz": Reader(suffix=".npz", good=functools.partial(outputs.npz_bytes, name), read=outputs.READERS[name])
    for name in ("shadows", "augmented")
} | {
    f"run's {name}": Reader(suffix=Path(name).suffix, good=functools.partial(lambda name: runs.good()[name], name), read=_run(name))
    for name in ("attacks.csv", "headline.json", "controls.json", "study.json", "gate.csv", "history.csv", "most_exposed.csv", "roc_band.csv")
}  # fmt: skip


@functools.cache
def good(name: str) -> bytes:
    """The bytes of a good file for a reader, made once a process."""
    return READERS[name].good()


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    (folder / "x").mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fault(name: str, content: bytes, *, seconds: float = hostile.SECONDS) -> str:
    """What is wrong with how a reader ends on these bytes; empty if it ends well."""
    reader = READERS[name]
    with _folder() as folder:
        path = folder / f"file{reader.suffix}"
        path.write_bytes(content)
        try:
            with hostile.bounded(seconds):
                reader.read(path)
        except (Exception, hostile.TooLong) as error:
            return hostile.problem(error)
    return ""


def mutated(content: bytes, rng: np.random.Generator, changes: int = 3) -> bytes:
    """The bytes with a few changes: a byte flipped, a part cut, doubled or overwritten by a token or by another part."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, changes + 1))):
        at, kind = int(rng.integers(0, len(changed) + 1)), int(rng.integers(0, 6))
        length = int(rng.integers(1, 9)) if rng.random() < 0.8 else int(rng.integers(1, max(2, len(changed))))
        token = TOKENS[int(rng.integers(0, len(TOKENS)))]
        if kind == 0 and changed:
            changed[at % len(changed)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            del changed[at : at + length]
        elif kind == 2:
            changed[at:at] = changed[at : at + length]
        elif kind == 3:
            changed[at:at] = token
        elif kind == 4:
            changed[at : at + len(token)] = token
        else:
            other = int(rng.integers(0, len(changed) + 1))
            changed[at : at + length] = changed[other : other + length]
    return bytes(changed)


def changed_value(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON with one value, somewhere in it, replaced by one of another kind."""
    values: tuple[object, ...] = (
        None,
        True,
        -1,
        0,
        7,
        0.5,
        1e300,
        10**30,
        "",
        "x",
        "\ud800",
        [],
        [1],
        {},
        {"a": 1},
        [[[]]],
        "9" * 500,
    )
    tree = json.loads(content)
    places: list[tuple[object, object]] = []
    todo: list[object] = [tree]
    while todo:
        node = todo.pop()
        items = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
        places += [(node, key) for key, _ in items]
        todo += [value for _, value in items]
    node, key = places[int(rng.integers(0, len(places)))]
    node[key] = values[int(rng.integers(0, len(values)))]  # type: ignore[index]
    return json.dumps(tree).encode()
