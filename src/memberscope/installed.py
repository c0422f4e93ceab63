"""Checks which libraries are installed: one line names a missing one, with the command that installs it, before anything is computed."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from importlib import metadata

from memberscope.errors import UserError

US = "memberscope"


def is_installed(module: str) -> bool:
    """Whether a top-level module can be found; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def require(*modules: str, by: str, instead: str = "") -> None:
    """Raise UserError unless all modules are installed.

    Args:
        modules: names of top-level modules, as they are imported.
        by: what needs them, such as ``engine=tfp`` or ``train``.
        instead: what can be used without them.
    """
    missing = [module for module in modules if not is_installed(module)]
    if missing:
        raise _absent(missing[0], by, instead)


@contextlib.contextmanager
def absence_told(by: str) -> Iterator[None]:
    """Turn an import inside that fails for want of a library into a UserError; a missing module of our own stays an error."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if not module or module == US or is_installed(module):
            raise
        raise _absent(module, by, "") from error


def _absent(module: str, by: str, instead: str) -> UserError:
    first = f"{instead}, or " if instead else ""
    return UserError(
        f"{by}: needs {module}, which is not installed here; allowed: {first}an environment that has it ({_command(module)})"
    )


def _command(module: str) -> str:
    """The pip command that installs a module, at the version or through the extra that our own metadata names."""
    wanted = _plain(module)
    with contextlib.suppress(metadata.PackageNotFoundError):
        for line in metadata.requires(US) or []:
            requirement, _, marker = (part.strip() for part in line.partition(";"))
            name = re.match(r"[\w.-]+", requirement)
            if name and _plain(name[0]) == wanted:
                extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", marker)
                return f"pip install '{US}[{extra[1]}]'" if extra else f"pip install '{requirement}'"
    return f"pip install {wanted}"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
