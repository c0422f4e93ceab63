"""The state of many climbs, one step of Algorithm 1 (Shokri et al. 2017) for all of them at once, and the file of the state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array
from memberscope.errors import UserError
from memberscope.npz import read_npz, write_npz
from memberscope.synthesis.draws import Draws, Index, Words, start
from memberscope.synthesis.moves import Inputs, Moves

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ask = Callable[[Inputs, Index], tuple[Floats, Bools, Floats]]
"""Records (n, d) and their classes (n,) -> confidence in the class, whether no class has more, and the climb's objective, (n,) each."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The constants of the algorithm, from `hill_climb.HillClimbConfig`; `first_k` is the first k of each level."""

    first_k: tuple[int, ...]
    k_min: int
    conf_min: float
    rej_max: int
    iter_max: int
    attempts: int
    copies: int


@dataclass(kw_only=True)
class ClimbResults:
    """The results of climbs for r records, and the counts by class.

    Attributes:
        x: (r, d) the records found; 0 where `done` is false.
        confidence: (r,) the target's confidence in each.
        done, gave_up: (r,) whether the record was found; whether all attempts failed.
        queries, failed, best: (classes,) number of queries, number of climbs that failed, highest confidence.
    """

    x: Inputs
    confidence: Floats
    done: Bools
    gave_up: Bools
    queries: NDArray[np.int64]
    failed: NDArray[np.int64]
    best: Floats

    @classmethod
    def empty(cls, records: int, width: int, classes: int) -> ClimbResults:
        """The results before the first query."""
        return cls(
            x=np.zeros((records, width), np.float32), confidence=np.zeros(records), done=np.zeros(records, np.bool_),
            gave_up=np.zeros(records, np.bool_), queries=np.zeros(classes, np.int64), failed=np.zeros(classes, np.int64),
            best=np.zeros(classes),
        )  # fmt: skip


@dataclass(kw_only=True)
class Rows:
    """The climbs in progress, in the first `ClimbState.active` rows of each array.

    Attributes:
        x: (m, d) the last accepted record x*; during a step, the proposal.
        objective: (m,) its objective y*_c; minus infinity before the first query.
        record, attempt: (m,) the number of the record that a climb is for, and the number of the attempt, from 0.
        iteration, rejections, k, level: (m,) proposals made, rejections in a row, features changed at a time, refinements of the grid.
        state: (m,) the states of the random sequences.
    """

    x: Inputs
    objective: Floats
    record: Index
    attempt: Index
    iteration: Index
    rejections: Index
    k: Index
    level: Index
    state: Words

    @classmethod
    def empty(cls, m: int, width: int) -> Rows:
        """Arrays for m climbs."""
        whole = [np.zeros(m, np.intp) for _ in range(6)]
        return cls(
            x=np.zeros((m, width), np.float32), objective=np.full(m, -np.inf), record=whole[0], attempt=whole[1], iteration=whole[2],
            rejections=whole[3], k=whole[4], level=whole[5], state=np.zeros(m, np.uint64),
        )  # fmt: skip

    def move(self, source: Index, destination: Index) -> None:
        """Copy rows to other rows."""
        for item in fields(self):
            array = getattr(self, item.name)
            array[destination] = array[source]


class ClimbState:
    """The state of up to `parallel` climbs for `records` records; record s is of class s modulo `classes`."""

    def __init__(self, moves: Moves, rules: Rules, *, width: int, records: int, classes: int, parallel: int, seed: int) -> None:
        """Start the first climbs at their random records; nothing is queried yet."""
        self._moves, self._rules, self._seed, self._classes = moves, rules, seed, classes
        self.results = ClimbResults.empty(records, width, classes)
        self.active, self._next, self.queries = 0, 0, 0
        capacity = min(parallel, records)
        self._rows = Rows.empty(capacity, width)
        self._draws = Draws(self._rows.state)
        self._open(np.arange(capacity))
        self.active = capacity

    def _open(self, rows: Index) -> None:
        """Begin climbs for the next records in `rows`."""
        self._rows.record[rows] = np.arange(self._next, self._next + len(rows))
        self._rows.attempt[rows] = 0
        self._next += len(rows)
        self._begin(rows)

    def _begin(self, rows: Index) -> None:
        """Begin climbs in `rows` (lines 2 to 5)."""
        at = self._rows
        at.state[rows] = start(self._seed, at.record[rows], at.attempt[rows])
        at.objective[rows] = -np.inf
        at.iteration[rows] = at.rejections[rows] = at.level[rows] = 0
        at.k[rows] = self._rules.first_k[0]
        self._moves.begin(at.x, self._draws, rows)

    def step(self, ask: Ask, room: int) -> None:
        """One iteration of lines 6 to 25 for the first `room` climbs; it takes `room` times the number of copies queries."""
        at, rules, results = self._rows, self._rules, self.results
        rows = np.arange(min(room, self.active))
        label = at.record[rows] % self._classes
        undo = self._moves.propose(
            at.x, self._draws, rows[at.iteration[rows] > 0], at.k, at.level
        )  # line 24 of the last iteration
        confidence, top, objective = ask(at.x[: len(rows)], label)  # line 7
        self.queries += len(rows) * rules.copies
        results.queries += np.bincount(label, minlength=self._classes) * rules.copies
        np.maximum.at(results.best, label, confidence)
        at.iteration[rows] += 1
        better = objective >= at.objective[rows]  # line 8
        last = at.level[rows] == self._moves.levels - 1
        sampled = rows[better & last & (confidence > rules.conf_min) & top]  # line 9
        taken = sampled[self._draws.chance(sampled) < confidence[sampled]]  # line 10
        at.objective[rows[better]] = objective[better]  # line 15
        at.rejections[rows] = np.where(better, 0, at.rejections[rows] + 1)  # lines 16 and 18
        self._narrow(rows[at.rejections[rows] > rules.rej_max])
        rejected = np.zeros(len(at.k), np.bool_)
        rejected[rows] = ~better
        undo(rejected)  # line 14 for the others
        found = at.record[taken]
        results.x[found], results.confidence[found], results.done[found] = at.x[taken], confidence[taken], True  # line 11
        self._close(rows, taken)

    def _narrow(self, rows: Index) -> None:
        """Lines 20 and 21; if k is at its minimum already, the next level instead."""
        at, rules = self._rows, self._rules
        refine = (at.k[rows] <= rules.k_min) & (at.level[rows] < self._moves.levels - 1)
        finer, coarser = rows[refine], rows[~refine]
        at.level[finer] += 1
        at.k[finer] = np.asarray(rules.first_k)[at.level[finer]]
        at.k[coarser] = np.maximum(rules.k_min, -(-at.k[coarser] // 2))
        at.rejections[rows] = 0

    def _close(self, rows: Index, taken: Index) -> None:
        """End the climbs that returned a record or failed (line 26), and begin others in their rows, or fill the rows with the last."""
        at, rules, results = self._rows, self._rules, self.results
        over = np.setdiff1d(rows[at.iteration[rows] >= rules.iter_max], taken, assume_unique=True)
        results.failed += np.bincount(at.record[over] % self._classes, minlength=self._classes)
        again = over[at.attempt[over] + 1 < rules.attempts]
        at.attempt[again] += 1
        self._begin(again)
        lost = np.setdiff1d(over, again, assume_unique=True)
        results.gave_up[at.record[lost]] = True
        free = np.union1d(taken, lost)
        reused = free[: len(results.done) - self._next]
        self._open(reused)
        holes = free[len(reused) :]
        left = self.active - len(holes)
        self._rows.move(np.setdiff1d(np.arange(left, self.active), holes), holes[holes < left])
        self.active = left

    def save(self, path: Path, signature: str) -> None:
        """Write the state, with the `signature` of the climbs."""
        arrays: dict[str, Array] = {f"row_{i.name}": getattr(self._rows, i.name)[: self.active] for i in fields(Rows)}
        arrays |= {f"ledger_{i.name}": getattr(self.results, i.name) for i in fields(ClimbResults)}
        arrays["ledger_x"] = self.results.x[self.results.done]
        arrays |= {"counts": np.array([self._next, self.queries]), "signature": np.array(signature)}
        write_npz(path, arrays)

    def load(self, path: Path, signature: str) -> None:
        """Read the state that `save` wrote.

        Raises:
            UserError: the file is not the state of these climbs.
        """
        arrays = read_npz(path)
        if "signature" not in arrays or str(arrays["signature"]) != signature:
            raise UserError(
                f"{path}: not the state of these climbs; allowed: a state of the same configuration, shape and seed, or no file"
            )
        self._next, self.queries = (int(value) for value in arrays["counts"])
        for item in fields(ClimbResults):
            if item.name != "x":
                setattr(self.results, item.name, arrays[f"ledger_{item.name}"])
        self.results.x[self.results.done] = arrays["ledger_x"]
        self.active = len(arrays["row_k"])
        for item in fields(Rows):
            getattr(self._rows, item.name)[: self.active] = arrays[f"row_{item.name}"]
