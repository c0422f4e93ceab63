"""Options of the entry points that study an outside attacker: `plan`, `shadow`, `synthesize`."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.config.base import Config, option
from memberscope.config.checks import Choice, Integer, Real, Text, YesNo
from memberscope.config.shared import (
    ONLY_BY_NAME,
    CanaryConfig,
    FleetConfig,
    ModelConfig,
    RecordsConfig,
    TrainConfig,
    canary_cost_option,
    pooling_option,
    primary_option,
    private_option,
    show_option,
)
from memberscope.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ShadowPlanConfig(Config):
    """Which records each model of a shadow study is trained on."""

    shadows: int = option(
        16, check=Integer(low=0, high=4096), group="shadow", help="number of shadow models with which each target is attacked"
    )
    targets: int | str = option(
        "auto",
        check=Integer(low=1, high=4096, words=("auto",)),
        group="shadow",
        help="number of models that are audited in turn; intervals over targets need at least 2; auto: 8, or all models of design=half if "
        "these are fewer",
    )
    design: str = option(
        "half",
        check=Choice(words=("half", "disjoint")),
        group="shadow",
        help="half: every model is trained on half of one pool, in complementary pairs; disjoint: no shadow sees a record of the targets",
    )
    coin_flips: bool = option(
        False,
        check=YesNo(),
        group="shadow",
        help="yes: draw each membership by an independent fair coin flip; no: draw half of each class, and epsilon cannot be "
        "bounded",
    )
    population: int | str = option(
        "auto",
        check=Integer(low=50, words=("auto",)),
        group="shadow",
        help="number of records that no model sees, for RMIA, quantile and trajectory; auto: as many as members, or all that are left",
    )
    queries: int = option(
        1,
        check=Integer(low=1, high=9),
        group="shadow",
        help="number of copies of each image (the image and shifted copies) that LiRA queries, and RMIA if it helps on the "
        "shadows; useful if the models were trained with such copies",
    )
    seed: int = option(
        0, check=Integer(low=0, high=2**31 - 1), group="study", help="seed of the plan, the weights and every other draw"
    )


@dataclass(frozen=True, kw_only=True)
class PlanStudyConfig(ShadowPlanConfig, RecordsConfig, CanaryConfig):
    """Everything that `plan` takes."""

    output: str = option(
        "plan",
        check=Text(hint="a folder"),
        group="shadow",
        help="folder for the index sets, as .npy files, and plan.json, which describes the outputs to return",
    )


@dataclass(frozen=True, kw_only=True)
class ShadowStudyConfig(ShadowPlanConfig, RecordsConfig, ModelConfig, TrainConfig, FleetConfig, CanaryConfig):
    """Everything that `shadow` takes."""

    canary_cost: bool = canary_cost_option(True)
    model: str = option("mlp", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture")
    depth: int = option(
        2,
        check=Integer(low=1, high=256),
        group="model",
        help="number of hidden layers, or of convolutions with pooling; a dense model has one layer more",
    )
    width: int = option(256, check=Integer(low=1, high=65536), group="model", help="units of each hidden dense layer")
    attacks: str = option(
        "all",
        plugins="memberscope.attacks",
        check=Text(hint="all, tfp, a family, or names separated by commas"),
        group="audit",
        help=f"attacks on the first target: all, a family, or names separated by commas; {ONLY_BY_NAME}",
    )
    primary: str = primary_option(group="audit")
    slices: str = option(
        "entire,class",
        check=Text(hint="all, or some of entire, class, correctness, percentile separated by commas"),
        group="audit",
        help="slices of the records on which the first target is audited",
    )
    group_scores: str = pooling_option(group="audit")
    private_artifacts: bool = private_option(False, group="audit")
    show_records: bool = show_option(group="audit")
    perturbed: int = option(
        24,
        check=Integer(low=4, high=1000),
        group="shadow",
        help="number of perturbed copies of each record that the label-only attack queries",
    )
    distill_epochs: int = option(
        20,
        check=Integer(low=2, high=10_000),
        group="shadow",
        help="epochs of the distillation whose losses the trajectory attack uses",
    )
    shadow_data: str = option(
        "real",
        check=Text(hint="real, noisy, marginal, junk, hill_climb, gan, or the path of an .npz with x and y"),
        group="shadow",
        help="data on which shadows are trained; all but real need design=disjoint, and are made by queries of the first target, or read",
    )
    transfer_dataset: str = option(
        "",
        formerly=("other_data",),
        check=Text(hint="the name or path of another data set, or nothing"),
        group="shadow",
        help="another data set, whose shadow model also attacks the first target (Salem et al. 2019, adversary 2); empty: none",
    )
    fidelity: bool = option(
        False,
        check=YesNo(),
        group="shadow",
        help="yes: also measure how attacks weaken with fewer shadows or shadows unlike the target (other depth, architecture, data)",
    )
    plan: str = option(
        "",
        check=Text(hint="a folder, or nothing"),
        group="shadow",
        help="folder that `memberscope plan` wrote, for models that were trained elsewhere: nothing is trained here, and data and plan "
        "are those of the folder; empty: models are trained here",
    )
    outputs: str = option(
        "",
        check=Text(hint="a folder, or nothing"),
        group="shadow",
        help="folder with the outputs of the models of --plan, one file for each model: model_000.npz or model_000.npy, and so on",
    )

    def __post_init__(self) -> None:
        """Check every field, and that a plan and its models' outputs are given together."""
        super().__post_init__()
        if bool(self.plan) != bool(self.outputs):
            given, lacking = ("plan", "outputs") if self.plan else ("outputs", "plan")
            raise UserError(f"{given}={getattr(self, given)}: given without {lacking}; allowed: both, or neither")


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig(Config):
    """How synthetic records are generated."""

    conf_min: float | str = option(
        "auto",
        check=Real(low=0.0, high=1.0, open_high=True, words=("auto",)),
        group="synthesis",
        help="lowest confidence of the target at which a climbed record may be accepted; auto: 0.8, or 0.3 as the mean over noisy copies",
    )
    rej_max: int | str = option(
        "auto",
        check=Integer(low=0, words=("auto",)),
        group="synthesis",
        help="rejections in a row after which fewer features are changed at a time; auto: 5, or 8 with noisy copies",
    )
    k_max: int = option(
        0,
        check=Integer(low=0),
        group="synthesis",
        help="number of features changed at a time in the beginning; 0: half of them (with basis=grid, a quarter of the grid's)",
    )
    iter_max: int = option(1000, check=Integer(low=1), group="synthesis", help="proposals after which a climb gives up")
    attempts: int = option(3, check=Integer(low=1), group="synthesis", help="number of climbs to try for each record")
    budget: int = option(0, check=Integer(low=0), group="synthesis", help="total number of queries allowed; 0: no limit")
    ones: float = option(
        0.5,
        check=Real(low=0.0, high=1.0, open_high=True),
        group="synthesis",
        help="share of ones in the random bits from which a climb starts",
    )
    basis: str = option(
        "grid",
        check=Choice(words=("grid", "pixel")),
        group="synthesis",
        help="what a climb changes in images: the cells of a coarse grid that is refined, or pixels (as published)",
    )
    copies: int | str = option(
        "auto",
        check=Integer(low=1, high=64, words=("auto",)),
        group="synthesis",
        help="noisy copies of an image with which the target is queried, for basis=grid; auto: 12",
    )
    ink: float | str = option(
        "auto",
        check=Real(low=0.0, high=1000.0, words=("auto",)),
        group="synthesis",
        help="weight of the penalty on the distance from a plain image, in nats, for basis=grid; auto: 0.5",
    )
    noise_share: float = option(
        0.1,
        check=Real(low=0.0, high=1.0),
        group="synthesis",
        help="share of features that method=noisy replaces by wrong values",
    )
    gan_epochs: int = option(
        200,
        check=Integer(low=8, high=100_000),
        group="synthesis",
        help="epochs of the GAN, which is trained on climbed records",
    )
    release: str = option(
        "none",
        check=Text(hint="none, or steps such as top=3,digits=2 (see docs/release.md)"),
        group="synthesis",
        help="what the target publishes instead of its plain confidences",
    )


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig(RecordsConfig, ModelConfig, TrainConfig, FleetConfig, SynthesisConfig):
    """Everything that `synthesize` takes."""

    model: str = option("mlp", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture")
    depth: int = option(
        2,
        check=Integer(low=1, high=256),
        group="model",
        help="number of hidden layers, or of convolutions with pooling; a dense model has one layer more",
    )
    width: int = option(256, check=Integer(low=1, high=65536), group="model", help="units of each hidden dense layer")
    method: str = option(
        "hill_climb",
        check=Text(hint="all, or some of noisy, marginal, junk, hill_climb, gan separated by commas"),
        group="synthesis",
        help="how records are made; several methods (separated by commas) or all are compared",
    )
    records: int | str = option(
        "auto",
        check=Integer(low=20, high=1_000_000, words=("auto",)),
        group="synthesis",
        help="number of records to make; auto: as many as the shadow pool of an attacker with real records would hold",
    )
    private_artifacts: bool = option(
        False,
        check=YesNo(),
        group="synthesis",
        help="yes: store neither the made records with the run nor pictures of them, only their card and the transfer",
    )
    show_records: bool = option(
        False,
        check=YesNo(),
        group="synthesis",
        help="yes: also store what method=noisy makes from records of your own, which are these records with a share of wrong "
        "values",
    )
    fleets: int = option(
        5,
        check=Integer(low=0, high=1000),
        group="synthesis",
        help="number of fleets, each with its own target, for measuring transfer; 0: transfer is not measured",
    )
    shadows: int = option(8, check=Integer(low=1, high=4096), group="synthesis", help="number of shadow models in each fleet")
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="study", help="seed of the first fleet")
