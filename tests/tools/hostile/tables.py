"""CSV and Parquet files."""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from hostile import Case
from hostile.arrays import PLACES
from hostile.records import READERS, _placed

ROWS = "".join(f"{k / 40},{k % 3},{'ab'[k % 2]}\n" for k in range(20))
GOOD = f"f0,f1,label\n{ROWS}"
CSV: dict[str, bytes] = {
    "empty": b"",
    "a line end": b"\n",
    "a header alone": b"f0,f1,label\n",
    "blank lines": b"\n\n\n\n",
    "commas alone": b",,,\n,,,\n",
    "a null": GOOD.encode().replace(b"0.1", b"\0"),
    "nulls alone": b"\0" * 1000,
    "binary": bytes(range(256)) * 40,
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-8 with a mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "Latin-1": GOOD.replace("a\n", "ä\n").encode("latin-1"),
    "an open quote": GOOD.encode() + b'"1,2,a\n3,4,b\n',
    "quotes in quotes": GOOD.encode() + b'1,2,"a""b"c\n',
    "more cells than names": GOOD.encode() + b"1,2,a,9,9\n",
    "fewer cells than names": GOOD.encode() + b"1\n",
    "the same name twice": GOOD.replace("f1", "f0").encode(),
    "an empty name": GOOD.replace("f1", "").encode(),
    "names that pandas makes": GOOD.replace("f0,f1", "f0,f0.1").encode(),
    "a number of 5,000 digits": GOOD.encode() + b"9" * 5000 + b",1,a\n",
    "a class of 5,000 digits": GOOD.encode() + b"0.5,1," + b"9" * 5000 + b"\n",
    "classes of 5,000 digits": (
        b"f0,label\n" + b"".join(b"0.%d,%s\n" % (k, b"12"[k % 2 : k % 2 + 1] * 5000) for k in range(20))
    ),
    "an exponent": GOOD.encode() + b"1e999999999,1,a\n",
    "a fraction of 5,000 digits": GOOD.encode() + b"0." + b"3" * 5000 + b",1,a\n",
    "infinite": GOOD.encode() + b"inf,-inf,a\n",
    "dates out of range": ("f0,label\n" + "".join(f"99{k:02d}-13-45,{k % 2}\n" for k in range(20))).encode(),
    "dates of the year 1": ("f0,label\n" + "".join(f"0001-01-{k + 1:02d},{k % 2}\n" for k in range(20))).encode(),
    "a cell of a million letters": GOOD.encode() + b"0.5,1," + b"a" * 1_000_000 + b"\n",
    "2,000 columns": (
        ",".join(f"c{k}" for k in range(2_000)) + ",label\n" + "0.5," * 2_000 + "a\n" + "0.25," * 2_000 + "b\n"
    ).encode(),
    "labels of ten to the 8": GOOD.replace(",a\n", ",1\n").replace(",b\n", ",100000000\n").encode(),
    "no label": b"f0,f1\n0.1,2\n0.2,3\n",
    "a label alone": b"label\na\nb\n",
    "labels that are missing": GOOD.replace(",a\n", ",\n").encode(),
    "marks for labels": GOOD.replace(",a\n", ",nan\n").encode(),
    "only carriage returns": GOOD.replace("\n", "\r").encode(),
    "semicolons": GOOD.replace(",", ";").encode(),
    "a pickle": b"\x80\x04]\x94.",
    "a zip": b"PK\3\4" + b"\0" * 100,
    "numbers of other scripts": GOOD.replace("0.1", "٠.١").encode(),
    "words of mathematics": GOOD.replace(",a\n", ",$x^{\n").encode(),
    "surrogates": GOOD.encode() + b"0.1,1," + b"\xed\xa0\x80\n",
    "hex": GOOD.encode() + b"0x1p-2,1,a\n",
    "underscores": GOOD.encode() + b"1_000,1,a\n",
}


def _csv(folder: Path, *, content: bytes, read: Callable[[Path], None]) -> None:
    (folder / "d.csv").write_bytes(content)
    read(folder / "d.csv")


def _parquet(folder: Path, *, column: Callable[[], Any], name: str, read: Callable[[Path], None]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    made = {"f0": pa.array([k / 40 for k in range(20)]), "label": pa.array(["a", "b"] * 10), name: column()}
    parquet.write_table(pa.table(made), folder / "d.parquet")
    read(folder / "d.parquet")


def _pa(kind: str, values: Callable[[], list[Any]] = lambda: [None] * 20) -> Callable[[], Any]:
    def make() -> Any:
        import pyarrow as pa

        types = {
            "binary": pa.binary(),
            "fixed": pa.binary(4),
            "list": pa.list_(pa.int64()),
            "large list": pa.large_list(pa.string()),
            "struct": pa.struct([("a", pa.int64())]),
            "map": pa.map_(pa.string(), pa.int64()),
            "null": pa.null(),
            "bool": pa.bool_(),
            "int8": pa.int8(),
            "int64": pa.int64(),
            "uint64": pa.uint64(),
            "half": pa.float16(),
            "double": pa.float64(),
            "string": pa.string(),
            "decimal": pa.decimal128(38, 10),
            "decimal256": pa.decimal256(76, 0),
            "date": pa.date32(),
            "time": pa.time64("ns"),
            "duration": pa.duration("ns"),
            "stamp s": pa.timestamp("s"),
            "stamp ns": pa.timestamp("ns"),
            "zoned": pa.timestamp("us", "Europe/Berlin"),
            "words": pa.dictionary(pa.int8(), pa.string()),
            "numbers": pa.dictionary(pa.int8(), pa.int64()),
            "bytes": pa.dictionary(pa.int8(), pa.binary()),
        }
        return pa.array(values(), type=types[kind])

    return make


def _datetimes() -> list[Any]:
    import datetime

    return [datetime.datetime(9999, 1, 1) if k % 2 else None for k in range(20)]


def _times() -> list[Any]:
    import datetime

    return [datetime.time(1, 2, k) for k in range(20)]


COLUMNS: dict[str, Callable[[], Any]] = {
    "bytes": _pa("binary", lambda: [b"a", b"\xff"] * 10),
    "fixed bytes": _pa("fixed", lambda: [b"abcd"] * 20),
    "lists": _pa("list", lambda: [[1, 2], None] * 10),
    "lists of text": _pa("large list", lambda: [["a"], []] * 10),
    "structs": _pa("struct", lambda: [{"a": 1}, None] * 10),
    "maps": _pa("map", lambda: [[("a", 1)]] * 20),
    "nulls": _pa("null"),
    "booleans with gaps": _pa("bool", lambda: [True, None] * 10),
    "integers with gaps": _pa("int64", lambda: [1, None] * 10),
    "small integers with gaps": _pa("int8", lambda: [1, None, 3, 4] * 5),
    "large unsigned": _pa("uint64", lambda: [2**64 - 1, 0] * 10),
    "large unsigned with gaps": _pa("uint64", lambda: [2**64 - 1, None] * 10),
    "halves": _pa("half", lambda: [__import__("numpy").float16(k) for k in range(20)]),
    "text with gaps": _pa("string", lambda: ["a", None] * 10),
    "gaps alone": _pa("string"),
    "decimals": _pa("decimal", lambda: [Decimal("1.5"), None] * 10),
    "decimals of 76 digits": _pa("decimal256", lambda: [Decimal("9" * 76), Decimal(1)] * 10),
    "days with gaps": _pa("date", lambda: [1, None] * 10),
    "the year 9999": _pa("stamp s", _datetimes),
    "times": _pa("time", _times),
    "spans": _pa("duration", lambda: [1, None] * 10),
    "zoned times": _pa("zoned", lambda: [1, None] * 10),
    "coded words with gaps": _pa("words", lambda: ["a", None] * 10),
    "coded numbers with gaps": _pa("numbers", lambda: [10**15, None] * 10),
    "coded bytes": _pa("bytes", lambda: [b"a", b"b"] * 10),
    "not finite": _pa("double", lambda: [float("nan"), float("inf")] * 10),
    "text with a null": _pa("string", lambda: ["a\0b", "a"] * 10),
    "labels of ten to the 8": _pa("int64", lambda: [1, 10**8] * 10),
    "one value": _pa("int64", lambda: [7] * 20),
}


def _footer(folder: Path, *, change: Callable[[bytes], bytes], read: Callable[[Path], None]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"f0": [k / 40 for k in range(20)], "label": ["a", "b"] * 10}), folder / "d.parquet")
    (folder / "d.parquet").write_bytes(change((folder / "d.parquet").read_bytes()))
    read(folder / "d.parquet")


def _rows_promised(content: bytes) -> bytes:
    """The number of rows of the file, a 20 in Thrift's compact form, raised: 40 is the zigzag of 20."""
    end = int.from_bytes(content[-8:-4], "little")
    body, footer = content[: -8 - end], content[-8 - end : -8]
    at = footer.rindex(b"\x28")
    huge = b"\x80\x80\x80\x80\x80\x80\x80\x04"  # of some 10^15
    changed = footer[:at] + huge + footer[at + 1 :]
    return body + changed + len(changed).to_bytes(4, "little") + b"PAR1"


FOOTERS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "its mark alone": lambda content: b"PAR1PAR1",
    "cut": lambda content: content[: len(content) // 2],
    "no end": lambda content: content[:-4],
    "a footer of 4 GB": lambda content: content[:-8] + b"\xff\xff\xff\xff" + b"PAR1",
    "a footer of zeros": lambda content: content[:-200] + b"\0" * 192 + content[-8:],
    "zeros inside": lambda content: content[:4] + b"\0" * 60 + content[64:],
    "text": lambda content: b"hello",
    "encrypted": lambda content: content[:-4] + b"PARE",
}


def _metadata(folder: Path, *, metadata: bytes, read: Callable[[Path], None]) -> None:
    """What pandas keeps in the file, of which it makes the index and the types."""
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"f0": [k / 40 for k in range(20)], "label": ["a", "b"] * 10})
    parquet.write_table(table.replace_schema_metadata({b"pandas": metadata}), folder / "d.parquet")
    read(folder / "d.parquet")


METADATA = {
    "no JSON": b"{",
    "a list": b"[1]",
    "an index that is absent": b'{"index_columns": ["nowhere"], "columns": [], "column_indexes": []}',
    "an index of numbers": b'{"index_columns": [7], "columns": [{}], "column_indexes": [{}]}',
    "not text": b"\xff\xfe",
    "the label as index": b'{"index_columns": ["label"], "columns": [], "column_indexes": []}',
    "nested": b'{"index_columns":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a range of ten to the 15": b'{"index_columns": [{"kind": "range", "name": null, "start": 0, "stop": 1000000000000000, "step": 1}], "columns": [], "column_indexes": []}',
}


def cases() -> list[Case]:
    """Tables."""
    found = []
    for reader, read in READERS.items():
        found += [
            Case(name=f"{reader}, CSV: {what}", act=partial(_csv, content=content, read=read)) for what, content in CSV.items()
        ]
        for name in ("f1", "label"):
            found += [
                Case(name=f"{reader}, Parquet {name}: {what}", act=partial(_parquet, column=column, name=name, read=read))
                for what, column in COLUMNS.items()
            ]
    for what, change in FOOTERS.items():
        found.append(Case(name=f"Parquet: {what}", act=partial(_footer, change=change, read=READERS["audit"])))
    found.append(
        Case(name="Parquet: rows without end", act=partial(_footer, change=_rows_promised, read=READERS["audit"]), refused=True)
    )
    for what, metadata in METADATA.items():
        found.append(
            Case(name=f"Parquet, pandas' part: {what}", act=partial(_metadata, metadata=metadata, read=READERS["audit"]))
        )
    for suffix in (".csv", ".parquet"):
        found += [
            Case(
                name=f"table {suffix}: {kind}",
                act=partial(_placed, kind=kind, suffix=suffix, read=READERS["audit"]),
                refused=True,
            )
            for kind in PLACES
            if kind != "an unreadable file" or os.getuid() != 0
        ]
    return found
