"""Logs which records a fleet exposes: metrics, tables, figures, and sentences for the study's page.

What is stored of single records follows `docs/what_runs_reveal.md`: rows under keyed identities in the order of exposure, with rounded
values and without anything that could be computed from a record's content alone; nothing if the run is to be private; the records
themselves only if they are to be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.audit import artifacts
from memberscope.config.outside import ShadowStudyConfig
from memberscope.exposure.ensemble import Ensemble
from memberscope.exposure.table import SIGNAL, Exposure
from memberscope.metrics import rate_name
from memberscope.metrics.rounding import logged
from memberscope.secret import key
from memberscope.studies.shadow import exposure_figures as figures
from memberscope.studies.shadow.evidence import FleetOutputs
from memberscope.studies.shadow.exposure import Found
from memberscope.tracking import Tracker

if TYPE_CHECKING:
    import pandas as pd

LEAST_TARGETS = (
    4  # fewest targets for which rows say how often a record was found: with fewer, they would tell under which it was a member
)
LEAST_GROUP = 10  # fewest records of a class or kind of label of which a private run stores a mean
TABLE_ROWS = 100  # of the table that is compared across runs
THUMBNAILS = 25
DIGITS = 2  # of the values in rows under keyed identities, and two more of p-values


def log_exposure(found: Found, outputs: FleetOutputs, config: ShadowStudyConfig, tracker: Tracker) -> list[str]:
    """Log everything that was found; returns sentences for the study's page."""
    exposure = found.exposure
    tracker.metrics(exposure_metrics(found))
    tracker.table(found.summary, artifacts.EXPOSURE_SUMMARY)
    tracker.table(found.correlations, artifacts.EXPOSURE_CORRELATIONS)
    groups = found.groups[found.groups["records"] >= LEAST_GROUP] if config.private_artifacts else found.groups
    tracker.table(groups, artifacts.EXPOSURE_GROUPS)
    tracker.table(found.pairs, artifacts.AGREEMENT)
    tracker.table(found.sets, artifacts.AGREEMENT_SETS)
    tracker.table(ensemble_table(found.ensembles), artifacts.ENSEMBLE)
    tracker.figure(figures.histograms(exposure), artifacts.EXPOSURE_FIGURE)
    if not config.private_artifacts and (outputs.plan.design == "half" or len(outputs.plan.targets) >= LEAST_TARGETS):
        rows = record_rows(exposure, outputs, show=config.show_records)
        tracker.table(rows, artifacts.EXPOSURE)
        of_attacks = [one.name for one in exposure.detections if one.at == "own" and one.attack != SIGNAL]
        short = (
            [column for column in rows.columns if not column.startswith(tuple(of_attacks))]
            if of_attacks
            else list(rows.columns)
        )
        tracker.table(rows[short].head(TABLE_ROWS), artifacts.EXPOSURE_TABLE)
        tracker.figure(figures.scatter(exposure), artifacts.EXPOSURE_SCATTER)
        if config.show_records:
            _log_pictures(exposure, outputs, tracker)
    return sentences(found)


def record_rows(exposure: Exposure, outputs: FleetOutputs, *, show: bool) -> pd.DataFrame:
    """A row per record, the most exposed first.

    Args:
        exposure: the measures.
        outputs: of the models.
        show: whether records are named by their positions in the data set, with everything that is known. Otherwise they are named by
            keyed identities, values are rounded, and what could be computed from the record's content, or would say under which
            target it was a member, is left out.
    """
    frame = exposure.to_frame()
    identities = key().identities(exposure.record_ids, source=outputs.data.digest)
    order = exposure.ranking(identities)  # equal ones must not stand in the order of the plan
    if show:
        found = frame.rename(columns={"record": "position"}).iloc[order].reset_index(drop=True)
        found.insert(0, "rank", np.arange(1, len(found) + 1))
        return found
    few = len(outputs.plan.targets) < LEAST_TARGETS
    of_targets = [one.name for one in exposure.detections if one.attack != SIGNAL]
    hidden = {"models_in", "models_out", "reason", *exposure.columns, *(f"{one.name}_false" for one in exposure.detections)}
    hidden |= {f"{name}{end}" for name in of_targets for end in (("", "_low", "_high") if few else ("_low", "_high"))}
    kept = [column for column in frame.columns if column not in hidden and not frame[column].isna().all()]
    found = frame[kept].copy()
    found["record"] = [f"{identity:016x}" for identity in identities.tolist()]
    numbers = [column for column in kept if frame[column].dtype.kind == "f"]
    found[numbers] = found[numbers].round({column: DIGITS + 2 * column.endswith("_p") for column in numbers})
    found = found.iloc[order].reset_index(drop=True)
    found.insert(0, "rank", np.arange(1, len(found) + 1))
    return found


def _log_pictures(exposure: Exposure, outputs: FleetOutputs, tracker: Tracker) -> None:
    """Pictures of the most memorized records, where they are images and known."""
    from memberscope import plots

    if not outputs.known_inputs or np.isnan(exposure.memorization.value).all():
        return
    chosen = np.lexsort(
        (-np.nan_to_num(exposure.privacy_score.value, nan=-2.0), -np.nan_to_num(exposure.memorization.value, nan=-2.0))
    )
    images = outputs.data.inputs(exposure.record_ids[chosen[:THUMBNAILS]])
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        return
    if images.dtype != np.uint8:
        images = np.clip(images / (255.0 if images.max() > 1 else 1.0), 0, 1)
    assert exposure.labels is not None
    names = [f"{exposure.labels[one]}: {exposure.memorization.value[one]:.2f}" for one in chosen[:THUMBNAILS]]
    figure = plots.sample_figure(images, names, title="most memorized records (class: memorization)")
    tracker.figure(figure, artifacts.EXPOSURE_PICTURES)


def exposure_metrics(found: Found) -> dict[str, float]:
    """Counts and means as metrics: ``exposure/shown``, ``exposure/memorization_mean``, ``members_found_fpr_0_01/lira_online``, ..."""
    exposure = found.exposure
    values: dict[str, float] = {"exposure/records": float(len(exposure)), "exposure/shown": float(exposure.shown.sum())}
    for measure_ in exposure.measures:
        known = measure_.value[~np.isnan(measure_.value)]
        if len(known):
            values[f"exposure/{measure_.name}_mean"] = float(known.mean())
            values[f"exposure/{measure_.name}_max"] = float(known.max())
    for row in found.summary.to_dict("records"):
        if row["at"] == "pooled" or row["attack"] == SIGNAL:
            at = "" if row["at"] == "pooled" else "_own"
            values[f"members_found{at}_fpr_{rate_name(row['fpr'])}/{row['attack']}"] = float(row["found"])
    for one in found.ensembles:
        if one.chosen is not None:
            values[f"ensemble/tpr_at_fpr_{rate_name(one.fpr)}"] = one.tpr
            values[f"ensemble/gain_at_fpr_{rate_name(one.fpr)}"] = one.gain
    return {
        name: number for metric, value in values.items() if value == value for name, number in logged(metric, "", value).items()
    }


def ensemble_table(ensembles: Sequence[Ensemble]) -> pd.DataFrame:
    """A row per false positive rate: the fields of `Ensemble`, lists as text."""
    import pandas as pd

    rows = []
    for one in ensembles:
        row: dict[str, Any] = asdict(one)
        row["chosen"] = one.chosen.name if one.chosen else ""
        row |= {name: " ".join(map(str, row[name])) for name in ("chosen_on", "reported_on")}
        rows.append(row)
    return pd.DataFrame(rows)


def sentences(found: Found) -> list[str]:
    """What to know first, for people."""
    exposure = found.exposure
    models = int((exposure.models_in + exposure.models_out).max(initial=0))
    lines = [
        f"{int(exposure.shown.sum()):,} of {len(exposure):,} records are shown to be exposed by their own membership ({models} models; "
        "the chance of any false claim among all records is at most 5%)."
    ]
    smallest = exposure.smallest_memorization
    known = exposure.memorization.value[~np.isnan(exposure.memorization.value)]
    if len(known):
        claim = "no memorization of a single record can be shown" if smallest != smallest else f"above {smallest:.2f}"
        lines.append(
            f"Memorization: mean {known.mean():.3f}, largest {known.max():.2f}; with these models, "
            + (
                f"{claim}."
                if smallest != smallest
                else f"it must be {claim} to be claimed of a single record chosen among all."
            )
        )
    lines += [_found_line(row) for row in _first_attack(found.summary)]
    for one in found.ensembles:
        if one.chosen is None:
            lines.append(f"Ensemble: none, {one.reason}.")
            break
        ends = "" if one.gain_low != one.gain_low else f" (95% {one.gain_low:+.4f} to {one.gain_high:+.4f})"
        lines.append(
            f"Ensemble at an FPR of {one.fpr:g}: `{one.chosen.name}`, chosen of {one.tried} on {len(one.chosen_on)} targets, finds "
            f"{one.tpr:.4f} of the members of the {len(one.reported_on)} others; `{one.best_alone}` alone finds {one.alone_tpr:.4f}, "
            f"difference {one.gain:+.4f}{ends}."
        )
    return [*lines, *found.notes]


def _first_attack(summary: pd.DataFrame) -> list[Mapping[str, Any]]:
    """The rows of LiRA, or else of the first attack, at pooled thresholds."""
    pooled = summary[summary["at"] == "pooled"]
    if not len(pooled):
        return []
    names = list(dict.fromkeys(pooled["attack"]))
    chosen = next((name for name in ("lira_online", "lira_offline") if name in names), names[0])
    found: list[Mapping[str, Any]] = pooled[pooled["attack"] == chosen].to_dict("records")
    return found


def _found_line(row: Mapping[str, Any]) -> str:
    return (
        f"At an FPR of {row['fpr']:g}, `{row['attack']}` finds {row['found']:.1f} of a target's {row['members']:,.0f} members (mean over "
        f"{row['targets']} targets); expected by chance: {row['expected']:.1f}."
    )
