"""The registry of attacks by name, and the attacks that a user's request selects.

Another package adds an attack by an entry point of the group ``memberscope.attacks``, or by `register`. It comes after the built-in
ones, and a request for ``all``, for its family or for its name includes it. Attacks that are `Attack.named_only` are included by their name
alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from memberscope.attacks.base import Attack
from memberscope.attacks.gradient import GradientNorm
from memberscope.attacks.label_only import LABEL_ONLY
from memberscope.attacks.lira import LIRA
from memberscope.attacks.lira_proxy import LIRA_PROXY
from memberscope.attacks.lira_two_sided import LIRA_TWO_SIDED
from memberscope.attacks.loss_trace import LOSS_TRACE
from memberscope.attacks.metric import METRIC
from memberscope.attacks.plugged import Plugged
from memberscope.attacks.quantile import Quantile
from memberscope.attacks.rmia import RMIA, RMIA_GAMMA_1
from memberscope.attacks.salem import Salem, SalemThreshold
from memberscope.attacks.shokri import Shokri
from memberscope.attacks.threshold import ThresholdEntropy, ThresholdLoss
from memberscope.attacks.trained import TRAINED
from memberscope.attacks.trajectory import Trajectory
from memberscope.errors import UserError, nearest
from memberscope.plugins import Registry

ATTACKS: tuple[Attack, ...] = (
    *(ThresholdLoss(), ThresholdEntropy()),
    *TRAINED,
    *METRIC,
    *(Shokri(), Salem()),
    *LIRA,
    *LIRA_PROXY,
    *LIRA_TWO_SIDED,
    *RMIA,
    *RMIA_GAMMA_1,
    Trajectory(),
    *(SalemThreshold(), Quantile()),
    *LABEL_ONLY,
    GradientNorm(),
    *LOSS_TRACE,
)


GROUPS = ("all", "tfp")
"""Requests that select several attacks of different families."""


def _checked(name: str, thing: object, package: str) -> Attack:
    """A plug-in's attack: an instance, or a class that needs no arguments; of the right sort, under its own name."""
    made = thing() if isinstance(thing, type) else thing
    if not isinstance(made, Attack):
        raise TypeError(f"is a {type(made).__name__}; expected an Attack")
    if made.name != name:
        raise ValueError(f"calls itself {made.name!r}; expected the entry point's name")
    taken = {*GROUPS, *_aliases(), *(attack.name for attack in ATTACKS)}
    if not made.family or made.family in taken:
        raise ValueError(f"its family is {made.family!r}; allowed: one of {', '.join(_built_in_families())}, or one of its own")
    return Plugged.of(made, package)


def _built_in_families() -> tuple[str, ...]:
    return tuple(dict.fromkeys(attack.family for attack in ATTACKS))


def _aliases() -> dict[str, Attack]:
    """The case study's and tensorflow_privacy's names; ``threshold`` alone is the family."""
    return {attack.tfp_name: attack for attack in ATTACKS if attack.tfp_name and attack.tfp_name not in _built_in_families()}


_REGISTRY: Registry[Attack] = Registry(
    "memberscope.attacks", "attack", {attack.name: attack for attack in ATTACKS}, check=_checked,
    reserved={
        **dict.fromkeys((*GROUPS, "any", "auto", "headline"), "a word of its own"), **dict.fromkeys(_built_in_families(), "a family"),
        **{alias: f"the alias of {attack.name}" for alias, attack in _aliases().items()},
    },
)  # fmt: skip


def register(attack: Attack, *, package: str = "this process") -> Attack:
    """Add an attack in this process, under its own name; what audits run is the attack that is returned.

    Raises:
        UserError: the name is taken by a built-in attack or by another package's.
    """
    return _REGISTRY.register(attack, name=attack.name, package=package)


def unregister(name: str) -> None:
    """Remove an attack that `register` added."""
    _REGISTRY.unregister(name)


def names() -> tuple[str, ...]:
    """All attacks, in the order of reports; loads no plug-in."""
    return _REGISTRY.names()


def attacks() -> Iterator[Attack]:
    """All attacks, in the order of reports; plug-ins last."""
    return _REGISTRY.values()


def families() -> tuple[str, ...]:
    """All families, in the order of reports."""
    return tuple(dict.fromkeys(attack.family for attack in attacks()))


def get(name: str) -> Attack:
    """The attack of that name or alias.

    Raises:
        UserError: an unknown name, with the nearest; or a plug-in that cannot be loaded.
    """
    alias = _aliases().get(name)
    if alias is not None:
        return alias
    if name not in _REGISTRY:
        groups = (*GROUPS, *families())
        allowed = f"{', '.join(groups)}, or any of {', '.join(names())}"
        raise UserError(f"attacks: {name!r}{nearest(name, [*names(), *_aliases(), *groups])}; allowed: {allowed}")
    return _REGISTRY.get(name)


def resolve(request: str | Iterable[str]) -> tuple[Attack, ...]:
    """The attacks that a request selects, each once, in the requested order.

    Args:
        request: names, with commas if in one text. ``all``; a family; ``tfp`` for the six types of tensorflow_privacy; a name;
            or the case study's ``lr``, ``mlp``, ``rf``, ``knn``, ``threshold-entropy``. ``all`` and families leave out attacks that are
            `Attack.named_only`.

    Raises:
        UserError: an unknown name, with the nearest; or none at all.
    """
    asked = request.split(",") if isinstance(request, str) else list(request)
    asked = [name.strip() for name in asked if name.strip()]
    if not asked:
        raise UserError(f"attacks: none named; allowed: all, tfp, {', '.join(families())}, or any of {', '.join(names())}")
    found: dict[str, Attack] = {}
    for name in asked:
        if name == "all":
            group = tuple(attack for attack in attacks() if not attack.named_only)
        elif name == "tfp":
            group = tuple(attack for attack in ATTACKS if attack.tfp_name)
        elif name in _REGISTRY or name in _aliases():
            group = (get(name),)
        else:
            group = tuple(attack for attack in attacks() if attack.family == name and not attack.named_only) or (get(name),)
        found |= {attack.name: attack for attack in group}
    return tuple(found.values())
