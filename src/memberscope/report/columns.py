"""Columns of the report's tables of attacks: the headline metrics, the bounds, and what other packages' metrics a run has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memberscope.audit import artifacts
from memberscope.metrics import registry
from memberscope.tracking import KeptRun

BUILT_IN = registry.builtin()
COLUMNS = tuple((spec.name, spec.column_heading) for spec in BUILT_IN if spec.headline)
"""Metric and heading, with an interval beneath each figure."""
BOUNDS = tuple((spec.name, spec.heading) for spec in BUILT_IN if spec.ceiling is not None)
"""The same for lower bounds, each with its ceiling beneath."""


@dataclass(frozen=True, kw_only=True)
class Extra:
    """A metric of another package, as the page shows it.

    Attributes:
        metric: its name.
        heading: in words.
        about: what it is; ``""`` where the package is not installed here.
        digits: after the decimal point.
        headline: does it stand among the headline's figures?
        range: its lowest and highest value; None where the package is not installed here.
    """

    metric: str
    heading: str
    about: str = ""
    digits: int = 3
    headline: bool = False
    range: tuple[float, float] | None = None


def extra(runs: Sequence[KeptRun]) -> tuple[Extra, ...]:
    """The metrics of other packages that the runs have a value of, whether or not the package is installed where the page is made."""
    ours = {spec.name for spec in BUILT_IN}
    found: dict[str, Extra] = {}
    for run in runs:
        frame = run.tables[artifacts.ATTACKS]
        given = frame[(frame["slice"] == "entire") & frame["value"].notna()]["metric"].astype(str)
        for name in given.unique():
            if name not in ours and name not in found:
                spec = registry.find(name)
                found[name] = (
                    Extra(metric=name, heading=name)
                    if spec is None
                    else Extra(
                        metric=name,
                        heading=spec.column_heading,
                        about=spec.about,
                        digits=spec.digits,
                        headline=spec.headline,
                        range=spec.range,
                    )
                )
    return tuple(found.values())


def legend(metrics: Sequence[Extra]) -> str:
    """What other packages' metrics are, as sentences for a note; ``""`` if there is none."""
    return "".join(f" {one.heading}: {one.about.rstrip('.')}." for one in metrics if one.about)
