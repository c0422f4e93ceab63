"""One self-contained HTML page from runs that were kept: text, tables and figures inline, no script and no network.

>>> page = render_page([kept_run], title="", seed=0)  # doctest: +SKIP
"""

from memberscope.report.page import render_page

__all__ = ["render_page"]
