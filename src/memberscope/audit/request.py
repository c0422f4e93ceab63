"""An audit as it was requested, resolved once: names of attacks, the primary attack, the engine, and the slices of each family.

Every study, the MLflow evaluator and `memberscope.run_audit` make their request here, before anything is queried or trained where they can,
and pass it on as a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from memberscope.attacks import registry
from memberscope.audit.groups import POOLINGS, check_pooling
from memberscope.audit.headline import AUTO
from memberscope.config import AttackOptionsConfig
from memberscope.errors import UserError, nearest
from memberscope.evidence import Evidence
from memberscope.installed import require

ENGINES = ("fast", "tfp")
TFP_SLICINGS = ("entire", "class", "correctness", "percentile")
ENTIRE = "entire"

Slices = str | Sequence[str] | Mapping[str, str]
"""Slices as they are requested: one text, several, or a text for each family of attacks."""


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """What an audit runs.

    Attributes:
        attacks: the names of the attacks, in their order.
        primary: the name of the primary attack, or ``auto``.
        slices: the requested slices of each family among the attacks, in the words that `memberscope.slices.parse` takes; with
            ``engine="tfp"``, the slicings of tensorflow_privacy.
        engine: ``fast`` or ``tfp``.
        group_scores: how the scores of a group's records become the group's score, where records have groups; one of
            `memberscope.audit.groups.POOLINGS`.
    """

    attacks: tuple[str, ...]
    primary: str
    slices: Mapping[str, tuple[str, ...]]
    engine: str
    group_scores: str = POOLINGS[0]

    @property
    def needs(self) -> frozenset[str]:
        """The fields of `Evidence` that any of the attacks needs."""
        return frozenset[str]().union(*(registry.get(name).needs for name in self.attacks))

    def check_primary(self, present: Iterable[str]) -> None:
        """Raise UserError if the primary attack needs a field of `Evidence` that is not `present`."""
        if self.primary == AUTO:
            return
        held = set(present)
        absent = sorted(registry.get(self.primary).needs - held)
        if absent:
            able = [name for name in self.attacks if registry.get(name).needs <= held]
            raise UserError(
                f"primary={self.primary}: needs {' and '.join(absent)}, which this audit does not have; "
                f"allowed: {', '.join([AUTO, *able])}"
            )


def make_request(
    *,
    attacks: str | Iterable[str] = "all",
    primary: str = AUTO,
    slices: Slices = (ENTIRE,),
    engine: str = "fast",
    group_scores: str = POOLINGS[0],
    present: Iterable[str] | None = None,
) -> AuditRequest:
    """Resolve the options of an audit.

    Args:
        attacks: ``all``, a family, ``tfp``, or names; see `memberscope.attacks.registry.resolve`.
        primary: the name or alias of an attack, or ``auto``.
        slices: see `Slices`; names are checked against the records when the audit runs, those of ``engine="tfp"`` here.
        engine: ``fast`` or ``tfp``.
        group_scores: see `AuditRequest`.
        present: the fields of `Evidence` that the audit will have; None if that is not known yet.

    Raises:
        UserError: an unknown engine, or one whose library is not installed; an unknown `group_scores`; an unknown attack, or none that the
            engine has; a primary attack that is not among them or needs a field that is not `present`; or slices that the engine does not
            have.
    """
    check_engine(engine)
    check_pooling(group_scores)
    names = resolve_attacks(attacks, engine=engine)
    families = dict.fromkeys(registry.get(name).family for name in names)
    by_family = slices if isinstance(slices, Mapping) else dict.fromkeys(families, slices)
    primary = resolve_primary(primary, names)
    words = tfp_slicings if engine == "tfp" else _words
    request = AuditRequest(
        attacks=names, primary=primary, slices={family: words(by_family.get(family, ENTIRE)) for family in families}, engine=engine,
        group_scores=group_scores,
    )  # fmt: skip
    if present is not None:
        request.check_primary(present)
    return request


def request_of(config: AttackOptionsConfig, *, present: Iterable[str]) -> AuditRequest:
    """The audit that a configuration requests, for `attack`, `audit` and the evaluator; all records are always among its slices."""
    check_grouped(config.engine, grouped=bool(getattr(config, "group", "")))
    return make_request(
        attacks=config.attacks, primary=config.primary, slices=f"{ENTIRE},{config.slices}", engine=config.engine,
        group_scores=config.group_scores, present=present,
    )  # fmt: skip


def check_grouped(engine: str, *, grouped: bool) -> None:
    """Raise UserError if tensorflow_privacy's attacks, which count records, are to audit records with groups."""
    if grouped and engine == "tfp":
        raise UserError("engine=tfp: tensorflow_privacy's attacks count records, and these have groups; allowed: engine=fast")


def fields_present(evidence: Evidence) -> tuple[str, ...]:
    """The names of the fields that the evidence has."""
    return tuple(part.name for part in fields(evidence) if part.name != "absent" and getattr(evidence, part.name) is not None)


def check_engine(engine: str) -> None:
    """Raise UserError for an unknown engine, with the nearest known one, or for one whose library is not installed."""
    if engine not in ENGINES:
        raise UserError(f"engine={engine}: unknown; allowed: {', '.join(ENGINES)}{nearest(engine, ENGINES)}")
    if engine == "tfp":
        require("tensorflow", "tensorflow_privacy", by="engine=tfp", instead="engine=fast")


def resolve_attacks(attacks: str | Iterable[str], *, engine: str = "fast") -> tuple[str, ...]:
    """The names of the attacks that a request selects.

    Raises:
        UserError: an unknown name (with the nearest), or one that tensorflow_privacy does not have under its engine.
    """
    found = registry.resolve(attacks)
    if engine == "tfp":
        ours = [attack for attack in found if attack.tfp_name]
        if not ours:
            names = ", ".join(attack.name for attack in registry.resolve("tfp"))
            raise UserError(f"attacks={attacks}: tensorflow_privacy has none of them; allowed with engine=tfp: {names}")
        found = tuple(ours)
    return tuple(attack.name for attack in found)


def resolve_primary(primary: str, names: Sequence[str]) -> str:
    """The name of the primary attack, given by its name or alias, or ``auto``; UserError if it is not among `names`."""
    if primary == AUTO:
        return AUTO
    attack = next((found for found in registry.resolve(names) if primary in (found.name, found.tfp_name)), None)
    if attack is None:
        hint = nearest(primary, (AUTO, *names))
        raise UserError(f"primary={primary}: not among the attacks that run; allowed: {AUTO}, {', '.join(names)}{hint}")
    return attack.name


def tfp_slicings(request: str | Sequence[str]) -> tuple[str, ...]:
    """The slicings of tensorflow_privacy that a request selects; UserError for one that it does not have."""
    found: list[str] = []
    for name in _words(request):
        if name != "all" and name not in TFP_SLICINGS:
            hint = nearest(name, ("all", *TFP_SLICINGS))
            raise UserError(f"slices={name}: not with engine=tfp; allowed: all, {', '.join(TFP_SLICINGS)}{hint}")
        found += TFP_SLICINGS if name == "all" else [name]
    return tuple(dict.fromkeys(found))


def _words(request: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(str(part).strip() for part in (request.split(",") if isinstance(request, str) else request))
