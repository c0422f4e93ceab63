"""``.npz`` and ``.npy`` files for every reader of arrays."""

from __future__ import annotations

import io
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hostile import Case

N = 60  # records
GOOD: dict[str, Any] = {
    "logits": np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32),
    "labels": np.arange(N) % 4,
    "member": np.arange(N) < N // 2,
}


def npy_bytes(array: Any) -> bytes:
    """An array as the bytes of a ``.npy``."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array))  # also of objects, which no reader may load
    return file.getvalue()


def header(text: str, version: tuple[int, int] = (1, 0), data: bytes = b"\0" * 2048) -> bytes:
    """The bytes of a ``.npy`` with this header."""
    body = text.encode("utf-8") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(body) & (0xFFFF if version == (1, 0) else 0xFFFFFFFF))
    return b"\x93NUMPY" + bytes(version) + size + body + data


def shaped(shape: object, descr: object = "<f4", order: object = False) -> str:
    """The text of a header."""
    return repr({"descr": descr, "fortran_order": order, "shape": shape})


def zipped(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> None:
    """Write a zip file with these members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def with_good(name: str, content: bytes) -> dict[str, bytes]:
    """Members of good predictions, one of them replaced."""
    return {f"{key}.npy": npy_bytes(value) for key, value in GOOD.items()} | {f"{name}.npy": content}


def zeros_bomb(size: int) -> bytes:
    """A raw deflate stream of `size` zeros and nothing else, made without them."""
    block = 1 << 24
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = packer.compress(b"\0" * block) + packer.flush(zlib.Z_FULL_FLUSH)
    return one * (size // block) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def bomb(path: Path, name: str, head: bytes, size: int, *, declared: int | None = None) -> None:
    """An ``.npz`` with one compressed member: `head`, then `size` zeros. `declared` is the size that its directory states."""
    first = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = first.compress(head) + first.flush(zlib.Z_FULL_FLUSH) + zeros_bomb(size)
    total = (len(head) + size if declared is None else declared) & 0xFFFFFFFFFFFFFFFF
    big = total > 0xFFFFFFFE
    extra = struct.pack("<HHQQ", 1, 16, total, len(packed)) if big else b""
    size32, packed32 = (0xFFFFFFFF, 0xFFFFFFFF) if big else (total, len(packed))
    raw = name.encode()
    common = struct.pack("<HHHHHIIIHH", 45, 0, 8, 0, 0x21, 0, packed32, size32, len(raw), len(extra))
    local = b"PK\3\4" + common + raw + extra
    central = b"PK\1\2" + struct.pack("<H", 45) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + raw + extra
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local) + len(packed), 0)
    path.write_bytes(local + packed + central + end)


HEADERS: dict[str, bytes] = {
    "ten to the 15 rows": header(shaped((10**15, 4))),
    "ten to the 30 rows": header(shaped((10**30, 4))),
    "ten to the 9 rows": header(shaped((10**9, 4))),
    "a width of ten to the 15": header(shaped((0, 10**15))),
    "rows of nothing": header(shaped((10**12, 0)), data=b""),
    "negative rows": header(shaped((-N, 4))),
    "rows as true": header(shaped((True, 4))),
    "rows as text": header(shaped((str(N), "4"))),
    "rows as a fraction": header(shaped((float(N), 4))),
    "shape that is a number": header(shaped(N)),
    "seventy axes": header(shaped((1,) * 70), data=b"\0" * 4),
    "no shape": header(repr({"descr": "<f4", "fortran_order": False})),
    "another key": header(repr({"descr": "<f4", "fortran_order": False, "shape": (N, 4), "more": 1})),
    "order as text": header(shaped((N, 4), order="no")),
    "header that is a list": header("[1, 2, 3]"),
    "header of nothing": header(""),
    "header that is code": header("__import__('os').system('true')"),
    "header nested two thousand deep": header("(" * 2000 + ")" * 2000),
    "header nested ten thousand deep": header("[" * 10_000 + "]" * 10_000),
    "header of a million characters": header(shaped((N, 4)) + " " * 1_000_000, (2, 0)),
    "header of text that is not UTF-8": b"\x93NUMPY\3\0" + struct.pack("<I", 4) + b"\xff\xfe\xfd\n",
    "header longer than the file": b"\x93NUMPY\2\0" + struct.pack("<I", 0xFFFFFFFF) + b"{",
    "version 3": header(shaped((N, 4), "<i8"), (3, 0), b"\0" * (32 * N)),
    "version 9": header(shaped((N, 4)), (9, 9)),
    "no version": b"\x93NUMPY",
    "objects": npy_bytes(np.array([{"a": 1}, None], dtype=object)),
    "objects without a pickle": header(shaped((N, 4), "|O")),
    "records": npy_bytes(np.zeros((N, 4), dtype=[("a", "<f4"), ("b", "<i4")])),
    "records of records": npy_bytes(np.zeros(N, dtype=[("a", [("b", "<f4", (4,))])])),
    "objects inside records": header(shaped((N,), [("a", "|O")])),
    "type of nothing": header(shaped((N, 4), "|V0")),
    "raw bytes": npy_bytes(np.zeros((N, 4), "V8")),
    "complex numbers": npy_bytes(np.ones((N, 4), np.complex64)),
    "dates": npy_bytes(np.zeros((N, 4), "M8[s]")),
    "time spans": npy_bytes(np.zeros((N, 4), "m8[s]")),
    "half precision": npy_bytes(np.ones((N, 4), np.float16)),
    "long doubles": npy_bytes(np.ones((N, 4), np.longdouble)),
    "big-endian": npy_bytes(np.ones((N, 4), ">f8")),
    "text": npy_bytes(np.full((N, 4), "cat")),
    "bytes": npy_bytes(np.full((N, 4), b"cat")),
    "text of a million characters a cell": header(shaped((N,), "<U1000000")),
    "text that is no Unicode": header(shaped((N,), "<U1"), data=b"\xff\xff\xff\x7f" * N),
    "lone surrogates": header(shaped((N,), "<U1"), data=b"\x00\xd8\x00\x00" * N),
    "unknown type": header(shaped((N, 4), "<q99")),
    "type as a number": header(shaped((N, 4), 7)),
    "type of a million fields": header(shaped((1,), ",".join(["f4"] * 3000))),
    "no axis": npy_bytes(np.float64(1)),
    "one axis": npy_bytes(np.ones(N)),
    "three axes": npy_bytes(np.ones((N, 4, 2))),
    "no rows": npy_bytes(np.ones((0, 4))),
    "no columns": npy_bytes(np.ones((N, 0))),
    "one row too few": npy_bytes(np.ones((N - 1, 4))),
    "not finite": npy_bytes(np.full((N, 4), np.nan)),
    "infinite": npy_bytes(np.full((N, 4), -np.inf)),
    "the largest numbers": npy_bytes(np.full((N, 4), np.finfo(np.float64).max)),
    "the smallest numbers": npy_bytes(np.full((N, 4), 5e-324)),
    "booleans of other bytes": header(shaped((N,), "|b1"), data=bytes(range(2, 2 + N))),
    "largest unsigned": npy_bytes(np.full(N, 2**64 - 1, np.uint64)),
    "smallest signed": npy_bytes(np.full(N, -(2**63))),
    "truncated data": npy_bytes(np.ones((N, 4)))[:-9],
    "nothing": b"",
    "no array": b"hello",
}
NAMES = {
    "a name that climbs": "../../member",
    "an absolute name": "/etc/member",
    "an empty name": "",
    "a name of 60,000 letters": "m" * 60_000,
    "a name of another script": "член",
    "a name with a line break": "a\nb",
    "a column without a name": "column_",
    "pickle": "pickle",
}


def _predictions(path: Path) -> None:
    from memberscope import Predictions, ShadowPredictions, run_audit

    ShadowPredictions.load(path)
    run_audit(Predictions.load(path), attacks="threshold", slices="all")


def _member(folder: Path, *, name: str, content: bytes) -> None:
    zipped(folder / "p.npz", with_good(name, content))
    _predictions(folder / "p.npz")


def _named(folder: Path, *, name: str) -> None:
    zipped(folder / "p.npz", {**with_good("labels", npy_bytes(GOOD["labels"])), f"{name}.npy": npy_bytes(np.ones(N))})
    _predictions(folder / "p.npz")


def place(path: Path, kind: str) -> Path:
    """Something at a path that is no file, or the path of such a thing."""
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.close()
    elif kind == "a link to itself":
        path.symlink_to(path)
    elif kind == "a link to nothing":
        path.symlink_to(path.with_name("nothing"))
    elif kind == "a link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "an unreadable file":
        path.write_bytes(b"x")
        path.chmod(0)
    elif kind == "a path through a file":
        path.write_bytes(b"x")
        return path / path.name
    elif kind == "a path with a null":
        return Path(f"{path.parent}/a\0{path.suffix}")
    elif kind == "a path of 5,000 letters":
        return path.with_name("a" * 5_000 + path.suffix)
    elif kind == "a path that is not text":
        return Path(f"{path.parent}/\udcff{path.suffix}")
    return path


PLACES = (
    "a folder",
    "a pipe",
    "a socket",
    "a link to itself",
    "a link to nothing",
    "a link to a device",
    "an unreadable file",
    "a path through a file",
    "a path with a null",
    "a path of 5,000 letters",
    "a path that is not text",
    "nothing there",
)


def _placed(folder: Path, *, kind: str, suffix: str, read: Callable[[Path], object]) -> None:
    read(place(folder / f"p{suffix}", kind))


def _whole(folder: Path, *, content: bytes) -> None:
    (folder / "p.npz").write_bytes(content)
    _predictions(folder / "p.npz")


def _good_zip() -> bytes:
    file = io.BytesIO()
    np.savez(file, **GOOD)
    return file.getvalue()


def _flipped(folder: Path, *, at: int) -> None:
    content = bytearray(_good_zip())
    content[at % len(content)] ^= 0x5A
    _whole(folder, content=bytes(content))


def _ten_gigabytes(folder: Path, *, declared: int | None, rows: int) -> None:
    head = header(shaped((rows, 4)), data=b"")
    bomb(folder / "p.npz", "logits.npy", head, 10 << 30, declared=declared)
    _predictions(folder / "p.npz")


def _stored(folder: Path) -> None:
    """A file with a hole: it has the ten gigabytes that it promises, and takes no room on the disk."""
    zipped(folder / "p.npz", with_good("labels", npy_bytes(GOOD["labels"])))
    with open(folder / "p.npy", "wb") as file:
        file.write(header(shaped((10**13 // 16, 4)), data=b""))
        file.truncate(10**13)
    from memberscope.studies.shadow import from_files

    from_files._named_arrays(folder / "p.npy", "outputs=p.npy")


def _many(folder: Path) -> None:
    zipped(folder / "p.npz", {f"column_{k}.npy": npy_bytes(np.ones(1)) for k in range(20_000)})
    _predictions(folder / "p.npz")


def _twice(folder: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(folder / "p.npz", "w") as archive:
            for name in ("member", "member", "labels", "logits"):
                archive.writestr(f"{name}.npy", npy_bytes(GOOD[name]))
    _predictions(folder / "p.npz")


def _encrypted(folder: Path) -> None:
    content = _good_zip()
    for mark, place_of_flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = content.index(mark) + place_of_flags
        content = content[:start] + b"\1\0" + content[start + 2 :]
    _whole(folder, content=content)


def _method(folder: Path) -> None:
    content = _good_zip()
    for mark, at in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        start = content.index(mark) + at
        content = content[:start] + b"\x63\0" + content[start + 2 :]
    _whole(folder, content=content)


def _compressed(folder: Path, *, method: int, damage: bool) -> None:
    zipped(folder / "p.npz", with_good("labels", npy_bytes(GOOD["labels"])), compression=method)
    if damage:
        content = bytearray((folder / "p.npz").read_bytes())
        for at in range(60, 90):
            content[at] = 0xFF
        (folder / "p.npz").write_bytes(content)
    _predictions(folder / "p.npz")


def _scores(folder: Path, *, arrays: dict[str, Any]) -> None:
    from memberscope.scores import KeptScores
    from memberscope.secret import key

    np.savez(folder / "scores.npz", **arrays)
    KeptScores.load(folder / "scores.npz", key=key())


def _kept(**changes: Any) -> dict[str, Any]:
    good = {
        "member": GOOD["member"],
        "rank_threshold_loss": np.arange(N, dtype=np.int32),
        "record_ids": np.arange(N),
        "labels": GOOD["labels"],
        "source": np.array("given"),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


SCORES: dict[str, dict[str, Any]] = {
    "fewer members": _kept(member=np.ones(7, bool)),
    "members as numbers": _kept(member=np.arange(N)),
    "members of two axes": _kept(member=np.ones((N, 2), bool)),
    "members of no axis": _kept(member=np.array(True)),
    "members alone of one side": _kept(member=np.ones(N, bool)),
    "ranks of another length": _kept(rank_threshold_loss=np.arange(7, dtype=np.int32)),
    "ranks as text": _kept(rank_threshold_loss=np.full(N, "a")),
    "ranks of two axes": _kept(rank_threshold_loss=np.ones((N, 3), np.int32)),
    "ranks that are not finite": _kept(rank_threshold_loss=np.full(N, np.nan)),
    "ids of another length": _kept(record_ids=np.arange(3)),
    "ids of no axis": _kept(record_ids=np.array(3)),
    "labels of another length": _kept(labels=np.arange(3)),
    "source of several": _kept(source=np.array(["a", "b"])),
    "no records": _kept(
        member=np.ones(0, bool), rank_threshold_loss=np.ones(0, np.int32), record_ids=np.arange(0), labels=np.arange(0)
    ),
    "no members": _kept(member=None),
    "masked members that are short": _kept(
        member=None, masked_member=np.ones(3, bool), salt=np.zeros(16, np.uint8), key_check=np.array("x")
    ),
}


def cases() -> list[Case]:
    """Files of arrays."""
    found = [
        Case(name=f"array {name}: {what}", act=partial(_member, name=name, content=content))
        for name, every in (("logits", 1), ("labels", 2), ("member", 3))
        for number, (what, content) in enumerate(HEADERS.items())
        if number % every == 0 or name == "logits" or b"shape" not in content
    ]
    found += [Case(name=f"array: {what}", act=partial(_named, name=name)) for what, name in NAMES.items()]
    found += [
        Case(name=f"predictions: {kind}", act=partial(_placed, kind=kind, suffix=".npz", read=_predictions), refused=True)
        for kind in PLACES
        if kind != "an unreadable file" or os.getuid() != 0
    ]
    good = _good_zip()
    whole = {
        "empty": b"",
        "two bytes": b"PK",
        "end of a zip alone": good[-22:],
        "a cut zip": good[: len(good) // 2],
        "its beginning cut": good[40:],
        "zeros": b"\0" * 10_000,
        "text": b"logits,labels\n1,2\n",
        "a pickle": b"\x80\x04]\x94.",
        "an npy": npy_bytes(np.ones(3)),
        "a zip in front of noise": good + bytes(range(256)) * 300,
        "noise in front of a zip": bytes(range(256)) * 300 + good,
        "a zip without members": b"PK\5\6" + b"\0" * 18,
        "a wrong place of the directory": good[:-6] + b"\xff\xff\xff\x7f" + good[-2:],
    }
    found += [Case(name=f"npz: {name}", act=partial(_whole, content=content)) for name, content in whole.items()]
    found += [Case(name=f"npz: byte {at} flipped", act=partial(_flipped, at=at)) for at in range(0, len(good), 61)]
    found += [
        Case(
            name="npz: ten gigabytes of zeros", act=partial(_ten_gigabytes, declared=None, rows=(10 << 30) // 16), refused=True
        ),
        Case(
            name="npz: ten gigabytes that are not declared",
            act=partial(_ten_gigabytes, declared=1000, rows=(10 << 30) // 16),
            refused=True,
        ),
        Case(
            name="npz: ten gigabytes behind an array of twenty rows",
            act=partial(_ten_gigabytes, declared=None, rows=N),
            refused=True,
        ),
        Case(name="npz: 20,000 arrays", act=_many, refused=True),
        Case(name="npz: an array twice", act=_twice, refused=True),
        Case(name="npz: encrypted", act=_encrypted, refused=True),
        Case(name="npz: unknown compression", act=_method, refused=True),
        Case(name="npy: ten terabytes of a file with a hole", act=_stored, refused=True),
    ]
    methods = {"deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "LZMA": zipfile.ZIP_LZMA}
    found += [
        Case(
            name=f"npz: {name}{', damaged' if damage else ''}",
            act=partial(_compressed, method=method, damage=damage),
            refused=damage,
        )
        for name, method in methods.items()
        for damage in (False, True)
    ]
    found += [
        Case(name=f"scores: {name}", act=partial(_scores, arrays=arrays), refused=True) for name, arrays in SCORES.items()
    ]
    return found
