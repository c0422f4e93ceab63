"""Reading the published archives, on small files of the same three formats."""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from memberscope.datasets import archives
from memberscope.datasets.archives import ARCHIVES, Archive, Sizes, file_digest, read_archive
from memberscope.errors import UserError

SIZES = Sizes(members=10, nonmembers=10, validation=5)


def toy(*members: str, bits: int = 5, classes: int = 12, sha256: str | None = None) -> Archive:
    return Archive(
        name="toy", file="toy.tgz", sha256=sha256, members=members, bits=bits, classes=classes, records=7, sizes=SIZES
    )


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def spell(x: np.ndarray, y: np.ndarray | None, *, quoted: bool, end: str = "\n") -> bytes:
    rows = []
    for k, bits in enumerate(x):
        label = [] if y is None else [f'"{y[k] + 1}"' if quoted else str(y[k] + 1)]
        rows.append(",".join([*label, *map(str, bits.astype(int))]) + end)
    return "".join(rows).encode()


def random_table(n: int = 200, bits: int = 5, classes: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, bits)) < 0.3, rng.integers(0, classes, n)


@pytest.mark.parametrize("block", [19, 64, 8 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoted", [True, False])
def test_one_file_of_class_and_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, end: str, quoted: bool
) -> None:
    monkeypatch.setattr(archives, "BLOCK", block)
    x, y = random_table()
    data = spell(x, y, quoted=quoted, end=end)
    table = read_archive(toy("rows"), pack(tmp_path / "toy.tgz", {"rows": data}))
    assert table.x.dtype == np.bool_
    assert np.array_equal(table.x, x)
    assert np.array_equal(table.y, y)
    # a naive reference: the csv module
    by_hand = [[int(field) for field in row] for row in csv.reader(io.StringIO(data.decode()))]
    assert np.array_equal(np.array(by_hand), np.column_stack([table.y + 1, table.x]))


@pytest.mark.parametrize("block", [19, 8 << 20])
@pytest.mark.parametrize("folder", ["texas/100/", "other/", "", "./a/b/"])
def test_two_files_of_bits_and_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, folder: str) -> None:
    monkeypatch.setattr(archives, "BLOCK", block)
    x, y = random_table()
    labels = "\n".join(str(label + 1) for label in y).encode()
    path = pack(tmp_path / "toy.tgz", {f"{folder}labels": labels, f"{folder}feats": spell(x, None, quoted=False)})
    table = read_archive(toy("feats", "labels"), path)
    assert np.array_equal(table.x, x)
    assert np.array_equal(table.y, y)


def test_of_several_folders_the_one_of_the_classes_is_read(tmp_path: Path) -> None:
    x, y = random_table(n=9)
    other, _ = random_table(n=3, seed=1)
    labels = "\n".join(str(label + 1) for label in y).encode()
    files = {
        "t/7/feats": spell(other, None, quoted=False), "t/7/labels": b"1\n1\n1",
        "t/12/feats": spell(x, None, quoted=False), "t/12/labels": labels, "t/12/._feats": b"junk",
    }  # fmt: skip
    assert np.array_equal(read_archive(toy("feats", "labels"), pack(tmp_path / "toy.tgz", files)).x, x)
    with pytest.raises(UserError, match=r"holds t/7/feats, .*allowed: one file named feats"):
        read_archive(toy("feats", "labels", classes=100), tmp_path / "toy.tgz")


@pytest.mark.parametrize(
    "text", [b"3,0,1,0,1,1", b"3,0,1,0,1,1\n\n\r\n", b' 3 , 0,1 ,0,1,1\n', b'"3","0","1","0","1","1"\n', b"03,0,1,0,1,1\n"]
)  # fmt: skip
def test_other_spellings_of_a_row(tmp_path: Path, text: bytes) -> None:
    table = read_archive(toy("rows"), pack(tmp_path / "toy.tgz", {"rows": text}))
    assert (table.x.astype(int).tolist(), table.y.tolist()) == ([[0, 1, 0, 1, 1]], [2])


GOOD = b'"3",0,1,0,1,1\n'


@pytest.mark.parametrize("block", [19, 8 << 20])
@pytest.mark.parametrize(
    ("row", "line"),
    [
        (b"3,0,1,0,1", "row 4: 5 columns; allowed: 6 columns: a class, then 5 bits"),
        (b"3,0,1,0,1,1,0", "row 4: 7 columns; allowed: 6 columns"),
        (b"0,1,0,1,1", "row 4: 5 columns"),
        (b"13,0,1,0,1,1", "row 4: class '13'; allowed: 1 to 12"),
        (b'"0",0,1,0,1,1', "row 4: class '0'; allowed: 1 to 12"),
        (b"-1,0,1,0,1,1", "row 4: class '-1'"),
        (b",0,1,0,1,1", "row 4: class ''"),
        (b"9" * 5_000 + b",0,1,0,1,1", "row 4: class '99999999999999999999'; allowed: 1 to 12"),
        ("²".encode() + b",0,1,0,1,1", "row 4: class "),
        (b"3,0,1,2,1,1", "row 4, column 4: '2'; allowed: 0 or 1"),
        (b"3,0,1,0,1,", "row 4, column 6: ''; allowed: 0 or 1"),
        (b"3,0,1,0.5,1,1", "row 4, column 4: '0.5'; allowed: 0 or 1"),
        (b"3;0;1;0;1;1", "row 4: 1 columns"),
        (b"", "row 4: empty; allowed: 6 columns"),
    ],
)
def test_rows_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, row: bytes, line: str) -> None:
    if len(row) < 1_000:  # the long one is more than a block
        monkeypatch.setattr(archives, "BLOCK", block)
    path = pack(tmp_path / "toy.tgz", {"folder/rows": GOOD * 3 + row + b"\n" + GOOD * 2})
    with pytest.raises(UserError) as caught:
        read_archive(toy("rows"), path)
    assert f"dataset=toy: {path}, folder/rows, {line}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("feats", "labels", "line"),
    [
        (b"0,1,0,1,1\n0,1,0,1\n", b"1\n2\n", "feats, row 2: 4 columns; allowed: 5 columns: 5 bits"),
        (b"0,1,0,1,1\n0,1,7,1,1\n", b"1\n2\n", "feats, row 2, column 3: '7'"),
        (b"0,1,0,1,1\n", b"1\n2\n", "1 rows in feats and 2 in labels; allowed: one class per row"),
        (b"0,1,0,1,1\n0,1,0,1,1\n", b"1\n13\n", "labels, row 2: class '13'; allowed: 1 to 12"),
        (b"0,1,0,1,1\n0,1,0,1,1\n", b"1\n\n2\n", "labels, row 2: class ''"),
        (b"", b"", "feats: no rows"),
    ],
)
def test_two_files_that_do_not_fit(tmp_path: Path, feats: bytes, labels: bytes, line: str) -> None:
    with pytest.raises(UserError) as caught:
        read_archive(toy("feats", "labels"), pack(tmp_path / "toy.tgz", {"feats": feats, "labels": labels}))
    assert line in str(caught.value)


def test_members_that_are_not_there(tmp_path: Path) -> None:
    path = pack(tmp_path / "toy.tgz", {"feats": b"0,1,0,1,1\n", "notes": b"hello"})
    with pytest.raises(UserError, match="holds feats, notes; allowed: one file named labels"):
        read_archive(toy("feats", "labels"), path)
    with pytest.raises(UserError, match="holds feats, notes; allowed: one file named rows"):
        read_archive(toy("rows"), path)
    with pytest.raises(UserError, match="holds no file"):
        read_archive(toy("rows"), pack(tmp_path / "none.tgz", {}))


def test_an_archive_without_line_ends_is_refused_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "BLOCK", 1_000)
    with pytest.raises(UserError, match="a row of more than 1,000 bytes"):
        read_archive(toy("rows"), pack(tmp_path / "toy.tgz", {"rows": b"0," * 100_000}))


def test_damaged_archives(tmp_path: Path) -> None:
    x, y = random_table(n=5_000)
    path = pack(tmp_path / "toy.tgz", {"rows": spell(x, y, quoted=True)})
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (whole[: len(whole) // 2], whole[:5], b"", b"hello" * 100, bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=r"toy\.tgz: truncated or damaged \(.*\); allowed: the archive that https"
        ) as caught:
            read_archive(toy("rows"), path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"none\.tgz: cannot be read \(No such file"):
        read_archive(toy("rows"), tmp_path / "none.tgz")
    with pytest.raises(UserError, match="cannot be read"):
        read_archive(toy("rows"), tmp_path)


def test_a_bit_flipped_in_an_archive_is_found_by_its_checksum(tmp_path: Path) -> None:
    """Stored without compression, a bit that turns from 0 to 1 leaves every row well-formed."""
    plain = pack(tmp_path / "plain.tgz", {"rows": GOOD * 50})
    stored = gzip.compress(gzip.decompress(plain.read_bytes()), compresslevel=0)
    path = tmp_path / "toy.tgz"
    path.write_bytes(stored)
    assert len(read_archive(toy("rows"), path).y) == 50
    path.write_bytes(stored.replace(b',0,1,0,1,1\n"3"', b',1,1,0,1,1\n"3"', 1))
    with pytest.raises(UserError, match=r"truncated or damaged .*CRC"):
        read_archive(toy("rows"), path)


def test_the_digest_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    path = pack(tmp_path / "toy.tgz", {"rows": GOOD})
    digest = file_digest(path)
    assert read_archive(toy("rows", sha256=digest), path).sha256 == digest
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match=f"SHA-256 is {file_digest(path)}, .*allowed: {digest}, as https://"):
        read_archive(toy("rows", sha256=digest), path)


def test_nothing_is_extracted_and_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(GOOD)
    inside = tmp_path / "in"
    inside.mkdir()
    path = inside / "toy.tgz"
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("rows")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
        far = tarfile.TarInfo("../../evil/rows")
        far.size = len(GOOD)
        tar.addfile(far, io.BytesIO(GOOD))
    before = sorted(tmp_path.rglob("*"))
    assert read_archive(toy("rows"), path).y.tolist() == [2]  # the file, by its last name; the link is no file
    assert sorted(tmp_path.rglob("*")) == before
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(link)
    with pytest.raises(UserError, match="holds no file"):
        read_archive(toy("rows"), path)


def test_what_is_known_of_the_published_archives() -> None:
    shapes = {name: (archive.records, archive.bits, archive.classes) for name, archive in ARCHIVES.items()}
    assert shapes == {"location30": (5_010, 446, 30), "purchase100": (197_324, 600, 100), "texas100": (67_330, 6_169, 100)}
    for archive in ARCHIVES.values():
        assert archive.sizes.members + archive.sizes.nonmembers + (archive.sizes.validation or 0) <= archive.records
        assert archive.url.startswith("https://github.com/privacytrustlab/datasets/")
