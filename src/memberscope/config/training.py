"""Entry points that train and audit models: `train`, `main`, `sweep`."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.config.base import option
from memberscope.config.checks import Choice, Integer, Real, Text, YesNo
from memberscope.config.shared import AuditConfig, DataConfig, ModelConfig, RecordsConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrainStudyConfig(DataConfig, ModelConfig, TrainConfig, AuditConfig):
    """Everything that `train` takes."""

    seed: int = option(
        0, check=Integer(low=0, high=2**31 - 1), group="study", help="redraws split, label noise, initialization and order"
    )


@dataclass(frozen=True, kw_only=True)
class CaseStudyConfig(DataConfig, TrainConfig, AuditConfig):
    """Everything that `main` takes."""

    experiments: str = option(
        "all",
        check=Choice(words=("all", "architecture", "depth", "classes")),
        group="study",
        help="which of the three experiments to run",
    )
    depth: int = option(3, check=Integer(low=1, high=256), group="study", help="depth of the models, but for the deep one")
    deep: int = option(6, check=Integer(low=1, high=256), group="study", help="depth of the deep dense model")
    few_classes: int = option(
        4, check=Integer(low=2), group="study", help="classes of the small data set in the classes experiment"
    )
    seeds: int = option(
        3, check=Integer(low=1, high=1000), group="study", help="repetitions; each redraws split, initialization and order"
    )
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="study", help="the first seed")


@dataclass(frozen=True, kw_only=True)
class SweepStudyConfig(RecordsConfig, ModelConfig, TrainConfig):
    """Everything that `sweep` takes: the grid or space, and what all cells have in common."""

    class_choice: str = option(
        "random",
        check=Choice(words=("first", "random")),
        group="data",
        help="which classes fewer keep: the first of one random order a seed, or the first (as the case study)",
    )
    nonmembers: int | str = option(
        "auto", check=Integer(low=20, words=("auto",)), group="data", help="how many records no model sees, for the audit"
    )
    validation: int | str = option(
        "auto", check=Integer(low=10, words=("auto",)), group="data", help="how many further records watch the training"
    )
    trainer: str = option(
        "keras", check=Choice(words=("keras",)), group="model", help="what trains the models: a sweep's are the built-in ones"
    )
    model: str = option(
        "dense", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture, where the grid does not say"
    )
    grid: str = option(
        "classes",
        check=Choice(words=("depth", "width", "architecture", "classes", "size", "epochs", "privacy")),
        group="sweep",
        help="a built-in grid: what to vary, under its controls",
    )
    space: str = option(
        "",
        check=Text(hint="the path of a YAML file, or nothing"),
        group="sweep",
        help="a space of your own instead of a grid: see docs/howto/sweep.md",
    )
    controls: str = option(
        "auto",
        check=Text(hint="auto, or names of the grid's controls separated by commas"),
        group="sweep",
        help="which of the grid's controls to run: what is held constant while the factor varies",
    )
    levels: str = option(
        "auto",
        check=Text(hint="auto, or whole numbers separated by commas"),
        group="sweep",
        help="values of the varied factor; auto: the grid's own, as far as the data carry them",
    )
    sampler: str = option(
        "tpe", check=Choice(words=("grid", "random", "tpe")), group="sweep", help="how a space of your own is searched"
    )
    trials: int = option(40, check=Integer(low=1, high=100_000), group="sweep", help="trials of a random or TPE search")
    objectives: str = option(
        "advantage_heldout",
        check=Text(hint="one or more of accuracy, advantage_heldout, auc, tpr_at_low_fpr, separated by commas"),
        group="sweep",
        help="what a search optimizes, on records that its final audit does not touch; several give a Pareto front",
    )
    attacks: str = option(
        "threshold_loss",
        plugins="memberscope.attacks",
        check=Text(hint="all, tfp, threshold, trained, metric, or names separated by commas"),
        group="audit",
        help="attacks of each trial; the first one decides",
    )
    audit_every: int = option(
        4, check=Integer(low=1), group="audit", help="an audit every so many epochs, for comparisons at equal training"
    )
    margin: float = option(
        0.02,
        check=Real(low=0.0, high=1.0, open_low=True),
        group="audit",
        help="a difference in a rate smaller than this does not matter, for the verdict no difference",
    )
    log_models: bool = option(True, check=YesNo(), group="audit", help="save each trial's model in its run")
    workers: int | str = option(
        "auto",
        check=Integer(low=1, high=1024, words=("auto",)),
        group="fleet",
        help="processes on this machine that train; auto: its cores. Another machine helps by the same command on the same storage",
    )
    folder: str = option(
        ".memberscope/sweeps",
        check=Text(hint="a folder"),
        group="fleet",
        help="where the studies' database and the prepared records lie",
    )
    storage: str = option(
        "",
        check=Text(hint="an SQLAlchemy address such as postgresql://HOST/DATABASE, or nothing"),
        group="fleet",
        help="storage of the Optuna study; empty: an SQLite file in the folder",
    )
    study: str = option(
        "auto",
        check=Text(hint="auto, or a name"),
        group="fleet",
        help="name under which the storage keeps the study; auto: named for its grid, data and content, so that equal sweeps go on",
    )
    heartbeat: int = option(
        10,
        check=Integer(low=1, high=3600),
        group="fleet",
        help="seconds between two signs of life of a worker; after three times as many its trial is taken up by another",
    )
    seeds: int = option(
        5,
        check=Integer(low=1, high=1000),
        group="study",
        help="repetitions of every cell; each redraws split, classes, label noise, initialization and order",
    )
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="study", help="the first seed")
