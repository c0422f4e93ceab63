"""Data sets as `LabeledData`: the built-in digits, published tables, image sets from TensorFlow Datasets, or a user's own file."""

from __future__ import annotations

from pathlib import Path

from memberscope.datasets.duplicates import settle_copies
from memberscope.datasets.labeled import LabeledData, Sizes
from memberscope.datasets.table import Table, TableColumn
from memberscope.errors import UserError

__all__ = ["TABLES", "LabeledData", "Sizes", "Table", "TableColumn", "is_file", "load_dataset"]

TABLES = (".csv", ".parquet", ".pq")


def is_file(name: str) -> bool:
    """Whether a data set's name is the path of a file of the user's, rather than the name of a public data set."""
    return Path(name).suffix.lower() in (*TABLES, ".npy") or name.endswith(".npz")


def load_dataset(
    name: str, *, data_dir: str = "", archive_dir: str = "", duplicates: str = "drop", as_is: bool = False, label: str = "",
    group: str = "", na_values: tuple[str, ...] = (),
) -> LabeledData:  # fmt: skip
    """The data set of a name: ``digits``, a table of `archives`, another TFDS name (with or without ``tfds:``), or the path of a file.

    Exact copies of a record are dropped unless `duplicates` says otherwise, and the data set's `notes` state their number.

    Args:
        name: see above. A file is an ``.npz`` with arrays ``x`` and ``y``, a table (``.csv`` or ``.parquet``) or, with `as_is`, a ``.npy``
            of the records, which is mapped into memory.
        data_dir: folder of prepared TFDS data sets.
        archive_dir: folder with the published archive of ``location30``, ``purchase100`` or ``texas100``; ignored for other data sets.
        duplicates: what is done about exact copies of features and label: ``drop``, ``keep`` or ``refuse``.
        as_is: keep the records as they are stored, as a trainer from outside gets them: any numbers, in their own type, and tables with
            words and gaps. False: only what the built-in models take, which is uint8 images, bits, and numbers in [0, 1].
        label: the column that holds a table's labels (empty: ``label``), or the path of a ``.npy`` with the labels of a ``.npy``; ignored
            for other data sets, which hold their own.
        group: what names the groups of the records, such as the person whom each is about: a table's column, which is then no feature, an
            array of an ``.npz``, or the path of a ``.npy`` beside a ``.npy``. Empty: there are no groups.
        na_values: words that mean a missing value in any column of a table; empty cells always do.

    Raises:
        UserError: the data set is unknown, unreadable or unavailable, or has copies with ``refuse``; the message says what to do.
    """
    kind = Path(name).suffix.lower()
    if kind in TABLES:
        from memberscope.datasets.tables import load_table

        data = load_table(name, as_is=as_is, label=label or "label", group=group, na_values=na_values)
    elif kind == ".npy":
        data = _mapped(name, as_is=as_is, label=label, group=group)
    elif name.endswith(".npz"):
        from memberscope.datasets.files import load_file

        data = load_file(name, as_is=as_is, group=group)
    elif group:
        raise UserError(
            f"group={group}: {name} has no groups; allowed: a column of a .csv or .parquet, an array of an .npz, or a separate "
            ".npy for a .npy"
        )
    else:
        data = _named(name, data_dir=data_dir, archive_dir=archive_dir, as_is=as_is)
    return settle_copies(data, duplicates=duplicates)


def _mapped(name: str, *, as_is: bool, label: str, group: str) -> LabeledData:
    from memberscope.datasets.files import load_mapped
    from memberscope.datasets.tables import OWN_TRAINER

    if not as_is:
        raise UserError(
            f"dataset={name}: a .npy file; allowed for the built-in models: an .npz with x and y; a .npy is allowed with {OWN_TRAINER}"
        )
    return load_mapped(name, label=label, group=group)


def _named(name: str, *, data_dir: str, archive_dir: str, as_is: bool) -> LabeledData:
    """A data set that is not a file of the user's."""
    if name == "digits":
        from memberscope.datasets.digits import load_digits

        return load_digits()
    from memberscope.datasets.archives import ARCHIVES

    short = name.removeprefix("tfds:")
    if short in ARCHIVES:
        from memberscope.datasets.tabular import load_tabular

        return load_tabular(short, data_dir=data_dir, archive_dir=archive_dir)
    from memberscope.datasets.tfds_images import load_tfds

    return load_tfds(short, data_dir=data_dir, as_is=as_is)
