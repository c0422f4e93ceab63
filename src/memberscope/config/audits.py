"""Entry points that audit what there is: `attack`, `audit`, `report`."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.config.base import Config, option
from memberscope.config.checks import Choice, Integer, Real, Text, YesNo
from memberscope.config.shared import primary_option
from memberscope.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PredictionFilesConfig(Config):
    """What models said, from files."""

    predictions: str = option(
        "",
        check=Text(hint="the path of an .npz"),
        group="attack",
        help="what a model said: an .npz with the keys of Predictions",
    )
    shadow: str = option(
        "",
        check=Text(hint="the path of an .npz, or nothing"),
        group="attack",
        help="what shadow models said of records whose membership is known, for the metric attacks; empty: those are skipped",
    )


@dataclass(frozen=True, kw_only=True)
class AttackOptionsConfig(Config):
    """How predictions are audited once they are there."""

    attacks: str = option(
        "all",
        plugins="memberscope.attacks",
        check=Text(hint="all, tfp, threshold, trained, metric, or names separated by commas"),
        group="attack",
        help="which attacks: all, tfp (the six types of TensorFlow Privacy), a family, or names separated by commas",
    )
    primary: str = primary_option(group="attack")
    slices: str = option(
        "all",
        check=Text(hint="all, or some of entire, class, correctness, percentile, column:NAME separated by commas"),
        group="attack",
        help="which parts of the records: all, entire, class, correctness, percentile, column:NAME, or one slice's name",
    )
    engine: str = option(
        "fast",
        check=Choice(words=("fast", "tfp")),
        group="attack",
        help="fast, or tfp for TensorFlow Privacy's own run_attacks",
    )
    refit: bool = option(
        False,
        check=YesNo(),
        group="attack",
        help="fit trained attacks anew on each slice instead of slicing scores",
    )
    controls: str = option(
        "auto",
        check=Choice(words=("auto", "full", "none")),
        group="attack",
        help="auto: null and blind controls; full: also refit trained attacks with membership permuted 20 times",
    )
    prior: float = option(
        0.5,
        check=Real(low=0.0, high=1.0, open_low=True, open_high=True),
        group="attack",
        help="share of members that the PPV assumes",
    )
    coin_flips: bool = option(
        False,
        check=YesNo(),
        group="attack",
        help="was each record made a member by its own fair coin? Only then can epsilon be bounded from one run",
    )
    duplicates: str = option(
        "drop",
        check=Choice(words=("drop", "keep", "refuse")),
        group="attack",
        help="exact copies of a record on the same side, where ids or inputs reveal them: drop (each record counts once), keep (every "
        "copy counts), or refuse",
    )
    promised_epsilon: float | str = option(
        "none",
        check=Real(low=0.0, high=1e6, words=("none",)),
        group="attack",
        help="epsilon that training promised, for coin_flips=yes: enough guesses are made to be able to refute it; or none",
    )
    delta: float = option(
        1e-5,
        check=Real(low=0.0, high=1.0, open_high=True),
        group="attack",
        help="delta of the lower bound of epsilon; where an epsilon was promised, use the delta of that promise",
    )
    min_records: int = option(20, check=Integer(low=8), group="attack", help="records that a slice needs on each side")
    top: int = option(
        25, check=Integer(low=1, high=10_000), group="attack", help="how many of the most exposed records to list"
    )
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="attack", help="of every random draw")

    def __post_init__(self) -> None:
        """Check every field, and that a promised epsilon comes with coin flips, without which it has no bound to be compared with."""
        super().__post_init__()
        if self.promise is not None and not self.coin_flips:
            raise UserError(
                f"promised_epsilon={self.promised_epsilon:g}: coin_flips=no, and without coin flips epsilon is not bounded; allowed: none, "
                "or coin_flips=yes"
            )

    @property
    def promise(self) -> float | None:
        """The promised epsilon; None where none was given."""
        return None if self.promised_epsilon == "none" else float(self.promised_epsilon)


@dataclass(frozen=True, kw_only=True)
class GateConfig(Config):
    """The gate at the end of an audit."""

    fail_if: str = option(
        "",
        plugins="memberscope.metrics",
        check=Text(hint="rules such as any.entire.auc > 0.55, separated by semicolons; or nothing"),
        group="gate",
        help="rules that the figures must not break: exit 3 if one surely does, 4 if it cannot be told",
    )
    undecided: str = option(
        "report", check=Choice(words=("report", "pass", "fail")), group="gate", help="what an undecided gate counts as"
    )


@dataclass(frozen=True, kw_only=True)
class AttackStudyConfig(GateConfig, AttackOptionsConfig, PredictionFilesConfig):
    """Everything that `attack` takes."""


@dataclass(frozen=True, kw_only=True)
class ModelFilesConfig(Config):
    """A logged model and files of its records."""

    model_uri: str = option(
        "",
        check=Text(hint="models:/NAME/VERSION, runs:/RUN_ID/PATH, or the path of a logged model"),
        group="model",
        help="the model, as MLflow addresses it; loading it runs its code",
    )
    members: str = option(
        "",
        check=Text(hint="the path of an .npz of x and y, a .parquet or a .csv"),
        group="data",
        help="the records that the model was trained on",
    )
    nonmembers: str = option(
        "",
        check=Text(hint="the path of an .npz of x and y, a .parquet or a .csv"),
        group="data",
        help="records like them that it never saw",
    )
    label: str = option(
        "label", check=Text(hint="a column's name"), group="data", help="the column of a table that holds the labels"
    )
    na_values: str = option(
        "",
        check=Text(hint="words separated by commas, or nothing"),
        group="data",
        help="words that mean a missing value in any column of a table, such as NA,?; empty cells always do, and in columns of numbers "
        "so do NA, null and the like",
    )
    allow_overlap: bool = option(
        False,
        check=YesNo(),
        group="data",
        help="yes: audit even if some records are both members and non-members",
    )
    output: str = option(
        "auto",
        check=Choice(words=("auto", "logits", "probs", "labels")),
        group="model",
        help="what the model returns; auto: predict_proba where it has one, else decided from the values, and said",
    )
    predict_batch: int = option(1024, check=Integer(low=1), group="model", help="records that the model is asked about at once")


@dataclass(frozen=True, kw_only=True)
class AuditModelConfig(GateConfig, AttackOptionsConfig, ModelFilesConfig):
    """Everything that `audit` takes."""


@dataclass(frozen=True, kw_only=True)
class ReportStudyConfig(Config):
    """Everything that `report` takes."""

    runs: str = option(
        "",
        check=Text(hint="run ids or names separated by commas"),
        group="report",
        help="the runs to report on; a study that trained several models stands for all of them",
    )
    title: str = option(
        "", check=Text(hint="any text, or nothing"), group="report", help="the page's title; empty: from the runs"
    )
    page: str = option(
        "report.html",
        check=Text(hint="the path of an .html file, or none"),
        group="report",
        help="where the page is written, besides the run's artifacts; none: nowhere else",
    )
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="report", help="of the paired bootstraps")
