"""Fills the page's templates with plain values: every value is escaped, and a missing value is an error."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from memberscope.installed import explain_missing_library

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render(template: str, **values: object) -> str:
    """Fill a template of ``memberscope/report/templates`` with `values`.

    Raises:
        UserError: jinja2 is not installed.
    """
    with explain_missing_library("report"):
        return environment().get_template(template).render(**values)


@functools.cache  # it keeps the templates that it has compiled
def environment() -> Environment:
    """The jinja2 environment of the templates: text is escaped, and a name without a value is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("memberscope.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["marked"] = marked
    return made


def marked(text: str) -> Markup:
    """Escaped text as HTML, with the two kinds of markup that summaries use: ``**strong**`` and backquoted code."""
    from markupsafe import Markup, escape

    found = str(escape(text))
    for mark, name in (("**", "strong"), ("`", "code")):
        pieces = found.split(mark)
        found = "".join(f"<{name}>{piece}</{name}>" if place % 2 else piece for place, piece in enumerate(pieces))
    return Markup(found)  # the text was escaped above
