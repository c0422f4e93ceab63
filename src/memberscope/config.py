"""Configurations: frozen, keyword-only dataclasses of plain values, one field an option of the command line.

A field declares its default, what it allows and the group under which MLflow shows it; the parser, the checks, the MLproject contract
and the resolved ``config.json`` all read that one declaration. Standard library only: ``--help`` must stay quick.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from memberscope.errors import UserError, nearest


@dataclass(frozen=True, kw_only=True)
class Integer:
    """A whole number in [low, high], or one of the words in `words`."""

    low: int
    high: int | None = None
    words: tuple[str, ...] = ()

    def parse(self, name: str, value: object) -> int | str:
        """The value as an int (or an allowed word); UserError otherwise."""
        if isinstance(value, str) and value.strip() in self.words:
            return value.strip()
        try:
            number = int(str(value).strip())
        except ValueError:
            raise UserError(f"{name}={value}: not a whole number; allowed: {self.allowed()}") from None
        if number < self.low or (self.high is not None and number > self.high):
            raise UserError(f"{name}={value}: out of range; allowed: {self.allowed()}")
        return number

    def allowed(self) -> str:
        """What is allowed, in words."""
        span = f"{self.low} to {self.high}" if self.high is not None else f"{self.low} or more"
        return " or ".join([f"a whole number, {span}", *self.words])


@dataclass(frozen=True, kw_only=True)
class Real:
    """A finite number from low to high, ends excluded where `open_low` or `open_high`; or one of the words in `words`."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False
    words: tuple[str, ...] = ()

    def parse(self, name: str, value: object) -> float | str:
        """The value as a float (or an allowed word); UserError otherwise."""
        if isinstance(value, str) and value.strip() in self.words:
            return value.strip()
        try:
            number = float(str(value).strip())
        except ValueError:
            raise UserError(f"{name}={value}: not a number; allowed: {self.allowed()}") from None
        below = number <= self.low if self.open_low else number < self.low
        above = number >= self.high if self.open_high else number > self.high
        if not math.isfinite(number) or below or above:
            raise UserError(f"{name}={value}: out of range; allowed: {self.allowed()}")
        return number

    def allowed(self) -> str:
        """What is allowed, in words."""
        start = f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
        end = f"below {self.high:g}" if self.open_high else f"at most {self.high:g}"
        return " or ".join([f"a number, {start}, {end}", *self.words])


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of the given words."""

    words: tuple[str, ...]

    def parse(self, name: str, value: object) -> str:
        """The value itself; UserError, with the nearest word, otherwise."""
        word = str(value).strip()
        if word not in self.words:
            raise UserError(f"{name}={value}: unknown; allowed: {self.allowed()}{nearest(word, self.words)}")
        return word

    def allowed(self) -> str:
        """What is allowed, in words."""
        return ", ".join(self.words)


@dataclass(frozen=True, kw_only=True)
class Text:
    """Any text; `hint` says what it means. What it may hold is checked where its meaning is known."""

    hint: str

    def parse(self, name: str, value: object) -> str:
        """The text, stripped."""
        return str(value).strip()

    def allowed(self) -> str:
        """What is allowed, in words."""
        return self.hint


@dataclass(frozen=True, kw_only=True)
class Integers:
    """Whole numbers in [low, high], separated by commas; or nothing. Kept as text: ``"512,256"``."""

    low: int
    high: int

    def parse(self, name: str, value: object) -> str:
        """The numbers with commas between them, spaces gone; UserError otherwise."""
        text = str(value).strip()
        if not text:
            return ""
        one = Integer(low=self.low, high=self.high)
        try:
            return ",".join(str(one.parse(name, part)) for part in text.split(","))
        except UserError:
            raise UserError(f"{name}={text}: allowed: {self.allowed()}") from None

    def allowed(self) -> str:
        """What is allowed, in words."""
        return f"nothing, or whole numbers from {self.low} to {self.high} separated by commas"


Check = Integer | Integers | Real | Choice | Text


def option(default: Any, *, check: Check, group: str, help: str) -> Any:
    """A dataclass field that is also an option: its default, its check, the group MLflow shows it under, and its help."""
    return field(default=default, metadata={"check": check, "group": group, "help": help})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The base of every configuration: checks each field as it is made, and goes to JSON and back."""

    def __post_init__(self) -> None:
        """Parse and check every field; UserError on the first that is not allowed."""
        for item in dataclasses.fields(self):
            check: Check = item.metadata["check"]
            object.__setattr__(self, item.name, check.parse(item.name, getattr(self, item.name)))

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Make one from names and values (text or plain values); an unknown name is a UserError that names the nearest."""
        known = {item.name for item in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise UserError(f"{name}: unknown parameter; allowed: {', '.join(sorted(known))}{nearest(name, known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, int | float | str]:
        """Names and plain values, in the order of declaration."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}

    def to_json(self) -> str:
        """A JSON object that `from_json` reads back to an equal configuration."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; unknown names are rejected."""
        return cls.from_mapping(json.loads(text))


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
    """The architecture."""

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
        check=Text(hint="all, tfp, threshold, trained, metric, or names separated by commas"),
        group="audit",
        help="attacks of the final audit: tfp (the six types of TensorFlow Privacy), all, a family, or names separated by commas",
    )
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


@dataclass(frozen=True, kw_only=True)
class ShadowStudyConfig(RecordsConfig, ModelConfig, TrainConfig, FleetConfig):
    """Everything that `shadow` takes."""

    model: str = option("mlp", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture")
    depth: int = option(2, check=Integer(low=1, high=256), group="model", help="how often the unit repeats")
    width: int = option(256, check=Integer(low=1, high=65536), group="model", help="units of a dense layer")
    attacks: str = option(
        "all",
        check=Text(hint="all, tfp, a family, or names separated by commas"),
        group="audit",
        help="attacks on the first target: all, a family, or names separated by commas",
    )
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
    coin_flips: str = option(
        "no",
        check=Choice(words=("no", "yes")),
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
        5,
        check=Integer(low=1, high=9),
        group="shadow",
        help="augmented copies of an image that LiRA asks about, itself included",
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
    fidelity: str = option(
        "no",
        check=Choice(words=("no", "yes")),
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
    records: int = option(1000, check=Integer(low=20, high=1_000_000), group="synthesis", help="how many records to make")
    fleets: int = option(
        5,
        check=Integer(low=0, high=1000),
        group="synthesis",
        help="fleets to measure transfer with, a target each; 0: none",
    )
    shadows: int = option(8, check=Integer(low=1, high=4096), group="synthesis", help="shadow models in a fleet")
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="study", help="of the first fleet")


@dataclass(frozen=True, kw_only=True)
class MitigateConfig(RecordsConfig, ModelConfig, TrainConfig, FleetConfig):
    """Everything that `mitigate` takes."""

    model: str = option("mlp", check=Choice(words=("conv", "dense", "mlp")), group="model", help="architecture")
    depth: int = option(2, check=Integer(low=1, high=256), group="model", help="how often the unit repeats")
    width: int = option(256, check=Integer(low=1, high=65536), group="model", help="units of a dense layer")
    ladder: str = option(
        "all",
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
    coin_flips: str = option(
        "yes",
        check=Choice(words=("no", "yes")),
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
        check=Text(hint="all, tfp, threshold, trained, metric, or names separated by commas"),
        group="attack",
        help="which attacks: all, tfp (the six types of TensorFlow Privacy), a family, or names separated by commas",
    )
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
    refit: str = option(
        "no",
        check=Choice(words=("no", "yes")),
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
    coin_flips: str = option(
        "no",
        check=Choice(words=("no", "yes")),
        group="attack",
        help="was each record made a member by its own fair coin? Only then can epsilon be bounded from one run",
    )
    min_records: int = option(20, check=Integer(low=8), group="attack", help="records that a slice needs on each side")
    top: int = option(
        25, check=Integer(low=1, high=10_000), group="attack", help="how many of the most exposed records to list"
    )
    seed: int = option(0, check=Integer(low=0, high=2**31 - 1), group="attack", help="of every random draw")


@dataclass(frozen=True, kw_only=True)
class AttackStudyConfig(AttackOptionsConfig, PredictionFilesConfig):
    """Everything that `attack` takes."""


@dataclass(frozen=True, kw_only=True)
class ModelFilesConfig(Config):
    """A logged model, files of its records, and the gate."""

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
    allow_overlap: str = option(
        "no",
        check=Choice(words=("no", "yes")),
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
    fail_if: str = option(
        "",
        check=Text(hint="rules such as any.entire.auc > 0.55, separated by semicolons; or nothing"),
        group="gate",
        help="rules that the figures must not break: exit 3 if one surely does, 4 if it cannot be told",
    )
    undecided: str = option(
        "report", check=Choice(words=("report", "pass", "fail")), group="gate", help="what an undecided gate counts as"
    )


@dataclass(frozen=True, kw_only=True)
class AuditModelConfig(AttackOptionsConfig, ModelFilesConfig):
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
    log_models: str = option("yes", check=Choice(words=("yes", "no")), group="audit", help="save each trial's model in its run")
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


def groups(config: Config) -> dict[str, int | float | str]:
    """The configuration under dotted names (``train.learning_rate``), as MLflow's params show it."""
    return {f"{item.metadata['group']}.{item.name}": getattr(config, item.name) for item in dataclasses.fields(config)}
