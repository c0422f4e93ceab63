"""Groups of options that several entry points share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memberscope.config.base import Config, option
from memberscope.config.checks import Choice, Integer, Integers, Real, Text, YesNo
from memberscope.errors import UserError

BUILT_IN_TRAINER = "keras"
NAMED_ONLY = ("lira_offline_two_sided", "lira_offline_two_sided_per_record", "rmia_online_gamma_1", "rmia_offline_gamma_1")
"""The attacks that neither ``all`` nor a family includes; written out for the help texts, which must not import the attacks."""
ONLY_BY_NAME = f"only by name: {', '.join(NAMED_ONLY)}"


def primary_option(*, group: str) -> Any:
    """The option that names an audit's primary attack; `group` is the group of the audit's other options."""
    return option(
        "auto",
        check=Text(hint="auto, or the name of one of the attacks"),
        group=group,
        help="primary attack, which gives the headline: an attack's name, or auto for the strongest attack on one half of the records, "
        "whose metrics are then those of the other half",
    )


@dataclass(frozen=True, kw_only=True)
class RecordsConfig(Config):
    """Which records and labels are used, and on how many of them a model is trained."""

    dataset: str = option(
        "digits",
        check=Text(
            hint="digits, cifar10, location30, purchase100, texas100, tfds:NAME, or the path of an .npz, .csv, .parquet or .npy"
        ),
        group="data",
        help="data set: digits (built in), cifar10, a table (location30, purchase100, texas100), tfds:NAME for any TFDS image "
        "classification data set, or the path of an .npz with x and y, of a .csv or .parquet, or of a .npy (for a trainer of your own)",
    )
    label: str = option(
        "label",
        check=Text(hint="a column's name, or the path of a .npy"),
        group="data",
        help="name of the column that holds the labels, for a table; path of the .npy with the labels, for a .npy",
    )
    group: str = option(
        "",
        check=Text(hint="a column's name, an array's name, the path of a .npy, or nothing"),
        group="data",
        help="name of the column (of the array, for an .npz; path of a .npy, for a .npy) that says which records belong together, such as "
        "those of one person; it is not a feature; empty: none",
    )
    na_values: str = option(
        "",
        check=Text(hint="words separated by commas, or nothing"),
        group="data",
        help="words that mark a missing value in any column of a table, such as NA,?; empty cells always do, and in columns of numbers "
        "so do NA, null and the like",
    )
    data_dir: str = option(
        "",
        check=Text(hint="a folder"),
        group="data",
        help="folder of prepared TFDS data sets; empty: TFDS_DATA_DIR, or TFDS's default folder",
    )
    archive_dir: str = option(
        "",
        check=Text(hint="a folder, or nothing"),
        group="data",
        help="folder that already holds the published archive of location30, purchase100 or texas100; "
        "empty: MEMBERSCOPE_ARCHIVE_DIR, or a download",
    )
    duplicates: str = option(
        "drop",
        check=Choice(words=("drop", "keep", "refuse")),
        group="data",
        help="exact copies of a record's features and label: drop (each record counts once), keep (copies are split like other "
        "records), or refuse",
    )
    classes: str = option(
        "all",
        check=Text(hint="all, a number of at least 2, or class names separated by commas"),
        group="data",
        help="classes to keep: all, a number of them, or their names (cat,dog)",
    )
    class_choice: str = option(
        "first",
        check=Choice(words=("first", "random")),
        group="data",
        help="classes to keep if classes is a number: the first (as in the case study), or random ones drawn from the seed",
    )
    label_noise: float | str = option(
        "auto",
        check=Real(low=0.0, high=1.0, words=("auto",)),
        group="data",
        help="share of labels replaced at random, equal for members, non-members and validation; auto: 0.2 for digits, 0 otherwise",
    )
    members: int | str = option(
        "auto", check=Integer(low=20, words=("auto",)), group="data", help="number of records that the model is trained on"
    )
    split: str = option(
        "auto",
        check=Choice(words=("auto", "seed", "key")),
        group="data",
        help="what decides who is a member: seed (anyone who has the records and the seed can reproduce the split), key (the seed and "
        "your secret, MEMBERSCOPE_KEY), or auto: key for a file of your own, seed for a public data set",
    )


@dataclass(frozen=True, kw_only=True)
class DataConfig(RecordsConfig):
    """Records, and the numbers of non-members and validation records of one target model."""

    nonmembers: int | str = option(
        "auto",
        check=Integer(low=20, words=("auto",)),
        group="data",
        help="number of records to audit that the model is not trained on",
    )
    validation: int | str = option(
        "auto",
        check=Integer(low=10, words=("auto", "nonmembers")),
        group="data",
        help="number of further records on which training is monitored; nonmembers: it is monitored on the audited non-members, as in the "
        "case study",
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """The trainer and the architecture of the models."""

    trainer: str = option(
        BUILT_IN_TRAINER,
        check=Text(hint="keras, or a function or class such as train.py:train or sklearn.ensemble:RandomForestClassifier"),
        group="model",
        plugins="memberscope.trainers",
        help="trainer: keras for the built-in models; your own training function or a class with fit and predict_proba, as "
        "path/to/file.py:NAME or package.module:NAME; a function that builds a Keras model, as keras:path/to/file.py:NAME; or a trainer "
        "that another package adds",
    )
    params: str = option(
        "",
        check=Text(hint="NAME=VALUE separated by commas, the path of a YAML file, or nothing"),
        group="model",
        help="parameters of your own trainer: NAME=VALUE separated by commas, such as epochs=40,width=2, or the path of a YAML file",
    )
    check_seed: bool = option(
        False,
        check=YesNo(),
        group="model",
        help="yes: train one model of your own trainer twice, and report whether the seed determines the result",
    )
    model: str = option("conv", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture")
    depth: int = option(
        3,
        check=Integer(low=1, high=256),
        group="model",
        help="number of hidden layers, or of convolutions with pooling; a dense model has one layer more",
    )
    width: int = option(64, check=Integer(low=1, high=65536), group="model", help="units of each hidden dense layer")
    widths: str = option(
        "",
        check=Integers(low=1, high=65536),
        group="model",
        help="units of each hidden layer of an mlp, such as 512,256; empty: depth layers of width units",
    )
    filters: int = option(32, check=Integer(low=1, high=4096), group="model", help="filters of each convolution")
    activation: str = option(
        "relu",
        check=Choice(words=("relu", "tanh", "sigmoid", "elu", "gelu", "selu", "swish", "linear")),
        group="model",
        help="activation function of the hidden layers",
    )

    @property
    def hidden(self) -> tuple[int, ...]:
        """`widths` as numbers."""
        return tuple(int(part) for part in self.widths.split(",") if part)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """How a model is trained."""

    epochs: int = option(40, check=Integer(low=1, high=100_000), group="train", help="number of passes over the members")
    batch_size: int = option(50, check=Integer(low=1, high=1_000_000), group="train", help="records per step")
    learning_rate: float = option(
        0.001, check=Real(low=0.0, high=10.0, open_low=True), group="train", help="learning rate of Adam"
    )


def private_option(default: bool, *, group: str) -> Any:
    """The option that leaves out what is stored of single records; `group` is the group of the audit's other options."""
    return option(
        default,
        check=YesNo(),
        group=group,
        help="yes: store nothing about single records with the run, neither scores nor the most exposed; runs can then not be compared "
        "record by record. no: store them under keyed identities (MEMBERSCOPE_KEY)",
    )


def trace_option(default: bool, *, group: str, when: str) -> Any:
    """The option that collects a loss trace; `group` is the group of the audit's other options, and `when` names the epochs."""
    return option(
        default,
        check=YesNo(),
        group=group,
        help=f"yes: collect the loss of every member and non-member {when}, for the trace attacks, and keep it with the run, sealed "
        "(MEMBERSCOPE_KEY), unless private_artifacts=yes. A trainer of your own offers it as losses_by_epoch",
    )


def pooling_option(*, group: str) -> Any:
    """The option that says how scores of groups are made; `group` is the group of the audit's other options."""
    return option(
        "mean",
        check=Choice(words=("mean", "max", "logsumexp")),
        group=group,
        help="where records have groups, such as persons: how the scores of a group's records become the group's score, which is what the "
        "audit counts",
    )


def show_option(*, group: str) -> Any:
    """The option that shows records by their own ids and pictures; `group` is the group of the audit's other options."""
    return option(
        False,
        check=YesNo(),
        group=group,
        help="yes: name the most exposed members by their own ids and rows, and show pictures; anyone who can read the run then knows "
        "that they are members",
    )


@dataclass(frozen=True, kw_only=True)
class AuditConfig(Config):
    """Which attacks are run, and on which slices."""

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
        help="slices of the final audit; auto: all, but with engine=tfp trained attacks are run only on the entire set",
    )
    engine: str = option(
        "fast",
        check=Choice(words=("fast", "tfp")),
        group="audit",
        help="fast: cross-fitted attacks on every core; tfp: TensorFlow Privacy's own run_attacks, which takes minutes to hours",
    )
    group_scores: str = pooling_option(group="audit")
    private_artifacts: bool = private_option(False, group="audit")
    show_records: bool = show_option(group="audit")
    loss_trace: bool = trace_option(
        True, group="audit", when="in every epoch with an audit (audit_every), whose losses are known then"
    )
    audit_every: int = option(
        2,
        check=Integer(low=1),
        group="audit",
        help="epochs from one threshold audit to the next during training, for the curves; from epoch 0",
    )


@dataclass(frozen=True, kw_only=True)
class FleetConfig(Config):
    """Where models are trained and kept, and how many are trained at once."""

    store: str = option(
        "models",
        check=Text(hint="a folder, or none"),
        group="fleet",
        help="folder in which finished models are kept, so that a rerun trains only those that are missing; none: keep nothing",
    )
    reuse: str = option(
        "auto",
        check=Choice(words=("auto", "force", "no")),
        group="fleet",
        help="auto: reuse finished models with the same signature; force: the store must have been written with the same settings, "
        "or the study stops, and only missing models are trained; no: train all models again",
    )
    workers: int | str = option(
        "auto",
        check=Integer(low=1, high=1024, words=("auto",)),
        group="fleet",
        help="number of processes on this machine; auto: one per core",
    )
    devices: str = option(
        "",
        check=Text(hint="names separated by commas, or nothing"),
        group="fleet",
        help="GPUs that are assigned in turn to the worker processes on this machine, named as in CUDA_VISIBLE_DEVICES, such as 0,1; "
        "empty: each process sees all",
    )
    scheduler: str = option(
        "",
        check=Text(hint="tcp://HOST:PORT of a Dask scheduler, env:NAME, or nothing"),
        group="fleet",
        help="address of a Dask scheduler whose workers train the models, or env:NAME for the environment variable that holds it; "
        "empty: this machine",
    )


CANARY_KINDS = ("natural", "mislabelled", "out_of_distribution", "noise", "duplicated")
CANARIES_OF_THE_DATA = ("natural", "mislabelled", "duplicated")
"""The kinds of canaries whose records are taken from the data set itself."""
LEAST_CANARIES = 40
"""Fewer canaries are refused: with 40 fair coins, fewer than 10 canaries fall on one side in less than one of 1,000 draws."""
USUAL_COPIES = 4


@dataclass(frozen=True, kw_only=True)
class CanaryConfig(Config):
    """Records that are planted in the training set by coin flips, and audited separately; see `memberscope.plans.canaries`."""

    canaries: int = option(
        0,
        check=Integer(low=0, high=1_000_000),
        group="canaries",
        help="number of canaries: records that are planted in the training set, each by an independent fair coin flip, and audited "
        f"separately from the others; 0, or at least {LEAST_CANARIES}",
    )
    canary_kind: str = option(
        "natural",
        check=Choice(words=CANARY_KINDS),
        group="canaries",
        help="what is planted: natural (records of the data set that no side of the plan uses), mislabelled (the same with labels of other "
        "classes), duplicated (natural, several times), out_of_distribution (records of canary_data with random labels), or noise (each "
        "feature drawn from its own values, with random labels)",
    )
    canary_data: str = option(
        "",
        check=Text(hint="the name or path of another data set, or nothing"),
        group="canaries",
        help="data set whose records are planted with canary_kind=out_of_distribution; its records must have the same shape or columns",
    )
    canary_copies: int | str = option(
        "auto",
        check=Integer(low=1, high=1000, words=("auto",)),
        group="canaries",
        help=f"how many times each canary that is a member is planted; auto: once, or {USUAL_COPIES} times with "
        "canary_kind=duplicated",
    )

    def __post_init__(self) -> None:
        """Check every field, and that the options of canaries fit each other."""
        super().__post_init__()
        given = {"canary_kind": self.canary_kind != "natural", "canary_data": bool(self.canary_data)}
        given["canary_copies"] = self.canary_copies != "auto"
        for name, is_given in given.items():
            if is_given and not self.canaries:
                raise UserError(
                    f"{name}={getattr(self, name)}: given without canaries; allowed: canaries={LEAST_CANARIES} or more"
                )
        if 0 < self.canaries < LEAST_CANARIES:
            raise UserError(f"canaries={self.canaries}: too few to be audited; allowed: 0, or {LEAST_CANARIES} or more")
        if self.canary_kind == "duplicated" and self.copies < 2:
            raise UserError(
                f"canary_copies={self.canary_copies}: too few for canary_kind=duplicated; allowed: 2 or more, or auto"
            )
        if self.canaries and not getattr(self, "coin_flips", True):
            raise UserError(
                f"canaries={self.canaries}: coin_flips=no, and canaries are members by coin flips; allowed: coin_flips=yes, or canaries=0"
            )
        outside = self.canary_kind == "out_of_distribution"
        if outside and not self.canary_data:
            raise UserError(
                f"canary_data=: missing; allowed with canary_kind={self.canary_kind}: the name or path of another data set"
            )
        if self.canary_data and not outside:
            raise UserError(
                f"canary_data={self.canary_data}: canary_kind={self.canary_kind} takes no records of it; allowed: nothing, or "
                "canary_kind=out_of_distribution"
            )

    @property
    def copies(self) -> int:
        """`canary_copies` as a number."""
        if self.canary_copies == "auto":
            return USUAL_COPIES if self.canary_kind == "duplicated" else 1
        return int(self.canary_copies)

    @property
    def reserved(self) -> int:
        """The number of records of the data set itself that become canaries, so that ``members=auto`` leaves them."""
        return self.canaries if self.canary_kind in CANARIES_OF_THE_DATA else 0


def canary_cost_option(default: bool) -> Any:
    """The option that trains one more model without canaries, to show what planting costs."""
    return option(
        default,
        check=YesNo(),
        group="canaries",
        help="yes: with canaries, also train the model without them, on the same members with the same seed, and report the accuracy that "
        "they cost; no: skip this training",
    )
