"""Where a trainer from outside comes from: its name, its source code with that of the local modules it imports, and their versions."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import os
import platform
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope.errors import UserError, nearest
from memberscope.installed import require

FORMS = "path/to/file.py:NAME, or package.module:NAME"
BUILDER = "keras:"  # begins the name of a function that builds an untrained Keras model
_COPY = "memberscope-trainer-"  # begins the name of a folder with a copy of local modules
_OURS = Path(__file__).resolve().parents[2]  # this package
_ATTEMPTS = 20  # to build a syntax tree, see `_tree`
_FILE_MODULE = "memberscope_trainer_"  # begins the module name of a file, so that it hides no installed module


@dataclass(frozen=True, kw_only=True)
class Source:
    """A function or class of a file or module, with the source of every local module that it imports.

    Attributes:
        spec: as the user wrote it, such as ``train.py:train``.
        name: the function or class.
        module: the name by which it is imported.
        root: the folder from which local modules are imported; empty if it is an installed package's.
        files: (path relative to `root`, text) of the local modules, that of the function first; empty for an installed package's.
        versions: (distribution, version) of what the local modules, or the installed package, import.
        elsewhere: (path, digest) of local modules that are imported from other folders than `root`, such as one on PYTHONPATH.
    """

    spec: str
    name: str
    module: str
    root: str
    files: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    elsewhere: tuple[tuple[str, str], ...] = ()

    def facts(self) -> dict[str, object]:
        """What decides the behaviour of the code, as plain values: its name, a digest of each file, and versions."""
        digests = {name: _digest(text) for name, text in self.files}
        module = "" if self.files and self.module.startswith(_FILE_MODULE) else self.module
        found: dict[str, object] = {"name": self.name, "module": module, "sources": digests, "versions": dict(self.versions)}
        return found | ({"elsewhere": dict(self.elsewhere)} if self.elsewhere else {})

    def load(self) -> Any:
        """The function or class, imported from the files as they were read, so that a later change of them has no effect.

        Raises:
            UserError: it cannot be imported, or has no such name.
        """
        return _load(self)


def find_source(spec: str, *, prefix: str = "") -> Source:
    """The source that a value such as ``train.py:train`` or ``sklearn.ensemble:RandomForestClassifier`` names.

    Args:
        spec: as the user wrote it.
        prefix: the part of `spec` before the file or module, such as ``keras:``.

    Raises:
        UserError: no such file, module or name; or source code that cannot be parsed.
    """
    place, _, name = spec.removeprefix(prefix).rpartition(":")
    if not place or not name.isidentifier():
        raise UserError(f"trainer={spec}: not the name of a function or class; allowed: {_forms(spec)}")
    if place.endswith(".py") or "/" in place or os.sep in place:
        return _of_file(spec, Path(place).expanduser(), name)
    return _of_module(spec, place, name)


def _forms(spec: str) -> str:
    """The values that are allowed, with the prefix of `spec`."""
    return f"{BUILDER}path/to/file.py:NAME, or {BUILDER}package.module:NAME" if spec.startswith(BUILDER) else FORMS


def _of_file(spec: str, path: Path, name: str) -> Source:
    if not path.is_file():
        raise UserError(f"trainer={spec}: no file {path}; allowed: {_forms(spec)}")
    path = path.resolve()
    found = _closure(spec, path, path.parent)
    return Source(
        spec=spec, name=name, module=_FILE_MODULE + path.stem, root=str(path.parent), files=found.files, elsewhere=found.elsewhere,
        versions=_versions(found.external),
    )  # fmt: skip


def _of_module(spec: str, module: str, name: str) -> Source:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    missing = module
    importlib.invalidate_caches()  # a file that was written a moment ago, as in a notebook, is found too
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError as error:
        found, missing = None, error.name or module
    except (ImportError, ValueError, AttributeError):
        found = None
    if found is None or not (found.origin or found.submodule_search_locations):
        top = module.partition(".")[0]
        if missing == top:
            require(top, by=f"trainer={spec}", instead="a file or a module in this folder")
        raise UserError(f"trainer={spec}: no module {missing}; allowed: {_forms(spec)}")
    origin = Path(found.origin) if found.origin else None
    if origin is None or not _is_local(origin) or origin.suffix != ".py":
        return Source(spec=spec, name=name, module=module, root="", files=(), versions=_versions({module.partition(".")[0]}))
    depth = module.count(".") + (origin.name == "__init__.py")
    root = origin.resolve().parents[depth]
    code = _closure(spec, origin.resolve(), root)
    return Source(
        spec=spec, name=name, module=module, root=str(root), files=code.files, elsewhere=code.elsewhere,
        versions=_versions(code.external),
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- files and versions


@dataclass(frozen=True, kw_only=True)
class _Closure:
    """All that a file imports, directly or not: local modules, and the top-level names of all other imports."""

    files: tuple[tuple[str, str], ...]
    elsewhere: tuple[tuple[str, str], ...]
    external: frozenset[str]


def _closure(spec: str, main: Path, root: Path) -> _Closure:
    """The local modules under `root` that a file imports, with the file first; those of other folders; and all other imports."""
    files: dict[str, str] = {}
    elsewhere: dict[str, str] = {}
    external: set[str] = set()
    queue = [(main, root)]
    while queue:
        path, home = queue.pop(0)
        known = files if home == root else elsewhere
        relative = path.relative_to(home).as_posix()
        if relative in known:
            continue
        known[relative] = text = _text(spec, path)
        for module in _imports(_parsed(spec, path, text), path, home):
            top = module.partition(".")[0]
            for place in dict.fromkeys((root, home, _home(top))):
                local = _local_files(module, place) if place else []
                if place and local:
                    queue += [(one, place) for one in local]
                    break
            else:
                external.add(top)
    first = main.relative_to(root).as_posix()
    rest = sorted((name, text) for name, text in files.items() if name != first)
    digests = sorted((name, _digest(text)) for name, text in elsewhere.items())
    return _Closure(files=((first, files[first]), *rest), elsewhere=tuple(digests), external=frozenset(external))


def _home(top: str) -> Path | None:
    """The folder from which a top-level module of neither Python nor an installed package is imported; None for any other."""
    if top in sys.stdlib_module_names or top == __name__.partition(".")[0]:
        return None
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    if found is None:
        return None
    if found.submodule_search_locations:
        place = Path(next(iter(found.submodule_search_locations))).resolve()
    elif found.origin and Path(found.origin).suffix == ".py":
        place = Path(found.origin).resolve()
    else:
        return None
    return place.parent if _is_local(place) else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(spec: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserError(f"trainer={spec}: {path} cannot be read ({error}); allowed: a file of Python source") from None


def _parsed(spec: str, path: Path, text: str) -> ast.Module:
    try:
        return _tree(text, path)
    except (SyntaxError, ValueError) as error:
        line = f"line {error.lineno} of " if isinstance(error, SyntaxError) and error.lineno else ""
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UserError(f"trainer={spec}: {line}{path} is not valid Python ({why}); allowed: {_forms(spec)}") from None


def _tree(text: str, path: Path) -> ast.Module:
    """The syntax tree. CPython before 3.13 counts the depth of all threads' trees in one place, and may raise SystemError."""
    for _ in range(_ATTEMPTS):
        try:
            return ast.parse(text, filename=str(path))
        except SystemError:
            continue
    return ast.parse(text, filename=str(path))


def _imports(tree: ast.Module, path: Path, root: Path) -> Iterator[str]:
    """The names of all modules that are imported anywhere in a file, relative ones resolved."""
    package = list(path.relative_to(root).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ([base] if base else [])
            yield from (
                f"{base}.{alias.name}" if base else alias.name
                for alias in node.names
                if alias.name != "*" and (node.level or base)
            )


def _local_files(module: str, root: Path) -> list[Path]:
    """The files under `root` that importing a module runs: those of its packages and its own."""
    parts, found = module.split("."), []
    for count in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:count])
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file() and _is_local(path):
                found.append(path.resolve() if path.resolve().is_relative_to(root) else path)
                break
    return found


@functools.cache
def _installed_folders() -> tuple[Path, ...]:
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(Path(path).resolve() for path in paths if path)


def _is_local(path: Path) -> bool:
    """Whether a file is neither Python's own, nor an installed package's, nor one of ours, which may lie in a checkout."""
    resolved = path.resolve()
    if resolved.is_relative_to(_OURS):
        return False
    if {"site-packages", "dist-packages"} & set(resolved.parts):
        return False
    return not any(resolved.is_relative_to(folder) for folder in _installed_folders())


def _versions(modules: Set[str]) -> tuple[tuple[str, str], ...]:
    """The versions of Python, of NumPy and of the distributions that provide the modules."""
    from importlib import metadata

    provided = _providers(tuple((place, _changed(place)) for place in sys.path if _may_hold_distributions(place)))
    found = {"python": platform.python_version()}
    for module in sorted(modules | {"numpy"}):
        for distribution in provided.get(module, ()) if module not in sys.stdlib_module_names else ():
            found[distribution] = metadata.version(distribution)
    return tuple(sorted(found.items()))


def _may_hold_distributions(place: str) -> bool:
    """Whether a place of Python's search path is an archive, or a folder in which something was installed. The folder from which one works
    changes often, and has nothing to say here.
    """
    try:
        names = os.listdir(place or os.curdir)
    except NotADirectoryError:
        return True
    except OSError:
        return False
    return any(name.lower().endswith((".dist-info", "egg-info")) for name in names)


def _changed(place: str) -> int:
    """When something was last added to or removed from a folder of Python's search path, in nanoseconds; 0 if there is no such folder."""
    try:
        return os.stat(place or os.curdir).st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=2)  # half a second where 300 packages are installed
def _providers(places: tuple[tuple[str, int], ...]) -> dict[str, tuple[str, ...]]:
    """The distributions that provide each top-level module, while the folders of the search path are as in `places`."""
    from importlib import metadata

    return {module: tuple(names) for module, names in metadata.packages_distributions().items()}


# --------------------------------------------------------------------------------------------------------------------------- import


@functools.lru_cache(maxsize=8)
def _load(source: Source) -> Any:
    root = _root_with(source)
    if root:
        sys.path[:] = [
            root,
            *(place for place in sys.path if place != root),
        ]  # first, as Python does with the folder of a script
        _forget(source)
    module = _import(source, root)
    try:
        return getattr(module, source.name)
    except AttributeError:
        public = [name for name, thing in vars(module).items() if callable(thing) and not name.startswith("_")]
        where = source.files[0][0] if source.files else source.module
        hint = nearest(source.name, public)
        raise UserError(
            f"trainer={source.spec}: {where} has no {source.name}; allowed: a function or class in it{hint}"
        ) from None


def _forget(source: Source) -> None:
    """Forget the local modules that this process has imported already: they may be those of another folder, or of another version."""
    for name, _ in source.files:
        parts = list(Path(name).with_suffix("").parts)
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        file = getattr(sys.modules.get(module), "__file__", None)
        if file and _is_local(Path(file)):
            del sys.modules[module]
    importlib.invalidate_caches()


def _root_with(source: Source) -> str:
    """A folder with the local modules as they were read: where they lie, or a temporary copy where they are absent or have changed."""
    if not source.files:
        return ""
    root = Path(source.root)
    if all(_holds(root / name, text) for name, text in source.files):
        return source.root
    copied = Path(tempfile.mkdtemp(prefix=_COPY))
    for name, text in source.files:
        path = copied / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(copied)


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeError):
        return False


def _import(source: Source, root: str) -> Any:
    try:
        if not (source.files and source.module.startswith(_FILE_MODULE)):
            return importlib.import_module(source.module)
        path = Path(root) / source.files[0][0]
        spec = importlib.util.spec_from_file_location(source.module, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[source.module] = module  # pickle and dataclasses look a module up by its name
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        local = {Path(name).parts[0].removesuffix(".py") for name, _ in source.files}
        if missing and missing not in local:
            require(missing, by=f"trainer={source.spec}")
        raise _import_failed(source, error) from None
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever a user's file does when it is imported
        raise _import_failed(source, error) from None
    return module


def _import_failed(source: Source, error: BaseException) -> UserError:
    return UserError(f"trainer={source.spec}: cannot be imported: {where_it_failed(error, source)}")


def where_it_failed(error: BaseException, source: Source) -> str:
    """The last line of a user's own code in an error's traceback, and the error, in one line: ``line 7 of train.py: KeyError: 'width'``."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_of(source, Path(frame.filename))]
    place = f"line {frames[-1].lineno} of {Path(frames[-1].filename).name}: " if frames else ""
    text = " ".join(str(error).split())
    return f"{place}{type(error).__name__}{': ' + text[:300] if text else ''}"


def _is_of(source: Source, path: Path) -> bool:
    """Whether a file is one of the source's, where they lie or in a copy; a library may have files of the same names."""
    for name, _ in source.files:
        parts = Path(name).parts
        root = path.parents[len(parts) - 1] if path.parts[-len(parts) :] == parts else None
        if root is not None and (root == Path(source.root) or root.name.startswith(_COPY)):
            return True
    return False
