"""Options of the entry points that train and audit models: `train`, `main`, `sweep`."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.config.base import option
from memberscope.config.checks import Choice, ChoiceOrSource, Integer, Real, Text, YesNo
from memberscope.config.shared import (
    BUILT_IN_TRAINER,
    LEAST_CANARIES,
    AuditConfig,
    CanaryConfig,
    DataConfig,
    ModelConfig,
    RecordsConfig,
    TrainConfig,
    canary_cost_option,
    pooling_option,
    private_option,
    trace_option,
)
from memberscope.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TrainStudyConfig(DataConfig, ModelConfig, TrainConfig, AuditConfig, CanaryConfig):
    """Everything that `train` takes."""

    canary_cost: bool = canary_cost_option(True)
    seed: int = option(
        0, check=Integer(low=0, high=2**31 - 1), group="study", help="seed of split, label noise, initialization and order"
    )
    promised_epsilon: float | str = option(
        "none",
        check=Real(low=0.0, high=1e6, words=("none",)),
        group="canaries",
        help="epsilon that the training promises for one record, with which the bounds from its canaries are compared; or none",
    )
    delta: float = option(
        1e-5,
        check=Real(low=0.0, high=1.0, open_high=True),
        group="canaries",
        help="delta of the bounds of epsilon; where an epsilon is promised, use the delta of that promise",
    )

    def __post_init__(self) -> None:
        """Check every field, and that a promised epsilon comes with canaries: nothing else in one training can refute it."""
        super().__post_init__()
        if self.promise is not None and not self.canaries:
            raise UserError(
                f"promised_epsilon={self.promised_epsilon:g}: given without canaries, whose coins bound epsilon; allowed: none, or "
                f"canaries={LEAST_CANARIES} or more"
            )

    @property
    def promise(self) -> float | None:
        """The promised epsilon; None if there is none."""
        return None if self.promised_epsilon == "none" else float(self.promised_epsilon)


@dataclass(frozen=True, kw_only=True)
class CaseStudyConfig(DataConfig, TrainConfig, AuditConfig):
    """Everything that `main` takes."""

    experiments: str = option(
        "all",
        check=Choice(words=("all", "architecture", "depth", "classes")),
        group="study",
        help="which of the three experiments to run",
    )
    depth: int = option(3, check=Integer(low=1, high=256), group="study", help="depth of all models but the deep one")
    deep: int = option(6, check=Integer(low=1, high=256), group="study", help="depth of the deep dense model")
    few_classes: int = option(
        4, check=Integer(low=2), group="study", help="number of classes of the small data set in the classes experiment"
    )
    seeds: int = option(
        3,
        check=Integer(low=1, high=1000),
        group="study",
        help="number of repetitions; each redraws split, initialization and order",
    )
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="study", help="the first seed")


@dataclass(frozen=True, kw_only=True)
class SweepStudyConfig(RecordsConfig, ModelConfig, TrainConfig, CanaryConfig):
    """Everything that `sweep` takes: the grid or space, and the settings that all cells share."""

    canary_cost: bool = canary_cost_option(False)
    class_choice: str = option(
        "random",
        check=Choice(words=("first", "random")),
        group="data",
        help="classes to keep if there are fewer than all: the first in a random order, one per seed, or the first (as in the case study)",
    )
    nonmembers: int | str = option(
        "auto", check=Integer(low=20, words=("auto",)), group="data", help="number of records that no model sees, for the audit"
    )
    validation: int | str = option(
        "auto",
        check=Integer(low=10, words=("auto",)),
        group="data",
        help="number of further records on which training is monitored",
    )
    trainer: str = option(
        BUILT_IN_TRAINER,
        check=ChoiceOrSource(words=(BUILT_IN_TRAINER,)),
        group="model",
        help="trainer: keras for the built-in models; or your own training function or a class with fit and predict_proba, as "
        "path/to/file.py:NAME or package.module:NAME, whose parameters a space may vary",
    )
    model: str = option(
        "dense", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture, unless the grid sets it"
    )
    grid: str = option(
        "classes",
        check=Choice(words=("depth", "width", "architecture", "classes", "size", "epochs", "privacy")),
        group="sweep",
        help="built-in grid: the factor to vary, under its controls",
    )
    space: str = option(
        "",
        check=Text(hint="the path of a YAML file, or nothing"),
        group="sweep",
        help="a search space of your own instead of a grid (docs/howto/sweep.md)",
    )
    controls: str = option(
        "auto",
        check=Text(hint="auto, or names of the grid's controls separated by commas"),
        group="sweep",
        help="the grid's controls to run; a control is what is held constant while the factor varies",
    )
    levels: str = option(
        "auto",
        check=Text(hint="auto, or whole numbers separated by commas"),
        group="sweep",
        help="values of the varied factor; auto: the grid's own, as far as the data set allows them",
    )
    group_scores: str = pooling_option(group="sweep")
    private_artifacts: bool = private_option(False, group="sweep")
    loss_trace: bool = trace_option(
        False,
        group="sweep",
        when="after every epoch, by a further pass, with models trained one at a time",
    )
    sampler: str = option("tpe", check=Choice(words=("grid", "random", "tpe")), group="sweep", help="how the space is searched")
    trials: int = option(
        40, check=Integer(low=1, high=100_000), group="sweep", help="number of trials of a random or TPE search"
    )
    objectives: str = option(
        "advantage_heldout",
        check=Text(hint="one or more of accuracy, advantage_heldout, auc, tpr_at_low_fpr, canary_auc, separated by commas"),
        group="sweep",
        help="what a search optimizes, on records that its final audit does not use; several give a Pareto front",
    )
    attacks: str = option(
        "threshold_loss",
        plugins="memberscope.attacks",
        check=Text(hint="all, tfp, threshold, trained, metric, or names separated by commas"),
        group="audit",
        help="attacks of each trial; the verdicts and objectives use the first one",
    )
    audit_every: int = option(
        4,
        check=Integer(low=1),
        group="audit",
        help="epochs between two audits during training, for comparisons at equal training",
    )
    margin: float = option(
        0.02,
        check=Real(low=0.0, high=1.0, open_low=True),
        group="audit",
        help="largest difference in a rate that still counts as none, for the verdict no difference",
    )
    log_models: bool = option(True, check=YesNo(), group="audit", help="yes: save each trial's model in its run")
    workers: int | str = option(
        "auto",
        check=Integer(low=1, high=1024, words=("auto",)),
        group="fleet",
        help="training processes on this machine; auto: one per core. Another machine joins if it runs the same command with "
        "the same storage",
    )
    folder: str = option(
        ".memberscope/sweeps",
        check=Text(hint="a folder"),
        group="fleet",
        help="folder of the Optuna studies' database and of the prepared records",
    )
    storage: str = option(
        "",
        check=Text(hint="an SQLAlchemy URL such as postgresql://HOST/DATABASE, env:NAME, or nothing"),
        group="fleet",
        help="storage of the Optuna study, or env:NAME for the environment variable that holds its address and password; empty: an SQLite "
        "file in the folder",
    )
    study: str = option(
        "auto",
        check=Text(hint="auto, or a name"),
        group="fleet",
        help="name of the Optuna study in the storage; auto: made from grid, data set and content, so that the same sweep is "
        "continued",
    )
    heartbeat: int = option(
        10,
        check=Integer(low=1, high=3600),
        group="fleet",
        help="seconds between two heartbeats of a worker; after three times as long without one, another worker takes over its trial",
    )
    seeds: int = option(
        5,
        check=Integer(low=1, high=1000),
        group="study",
        help="number of repetitions of every cell; each redraws split, classes, label noise, initialization and order",
    )
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="study", help="the first seed")
