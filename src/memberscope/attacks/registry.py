"""Every attack by its name, and what a user's request stands for."""

from __future__ import annotations

from collections.abc import Iterable

from memberscope.attacks.base import Attack
from memberscope.attacks.gradient import GradientNorm
from memberscope.attacks.label_only import LABEL_ONLY
from memberscope.attacks.lira import LIRA
from memberscope.attacks.metric import METRIC
from memberscope.attacks.quantile import Quantile
from memberscope.attacks.rmia import RMIA
from memberscope.attacks.salem import Salem, SalemThreshold
from memberscope.attacks.shokri import Shokri
from memberscope.attacks.threshold import ThresholdEntropy, ThresholdLoss
from memberscope.attacks.trained import TRAINED
from memberscope.attacks.trajectory import Trajectory
from memberscope.errors import UserError, nearest

ATTACKS: tuple[Attack, ...] = (
    *(ThresholdLoss(), ThresholdEntropy()),
    *TRAINED,
    *METRIC,
    *(Shokri(), Salem()),
    *LIRA,
    *RMIA,
    Trajectory(),
    *(SalemThreshold(), Quantile()),
    *LABEL_ONLY,
    GradientNorm(),
)


def names() -> tuple[str, ...]:
    """All attacks, in the order of reports."""
    return tuple(attack.name for attack in ATTACKS)


def families() -> tuple[str, ...]:
    """All families, in the order of reports."""
    return tuple(dict.fromkeys(attack.family for attack in ATTACKS))


def _aliases() -> dict[str, Attack]:
    """The case study's and tensorflow_privacy's names; ``threshold`` alone is the family."""
    return {attack.tfp_name: attack for attack in ATTACKS if attack.tfp_name and attack.tfp_name not in families()}


def get(name: str) -> Attack:
    """The attack of that name or alias.

    Raises:
        UserError: an unknown name, with the nearest.
    """
    found = {attack.name: attack for attack in ATTACKS} | _aliases()
    if name not in found:
        groups = ("all", "tfp", *families())
        allowed = f"{', '.join(groups)}, or any of {', '.join(names())}"
        raise UserError(f"attacks: {name!r}{nearest(name, [*found, *groups])}; allowed are {allowed}")
    return found[name]


def resolve(request: str | Iterable[str]) -> tuple[Attack, ...]:
    """The attacks that a request stands for, each once, in the order asked for.

    Args:
        request: names, with commas if in one text. ``all``; a family; ``tfp`` for the six types of tensorflow_privacy; a name;
            or the case study's ``lr``, ``mlp``, ``rf``, ``knn``, ``threshold-entropy``.

    Raises:
        UserError: an unknown name, with the nearest; or none at all.
    """
    asked = request.split(",") if isinstance(request, str) else list(request)
    asked = [name.strip() for name in asked if name.strip()]
    if not asked:
        raise UserError(f"attacks: none named; allowed are all, tfp, {', '.join(families())}, or any of {', '.join(names())}")
    found: dict[str, Attack] = {}
    for name in asked:
        if name == "all":
            group = ATTACKS
        elif name == "tfp":
            group = tuple(attack for attack in ATTACKS if attack.tfp_name)
        elif name in families():
            group = tuple(attack for attack in ATTACKS if attack.family == name)
        else:
            group = (get(name),)
        found |= {attack.name: attack for attack in group}
    return tuple(found.values())
