"""Outputs of models, all that an audit reads: tables and arrays of outputs, and folders of them, for every option of `memberscope attack` that names a file."""

from __future__ import annotations

import functools
import io
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hostile import Case, arrays
from hostile.arrays import HEADERS, PLACES, bomb, header, npy_bytes, place, shaped, zipped
from hostile.tables import COLUMNS, FOOTERS, METADATA, _rows_promised

N, MODELS = 20, 2  # as many records as the columns of `hostile.tables` have
LABELS, MEMBER = np.arange(N) % 3, np.arange(N) % 2 == 0
LOGITS = np.random.default_rng(0).normal(size=(1 + MODELS, N, 3)) + 2 * np.eye(3)[LABELS]
NAMES = ("target", "m0", "m1")


def table(*, models: bool = False, query: bool = False, member: bool = True) -> str:
    """A good table of outputs as CSV."""
    lines = [
        ",".join(
            [
                *(["model"] if models else []),
                *(["query"] if query else []),
                "record_id",
                "label",
                *(["member"] if member else []),
                "logit_0",
                "logit_1",
                "logit_2",
                "age",
            ]
        )
    ]
    for k, name in enumerate(NAMES if models else NAMES[:1]):
        for copy in range(2 if query else 1):
            for row in range(N):
                cells = [
                    *([name] if models else []),
                    *([str(copy)] if query else []),
                    str(row),
                    str(LABELS[row]),
                    *([str(MEMBER[row])] if member else []),
                ]
                lines.append(",".join([*cells, *(repr(float(value)) for value in LOGITS[k, row]), str(row % 4)]))
    return "\n".join(lines) + "\n"


OWN = table()
PERTURBED = "record_id,predicted_0,predicted_1\n" + "".join(
    f"{row},{LABELS[row]},{(LABELS[row] + row) % 3}\n" for row in range(N)
)


def population() -> str:
    """A good population: other records than the target's."""
    lines = table(models=True, member=False).splitlines()
    return "\n".join([lines[0], *(line.replace(",", ",7", 1) for line in lines[1:])]) + "\n"


def audit(path: Path) -> None:
    """Audit a file of predictions."""
    from memberscope import run_audit
    from memberscope.evidence_from_files import read_evidence, read_target

    target = read_target(str(path))
    run_audit(read_evidence(target)[0], attacks="threshold", slices="all", min_records=8)


@functools.cache
def _target() -> Any:
    from memberscope.evidence_from_files import read_target

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.csv").write_text(OWN)
        return read_target(str(Path(folder) / "t.csv"))


@functools.cache
def _shadows() -> str:
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    for k in range(MODELS):
        np.savez(
            folder / f"m{k}.npz", logits=LOGITS[1 + k], labels=LABELS, member=~MEMBER if k else MEMBER, record_ids=np.arange(N)
        )
    return str(folder)


def shadows(path: Path) -> None:
    """Read shadows, a file or a folder."""
    from memberscope.evidence_from_files import read_evidence

    read_evidence(_target(), shadows=str(path))


def _with_shadows(path: Path, *, option: str) -> None:
    from memberscope.evidence_from_files import read_evidence

    read_evidence(_target(), shadows=_shadows(), **{option: str(path)})


READERS: dict[str, Callable[[Path], None]] = {
    "predictions table": audit,
    "shadows": shadows,
    **{name: partial(_with_shadows, option=name) for name in ("population", "augmented", "perturbed")},
}
GOOD: dict[str, str] = {
    "predictions table": OWN,
    "shadows": table(models=True),
    "population": population(),
    "augmented": table(models=True, query=True, member=False),
    "perturbed": PERTURBED,
}
ARRAYS: dict[str, dict[str, Any]] = {
    "shadows": {"logits": LOGITS[1:], "labels": LABELS, "member": np.stack([MEMBER, ~MEMBER]), "record_ids": np.arange(N)},
    "population": {"logits": LOGITS, "labels": LABELS},
    "augmented": {"logits": LOGITS[:, :, None].repeat(2, axis=2)},
    "perturbed": {"predicted": LABELS[:, None].repeat(2, axis=1)},
}


def npz_bytes(name: str) -> bytes:
    """A good ``.npz`` for a reader."""
    file = io.BytesIO()
    np.savez(file, **ARRAYS[name])
    return file.getvalue()


def _changes(good: str) -> dict[str, bytes]:
    """A good table, broken."""
    first, *rest = good.splitlines()
    names = first.split(",")
    body = "\n".join(rest) + "\n"
    wide = ",".join([first, *(f"logit_{k}" for k in range(3, 1000))])
    return {
        "empty": b"",
        "a header alone": f"{first}\n".encode(),
        "commas alone": b",,,\n,,,\n",
        "a null": good.encode().replace(b"1", b"\0", 1),
        "nulls alone": b"\0" * 1000,
        "binary": bytes(range(256)) * 40,
        "UTF-16": good.encode("utf-16"),
        "UTF-8 with a mark": b"\xef\xbb\xbf" + good.encode(),
        "an open quote": good.encode() + b'"1,2,a\n3,4,b\n',
        "more cells than names": good.encode() + b"1," * len(names) + b"9,9\n",
        "fewer cells than names": good.encode() + b"1\n",
        "the same name twice": good.replace(names[-1], names[-2], 1).encode(),
        "no names": body.encode(),
        "names alone twice": f"{first}\n{first}\n".encode(),
        "an empty name": good.replace(names[-1], "", 1).encode(),
        "a prefix alone": good.replace("logit_0", "logit_", 1).replace("predicted_0", "predicted_", 1).encode(),
        "classes of 5,000 digits": good.replace("_0", "_" + "9" * 5000, 1).encode(),
        "classes that are negative": good.replace("_0", "_-1", 1).encode(),
        "classes of another script": good.replace("_0", "_٣", 1).encode(),
        "a class twice": good.replace("_0", "_1", 1).encode(),
        "a thousand classes": (wide + "\n" + "".join(f"{line}{',0.5' * 997}\n" for line in rest)).encode(),
        "a number of 5,000 digits": good.replace(",0", "," + "9" * 5000, 1).encode(),
        "an exponent": good.replace(",0", ",1e999999999", 1).encode(),
        "infinite": good.replace(",0", ",inf", 1).encode(),
        "not a number": good.replace(",0", ",nan", 1).encode(),
        "the largest numbers": good.replace(",0", ",1.7e308", 9).encode(),
        "hex": good.replace(",0", ",0x1p-2", 1).encode(),
        "underscores": good.replace(",0", ",1_000", 1).encode(),
        "an empty cell": good.replace(",0", ",", 1).encode(),
        "a cell of a million letters": good.replace(",0", "," + "a" * 1_000_000, 1).encode(),
        "surrogates": good.encode().replace(b",0", b",\xed\xa0\x80", 1),
        "numbers of other scripts": good.replace(",0", ",٠", 1).encode(),
        "labels of ten to the 18": good.replace(",1,", f",{10**18},").encode(),
        "half of the rows": (first + "\n" + "\n".join(rest[: len(rest) // 2]) + "\n").encode(),
        "every row twice": (good + body).encode(),
        "rows in reverse": ("\n".join([first, *rest[::-1]]) + "\n").encode(),
        "only carriage returns": good.replace("\n", "\r").encode(),
        "semicolons": good.replace(",", ";").encode(),
        "a column query": "\n".join([f"query,{first}", *(f"0,{line}" for line in rest)]).encode(),
        "a column model": "\n".join([f"model,{first}", *(f"{'9' * 5000},{line}" for line in rest)]).encode(),
        "a column released": "\n".join([f"released,{first}", *(f"1,{line}" for line in rest)]).encode(),
        "inputs that are words": "\n".join([f"input_a,{first}", *(f"x,{line}" for line in rest)]).encode(),
        "a pickle": b"\x80\x04]\x94.",
        "a zip": b"PK\3\4" + b"\0" * 100,
    }  # fmt: skip


def _csv(folder: Path, *, content: bytes, read: Callable[[Path], None]) -> None:
    (folder / "d.csv").write_bytes(content)
    read(folder / "d.csv")


def parquet_bytes(name: str) -> bytes:
    """The good table of a reader as Parquet."""
    import pandas as pd
    import pyarrow  # noqa: F401  # where it is absent, a test is skipped

    file = io.BytesIO()
    pd.read_csv(io.StringIO(GOOD[name])).to_parquet(file)
    return file.getvalue()


def arrow_bytes(name: str) -> bytes:
    """The good table of a reader as an Arrow file."""
    import pandas as pd
    import pyarrow as pa

    table = pa.Table.from_pandas(pd.read_csv(io.StringIO(GOOD[name])), preserve_index=False)
    file = io.BytesIO()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return file.getvalue()


def _arrow(folder: Path, *, name: str, column: str, made: Callable[[], Any], read: Callable[[Path], None]) -> None:
    import pyarrow as pa

    good = pa.ipc.open_file(pa.BufferReader(arrow_bytes(name))).read_all()
    good = good.slice(0, N) if name not in ("population", "augmented", "shadows") else good
    odd = made()
    odd = pa.concat_arrays([odd] * (len(good) // len(odd))) if len(good) > len(odd) else odd
    changed = good.set_column(good.column_names.index(column), column, odd)
    with pa.OSFile(str(folder / "d.arrow"), "wb") as file, pa.ipc.new_file(file, changed.schema) as writer:
        writer.write_table(changed, max_chunksize=7)
    read(folder / "d.arrow")


def _parquet(folder: Path, *, name: str, column: str, made: Callable[[], Any], read: Callable[[Path], None]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    good = parquet.read_table(pa.BufferReader(parquet_bytes(name)))
    good = good.slice(0, N) if name not in ("population", "augmented", "shadows") else good
    odd = made()
    odd = pa.concat_arrays([odd] * (len(good) // len(odd))) if len(good) > len(odd) else odd
    place_of = good.column_names.index(column)
    parquet.write_table(good.set_column(place_of, column, odd), folder / "d.parquet")
    read(folder / "d.parquet")


def _footer(folder: Path, *, change: Callable[[bytes], bytes]) -> None:
    (folder / "d.parquet").write_bytes(change(parquet_bytes("predictions table")))
    audit(folder / "d.parquet")


def _metadata(folder: Path, *, metadata: bytes) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    good = parquet.read_table(pa.BufferReader(parquet_bytes("predictions table")))
    parquet.write_table(good.replace_schema_metadata({b"pandas": metadata}), folder / "d.parquet")
    audit(folder / "d.parquet")


def _array(folder: Path, *, name: str, key: str, content: bytes) -> None:
    """An ``.npz`` of which one array is replaced."""
    zipped(folder / "d.npz", {f"{one}.npy": npy_bytes(value) for one, value in ARRAYS[name].items()} | {f"{key}.npy": content})
    READERS[name](folder / "d.npz")


def _alone(folder: Path, *, name: str, content: bytes) -> None:
    """A ``.npy``, with good labels and members beside it."""
    (folder / "d.npy").write_bytes(content)
    np.save(folder / "d.labels.npy", LABELS)
    np.save(folder / "d.member.npy", ARRAYS["shadows"]["member"] if name == "shadows" else MEMBER)
    READERS[name](folder / "d.npy")


def _beside(folder: Path, *, key: str, content: bytes) -> None:
    for name, array in arrays.GOOD.items():  # as many records as `HEADERS` have
        np.save(folder / ("d.npy" if name == "logits" else f"d.{name}.npy"), array)
    (folder / f"d.{key}.npy").write_bytes(content)
    audit(folder / "d.npy")


def _hole(folder: Path, *, suffix: str, read: Callable[[Path], None]) -> None:
    """Ten terabytes of nothing, which take no room on the disk."""
    with open(folder / f"d{suffix}", "wb") as file:
        file.write(OWN.encode() if suffix == ".csv" else header(shaped((10**13 // 8,), "<f8"), data=b""))
        file.truncate(10**13)
    read(folder / f"d{suffix}")


def _bomb(folder: Path, *, name: str) -> None:
    bomb(folder / "d.npz", "logits.npy", header(shaped(((10 << 30) // 24, 3), "<f8"), data=b""), 10 << 30)
    READERS[name](folder / "d.npz")


def _in_folder(folder: Path, *, add: Callable[[Path], object]) -> None:
    """A folder of shadows with something in it."""
    (folder / "s").mkdir()
    for k in range(MODELS):
        (folder / "s" / f"m{k}.csv").write_text(OWN)
    add(folder / "s")
    shadows(folder / "s")


def _placed(folder: Path, *, kind: str, suffix: str, read: Callable[[Path], None]) -> None:
    read(place(folder / f"p{suffix}", kind))


FOLDERS: dict[str, Callable[[Path], object]] = {
    "a folder inside": lambda path: (path / "m2").mkdir(),
    "a folder named as a table": lambda path: (path / "m2.csv").mkdir(),
    "a pipe": lambda path: os.mkfifo(path / "m2.csv"),
    "a link to itself": lambda path: (path / "m2.csv").symlink_to(path / "m2.csv"),
    "a link to a device": lambda path: (path / "m2.npz").symlink_to("/dev/zero"),
    "an empty file": lambda path: (path / "m2.csv").touch(),
    "a file without a suffix": lambda path: (path / "m2").touch(),
    "a hidden file": lambda path: (path / ".m2.csv").touch(),
    "a name that is not text": lambda path: (path / "m2\udcff.csv").write_text(OWN),
    "a name with a line break": lambda path: (path / "m\n2.csv").write_text(OWN + "x\n"),
    "a name of 200 digits": lambda path: (path / f"{'9' * 200}.csv").write_text(OWN),
    "20,000 files": lambda path: [(path / f"x{number}.csv").touch() for number in range(20_000)],
    "members of other models": lambda path: np.save(path / "member.npy", np.ones((7, N), bool)),
    "members of no axis": lambda path: np.save(path / "member.npy", np.array(True)),
    "labels of no axis": lambda path: np.save(path / "labels.npy", np.array(1)),
    "labels that are cut": lambda path: (path / "labels.npy").write_bytes(npy_bytes(LABELS)[:-3]),
    "a pipe as labels": lambda path: os.mkfifo(path / "labels.npy"),
    "both forms": lambda path: np.savez(path / "m2.npz", logits=LOGITS[0], probs=LOGITS[0], labels=LABELS, member=MEMBER),
}  # fmt: skip


ODD = {
    "predictions table": ("record_id", "label", "member", "logit_0", "age"), "shadows": ("model",), "augmented": ("query",), "perturbed": ("predicted_0",),
}  # fmt: skip
"""The columns in whose place others of every type are put."""


def cases() -> list[Case]:
    """Outputs."""
    found = []
    for name, read in READERS.items():
        found += [
            Case(name=f"outputs {name}, CSV: {what}", act=partial(_csv, content=content, read=read))
            for what, content in _changes(GOOD[name]).items()
        ]
        for column in ODD.get(name, ()):
            found += [
                Case(
                    name=f"outputs {name}, Parquet {column}: {what}",
                    act=partial(_parquet, name=name, column=column, made=made, read=read),
                )
                for what, made in COLUMNS.items()
            ]
            found += [
                Case(
                    name=f"outputs {name}, Arrow {column}: {what}",
                    act=partial(_arrow, name=name, column=column, made=made, read=read),
                )
                for what, made in COLUMNS.items()
            ]
        for suffix in (".csv", ".npy"):
            found += [
                Case(
                    name=f"outputs {name}, {suffix}: {kind}",
                    act=partial(_placed, kind=kind, suffix=suffix, read=read),
                    refused=True,
                )
                for kind in PLACES
                if kind != "an unreadable file" or os.getuid() != 0
            ]
            what = f"outputs {name}, {suffix}: ten terabytes of a file with a hole"
            found.append(Case(name=what, act=partial(_hole, suffix=suffix, read=read), refused=True))
    for number, (name, held) in enumerate(ARRAYS.items()):
        key = next(iter(held))
        for place_of, (what, content) in enumerate(HEADERS.items()):
            if place_of % 2 == number % 2:
                found.append(
                    Case(name=f"outputs {name}, npz: {what}", act=partial(_array, name=name, key=key, content=content))
                )
            else:
                found.append(Case(name=f"outputs {name}, npy: {what}", act=partial(_alone, name=name, content=content)))
        found.append(Case(name=f"outputs {name}, npz: ten gigabytes of zeros", act=partial(_bomb, name=name), refused=True))
    beside = ("labels", "member", "record_ids", "groups", "inputs")
    found += [
        Case(name=f"outputs beside, {key}: {what}", act=partial(_beside, key=key, content=content))
        for number, (what, content) in enumerate(HEADERS.items())
        for key in (beside[number % 5], beside[(number + 2) % 5])
    ]
    found += [Case(name=f"outputs folder: {what}", act=partial(_in_folder, add=add)) for what, add in FOLDERS.items()]
    found += [Case(name=f"outputs Parquet: {what}", act=partial(_footer, change=change)) for what, change in FOOTERS.items()]
    found.append(Case(name="outputs Parquet: rows without end", act=partial(_footer, change=_rows_promised), refused=True))
    found += [
        Case(name=f"outputs Parquet, pandas' part: {what}", act=partial(_metadata, metadata=metadata))
        for what, metadata in METADATA.items()
    ]
    return found
