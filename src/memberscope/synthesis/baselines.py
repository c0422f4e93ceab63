"""Baselines for synthetic data: noisy real data, draws from marginals, and junk. Records are float32, labels int64.

`noisy` and `marginals` are the two other ways to make shadow data in Shokri et al. 2017 (section V-C); `junk` is the data that any attacker
has.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.checks import Array, row_chunks
from memberscope.errors import UserError

Inputs = NDArray[np.float32]
Labels = NDArray[np.int64]


def noisy(
    x: Array, y: Labels, *, binary: bool, share: float, seed: int, low: float = 0.0, high: float = 1.0
) -> tuple[Inputs, Labels]:
    """Real records in which a share of the features is replaced by wrong values; the labels stay.

    Bits are flipped ("Noisy real data" of Shokri et al. 2017, with 10% and 20% of them); other features are drawn anew, uniformly in
    [low, high]. Exactly ``round(share * features)`` features are replaced in each record, chosen separately for each.

    Args:
        x: (n, ...) real records.
        y: (n,) their labels.
        binary: whether the features are bits.
        share: share of features to replace, 0 to 1.
        seed: the stream ``("synthesis", "noisy")``.
        low, high: bounds of features that are not bits.

    Raises:
        UserError: a share outside [0, 1]; binary records with values other than 0 and 1.
    """
    if not 0.0 <= share <= 1.0:
        raise UserError(f"share={share:g}: out of range; allowed: 0 to 1")
    out = np.array(x, dtype=np.float32).reshape(len(x), -1)
    if binary and not np.isin(out, (0.0, 1.0)).all():
        raise UserError("binary=yes: the records have values other than 0 and 1; allowed: bits, or binary=no")
    rng, d = seeds.stream(seed, "synthesis", "noisy"), out.shape[1]
    count = round(share * d)
    for rows in row_chunks(len(out), d):
        part = out[rows]
        at = np.argsort(rng.random(part.shape), axis=1)[:, :count]
        old = np.take_along_axis(part, at, axis=1)
        new = 1 - old if binary else rng.uniform(low, high, size=old.shape).astype(np.float32)
        np.put_along_axis(part, at, new, axis=1)
    return out.reshape(x.shape), y.astype(np.int64)


def marginals(x: Array, query: Callable[[Inputs], Array], *, records: int, seed: int, draws: int = 20) -> tuple[Inputs, Labels]:
    """Records whose features are drawn independently, each from its values in the real records; the target gives their labels.

    This is the "statistics-based synthesis" of Shokri et al. 2017: the attacker knows the marginal distribution of every feature, but not
    their dependence. Each record's label is the class that the target finds most probable. The paper keeps every record drawn. Here `draws`
    times as many records are drawn, and each class in turn gives one until there are enough, since shadows need all classes; this takes
    `draws` queries per record.

    Args:
        x: (n, ...) real records, from which each feature's values are drawn.
        query: the target: (m, ...) float32 -> (m, classes) probabilities, or (m,) labels.
        records: number of records to return.
        seed: the stream ``("synthesis", "marginals")``.
        draws: number of draws per record returned, at least 1; with 1 every record drawn is returned.

    Returns:
        Records (records, ...) and labels, in the order drawn.
    """
    if records < 1 or draws < 1:
        raise UserError(f"records={records}, draws={draws}: out of range; allowed: 1 or more")
    rng, flat = seeds.stream(seed, "synthesis", "marginals"), np.asarray(x).reshape(len(x), -1)
    d = flat.shape[1]
    kept_x: list[Inputs] = []
    kept_y: list[Labels] = []
    for rows in row_chunks(records * draws, d):
        drawn = flat[rng.integers(0, len(flat), size=(rows.stop - rows.start, d)), np.arange(d)].astype(np.float32)
        output = np.asarray(query(drawn.reshape(len(drawn), *x.shape[1:])))
        kept_x.append(drawn)
        kept_y.append((output.argmax(axis=1) if output.ndim == 2 else output).astype(np.int64))
    label = np.concatenate(kept_y)
    chosen = _even(label, records)
    every = np.concatenate(kept_x) if len(kept_x) > 1 else kept_x[0]
    return every[chosen].reshape(records, *x.shape[1:]), label[chosen]


def _even(label: Labels, records: int) -> NDArray[np.intp]:
    """The positions of `records` records, taken from each class in turn, in ascending order."""
    order = np.argsort(label, kind="stable")
    _, first = np.unique(label[order], return_index=True)
    turn = np.empty(len(label), dtype=np.intp)
    turn[order] = np.arange(len(label)) - np.repeat(first, np.diff(np.r_[first, len(label)]))
    return np.sort(np.lexsort((label, turn))[:records])


def junk(
    shape: tuple[int, ...], *, records: int, classes: int, binary: bool, seed: int, low: float = 0.0, high: float = 1.0
) -> tuple[Inputs, Labels]:
    """Records of coin flips (or uniform numbers in [low, high]) with random labels, whose counts by class differ by at most one; from the
    stream ``("synthesis", "junk")``.
    """
    rng = seeds.stream(seed, "synthesis", "junk")
    if binary:
        x = rng.integers(0, 2, size=(records, *shape)).astype(np.float32)
    else:
        x = rng.uniform(low, high, size=(records, *shape)).astype(np.float32)
    return x, rng.permutation(np.arange(records) % classes).astype(np.int64)
