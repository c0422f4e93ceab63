"""Data sets: embedded, from TensorFlow Datasets, or a user's own file, all as `LabeledData`."""

from __future__ import annotations

from memberscope.datasets.labeled import LabeledData, Sizes

__all__ = ["LabeledData", "Sizes", "load_dataset"]


def load_dataset(name: str, *, data_dir: str = "") -> LabeledData:
    """The data set that a user names: ``digits``, a TFDS name with or without ``tfds:``, or the path of an ``.npz``.

    Raises:
        UserError: it is unknown, unreadable or not to be had; the line says what to do.
    """
    if name == "digits":
        from memberscope.datasets.digits import load_digits

        return load_digits()
    if name.endswith(".npz"):
        from memberscope.datasets.files import load_file

        return load_file(name)
    from memberscope.datasets.tfds_images import load_tfds

    return load_tfds(name.removeprefix("tfds:"), data_dir=data_dir)
