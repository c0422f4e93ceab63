"""Entry points of an outside attacker: `shadow`, `synthesize`."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.config.base import Config, option
from memberscope.config.checks import Choice, Integer, Real, Text, YesNo
from memberscope.config.shared import FleetConfig, ModelConfig, RecordsConfig, TrainConfig, primary_option


@dataclass(frozen=True, kw_only=True)
class ShadowStudyConfig(RecordsConfig, ModelConfig, TrainConfig, FleetConfig):
    """Everything that `shadow` takes."""

    model: str = option("mlp", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture")
    depth: int = option(2, check=Integer(low=1, high=256), group="model", help="how often the unit repeats")
    width: int = option(256, check=Integer(low=1, high=65536), group="model", help="units of a dense layer")
    attacks: str = option(
        "all",
        plugins="memberscope.attacks",
        check=Text(hint="all, tfp, a family, or names separated by commas"),
        group="audit",
        help="attacks on the first target: all, a family, or names separated by commas",
    )
    primary: str = primary_option(group="audit")
    slices: str = option(
        "entire,class",
        check=Text(hint="all, or some of entire, class, correctness, percentile separated by commas"),
        group="audit",
        help="which parts of the records the first target is audited on",
    )
    shadows: int = option(
        16, check=Integer(low=0, high=4096), group="shadow", help="shadow models that each target is attacked with"
    )
    targets: int = option(
        8, check=Integer(low=1, high=4096), group="shadow", help="models audited in turn; intervals over them want at least 2"
    )
    design: str = option(
        "half",
        check=Choice(words=("half", "disjoint")),
        group="shadow",
        help="half: every model is trained on half of one pool, in complementary pairs; disjoint: no shadow sees a record of the target's",
    )
    coin_flips: bool = option(
        False,
        check=YesNo(),
        group="shadow",
        help="draw each membership by a fair coin of its own instead of half of each class; only then is epsilon bounded",
    )
    population: int | str = option(
        "auto",
        check=Integer(low=50, words=("auto",)),
        group="shadow",
        help="records that no model sees, for RMIA, quantile and trajectory; auto: as many as members, or what is left",
    )
    queries: int = option(
        1,
        check=Integer(low=1, high=9),
        group="shadow",
        help="copies of each image that LiRA asks about, all but the first shifted; more than 1 for models trained with such copies",
    )
    perturbed: int = option(
        24,
        check=Integer(low=4, high=1000),
        group="shadow",
        help="perturbed copies of a record that the label-only attack asks about",
    )
    distill_epochs: int = option(
        20,
        check=Integer(low=2, high=10_000),
        group="shadow",
        help="epochs of the distillation that the trajectory attack watches",
    )
    shadow_data: str = option(
        "real",
        check=Text(hint="real, noisy, marginal, junk, hill_climb, gan, or the path of an .npz with x and y"),
        group="shadow",
        help="what shadows are trained on; other than real: design=disjoint, the pool made (against the first target) or read",
    )
    transfer_dataset: str = option(
        "",
        formerly=("other_data",),
        check=Text(hint="the name or path of another data set, or nothing"),
        group="shadow",
        help="another data set, whose shadow attacks the first target too (Salem et al. 2019, adversary 2); empty: none",
    )
    fidelity: bool = option(
        False,
        check=YesNo(),
        group="shadow",
        help="also measure how attacks weaken as shadows resemble the target less: other depth, architecture, data; fewer of them",
    )
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="study", help="of the plan, the weights and every draw")


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig(Config):
    """How synthetic records are made."""

    conf_min: float | str = option(
        "auto",
        check=Real(low=0.0, high=1.0, open_high=True, words=("auto",)),
        group="synthesis",
        help="confidence of the target from which a climbed record may be taken; auto: 0.8, or 0.3 over the copies of an image",
    )
    rej_max: int | str = option(
        "auto",
        check=Integer(low=0, words=("auto",)),
        group="synthesis",
        help="rejections in a row before fewer features change at a time; auto: 5, or 8 over copies",
    )
    k_max: int = option(
        0,
        check=Integer(low=0),
        group="synthesis",
        help="features that change at a time at first; 0: half of them (a quarter of a grid's)",
    )
    iter_max: int = option(1000, check=Integer(low=1), group="synthesis", help="proposals before a climb gives up")
    attempts: int = option(3, check=Integer(low=1), group="synthesis", help="climbs that a record may take")
    budget: int = option(0, check=Integer(low=0), group="synthesis", help="queries allowed in all; 0: no limit")
    ones: float = option(
        0.5,
        check=Real(low=0.0, high=1.0, open_high=True),
        group="synthesis",
        help="share of ones in the bits that a climb starts from",
    )
    basis: str = option(
        "grid",
        check=Choice(words=("grid", "pixel")),
        group="synthesis",
        help="what a climb over images changes: a coarse grid that is refined, or pixels (the published way)",
    )
    copies: int | str = option(
        "auto",
        check=Integer(low=1, high=64, words=("auto",)),
        group="synthesis",
        help="noisy copies of an image that the target is asked about, basis=grid only; auto: 12 there",
    )
    ink: float | str = option(
        "auto",
        check=Real(low=0.0, high=1000.0, words=("auto",)),
        group="synthesis",
        help="what distance from a plain image costs a climb in nats, basis=grid only; auto: 0.5 there",
    )
    noise_share: float = option(
        0.1, check=Real(low=0.0, high=1.0), group="synthesis", help="share of features that method=noisy gets wrong"
    )
    gan_epochs: int = option(
        200, check=Integer(low=8, high=100_000), group="synthesis", help="epochs of the GAN, over climbed records"
    )
    release: str = option(
        "none",
        check=Text(hint="none, or steps such as top=3,digits=2 (see docs/release.md)"),
        group="synthesis",
        help="what the target publishes instead of its confidences",
    )


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig(RecordsConfig, ModelConfig, TrainConfig, FleetConfig, SynthesisConfig):
    """Everything that `synthesize` takes."""

    model: str = option("mlp", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture")
    depth: int = option(2, check=Integer(low=1, high=256), group="model", help="how often the unit repeats")
    width: int = option(256, check=Integer(low=1, high=65536), group="model", help="units of a dense layer")
    method: str = option(
        "hill_climb",
        check=Text(hint="all, or some of noisy, marginal, junk, hill_climb, gan separated by commas"),
        group="synthesis",
        help="how records are made; several, separated by commas, or all, are compared",
    )
    records: int | str = option(
        "auto",
        check=Integer(low=20, high=1_000_000, words=("auto",)),
        group="synthesis",
        help="how many records to make; auto: as many as the real ones that an attacker who has some would have",
    )
    fleets: int = option(
        5,
        check=Integer(low=0, high=1000),
        group="synthesis",
        help="fleets to measure transfer with, a target each; 0: none",
    )
    shadows: int = option(8, check=Integer(low=1, high=4096), group="synthesis", help="shadow models in a fleet")
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="study", help="of the first fleet")
