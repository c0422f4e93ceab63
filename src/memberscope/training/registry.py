"""Every trainer by its name: what makes and trains a model is looked up here, so that a study names no framework.

Another package adds a trainer by an entry point of the group ``memberscope.trainers``, or by `register`: a callable that makes it. A
built-in one is a function that imports its framework when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memberscope.plugins import Registry

Factory = Callable[..., Any]
"""Makes a trainer."""

TRAINERS: dict[str, Factory] = {}
"""Those that come with memberscope."""


def _checked(name: str, thing: object, package: str) -> Factory:
    if not callable(thing):
        raise TypeError(f"is a {type(thing).__name__}; expected a callable that makes a trainer")
    return thing


_REGISTRY: Registry[Factory] = Registry("memberscope.trainers", "trainer", TRAINERS, check=_checked)


def register(name: str, factory: Factory, *, package: str = "this process") -> Factory:
    """Add a trainer in this process; worker processes know only what packages offer by entry points.

    Raises:
        UserError: the name is taken, or `factory` cannot be called.
    """
    return _REGISTRY.register(factory, name=name, package=package)


def unregister(name: str) -> None:
    """Take back what `register` added."""
    _REGISTRY.unregister(name)


def names() -> tuple[str, ...]:
    """All trainers; loads no plug-in."""
    return _REGISTRY.names()


def get(name: str) -> Factory:
    """What makes the trainer of that name; UserError with the nearest names for an unknown one."""
    return _REGISTRY.get(name)
