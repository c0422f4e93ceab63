"""Checks, before anything is computed, whether libraries are installed: one line names those that are missing and how to install them."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memberscope.errors import MissingLibrary

US = "memberscope"
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "cyclonedx": "cyclonedx-python-lib",
}  # of modules whose names differ from them
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)")
_PYTHON = re.compile(r"python_version\s*(<|>=)\s*['\"](\d+)\.(\d+)")


def is_installed(module: str) -> bool:
    """Whether a top-level module can be found; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def require(*modules: str, by: str, instead: str = "") -> None:
    """Raise MissingLibrary, which is a UserError, unless all modules are installed.

    Args:
        modules: names of top-level modules, as they are imported.
        by: what needs them, such as ``engine=tfp`` or ``train``.
        instead: what can be used without them.
    """
    missing = tuple(module for module in modules if not is_installed(module))
    if missing:
        raise _absent(missing, by, instead)


@contextlib.contextmanager
def explain_missing_library(by: str) -> Iterator[None]:
    """Turn an import error in the block into a UserError if a library is not installed; a missing module of memberscope stays an error."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if not module or module == US or is_installed(module):
            raise
        raise _absent((module,), by, "") from error


@dataclass(frozen=True, kw_only=True)
class _Need:
    """A line of memberscope's own metadata: a distribution, the extra that installs it, and the versions of Python that it is for."""

    text: str
    extra: str
    python: str  # "" if the running one is among them, else a phrase such as "Python before 3.12"


def _absent(modules: Sequence[str], by: str, instead: str) -> MissingLibrary:
    first = f"{instead}, or " if instead else ""
    listed = ", ".join(modules[:-1]) + " and " * (len(modules) > 1) + modules[-1]
    are, them = ("are", "them") if len(modules) > 1 else ("is", "it")
    needs = [(module, _needs(module)) for module in modules]
    commands, pythons = [], {need.python for _, found in needs for need in found[:1] if need.python}
    extras = _extras([[need.extra for need in found if need.extra] for _, found in needs])
    if extras:
        commands.append(f"'{US}[{','.join(extras)}]'")
    for module, found in needs:
        if not any(need.extra for need in found):
            commands.append(f"'{found[0].text}'" if found else _plain(_DISTRIBUTIONS.get(module, module)))
    of_python = "".join(f" of {python}" for python in sorted(pythons))
    return MissingLibrary(
        f"{by}: needs {listed}, which {are} not installed here; allowed: {first}an environment{of_python} that has {them} "
        f"(pip install {' '.join(commands)})",
        modules=tuple(modules),
    )


def _extras(candidates: Sequence[Sequence[str]]) -> list[str]:
    """The extras to install, as few as possible: for each library, one of those that install it."""
    chosen: list[str] = []
    for extras in sorted(filter(None, candidates), key=len):
        if not set(extras) & set(chosen):
            chosen.append(extras[0])
    return sorted(chosen)


def _needs(module: str) -> list[_Need]:
    """The lines of memberscope's metadata about a module, those for this Python first; none if memberscope itself is not installed."""
    from importlib import metadata

    wanted = _plain(_DISTRIBUTIONS.get(module, module))
    found = []
    with contextlib.suppress(metadata.PackageNotFoundError):
        for line in metadata.requires(US) or []:
            requirement, _, marker = (part.strip() for part in line.partition(";"))
            name = re.match(r"[\w.-]+", requirement)
            if name and _plain(name[0]) == wanted:
                extra = _EXTRA.search(marker)
                found.append(_Need(text=requirement, extra=extra[1] if extra else "", python=_other_python(marker)))
    return sorted(found, key=lambda need: need.python != "")


def _other_python(marker: str) -> str:
    for sign, major, minor in _PYTHON.findall(marker):
        below = sys.version_info[:2] < (int(major), int(minor))
        if below != (sign == "<"):
            return f"Python {'before' if sign == '<' else 'from'} {major}.{minor}"
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
