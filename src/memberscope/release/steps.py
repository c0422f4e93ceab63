"""The steps of a release that need no training: temperature, rounding, fewer classes, the label alone.

The label of a record is the class with the largest output, the first of them if several are equal. Every step keeps it: after a step,
the confidence of every other class is strictly lower, so that the label does not depend on how ties are broken. Where a step would make
a tie, the label keeps its value and the others get the largest value below it that the step can publish.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.checks import Array, FloatArray
from memberscope.config import Integer, Real
from memberscope.errors import UserError
from memberscope.signals import PROB_FLOOR

_TENS: FloatArray = np.array([float(f"1e{m}") for m in range(64)])
_PLACES = Integer(low=1, high=12)
"""With more than twelve digits, too few of a float64's digits are left for rounding to mean anything."""


@dataclass(frozen=True)
class Step(ABC):
    """One step of a release.

    Attributes:
        name: the step's name in the text of a release.
        rank: steps are applied in the order of their ranks: those that read logits, those that read all confidences, those that round or
            remove some, the label alone.
    """

    name: ClassVar[str]
    rank: ClassVar[int]

    @property
    @abstractmethod
    def text(self) -> str:
        """The step as `parse_release` reads it."""

    @property
    def unfitted(self) -> bool:
        """Whether it must still be fitted before it can be applied."""
        return False

    def check(self, classes: int) -> None:
        """Raise UserError if a model with this number of classes cannot be released in this way."""
        del classes

    def fitted(self, probs: FloatArray, label: Array, member: Array, *, seed: int) -> Step:
        """The step after fitting on the defender's own records; most steps need no fitting."""
        del probs, label, member, seed
        return self


@dataclass(frozen=True)
class Confidences(Step):
    """A step from confidences to confidences."""

    @abstractmethod
    def __call__(self, probs: FloatArray, label: Array, *, key: bytes) -> FloatArray:
        """The confidences (r, classes) that are published for `probs` (r, classes), whose largest is at `label` (r,).

        The array is a new one; `key` is the key of the hash from which a step draws its random numbers.
        """


@dataclass(frozen=True)
class Temperature(Step):
    """Logits divided by `value` before the softmax (Guo et al. 2017, Eq. 9; as a mitigation Shokri et al. 2017, section VIII).

    The higher the value, the more alike the confidences. An attacker who knows the value can undo it, so it hides nothing by itself; but it
    changes what a rounding that follows removes.
    """

    name: ClassVar[str] = "temperature"
    rank: ClassVar[int] = 0
    value: float

    def __post_init__(self) -> None:  # noqa: D105
        limits = Real(low=0.0, high=1e6, open_low=True)
        object.__setattr__(self, "value", limits.parse("release: temperature", self.value))

    @property
    def text(self) -> str:
        """``temperature=2``."""
        return f"temperature={plain(self.value)}"


@dataclass(frozen=True)
class Decimals(Confidences):
    """Confidences rounded down to `places` decimals, as Shokri et al. 2017 (section VIII) coarsen them.

    They are rounded down, not to the nearest, so that their sum is never above one. A label whose confidence would round to 0 is
    published as one unit of the last place.
    """

    name: ClassVar[str] = "decimals"
    rank: ClassVar[int] = 2
    places: int

    def __post_init__(self) -> None:  # noqa: D105
        object.__setattr__(self, "places", _PLACES.parse("release: decimals", self.places))

    @property
    def text(self) -> str:
        """``decimals=2``."""
        return f"decimals={self.places}"

    def __call__(self, probs: FloatArray, label: Array, *, key: bytes) -> FloatArray:
        """The confidences, rounded down; classes tied with the label get one unit less."""
        del key
        places = np.full(probs.shape, self.places)
        units = _units(probs, places)
        rows = np.arange(len(probs))
        top = np.maximum(units[rows, label], 1.0)
        units = np.minimum(units, top[:, None] - 1.0)
        units[rows, label] = top
        out: FloatArray = units / _TENS[places]
        return out


@dataclass(frozen=True)
class Digits(Confidences):
    """Confidences rounded down to `places` significant digits; those below `signals.PROB_FLOOR` are published as 0."""

    name: ClassVar[str] = "digits"
    rank: ClassVar[int] = 2
    places: int

    def __post_init__(self) -> None:  # noqa: D105
        object.__setattr__(self, "places", _PLACES.parse("release: digits", self.places))

    @property
    def text(self) -> str:
        """``digits=2``."""
        return f"digits={self.places}"

    def __call__(self, probs: FloatArray, label: Array, *, key: bytes) -> FloatArray:
        """The confidences, rounded down; classes tied with the label get the next lower number with as many digits."""
        del key
        smallest = _TENS[self.places - 1]
        leading = smallest / _TENS[self.places - 1 :]  # 1, 0.1, 0.01, ...: where the numbers of one decade begin
        position = np.searchsorted(-leading, -np.maximum(probs, PROB_FLOOR))
        places = position + self.places - 1
        units = _units(probs, places)
        out = np.where(probs < PROB_FLOOR, 0.0, units / _TENS[places])
        rows = np.arange(len(probs))
        unit, place, top = units[rows, label], places[rows, label], out[rows, label]
        first = unit <= smallest  # 0.10 is followed downward by 0.099
        below = np.where(first, (10 * smallest - 1) / _TENS[place + 1], (unit - 1) / _TENS[place])
        out = np.where(out >= top[:, None], np.where(top > 0, below, 0.0)[:, None], out)
        out[rows, label] = top
        return out


def _units(probs: FloatArray, places: Array) -> FloatArray:
    """The largest whole numbers k with k / 10^places <= probs, also where the product of probs and 10^places is inexact."""
    ten = _TENS[places]
    units: FloatArray = np.floor(probs * ten)
    units -= units / ten > probs
    units += (units + 1) / ten <= probs
    return units


@dataclass(frozen=True)
class Top(Confidences):
    """The `n` largest confidences; the others become 0 or, with `spread`, their mean, so that the sum stays the same.

    Restricting the vector to its top classes is Shokri et al. 2017, section VIII. Of equal confidences the lower class is kept.
    """

    name: ClassVar[str] = "top"
    rank: ClassVar[int] = 2
    n: int
    spread: bool = False

    def __post_init__(self) -> None:  # noqa: D105
        if not isinstance(self.spread, bool):
            raise UserError(f"release: top: spread={self.spread!r}; allowed: true or false")
        object.__setattr__(self, "n", Integer(low=1).parse(f"release: {'top_spread' if self.spread else 'top'}", self.n))

    @property
    def text(self) -> str:
        """``top=3`` or ``top_spread=3``."""
        return f"top_spread={self.n}" if self.spread else f"top={self.n}"

    def check(self, classes: int) -> None:
        """The model must have at least `n` classes."""
        if self.n > classes:
            raise UserError(f"release: {self.text}: the model has {classes} classes; allowed: 1 to {classes}")

    def __call__(self, probs: FloatArray, label: Array, *, key: bytes) -> FloatArray:
        """The confidences; the `n` largest are unchanged."""
        del key
        if self.n == probs.shape[1]:
            return probs.copy()
        order = np.argsort(-probs, axis=1, kind="stable")
        out = probs.copy()
        left_out = order[:, self.n :]
        mean = np.take_along_axis(probs, left_out, axis=1).mean(axis=1, keepdims=True)
        np.put_along_axis(out, left_out, np.broadcast_to(mean, left_out.shape) if self.spread else 0.0, axis=1)
        return settle(out, label)


@dataclass(frozen=True)
class LabelOnly(Step):
    """The label alone, without confidences."""

    name: ClassVar[str] = "label_only"
    rank: ClassVar[int] = 3

    @property
    def text(self) -> str:
        """``label_only``."""
        return "label_only"


def plain(value: float) -> str:
    """The shortest text that reads back as `value`."""
    return repr(float(value)).removesuffix(".0")


def settle(probs: FloatArray, label: Array) -> FloatArray:
    """`probs` (r, classes) with every other class below the label's; where it was not, it becomes the next lower float64.

    Softmax and averages can make the confidences of classes equal whose logits differed; the first of them would then become the label.
    """
    top = probs[np.arange(len(probs)), label]
    out = np.minimum(probs, np.where(top > 0, np.nextafter(top, 0.0), 0.0)[:, None])
    out[np.arange(len(probs)), label] = top
    return out
