"""The formats in which an audit is shared, each made from the same evidence document (the page from the same runs)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from memberscope.audit import artifacts
from memberscope.errors import UserError, nearest
from memberscope.report.evidence import Document, to_json
from memberscope.report.formats import cyclonedx, junit, markdown

HTML, ALL = "html", "all"


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format: the name of its file, and what makes its text from a document; None for the page, which is made from the runs."""

    file: str
    text: Callable[[Document], str] | None = None
    check: Callable[[], None] = lambda: None


FORMATS: Mapping[str, Format] = {
    HTML: Format(file=artifacts.REPORT),
    "json": Format(file=artifacts.EVIDENCE, text=to_json),
    "junit": Format(file=artifacts.GATE_JUNIT, text=junit.text_of),
    "cyclonedx": Format(file=artifacts.MODEL_CARD_CYCLONEDX, text=cyclonedx.text_of, check=cyclonedx.check),
    "markdown": Format(file=artifacts.MODEL_CARD, text=markdown.text_of),
}


def named(text: str, *, option: str = "formats") -> tuple[str, ...]:
    """The formats that a text names, separated by commas, each once and in the order of `FORMATS`; ``all`` stands for all of them.

    Raises:
        UserError: an unknown name, or none; or a format needs a library that is not installed.
    """
    words = [part.strip() for part in text.split(",") if part.strip()]
    allowed = ", ".join((*FORMATS, ALL))
    for word in words:
        if word not in FORMATS and word != ALL:
            raise UserError(f"{option}={word}: unknown; allowed: {allowed}{nearest(word, (*FORMATS, ALL))}")
    if not words:
        raise UserError(f"{option}={text}: names none; allowed: {allowed}")
    found = tuple(name for name in FORMATS if name in words or ALL in words)
    for name in found:
        FORMATS[name].check()
    return found
