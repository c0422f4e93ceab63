"""Whether a seed determines the result of a training: one model is trained a second time, and its outputs are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memberscope.metrics.rounding import logged
from memberscope.tracking import Tracker
from memberscope.training.query import Query
from memberscope.training.trainer import Execution, Fleet, Outputs, Trainer, TrainingJob

METRIC, TAG = "control/seed_difference", "memberscope.seed_determines"
RTOL, ATOL = 1e-3, 1e-4  # outputs of two trainings that differ by less than this are the same but for rounding


@dataclass(frozen=True, kw_only=True)
class SeedCheck:
    """The comparison of two trainings of one job.

    Attributes:
        difference: the largest absolute difference of any output.
        determines: whether all outputs agree but for rounding.
    """

    difference: float
    determines: bool

    @property
    def sentence(self) -> str:
        """The finding, for the run's description and the terminal."""
        if not self.determines:
            return (
                f"The seed does not determine the result: a second training of the first model gave outputs that differ by up to "
                f"{self.difference:.3g}, so a rerun gives different results."
            )
        how = "the same outputs" if not self.difference else f"outputs that differ by {self.difference:.1e} at most"
        return f"The seed determines the result: a second training of the first model gave {how}."


def compare(first: Sequence[Outputs], second: Sequence[Outputs]) -> SeedCheck:
    """Compare the outputs of two trainings for the same arrays of records."""
    gaps = [np.abs(a.astype(np.float64) - b).max(initial=0.0) for a, b in zip(first, second, strict=True)]
    alike = [bool(np.allclose(a, b, rtol=RTOL, atol=ATOL)) for a, b in zip(first, second, strict=True)]
    return SeedCheck(difference=float(max(gaps, default=0.0)), determines=all(alike))


def check_fleet(fleet: Fleet, trainer: Trainer, job: TrainingJob, run: Execution) -> SeedCheck:
    """Train the first model of a fleet again, and compare its outputs with those of the fleet.

    Args:
        fleet: the models.
        trainer: trained them.
        job: the job of the first.
        run: where to train, without a store, and the declared queries; those for outputs of the first model are compared.
    """
    queries = [query for query in run.queries if query.concerns(0) and "outputs" in query.measures]
    asked = queries or [Query(index=job.indices)]
    again = trainer.train([job], run)
    pairs = [
        (fleet.outputs(x, models=[0])[0], again.outputs(x, models=[0])[0]) for query in asked for x in query.arrays(job.data.x)
    ]
    return compare([first for first, _ in pairs], [second for _, second in pairs])


def log_check(check: SeedCheck, tracker: Tracker) -> None:
    """Log the difference as a metric, and the answer as a tag."""
    tracker.metrics(logged(METRIC, "", check.difference))
    tracker.tags({TAG: "yes" if check.determines else "no"})
