"""A Sphinx extension that resolves names in docstrings and annotations as in the module in which they are written.

Sphinx itself links a bare name to any class of that name in the package, and warns if there are two. This extension looks a name up in the
module's own imports, including those for type checkers. A full name in the package that has no entry of its own (a constant, a type alias,
a name that a package re-exports) must at least exist; if it does not, `nitpicky` reports it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PACKAGE = "memberscope"


@functools.cache
def _imports(module: str) -> dict[str, str]:
    """The full name behind each name that a module imports, read from its source."""
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(module)))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}
    return found


def _by_module(app: Sphinx, doctree: nodes.document) -> None:
    for node in doctree.findall(pending_xref):
        module = node.get("py:module")
        if node.get("refdomain") == "py" and module and str(module).startswith(PACKAGE):
            name, *rest = node["reftarget"].split(".")
            if name != PACKAGE:
                node.attributes.pop("refspecific", None)  # if present, any class of that name is linked
                node["reftarget"] = ".".join([_imports(module).get(name, name), *rest])


def _existing(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Element) -> nodes.Node | None:
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith(f"{PACKAGE}."):
        return None
    try:
        value = _value(target)
    except (ImportError, AttributeError):
        return None
    home = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    domain = env.get_domain("py")
    found = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", home, node, shown) if home != target else None
    return found or shown


def _value(name: str) -> Any:
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[cut:], value)
    raise AttributeError(name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the two hooks."""
    app.connect("doctree-read", _by_module)
    app.connect("missing-reference", _existing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
