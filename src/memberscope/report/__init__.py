"""Renders stored runs as one self-contained HTML page: text, tables and figures are inline, without scripts or network access.

>>> from memberscope.report.page import render_page
>>> page = render_page([kept_run], title="", seed=0)  # doctest: +SKIP
"""
