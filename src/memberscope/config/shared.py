"""Groups of options that several entry points share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memberscope.config.base import Config, option
from memberscope.config.checks import Choice, Integer, Integers, Real, Text

BUILT_IN_TRAINER = "keras"


def primary_option(*, group: str) -> Any:
    """The option that names an audit's primary attack; `group` is that of the other options of the audit."""
    return option(
        "auto",
        check=Text(hint="auto, or the name of one of the attacks"),
        group=group,
        help="primary attack, which gives the headline: an attack's name, or auto for the strongest one on half of the records, reported "
        "on the other half",
    )


@dataclass(frozen=True, kw_only=True)
class RecordsConfig(Config):
    """Which records, with which labels, and how many of them a model trains on."""

    dataset: str = option(
        "digits",
        check=Text(hint="digits, cifar10, location30, purchase100, texas100, tfds:NAME, or the path of an .npz with x and y"),
        group="data",
        help="data set: digits (embedded), cifar10, a table (location30, purchase100, texas100), tfds:NAME for any TFDS image "
        "classification set, or a path to an .npz of x, y",
    )
    data_dir: str = option(
        "",
        check=Text(hint="a folder"),
        group="data",
        help="folder of prepared TFDS data sets; empty: TFDS_DATA_DIR, or TFDS's own",
    )
    archive_dir: str = option(
        "",
        check=Text(hint="a folder, or nothing"),
        group="data",
        help="folder that already has the published archive of location30, purchase100 or texas100; "
        "empty: MEMBERSCOPE_ARCHIVE_DIR, or a download",
    )
    duplicates: str = option(
        "drop",
        check=Choice(words=("drop", "keep", "refuse")),
        group="data",
        help="exact copies of a record's features and label: drop (each record counts once), keep (copies are split as records of their "
        "own), or refuse",
    )
    classes: str = option(
        "all",
        check=Text(hint="all, a number of at least 2, or class names separated by commas"),
        group="data",
        help="which classes to keep: all, how many, or their names (cat,dog)",
    )
    class_choice: str = option(
        "first",
        check=Choice(words=("first", "random")),
        group="data",
        help="which classes a number keeps: the first (as the case study), or random ones drawn from the seed",
    )
    label_noise: float | str = option(
        "auto",
        check=Real(low=0.0, high=1.0, words=("auto",)),
        group="data",
        help="share of labels replaced at random, the same on every side; auto: 0.2 on digits, 0 elsewhere",
    )
    members: int | str = option(
        "auto", check=Integer(low=20, words=("auto",)), group="data", help="how many records the model trains on"
    )


@dataclass(frozen=True, kw_only=True)
class DataConfig(RecordsConfig):
    """Records with the sides of one target model."""

    nonmembers: int | str = option(
        "auto", check=Integer(low=20, words=("auto",)), group="data", help="how many records it never sees, for the audit"
    )
    validation: int | str = option(
        "auto",
        check=Integer(low=10, words=("auto", "nonmembers")),
        group="data",
        help="how many further records validate the training; nonmembers: the audited non-members do (as the case study did)",
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """What trains the models, and their architecture."""

    trainer: str = option(
        BUILT_IN_TRAINER,
        check=Text(hint="keras, or a trainer of another package"),
        group="model",
        plugins="memberscope.trainers",
        help="what trains the models: keras for the built-in ones, or a trainer that another package adds (memberscope.trainers)",
    )
    model: str = option("conv", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture")
    depth: int = option(
        3, check=Integer(low=1, high=256), group="model", help="how often the unit repeats (conv + pooling, or dense)"
    )
    width: int = option(64, check=Integer(low=1, high=65536), group="model", help="units of a dense layer")
    widths: str = option(
        "",
        check=Integers(low=1, high=65536),
        group="model",
        help="units of each hidden layer of an mlp, such as 512,256; empty: depth layers of width",
    )
    filters: int = option(32, check=Integer(low=1, high=4096), group="model", help="filters of a conv layer")
    activation: str = option(
        "relu",
        check=Choice(words=("relu", "tanh", "sigmoid", "elu", "gelu", "selu", "swish", "linear")),
        group="model",
        help="activation of the hidden layers",
    )

    @property
    def hidden(self) -> tuple[int, ...]:
        """`widths` as numbers."""
        return tuple(int(part) for part in self.widths.split(",") if part)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """How a model is trained."""

    epochs: int = option(40, check=Integer(low=1, high=100_000), group="train", help="passes over the members")
    batch_size: int = option(50, check=Integer(low=1, high=1_000_000), group="train", help="records a step")
    learning_rate: float = option(
        0.001, check=Real(low=0.0, high=10.0, open_low=True), group="train", help="learning rate of Adam"
    )


@dataclass(frozen=True, kw_only=True)
class AuditConfig(Config):
    """Which attacks run on which slices."""

    attacks: str = option(
        "tfp",
        plugins="memberscope.attacks",
        check=Text(hint="all, tfp, threshold, trained, metric, or names separated by commas"),
        group="audit",
        help="attacks of the final audit: tfp (the six types of TensorFlow Privacy), all, a family, or names separated by commas",
    )
    primary: str = primary_option(group="audit")
    slices: str = option(
        "auto",
        check=Text(hint="auto, all, or some of entire, class, correctness, percentile separated by commas"),
        group="audit",
        help="slices of the final audit; auto: all, but with engine=tfp the entire set alone for trained attacks",
    )
    engine: str = option(
        "fast",
        check=Choice(words=("fast", "tfp")),
        group="audit",
        help="fast: cross-fitted attacks on every core; tfp: TensorFlow Privacy's own run_attacks, minutes to hours",
    )
    audit_every: int = option(
        2, check=Integer(low=1), group="audit", help="a threshold audit every so many epochs, for the curves (epoch 0 included)"
    )


@dataclass(frozen=True, kw_only=True)
class FleetConfig(Config):
    """Where and how many models are trained at once."""

    store: str = option(
        "models",
        check=Text(hint="a folder, or none"),
        group="fleet",
        help="folder that keeps finished models, so that a rerun trains only what is missing; none: keep nothing",
    )
    reuse: str = option(
        "auto",
        check=Choice(words=("auto", "force", "no")),
        group="fleet",
        help="auto: reuse finished models that are the same in every respect; force: refuse to train any; no: train all anew",
    )
    workers: int | str = option(
        "auto",
        check=Integer(low=1, high=1024, words=("auto",)),
        group="fleet",
        help="processes on this machine; auto: its cores",
    )
    scheduler: str = option(
        "",
        check=Text(hint="tcp://HOST:PORT of a Dask scheduler, or nothing"),
        group="fleet",
        help="address of a Dask scheduler whose workers train the models; empty: this machine",
    )
