"""Builds the documentation as one site: the pages, and an API reference from the docstrings. ``make docs`` runs it.

python docs/site/build.py [--out build/docs]

The pages are staged in the same folders as in the checkout, so that their links work for readers of the Markdown and of the site. The pages
of the reference are written by walking the package, so there is no list of modules to keep. Every warning of Sphinx is an error.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import pkgutil
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "memberscope"
TOP = (
    "GLOSSARY.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "CITATION.cff",
)  # beside the README, which is the first page
FOLDERS = ("docs", "notebooks", "benchmarks")  # that pages are in or link to
CONTENTS = """
```{toctree}
:hidden:
:caption: Tutorials

docs/tutorials/engineer
docs/tutorials/researcher
docs/tutorials/student
```

```{toctree}
:hidden:
:caption: How to
:glob:

docs/howto/*
```

```{toctree}
:hidden:
:caption: Background
:glob:

docs/*
GLOSSARY
```

```{toctree}
:hidden:
:caption: Results
:glob:

docs/results/*
```

```{toctree}
:hidden:
:caption: Reference

api/index
CONTRIBUTING
SECURITY
CHANGELOG
```
"""


def stage(source: Path) -> None:
    """Fill the empty folder `source` with everything that Sphinx reads: the pages, the files they link to, and the reference."""
    for name in TOP:
        shutil.copy2(ROOT / name, source / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb", "site", "_build"))
    for name in ("conf.py", "names.py"):
        shutil.copy2(Path(__file__).with_name(name), source / name)
    (source / "index.md").write_text((ROOT / "README.md").read_text() + CONTENTS)
    reference = source / "api"
    reference.mkdir()
    (reference / "index.rst").write_text(_public_page())
    for name in _pages(PACKAGE):
        (reference / f"{name}.rst").write_text(_page(name))


def _children(package: str) -> list[str]:
    """The full names of the modules and packages in a package, in alphabetical order; private ones are left out."""
    path = importlib.import_module(package).__path__
    names = [item.name for item in pkgutil.iter_modules(path) if not item.name.startswith("_")]
    return [f"{package}.{name}" for name in sorted(names)]


def _is_package(name: str) -> bool:
    return _file(name).name == "__init__.py"


def _file(name: str) -> Path:
    path = ROOT / "src" / Path(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _pages(package: str) -> Iterator[str]:
    """The names that have pages of their own: each package, and each module at the top level."""
    for name in _children(package):
        if _is_package(name):
            yield name
            yield from _pages(name)
        elif package == PACKAGE:
            yield name


def _public_page() -> str:
    package = importlib.import_module(PACKAGE)
    lines = [*_title("API reference"), "The names that other code can build on. They are imported from the package itself.", ""]
    for name in package.__all__:
        if not name.startswith("__"):
            value = getattr(package, name)
            kind = "autoclass" if inspect.isclass(value) else "autofunction"
            lines += [f".. py:currentmodule:: {value.__module__}", "", f".. {kind}:: {PACKAGE}.{name}", ""]
    return "\n".join([*lines, *_title("All modules", "-"), *_contents(PACKAGE)])


def _page(name: str) -> str:
    lines = [*_title(name), *_automodule(name)]
    if _is_package(name):
        module = importlib.import_module(name)
        exported = [_link(module, public) for public in getattr(module, "__all__", ())]
        if exported:
            lines += [f"Imported from ``{name}`` itself: {', '.join(exported)}.", ""]
        lines += _contents(name)
        for child in _children(name):
            if not _is_package(child):
                lines += [*_title(child, "-"), *_automodule(child)]
    return "\n".join(lines)


def _automodule(name: str) -> list[str]:
    return [f".. automodule:: {name}", "   :ignore-module-all:", ""]  # the names that it defines, not those that it re-exports


def _link(module: ModuleType, name: str) -> str:
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        return f":py:obj:`{name} <{value.__module__}.{value.__qualname__}>`"
    return f"``{name}``"


def _contents(package: str) -> list[str]:
    """A table of a package's modules with the first paragraph of each, and the place of their pages in the tree of contents."""
    lines = [".. list-table::", "   :widths: 30 70", ""]
    for name in _children(package):
        short = name.removeprefix(f"{package}.")
        lines += [f"   * - :py:mod:`{short} <{name}>`", f"     - {_summary(name)}"]
    pages = [name for name in _pages(package) if name.rpartition(".")[0] == package]
    return [
        *lines,
        "",
        ".. toctree::",
        "   :hidden:",
        "",
        *(f"   {name.removeprefix(f'{PACKAGE}.')} <{name}>" for name in pages),
        "",
    ]


def _summary(name: str) -> str:
    """The first paragraph of a module's docstring, read without importing it."""
    return " ".join((ast.get_docstring(ast.parse(_file(name).read_text())) or "").split("\n\n")[0].split())


def _title(text: str, line: str = "=") -> list[str]:
    return [text, line * len(text), ""]


def main() -> int:
    """Stage the pages, then let Sphinx build the site from them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs")
    out = parser.parse_args().out.resolve()
    source = out.with_name(f"{out.name}-source")
    for folder in (source, out):
        shutil.rmtree(folder, ignore_errors=True)
    source.mkdir(parents=True)
    sys.path.insert(0, str(ROOT / "src"))
    from memberscope.quiet import quiet_libraries

    quiet_libraries()
    stage(source)
    from sphinx.cmd.build import main as sphinx

    failed = sphinx(["-W", "--keep-going", "-q", "-b", "html", "-d", str(source / ".doctrees"), str(source), str(out)])
    if not failed:
        print(f"open: {out / 'index.html'}")
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
