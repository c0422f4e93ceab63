"""What the audit of one mitigation at one seed found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from memberscope.audit.bounds_table import Records
from memberscope.audit.report import AuditReport
from memberscope.studies.mitigate.mitigations import Mitigation
from memberscope.studies.mitigate.models import MitigatedModels


@dataclass(frozen=True, kw_only=True, eq=False)
class MitigationAudit:
    """The audit and the utility of what is published under one mitigation at one seed.

    Attributes:
        mitigation, seed, mitigated: what was audited.
        report: the audit of ordinary records.
        utility: metrics of the published outputs, and what canaries cost.
        canaries: the audit of the canaries; None if there are none.
        one_record: whether a coin decides on one record; see `memberscope.studies.mitigate.models.SeedSplit.one_record`.
    """

    mitigation: Mitigation
    seed: int
    report: AuditReport
    utility: Mapping[str, float]
    mitigated: MitigatedModels
    canaries: AuditReport | None = None
    one_record: Mapping[Records, bool] = field(default_factory=lambda: {"ordinary": True, "canaries": True})
