"""A user's function that builds an untrained Keras model, as the recipe of the models that the built-in loop trains."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from memberscope.errors import UserError, nearest
from memberscope.training.outside.params import logged
from memberscope.training.outside.source import BUILDER, Source, find_source
from memberscope.training.recipe import LoopRecipe, Recipe, described_training

if TYPE_CHECKING:
    from tensorflow import keras

LOOP = ("epochs", "batch_size", "learning_rate", "l2", "label_smoothing")  # parameters of the loop, not of the builder
OPTIONS = ("epochs", "batch_size", "learning_rate")  # those of `LOOP` that are options of a study
GIVEN = ("input_shape", "classes", "seed")  # arguments that a builder may declare, which do not come from ``params``
GENERIC = ("build", "build_model", "make", "make_model", "model", "create_model")  # names that say nothing: the file's is shown
SIGNATURE = "a function such as build(input_shape, classes, seed, width=16), of which it declares what it needs"


@dataclass(frozen=True, kw_only=True)
class BuilderRecipe:
    """See `memberscope.training.recipe.LoopRecipe`.

    Attributes:
        source: the function.
        params: its parameters as JSON with sorted keys, apart from those that keep their defaults.
        epochs, batch_size, learning_rate, l2, label_smoothing: see `memberscope.training.recipe.Recipe`.
    """

    source: Source
    params: str
    epochs: int
    batch_size: int
    learning_rate: float
    l2: float = 0.0
    label_smoothing: float = 0.0

    @property
    def name(self) -> str:
        """The function, or its file where the function has a name such as ``build_model``."""
        place = (
            self.source.spec.rpartition(":")[0].removeprefix(BUILDER).replace("\\", "/").rpartition("/")[2].removesuffix(".py")
        )
        return place.rpartition(".")[2] if self.source.name in GENERIC else self.source.name

    @property
    def dropout(self) -> float:
        """0: the models have dropout layers of their own, or none."""
        return 0.0

    @property
    def batched(self) -> bool:
        """No."""
        return False

    @property
    def own_state(self) -> bool:
        """Yes: a layer such as Dropout may draw from a generator of its own."""
        return True

    @property
    def given(self) -> dict[str, Any]:
        """`params` by name."""
        found: dict[str, Any] = json.loads(self.params)
        return found

    @property
    def values(self) -> Mapping[str, Any]:
        """See `LoopRecipe.values`."""
        own = {
            item.name: item.default
            for item in _parameters(self.source.load())
            if isinstance(item.default, bool | int | float | str)
        }
        return {**{name: getattr(self, name) for name in LOOP}, **own, **self.given}

    def changed(self, **changes: Any) -> Self:
        """See `LoopRecipe.changed`."""
        loop = {name: value for name, value in changes.items() if name in LOOP}
        own = {name: value for name, value in changes.items() if name not in LOOP}
        check_params(self.source, list(own), loop=True)
        return dataclasses.replace(self, params=json.dumps({**self.given, **own}, sort_keys=True), **loop)

    def check(self, input_shape: Sequence[int], classes: int) -> None:
        """See `LoopRecipe.check`: builds models and tries them."""
        _check(self, tuple(input_shape), classes)

    def build(self, *, input_shape: Sequence[int], classes: int, seed: int) -> keras.Model:
        """See `LoopRecipe.build`."""
        from memberscope.training.keras.built import built

        shape = tuple(input_shape)
        return built(
            self.source,
            self._arguments(input_shape=shape, classes=classes, seed=seed),
            input_shape=shape,
            classes=classes,
            seed=seed,
        )

    def _arguments(self, *, input_shape: tuple[int, ...], classes: int, seed: int) -> dict[str, Any]:
        """The arguments of a call of the function, by name: those of `GIVEN` that it declares, and its parameters."""
        given = {"input_shape": input_shape, "classes": classes, "seed": seed}
        declared = inspect.signature(self.source.load()).parameters
        return {**{name: value for name, value in given.items() if name in declared}, **self.given}

    def variants(self, input_shape: Sequence[int]) -> Sequence[tuple[str, LoopRecipe]]:
        """See `LoopRecipe.variants`: none, because what a parameter means is not known."""
        return []

    def sources(self) -> Mapping[str, str]:
        """See `LoopRecipe.sources`."""
        return dict(self.source.files)

    def describe(self) -> Mapping[str, int | float | str]:
        """See `LoopRecipe.describe`."""
        return logged(self.name, self.given) | described_training(self)

    def to_dict(self) -> dict[str, object]:
        """See `LoopRecipe.to_dict`: the sources of the function and of the local modules it imports, their versions, and parameters."""
        return {"builder": self.source.facts(), "params": self.given, **{name: getattr(self, name) for name in LOOP}}


@functools.lru_cache(maxsize=8)
def _check(recipe: BuilderRecipe, input_shape: tuple[int, ...], classes: int) -> None:
    """Check the models of two calls with one seed; done once for each recipe, shape and number of classes."""
    from memberscope.training.keras.built import check_built

    one, two = (recipe.build(input_shape=input_shape, classes=classes, seed=0) for _ in range(2))
    check_built(recipe.source, one, two, input_shape=input_shape)


def builder_recipe(spec: str, params: Mapping[str, Any], loop: Recipe) -> BuilderRecipe:
    """The recipe that a value such as ``keras:my_models.py:resnet20`` names, with the interface of the function checked.

    Args:
        spec: as the user wrote it.
        params: the parameters of the function.
        loop: a recipe with the options of training.

    Raises:
        UserError: no such file, module or function; it cannot be imported; another signature; a parameter that it does not know.
    """
    source = find_source(spec, prefix=BUILDER)
    builder = source.load()
    if not callable(builder):
        raise UserError(f"trainer={spec}: is {type(builder).__name__}; allowed: {SIGNATURE}")
    try:
        signature = inspect.signature(builder)
    except (TypeError, ValueError):
        raise UserError(f"trainer={spec}: its arguments are not known; allowed: {SIGNATURE}") from None
    places = [item.name for item in signature.parameters.values() if item.kind is item.POSITIONAL_ONLY]
    needed = [item.name for item in _parameters(builder) if item.default is item.empty and item.name not in params]
    if places or needed:
        raise UserError(
            f"trainer={spec}: its arguments are {signature}, and nothing is given for {', '.join(places or needed)}; allowed: {SIGNATURE}, "
            "with params for arguments without a default"
        )
    check_params(source, list(params), loop=False)
    return BuilderRecipe(
        source=source, params=json.dumps(dict(params), sort_keys=True), epochs=loop.epochs, batch_size=loop.batch_size,
        learning_rate=loop.learning_rate, l2=loop.l2, label_smoothing=loop.label_smoothing,
    )  # fmt: skip


def check_params(source: Source, names: Sequence[str], *, loop: bool) -> None:
    """Raise UserError for a name that is no parameter of the function; `loop`: whether those of the loop are allowed too."""
    builder = source.load()
    any_name = any(item.kind is item.VAR_KEYWORD for item in inspect.signature(builder).parameters.values())
    known = [item.name for item in _parameters(builder)]
    for name in names:
        if name in OPTIONS:
            raise UserError(
                f"params: {name} is an option of the training loop, not a parameter of the builder; allowed: --{name}"
            )
        if name in GIVEN or name in LOOP or not (any_name or name in known):
            allowed = [*(LOOP if loop else ()), *known]
            start = f"{name}: no parameter of {source.name}" if loop else f"params: {name} is not a parameter of {source.spec}"
            raise UserError(f"{start}; allowed: {', '.join(allowed) or 'none'}{nearest(name, allowed)}")


def _parameters(builder: Any) -> list[inspect.Parameter]:
    """The parameters that a function declares and ``params`` may give."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [item for item in inspect.signature(builder).parameters.values() if item.kind in kinds and item.name not in GIVEN]
