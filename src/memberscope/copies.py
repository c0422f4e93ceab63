"""Finds rows of arrays that are exact copies of one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array, row_chunks

Index = NDArray[np.intp]
Words = NDArray[np.uint64]

DUPLICATES = ("drop", "keep", "refuse")
"""What every study can do about exact copies: count each record once, count every copy, or end with an error."""


def first_copies(*arrays: Array) -> Index:
    """(n,) for each row, the position of the first row that equals it in all of `arrays`: its own unless an earlier row does.

    Equal means equal in value: -0.0 equals 0.0, and missing numbers equal each other. Candidates are found by a 64-bit checksum and then
    compared, so that no row is called a copy by mistake.

    Args:
        arrays: one or more of shape (n, ...), of numbers, booleans, dates or text; those without any column are ignored.
    """
    n = len(arrays[0])
    compared = [array for array in arrays if array.size]
    keys = np.zeros(n, dtype=np.uint64)
    for array in compared:
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + _checksums(array)
    own: Index = np.arange(n, dtype=np.intp)
    if not compared:
        return own
    _, index, inverse = np.unique(keys, return_index=True, return_inverse=True)
    first: Index = index[inverse].astype(np.intp)
    later = np.flatnonzero(first != own)
    for array in compared:
        for rows in row_chunks(len(later), _width(array)):
            here = later[rows]
            apart = (_words(array[here]) != _words(array[first[here]])).any(axis=1)
            first[here[apart]] = here[apart]  # different rows with the same checksum, which happens about once in 2^63 pairs
    return first


def _width(array: Array) -> int:
    return int(np.prod(array.shape[1:], dtype=np.int64))


def _words(rows: Array) -> Words:
    """(m, w) the rows' bytes as 64-bit words, padded with zeros; equal values have equal bytes."""
    if rows.dtype.kind in "fc":
        rows = rows + 0.0  # -0.0 becomes 0.0
        rows[np.isnan(rows)] = np.nan
    flat = np.ascontiguousarray(rows.reshape(len(rows), -1))
    octets = flat.view(np.uint8).reshape(len(rows), -1)
    lacking = -octets.shape[1] % 8
    if lacking:
        octets = np.concatenate([octets, np.zeros((len(rows), lacking), dtype=np.uint8)], axis=1)
    words: Words = np.ascontiguousarray(octets).view(np.uint64)
    return words


def _checksums(array: Array) -> Words:
    """(n,) the sum of random multiples of each row's words, modulo 2^64: two different rows have the same sum about once in 2^63 pairs."""
    n = len(array)
    found = np.empty(n, dtype=np.uint64)
    width = _words(array[:1]).shape[1]
    odd = np.random.default_rng(0).integers(0, 2**63, size=width, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    for rows in row_chunks(n, _width(array)):
        found[rows] = (_words(array[rows]) * odd).sum(axis=1, dtype=np.uint64)
    return found
