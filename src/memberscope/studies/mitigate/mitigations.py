"""The mitigations: each is a way of training and a way of publishing, with a primary attack that is fixed before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memberscope.attacks import registry
from memberscope.config import MitigateConfig
from memberscope.errors import UserError, nearest
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions
from memberscope.release import parse_release
from memberscope.training.trainer import Trainer, require_capability

UNDEFENDED = "undefended"
RELEASE = ("digits", "top", "temperature", "memguard", "label_only")
RECIPE = ("l2", "dropout", "label_smoothing", "fewer_epochs", "early_stopping")
PARAMETERS = ("l2", "dropout", "label_smoothing")  # mitigations that are a parameter of the trainer of the same name
LOOPED = ("adversarial", "adversarial_tuned", "dp")  # trained by a loop of their own, one model after another
TRAINING = (*RECIPE, *LOOPED)
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
        training: how the models are trained: ``undefended``, or one of `TRAINING`.
        release: what they publish, in the syntax of `memberscope.release.parse_release`.
        shadows: whether shadows are trained and released alike.
        primary: the attack by which it is assessed.
        against: the attack on the undefended model relative to which its change is computed: the same attack, except for ``label_only``,
            which is compared with the undefended model's primary attack, the one that an attacker would use there.
        about: a description of one line for the run's page.
    """

    name: str
    training: str
    release: str
    shadows: bool
    primary: str
    against: str
    about: str


def parse_mitigations(text: str) -> tuple[str, ...]:
    """The names of the requested mitigations, the undefended model first.

    Raises:
        UserError: an unknown mitigation (the message suggests the nearest).
    """
    groups = {"all": (*RELEASE, *TRAINING), "release": RELEASE, "training": TRAINING}
    found: list[str] = []
    for part in (piece.strip() for piece in text.split(",")):
        if part and part not in (UNDEFENDED, *groups, *groups["all"]):
            allowed = f"all, release, training, {', '.join(groups['all'])}"
            raise UserError(f"mitigations={part}: unknown; allowed: {allowed}{nearest(part, (*groups, *groups['all']))}")
        found += groups.get(part, (part,) if part else ())
    return tuple(dict.fromkeys([UNDEFENDED, *found]))


def mitigations_of(config: MitigateConfig) -> tuple[Mitigation, ...]:
    """The mitigations that a configuration requests.

    Raises:
        UserError: see `parse_mitigations`; an odd number of shadows; shadows for some mitigations but not for the undefended model;
            epsilon and noise both given, or neither.
    """
    if config.shadows % 2:
        raise UserError(
            f"shadows={config.shadows}: odd, but models are trained in complementary pairs; allowed: 0 or an even number"
        )
    names = parse_mitigations(config.mitigations)
    chosen = _names("shadow_rungs", config.shadow_rungs)
    if "dp" in names and (config.target_epsilon == "none") == (config.noise_multiplier == "none"):
        given = "both given" if config.target_epsilon != "none" else "neither given"
        raise UserError(
            f"target_epsilon={config.target_epsilon}, noise_multiplier={config.noise_multiplier}: {given}; allowed: one, the other none"
        )
    if config.shadows and chosen and UNDEFENDED not in chosen:
        raise UserError(
            f"shadow_rungs={config.shadow_rungs}: changes are relative to the undefended model, attacked with shadows too; "
            f"allowed: {UNDEFENDED} and others, or nothing"
        )
    return tuple(_mitigation(name, config, chosen) for name in names)


def _names(option: str, text: str) -> frozenset[str]:
    known = (UNDEFENDED, *TRAINING)
    if text == "all":
        return frozenset(known)
    found = [part.strip() for part in text.split(",") if part.strip()]
    for name in found:
        if name not in known:
            raise UserError(f"{option}={name}: unknown; allowed: all, {', '.join(known)}{nearest(name, known)}")
    return frozenset(found)


def _mitigation(name: str, config: MitigateConfig, with_shadows: frozenset[str]) -> Mitigation:
    published = {
        "digits": f"digits={config.digits}", "top": f"top={config.top}", "temperature": f"temperature={config.temperature:g}",
        "memguard": f"memguard={config.memguard:g}", "label_only": "label_only",
    }  # fmt: skip
    epsilon = f"epsilon {config.target_epsilon}" if config.target_epsilon != "none" else f"noise {config.noise_multiplier}"
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
        "fewer_epochs": f"{max(1, config.epochs // 4)} epochs instead of {config.epochs}",
        "early_stopping": "stopped at the epoch with the lowest loss on records that are never audited",
        "adversarial": f"adversarial regularization (Nasr et al. 2018), strength {config.strength:g}, from scratch",
        "adversarial_tuned": f"adversarial regularization as fine-tuning of the trained model, for {max(1, config.epochs // 4)} epochs",
        "dp": f"DP-SGD, {epsilon}, clip norm {config.clip_norm:g}",
    }
    training = name if name in TRAINING else UNDEFENDED
    shadows = config.shadows > 0 and training in with_shadows
    with_confidences = config.primary if shadows else config.primary_without_shadows
    primary = config.primary_labels if name == "label_only" else with_confidences
    return Mitigation(
        name=name, training=training, release=published.get(name, "none"), shadows=shadows, primary=primary,
        against=with_confidences if name == "label_only" else primary, about=about[name],
    )  # fmt: skip


def check_attacks(mitigations: Sequence[Mitigation]) -> None:
    """Raise UserError for a mitigation whose primary attack needs evidence that this study does not collect on it."""
    for mitigation in mitigations:
        attack = registry.get(mitigation.primary)
        lacking = attack.needs - ASKED - ({"shadows"} if mitigation.shadows else set())
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
    capabilities = {
        "early_stopping": ("epochs",), "adversarial": ("epochs", "adversarial"), "adversarial_tuned": ("epochs", "adversarial"),
        "dp": ("epochs", "private"),
    }  # fmt: skip
    for mitigation in mitigations:
        require_capability(trainer, *capabilities.get(mitigation.training, ()), by=mitigation.name)
        parameter = mitigation.training if mitigation.training in PARAMETERS else "epochs"
        if mitigation.training != UNDEFENDED and parameter not in trainer.params:
            has = ", ".join(trainer.params) or "none"
            raise UserError(f"{mitigation.name}: needs a trainer with the parameter {parameter}; {trainer.name} has {has}")


def check_releases(mitigations: Sequence[Mitigation], *, classes: int) -> None:
    """Raise UserError for a release that is impossible with this number of classes."""
    for mitigation in mitigations:
        parse_release(mitigation.release).check(classes)
