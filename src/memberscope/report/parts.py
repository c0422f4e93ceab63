"""The building blocks of the page: cells, tables and pictures as plain values, and the formatting of numbers."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memberscope.installed import is_installed
from memberscope.report.facts import Figure

DASH = "–"


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """A cell of a table.

    Attributes:
        text: its text.
        beneath: a smaller line below the text; empty for none.
        mark: a sign after the text, such as an asterisk for a weak number; empty for none.
        why: the meaning of the mark, shown on hovering over it.
    """

    text: str
    beneath: str = ""
    mark: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """A table whose first columns hold words and whose other columns hold numbers, which are aligned to the right.

    Attributes:
        head: names of the columns.
        rows: a text or a `TableCell` for each column.
        words: the number of columns that hold words.
        narrow: whether it is only as wide as its content, and not as wide as the page.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str | TableCell, ...], ...]
    words: int = 1
    narrow: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError if a row has too many cells or too few."""
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"a row of {len(row)} cells under {len(self.head)} columns")

    @classmethod
    def of(
        cls, head: Sequence[str], rows: Sequence[Sequence[str | TableCell]], *, words: int = 1, narrow: bool = False
    ) -> PageTable:
        """Build a table of these rows."""
        return cls(head=tuple(head), rows=tuple(map(tuple, rows)), words=words, narrow=narrow)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that is embedded in the page.

    Attributes:
        source: its ``data:`` URL; empty where it could not be drawn, since no library for it is installed.
        alt: a description for readers who cannot see it.
        small: whether it is narrower than the page.
    """

    source: str
    alt: str
    small: bool = False


def svg_picture(draw: Callable[[], bytes], *, alt: str, small: bool = False) -> Picture:
    """An SVG drawing as a picture; one without a source where matplotlib is not installed."""
    if not is_installed("matplotlib"):
        return Picture(source="", alt=alt, small=small)
    return _picture(draw(), "svg+xml", alt, small)


def png_picture(content: bytes, *, alt: str, small: bool = False) -> Picture:
    """A PNG as a picture."""
    return _picture(content, "png", alt, small)


def _picture(content: bytes, kind: str, alt: str, small: bool) -> Picture:
    data = base64.b64encode(content).decode("ascii")
    return Picture(source=f"data:image/{kind};base64,{data}", alt=alt, small=small)


def number(value: float | None, digits: int = 3) -> str:
    """A formatted number, or a dash if there is none."""
    return DASH if value is None else minus(f"{value:.{digits}f}")


def minus(text: str) -> str:
    """A formatted number with a minus sign in place of a hyphen."""
    return text.replace("-", "−")


def with_interval(found: Figure, digits: int = 3) -> TableCell:
    """A value above its interval."""
    if found.value is None:
        return TableCell(text=DASH)
    low, high = found.ci_low, found.ci_high
    return TableCell(
        text=number(found.value, digits),
        beneath=f"{number(low, digits)} to {number(high, digits)}" if low is not None and high is not None else "",
        mark="*" if found.status == "low_power" else "",
        why=found.reason,
    )


def with_ceiling(bound: Figure, ceiling: Figure) -> TableCell:
    """A lower bound above the largest value that it could have."""
    if bound.value is None or ceiling.value is None:
        return TableCell(text=number(bound.value, 2))
    return TableCell(
        text=number(bound.value, 2),
        beneath=f"of at most {number(ceiling.value, 2)}",
        mark="†" if bound.status == "low_power" else "",
        why=bound.reason,
    )
