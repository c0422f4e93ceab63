"""Configurations: frozen, keyword-only dataclasses of plain values, with one field for each option of the command line.

A field declares its default, its allowed values and the group under which MLflow shows it; the parser, the checks, MLproject and the
resolved ``config.json`` all read that one declaration. Only the standard library is imported: ``--help`` must stay quick. The
configurations of studies that train models are imported from `memberscope.config.training`, `memberscope.config.mitigation` and
`memberscope.config.outside`, since an audit needs none of them.
"""

from __future__ import annotations

from memberscope.config.audits import (
    AttackOptionsConfig,
    AttackStudyConfig,
    AuditModelConfig,
    DeclaredConfig,
    GateConfig,
    ModelFilesConfig,
    PredictionFilesConfig,
    ReportStudyConfig,
)
from memberscope.config.base import Config, groups, option, option_name, written
from memberscope.config.checks import Check, Choice, Integer, Integers, Real, Text, YesNo
from memberscope.config.shared import (
    AuditConfig,
    CanaryConfig,
    DataConfig,
    FleetConfig,
    ModelConfig,
    RecordsConfig,
    TrainConfig,
)

__all__ = [
    "AttackOptionsConfig",
    "AttackStudyConfig",
    "AuditConfig",
    "AuditModelConfig",
    "CanaryConfig",
    "Check",
    "Choice",
    "Config",
    "DataConfig",
    "DeclaredConfig",
    "FleetConfig",
    "GateConfig",
    "Integer",
    "Integers",
    "ModelConfig",
    "ModelFilesConfig",
    "PredictionFilesConfig",
    "Real",
    "RecordsConfig",
    "ReportStudyConfig",
    "Text",
    "TrainConfig",
    "YesNo",
    "groups",
    "option",
    "option_name",
    "written",
]
