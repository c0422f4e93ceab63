"""What a value of an option may be: parsed from text or plain values, refused in one line."""

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
class YesNo:
    """A switch: ``yes`` or ``no`` on the command line, in files and in MLflow, a bool inside."""

    def parse(self, name: str, value: object) -> bool:
        """The value as a bool; UserError, with the nearest word, otherwise."""
        return value if isinstance(value, bool) else Choice(words=("no", "yes")).parse(name, value) == "yes"

    def allowed(self) -> str:
        """What is allowed, in words."""
        return "no, yes"


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


Check = Integer | Integers | Real | Choice | Text | YesNo
