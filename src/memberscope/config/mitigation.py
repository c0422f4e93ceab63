"""Options of the entry point `mitigate`."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.config.base import option
from memberscope.config.checks import Choice, Integer, Real, Text, YesNo
from memberscope.config.shared import (
    CanaryConfig,
    FleetConfig,
    ModelConfig,
    RecordsConfig,
    TrainConfig,
    canary_cost_option,
    pooling_option,
)


@dataclass(frozen=True, kw_only=True)
class MitigateConfig(RecordsConfig, ModelConfig, TrainConfig, FleetConfig, CanaryConfig):
    """Everything that `mitigate` takes."""

    canary_cost: bool = canary_cost_option(True)
    model: str = option("mlp", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture")
    depth: int = option(
        2,
        check=Integer(low=1, high=256),
        group="model",
        help="number of hidden layers, or of convolutions with pooling; a dense model has one layer more",
    )
    width: int = option(256, check=Integer(low=1, high=65536), group="model", help="units of each hidden dense layer")
    mitigations: str = option(
        "all",
        formerly=("ladder",),
        check=Text(hint="all, release, training, or names of mitigations separated by commas"),
        group="mitigate",
        help="mitigations to compare: all, release, training, or names such as l2,dp,top,label_only; the undefended model is always "
        "included; what the trainer cannot apply is skipped, unless it is named here",
    )
    rungs: str = option(
        "",
        check=Text(hint="the path of a YAML file, or nothing"),
        group="mitigate",
        help="your own mitigations in training, which are also compared: a file of names, each with the parameters of the trainer that "
        "it changes, such as dropout: {dropout: 0.5}",
    )
    shadows: int = option(
        8,
        check=Integer(low=0, high=4096),
        group="mitigate",
        help="number of shadow models for each mitigation, trained and released in the same way as the target; an even number",
    )
    shadow_rungs: str = option(
        "all",
        check=Text(hint="all, or names of mitigations separated by commas"),
        group="mitigate",
        help="mitigations in training for which shadow models are trained too; the others are attacked without shadow models",
    )
    primary: str = option(
        "rmia_online",
        check=Text(hint="the name of an attack"),
        group="mitigate",
        help="attack by which a mitigation that publishes confidences is assessed",
    )
    group_scores: str = pooling_option(group="mitigate")
    primary_without_shadows: str = option(
        "trained_mlp",
        check=Text(hint="the name of an attack"),
        group="mitigate",
        help="attack by which a mitigation without shadow models is assessed",
    )
    primary_labels: str = option(
        "label_only_robust",
        check=Text(hint="the name of an attack"),
        group="mitigate",
        help="attack by which a mitigation that publishes only labels is assessed",
    )
    perturbed: int = option(
        24,
        check=Integer(low=4, high=1000),
        group="mitigate",
        help="number of perturbed copies of each record that the label-only attack queries",
    )
    coin_flips: bool = option(
        True,
        check=YesNo(),
        group="mitigate",
        help="yes: draw each membership by a fair coin flip, so that epsilon can be bounded from below; no: draw half of each "
        "class",
    )
    digits: int = option(
        1, check=Integer(low=1, high=15), group="mitigate", help="significant digits of the published confidences, for digits"
    )
    top: int = option(
        3, check=Integer(low=1), group="mitigate", help="number of classes whose confidence is published, for top"
    )
    temperature: float = option(
        5.0,
        check=Real(low=0.0, high=1000.0, open_low=True),
        group="mitigate",
        help="temperature of the published confidences, for temperature",
    )
    memguard: float = option(
        0.5,
        check=Real(low=0.0, high=2.0),
        group="mitigate",
        help="expected distortion that MemGuard may cause, as the L1 distance of the confidences",
    )
    l2: float = option(
        0.001,
        check=Real(low=0.0, high=100.0, open_low=True),
        group="mitigate",
        help="weight of the penalty on squared kernels, for l2",
    )
    dropout: float = option(
        0.5,
        check=Real(low=0.0, high=1.0, open_low=True, open_high=True),
        group="mitigate",
        help="share of units that are dropped, for dropout",
    )
    label_smoothing: float = option(
        0.2,
        check=Real(low=0.0, high=1.0, open_low=True, open_high=True),
        group="mitigate",
        help="share of each label that is spread evenly over all classes, for label_smoothing",
    )
    strength: float = option(
        3.0,
        check=Real(low=0.0, high=1000.0, open_low=True),
        group="mitigate",
        help="weight of the attack's gain in the loss, for adversarial",
    )
    target_epsilon: float | str = option(
        1.0,
        check=Real(low=0.0, high=1e6, open_low=True, words=("none",)),
        group="mitigate",
        help="epsilon that DP-SGD guarantees; or none",
    )
    noise_multiplier: float | str = option(
        "none",
        check=Real(low=0.0, high=1e6, words=("none",)),
        group="mitigate",
        help="noise of DP-SGD as a multiple of the clip norm, instead of target_epsilon; or none",
    )
    delta: float | str = option(
        "auto",
        check=Real(low=0.0, high=1.0, open_low=True, open_high=True, words=("auto",)),
        group="mitigate",
        help="delta of DP-SGD's guarantee; auto: members^-1.1",
    )
    clip_norm: float = option(
        1.0,
        check=Real(low=0.0, high=1e6, open_low=True),
        group="mitigate",
        help="norm to which DP-SGD clips each example's gradient",
    )
    clipping: str = option(
        "auto",
        check=Choice(words=("auto", "fast", "per_example")),
        group="mitigate",
        help="how DP-SGD clips: fast, from saved activations; per_example; auto: fast if every layer allows it",
    )
    private_batch_size: int = option(250, check=Integer(low=1), group="mitigate", help="expected batch size of DP-SGD")
    private_learning_rate: float = option(
        0.005, check=Real(low=0.0, high=10.0, open_low=True), group="mitigate", help="learning rate of DP-SGD's Adam"
    )
    private_epochs: int | str = option(
        "auto",
        check=Integer(low=1, high=100_000, words=("auto",)),
        group="mitigate",
        help="epochs of DP-SGD; auto: the same as epochs",
    )
    margin: float = option(
        0.02,
        check=Real(low=0.0, high=1.0, open_low=True),
        group="mitigate",
        help="largest change that still counts as none, for the verdict no difference",
    )
    seeds: int = option(
        5, check=Integer(low=1, high=1000), group="study", help="number of repetitions; each redraws split, weights and order"
    )
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="study", help="the first seed")
