"""The sections that one run fills."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from memberscope.metrics import registry
from memberscope.report import facts, figures
from memberscope.report.columns import BOUNDS, COLUMNS, extra, legend
from memberscope.report.facts import Figure
from memberscope.report.html import Content, Markup, image, joined, listing, pairs, paragraph, section, spans, table, tag
from memberscope.tracking import KeptRun

WORST, THUMBNAILS_KB = 10, 1500
FAMILIES = {
    "threshold": "a threshold on one signal, members known",
    "trained": "an attack model trained on the target's own members (cross-fitted)",
    "white_box": "the model's own gradients",
    "metric": "class-wise thresholds from shadow models",
    "shadow": "shadow models, trained as the target was",
    "population": "records that no model was trained on",
    "label_only": "published labels alone",
}


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else minus(f"{value:.{digits}f}")


def minus(text: str) -> str:
    """A figure with a minus sign where there was a hyphen."""
    return text.replace("-", "−")


def with_interval(found: Figure, digits: int = 3) -> Markup:
    """A figure above its interval."""
    if found.value is None:
        return spans("–")
    low, high = found.ci_low, found.ci_high
    span = (
        tag("span", f"{number(low, digits)} to {number(high, digits)}", class_="span")
        if low is not None and high is not None
        else ""
    )
    weak = tag("span", " *", class_="low", title=found.reason) if found.status == "low_power" else ""
    return joined([number(found.value, digits), weak, Markup("<br>") if span else "", span])


def first_screen(run: KeptRun) -> Markup:
    """What a reader needs first: the finding, coloured by its verdict, the gate, and what to do."""
    return joined([finding(run), gate_line(run), to_do(facts.advice(run, facts.judged(run)))])


def finding(run: KeptRun) -> Markup:
    """The plain-words finding, coloured by what the interval says."""
    told, lines = facts.plain_words(run)
    return tag("div", tag("p", told, class_="verdict"), *map(paragraph, lines), class_=f"finding {facts.judged(run)}")


def gate_line(run: KeptRun) -> Markup:
    """The gate's outcome and its reason, or that there was no gate."""
    decided = facts.gate(run)
    if decided is None:
        return tag("p", spans("**Gate:** none was set."), class_="gate")
    words = {"pass": "passed", "trip": "tripped", "undecided": "undecided"}
    reason = f" {decided.reason}" if decided.reason else ""
    return tag(
        "p", spans(f"**Gate: {words.get(decided.outcome, decided.outcome)}.**{reason}"), class_=f"gate {decided.outcome}"
    )


def to_do(lines: Sequence[str]) -> Markup:
    """What to do next, as a list."""
    return tag(
        "div", tag("p", "What to do", class_="verdict"), tag("ul", *(tag("li", spans(line)) for line in lines)), class_="todo"
    )


def tiles(run: KeptRun) -> Markup:
    """The figures of the headline."""
    found = facts.headline(run)
    if found is None:
        return Markup("")
    shown: list[tuple[str, str, str]] = []
    built_in = [registry.get(metric) for metric in ("auc", "advantage_heldout", facts.finest_rate(run))]
    named = [(spec.name, spec.heading, spec.digits) for spec in built_in]
    named += [(one.metric, one.heading, one.digits) for one in extra([run]) if one.headline]
    for metric, name, digits in named:
        one = facts.spoken(run, metric)
        if one.value is not None:
            span = f"95%: {number(one.ci_low, digits)} to {number(one.ci_high, digits)}" if one.ci_low is not None else ""
            shown.append((f"{name}, {found.attack}", number(one.value, digits), span))
    members, nonmembers = facts.sizes(run)
    half = "; the half on which the attack was not chosen" if found.halved else ""
    shown.append(("records audited", f"{members + nonmembers:,}", f"{members:,} members, {nonmembers:,} non-members{half}"))
    history = facts.history(run)
    if history is not None:
        last = history.iloc[-1]
        spread = f"{last['train_accuracy']:.3f} on members, {last['val_accuracy']:.3f} on validation"
        shown.append(("accuracy gap", f"{last['train_accuracy'] - last['val_accuracy']:.3f}", spread))
    inside = [
        tag(
            "div",
            tag("span", name, class_="name"),
            tag("span", value, class_="value"),
            tag("span", span, class_="span"),
            class_="tile",
        )
        for name, value, span in shown
    ]
    return tag("div", *inside, class_="tiles")


def asked(run: KeptRun, anchor: str) -> Markup:
    """What was asked, of which model, on which records."""
    settings, params = facts.settings(run), run.params

    def of(*names: str) -> str:
        return next((str(found) for name in names if (found := params.get(name) or settings.get(name))), "")

    members, nonmembers = facts.sizes(run)
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
    data = " and ".join(dict.fromkeys(part.name for part in run.inputs if part.context in ("member", "nonmember")))
    output = of("model.output", "data.form")
    seen = of("model.output_seen")
    rows: list[tuple[str, Content]] = [
        ("question", "Can someone who sees only what the model says tell which records it was trained on?"),
        ("model", model or "known by its predictions only"),
        ("training", trained),
        ("data", data or of("data.name", "attack.predictions")),
        (
            "label noise",
            f"{float(noise):.0%} of the labels replaced at random"
            if (noise := of("data.label_noise")) not in ("", "0", "0.0")
            else "",
        ),
        ("records", f"{members:,} members (trained on) and {nonmembers:,} non-members (never seen)"),
        ("what the model says", f"{output}{f': {seen}' if seen else ''}"),
        ("attacks", ", ".join(facts.attacks(run))),
        ("not run", "; ".join(f"{attack} ({reason})" for attack, reason in facts.failed(run))),
    ]
    return section("What was asked", pairs([row for row in rows if row[1]]), anchor=f"{anchor}-asked", level=3)


def memorization(run: KeptRun, anchor: str) -> Markup:
    """Memorization by epoch; nothing for a model that was not trained here."""
    history = facts.history(run)
    if history is None:
        return Markup("")
    onset = run.metrics.get("overfit_onset_epoch", ())
    words = f" Accuracy on members stays more than 0.02 above validation from epoch {onset[-1][1]:.0f} on." if onset else ""
    drawing = image(
        figures.by_epoch([history]), "svg+xml", alt="accuracy and AUC by epoch",
        caption=f"Left: accuracy on members and on validation records. Right: how well the loss tells members from non-members.{words}",
    )  # fmt: skip
    return section("Memorization by epoch", drawing, anchor=f"{anchor}-epochs", level=3)


def curves(run: KeptRun, anchor: str) -> Markup:
    """ROC curves, logarithmic axes first."""
    names, found = facts.attacks(run), facts.headline(run)
    if "roc.csv" not in run.tables or found is None:
        return Markup("")
    shown = figures.drawn(found.attack, names)
    more = (
        f" Of {len(names)} attacks, {len(shown)} are drawn: the primary one and the first of the others."
        if len(shown) < len(names)
        else ""
    )
    drawing, banded = figures.roc(run, shown)
    band = f" The shaded band is that of `{shown[0]}`, 95% at each point." if banded else ""
    picture = image(
        drawing, "svg+xml", alt="ROC curves on logarithmic and linear axes",
        caption="Share of members found against share of non-members accused, on all records, AUC in brackets. On the left, logarithmic "
        f"axes: what matters to a person is the lower left, where hardly anyone is accused wrongly.{band}{more}",
    )  # fmt: skip
    return section("ROC curves", picture, anchor=f"{anchor}-roc", level=3)


def with_ceiling(bound: Figure, ceiling: Figure) -> Markup:
    """A lower bound above the largest value that it could have."""
    if bound.value is None or ceiling.value is None:
        return spans(number(bound.value, 2))
    most = tag("span", f"of at most {number(ceiling.value, 2)}", class_="span")
    weak = tag("span", " †", class_="low", title=bound.reason) if bound.status == "low_power" else ""
    return joined([number(bound.value, 2), weak, Markup("<br>"), most])


def attack_table(run: KeptRun, anchor: str) -> Markup:
    """Every attack on all records, the primary one marked."""
    rows: list[list[Content]] = []
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
        speaks = ", primary" if first is not None and attack == first.attack else ""
        name = joined([attack, Markup("<br>"), tag("span", family + speaks, class_="span")])
        rows.append([name, *map(with_interval, found), *last, number(p, 3)])
    if not rows:
        return Markup("")
    known = "; ".join(f"`{name}`: {FAMILIES[name]}" for name in families if name in FAMILIES)
    note = " An asterisk marks figures that rest on fewer than ten false positives." if low_power else ""
    if bounds:
        note += (
            " ε is a 95% lower bound from this attack's success; beneath it is its ceiling, the bound if the attack had made no error with "
            "so many records: a small bound under a small ceiling says little."
        )
    if blunt:
        note += " A dagger marks a ceiling that is not above the promised ε (or 0): such an audit cannot refute the promise."
    note += legend(others)
    named = [*(one.heading for one in others), *(name for metric, name in BOUNDS if metric in bounds)]
    body = table(["attack", *(name for _, name in COLUMNS), *named, "p"], rows)
    text = (
        f"On all records; 95% intervals beneath; TPR at false positive rates of 0.1, 0.01 and 0.001; p by permuting membership. Families "
        f"differ in what the attacker knows ({known}): compare figures within a family. The best of several attacks looks better than it "
        f"is.{note}"
    )
    return section("Attacks", body, tag("p", spans(text), class_="note"), anchor=f"{anchor}-attacks", level=3)


def worst_classes(run: KeptRun, anchor: str) -> Markup:
    """The classes (and a user's slices) that leak most, by the primary attack."""
    first = facts.headline(run)
    rows = facts.classes(run, first.attack) if first is not None else []
    if first is None or len(rows) < 2:
        return Markup("")
    known = facts.class_names(run)
    named = {
        part: f"{part} ({known[part]})" if known.get(part, part.removeprefix("class_")) != part.removeprefix("class_") else part
        for part, *_ in rows
    }
    worst = facts.figure(run, first.attack, "auc", "worst_slice")
    which = f"the {WORST} highest of {len(rows)}" if len(rows) > WORST else "highest first"
    words = [f"AUC of `{first.attack}` by class, on all records, {which}; 95% intervals, each by itself."]
    if worst.value is not None:
        words.append(
            f"Corrected for having picked the highest of {len(rows)} (Bonferroni), `{rows[0][0]}` has AUC {number(worst.value)} "
            f"({number(worst.ci_low)} to {number(worst.ci_high)})."
        )
    drawing = image(
        figures.intervals([(named[part], found) for part, found, *_ in rows[:WORST]], xlabel="AUC, 95% interval", chance=0.5), "svg+xml",
        alt="AUC by class with intervals", caption=" ".join(words), class_="small",
    )  # fmt: skip
    body = table(
        ["class", "AUC", "95% interval", "members", "non-members"],
        [
            [
                named[part], number(found.value), f"{number(found.ci_low)} to {number(found.ci_high)}", f"{inside:,}", f"{outside:,}",
            ]
            for part, found, inside, outside in rows[:WORST]
        ],
        narrow=True,
    )  # fmt: skip
    return section("Worst classes", drawing, body, anchor=f"{anchor}-classes", level=3)


def exposed(run: KeptRun, anchor: str) -> Markup:
    """The most exposed records, and thumbnails where they are images."""
    frame = run.tables.get("most_exposed.csv")
    if frame is None or not len(frame):
        return Markup("")
    known = facts.class_names(run)
    signal = next(
        (name for name in frame.columns if name not in ("rank", "position", "record_id", "label", "member", "probability")),
        None,
    )
    by_content = run.scores is not None and run.scores.source == "content"
    rows = [
        [
            str(int(row["rank"])), str(int(row["position"])) if by_content else _whole(row.get("record_id", row["position"])),
            _label(row.get("label"), known), number(float(row["probability"])), number(float(row[signal]), 4) if signal else "",
        ]
        for _, row in frame.head(25).iterrows()
    ]  # fmt: skip
    head = ["rank", "row of members" if by_content else "record", "class", "P(member)", (signal or "").replace("_", " ")]
    text = (
        f"Members that stand out most: their probability of membership given {(signal or 'what is known').replace('_', ' ')} and class, at "
        "equal priors, counted on other folds (Song & Mittal 2021). The rank is among all audited records."
        + (" Rows count from 0." if by_content else "")
    )
    picture = run.images.get("most_exposed.png")
    drawing = (
        image(
            picture,
            "png",
            alt="the most exposed members",
            caption="The most exposed members, class and probability above each.",
            class_="small",
        )
        if picture and len(picture) < THUMBNAILS_KB * 1024
        else ""
    )
    return section(
        "Most exposed records",
        paragraph(text),
        drawing,
        table(head, rows, words=0, narrow=True),
        anchor=f"{anchor}-exposed",
        level=3,
    )


def checks(run: KeptRun, anchor: str) -> Markup:
    """What the controls said, and the gate."""
    found = facts.controls(run)
    parts: list[Content] = [paragraph(text[:1].upper() + text[1:]) for text in found.values()]
    gate = run.tables.get("gate.csv")
    if gate is not None and len(gate):
        parts.append(gate_line(run))
        rows = [
            [str(row["rule"]), str(row["attack"]), str(row["slice"]), number(_maybe(row["value"])), str(row["verdict"])]
            for _, row in gate.iterrows()
        ]
        parts.append(table(["rule", "attack", "slice", "value", "verdict"], rows, words=3))
    return section("Controls", *parts, anchor=f"{anchor}-controls", level=3) if parts else Markup("")


def done(run: KeptRun, anchor: str) -> Markup:
    """What was done: enough to do it again."""
    try:
        versions = json.loads(run.tags.get("memberscope.versions", "{}"))
    except ValueError:
        versions = {}
    settings = facts.settings(run)
    seed = next((value for name, value in settings.items() if name.endswith(".seed")), run.params.get("study.seed", ""))
    rows: list[tuple[str, Content]] = [
        ("run", run.id), ("status", run.status), ("started", run.started), ("seed", seed),
        ("command", tag("code", run.tags["memberscope.command"]) if "memberscope.command" in run.tags else ""),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("code", run.tags.get("mlflow.source.git.commit", "")),
    ]  # fmt: skip
    rows += [
        (
            f"{part.context} data",
            joined([f"{part.name}, shape {' × '.join(map(str, part.shape))}, digest ", tag("code", part.digest)]),
        )
        for part in run.inputs
    ]
    configured = [(name, tag("code", value)) for name, value in settings.items()]
    parts: list[Content] = [pairs([row for row in rows if row[1]])]
    if configured:
        parts += [tag("h4", "Configuration"), listing(configured)]
    return section("What was done", *parts, anchor=f"{anchor}-done", level=3)


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
