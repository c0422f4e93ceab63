"""The ratio that each benchmark is to reach, and the last line that it prints.

A quick run is too small to show some of the ratios: fixed costs weigh more in it, or the slowest part of the peer's work is left out.
It then has a target of its own, about two thirds of the lowest ratio that was measured at that size on two busy cores.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """A ratio that is wanted.

    Attributes:
        full: of a full run.
        quick: of a quick run, with the reason why it is another one in `why`; None where it is the same.
        why: see above.
    """

    full: float
    quick: float | None = None
    why: str = ""

    def of(self, *, quick: bool) -> float:
        """The ratio that such a run is to reach."""
        return self.full if self.quick is None or not quick else self.quick


TARGETS = {
    "attacks": Target(full=40, quick=8, why="few records, without the random forest; 11 to 13 were measured"),
    "audit": Target(full=1),
    "big": Target(full=1),
    "case_study": Target(full=1.5),
    "dp": Target(full=10),
    "exposure": Target(full=1),  # of 30 seconds; a quick run has 10 seconds for less
    "fleet": Target(full=15, quick=8, why="three Keras models and one fleet, timed once; 11 to 13 were measured"),
    "fleet, conv": Target(full=1.6, quick=0.9, why="two models, two epochs; 1.3 to 2.2 were measured"),
    "fleet, dense": Target(full=8, quick=7, why="a tenth of the records; 10 to 12 were measured"),
    "ladder": Target(full=1.5, quick=1.2, why="one seed, so that what starts and concludes a study counts; 1.4 was measured"),
    "lira": Target(full=100),
    "loss_trace": Target(full=1),
    "neighbours": Target(full=4, quick=1.8, why="a third of the records; 2.6 was measured"),
    "peers": Target(full=2, quick=0.5, why="8 shadow models, so that what is done once counts most; 0.8 was measured"),
    "rmia": Target(full=0.99),
    "settings": Target(full=0.99),
    "start": Target(full=2),
    "sweep": Target(full=4),
    "synthesis": Target(full=50),
    "trace_against_lira": Target(full=1),
    "variances": Target(full=0.99),
    "trainer": Target(full=1.6, quick=1.2, why="models of half a second, so that the start of processes counts"),
}


def target_text(name: str, *, quick: bool) -> str:
    """A target in parentheses, with the reason where it is a quick run's own."""
    found = TARGETS[name]
    own = f"; a quick run's own: {found.why}" if quick and found.quick is not None else ""
    return f"(target {found.of(quick=quick):g}){own}"


def last_line(name: str, ratio: float, *, quick: bool, digits: int = 2) -> str:
    """What a benchmark prints last: ``NAME: ratio R (target T)``, followed by the reason where T is a quick run's own."""
    return f"{name}: ratio {ratio:.{digits}f} {target_text(name, quick=quick)}"
