"""What the tables that audits and studies store must hold, for those who read them again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from memberscope.audit import artifacts
from memberscope.audit.headline import SLACK, Headline
from memberscope.errors import UserError
from memberscope.metrics import registry
from memberscope.metrics.estimate import STATUSES
from memberscope.reading.tables import Field, checked_table, read_table

if TYPE_CHECKING:
    import pandas as pd

_TEXT, _WORDS = Field(), Field(gaps=True)
_MOST = 1.7e308  # a finite number has at most this size
_VALUE = Field(kind="number", low=-_MOST, high=_MOST, gaps=True)
_COUNT = Field(kind="whole", low=0, high=2**53)
_BOUND = Field(kind="number", low=0, high=_MOST, gaps=True)
_RATE = Field(kind="number", low=0, high=1)
_BY_EPOCH = Field(kind="number", low=-_MOST, high=_MOST, gaps=True, required=False)

NAMING = ("record", "record_id", "position")  # columns that name the most exposed records; each audit has one of them at least
BESIDE_SIGNAL = ("rank", "label", "member", "probability")  # the one that is left is the signal, under its own name

MEASURES = ("memorization", "privacy_score")  # of the table of exposure, those that a page shows

STUDIES: Mapping[str, str] = {
    artifacts.TARGETS: "targets", artifacts.ORDERINGS: "orderings", artifacts.MITIGATIONS: "mitigations",
    artifacts.ATTACK_CHANGES: "attack_changes", artifacts.RESULTS: "trials", artifacts.VERDICTS: "verdicts",
}  # fmt: skip
"""Tables of studies over several models that only ``evidence.json`` repeats, and their names there."""

TABLES: Mapping[str, Mapping[str, Field]] = {
    artifacts.ATTACKS: {
        "attack": _TEXT, "family": _TEXT, "slice": _TEXT, "metric": _WORDS, "value": _VALUE, "ci_low": _VALUE, "ci_high": _VALUE,
        "n_member": _COUNT, "n_nonmember": _COUNT, "status": _TEXT, "reason": _WORDS,
    },
    artifacts.ROC: {"attack": _TEXT, "fpr": _RATE, "tpr": _RATE},
    artifacts.ROC_BAND: {"attack": Field(required=False), "fpr": _RATE, "low": _RATE, "high": _RATE},
    artifacts.HISTORY: {
        "epoch": Field(kind="number", low=0, high=2**53), "train_accuracy": _BY_EPOCH, "val_accuracy": _BY_EPOCH, "train_loss": _BY_EPOCH,
        "val_loss": _BY_EPOCH, "auc": _BY_EPOCH, "advantage": _BY_EPOCH,
    },
    artifacts.MOST_EXPOSED: {
        "rank": _COUNT, "probability": _RATE, "position": Field(kind="whole", low=0, high=2**53, required=False),
    },
    artifacts.BOUNDS: {
        "attack": _TEXT, "records": _TEXT, "method": _TEXT, "primary": _TEXT, "assumes": _TEXT, "threshold": _TEXT,
        "bound": _BOUND, "ceiling": _BOUND, "promise": _BOUND, "ratio": _BOUND, "verdict": _TEXT, "delta": _RATE, "n": _COUNT,
    },
    artifacts.EXPOSURE: {},
    artifacts.EXPOSURE_SUMMARY: {"at": _TEXT, "attack": _TEXT, "fpr": _RATE, "found": _VALUE, "expected": _VALUE},
    artifacts.GATE: {"rule": _TEXT, "attack": _TEXT, "slice": _TEXT, "value": _VALUE, "verdict": _TEXT},
    artifacts.EXPERIMENTS: {
        "experiment": _TEXT, "first": _TEXT, "second": _TEXT, "verdict": _TEXT, "difference": _VALUE, "ci_low": _VALUE, "ci_high": _VALUE,
        "p_holm": _VALUE, "seeds": _WORDS,
    },
} | {name: {} for name in STUDIES}  # fmt: skip
"""Artifact -> column -> what it holds; these are the tables that are read."""


def read(name: str, text: str, *, where: str, allowed: str) -> pd.DataFrame | None:
    """A table of `TABLES`; None if it has no content.

    Args:
        name: of the artifact.
        text: its content.
        where: the beginning of an error: the run and the artifact.
        allowed: the end of an error.

    Raises:
        UserError: it is no such table, or an attack's metric has a value that the metric cannot have.
    """
    frame = read_table(text, TABLES[name], where=where, allowed=allowed)
    return None if frame is None else _checked(name, frame, where=where, allowed=allowed)


def of_rows(name: str, frame: pd.DataFrame, *, where: str, allowed: str) -> pd.DataFrame:
    """A table of `TABLES` that is there as rows; for arguments and errors see `read`."""
    return _checked(name, checked_table(frame, TABLES[name], where=where, allowed=allowed), where=where, allowed=allowed)


def check_headline(headline: Headline, attacks: pd.DataFrame, *, where: str, allowed: str) -> None:
    """Raise UserError if the headline is of attacks that the table does not have; `where` names the two."""
    known = set(attacks["attack"])
    if strange := [name for name in headline.candidates if name not in known]:
        raise UserError(
            f"{where}: {artifacts.HEADLINE} has the attack {strange[0]}, and {artifacts.ATTACKS} does not; allowed: {allowed}"
        )


def _checked(name: str, frame: pd.DataFrame, *, where: str, allowed: str) -> pd.DataFrame:
    """The table with what must hold for it beyond its columns; UserError where it does not."""
    if name == artifacts.ATTACKS:
        _check_attacks(frame, where=where, allowed=allowed)
    if name == artifacts.MOST_EXPOSED:
        return _exposed(frame, where=where, allowed=allowed)
    if name == artifacts.EXPOSURE:
        measures = [
            column for column in map(str, frame.columns) if column.removesuffix("_low").removesuffix("_high") in MEASURES
        ]
        return checked_table(frame, dict.fromkeys(measures, _VALUE), where=where, allowed=allowed)
    if name == artifacts.EXPOSURE_SUMMARY and frame.duplicated(["at", "attack", "fpr"]).any():
        raise UserError(f"{where} has two rows of the same attack and rate; allowed: {allowed}")
    return frame


def _exposed(frame: pd.DataFrame, *, where: str, allowed: str) -> pd.DataFrame:
    """The table with its signal, whatever its name, as numbers; UserError if no column names the records."""
    if not {*NAMING} & {*frame.columns}:
        raise UserError(f"{where} has no column {' or '.join(NAMING)}; allowed: {allowed}")
    signal = next((str(name) for name in frame.columns if name not in (*NAMING, *BESIDE_SIGNAL)), None)
    return frame if signal is None else checked_table(frame, {signal: _VALUE}, where=where, allowed=allowed)


def _check_attacks(frame: pd.DataFrame, *, where: str, allowed: str) -> None:
    """Raise UserError unless the table is about the entire data set, too, and each metric is within its range."""
    if len(frame) and not (frame["slice"] == "entire").any():
        raise UserError(f"{where} has no row of the entire data set; allowed: {allowed}")
    for status in frame["status"].unique():
        if status not in STATUSES:
            raise UserError(f"{where}: status {status!r}; allowed: {', '.join(STATUSES)}, {allowed}")
    ranges = {
        metric: (-math.inf, math.inf) if (spec := registry.find(str(metric))) is None else spec.range
        for metric in frame["metric"].dropna().unique()
    }
    low, high = (frame["metric"].map({metric: ends[end] for metric, ends in ranges.items()}) for end in (0, 1))
    odd = (frame["value"] < low - SLACK) | (frame["value"] > high + SLACK)  # a missing one is neither
    if odd.any():
        row = int(odd.to_numpy().argmax())
        metric, value = frame["metric"].iloc[row], frame["value"].iloc[row]
        span = f"{low.iloc[row]:g} to {high.iloc[row]:g}"
        raise UserError(f"{where}, row {odd.index[row]}: {metric} is {value:g}; allowed: {span}, {allowed}")
