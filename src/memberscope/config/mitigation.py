"""Entry point `mitigate`."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.config.base import option
from memberscope.config.checks import Choice, Integer, Real, Text, YesNo
from memberscope.config.shared import FleetConfig, ModelConfig, RecordsConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class MitigateConfig(RecordsConfig, ModelConfig, TrainConfig, FleetConfig):
    """Everything that `mitigate` takes."""

    model: str = option("mlp", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture")
    depth: int = option(2, check=Integer(low=1, high=256), group="model", help="how often the unit repeats")
    width: int = option(256, check=Integer(low=1, high=65536), group="model", help="units of a dense layer")
    mitigations: str = option(
        "all",
        formerly=("ladder",),
        check=Text(hint="all, release, training, or rungs separated by commas"),
        group="mitigate",
        help="which mitigations: all, release, training, or rungs such as l2,dp,top,label_only; the undefended model is always there",
    )
    shadows: int = option(
        8,
        check=Integer(low=0, high=4096),
        group="mitigate",
        help="shadow models that are trained and released as the target is; even",
    )
    shadow_rungs: str = option(
        "all",
        check=Text(hint="all, or rungs separated by commas"),
        group="mitigate",
        help="mitigations in training whose shadows are trained too; others are attacked without",
    )
    primary: str = option(
        "rmia_online",
        check=Text(hint="an attack"),
        group="mitigate",
        help="attack that judges a rung that publishes confidences",
    )
    primary_without_shadows: str = option(
        "trained_mlp", check=Text(hint="an attack"), group="mitigate", help="the same where there are no shadows"
    )
    primary_labels: str = option(
        "label_only_robust",
        check=Text(hint="an attack"),
        group="mitigate",
        help="attack that judges a rung that publishes labels only",
    )
    perturbed: int = option(
        24,
        check=Integer(low=4, high=1000),
        group="mitigate",
        help="perturbed copies of a record that the label-only attack asks about",
    )
    coin_flips: bool = option(
        True,
        check=YesNo(),
        group="mitigate",
        help="draw each membership by a fair coin, so that epsilon is bounded from below; no: half of each class",
    )
    digits: int = option(1, check=Integer(low=1, high=15), group="mitigate", help="significant digits of published confidences")
    top: int = option(3, check=Integer(low=1), group="mitigate", help="classes whose confidence is published")
    temperature: float = option(
        5.0, check=Real(low=0.0, high=1000.0, open_low=True), group="mitigate", help="temperature of published confidences"
    )
    memguard: float = option(
        0.5,
        check=Real(low=0.0, high=2.0),
        group="mitigate",
        help="expected distortion that MemGuard may cause, L1 of the confidences",
    )
    l2: float = option(
        0.001, check=Real(low=0.0, high=100.0, open_low=True), group="mitigate", help="penalty on squared kernels, of rung l2"
    )
    dropout: float = option(
        0.5,
        check=Real(low=0.0, high=1.0, open_low=True, open_high=True),
        group="mitigate",
        help="share dropped, of rung dropout",
    )
    label_smoothing: float = option(
        0.2, check=Real(low=0.0, high=1.0, open_low=True, open_high=True), group="mitigate", help="of rung label_smoothing"
    )
    strength: float = option(
        3.0,
        check=Real(low=0.0, high=1000.0, open_low=True),
        group="mitigate",
        help="weight of the attack in adversarial regularization",
    )
    target_epsilon: float | str = option(
        1.0,
        check=Real(low=0.0, high=1e6, open_low=True, words=("none",)),
        group="mitigate",
        help="epsilon that DP-SGD must keep; or none",
    )
    noise_multiplier: float | str = option(
        "none",
        check=Real(low=0.0, high=1e6, words=("none",)),
        group="mitigate",
        help="noise of DP-SGD in clip norms, instead of target_epsilon; or none",
    )
    delta: float | str = option(
        "auto",
        check=Real(low=0.0, high=1.0, open_low=True, open_high=True, words=("auto",)),
        group="mitigate",
        help="auto: members^-1.1",
    )
    clip_norm: float = option(
        1.0,
        check=Real(low=0.0, high=1e6, open_low=True),
        group="mitigate",
        help="norm that no example's gradient exceeds in DP-SGD",
    )
    clipping: str = option(
        "auto",
        check=Choice(words=("auto", "fast", "per_example")),
        group="mitigate",
        help="how DP-SGD clips: fast, from saved activations; per_example; auto: fast where every layer allows it",
    )
    private_batch_size: int = option(250, check=Integer(low=1), group="mitigate", help="expected batch of DP-SGD")
    private_learning_rate: float = option(
        0.005, check=Real(low=0.0, high=10.0, open_low=True), group="mitigate", help="learning rate of DP-SGD's Adam"
    )
    private_epochs: int | str = option(
        "auto",
        check=Integer(low=1, high=100_000, words=("auto",)),
        group="mitigate",
        help="epochs of DP-SGD; auto: as the others",
    )
    margin: float = option(
        0.02, check=Real(low=0.0, high=1.0, open_low=True), group="mitigate", help="a change smaller than this does not matter"
    )
    seeds: int = option(
        5, check=Integer(low=1, high=1000), group="study", help="repetitions; each redraws split, weights and order"
    )
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="study", help="the first seed")
