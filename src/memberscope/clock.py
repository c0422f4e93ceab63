"""What a run's time is spent on: seconds by stage, of the clock on the wall and of the processor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

SECONDS, PROCESSOR_SECONDS = "seconds", "processor_seconds"
"""How the names of the metrics begin; a stage follows, as in ``seconds/attacks``."""


class Stage(StrEnum):
    """A part of an audit whose duration is logged."""

    IMPORTS = "imports"  # from the start of the process: Python, libraries and the code of the study
    MODEL = "model"  # reads the records, loads the model and queries it
    ATTACKS = "attacks"
    INTERVALS = "intervals"  # metrics of all slices, with their intervals
    CONTROLS = "controls"
    FIGURES = "figures"
    TRACKING = "tracking"  # whatever is written to the run, up to the moment when the evaluator sends its report


@dataclass(kw_only=True, eq=False)
class Clock:
    """Adds up the time that is spent in each stage.

    Time counts for one stage only: while a stage is entered within another, the outer one stands still.

    Attributes:
        wall: seconds by stage, as they pass on a clock.
        processor: processor seconds of this process by stage, its threads included.
    """

    wall: dict[Stage, float] = field(default_factory=dict)
    processor: dict[Stage, float] = field(default_factory=dict)
    _entered: list[Stage] = field(default_factory=list)
    _since: tuple[float, float] = (0.0, 0.0)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Count the time in the block, except for what other stages within it take."""
        self._turn()
        self._entered.append(stage)
        try:
            yield
        finally:
            self._turn()
            self._entered.pop()

    def _turn(self) -> None:
        """Credit the stage that is running with the time since the last turn."""
        now = time.perf_counter(), time.process_time()
        if self._entered:
            self.add(self._entered[-1], wall=now[0] - self._since[0], processor=now[1] - self._since[1])
        self._since = now

    def add(self, stage: Stage, *, wall: float, processor: float) -> None:
        """Add seconds that were measured elsewhere."""
        self.wall[stage] = self.wall.get(stage, 0.0) + wall
        self.processor[stage] = self.processor.get(stage, 0.0) + processor

    def metrics(self) -> dict[str, float]:
        """Metrics ``seconds/STAGE`` and ``processor_seconds/STAGE`` of the stages that were entered so far, to the millisecond."""
        self._turn()
        by_name = ((SECONDS, self.wall), (PROCESSOR_SECONDS, self.processor))
        return {f"{name}/{stage}": round(found[stage], 3) for name, found in by_name for stage in Stage if stage in found}
