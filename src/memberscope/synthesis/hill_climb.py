"""Records that a target is sure of, found by asking it alone: Algorithm 1 of Shokri et al. 2017, as thousands of climbs at once.

The target is any function from records (m, ...) float32 to what it publishes, (m, classes) probabilities: full, rounded or all but the
top ones set to 0. Each step makes one proposal for every climb and asks for all of them in one query. Line numbers are those of the
published algorithm (section V-C); the climbs of a class differ in their random numbers only.

Where we differ, and why:

- A record is a climb with random numbers of its own (`memberscope.synthesis.draws`): which records come out does not depend on how many
  climb at once, as long as the target's answer to a record does not depend on its neighbours in the batch (a matrix product's last
  digits may) and the budget lasts.
- A climb that fails (line 26) may start anew from another random record, `attempts` times in all.
- The most probable class (line 9) may share its place: rounded outputs tie.
- Images have, beside the published pixels (``basis="pixel"``), a coarse grid that is refined as the climb goes on (``"grid"``): where k
  cannot be halved any more and `rej_max` is exceeded again, the next finer grid begins with its own k. The finest comes twice, and only
  in its second turn may line 11 return: an image that was taken as soon as the target fell for it shows a few strokes. The target may
  be asked for several noisy copies of each image (`copies`, see `moves.Smoothing`), whose mean then is y; and what is compared in line
  8 is ``log y_c - ink * (mean distance from the background)``, which with ``ink=0`` is the published order.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
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
"""Called after each step with the records found so far and the queries spent."""


@dataclass(frozen=True, kw_only=True)
class HillClimbConfig:
    """What to climb for and how; the names are the paper's.

    Attributes:
        kind: of the features: ``binary`` (0 or 1), ``real`` (in [low, high]) or ``image`` (height, width, channels; in [low, high]).
        classes: of the target.
        records: to find in all, shared out over the classes as evenly as can be, the first classes taking what is left over.
        conf_min: y_c must exceed it for a record to be taken (line 9).
        rej_max: consecutive rejections that are borne before k is halved (line 19).
        k_max: features changed at a time at first; 0: half of a table's, a quarter of a grid's.
        k_min: and at least.
        iter_max: proposals before a climb fails (line 6).
        attempts: climbs that a record may take.
        budget: queries allowed in all, copies included, and never exceeded; None for no limit.
        parallel: climbs at once.
        low, high: bounds of real features and pixels.
        ones: share of ones in the random record that a binary climb starts from.
        basis: of images: ``grid`` or ``pixel``.
        background: the plain image that a grid climb starts from.
        copies: of each image that the target is asked for, 1 for the image alone; grid only.
        noise: deviation of their noise, as a share of high - low.
        shift: their largest shift in pixels, each way.
        ink: what a mean distance of high - low from the background costs, in nats; grid only.

    Raises:
        UserError: a value out of its range, or bounds that no number fits.
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
            raise UserError(f"background={self.background:g}: allowed: from low={self.low:g} to high={self.high:g}")
        if self.k_max and self.k_max < self.k_min:
            raise UserError(f"k_max={self.k_max}: below k_min={self.k_min}; allowed: k_min or more, or 0 for the default")
        if not self.gridded and (self.copies > 1 or self.ink > 0):
            name = "copies" if self.copies > 1 else "ink"
            raise UserError(f"{name}={getattr(self, name):g}: of images over a grid only; allowed here: the default")

    @classmethod
    def images(cls, *, classes: int, records: int, **changes: Any) -> HillClimbConfig:
        """What gave the most class-like digits: twelve copies under strong noise, long patience, a price on ink; any value may be changed.

        Confidence is then the mean over the copies, of which few classes bring more than half: hence the low `conf_min`. It takes some
        5,000 queries a record, where the published climb over pixels takes 130 and finds noise. What comes out is what the target tells a
        class by, not more: of its ten classes a conv model gave 0, 1, 6, 7 and 8 whole, of 2, 4, 5 and 9 the telling parts, of 3 a stroke.
        """
        settings: dict[str, Any] = {
            "kind": "image", "copies": 12, "noise": 0.5, "ink": 0.5, "conf_min": 0.3, "rej_max": 8, "iter_max": 1000,
        }  # fmt: skip
        return cls(classes=classes, records=records, **{**settings, **changes})

    @property
    def gridded(self) -> bool:
        """Images over a coarse grid?"""
        return self.kind == "image" and self.basis == "grid"


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """How one class fared: records asked for and reached, climbs that failed, queries, the best confidence seen, and why any lack."""

    label: int
    asked: int
    reached: int
    failed: int
    queries: int
    best_confidence: float
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Climbed:
    """What the climbs found: n records, which may be fewer than asked for.

    Attributes:
        x: (n, ...) float32 records, in the order in which they were asked for (classes in turn).
        y: (n,) int64, the class that each climbed for, and which the target gives it.
        confidence: (n,) float64, y_c when it was taken (with copies: their mean).
        queries: records that the target was asked for, over all runs that were continued.
        by_class: one entry a class.
    """

    x: Inputs
    y: NDArray[np.int64]
    confidence: NDArray[np.float64]
    queries: int
    by_class: tuple[ClassCount, ...]

    @property
    def complete(self) -> bool:
        """Was every record reached?"""
        return all(one.reached == one.asked for one in self.by_class)

    def require(self) -> Climbed:
        """Itself; UserError where a class was asked for and not reached at all, naming it and the best confidence seen."""
        empty = [one for one in self.by_class if one.asked and not one.reached]
        if empty:
            names = ", ".join(f"{one.label} (best confidence {one.best_confidence:.3g})" for one in empty)
            raise UserError(
                f"conf_min: no record of {len(empty)} of {len(self.by_class)} classes: {names}; {empty[0].reason}; {len(self.y)} records "
                "of the others are kept. Allowed: a lower conf_min, a larger iter_max, attempts or budget"
            )
        return self

    def rows(self) -> list[dict[str, int | float | str]]:
        """`by_class` as plain rows for a table."""
        return [dataclasses.asdict(one) for one in self.by_class]


class HillClimb:
    """Algorithm 1 of Shokri et al. 2017 under a configuration."""

    def __init__(self, config: HillClimbConfig) -> None:
        """Nothing is asked yet."""
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
        """Climb until every record is reached or given up, or the budget is spent.

        Args:
            query: the target; called with ``(m, *shape)`` float32, read-only and valid during the call, once a step and copy.
            shape: of one record.
            seed: of every random number.
            stop: looked at before each step. Where it is set, the state is saved at `resume` and Interrupted raised.
            progress: told of every step.
            resume: an ``.npz`` with the state of climbs that were stopped: continued from if it exists (to the very result of an
                undisturbed run; `budget` may be another), and written again at a stop and at the end.

        Raises:
            UserError: the shape does not fit the kind; the target publishes labels only or what are no probabilities of these classes;
                the file at `resume` is of other climbs.
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
            wanted = "(height, width, channels)" if config.kind == "image" else "at least one feature"
            raise UserError(f"kind={config.kind}: records have shape {shape}; allowed: {wanted}")
        if config.gridded:
            grids = grids_for(min(shape[:2]))
            moves: Moves = GridMoves(shape, grids=grids, low=config.low, high=config.high, background=config.background)
        else:
            moves = FeatureMoves(d, binary=config.kind == "binary", low=config.low, high=config.high, ones=config.ones)
        if config.k_min > moves.size(0):
            raise UserError(
                f"k_min={config.k_min}: there are {moves.size(0)} features to change; allowed: 1 to {moves.size(0)}"
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
        asked, reached, given_up = (
            np.bincount(label[mask], minlength=config.classes) for mask in (slice(None), results.done, results.gave_up)
        )
        counts = []
        for c in range(config.classes):
            why = []
            if given_up[c]:
                why.append(f"{results.failed[c]} climbs ended after {config.iter_max} proposals (iter_max)")
            if asked[c] > reached[c] + given_up[c]:
                why.append(f"the budget of {config.budget} queries was spent")
            counts.append(
                ClassCount(
                    label=c,
                    asked=int(asked[c]),
                    reached=int(reached[c]),
                    failed=int(results.failed[c]),
                    queries=int(results.queries[c]),
                    best_confidence=float(results.best[c]),
                    reason="; ".join(why),
                )
            )
        done = np.flatnonzero(results.done)
        return Climbed(
            x=results.x[done].reshape(len(done), *shape), y=label[done], confidence=results.confidence[done], queries=queries,
            by_class=tuple(counts),
        )  # fmt: skip
