"""Pieces of HTML. What comes from a run is text and is escaped here, once; only these functions write tags."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Markup:
    """HTML that these functions made, as opposed to text."""

    html: str


Content = Markup | str | int | float | None


def escaped(content: Content) -> str:
    """Markup as it is; text escaped; nothing for None and not-a-number."""
    if isinstance(content, Markup):
        return content.html
    if content is None or content != content:
        return ""
    return html.escape(str(content), quote=True)


def tag(name: str, *inside: Content, **attributes: str) -> Markup:
    """An element; `class_` stands for ``class``."""
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value, quote=True)}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{named}>{''.join(map(escaped, inside))}</{name}>")


def joined(parts: Iterable[Content], between: str = "") -> Markup:
    """Parts one after the other."""
    return Markup(between.join(escaped(part) for part in parts))


def spans(text: str) -> Markup:
    """A sentence with the two marks that summaries use: ``**strong**`` and backquoted code."""
    strong = escaped(text).split("**")
    marked = "".join(f"<strong>{part}</strong>" if number % 2 else part for number, part in enumerate(strong))
    code = marked.split("`")
    return Markup("".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(code)))


def paragraph(text: str) -> Markup:
    """A paragraph of a summary's text."""
    return tag("p", spans(text))


def table(head: Sequence[str], rows: Iterable[Sequence[Content]], *, words: int = 1, narrow: bool = False) -> Markup:
    """A table whose first `words` columns are text and the others figures, set to the right; as wide as the page unless `narrow`."""
    kinds = ["word" if place < words else "figure" for place in range(len(head))]
    headings = joined(tag("th", name, class_=kind, scope="col") for name, kind in zip(head, kinds, strict=True))
    body = joined(tag("tr", *(tag("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True))) for row in rows)
    return tag(
        "div",
        tag("table", tag("thead", tag("tr", headings)), tag("tbody", body)),
        class_="scroll narrow" if narrow else "scroll",
    )


def pairs(rows: Iterable[tuple[str, Content]]) -> Markup:
    """Names and what they stand for, in two columns."""
    inside = joined(tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows)
    return tag("table", tag("tbody", inside), class_="pairs")


def listing(rows: Iterable[tuple[str, Content]]) -> Markup:
    """Short names and values in as many columns as fit."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in rows), class_="listing")


def image(content: bytes, kind: str, *, alt: str, caption: str = "", class_: str = "") -> Markup:
    """A figure with its bytes inside the page; `kind` is ``png`` or ``svg+xml``."""
    data = base64.b64encode(content).decode("ascii")
    picture = Markup(f'<img src="data:image/{kind};base64,{data}" alt="{html.escape(alt, quote=True)}">')
    return tag("figure", picture, tag("figcaption", spans(caption)) if caption else "", class_=class_ or "plain")


def folded(title: Content, *inside: Content, anchor: str, opened: bool = False) -> Markup:
    """A part that is collapsed unless `opened`; in print, a collapsed part shows only its title."""
    return tag("details", tag("summary", title), *inside, id=anchor, **({"open": "open"} if opened else {}))


def section(title: str, *inside: Content, anchor: str, level: int = 2) -> Markup:
    """A section with its heading."""
    return tag("section", tag(f"h{level}", title), *inside, id=anchor)
