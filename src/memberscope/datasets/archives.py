"""The three published archives of binary tables (Shokri et al. 2017, section VI-A), and how they are read.

Reading needs no TensorFlow: `memberscope.datasets.tabular_builders` makes TFDS data sets of these tables. Archives come from outside, so
nothing in them is trusted: their files are read as a stream and never extracted, and every row is checked. The error for a row that does
not fit is one line that names the file, the row and what is allowed.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from memberscope.datasets.labeled import Sizes
from memberscope.errors import UserError
from memberscope.reading.files import check_file

Index = NDArray[np.int64]

HOMEPAGE = "https://github.com/privacytrustlab/datasets"
BLOCK = 8 << 20  # bytes that are read at a time; also the longest row allowed
COMMA, NEWLINE, RETURN, ONE = b",\n\r1"


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One published archive.

    Attributes:
        name: the name of the data set.
        file: the archive's file name.
        sha256: its digest, or None if none could be verified: any archive that can be read is then accepted.
        members: the file inside with a class and then bits in each row; or two files, one with the bits and one with the classes.
        bits: number of features of a record, each 0 or 1.
        classes: number of classes; labels are 1 to `classes` in the archive, and 0 to `classes` - 1 once read.
        records: number of records that the authors published.
        sizes: default numbers of records on the sides.
    """

    name: str
    file: str
    sha256: str | None
    members: tuple[str] | tuple[str, str]
    bits: int
    classes: int
    records: int
    sizes: Sizes

    @property
    def url(self) -> str:
        """The URL at which the authors publish it."""
        return f"{HOMEPAGE}/raw/master/{self.file}"


@dataclass(frozen=True, kw_only=True)
class ArchivedTable:
    """The content of an archive in its order: `x` (n, bits) bool, `y` (n,) int64 from 0, and the archive's `sha256`."""

    x: NDArray[np.bool_]
    y: NDArray[np.int64]
    sha256: str


_WIDE = Sizes(members=10_000, nonmembers=10_000, validation=5_000)  # as is usual in the literature on these two

ARCHIVES = {
    archive.name: archive
    for archive in (
        Archive(
            name="location30", file="dataset_location.tgz", members=("bangkok",), bits=446, classes=30, records=5_010,
            sha256="927203f85a868f8ee17a0ded1dc61699efe602167beabe34fbf45b4b1de94b33",
            sizes=Sizes(members=1_000, nonmembers=1_000, validation=500),
        ),
        Archive(
            name="purchase100", file="dataset_purchase.tgz", members=("dataset_purchase",), bits=600, classes=100, records=197_324,
            sha256=None, sizes=_WIDE,
        ),
        Archive(
            name="texas100", file="dataset_texas.tgz", members=("feats", "labels"), bits=6_169, classes=100, records=67_330,
            sha256=None, sizes=_WIDE,
        ),
    )
}  # fmt: skip


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        UserError: it cannot be read.
    """
    check_file(path, where=str(path), allowed="the path of an archive")
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def read_archive(archive: Archive, path: Path) -> ArchivedTable:
    """Check the digest if one is registered, then read and check every row.

    Raises:
        UserError: the file cannot be read, has another digest than the registered one, is truncated or damaged, lacks a member, or
            has a row with too few or too many columns, a class out of range, or a bit that is neither 0 nor 1.
    """
    where = f"dataset={archive.name}: {path}"
    digest = file_digest(path)
    if archive.sha256 not in (None, digest):
        raise UserError(
            f"{where}: SHA-256 is {digest}, so it is damaged or another file; allowed: {archive.sha256}, as {HOMEPAGE} publishes it"
        )
    try:
        with gzip.open(path) as whole, tarfile.open(fileobj=whole, mode="r:") as tar:
            found = _members(tar, archive, where)
            while whole.read(BLOCK):  # to the end, where gzip's checksum is, before any row is used
                pass
            streams = [(f"{where}, {member.name}", _opened(tar, member, where)) for member in found]
            if len(streams) == 1:
                x, y = _bit_rows(streams[0][1], archive, where=streams[0][0], labelled=True)
            else:
                x, _ = _bit_rows(streams[0][1], archive, where=streams[0][0], labelled=False)
                y = _class_rows(streams[1][1], archive, where=streams[1][0])
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{where}: truncated or damaged ({error}); allowed: the archive that {HOMEPAGE} publishes") from None
    if len(x) != len(y):
        raise UserError(
            f"{where}: {len(x)} rows in {found[0].name} and {len(y)} in {found[1].name}; allowed: one class per row"
        )
    if not len(x):
        raise UserError(f"{where}, {found[0].name}: no rows; allowed: at least one")
    return ArchivedTable(x=x, y=y, sha256=digest)


def _members(tar: tarfile.TarFile, archive: Archive, where: str) -> list[tarfile.TarInfo]:
    """The files to read, by name in any folder; if there are several, the one in a folder named after the number of classes."""
    files = [member for member in tar if member.isfile() and not Path(member.name).name.startswith(".")]
    if len(files) == len(archive.members) == 1:
        return files
    chosen = []
    for name in archive.members:
        named = [member for member in files if Path(member.name).name == name]
        if len(named) > 1:
            named = [member for member in named if Path(member.name).parent.name == str(archive.classes)]
        if len(named) != 1:
            held = ", ".join(member.name for member in files[:5]) or "no file"
            raise UserError(f"{where}: holds {held}; allowed: one file named {name}")
        chosen += named
    return chosen


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> IO[bytes]:
    stream = tar.extractfile(member)
    if stream is None:
        raise UserError(f"{where}: {member.name} is not a file; allowed: a file of rows")
    return stream


def _blocks(stream: IO[bytes], where: str) -> Iterator[bytes]:
    """Complete rows with their line ends, about `BLOCK` bytes at a time; memory stays bounded whatever the stream contains."""
    rest = b""
    while chunk := stream.read(BLOCK):
        rest += chunk
        end = rest.rfind(b"\n") + 1
        if end:
            yield rest[:end]
            rest = rest[end:]
        elif len(rest) > BLOCK:
            raise UserError(f"{where}: a row of more than {BLOCK:,} bytes; allowed: rows with line ends")
    if rest:
        yield rest + b"\n"


def _bit_rows(
    stream: IO[bytes], archive: Archive, *, where: str, labelled: bool
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """All rows of bits, (n, bits) bool, and their classes, (n,) from 0 (all 0 unless `labelled`). Only at the end may rows be empty."""
    parts = [(np.empty((0, archive.bits), np.bool_), np.empty(0, np.int64))]
    row = 1  # number of the block's first row
    empty = 0  # number of the first empty row, once there is one
    for block in _blocks(stream, where):
        text = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(text == NEWLINE)
        starts = np.concatenate([[0], ends[:-1] + 1])
        ends = ends - ((ends > starts) & (text[ends - 1] == RETURN))
        filled = np.flatnonzero(ends > starts)
        if len(filled) < len(ends):
            empty = empty or row + int(np.argmin(ends > starts))
        if empty and len(filled) and row + filled[-1] > empty:
            raise UserError(f"{where}, row {empty}: empty; allowed: {_spelling(archive, labelled)}")
        numbers, starts, ends = row + filled, starts[filled], ends[filled]
        parts.append(_bit_block(block, text, starts, ends, numbers, archive, where=where, labelled=labelled))
        row += block.count(b"\n")
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def _bit_block(
    block: bytes,
    text: NDArray[np.uint8],
    starts: Index,
    ends: Index,
    numbers: Index,
    archive: Archive,
    *,
    where: str,
    labelled: bool,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """A block's rows: `text` is `block` as an array, and row `numbers[k]` of the file is in it from starts[k] to ends[k].

    In the usual format, the last 2 * bits - 1 bytes of a row are its bits separated by commas: these are checked and read for all rows at
    once. A row in another format (spaces, quoted bits) is parsed separately, or rejected.
    """
    width = 2 * archive.bits - 1
    bits, labels = np.zeros((len(ends), archive.bits), np.bool_), np.zeros(len(ends), np.int64)
    usual = ends - starts >= width + 2 if labelled else ends - starts == width
    if usual.any():
        tails = sliding_window_view(text, width)[ends[usual] - width]
        bits[usual] = tails[:, ::2] == ONE
        good = ((tails[:, ::2] | 1) == ONE).all(axis=1) & (tails[:, 1::2] == COMMA).all(axis=1)
        usual[usual] = good & (text[ends[usual] - width - 1] == COMMA) if labelled else good
    if labelled:
        heads = {str(k).encode(): k - 1 for k in range(1, archive.classes + 1)}
        heads |= {b'"' + head + b'"': label for head, label in heads.items()}
        for k in np.flatnonzero(usual):
            labels[k] = heads.get(block[starts[k] : ends[k] - width - 1], -1)
        usual &= labels >= 0
    for k in np.flatnonzero(~usual):
        line = block[starts[k] : ends[k]]
        bits[k], labels[k] = _row(line, archive, where=f"{where}, row {numbers[k]}", labelled=labelled)
    return bits, labels


def _row(line: bytes, archive: Archive, *, where: str, labelled: bool) -> tuple[NDArray[np.bool_], int]:
    """One row in any format: its bits, and its class from 0 (0 if there is none); `where` names the row."""
    fields = [field.strip().strip("\"'").strip() for field in line.decode("ascii", "replace").split(",")]
    bits = fields[1:] if labelled else fields
    if len(bits) != archive.bits:
        raise UserError(f"{where}: {len(fields)} columns; allowed: {_spelling(archive, labelled)}")
    for column, field in enumerate(bits, start=len(fields) - len(bits) + 1):
        if field not in ("0", "1"):
            raise UserError(f"{where}, column {column}: {field[:20]!r}; allowed: 0 or 1")
    label = _class(fields[0], archive, where=where) if labelled else 0
    return np.array(bits) == "1", label


def _class_rows(stream: IO[bytes], archive: Archive, *, where: str) -> NDArray[np.int64]:
    """(n,) classes from 0, one per row."""
    rows = [line for block in _blocks(stream, where) for line in block.splitlines()]
    while rows and not rows[-1].strip():
        rows.pop()
    labels = [
        _class(line.decode("ascii", "replace").strip().strip("\"'"), archive, where=f"{where}, row {row}")
        for row, line in enumerate(rows, start=1)
    ]
    return np.array(labels, dtype=np.int64)


def _class(text: str, archive: Archive, *, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= archive.classes):
        raise UserError(f"{where}: class {text[:20]!r}; allowed: 1 to {archive.classes}")
    return int(text) - 1


def _spelling(archive: Archive, labelled: bool) -> str:
    return f"{archive.bits + labelled} columns: {'a class, then ' if labelled else ''}{archive.bits} bits, separated by commas"
