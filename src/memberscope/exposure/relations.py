"""How measures of exposure relate to each other, and to a record's class, label noise and density."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from memberscope import seeds
from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

NEIGHBOURS = 10
MOST_REFERENCES = 5_000  # records among which neighbours are looked for
LEAST_RECORDS = 10  # fewest records of which a correlation is shown


def rank_correlations(values: Mapping[str, FloatArray]) -> pd.DataFrame:
    """Spearman's rank correlation of each two measures, over the records that have both.

    Args:
        values: name -> (n,) numbers, NaN where a record has none.

    Returns:
        Columns first, second, correlation (NaN where a measure is constant, or fewer than ten records have both), records.
    """
    import pandas as pd

    names, rows = list(values), []
    known = {name: ~np.isnan(array) for name, array in values.items()}
    whole = {name: rankdata(values[name]) for name in names if known[name].all()}  # ranked once, not once a pair
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            if first in whole and second in whole:
                one, other = whole[first], whole[second]
            else:
                both = known[first] & known[second]
                one, other = rankdata(values[first][both]), rankdata(values[second][both])
            rows.append({"first": first, "second": second, "correlation": _correlation(one, other), "records": len(one)})
    return pd.DataFrame(rows, columns=["first", "second", "correlation", "records"])


def _correlation(one: FloatArray, other: FloatArray) -> float:
    if len(one) < LEAST_RECORDS or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def neighbours(
    x: Array, labels: Array, *, seed: int, k: int = NEIGHBOURS, most: int = MOST_REFERENCES
) -> dict[str, FloatArray]:
    """How densely other records lie around each one, and how many of them have another class.

    Distances are Euclidean, between records as rows of numbers; no column is scaled, and missing numbers count as their column's mean.
    Where there are more than `most` records, neighbours are looked for among as many, drawn at random.

    Args:
        x: (n, ...) the records.
        labels: (n,) their classes.
        seed: the stream ``("exposure", "neighbours")`` draws the references.
        k: number of neighbours, the record itself not among them.
        most: see above.

    Returns:
        ``neighbour_distance`` (n,), the mean distance to the `k` nearest; ``neighbours_of_other_class`` (n,), the share among them.

    Raises:
        UserError: records that are not numbers, or no more than `k` of them.
    """
    from sklearn.neighbors import NearestNeighbors

    if x.dtype.kind not in "biuf":
        raise UserError(f"x: dtype {x.dtype}; allowed: numbers")
    n = len(x)
    if min(n, most) <= k:
        raise UserError(f"x: {n} records; allowed: more than {k}, the number of neighbours")
    drawn = np.sort(seeds.stream(seed, "exposure", "neighbours").choice(n, most, replace=False)) if n > most else np.arange(n)
    flat = x.reshape(n, -1).astype(np.float32)
    gaps = ~np.isfinite(flat)
    if gaps.any():
        totals = np.where(gaps, 0.0, flat).sum(axis=0, dtype=np.float64) / np.maximum((~gaps).sum(axis=0), 1)
        flat = np.where(gaps, totals.astype(np.float32), flat)
    search = NearestNeighbors(n_neighbors=k + 1).fit(flat[drawn])
    distances, places = search.kneighbors(flat)
    places = drawn[places]
    itself = places == np.arange(n)[:, None]
    absent = ~itself.any(axis=1)
    itself[absent, -1] = True  # drop the farthest where the record is no reference, or only its copies came first
    kept = ~itself
    other = np.asarray(labels)[places] != np.asarray(labels)[:, None]
    return {
        "neighbour_distance": distances[kept].reshape(n, k).mean(axis=1).astype(np.float64),
        "neighbours_of_other_class": other[kept].reshape(n, k).mean(axis=1),
    }


def by_group(values: Mapping[str, FloatArray], groups: NDArray[Any], *, kind: str) -> pd.DataFrame:
    """Each measure's mean and median in each group of records, such as a class.

    Returns:
        Columns kind, group, measure, records, mean, median; records without the measure do not count.
    """
    import pandas as pd

    rows = []
    for group in np.unique(groups):
        for name, array in values.items():
            own = array[(groups == group) & ~np.isnan(array)]
            if len(own):
                rows.append(
                    {
                        "kind": kind, "group": str(group), "measure": name, "records": len(own), "mean": float(own.mean()),
                        "median": float(np.median(own)),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows, columns=["kind", "group", "measure", "records", "mean", "median"])


def related(values: Mapping[str, FloatArray], *, labels: Array | None = None, noisy: BoolArray | None = None) -> pd.DataFrame:
    """Means and medians of each measure by class, and of records whose label was replaced against the others."""
    import pandas as pd

    frames = [by_group(values, labels, kind="class")] if labels is not None else []
    if noisy is not None and noisy.any():
        frames.append(by_group(values, np.where(noisy, "replaced", "as it was"), kind="label"))
    return pd.concat(frames, ignore_index=True) if frames else by_group({}, np.empty(0), kind="")
