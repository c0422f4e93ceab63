"""Records to which a target gives high confidence, found by queries of the target alone: Algorithm 1 of Shokri et al. 2017, as thousands of
climbs at once.

The target is any function from records (m, ...) float32 to published probabilities (m, classes): full, rounded, or with all but the largest
set to 0. Each step makes one proposal for every climb and queries the target with all of them in one batch. Line numbers are those of the
published algorithm (section V-C); the climbs of a class differ only in their random numbers.

We differ from the paper as follows:

- Each climb has random numbers of its own (`memberscope.synthesis.draws`): the resulting records do not depend on the number of parallel
  climbs, as long as the target's output for a record does not depend on the other records in the batch (the last digits of a matrix product
  may) and the budget is not exhausted.
- A climb that fails (line 26) may start again from another random record, up to `attempts` climbs in all.
- The class need not be the only most probable one (line 9): rounded outputs have ties.
- For images there is, besides the published pixels (``basis="pixel"``), a coarse grid that is refined during the climb (``"grid"``): if k
  cannot be halved any more and `rej_max` is exceeded again, the climb continues on the next finer grid with that grid's first k. The finest
  grid comes twice, and line 11 may return only the second time: an image that is accepted as soon as the target is confident consists of a
  few strokes. The target may be queried with several noisy copies of each image (`copies`, see `moves.Smoothing`), whose mean then is y;
  and line 8 compares ``log y_c - ink * (mean distance from the background)``, which with ``ink=0`` gives the published order.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.synthesis.climb_state import ClimbResults, ClimbState, Rules
from memberscope.synthesis.moves import SHARE, FeatureMoves, GridMoves, Inputs, Moves, Smoothing, grids_for
from memberscope.synthesis.target import Query, Target

Report = Callable[[int, int], None]
"""Called after each step with the number of records found and the number of queries so far."""


@dataclass(frozen=True, kw_only=True)
class HillClimbConfig:
    """The settings of climbs; the names are the paper's.

    Attributes:
        kind: kind of the features: ``binary`` (0 or 1), ``real`` (in [low, high]) or ``image`` (height, width, channels; in [low, high]).
        classes: number of the target's classes.
        records: total number of records to find; the numbers by class differ by at most one, and the first classes get one more.
        conf_min: y_c must exceed it for a record to be accepted (line 9).
        rej_max: consecutive rejections after which k is halved (line 19).
        k_max: features that are changed at a time at first; 0: half of a table's features, a quarter of a grid's nodes.
        k_min: fewest features that are changed at a time.
        iter_max: proposals after which a climb fails (line 6).
        attempts: largest number of climbs for a record.
        budget: total number of queries, copies included, which is never exceeded; None for no limit.
        parallel: number of climbs at once.
        low, high: bounds of real features and pixels.
        ones: share of ones in the random record from which a binary climb starts.
        basis: what a climb changes in images: ``grid`` or ``pixel``.
        background: pixel value of the plain image from which a grid climb starts.
        copies: number of copies of each image that the target is queried with, 1 for the image alone; grid only.
        noise: standard deviation of the copies' noise, as a share of high - low.
        shift: largest shift of the copies in pixels, in each direction.
        ink: penalty in nats for a mean distance of high - low from the background; grid only.

    Raises:
        UserError: a value out of its range, or bounds that exclude every number.
    """

    kind: Literal["binary", "real", "image"]
    classes: int
    records: int
    conf_min: float = 0.8
    rej_max: int = 5
    k_max: int = 0
    k_min: int = 1
    iter_max: int = 1000
    attempts: int = 1
    budget: int | None = None
    parallel: int = 5000
    low: float = 0.0
    high: float = 1.0
    ones: float = 0.5
    basis: Literal["grid", "pixel"] = "grid"
    background: float = 0.0
    copies: int = 1
    noise: float = 0.5
    shift: int = 2
    ink: float = 0.0

    def __post_init__(self) -> None:  # noqa: D105
        for name, allowed in (("kind", ("binary", "real", "image")), ("basis", ("grid", "pixel"))):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name}={getattr(self, name)}: unknown; allowed: {', '.join(allowed)}")
        for name, least in (
            ("classes", 2), ("records", 1), ("rej_max", 0), ("k_max", 0), ("k_min", 1), ("iter_max", 1), ("attempts", 1),
            ("parallel", 1), ("copies", 1), ("shift", 0), ("noise", 0), ("ink", 0),
        ):  # fmt: skip
            if not getattr(self, name) >= least:
                raise UserError(f"{name}={getattr(self, name)}: out of range; allowed: {least} or more")
        if self.budget is not None and self.budget < 1:
            raise UserError(f"budget={self.budget}: out of range; allowed: 1 query or more, or none for no limit")
        for name in ("conf_min", "ones"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(f"{name}={getattr(self, name)}: out of range; allowed: at least 0, below 1")
        if self.kind != "binary" and not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise UserError(f"low={self.low:g}, high={self.high:g}: impossible bounds; allowed: finite numbers, low below high")
        if self.kind == "image" and not self.low <= self.background <= self.high:
            raise UserError(
                f"background={self.background:g}: out of range; allowed: from low={self.low:g} to high={self.high:g}"
            )
        if self.k_max and self.k_max < self.k_min:
            raise UserError(f"k_max={self.k_max}: below k_min={self.k_min}; allowed: k_min or more, or 0 for the default")
        if not self.gridded and (self.copies > 1 or self.ink > 0):
            name = "copies" if self.copies > 1 else "ink"
            raise UserError(f"{name}={getattr(self, name):g}: only for images on a grid; allowed here: the default")

    @classmethod
    def images(cls, *, classes: int, records: int, **changes: Any) -> HillClimbConfig:
        """The settings that gave the most recognizable digits: twelve copies with strong noise, a large `rej_max`, a penalty on ink. Any
        value may be changed.

        The confidence is then the mean over the copies, which exceeds one half for few classes: hence the low `conf_min`. A record takes
        some 5,000 queries, while the published climb over pixels takes 130 and finds noise. The images show only the features by which
        the target recognizes a class: a conv model gave complete digits for 0, 1, 6, 7 and 8, the distinctive parts of 2, 4, 5 and 9, and
        one stroke of 3.
        """
        settings: dict[str, Any] = {
            "kind": "image", "copies": 12, "noise": 0.5, "ink": 0.5, "conf_min": 0.3, "rej_max": 8, "iter_max": 1000,
        }  # fmt: skip
        return cls(classes=classes, records=records, **{**settings, **changes})

    @property
    def gridded(self) -> bool:
        """Whether the climb is over images on a coarse grid."""
        return self.kind == "image" and self.basis == "grid"


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """The counts of one class: records to find and found, climbs that failed, queries; the highest confidence; why records are missing."""

    label: int
    asked: int
    reached: int
    failed: int
    queries: int
    best_confidence: float
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Climbed:
    """The result of climbs: n records, which may be fewer than were to be found.

    Attributes:
        x: (n, ...) float32 records, with the classes in turn.
        y: (n,) int64 the class of each climb, which the target gives the record.
        confidence: (n,) float64 y_c when the record was accepted (with copies: their mean).
        queries: number of records that the target was queried with, including those before an interruption.
        by_class: one entry per class.
    """

    x: Inputs
    y: NDArray[np.int64]
    confidence: NDArray[np.float64]
    queries: int
    by_class: tuple[ClassCount, ...]

    @property
    def complete(self) -> bool:
        """Whether every record was found."""
        return all(one.reached == one.asked for one in self.by_class)

    def require(self) -> Climbed:
        """Return self; UserError if there is no record of some class, which names the class and its highest confidence."""
        empty = [one for one in self.by_class if one.asked and not one.reached]
        if empty:
            names = ", ".join(f"{one.label} (best confidence {one.best_confidence:.3g})" for one in empty)
            raise UserError(
                f"conf_min: no record of {len(empty)} of {len(self.by_class)} classes: {names}; {empty[0].reason}; the {len(self.y)} "
                "records of the other classes are kept; allowed: a lower conf_min, a larger iter_max, attempts or budget"
            )
        return self

    def rows(self) -> list[dict[str, int | float | str]]:
        """`by_class` as plain rows for a table."""
        return [dataclasses.asdict(one) for one in self.by_class]


class HillClimb:
    """Algorithm 1 of Shokri et al. 2017 with given settings."""

    def __init__(self, config: HillClimbConfig) -> None:
        """Keep the settings; the target is queried by `run`."""
        self.config = config

    def run(
        self,
        query: Query,
        *,
        shape: tuple[int, ...],
        seed: int,
        stop: StopFlag | None = None,
        progress: Report | None = None,
        resume: Path | None = None,
    ) -> Climbed:
        """Climb until every record is found or given up, or the budget is spent.

        Args:
            query: the target; called once per step and copy with ``(m, *shape)`` float32, which is read-only and valid during the call.
            shape: shape of one record.
            seed: seed of all random numbers.
            stop: checked before each step; if it is set, the state is saved to `resume` and Interrupted is raised.
            progress: called after every step.
            resume: an ``.npz`` with the state of climbs that were stopped. If it exists, the climbs continue from it (with the same result
                as an uninterrupted run; `budget` may differ); it is written at a stop and at the end.

        Raises:
            UserError: the shape does not suit the kind; the target publishes labels only, or output that is not probabilities of these
                classes; the file `resume` is not the state of these climbs.
            Interrupted: see `stop`.
        """
        config = self.config
        moves = self._moves(shape)
        same = {name: value for name, value in dataclasses.asdict(config).items() if name != "budget"}
        signature = json.dumps({**same, "shape": list(shape), "seed": seed})
        climbs = ClimbState(
            moves, self._rules(moves), width=int(np.prod(shape)), records=config.records, classes=config.classes,
            parallel=config.parallel, seed=seed,
        )  # fmt: skip
        if resume is not None and resume.exists():
            climbs.load(resume, signature)
        target = Target(
            query, classes=config.classes, shape=shape, smoothing=self._smoothing(shape, seed), ink=config.ink / (config.high - config.low),
            background=config.background,
        )  # fmt: skip
        with stop.patient() if stop is not None else nullcontext():  # a step that is not finished would be lost
            while climbs.active:
                if stop is not None and stop.requested:
                    if resume is not None:
                        climbs.save(resume, signature)
                    stop.check()
                room = climbs.active
                if config.budget is not None:
                    room = min(room, (config.budget - climbs.queries) // config.copies)
                if room <= 0:
                    break
                climbs.step(target, room)
                if progress is not None:
                    progress(int(climbs.results.done.sum()), climbs.queries)
        if resume is not None:
            climbs.save(resume, signature)
        return self._result(climbs.results, climbs.queries, shape)

    def _rules(self, moves: Moves) -> Rules:
        config = self.config
        share = SHARE if config.gridded else 0.5
        sizes = [moves.size(level) for level in range(moves.levels)]
        return Rules(
            first_k=tuple(min(max(config.k_max or round(share * size), config.k_min), size) for size in sizes),
            k_min=config.k_min, conf_min=config.conf_min, rej_max=config.rej_max, iter_max=config.iter_max,
            attempts=config.attempts, copies=config.copies,
        )  # fmt: skip

    def _moves(self, shape: tuple[int, ...]) -> Moves:
        config, d = self.config, int(np.prod(shape))
        if d < 1 or (config.kind == "image" and len(shape) != 3):
            allowed = "(height, width, channels)" if config.kind == "image" else "at least one feature"
            raise UserError(f"kind={config.kind}: records have shape {shape}; allowed: {allowed}")
        if config.gridded:
            grids = grids_for(min(shape[:2]))
            moves: Moves = GridMoves(shape, grids=grids, low=config.low, high=config.high, background=config.background)
        else:
            moves = FeatureMoves(d, binary=config.kind == "binary", low=config.low, high=config.high, ones=config.ones)
        if config.k_min > moves.size(0):
            raise UserError(
                f"k_min={config.k_min}: there are only {moves.size(0)} features to change; allowed: 1 to {moves.size(0)}"
            )
        return moves

    def _smoothing(self, shape: tuple[int, ...], seed: int) -> Smoothing | None:
        config = self.config
        if config.copies == 1:
            return None
        return Smoothing(
            shape, copies=config.copies, noise=config.noise, shift=config.shift, coarse=grids_for(min(shape[:2]))[-1],
            low=config.low, high=config.high, background=config.background, seed=seed,
        )  # fmt: skip

    def _result(self, results: ClimbResults, queries: int, shape: tuple[int, ...]) -> Climbed:
        config = self.config
        label = np.arange(config.records) % config.classes
        wanted, reached, given_up = (
            np.bincount(label[mask], minlength=config.classes) for mask in (slice(None), results.done, results.gave_up)
        )
        counts = []
        for c in range(config.classes):
            reasons = []
            if given_up[c]:
                reasons.append(f"{results.failed[c]} climbs ended after {config.iter_max} proposals (iter_max)")
            if wanted[c] > reached[c] + given_up[c]:
                reasons.append(f"the budget of {config.budget} queries was spent")
            counts.append(
                ClassCount(
                    label=c,
                    asked=int(wanted[c]),
                    reached=int(reached[c]),
                    failed=int(results.failed[c]),
                    queries=int(results.queries[c]),
                    best_confidence=float(results.best[c]),
                    reason="; ".join(reasons),
                )
            )
        done = np.flatnonzero(results.done)
        return Climbed(
            x=results.x[done].reshape(len(done), *shape), y=label[done], confidence=results.confidence[done], queries=queries,
            by_class=tuple(counts),
        )  # fmt: skip
