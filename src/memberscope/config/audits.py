"""Options of the entry points that train nothing: `attack`, `audit`, `report`."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.config.base import Config, option
from memberscope.config.checks import Choice, Integer, Real, Text, YesNo
from memberscope.config.shared import ONLY_BY_NAME, pooling_option, primary_option, private_option, show_option
from memberscope.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PredictionFilesConfig(Config):
    """Files with the outputs of the target and of shadow models."""

    predictions: str = option(
        "",
        check=Text(hint="the path of an .npz, .npy, .csv, .parquet, .arrow or .feather"),
        group="attack",
        help="the model's outputs for members and non-members: an .npz with the keys of Predictions, or a table with columns such as "
        "logit_0, label and member; optional if a trace says who is a member: the audit then uses only its losses",
    )
    trace: str = option(
        "",
        check=Text(hint="the path of a loss trace, or nothing"),
        group="attack",
        help="losses of the same records by epoch, which the trace attacks need: a file of memberscope.LossTrace, or the loss_trace.npz "
        "that a run keeps; empty: these attacks are skipped",
    )
    shadows: str = option(
        "",
        check=Text(hint="the path of a file, of a folder with a file for each model, or nothing"),
        group="attack",
        help="outputs of shadow models for records whose membership is known, which the metric attacks, LiRA, RMIA and other shadow "
        "attacks need; empty: these attacks are skipped",
        formerly=("shadow",),
    )
    population: str = option(
        "",
        check=Text(hint="the path of a file, of a folder with a file for each model, or nothing"),
        group="attack",
        help="outputs of the model and of every shadow for records that none of them was trained on, which RMIA and quantile need; "
        "empty: these attacks are skipped",
    )
    augmented: str = option(
        "",
        check=Text(hint="the path of a file, of a folder with a file for each model, or nothing"),
        group="attack",
        help="outputs of the model and of every shadow for augmented copies of the records, which LiRA and RMIA then use; "
        "empty: they use only the records themselves",
    )
    perturbed: str = option(
        "",
        check=Text(hint="the path of a file, or nothing"),
        group="attack",
        help="the classes that the model predicts for perturbed copies of the records, which label_only_robust needs; empty: "
        "that attack is skipped",
    )
    group: str = option(
        "",
        check=Text(hint="the name of a column, the NAME of a key column_NAME, or nothing"),
        group="attack",
        help="the column, or key column_NAME, of the predictions that says which records belong together, such as those of one person: the "
        "audit then counts groups; empty: the column group or the key groups, if there is one",
    )


@dataclass(frozen=True, kw_only=True)
class DeclaredConfig(Config):
    """What only the user can declare, for the risk statement."""

    prior: float | str = option(
        "none",
        check=Real(low=0.0, high=1.0, open_low=True, open_high=True, words=("none",)),
        group="attack",
        help="share of members among the candidates that an attacker considers, to state how many accusations are right; none: not "
        "declared, and the PPV assumes as many members as non-members",
    )
    subjects: int | str = option(
        "none",
        check=Integer(low=1, words=("none",)),
        group="attack",
        help="the number of people in the model's training set, to state how many of them an attacker finds; none: not declared",
    )
    sensitivity: str = option(
        "",
        check=Text(hint="any text, or nothing"),
        group="attack",
        help='what membership reveals about a person, such as "has the disease"; it is repeated in the risk statement',
    )


@dataclass(frozen=True, kw_only=True)
class AttackOptionsConfig(DeclaredConfig):
    """How predictions are audited."""

    attacks: str = option(
        "all",
        plugins="memberscope.attacks",
        check=Text(hint="all, tfp, threshold, trained, metric, or names separated by commas"),
        group="attack",
        help="attacks to run: all, tfp (the six types of TensorFlow Privacy), a family, or names separated by commas; "
        f"{ONLY_BY_NAME}",
    )
    primary: str = primary_option(group="attack")
    slices: str = option(
        "all",
        check=Text(hint="all, or some of entire, class, correctness, percentile, column:NAME separated by commas"),
        group="attack",
        help="slices of the records to audit: all, entire, class, correctness, percentile, column:NAME, or one slice's name",
    )
    engine: str = option(
        "fast",
        check=Choice(words=("fast", "tfp")),
        group="attack",
        help="implementation of the attacks: fast, or tfp for TensorFlow Privacy's own run_attacks",
    )
    refit: bool = option(
        False,
        check=YesNo(),
        group="attack",
        help="yes: refit trained attacks on each slice instead of slicing their scores",
    )
    controls: str = option(
        "auto",
        check=Choice(words=("auto", "full", "none")),
        group="attack",
        help="auto: null and blind controls; full: also refit trained attacks with membership permuted 20 times; none: no controls",
    )
    coin_flips: bool = option(
        False,
        check=YesNo(),
        group="attack",
        help="yes: an independent fair coin flip decided the membership of each record; only then can epsilon be bounded from "
        "one run",
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
        help="epsilon that the training promised, for coin_flips=yes: the audit then makes enough guesses to be able to "
        "refute it; none: nothing was promised",
    )
    delta: float = option(
        1e-5,
        check=Real(low=0.0, high=1.0, open_high=True),
        group="attack",
        help="delta of the lower bound of epsilon; where an epsilon was promised, use the delta of that promise",
    )
    min_records: int = option(
        20, check=Integer(low=8), group="attack", help="fewest members, and fewest non-members, that a slice may have"
    )
    top: int = option(25, check=Integer(low=1, high=10_000), group="attack", help="number of the most exposed records to list")
    group_scores: str = pooling_option(group="attack")
    private_artifacts: bool = private_option(False, group="attack")
    show_records: bool = show_option(group="attack")
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="attack", help="seed of every random draw")

    def __post_init__(self) -> None:
        """Check every field, and that a promised epsilon comes with coin flips: without them there is no bound to compare it with."""
        super().__post_init__()
        if self.promise is not None and not self.coin_flips:
            raise UserError(
                f"promised_epsilon={self.promised_epsilon:g}: coin_flips=no, and without coin flips epsilon is not bounded; allowed: none, "
                "or coin_flips=yes"
            )

    @property
    def promise(self) -> float | None:
        """The promised epsilon; None if there is none."""
        return None if self.promised_epsilon == "none" else float(self.promised_epsilon)


@dataclass(frozen=True, kw_only=True)
class GateConfig(Config):
    """The gate at the end of an audit."""

    fail_if: str = option(
        "",
        plugins="memberscope.metrics",
        check=Text(hint="rules such as any.entire.auc > 0.55, separated by semicolons; or nothing"),
        group="gate",
        help="rules that trip the gate: exit code 3 if a metric is shown to be above its limit, 4 if the data cannot decide",
    )
    undecided: str = option(
        "report",
        check=Choice(words=("report", "pass", "fail")),
        group="gate",
        help="how an undecided gate ends: report (exit code 4), pass or fail",
    )


@dataclass(frozen=True, kw_only=True)
class AttackStudyConfig(GateConfig, AttackOptionsConfig, PredictionFilesConfig):
    """Everything that `attack` takes."""


@dataclass(frozen=True, kw_only=True)
class ModelFilesConfig(Config):
    """A logged model, and files with its members and non-members."""

    model_uri: str = option(
        "",
        check=Text(hint="models:/NAME/VERSION, runs:/RUN_ID/PATH, or the path of a logged model"),
        group="model",
        help="address of the model in MLflow; loading a model runs its code",
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
        help="similar records that the model was not trained on",
    )
    label: str = option(
        "label", check=Text(hint="a column's name"), group="data", help="name of the column that holds the labels, for a table"
    )
    group: str = option(
        "",
        check=Text(hint="a column's name, or nothing"),
        group="data",
        help="name of the column (for an .npz, of an array in addition to x and y) that says which records belong together, such as "
        "those of one person: the audit then counts groups; empty: none",
    )
    na_values: str = option(
        "",
        check=Text(hint="words separated by commas, or nothing"),
        group="data",
        help="words that mark a missing value in any column of a table, such as NA,?; empty cells always do, and in columns of numbers "
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
        help="what the model returns; auto: predict_proba if it has one, else decided from the values, and the run says how",
    )
    predict_batch: int = option(1024, check=Integer(low=1), group="model", help="records in one call of the model")


@dataclass(frozen=True, kw_only=True)
class AuditModelConfig(GateConfig, AttackOptionsConfig, ModelFilesConfig):
    """Everything that `audit` takes."""

    private_artifacts: bool = private_option(True, group="attack")


@dataclass(frozen=True, kw_only=True)
class ReportStudyConfig(DeclaredConfig):
    """Everything that `report` takes."""

    runs: str = option(
        "",
        check=Text(hint="run ids or names separated by commas"),
        group="report",
        help="the runs to report on; the run of a study that trained several models stands for all of its models' runs",
    )
    from_: str = option(
        "",
        called="from",
        check=Text(hint="the path of an evidence.json, or nothing"),
        group="report",
        help="evidence file to report on instead of runs; it needs no MLflow",
    )
    formats: str = option(
        "html",
        check=Text(hint="all, or some of html, json, junit, cyclonedx, markdown separated by commas"),
        group="report",
        help="what is written: html, the page; json, evidence.json; junit, the gate as gate.junit.xml; cyclonedx, model_card.cdx.json; "
        "markdown, model_card.md",
    )
    folder: str = option(
        "",
        check=Text(hint="a folder, or nothing"),
        group="report",
        help="folder for the files, which is created if its parent exists; empty: the working directory",
    )
    title: str = option(
        "",
        check=Text(hint="any text, or nothing"),
        group="report",
        help="title of the page; empty: made from the names of the runs",
    )
    page: str = option(
        "report.html",
        check=Text(hint="the path of an .html file, or none"),
        group="report",
        help="file to which the page is written, in addition to the run's artifacts; a relative path starts at the folder; none: the page "
        "is an artifact only",
    )
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="report", help="seed of the paired bootstraps")
