"""The mitigations: each is a way of training and a way of publishing, with a primary attack that is fixed before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memberscope.attacks import registry
from memberscope.config.mitigation import MitigateConfig
from memberscope.errors import UserError, nearest
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions
from memberscope.release import parse_release
from memberscope.studies.mitigate.rungs import Rung
from memberscope.training.registry import is_builder, is_outside
from memberscope.training.trainer import Trainer, require_capability

UNDEFENDED = "undefended"
RELEASE = ("digits", "top", "temperature", "memguard", "label_only")
RECIPE = ("l2", "dropout", "label_smoothing", "fewer_epochs", "early_stopping")
PARAMETERS = ("l2", "dropout", "label_smoothing")  # mitigations that are a parameter of the trainer of the same name
LOOPED = ("adversarial", "adversarial_tuned", "dp")  # trained by a loop of their own, one model after another
TRAINING = (*RECIPE, *LOOPED)
CAPABILITIES = {
    "early_stopping": ("epochs",), "adversarial": ("epochs", "adversarial"), "adversarial_tuned": ("epochs", "adversarial"),
    "dp": ("epochs", "private"),
}  # fmt: skip
"""What a trainer must offer for a mitigation in training."""
GROUPS = {"all": (*RELEASE, *TRAINING), "release": RELEASE, "training": TRAINING}
ASKED = frozenset({"target", "population", "perturbed_labels"})  # evidence on every mitigation, besides the shadows of some
_LABELS = Evidence(
    target=Predictions(predicted=np.arange(2), labels=np.arange(2), member=np.array([True, False])),
    perturbed_labels=np.zeros((2, 1), dtype=np.int64),
)  # two records of a model that publishes labels only


@dataclass(frozen=True, kw_only=True)
class Mitigation:
    """One mitigation, or the undefended model.

    Attributes:
        name: its name.
        training: how the models are trained: ``undefended``, one of `TRAINING`, or that of `rung`.
        release: what they publish, in the syntax of `memberscope.release.parse_release`.
        shadows: whether shadows are trained and released alike.
        primary: the attack by which it is assessed.
        against: the attack on the undefended model relative to which its change is computed: the same attack, except for ``label_only``,
            which is compared with the undefended model's primary attack, the one that an attacker would use there.
        about: a description of one line for the run's page.
        rung: the user's own mitigation in training that this is; None for the others.
    """

    name: str
    training: str
    release: str
    shadows: bool
    primary: str
    against: str
    about: str
    rung: Rung | None = None


def parse_mitigations(text: str, rungs: Collection[str] = ()) -> tuple[str, ...]:
    """The names of the requested mitigations, the undefended model first, and those of a user's own file last.

    Raises:
        UserError: an unknown mitigation (the message suggests the nearest).
    """
    known = dict.fromkeys([*GROUPS["all"], *rungs])
    found: list[str] = []
    for part in (piece.strip() for piece in text.split(",")):
        if part and part not in (UNDEFENDED, *GROUPS, *known):
            allowed = f"all, release, training, {', '.join(known)}"
            raise UserError(f"mitigations={part}: unknown; allowed: {allowed}{nearest(part, (*GROUPS, *known))}")
        found += GROUPS.get(part, (part,) if part else ())
    return tuple(dict.fromkeys([UNDEFENDED, *(name for name in found if name not in rungs), *rungs]))


def named_singly(text: str) -> frozenset[str]:
    """The mitigations that a request names one by one, not as part of a group."""
    return frozenset(part.strip() for part in text.split(",")) - frozenset(GROUPS)


def mitigations_of(
    config: MitigateConfig, trainer: Trainer | None = None, rungs: Mapping[str, Rung] | None = None
) -> tuple[Mitigation, ...]:
    """The mitigations that a configuration requests, and those of a user's own file.

    Raises:
        UserError: see `parse_mitigations`; an odd number of shadows; shadows for some mitigations but not for the undefended model;
            epsilon and noise both given, or neither; a mitigation of a file under a name that means something else.
    """
    own = rungs or {}
    check_names(config, trainer, own)
    if config.shadows % 2:
        raise UserError(
            f"shadows={config.shadows}: odd, but models are trained in complementary pairs; allowed: 0 or an even number"
        )
    names = parse_mitigations(config.mitigations, own)
    chosen = _names("shadow_rungs", config.shadow_rungs, own)
    if "dp" in names and "dp" not in own and (config.target_epsilon == "none") == (config.noise_multiplier == "none"):
        given = "both given" if config.target_epsilon != "none" else "neither given"
        raise UserError(
            f"target_epsilon={config.target_epsilon}, noise_multiplier={config.noise_multiplier}: {given}; allowed: one, the other none"
        )
    if config.shadows and chosen and UNDEFENDED not in chosen:
        raise UserError(
            f"shadow_rungs={config.shadow_rungs}: changes are relative to the undefended model, attacked with shadows too; "
            f"allowed: {UNDEFENDED} and others, or nothing"
        )
    return tuple(_mitigation(name, config, chosen, trainer, own.get(name)) for name in names)


def check_names(config: MitigateConfig, trainer: Trainer | None, rungs: Collection[str]) -> None:
    """Raise UserError for a user's own mitigation under the name of another one, or of a group.

    A built-in one that is a change of one parameter gives way to it, and so does one that the trainer cannot make.
    """
    offered = trainer.capabilities if trainer is not None else frozenset[str]()
    for name in rungs:
        makes = name in CAPABILITIES and offered.issuperset(CAPABILITIES[name])
        if name == UNDEFENDED or name in GROUPS or name in RELEASE or makes:
            raise UserError(
                f"rungs={config.rungs}: {name}: the name of a built-in mitigation or group, which is something else; "
                "allowed: another name"
            )


def _names(option: str, text: str, rungs: Collection[str]) -> frozenset[str]:
    known = tuple(dict.fromkeys([UNDEFENDED, *TRAINING, *rungs]))
    if text == "all":
        return frozenset(known)
    found = [part.strip() for part in text.split(",") if part.strip()]
    for name in found:
        if name not in known:
            raise UserError(f"{option}={name}: unknown; allowed: all, {', '.join(known)}{nearest(name, known)}")
    return frozenset(found)


def _mitigation(
    name: str, config: MitigateConfig, with_shadows: frozenset[str], trainer: Trainer | None, rung: Rung | None
) -> Mitigation:
    published = {
        "digits": f"digits={config.digits}", "top": f"top={config.top}", "temperature": f"temperature={config.temperature:g}",
        "memguard": f"memguard={config.memguard:g}", "label_only": "label_only",
    }  # fmt: skip
    epsilon = f"epsilon {config.target_epsilon}" if config.target_epsilon != "none" else f"noise {config.noise_multiplier}"
    epochs = int(config.epochs if trainer is None else _epochs(trainer) or config.epochs)
    about = {
        UNDEFENDED: "plain training, confidences published unchanged",
        "digits": f"confidences rounded down to {config.digits} significant digit(s)",
        "top": f"only the {config.top} largest confidences",
        "temperature": f"logits divided by {config.temperature:g}",
        "memguard": f"MemGuard (Jia et al. 2019), expected distortion at most {config.memguard:g}",
        "label_only": "the class and nothing else",
        "l2": f"L2 penalty {config.l2:g} on the kernels",
        "dropout": f"dropout {config.dropout:g} after each hidden dense layer",
        "label_smoothing": f"label smoothing {config.label_smoothing:g}",
        "fewer_epochs": f"{max(1, epochs // 4)} epochs instead of {epochs}",
        "early_stopping": "stopped at the epoch with the lowest loss on records that are never audited",
        "adversarial": f"adversarial regularization (Nasr et al. 2018), strength {config.strength:g}, from scratch",
        "adversarial_tuned": f"adversarial regularization as fine-tuning of the trained model, for {max(1, config.epochs // 4)} epochs",
        "dp": f"DP-SGD, {epsilon}, clip norm {config.clip_norm:g}",
    }
    if is_outside(config.trainer):
        about |= {parameter: f"{parameter}={getattr(config, parameter):g}" for parameter in PARAMETERS}
        about["temperature"] = f"logits, or the logarithms of confidences, divided by {config.temperature:g}"
    if is_builder(config.trainer):
        about["dropout"] = f"dropout={config.dropout:g}"
    if rung is not None:
        about[name] = rung.about
    trained = name if name in TRAINING or rung is not None else UNDEFENDED
    shadows = config.shadows > 0 and trained in with_shadows
    with_confidences = config.primary if shadows else config.primary_without_shadows
    primary = config.primary_labels if name == "label_only" else with_confidences
    return Mitigation(
        name=name, training=trained if rung is None else rung.training, release=published.get(name, "none"), shadows=shadows,
        primary=primary, against=with_confidences if name == "label_only" else primary, about=about[name], rung=rung,
    )  # fmt: skip


def possible(
    mitigations: Sequence[Mitigation], config: MitigateConfig, trainer: Trainer, *, classes: int, asked: frozenset[str] = ASKED
) -> tuple[tuple[Mitigation, ...], dict[str, str]]:
    """The mitigations that can be made and assessed, and the reason for each of the others, which were requested as part of a group.

    What was requested by name stays, so that the checks below reject it.
    """
    kept, skipped = list[Mitigation](), dict[str, str]()
    for mitigation in mitigations:
        reason = _impossible(mitigation, config, trainer, classes=classes, asked=asked)
        if reason and mitigation.name not in named_singly(config.mitigations):
            skipped[mitigation.name] = reason
        else:
            kept.append(mitigation)
    return tuple(kept), skipped


def _impossible(
    mitigation: Mitigation, config: MitigateConfig, trainer: Trainer, *, classes: int, asked: frozenset[str]
) -> str:
    """Why a mitigation cannot be made or assessed, apart from a value that the user has chosen; empty if it can."""
    try:
        check_trainer((mitigation,), trainer)
    except UserError as error:
        return str(error).removeprefix(f"{mitigation.name}: ")
    usual = MitigateConfig()
    if mitigation.name == "top" and config.top == usual.top and config.top > classes:
        return f"the model has {classes} classes; allowed: top of 1 to {classes}"
    needs = registry.get(mitigation.primary).needs
    if mitigation.name == "label_only" and config.primary_labels == usual.primary_labels and needs & (ASKED - asked):
        return (
            f"its primary attack {mitigation.primary} needs noisy copies, which records with words or missing numbers do not have; "
            "allowed: primary_labels=label_only_gap"
        )
    return ""


def check_attacks(mitigations: Sequence[Mitigation], asked: frozenset[str] = ASKED) -> None:
    """Raise UserError for a mitigation whose primary attack needs evidence that this study does not collect on it.

    `asked` is the evidence on every mitigation, besides the shadows of some.
    """
    for mitigation in mitigations:
        attack = registry.get(mitigation.primary)
        lacking = attack.needs - asked - ({"shadows"} if mitigation.shadows else set())
        reason = f"needs {' and '.join(sorted(lacking))}" if lacking else None
        if mitigation.name == "label_only" and not lacking:
            reason = attack.missing(_LABELS)
        if reason:
            raise UserError(
                f"primary attack {mitigation.primary} of mitigation {mitigation.name}: {reason}, which this study does not have for the "
                "mitigation; allowed: another attack"
            )


def check_trainer(mitigations: Sequence[Mitigation], trainer: Trainer) -> None:
    """Raise UserError for a mitigation in training that the trainer cannot make, because it lacks a capability or a parameter."""
    for mitigation in mitigations:
        if mitigation.training == UNDEFENDED or mitigation.rung is not None:
            continue
        require_capability(trainer, *CAPABILITIES.get(mitigation.training, ()), by=mitigation.name)
        parameter = mitigation.training if mitigation.training in PARAMETERS else "epochs"
        if parameter not in trainer.params or (parameter == "epochs" and _epochs(trainer) is None):
            has = ", ".join(trainer.params) or "none"
            raise UserError(f"{mitigation.name}: needs a trainer with the parameter {parameter}; {trainer.name} has {has}")


def _epochs(trainer: Trainer) -> int | None:
    """The trainer's parameter ``epochs``; None if it has none, or one that is no whole number."""
    epochs = trainer.params.get("epochs")
    return epochs if isinstance(epochs, int) and not isinstance(epochs, bool) else None


def check_releases(mitigations: Sequence[Mitigation], *, classes: int) -> None:
    """Raise UserError for a release that is impossible with this number of classes."""
    for mitigation in mitigations:
        parse_release(mitigation.release).check(classes)
