"""Which tests are slow: those that train, start a process, or import TensorFlow or MLflow.

Nobody keeps a list of them. `pytest` marks a test `slow` if its code, that of its fixtures, or that of the helpers beside it names one of
the modules below; and while `-m "not slow"` runs, a test that starts a process or imports one of the frameworks all the same fails.
"""

from __future__ import annotations

import ast
import dis
import importlib
import inspect
import multiprocessing.process
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
FRAMEWORKS = ("tensorflow", "tensorflow_privacy", "tensorflow_datasets", "keras", "mlflow")
SLOW = (
    *FRAMEWORKS,
    "subprocess",
    "multiprocessing",
    "distributed",
    "playwright",
    "memberscope.cli.main",  # `parse` is quick
    "memberscope.mlflow_adapter",
    "memberscope.models.build_model",
    "memberscope.studies",
    "memberscope.synthesis.gan",
    "memberscope.tfprivacy",
    "memberscope.training.execution",
    "memberscope.training.keras",
    "memberscope.training.trainer.Execution",  # how models are to be trained
)
# a file that imports one of these at its top is not even read for the quick tests
SLOW_TO_IMPORT = (
    *FRAMEWORKS,
    "playwright",
    "memberscope.mlflow_adapter",
    "memberscope.synthesis.gan",
    "memberscope.training.keras",
)
LAST_WORDS = re.compile("|".join(sorted({name.rpartition(".")[2] for name in SLOW_TO_IMPORT})))
PROCESSES = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "os.system")


def _is_of(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def imports_slowly(path: Path) -> bool:
    """Whether a file of tests, or the conftest.py of a folder, imports at its top what is itself slow to import."""
    path = path / "conftest.py" if path.is_dir() else path
    if not path.is_file() or not (path.name == "conftest.py" or path.match("test_*.py")):
        return False
    found: list[str] = []
    text = path.read_text()
    for line in ast.parse(text).body if LAST_WORDS.search(text) else ():
        if isinstance(line, ast.Import):
            found += [alias.name for alias in line.names]
        elif isinstance(line, ast.ImportFrom):
            found += [f"{line.module}.{alias.name}" for alias in line.names]
        elif isinstance(line, ast.Assign | ast.Expr) and isinstance(line.value, ast.Call):  # pytest.importorskip("...")
            found += [str(word.value) for word in line.value.args if isinstance(word, ast.Constant)]
    return any(_is_of(name, SLOW_TO_IMPORT) for name in found)


class Judge:
    """Says of each test whether it is slow; what it found out of a fixture or a helper holds for all tests that use it."""

    def __init__(self) -> None:
        self._found: dict[object, bool] = {}

    def is_slow(self, item: pytest.Item) -> bool:
        """Whether the code of a test, its fixtures or their helpers names a slow module, or its marks say that it runs a whole study."""
        if any(item.get_closest_marker(name) for name in ("slow", "e2e", "needs_data")):
            return True
        if not isinstance(item, pytest.Function):
            return False
        values = (
            [value for value in item.callspec.params.values() if not isinstance(value, str)]
            if hasattr(item, "callspec")
            else []
        )
        fixtures = [definition.func for found in item._fixtureinfo.name2fixturedefs.values() for definition in found]
        return any(self._is_slow(value) for value in (inspect.unwrap(item.function), *fixtures, *values))

    def _is_slow(self, value: Any) -> bool:
        """Whether a value is of a slow module, or is a function or class of the tests whose code names one."""
        value = getattr(getattr(value, "hypothesis", None), "inner_test", value)  # what @given has wrapped
        if isinstance(value, str | ModuleType):
            return _is_of(value if isinstance(value, str) else value.__name__, SLOW)
        if not isinstance(value, FunctionType | type):
            return False
        if value not in self._found:
            self._found[value] = _is_of(
                f"{value.__module__}.{value.__qualname__}", SLOW
            )  # and an answer where functions call each other
            if not self._found[value] and _is_of_the_tests(value):
                self._found[value] = self._may_name_one(value) and any(self._is_slow(found) for found in _named(value))
        return self._found[value]

    def _may_name_one(self, value: FunctionType | type) -> bool:
        """Whether it is worth reading a function's instructions, which takes long: no name in them says more than these do."""
        if isinstance(value, type):
            return True
        for code in _codes(value):
            for name in code.co_names:
                found = value.__globals__.get(name)
                if _leads_to_one(found.__name__ if isinstance(found, ModuleType) else name) or self._is_slow(found):
                    return True
        return False


def _leads_to_one(name: str) -> bool:
    """Whether a module is slow, lies in a slow one, or holds one."""
    return _is_of(name, SLOW) or any(module.startswith(f"{name}.") for module in SLOW)


def _codes(function: FunctionType) -> Iterator[CodeType]:
    """A function's code, and that of the functions and comprehensions inside it."""
    codes: list[CodeType] = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [const for const in code.co_consts if isinstance(const, CodeType)]
        yield code


def _is_of_the_tests(value: FunctionType | type) -> bool:
    source = (
        value.__code__.co_filename
        if isinstance(value, FunctionType)
        else getattr(sys.modules.get(value.__module__), "__file__", "")
    )
    return (source or "").startswith(f"{TESTS}{os.sep}")


def _named(function: FunctionType | type) -> Iterator[Any]:
    """What a function's code names: the values of its globals, and dotted paths of what it imports or reaches through a module."""
    if isinstance(function, type):
        yield from (getattr(part, "fget", part) for part in vars(function).values())
        return
    for code in _codes(function):
        path = ""
        for line in dis.get_instructions(code):
            if line.opname == "LOAD_GLOBAL":
                value = function.__globals__.get(line.argval)
                path = value.__name__ if isinstance(value, ModuleType) else ""
                yield value
            elif line.opname == "IMPORT_NAME":
                path = str(line.argval)
                yield path
            elif line.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM") and path:
                yield f"{path}.{line.argval}"
                path = path if line.opname == "IMPORT_FROM" else f"{path}.{line.argval}"
            elif line.opname not in ("PRECALL", "CACHE", "STORE_FAST", "STORE_DEREF"):
                path = ""


class Guard:
    """Fails a test that starts a process or imports a framework: the quick tests are to stay quick."""

    def __init__(self) -> None:
        self.active = False
        importlib.import_module("numpy.testing")  # numpy 1.26 starts lscpu when it is imported
        importlib.import_module("joblib").cpu_count(only_physical_cores=True)  # it starts cat, once in a process
        sys.addaudithook(self._heard)
        # no event is raised by those of multiprocessing, and of joblib and Dask, which build on it
        multiprocessing.process.BaseProcess.start = self._started(multiprocessing.process.BaseProcess.start)  # type: ignore[method-assign]

    def _started(self, start: Callable[[Any], None]) -> Callable[[Any], None]:
        def guarded(process: Any) -> None:
            self._heard("os.fork", (process.name,))
            start(process)

        return guarded

    def _heard(self, event: str, words: tuple[object, ...]) -> None:
        if not self.active:
            return
        if event in PROCESSES:
            raise AssertionError(f"{event} {words[0]!r}: a test that starts a process is slow; mark it pytest.mark.slow")
        if event == "import" and str(words[0]) in FRAMEWORKS:
            raise AssertionError(f"import {words[0]}: a test that needs it is slow; mark it pytest.mark.slow")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.active = True
        try:
            return (yield)
        finally:
            self.active = False
