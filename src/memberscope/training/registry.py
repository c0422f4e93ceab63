"""Every trainer by its name, the option ``trainer``: studies look up their trainer here, so that they refer to no framework.

Another package adds a trainer by an entry point of the group ``memberscope.trainers``, or by `register`: a callable that takes a
`memberscope.training.recipe.Recipe`, the options of architecture and training, and returns a `memberscope.training.trainer.Trainer`. It may
ignore options of the recipe that it does not support, or reject them with a UserError. A framework is imported only when the callable is
called.
"""

from __future__ import annotations

from collections.abc import Callable

from memberscope.config.shared import BUILT_IN_TRAINER
from memberscope.errors import UserError, nearest
from memberscope.plugins import Registry
from memberscope.training.recipe import Recipe
from memberscope.training.trainer import Trainer

Factory = Callable[[Recipe], Trainer]
"""Makes a trainer from the options of architecture and training."""


def keras(recipe: Recipe) -> Trainer:
    """The built-in models, trained with TensorFlow."""
    from memberscope.training.keras.trainer import KerasTrainer

    return KerasTrainer(recipe=recipe)


SEPARATOR = ":"  # between a file or module and a name in it
BUILDER = f"{BUILT_IN_TRAINER}:"  # before the file or module of a user's builder

TRAINERS: dict[str, Factory] = {BUILT_IN_TRAINER: keras}
"""The built-in trainers."""


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
    """Remove a trainer that `register` added."""
    _REGISTRY.unregister(name)


def names() -> tuple[str, ...]:
    """The names of all trainers; loads no plug-in."""
    return _REGISTRY.names()


def is_outside(name: str) -> bool:
    """Whether the value of the option ``trainer`` names a user's own training function or class, which the built-in loop does not train."""
    return SEPARATOR in name and not is_builder(name)


def is_builder(name: str) -> bool:
    """Whether the value of the option ``trainer`` names a user's function that builds a Keras model for the built-in loop."""
    return name.startswith(BUILDER)


def check_name(name: str) -> None:
    """Raise UserError unless a trainer is registered by that name, or it has the form of a function or class of the user's own."""
    if name not in _REGISTRY and SEPARATOR not in name:
        raise UserError(
            f"trainer={name}: unknown{nearest(name, names())}; allowed: {', '.join(names())}, or a function or class of your own, as "
            "path/to/file.py:NAME or package.module:NAME, or keras:path/to/file.py:NAME for a Keras model"
        )


def make(name: str, recipe: Recipe, params: str = "") -> Trainer:
    """The trainer of that name.

    Args:
        name: a registered name; a function or class of a file or module, such as ``train.py:train``; or a builder of Keras models, such
            as ``keras:my_models.py:resnet20``.
        recipe: the options of architecture and training, for a registered trainer; a builder's models are trained with those of training.
        params: the parameters of a function or class, see `memberscope.training.outside.params`.

    Raises:
        UserError: an unknown name (the message suggests the nearest); a plug-in that cannot be loaded; a recipe or parameters that the
            trainer rejects; a file, module or function that is absent or cannot be used.
    """
    if is_builder(name):
        from memberscope.training.keras.builder import builder_recipe
        from memberscope.training.keras.trainer import KerasTrainer
        from memberscope.training.outside.params import parse_params

        return KerasTrainer(recipe=builder_recipe(name, parse_params(params), recipe))
    if is_outside(name):
        from memberscope.training.outside.params import parse_params
        from memberscope.training.outside.trainer import outside_trainer

        return outside_trainer(name, parse_params(params))
    check_name(name)
    if params.strip():
        raise UserError(f"params={params}: trainer={name} has options of its own instead, such as epochs; allowed: nothing")
    return _REGISTRY.get(name)(recipe)
