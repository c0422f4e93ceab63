"""Conversion of records to values that models take: 8-bit images, bits, or float32 in [0, 1]. Other images are scaled, with a note."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError

BYTE = 255


def check_values(x: NDArray[Any], where: str) -> None:
    """Raise UserError, which begins with `where`, for records without any number, such as images of width 0."""
    if not x.size:
        raise UserError(f"{where} is of shape {x.shape}, without any numbers; allowed: at least one number in each record")


def as_stored(x: NDArray[Any], *, where: str) -> tuple[NDArray[Any], str]:
    """Records with values that models take, and a note on their conversion (empty if they are unchanged).

    Booleans and 8-bit integers stay as they are, except for 8-bit integers that are all 0 or 1: those are bits, which a division by 255
    would all but erase. Floats in [0, 1] become float32. Images of other integers are divided by the largest number with as many bits as
    their largest value: 4,095 for a 12-bit scan in 16-bit integers, 65,535 for one that uses all 16 bits. Whole floats in 0..255 are 8-bit
    images.

    Args:
        x: (n, ...) booleans, integers or floats, at least one record; an image has two axes or more.
        where: the beginning of error messages, such as ``dataset=own.npz: x``.

    Raises:
        UserError: other types, missing or infinite numbers, or values of unknown scale.
    """
    kind = x.dtype.kind
    if kind not in "fiub":
        raise UserError(f"{where} is {x.dtype} of shape {x.shape}; allowed: numbers (records, ...)")
    if kind == "b":
        return x, ""
    low, high = x.min(), x.max()
    if x.dtype == np.uint8:
        return (x.astype(np.bool_), "8-bit integers that are all 0 or 1 were read as bits") if high == 1 else (x, "")
    if not np.isfinite([low, high]).all():
        raise UserError(f"{where} has missing or infinite numbers; allowed: uint8, or numbers in [0, 1]")
    if low >= 0 and high <= 1:
        return x.astype(np.float32), ""
    image = x.ndim > 2
    if not image or low < 0:
        raise UserError(f"{where} has values from {low:g} to {high:g}; allowed: uint8, or numbers in [0, 1]")
    if high <= BYTE and (kind in "iu" or bool((x == np.round(x)).all())):
        note = f"{x.dtype} images of whole numbers from {low:g} to {high:g} were divided by 255, as 8-bit images are"
        return x.astype(np.uint8), note
    if kind == "f":
        raise UserError(
            f"{where} has values from {low:g} to {high:g}; allowed: uint8, or numbers in [0, 1]: divide by the largest possible value of a "
            "pixel, 255 for 8-bit images"
        )
    bits = int(high).bit_length()
    top = 2**bits - 1
    scaled: NDArray[np.float32] = (x / np.float64(top)).astype(np.float32)
    return (
        scaled,
        f"{x.dtype} images with values from {low} to {high} were divided by {top:,}, the largest number with {bits} bits",
    )
