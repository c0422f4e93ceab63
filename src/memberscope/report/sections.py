"""The sections of the page about one run, as plain values for ``templates/run.html.j2``."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from memberscope.audit import artifacts
from memberscope.metrics import registry
from memberscope.reading.text import plain_object
from memberscope.report import facts, figures
from memberscope.report.bounds import BoundsSection, bounds_section
from memberscope.report.columns import BOUNDS, COLUMNS, extra, legend
from memberscope.report.facts import Gate
from memberscope.report.parts import (
    PageTable,
    Picture,
    TableCell,
    number,
    png_picture,
    svg_picture,
    with_ceiling,
    with_interval,
)
from memberscope.report.risk import Risk, risk
from memberscope.report.who import Who, who
from memberscope.tracking import DataInput, KeptRun

HEURISTIC = "epsilon_heuristic"
WORST, THUMBNAILS_KB = 10, 1500
FAMILIES = {
    "threshold": "a threshold on one signal, with known members",
    "trained": "an attack model trained on the target's own members (cross-fitted)",
    "white_box": "the model's own gradients",
    "trace": "the model's losses on the record during training",
    "metric": "class-wise thresholds from shadow models",
    "shadow": "shadow models, trained as the target was",
    "population": "records that no model was trained on",
    "label_only": "predicted labels alone",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The finding in plain words.

    Attributes:
        verdict: the verdict on the run, which gives the box its colour.
        text: the finding in a sentence.
        lines: the meaning of its metrics, in sentences.
    """

    verdict: str
    text: str
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FirstScreen:
    """The part of the page that a reader needs first."""

    finding: Finding
    gate: Gate | None
    advice: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A metric of the headline, in large type."""

    name: str
    value: str
    span: str


@dataclass(frozen=True, kw_only=True)
class Memorization:
    """Accuracy and leakage by epoch; `onset` is the epoch from which members are ahead, as text, and empty if there is none."""

    picture: Picture
    onset: str


@dataclass(frozen=True, kw_only=True)
class CurvesSection:
    """ROC curves of `drawn` of the run's `of` attacks; `banded` is the attack whose band is shaded, and empty for none."""

    picture: Picture
    banded: str
    drawn: int
    of: int


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """Every attack on all records.

    Attributes:
        table: a row per attack.
        families: name and meaning of each family in the table.
        low_power: whether a metric rests on too few false positives.
        bounds: whether the table shows bounds of epsilon.
        heuristic: whether one of these needs no coin flips, and guarantees nothing.
        blunt: whether one of these bounds cannot refute any claim.
        legend: descriptions of other packages' metrics, as sentences; empty if there are none.
    """

    table: PageTable
    families: tuple[tuple[str, str], ...]
    low_power: bool
    bounds: bool
    heuristic: bool
    blunt: bool
    legend: str


@dataclass(frozen=True, kw_only=True)
class WorstClasses:
    """The classes that leak most by one attack.

    Attributes:
        picture, table: the first `shown` of the run's `of` classes.
        attack: the attack by which they are ordered.
        highest: the class with the highest AUC.
        corrected: that AUC and the ends of its interval, corrected for having picked the highest; None where it was not computed.
    """

    picture: Picture
    table: PageTable
    attack: str
    shown: int
    of: int
    highest: str
    corrected: tuple[str, str, str] | None


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """The most exposed records; `signal` names the signal by which their membership was judged."""

    table: PageTable
    signal: str
    by_content: bool
    picture: Picture | None


@dataclass(frozen=True, kw_only=True)
class ControlsSection:
    """The sentence of each control, whether a finding was derived from an old run's sentence, and the gate's rules if there were any."""

    texts: tuple[str, ...]
    derived: bool
    gate: Gate | None
    rules: PageTable | None


@dataclass(frozen=True, kw_only=True)
class Done:
    """How the run was made, as plain values; empty where it is not known."""

    run: str
    status: str
    started: str
    seed: str
    command: str
    versions: str
    code: str
    data: tuple[DataInput, ...]
    configured: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class RunView:
    """Everything about one run; a section for which the run has no data is None."""

    anchor: str
    tiles: tuple[Tile, ...]
    setup: tuple[tuple[str, str], ...]
    memorization: Memorization | None
    curves: CurvesSection | None
    attacks: Attacks | None
    bounds: BoundsSection | None
    who: Who | None
    risk: Risk | None
    worst: WorstClasses | None
    exposed: Exposed | None
    controls: ControlsSection | None
    done: Done


def run_view(run: KeptRun, anchor: str) -> RunView:
    """Everything about a run; the ids of its sections begin with `anchor`."""
    return RunView(
        anchor=anchor, tiles=tiles(run), setup=setup(run), memorization=memorization(run), curves=curves(run),
        attacks=attack_table(run), bounds=bounds_section(run), who=who(run), risk=risk(run), worst=worst_classes(run),
        exposed=exposed(run), controls=checks(run), done=done(run),
    )  # fmt: skip


def first_screen(run: KeptRun) -> FirstScreen:
    """The first screen: the finding, the gate, and what to do."""
    return FirstScreen(finding=finding(run), gate=facts.gate(run), advice=tuple(facts.advice(run, facts.judged(run))))


def finding(run: KeptRun) -> Finding:
    """The finding in plain words, and its verdict."""
    text, lines = facts.plain_words(run)
    return Finding(verdict=facts.judged(run), text=text, lines=tuple(lines))


def tiles(run: KeptRun) -> tuple[Tile, ...]:
    """The metrics of the headline."""
    found = facts.headline(run)
    if found is None:
        return ()
    shown: list[Tile] = []
    built_in = [registry.get(metric) for metric in ("auc", "advantage_heldout", facts.finest_rate(run))]
    named = [(spec.name, spec.heading, spec.digits) for spec in built_in]
    named += [(one.metric, one.heading, one.digits) for one in extra([run]) if one.headline]
    for metric, name, digits in named:
        one = facts.headline_metric(run, metric)
        if one.value is not None:
            span = f"95%: {number(one.ci_low, digits)} to {number(one.ci_high, digits)}" if one.ci_low is not None else ""
            shown.append(Tile(name=f"{name}, {found.attack}", value=number(one.value, digits), span=span))
    members, nonmembers = facts.sizes(run)
    half = "; the half on which the attack was not chosen" if found.halved else ""
    grouped = facts.grouped(run)
    sizes = f"{members:,} {'groups of members, ' if grouped else 'members, '}{nonmembers:,} {'others' if grouped else 'non-members'}{half}"
    shown.append(Tile(name="groups audited" if grouped else "records audited", value=f"{members + nonmembers:,}", span=sizes))
    history = facts.history(run)
    if history is not None:
        last = history.iloc[-1]
        spread = f"{last['train_accuracy']:.3f} on members, {last['val_accuracy']:.3f} on validation"
        gap = f"{last['train_accuracy'] - last['val_accuracy']:.3f}"
        shown.append(Tile(name="accuracy gap", value=gap, span=spread))
    return tuple(shown)


def setup(run: KeptRun) -> tuple[tuple[str, str], ...]:
    """The question of the audit, the model, and the records."""
    settings, params = facts.settings(run), run.params

    def of(*names: str) -> str:
        return next((str(found) for name in names if (found := params.get(name) or settings.get(name))), "")

    members, nonmembers = facts.sizes(run)
    model, trained = _own_model(run) or _built_in_model(of)
    data = " and ".join(dict.fromkeys(part.name for part in run.inputs if part.context in ("member", "nonmember")))
    output = of("model.output", "data.form")
    seen = of("model.output_seen")
    rows = [
        ("question", "Can someone who sees only the model's outputs tell which records it was trained on?"),
        ("model", model or "known by its predictions only"),
        ("training", trained),
        ("data", data or of("data.name", "attack.predictions")),
        (
            "label noise",
            f"{noise:.0%} of the labels replaced at random" if (noise := _share(of("data.label_noise"))) else "",
        ),
        (
            "groups of records" if facts.grouped(run) else "records",
            f"{members:,} members (trained on) and {nonmembers:,} non-members (never seen)",
        ),
        ("model outputs", f"{output}{f': {seen}' if seen else ''}"),
        ("attacks", ", ".join(facts.attacks(run))),
        ("not run", "; ".join(f"{attack} ({reason})" for attack, reason in facts.failed(run))),
    ]
    return tuple(row for row in rows if row[1])


def _share(text: str) -> float:
    """A share that a run's parameter states; 0 for anything that is none."""
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if 0 < found <= 1 else 0.0


def _own_model(run: KeptRun) -> tuple[str, str] | None:
    """The name and the parameters of a user's own trainer; None for another run. Options of the built-in models say nothing then."""
    own = {name.removeprefix("trainer."): value for name, value in run.params.items() if name.startswith("trainer.")}
    name = own.pop("name", "")
    _, loop = _built_in_model(lambda *names: next((run.params[key] for key in names if key in run.params), ""))
    parts = [f"{key} {value}" for key, value in own.items()]
    return (name, ", ".join([*parts, loop] if loop else parts)) if name else None


def _built_in_model(of: Callable[..., str]) -> tuple[str, str]:
    """The model and its training, as far as the options say."""
    model = of("model.uri") or " ".join(
        part
        for part in (of("model.architecture", "model.model"), f"depth {of('model.depth')}" if of("model.depth") else "")
        if part
    )
    trained = (
        f"{of('train.epochs')} epochs, batch {of('train.batch_size')}, learning rate {of('train.learning_rate')}"
        if of("train.epochs")
        else ""
    )
    return model, trained


def memorization(run: KeptRun) -> Memorization | None:
    """Memorization by epoch; None for a model that was not trained here, or not followed."""
    history = facts.history(run)
    if history is None or not facts.followed(history):
        return None
    onset = run.metrics.get("overfit_onset_epoch", ())
    return Memorization(
        picture=svg_picture(lambda: figures.by_epoch([history]), alt="accuracy and AUC by epoch"),
        onset=f"{onset[-1][1]:.0f}" if onset else "",
    )


def curves(run: KeptRun) -> CurvesSection | None:
    """ROC curves, logarithmic axes first."""
    names, found = facts.attacks(run), facts.headline(run)
    if artifacts.ROC not in run.tables or found is None:
        return None
    shown = figures.drawn(found.attack, names)
    band = figures.band(run, shown[0])
    return CurvesSection(
        picture=svg_picture(lambda: figures.roc(run, shown, band), alt="ROC curves on logarithmic and linear axes"),
        banded=shown[0] if band is not None else "",
        drawn=len(shown),
        of=len(names),
    )


def attack_table(run: KeptRun) -> Attacks | None:
    """Every attack on all records, the primary one marked."""
    rows: list[list[str | TableCell]] = []
    low_power = blunt = False
    bounds = [name for name, _ in BOUNDS if any(facts.figure(run, a, name).value is not None for a in facts.attacks(run))]
    others = extra([run])
    first = facts.headline(run)
    families: dict[str, None] = {}
    for attack in facts.attacks(run):
        found = [facts.figure(run, attack, metric) for metric, _ in COLUMNS]
        low_power |= any(one.status == "low_power" for one in found)
        p = facts.figure(run, attack, "null_p_value").value
        ends = [(facts.figure(run, attack, name), facts.figure(run, attack, f"{name}_ceiling")) for name in bounds]
        blunt |= any(bound.status == "low_power" for bound, _ in ends)
        more = [with_interval(facts.figure(run, attack, one.metric), one.digits) for one in others]
        last = [*more, *(with_ceiling(*pair) for pair in ends)]
        family = facts.family(run, attack)
        families[family] = None
        primary = ", primary" if first is not None and attack == first.attack else ""
        rows.append([TableCell(text=attack, beneath=family + primary), *map(with_interval, found), *last, number(p, 3)])
    if not rows:
        return None
    named = [*(one.heading for one in others), *(name for metric, name in BOUNDS if metric in bounds)]
    return Attacks(
        table=PageTable.of(["attack", *(name for _, name in COLUMNS), *named, "p"], rows),
        families=tuple((name, FAMILIES[name]) for name in families if name in FAMILIES),
        low_power=low_power,
        bounds=bool(bounds),
        heuristic=HEURISTIC in bounds,
        blunt=blunt,
        legend=legend(others),
    )


def worst_classes(run: KeptRun) -> WorstClasses | None:
    """The classes (and a user's slices) that leak most, by the primary attack."""
    first = facts.headline(run)
    rows = facts.classes(run, first.attack) if first is not None else []
    if first is None or len(rows) < 2:
        return None
    known = facts.class_names(run)
    named = {
        part: f"{part} ({known[part]})" if known.get(part, part.removeprefix("class_")) != part.removeprefix("class_") else part
        for part, *_ in rows
    }
    worst = facts.figure(run, first.attack, "auc", "worst_slice")
    drawn = [(named[part], found) for part, found, *_ in rows[:WORST]]
    cells = [
        [named[part], number(found.value), f"{number(found.ci_low)} to {number(found.ci_high)}", f"{inside:,}", f"{outside:,}"]
        for part, found, inside, outside in rows[:WORST]
    ]
    return WorstClasses(
        picture=svg_picture(
            lambda: figures.intervals(drawn, xlabel="AUC, 95% interval", chance=0.5),
            alt="AUC by class with intervals",
            small=True,
        ),
        table=PageTable.of(["class", "AUC", "95% interval", "members", "non-members"], cells, narrow=True),
        attack=first.attack,
        shown=min(WORST, len(rows)),
        of=len(rows),
        highest=rows[0][0],
        corrected=None if worst.value is None else (number(worst.value), number(worst.ci_low), number(worst.ci_high)),
    )


def exposed(run: KeptRun) -> Exposed | None:
    """The most exposed records, and thumbnails where they are images."""
    frame = run.tables.get(artifacts.MOST_EXPOSED)
    if frame is None or not len(frame):
        return None
    known = facts.class_names(run)
    signal = next(
        (
            name
            for name in frame.columns
            if name not in ("rank", "position", "record_id", "record", "label", "member", "probability")
        ),
        None,
    )
    by_content = run.scores is not None and run.scores.source == "content" and "record" not in frame
    rows = [
        [
            str(int(row["rank"])), _name_of(row, by_content=by_content),
            _label(row.get("label"), known), number(float(row["probability"])), *([number(float(row[signal]), 4)] if signal else []),
        ]
        for _, row in frame.head(25).iterrows()
    ]  # fmt: skip
    named = (signal or "").replace("_", " ")
    head = ["rank", "row of members" if by_content else "record", "class", "P(member)", *([named] if signal else [])]
    picture = run.images.get(artifacts.MOST_EXPOSED_FIGURE)
    return Exposed(
        table=PageTable.of(head, rows, words=0, narrow=True),
        signal=named,
        by_content=by_content,
        picture=png_picture(picture, alt="the most exposed members", small=True)
        if picture and len(picture) < THUMBNAILS_KB * 1024
        else None,
    )


def _name_of(row: Mapping[Hashable, Any], *, by_content: bool) -> str:
    """The name of a record: its keyed identity or, where records were to be shown, its row or its own id."""
    if "record" in row:
        return str(row["record"])
    if "record_id" not in row or (by_content and "position" in row):
        return str(int(row["position"]))
    return _whole(row["record_id"])


def checks(run: KeptRun) -> ControlsSection | None:
    """The findings of the controls, and the gate."""
    found, rules = facts.controls(run), run.tables.get(artifacts.GATE)
    gated = rules is not None and len(rules) > 0
    if not found and not gated:
        return None
    rows = [
        [str(row["rule"]), str(row["attack"]), str(row["slice"]), number(_maybe(row["value"])), str(row["verdict"])]
        for _, row in (rules.iterrows() if rules is not None else ())
    ]
    return ControlsSection(
        texts=tuple(text[:1].upper() + text[1:] for text in found.values()),
        derived=facts.derived_doubt(run),
        gate=facts.gate(run),
        rules=PageTable.of(["rule", "attack", "slice", "value", "verdict"], rows, words=3) if gated else None,
    )


def done(run: KeptRun) -> Done:
    """How the run was made, in enough detail to repeat it."""
    versions = plain_object(run.tags.get("memberscope.versions", ""))
    settings = facts.settings(run)
    seed = next((value for name, value in settings.items() if name.endswith(".seed")), run.params.get("study.seed", ""))
    return Done(
        run=run.id, status=run.status, started=run.started, seed=str(seed), command=run.tags.get("memberscope.command", ""),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        code=run.tags.get("mlflow.source.git.commit", ""), data=tuple(run.inputs), configured=tuple(settings.items()),
    )  # fmt: skip


def _label(value: object, known: object) -> str:
    text = _whole(value)
    names = known if isinstance(known, dict) else {}
    return f"{text} ({names[f'class_{text}']})" if names.get(f"class_{text}", text) != text else text


def _whole(value: object) -> str:
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _maybe(value: float) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
