"""Sphinx's settings for the documentation site, which `docs/site/build.py` builds (`make docs`)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # names.py

from memberscope import __version__

project = "memberscope"
author = "The memberscope developers"
project_copyright = "The memberscope developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "names"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # links to a page's headings, as Markdown viewers make them

html_theme = "furo"
html_title = f"memberscope {__version__}"
html_copy_source = False
html_show_sphinx = False

# `name` in a docstring is a link if it names something in the package, and code otherwise
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_attr_annotations = False  # the signature has them, linked
autodoc_default_options = {"members": True, "show-inheritance": True}
python_maximum_signature_line_length = 100

# Strict about names of this package; other packages' names would need the network to be resolved.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!memberscope\.).*")]
