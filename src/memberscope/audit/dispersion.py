"""How widely the records of each class are spread, and whether the tightly packed classes leak more.

The case study (Moreno 2023) claims that classes of lower entropy leak more. What it calls entropy is measured here: for images and other
real inputs by the log-determinant of the covariance within the class, which is twice the entropy of a Gaussian with that covariance up to a
constant (Cover & Thomas 2006, Theorem 8.4.1); for binary tables by the mean entropy of a bit. Only the order of the classes is used, in a
rank correlation with any metric by class, so units do not matter.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memberscope import seeds
from memberscope.checks import Array, BoolArray, FloatArray, check_classes, check_finite, frozen_view, is_number, row_chunks
from memberscope.cores import one_thread
from memberscope.errors import UserError, nearest
from memberscope.unlogged import unlogged

KINDS = ("log_determinant", "bit_entropy")
MOST_COMPONENTS = 20
MOST_RECORDS = 2_000
"""Records per class; with 20 components the log-determinant's own error is then about 0.1 (sqrt(2 d / m))."""
LEAST_RECORDS = 10
LEAST_CLASSES = 4
"""With three classes no order has a p-value below 1/3."""
_EXACT_CLASSES = 8
_MOST_FITTED = 4_000
_MOST_FITTED_CELLS = 1 << 24
_TINY = 1e-9


def rows_by_digest(x: Array, seed: int) -> NDArray[np.intp]:
    """Positions of the records of `x` (n, ...) in an order drawn by `seed` from their contents, (n,).

    They are sorted by a keyed hash of each record's bytes, a shuffle that does not depend on the order in which the records came.
    """
    key = seeds.integer(seed, "digest").to_bytes(8, "little")
    digests = np.array(
        [int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest(), "little") for row in x],
        dtype=np.uint64,
    )
    order: NDArray[np.intp] = np.argsort(digests, kind="stable")
    return order


@dataclass(frozen=True, kw_only=True, eq=False)
class Components:
    """Principal components of the inputs, fitted without using membership.

    Attributes:
        centre, scale: (d,); the scale is 1 for images, whose pixels share a unit, and the column's standard deviation
            (1 where that is zero) for tables of records by columns.
        axes: (d, k) float32, orthonormal, the widest direction first.
        fitted: the number of records that they were fitted on.
    """

    centre: FloatArray
    scale: FloatArray
    axes: NDArray[np.float32]
    fitted: int

    def __call__(self, x: Array) -> tuple[FloatArray, FloatArray]:
        """The components (n, k) of `x` (n, ...), and the energy (n,) that they leave out; non-finite numbers count as the mean."""
        values, rest = np.empty((len(x), self.axes.shape[1])), np.empty(len(x))
        for rows in row_chunks(len(x), self.centre.size):
            part = _standard(x[rows], self.centre, self.scale)
            values[rows] = part @ self.axes
            rest[rows] = np.maximum(np.einsum("ij,ij->i", part, part) - (values[rows] ** 2).sum(axis=1), 0.0)
        return values, rest


def _standard(x: Array, centre: FloatArray, scale: FloatArray) -> NDArray[np.float32]:
    """Rows (n, d) minus `centre`, in units of `scale`, 0 where not finite; subtracted in float64, so that dates keep their days."""
    with np.errstate(over="ignore", invalid="ignore"):
        part = ((_flat(x) - centre) / scale).astype(np.float32)
    part[~np.isfinite(part)] = 0.0
    return part


def _flat(x: Array) -> FloatArray:
    return x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float64)


def fit_components(x: Array, *, most: int, seed: int) -> Components:
    """Fit at most `most` principal components of `x` (n, ...), real numbers, on at most 4,000 of its records.

    This is a randomized singular value decomposition (Halko, Martinsson & Tropp 2011), which takes seconds for 60,000 x 3,072. Directions
    with no variance are left out, so there may be none. The records are drawn by their content: see `rows_by_digest`.
    """
    from sklearn.utils.extmath import randomized_svd

    width = math.prod(x.shape[1:])
    fitted = min(len(x), _MOST_FITTED, max(256, _MOST_FITTED_CELLS // max(1, width)))
    drawn = x[rows_by_digest(x, seed)[:fitted]]
    flat = _flat(drawn)
    known = np.isfinite(flat)
    count = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, flat, 0.0).sum(axis=0) / count
    scale = np.ones(width)
    if x.ndim <= 2:
        spread = np.sqrt((np.where(known, flat - centre, 0.0) ** 2).sum(axis=0) / count)
        scale = np.where(spread > _TINY * np.maximum(1.0, np.abs(centre)), spread, 1.0)
    sample = _standard(drawn, centre, scale)
    size = min(most, width, fitted - 1)
    axes = np.empty((width, 0), dtype=np.float32)
    if size > 0 and sample.any():
        with one_thread():  # the same bits whatever the number of cores
            _, singular, found = randomized_svd(sample, size, n_iter=4, random_state=seeds.integer(seed, "components"))
        axes = np.ascontiguousarray(found[singular > 1e-5 * singular[0]].T, dtype=np.float32)
    return Components(centre=centre, scale=scale, axes=axes, fitted=fitted)


@dataclass(frozen=True, kw_only=True)
class ClassDispersion:
    """How widely each class is spread.

    Attributes:
        kind: ``log_determinant`` (nats, plus a constant of the inputs' unit) or ``bit_entropy`` (nats per bit, 0 to 0.693).
        by_class: class -> dispersion, higher = more widely spread.
        records: the number of records used of each class, the same for all; 0 where no class could be measured.
        components: the number of principal components in the covariance; 0 for ``bit_entropy``.
        left_out: class -> why it has no dispersion.
        notes: what was capped, standardized or shrunk.
    """

    kind: str
    by_class: Mapping[int, float]
    records: int
    components: int = 0
    left_out: Mapping[int, str]
    notes: tuple[str, ...] = ()


@unlogged()
def class_dispersion(
    x: ArrayLike, labels: ArrayLike, *, kind: str = "auto", seed: int, records: int | None = None
) -> ClassDispersion:
    """The dispersion within each class that occurs in `labels`.

    ``log_determinant``: principal components (at most 20, fitted on all classes together, each with as many records) and the
    log-determinant of their covariance within the class, shrunk toward a sphere as in Ledoit & Wolf (2004). Columns of a
    table (two axes) are standardized first, pixels are not. ``bit_entropy``: the mean over columns of the entropy of a bit,
    from the share of ones in the class; low by about 1/(2 `records`), the same for all classes.

    Every class contributes the same number of records, since both measures grow with it.

    Args:
        x: (n, ...) finite real numbers or booleans.
        labels: (n,) ints from 0.
        kind: ``log_determinant``, ``bit_entropy`` (zeros and ones only), or ``auto``: the second for a table (two axes) of
            zeros and ones, the first for all else.
        seed: the seed of the draw of records and of the components.
        records: the number of records of each class, at least 2; classes with fewer are left out. None for as many as the smallest class
            has, at most 2,000; classes with fewer than 10 are then left out.

    Raises:
        UserError: `x`, `labels`, `kind` or `records` are not as above.
    """
    values, classes = frozen_view("x", x), frozen_view("labels", labels)
    binary = _check(values, classes, kind, records)
    chosen = ("bit_entropy" if binary and values.ndim <= 2 else "log_determinant") if kind == "auto" else kind
    present, counts = np.unique(classes, return_counts=True)
    least = LEAST_RECORDS if records is None else records
    left_out = {int(c): f"{m} records; needs {least}" for c, m in zip(present, counts, strict=True) if m < least}
    kept = present[counts >= least]
    if not kept.size:
        return ClassDispersion(kind=chosen, by_class=MappingProxyType({}), records=0, left_out=MappingProxyType(left_out))
    size = min(int(counts[counts >= least].min()), MOST_RECORDS) if records is None else records
    notes = [f"{size} records of each of {kept.size} classes"]
    index = {int(c): _draw(values, np.flatnonzero(classes == c), size, seed) for c in kept}
    if chosen == "bit_entropy":
        found = {c: _bit_entropy(values[rows]) for c, rows in index.items()}
        components = 0
    else:
        found, components, more = _log_determinants({c: values[rows] for c, rows in index.items()}, seed)
        notes += more
        left_out |= {c: "no input varies in any class" for c in index if c not in found}
    return ClassDispersion(
        kind=chosen,
        by_class=MappingProxyType(found),
        records=size if found else 0,
        components=components,
        left_out=MappingProxyType(left_out),
        notes=tuple(notes),
    )


def _check(x: Array, labels: Array, kind: str, records: int | None) -> bool:
    """Whether all numbers of `x` are zeros and ones; UserError for bad arguments."""
    if x.ndim < 1 or labels.ndim != 1 or len(x) != len(labels) or not len(x) or not x.size:
        raise UserError(f"x: shape {x.shape} with labels of shape {labels.shape}; allowed: (n, ...) with (n,), none empty")
    if x.dtype != np.bool_ and not is_number(x):
        raise UserError(f"x: dtype {x.dtype}; allowed: real numbers and booleans")
    check_classes("labels", labels, below=None)
    if kind != "auto" and kind not in KINDS:
        raise UserError(f"kind: {kind!r}{nearest(kind, KINDS)}; allowed: auto, {', '.join(KINDS)}")
    if records is not None and records < 2:
        raise UserError(f"records: {records}; allowed: 2 or more per class, or none for as many as the smallest class has")
    if x.dtype != np.bool_:
        check_finite("x", x)
    width = math.prod(x.shape[1:])
    binary = x.dtype == np.bool_ or all(bool(((x[r] == 0) | (x[r] == 1)).all()) for r in row_chunks(len(x), width))
    if kind == "bit_entropy" and not binary:
        raise UserError("kind: 'bit_entropy' on inputs that are not all 0 or 1; allowed there: auto and log_determinant")
    return binary


def _draw(x: Array, rows: NDArray[np.intp], size: int, seed: int) -> NDArray[np.intp]:
    """`size` of the positions `rows`, drawn by content, so that neither their order nor other classes matter."""
    drawn: NDArray[np.intp] = rows[rows_by_digest(x[rows], seed)[:size]]
    return drawn


def _bit_entropy(bits: Array) -> float:
    """Mean entropy in nats of the columns of `bits` (m, ...)."""
    ones = bits.reshape(len(bits), -1).mean(axis=0, dtype=np.float64)
    inside = ones[(ones > 0) & (ones < 1)]
    return float(-(inside * np.log(inside) + (1 - inside) * np.log1p(-inside)).sum() / ones.size)


def _log_determinants(by_class: Mapping[int, Array], seed: int) -> tuple[dict[int, float], int, list[str]]:
    """Log-determinants in nats by class, the number of components, and notes; no class has one if nothing varies."""
    from sklearn.covariance import ledoit_wolf

    pooled = np.concatenate(list(by_class.values()))
    components = fit_components(pooled, most=MOST_COMPONENTS, seed=seeds.integer(seed, "dispersion"))
    k = components.axes.shape[1]
    if not k:
        return {}, 0, []
    widest = float(components(pooled)[0].var(axis=0).mean())
    found, shrunk = {}, []
    for c, records in by_class.items():
        covariance, shrinkage = ledoit_wolf(components(records)[0])
        shrunk.append(float(shrinkage))
        # a class of copies has no variance; the floor keeps its log-determinant finite and the lowest
        found[c] = float(np.log(np.maximum(np.linalg.eigvalsh(covariance), _TINY * widest)).sum())
    columns = "standardized columns" if pooled.ndim <= 2 else "inputs in their own unit"
    return found, k, [
        f"{k} principal components of {columns}, fitted on {components.fitted} records of all classes",
        f"covariances shrunk by {min(shrunk):.3f} to {max(shrunk):.3f} (Ledoit & Wolf)",
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class DispersionResult:
    """Whether a metric by class goes with the dispersion of the class.

    Attributes:
        correlation: Spearman's, -1 to 1; negative = the tighter the class, the higher the metric. nan where skipped.
        p_value: two-sided: the share of permutations of the classes with a correlation at least as far from 0. nan where skipped.
        n_classes: the number of classes with both numbers.
        classes: (n_classes,) ints, ascending; `dispersion` and `figure` (n_classes,) are theirs, for the scatter plot.
        exact: whether all permutations were counted, and not a sample of them.
        status: ``ok`` or ``skipped``.
                reason: why it was skipped.
        notes: the classes that lack one of the two numbers.
    """

    correlation: float
    p_value: float
    n_classes: int
    classes: NDArray[np.int64]
    dispersion: FloatArray
    figure: FloatArray
    exact: bool = True
    status: str = "ok"
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The finding in plain words, at a two-sided level of 0.05."""
        if self.status == "skipped":
            return f"whether tighter classes leak more was not assessed: {self.reason}"
        found = f"Spearman {self.correlation:+.2f} over {self.n_classes} classes, permutation p = {self.p_value:.2g}"
        if self.p_value > 0.05:
            return f"no relation shown between a class's dispersion and its leakage ({found})"
        return f"{'tighter' if self.correlation < 0 else 'more widely spread'} classes leak more ({found})"


def dispersion_against(
    figure_by_class: Mapping[int, float],
    dispersion: ClassDispersion | Mapping[int, float],
    *,
    seed: int = 0,
    draws: int = 10_000,
) -> DispersionResult:
    """Spearman's rank correlation of a metric by class with the classes' dispersion, and its permutation p-value.

    For up to 8 classes all permutations are counted, and p is the share of them with a correlation at least as far from 0; for more classes
    `draws` of them are drawn, and p = (1 + draws as far) / (1 + draws) (Phipson & Smyth 2010). Tied values get their mean rank.

    Args:
        figure_by_class: class -> metric, such as the advantage; nan for a class where it was skipped.
        dispersion: the result of `class_dispersion`, or class -> dispersion.
        seed: the seed of the permutations.
        draws: the number of permutations drawn, at least 1.

    Returns:
        The result; skipped, with the reason, if there are fewer than 4 classes or one of the two does not vary.

    Raises:
        UserError: `draws` below 1.
    """
    if draws < 1:
        raise UserError(f"draws: {draws}; allowed: 1 or more")
    spread = dispersion.by_class if isinstance(dispersion, ClassDispersion) else dispersion
    sides = [{int(c): float(v) for c, v in side.items() if math.isfinite(v)} for side in (spread, figure_by_class)]
    both = sorted(sides[0].keys() & sides[1].keys())
    lacking = sorted((set(spread) | set(figure_by_class)) - set(both))
    notes = (f"classes without a metric or a dispersion: {', '.join(map(str, lacking))}",) if lacking else ()
    x, y = (np.array([side[c] for c in both], dtype=np.float64) for side in sides)
    reason = ""
    if len(both) < LEAST_CLASSES:
        reason = f"{len(both)} classes with both a metric and a dispersion; needs {LEAST_CLASSES}"
    elif not (np.ptp(x) > 0 and np.ptp(y) > 0):
        reason = f"the {'dispersion' if np.ptp(y) > 0 else 'metric'} is the same in all {len(both)} classes"
    correlation = p_value = math.nan
    exact = len(both) <= _EXACT_CLASSES
    if not reason:
        correlation, p_value = _spearman(x, y, exact=exact, draws=draws, rng=seeds.stream(seed, "dispersion", "permutations"))
    return DispersionResult(
        correlation=correlation,
        p_value=p_value,
        n_classes=len(both),
        classes=np.array(both, dtype=np.int64),
        dispersion=x,
        figure=y,
        exact=exact,
        status="skipped" if reason else "ok",
        reason=reason,
        notes=notes,
    )


def _spearman(x: FloatArray, y: FloatArray, *, exact: bool, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    from scipy.stats import rankdata

    a, b = (ranks - ranks.mean() for ranks in (rankdata(x), rankdata(y)))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    observed = float(a @ b) / scale
    if exact:
        orders = np.array(list(itertools.permutations(range(a.size))))
        return observed, float(_as_far(a, b[orders], scale, observed).mean())
    permuted = rng.permuted(np.broadcast_to(b, (draws, b.size)), axis=1)
    return observed, float((1 + np.count_nonzero(_as_far(a, permuted, scale, observed))) / (1 + draws))


def _as_far(a: FloatArray, permuted: FloatArray, scale: float, observed: float) -> BoolArray:
    """Which rows of `permuted` (m, n) correlate with `a` at least as far from 0 as `observed`, rounding aside."""
    far: BoolArray = np.abs(permuted @ a) / scale >= abs(observed) - 1e-12
    return far
