"""Model cards in CycloneDX: a bill of materials with a component of type machine-learning-model for each audited model.

CycloneDX's own library makes the bill and validates it against the schema of CycloneDX 1.6. It does not know model cards (as of 11.12), so
that these are added to its JSON.
"""

from __future__ import annotations

import json
import uuid

from memberscope.errors import UserError
from memberscope.installed import require
from memberscope.metrics import rate_name, registry
from memberscope.report import facts
from memberscope.report.evidence import Document
from memberscope.report.formats import flat

BY = "formats=cyclonedx"
LIFT, COMBINED = ("lift",), ("precision", "found", "wrongly_accused")
HEADLINE = "headline"  # stands for the attack in metrics of the primary attack, as among a run's metrics


def check() -> None:
    """Raise UserError, naming the extra, unless CycloneDX's library is installed."""
    require("cyclonedx", by=BY, instead="html, json, junit and markdown")


def text_of(document: Document) -> str:
    """The bill of materials of a document's models, valid CycloneDX 1.6; the same text for the same document.

    Raises:
        UserError: CycloneDX's library is not installed.
    """
    check()
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    runs = flat.audited(document)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True)))
    bom.metadata.timestamp = None  # type: ignore[assignment]  # of the studies, which the evidence file holds, and not of this file
    made = document["made_by"]
    bom.metadata.tools.components.add(Component(name=made["name"], version=made["version"], type=ComponentType.APPLICATION))
    for run in runs:
        bom.components.add(Component(name=run["name"], type=ComponentType.MACHINE_LEARNING_MODEL, bom_ref=run["id"]))
    values = json.loads(JsonV1Dot6(bom).output_as_string())
    of = {run["id"]: run for run in runs}
    for component in values.get("components", ()):
        run = of[component["bom-ref"]]
        component |= {"modelCard": model_card(run), "properties": properties(run)}
    text = json.dumps(values, indent=2) + "\n"
    _validate(text)
    return text


def model_card(run: Document) -> Document:
    """The model card of a run: its metrics with their intervals, and what to consider."""
    return {"quantitativeAnalysis": {"performanceMetrics": list(metrics(run))}, "considerations": considerations(run)}


def metrics(run: Document) -> list[Document]:
    """The headline metrics of the primary attack, under the attack ``headline``, then of every attack on every slice, with all digits."""
    primary, names = run["finding"].get("primary"), {spec.name for spec in registry.headline()}
    found = []
    if primary is not None:
        found = [
            _metric(f"{name}/{HEADLINE}", _part(run), one)
            for name, one in primary["metrics"].items()
            if name in names and one["value"] is not None
        ]
    found += _risk(run)
    rows = [row for row in run["results"] if row["metric"] in names and row["value"] is not None]
    return found + [_metric(f"{row['metric']}/{row['attack']}", row["slice"], row) for row in rows]


def _risk(run: Document) -> list[Document]:
    """The risk statement's figures of the primary attack: lift, and what follows from what was declared."""
    statement = run.get("risk_statement")
    if statement is None or not statement["measured"]:
        return []
    part = _part(run)
    found = [
        (f"{name}_at_fpr_{rate_name(rate['fpr'])}/{HEADLINE}", rate[name])
        for rates, names in ((statement["measured"][0]["rates"], LIFT), (statement["combined"], COMBINED))
        for rate in rates
        for name in names
    ]
    return [_metric(kind, part, one) for kind, one in found if one is not None and one["value"] is not None]


def _part(run: Document) -> str:
    """The records behind the metrics of the primary attack."""
    return "half of the records" if run["finding"].get("primary", {}).get("chosen") == "strongest" else "entire"


def _metric(kind: str, part: str, one: Document) -> Document:
    ends = {bound: one[end] for bound, end in (("lowerBound", "ci_low"), ("upperBound", "ci_high")) if one.get(end) is not None}
    found = {"type": kind, "value": repr(one["value"]), "slice": part}
    return found | ({"confidenceInterval": {bound: repr(end) for bound, end in ends.items()}} if ends else {})


def considerations(run: Document) -> Document:
    """What a reader of the metrics must know."""
    sizes, verdict = run["sizes"], run["finding"]["verdict"]
    primary = run["finding"].get("primary")
    limits = [
        f"Membership inference was measured on {sizes['members']:,} members and {sizes['nonmembers']:,} non-members ({sizes['unit']}), "
        f"with {len(primary['candidates']) if primary else 0} attacks. Attackers who know more find more."
    ]
    if verdict == "quiet":
        limits.append("No better than chance with these records is no proof of safety.")
    doubtful = run.get("controls", {}).get("blind", {})
    limits += [doubtful["text"]] if doubtful.get("differs") else []
    return {
        "technicalLimitations": limits,
        "ethicalConsiderations": [{"name": f"Membership of people in the training data. {facts.SENTENCES[verdict]}"}],
    }


def properties(run: Document) -> list[Document]:
    """The finding as values, under names that begin with ``memberscope:``."""
    finding, sizes = run["finding"], run["sizes"]
    values = {"verdict": finding["verdict"], "members": str(sizes["members"]), "nonmembers": str(sizes["nonmembers"])}
    if "primary" in finding:
        values |= {"primary_attack": finding["primary"]["attack"], "primary_chosen": finding["primary"]["chosen"]}
    declared = run.get("risk_statement", {}).get("declared", {})
    values |= {f"declared_{name}": str(value) for name, value in declared.items() if value not in (None, "")}
    if "gate" in run:
        values["gate"] = run["gate"]["outcome"]
    return [{"name": f"memberscope:{name}", "value": value} for name, value in values.items()]


def _validate(text: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise UserError(f"{BY}: CycloneDX's validator refuses the file ({str(error)[:300]}); allowed: another format, or json")
