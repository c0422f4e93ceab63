"""Arrays of records: ``.npz`` with x and y for audits and studies, ``.npy`` that are mapped, archives of published tables."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hostile import Case
from hostile.arrays import HEADERS, PLACES, N, npy_bytes, place, zipped

GOOD: dict[str, Any] = {"x": np.linspace(0, 1, 8 * N, dtype=np.float32).reshape(N, 8), "y": np.arange(N) % 4}


def load(path: Path, *, as_is: bool) -> None:
    """As a study loads its data set."""
    from memberscope.datasets import load_dataset

    data = load_dataset(str(path), as_is=as_is, label="label")
    assert len(data.digest) == 64


def audit(path: Path) -> None:
    """As `audit` reads its members and non-members."""
    from memberscope.datasets.records import read_records, record_ids
    from memberscope.datasets.schema import column_values, one_schema

    members, nonmembers = (read_records(name, str(path), label="label") for name in ("members", "nonmembers"))
    record_ids(members, nonmembers)
    (members, nonmembers), _ = one_schema([members, nonmembers])
    members.numbers(nonmembers)
    for name in (members.columns or ())[:1]:
        column_values([members, nonmembers], name)


READERS: dict[str, Callable[[Path], None]] = {
    "audit": audit,
    "built-in": partial(load, as_is=False),
    "own": partial(load, as_is=True),
}


def _array(folder: Path, *, name: str, content: bytes, read: Callable[[Path], None]) -> None:
    zipped(folder / "d.npz", {f"{key}.npy": npy_bytes(value) for key, value in GOOD.items()} | {f"{name}.npy": content})
    read(folder / "d.npz")


def _data(folder: Path, *, arrays: dict[str, Any], read: Callable[[Path], None]) -> None:
    np.savez(folder / "d.npz", **arrays)
    read(folder / "d.npz")


def _placed(folder: Path, *, kind: str, suffix: str, read: Callable[[Path], None]) -> None:
    read(place(folder / f"d{suffix}", kind))


def _mapped(folder: Path, *, content: bytes, labels: bytes) -> None:
    from memberscope.datasets import load_dataset

    (folder / "x.npy").write_bytes(content)
    (folder / "y.npy").write_bytes(labels)
    load_dataset(str(folder / "x.npy"), as_is=True, label=str(folder / "y.npy"))


def _mapped_place(folder: Path, *, kind: str, which: str) -> None:
    from memberscope.datasets import load_dataset

    paths = {"x": folder / "x.npy", "y": folder / "y.npy"}
    for name, path in paths.items():
        if name == which:
            paths[name] = place(path, kind)
        else:
            path.write_bytes(npy_bytes(GOOD[name]))
    load_dataset(str(paths["x"]), as_is=True, label=str(paths["y"]))


def _grouped(folder: Path, *, groups: Any) -> None:
    from memberscope.datasets import load_dataset

    np.savez(folder / "d.npz", **GOOD, who=groups)
    load_dataset(str(folder / "d.npz"), as_is=True, group="who")


def _archive(folder: Path, *, content: bytes) -> None:
    import dataclasses

    from memberscope.datasets.archives import ARCHIVES, read_archive

    (folder / "a.tgz").write_bytes(content)
    read_archive(dataclasses.replace(ARCHIVES["location30"], sha256=None), folder / "a.tgz")


def _archive_place(folder: Path, *, kind: str) -> None:
    from memberscope.datasets.archives import ARCHIVES, read_archive

    read_archive(ARCHIVES["location30"], place(folder / "a.tgz", kind))


def _tgz(rows: bytes, name: str = "bangkok", *, kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size, member.type = len(rows) if kind == tarfile.REGTYPE else 0, kind
        tar.addfile(member, io.BytesIO(rows))
    return file.getvalue()


ROW = b'"1"' + b",0" * 446 + b"\n"
ARCHIVES: dict[str, bytes] = {
    "empty": b"",
    "not packed": b"hello",
    "packed noise": gzip.compress(bytes(range(256)) * 100),
    "cut": _tgz(ROW * 20)[:-20],
    "no rows": _tgz(b""),
    "binary rows": _tgz(bytes(range(256)) * 50),
    "a class of 5,000 digits": _tgz(b"9" * 5000 + b",0" * 446 + b"\n"),
    "a class of other digits": _tgz("١".encode() + b",0" * 446 + b"\n"),
    "no line ends": _tgz(b"0," * 10_000_000),
    "empty rows": _tgz(b"\n" * 100),
    "a folder": _tgz(b"", kind=tarfile.DIRTYPE),
    "a device": _tgz(b"", kind=tarfile.CHRTYPE),
    "a pipe": _tgz(b"", kind=tarfile.FIFOTYPE),
    "a link": _tgz(b"", kind=tarfile.SYMTYPE),
    "a name that climbs": _tgz(ROW * 20, "../../etc/bangkok"),
    "a null in a row": _tgz(b"\0" + ROW),
}

X: dict[str, Any] = {
    "images of two channels": np.full((N, 8, 8, 2), 0.5, np.float32),
    "images of five channels": np.full((N, 8, 8, 5), 0.5, np.float32),
    "images of no channel": np.empty((N, 8, 8, 0), np.float32),
    "images of width 0": np.empty((N, 8, 0, 3), np.float32),
    "images of height 0": np.empty((N, 0, 8, 3), np.uint8),
    "images of two axes": np.full((N, 8, 8), 0.5, np.float32),
    "images of one pixel": np.full((N, 1, 1, 1), 0.5, np.float32),
    "five axes": np.full((N, 2, 2, 2, 2), 0.5, np.float32),
    "bits of one value": np.ones((N, 8), bool),
    "wide integers": np.full((N, 8, 8, 1), 2**62),
    "unsigned of 64 bits": np.full((N, 8, 8, 1), 2**64 - 1, np.uint64),
    "complex": np.ones((N, 8), complex),
    "numbers of no scale": np.full((N, 8), 1e300),
}
Y: dict[str, Any] = {
    "one of ten to the 8": np.r_[np.arange(N - 1) % 4, 10**8],
    "one below its number of records": np.r_[np.arange(N - 1) % 4, 999],
    "largest whole number": np.r_[np.arange(N - 1) % 4, 2**63 - 1],
    "unsigned of 64 bits": np.full(N, 2**64 - 1, np.uint64) - np.arange(N, dtype=np.uint64),
    "fractions": np.arange(N) / 3,
    "not finite": np.full(N, np.nan),
    "huge floats": np.arange(N) * 1e300,
    "negative": -np.arange(N),
    "one class": np.zeros(N, int),
    "words with a null": np.array(["a\0b", "a"] * (N // 2)),
    "words with a surrogate": np.array(["\ud800", "a"] * (N // 2)),
    "words of mathematics": np.array(["$x^2$", "a_b", r"\frac", "$"] * (N // 4)),
    "words of 100,000 letters": np.array(["a" * 100_000, "b"] * (N // 2)),
    "bytes": np.array([b"a", b"b"] * (N // 2)),
    "booleans": np.arange(N) % 2 == 0,
    "empty words": np.array(["", "a"] * (N // 2)),
    "two axes": np.zeros((N, 2), int),
    "no axis": np.array(3),
    "dates": np.arange(N).astype("M8[s]"),
}
NAMES: dict[str, Any] = {
    "no axis": np.array("cat"),
    "two axes": np.full((2, 2), "cat"),
    "numbers": np.arange(4),
    "too few": np.array(["a"]),
    "objects inside": np.array([b"a", b"b", b"c", b"d"]),
    "the same name": np.array(["a"] * 4),
    "surrogates": np.array(["\ud800"] * 4),
    "mathematics": np.array(["$x", "^", "_{", "\\"]),
    "line breaks": np.array(["a\nb", "c", "d", "e"]),
    "a million": np.arange(10**6).astype(str),
    "none": np.array([], "<U1"),
    "commas": np.array(["a,b", "c", "d", "e"]),
}


def cases() -> list[Case]:
    """Files of records."""
    found = []
    for reader, read in READERS.items():
        for name in ("x", "y"):
            found += [
                Case(name=f"{reader}, array {name}: {what}", act=partial(_array, name=name, content=content, read=read))
                for number, (what, content) in enumerate(HEADERS.items())
                if (number + len(reader) + len(name)) % 3 == 0 or "ten to" in what
            ]
        found += [
            Case(name=f"{reader}, x: {what}", act=partial(_data, arrays={**GOOD, "x": x}, read=read)) for what, x in X.items()
        ]
        found += [
            Case(name=f"{reader}, y: {what}", act=partial(_data, arrays={**GOOD, "y": y}, read=read)) for what, y in Y.items()
        ]
        found += [
            Case(name=f"{reader}: {kind}", act=partial(_placed, kind=kind, suffix=".npz", read=read), refused=True)
            for kind in PLACES
            if kind != "an unreadable file" or os.getuid() != 0
        ]
    for what, names in NAMES.items():
        for reader in ("built-in", "own"):
            act = partial(_data, arrays={**GOOD, "class_names": names}, read=READERS[reader])
            found.append(Case(name=f"{reader}, class_names: {what}", act=act))
    found += [
        Case(name=f"mapped: {what}", act=partial(_mapped, content=content, labels=npy_bytes(GOOD["y"])))
        for what, content in HEADERS.items()
    ]
    found += [
        Case(name=f"mapped, {which}: {kind}", act=partial(_mapped_place, kind=kind, which=which), refused=True)
        for which in ("x", "y")
        for kind in PLACES
        if kind != "an unreadable file" or os.getuid() != 0
    ]
    found += [Case(name=f"groups: {what}", act=partial(_grouped, groups=y)) for what, y in Y.items()]
    found += [Case(name=f"archive: {what}", act=partial(_archive, content=content)) for what, content in ARCHIVES.items()]
    found += [
        Case(name=f"archive: {kind} in its place", act=partial(_archive_place, kind=kind), refused=True)
        for kind in PLACES
        if kind != "an unreadable file" or os.getuid() != 0
    ]
    return found
