"""Data sets as `LabeledData`: the built-in digits, published tables, image sets from TensorFlow Datasets, or a user's own file."""

from __future__ import annotations

from memberscope.datasets.duplicates import settle_copies
from memberscope.datasets.labeled import LabeledData, Sizes

__all__ = ["LabeledData", "Sizes", "load_dataset"]


def load_dataset(name: str, *, data_dir: str = "", archive_dir: str = "", duplicates: str = "drop") -> LabeledData:
    """The data set of a name: ``digits``, a table of `archives`, another TFDS name (with or without ``tfds:``), or the path of an ``.npz``.

    Exact copies of a record are dropped unless `duplicates` says otherwise, and the data set's `notes` state their number.

    Args:
        name: see above.
        data_dir: folder of prepared TFDS data sets.
        archive_dir: folder with the published archive of ``location30``, ``purchase100`` or ``texas100``; ignored for other data sets.
        duplicates: what is done about exact copies of features and label: ``drop``, ``keep`` or ``refuse``.

    Raises:
        UserError: the data set is unknown, unreadable or unavailable, or has copies with ``refuse``; the message says what to do.
    """
    return settle_copies(_read(name, data_dir=data_dir, archive_dir=archive_dir), duplicates=duplicates)


def _read(name: str, *, data_dir: str, archive_dir: str) -> LabeledData:
    if name == "digits":
        from memberscope.datasets.digits import load_digits

        return load_digits()
    if name.endswith(".npz"):
        from memberscope.datasets.files import load_file

        return load_file(name)
    from memberscope.datasets.archives import ARCHIVES

    short = name.removeprefix("tfds:")
    if short in ARCHIVES:
        from memberscope.datasets.tabular import load_tabular

        return load_tabular(short, data_dir=data_dir, archive_dir=archive_dir)
    from memberscope.datasets.tfds_images import load_tfds

    return load_tfds(short, data_dir=data_dir)
