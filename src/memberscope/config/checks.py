"""Checks of options: each parses a value from text or a plain value, and rejects what is not allowed with an error of one line."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
        """The allowed values, for help texts and errors."""
        span = f"{self.low} to {self.high}" if self.high is not None else f"{self.low} or more"
        return " or ".join([f"a whole number, {span}", *self.words])


@dataclass(frozen=True, kw_only=True)
class Real:
    """A finite number from `low` to `high`, without the end that `open_low` or `open_high` excludes; or one of the words in `words`."""

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
        """The allowed values, for help texts and errors."""
        start = f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
        end = f"below {self.high:g}" if self.open_high else f"at most {self.high:g}"
        return " or ".join([f"a number, {start}, {end}", *self.words])


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of the given words."""

    words: tuple[str, ...]

    def parse(self, name: str, value: object) -> str:
        """The value itself; otherwise UserError, which suggests the nearest word."""
        word = str(value).strip()
        if word not in self.words:
            raise UserError(f"{name}={value}: unknown; allowed: {self.allowed()}{nearest(word, self.words)}")
        return word

    def allowed(self) -> str:
        """The allowed values, for help texts and errors."""
        return ", ".join(self.words)


@dataclass(frozen=True, kw_only=True)
class ChoiceOrSource:
    """One of the given words, or a function or class of a file or module, such as ``train.py:train``."""

    words: tuple[str, ...]

    def parse(self, name: str, value: object) -> str:
        """The text, stripped; otherwise UserError, which suggests the nearest word."""
        text = str(value).strip()
        if text not in self.words and ":" not in text:
            raise UserError(f"{name}={value}: unknown; allowed: {self.allowed()}{nearest(text, self.words)}")
        return text

    def allowed(self) -> str:
        """The allowed values, for help texts and errors."""
        return (
            f"{', '.join(self.words)}, or a function or class such as train.py:train or sklearn.ensemble:RandomForestClassifier"
        )


@dataclass(frozen=True, kw_only=True)
class YesNo:
    """A switch: ``yes`` or ``no`` on the command line, in files and in MLflow, a bool inside."""

    def parse(self, name: str, value: object) -> bool:
        """The value as a bool; otherwise UserError, which suggests the nearest word."""
        return value if isinstance(value, bool) else Choice(words=("no", "yes")).parse(name, value) == "yes"

    def allowed(self) -> str:
        """The allowed values, for help texts and errors."""
        return "no, yes"


@dataclass(frozen=True, kw_only=True)
class Text:
    """Any text; `hint` describes the allowed values, and the code that interprets the text checks it."""

    hint: str

    def parse(self, name: str, value: object) -> str:
        """The text, stripped."""
        return str(value).strip()

    def allowed(self) -> str:
        """The allowed values, for help texts and errors."""
        return self.hint


@dataclass(frozen=True, kw_only=True)
class Integers:
    """Whole numbers in [low, high], separated by commas; or nothing. They are kept as text: ``"512,256"``."""

    low: int
    high: int

    def parse(self, name: str, value: object) -> str:
        """The numbers separated by commas, without spaces; UserError otherwise."""
        text = str(value).strip()
        if not text:
            return ""
        check = Integer(low=self.low, high=self.high)
        try:
            return ",".join(str(check.parse(name, part)) for part in text.split(","))
        except UserError:
            raise UserError(f"{name}={text}: allowed: {self.allowed()}") from None

    def allowed(self) -> str:
        """The allowed values, for help texts and errors."""
        return f"nothing, or whole numbers from {self.low} to {self.high} separated by commas"


Check = Integer | Integers | Real | Choice | ChoiceOrSource | Text | YesNo
