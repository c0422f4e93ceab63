"""Columns of the report's tables of attacks: the headline metrics, the bounds, and the metrics of other packages that a run has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memberscope.audit import artifacts
from memberscope.metrics import registry
from memberscope.tracking import KeptRun

BUILT_IN = registry.builtin()
COLUMNS = tuple((spec.name, spec.column_heading) for spec in BUILT_IN if spec.headline)
"""Metric and heading; each value has its interval beneath it."""
BOUNDS = tuple((spec.name, spec.heading) for spec in BUILT_IN if spec.ceiling is not None)
"""The same for lower bounds; each has its ceiling beneath it."""


@dataclass(frozen=True, kw_only=True)
class Extra:
    """A metric of another package, as the page shows it.

    Attributes:
        metric: its name.
        heading: its heading on the page.
        about: a description; ``""`` where the package is not installed here.
        digits: the number of digits after the decimal point.
        headline: whether it is shown among the headline's metrics.
        range: its lowest and highest value; None where the package is not installed here.
    """

    metric: str
    heading: str
    about: str = ""
    digits: int = 3
    headline: bool = False
    range: tuple[float, float] | None = None


def extra(runs: Sequence[KeptRun]) -> tuple[Extra, ...]:
    """The metrics of other packages for which the runs have a value, whether or not the package is installed where the page is rendered."""
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
    """Descriptions of other packages' metrics, as sentences for a note; ``""`` if there are none."""
    return "".join(f" {one.heading}: {one.about.rstrip('.')}." for one in metrics if one.about)
