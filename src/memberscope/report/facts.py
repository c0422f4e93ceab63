"""Reads a stored run as plain values: its headline, metrics, controls, gate and history by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from memberscope.audit import artifacts, kept_controls
from memberscope.audit import headline as speaks
from memberscope.audit.groups import ROWS
from memberscope.audit.headline import Headline
from memberscope.audit.kept_controls import KeptControl
from memberscope.metrics import Estimate, rate_name, registry, skipped
from memberscope.reading.text import plain_object
from memberscope.tracking import KeptRun

if TYPE_CHECKING:
    import pandas as pd

OUTSIDE = {"shadow", "metric", "population"}  # families that learn from models other than the target
RATES = {f"tpr_at_fpr_{rate_name(rate)}": f"1 in {round(1 / rate):,}" for rate in sorted(registry.RATES)}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A metric's value with its interval, each None where it is not known."""

    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    status: str = "ok"
    reason: str = ""


def audited(runs: list[KeptRun]) -> list[KeptRun]:
    """The runs that have an attack table, each with its headline. A given run without a table stands for its descendants that have one, and
    these have what it says of the records' exposure.
    """
    found: list[KeptRun] = []
    for run in runs:
        if len(run.tables.get(artifacts.ATTACKS, ())):
            found.append(with_headline(run))
        else:
            found += audited([_with_exposure(child, run) for child in run.children])
    return list({run.id: run for run in found}.values())


def _with_exposure(child: KeptRun, parent: KeptRun) -> KeptRun:
    """A model's run with its fleet's results on the exposure of records, and with its bounds of epsilon, including those from canaries."""
    fleet = (artifacts.EXPOSURE, artifacts.EXPOSURE_SUMMARY)
    if artifacts.BOUNDS in parent.tables and artifacts.BOUNDS in child.tables and "rung" not in parent.tables[artifacts.BOUNDS]:
        child = replace(child, tables={**child.tables, artifacts.BOUNDS: parent.tables[artifacts.BOUNDS]})
    tables = {name: parent.tables[name] for name in fleet if name in parent.tables}
    if not tables:
        return child
    values = {name: series for name, series in parent.metrics.items() if name.startswith("exposure/")}
    return replace(child, tables={**tables, **child.tables}, metrics={**values, **child.metrics})


def with_headline(run: KeptRun) -> KeptRun:
    """The run with its headline, which is computed unless it was stored."""
    if artifacts.HEADLINE in run.texts or (found := headline(run)) is None:
        return run
    return replace(run, texts={**run.texts, artifacts.HEADLINE: found.to_json()})


def headline(run: KeptRun) -> Headline | None:
    """The primary attack and its metrics; None if no attack ran.

    Runs that were stored before audits had headlines get one by the same rule, from the stored scores of their records: the strongest
    attack on one half of the records, reported on the other half (drawn with seed 0). If scores were not stored, it is the first attack of
    the table, on all records.
    """
    if artifacts.HEADLINE in run.texts:
        return Headline.from_json(run.texts[artifacts.HEADLINE])
    names, (n_member, n_nonmember) = attacks(run), sizes(run)
    if not names:
        return None
    whole = {name: _figures(run, name) for name in names}
    families = {name: family(run, name) for name in names}
    kept = run.scores
    if kept is not None and set(names) <= set(kept.ranks):
        return speaks.find_headline(
            {name: kept.ranks[name] for name in names}, kept.member, families=families, whole=whole, seed=0, units=kept.record_ids,
            labels=kept.labels,
        )  # fmt: skip
    chosen, reason = ("first", "the scores of individual records were not stored") if len(names) > 1 else ("only", "")
    return Headline(
        attack=names[0], family=families[names[0]], chosen=chosen, reason=reason, candidates=tuple(names), n_member=n_member,
        n_nonmember=n_nonmember, figures=whole[names[0]],
    )  # fmt: skip


def _figures(run: KeptRun, attack: str) -> dict[str, Estimate]:
    """All metrics of an attack on all records."""
    frame = run.tables[artifacts.ATTACKS]
    found: dict[str, Estimate] = {}
    for row in frame[(frame["attack"] == attack) & (frame["slice"] == "entire")].to_dict("records"):
        value, reason = _number(row["value"]), _text(row["reason"])
        found[str(row["metric"])] = (
            skipped(reason or "not available")
            if value is None
            else Estimate(
                value=value, ci_low=_number(row["ci_low"]), ci_high=_number(row["ci_high"]), status=str(row["status"]), reason=reason
            )
        )  # fmt: skip
    return found


def headline_metric(run: KeptRun, metric: str) -> Figure:
    """A metric of the headline; an empty `Figure` if it has no such metric."""
    found = headline(run)
    if found is None or metric not in found.figures:
        return Figure(status="missing")
    one = found.figures[metric]
    value = None if one.status == "skipped" else one.value
    return Figure(value=value, ci_low=one.ci_low, ci_high=one.ci_high, status=one.status, reason=one.reason)


def figure(run: KeptRun, attack: str, metric: str, part: str = "entire") -> Figure:
    """One metric of a run; an empty `Figure` where the run has none."""
    frame = run.tables[artifacts.ATTACKS]
    rows = frame[(frame["attack"] == attack) & (frame["slice"] == part) & (frame["metric"] == metric)]
    if not len(rows):
        return Figure(status="missing")
    row = rows.to_dict("records")[0]
    return Figure(
        value=_number(row["value"]), ci_low=_number(row["ci_low"]), ci_high=_number(row["ci_high"]), status=str(row["status"]),
        reason=_text(row["reason"]),
    )  # fmt: skip


def attacks(run: KeptRun) -> list[str]:
    """The attacks that ran on all records, in the requested order."""
    frame = run.tables[artifacts.ATTACKS]
    ran = frame[(frame["slice"] == "entire") & (frame["metric"] == "auc") & frame["value"].notna()]
    return list(dict.fromkeys(ran["attack"].astype(str)))


def failed(run: KeptRun) -> list[tuple[str, str]]:
    """Attacks that could not run on all records, and why."""
    frame = run.tables[artifacts.ATTACKS]
    rows = frame[(frame["slice"] == "entire") & (frame["status"] == "skipped") & (frame["metric"] == "auc")]
    return [(str(row["attack"]), _text(row["reason"])) for _, row in rows.iterrows()]


def family(run: KeptRun, attack: str) -> str:
    """An attack's family."""
    frame = run.tables[artifacts.ATTACKS]
    return str(frame.loc[frame["attack"] == attack, "family"].iloc[0])


def sizes(run: KeptRun) -> tuple[int, int]:
    """Members and non-members of the entire data set."""
    frame = run.tables[artifacts.ATTACKS]
    of_all = frame[frame["slice"] == "entire"]
    return int(of_all["n_member"].iloc[0]), int(of_all["n_nonmember"].iloc[0])


def grouped(run: KeptRun) -> bool:
    """Whether the audit counted groups, such as persons, in place of records."""
    return bool((run.tables[artifacts.ATTACKS]["slice"] == ROWS).any())


def classes(run: KeptRun, attack: str) -> list[tuple[str, Figure, int, int]]:
    """Slices that may compete for the worst (classes and a user's columns): name, AUC, members, non-members; worst first."""
    frame = run.tables[artifacts.ATTACKS]
    rows = frame[(frame["attack"] == attack) & (frame["metric"] == "auc") & frame["value"].notna()]
    outcome = rf"entire|{ROWS}|worst_slice|correct|incorrect|loss_p\d+_p\d+"
    rows = rows[~rows["slice"].astype(str).str.fullmatch(outcome)].sort_values("value", ascending=False, kind="stable")
    return [
        (
            str(row["slice"]),
            Figure(value=_number(row["value"]), ci_low=_number(row["ci_low"]), ci_high=_number(row["ci_high"])),
            int(row["n_member"]),
            int(row["n_nonmember"]),
        )
        for _, row in rows.iterrows()
    ]


def class_names(run: KeptRun) -> Mapping[str, str]:
    """Slice -> the class's own name, where the run knows it."""
    names = run.params.get("data.class_names", "")
    return {f"class_{number}": name for number, name in enumerate(names.split(","))} if names else {}


def judged(run: KeptRun) -> str:
    """The headline's verdict; ``doubt`` in place of ``leaks`` if the two sides differ even without the model (blind control)."""
    found = headline(run)
    verdict = found.verdict if found is not None else "none"
    return "doubt" if verdict == "leaks" and doubted(run) else verdict


SENTENCES = {
    "leaks": "The model gives away which records it was trained on.",
    "doubt": "Members can be told from non-members, but also without the model: how much of that is due to the model is unclear.",
    "quiet": "With these records, members cannot be told from non-members better than by chance.",
    "odd": "Non-members look more like members than members do: check how the records were split before trusting any metric.",
    "none": "There is no interval to judge by.",
}
"""Verdict -> the finding in a sentence."""


def plain_words(run: KeptRun) -> tuple[str, list[str]]:
    """The finding of the primary attack, and the meaning of its metrics, in words."""
    found = headline(run)
    if found is None:
        reasons = "; ".join(f"{attack}: {reason}" for attack, reason in failed(run))
        return f"No attack could run ({reasons}).", []
    auc, judgement = headline_metric(run, "auc"), judged(run)
    text = SENTENCES[judgement]
    lines = [doubt(run)] if doubted(run) else []
    if auc.value is not None:
        span = (
            f" The 95% interval is {auc.ci_low:.1%} to {auc.ci_high:.1%}."
            if auc.ci_low is not None and auc.ci_high is not None
            else ""
        )
        lines.append(
            f"Shown one member and one non-member, the attack `{found.attack}` picks the member in {auc.value:.1%} of cases; guessing at "
            f"random picks it in 50%.{span}"
        )
    metric = finest_rate(run)
    tpr = headline_metric(run, metric)
    if tpr.value is not None and tpr.ci_low is not None and tpr.ci_high is not None:
        lines.append(
            f"If it may wrongly accuse {RATES[metric]} non-members, it finds {tpr.value:.2%} of the members "
            f"(95% {tpr.ci_low:.2%} to {tpr.ci_high:.2%})."
        )
    inside, outside = ("groups of members", "other groups") if grouped(run) else ("members", "non-members")
    lines.append(f"This attack is {found.how}: {found.n_member:,} {inside} and {found.n_nonmember:,} {outside}.")
    if found.verdict == "quiet":
        lines.append(
            f"That is not proof of safety: a stronger attack, or more records, may find what this one missed. An AUC up to "
            f"{auc.ci_high or 1:.3f} remains possible for this attack."
        )
    return text, lines


def finest_rate(run: KeptRun) -> str:
    """The TPR at the lowest FPR for which the headline has enough non-members: ten false positives or more."""
    return next((metric for metric in RATES if headline_metric(run, metric).status == "ok"), "tpr_at_fpr_0_1")


OUTCOMES = {"pass": "passed", "trip": "tripped", "undecided": "undecided"}  # of a gate, in words


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The outcome of an audit's gate: ``pass``, ``trip`` or ``undecided``, and why."""

    outcome: str
    reason: str

    @property
    def word(self) -> str:
        """The outcome in one word."""
        return OUTCOMES.get(self.outcome, self.outcome)


def gate(run: KeptRun) -> Gate | None:
    """The gate's outcome; None if the audit had no rules."""
    outcome = run.tags.get("memberscope.gate", "")
    return Gate(outcome=outcome, reason=run.tags.get("memberscope.gate_reason", "")) if outcome else None


def advice(run: KeptRun, judgement: str) -> list[str]:
    """What to do next, the most urgent first, given the verdict on the run or its setting, the gate and the attacks that ran."""
    decided, found = gate(run), headline(run)
    lines: list[str] = []
    if decided is not None and decided.outcome == "trip":
        lines.append("Do not release this model as it stands: a metric is above the limit that was set.")
    if decided is not None and decided.outcome == "undecided":
        lines.append(
            "Audit more records before deciding: with these, the gate cannot tell whether its limits are met or exceeded."
        )
    if judgement == "doubt":
        lines.append(
            "Fix the records first: take members and non-members from the same source and time, split at random. Then audit again."
        )
    if judgement == "odd":
        lines.append("Check how members and non-members were split, and their labels. Then audit again.")
    if judgement == "leaks":
        lines.append(
            "Reduce what the model memorizes (fewer epochs, regularization, differentially private training) or what it publishes, and "
            "measure the effect on these records: `memberscope mitigate`."
        )
        below = ["the worst classes"] if found is not None and len(classes(run, found.attack)) > 1 else []
        kept = run.tables.get(artifacts.MOST_EXPOSED)
        below += ["the most exposed records"] if kept is not None and len(kept) else []
        if below:
            lines.append(f"See who is affected: {' and '.join(below)} are below.")
    if judgement in ("quiet", "none") and found is not None and not OUTSIDE & {family(run, name) for name in found.candidates}:
        lines.append(
            "Try stronger attacks before relying on this: those with shadow models (`memberscope shadow`, or `--shadows`) can find more."
        )
    if found is None:
        lines.append("Provide what the attacks need, or choose others with `--attacks`.")
    if decided is None:
        lines.append("Set a limit that a release must not exceed (`--fail_if`): this audit had no gate.")
    return lines


def history(run: KeptRun) -> pd.DataFrame | None:
    """Accuracy, loss, AUC and advantage by epoch, from the run's table or its metrics; None for a model that was not trained here."""
    import pandas as pd

    frame = run.tables.get(artifacts.HISTORY)
    if frame is None:
        names = {
            "train/accuracy": "train_accuracy", "val/accuracy": "val_accuracy", "train/loss": "train_loss", "val/loss": "val_loss",
            "auc/threshold_loss": "auc", "advantage/threshold_loss": "advantage",
        }  # fmt: skip
        if len(run.metrics.get("train/accuracy", ())) < 2:
            return None
        series = {column: pd.Series(dict(run.metrics[name])) for name, column in names.items() if name in run.metrics}
        frame = pd.DataFrame(series).rename_axis("epoch").reset_index()
    return frame if len(frame) > 1 and {"train_accuracy", "val_accuracy"} <= set(frame.columns) else None


def followed(history: pd.DataFrame) -> bool:
    """Whether a training was measured at several epochs, not at its end alone."""
    return int(history["val_accuracy"].notna().sum()) > 1


def controls(run: KeptRun) -> dict[str, str]:
    """The sentences of the controls, as the audit wrote them."""
    return {name: kept.text for name, kept in _controls(run).items() if kept.text}


def doubted(run: KeptRun) -> bool:
    """Whether the blind control puts every other metric in doubt."""
    return _blind(run).differs


def doubt(run: KeptRun) -> str:
    """The blind control's sentence, if it puts every other metric in doubt; else empty."""
    return _blind(run).text if doubted(run) else ""


def derived_doubt(run: KeptRun) -> bool:
    """Whether the doubt about the metrics was read from a sentence, because an older version stored nothing else."""
    return _blind(run).derived


def _blind(run: KeptRun) -> KeptControl:
    return _controls(run).get("blind", KeptControl())


def _controls(run: KeptRun) -> dict[str, KeptControl]:
    return kept_controls.read(run.texts.get(artifacts.CONTROLS, ""))


def settings(run: KeptRun) -> dict[str, str]:
    """The resolved configuration under dotted names, empty values left out."""
    found: dict[str, Any] = {}
    for name in (artifacts.STUDY, artifacts.CONFIG):
        found |= plain_object(run.texts.get(name, ""))
    return {str(name): str(value) for name, value in found.items() if str(value) != ""}


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)
