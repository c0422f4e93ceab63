"""Where a trainer comes from: what is found, what decides its signature, and what is refused in one line."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope.errors import UserError
from memberscope.training.outside.source import find_source, where_it_failed


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fresh folder to work in, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def _write(**files: str) -> None:
    for name, text in files.items():
        path = Path(name.replace("__in__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_file_is_read_with_every_local_module_it_imports_and_with_nothing_else() -> None:
    _write(
        train="import json\nimport numpy as np\nfrom helpers import double\nfrom kit.layers import wide\n\n\n"
        "def train(job):\n    import late\n    return late\n",
        helpers="import deeper\n\n\ndef double(x):\n    return 2 * x\n",
        deeper="",
        late="",
        unrelated="",
        kit__in____init__="",
        kit__in__layers="from . import inner\nfrom .other import thing\n\n\ndef wide():\n    pass\n",
        kit__in__inner="",
        kit__in__other="thing = 1\n",
    )
    source = find_source("train.py:train")
    assert [name for name, _ in source.files] == [
        "train.py", "deeper.py", "helpers.py", "kit/__init__.py", "kit/inner.py", "kit/layers.py", "kit/other.py", "late.py",
    ]  # fmt: skip
    assert {"numpy", "python"} <= set(dict(source.versions))
    assert source.load()(None).__name__ == "late"


@pytest.mark.parametrize("changed", ["train", "helpers"])
def test_a_change_of_any_of_its_files_is_another_signature(changed: str) -> None:
    _write(train="import helpers\n\n\ndef train(job):\n    return 1\n", helpers="A = 1\n", unrelated="")
    before = find_source("train.py:train").facts()
    assert find_source("train.py:train").facts() == before
    Path("unrelated.py").write_text("B = 2\n")
    assert find_source("train.py:train").facts() == before
    Path(f"{changed}.py").write_text(Path(f"{changed}.py").read_text() + "# another\n")
    assert find_source("train.py:train").facts() != before


def test_a_change_of_a_local_module_of_another_folder_is_another_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    _write(
        lib__in__kit__in____init__="", lib__in__kit__in__layers="from kit import inner\n", lib__in__kit__in__inner="VALUE = 1\n",
        lib__in__kit__in__unrelated="", scripts__in__train="from kit.layers import inner\n\n\ndef train(job):\n    return 1\n",
    )  # fmt: skip
    assert "elsewhere" not in find_source("scripts/train.py:train").facts()  # it cannot be imported
    monkeypatch.syspath_prepend("lib")
    before = find_source("scripts/train.py:train").facts()
    Path("lib/kit/unrelated.py").write_text("VALUE = 2\n")
    assert find_source("scripts/train.py:train").facts() == before
    Path("lib/kit/inner.py").write_text("VALUE = 2\n")
    assert find_source("scripts/train.py:train").facts() != before


def test_every_source_gets_its_own_modules_even_if_another_has_some_of_the_same_names() -> None:
    text = "import common_name\n\n\ndef train(job):\n    return common_name.VALUE\n"
    _write(a__in__train=text, a__in__common_name="VALUE = 1\n", b__in__train=text, b__in__common_name="VALUE = 2\n")
    assert [find_source(f"{place}/train.py:train").load()(None) for place in "ab"] == [1, 2]
    Path("a/common_name.py").write_text("VALUE = 333\n")
    assert find_source("a/train.py:train").load()(None) == 333, "what was imported before the change is not used again"


def test_a_tree_that_another_thread_disturbs_is_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CPython 3.11 and 3.12 do when two threads parse at once."""
    _write(own="def train(job):\n    return job\n")
    parse, calls = ast.parse, []

    def disturbed(*args: Any, **options: Any) -> ast.Module:
        calls.append(args)
        if len(calls) < 3:
            raise SystemError("AST constructor recursion depth mismatch (before=159, after=94)")
        return parse(*args, **options)

    expected = find_source("own.py:train").facts()
    monkeypatch.setattr(ast, "parse", disturbed)
    assert find_source("own.py:train").facts() == expected
    assert len(calls) == 3


def test_where_a_file_lies_does_not_decide() -> None:
    _write(train="def train(job):\n    return 1\n", elsewhere__in__train="def train(job):\n    return 1\n")
    assert find_source("train.py:train").facts() == find_source("elsewhere/train.py:train").facts()


def test_a_file_that_changes_after_it_was_read_is_used_as_it_was() -> None:
    _write(train="import helpers\n\n\ndef train(job):\n    return helpers.VALUE\n", helpers="VALUE = 1\n")
    source = find_source("train.py:train")
    Path("helpers.py").write_text("VALUE = 2\n")
    Path("train.py").write_text("def train(job):\n    return 3\n")
    assert source.load()(None) == 1


def test_a_module_of_this_folder_is_local_and_an_installed_one_is_named_by_its_version() -> None:
    _write(
        folder_kit__in____init__="",
        folder_kit__in__models="from folder_kit import base\n\n\ndef train(job):\n    return base.VALUE\n",
        folder_kit__in__base="VALUE = 7\n",
    )
    source = find_source("folder_kit.models:train")
    assert [name for name, _ in source.files] == ["folder_kit/models.py", "folder_kit/__init__.py", "folder_kit/base.py"]
    assert source.load()(None) == 7
    installed = find_source("sklearn.ensemble:RandomForestClassifier")
    assert not installed.files
    assert "scikit-learn" in dict(installed.versions)
    assert installed.load().__name__ == "RandomForestClassifier"


def test_a_package_that_was_installed_or_removed_a_moment_ago_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which distribution provides a module is looked up once for many trainers, while nothing in the folders of the search path changes."""
    calls: list[int] = []
    read = importlib.metadata.packages_distributions

    def counted() -> Any:
        calls.append(1)
        return read()

    monkeypatch.setattr(importlib.metadata, "packages_distributions", counted)
    _write(train="import toy_of_a_test\n\n\ndef train(job):\n    return 1\n", places__in__toy_of_a_test="VALUE = 1\n")
    monkeypatch.syspath_prepend("places/site-packages")
    installed = Path("places/site-packages")
    installed.mkdir()
    Path("places/toy_of_a_test.py").rename(installed / "toy_of_a_test.py")
    assert "toy-of-a-test" not in dict(find_source("train.py:train").versions)
    for version in ("1.0", "2.0"):
        (installed / f"toy_of_a_test-{version}.dist-info").mkdir()
        (installed / f"toy_of_a_test-{version}.dist-info" / "METADATA").write_text(f"Name: toy-of-a-test\nVersion: {version}\n")
        (installed / f"toy_of_a_test-{version}.dist-info" / "RECORD").write_text("toy_of_a_test.py,,\n")
        found = [dict(find_source("train.py:train").versions) for _ in range(3)]
        assert [versions["toy-of-a-test"] for versions in found] == [version] * 3
        shutil.rmtree(installed / f"toy_of_a_test-{version}.dist-info")
    assert 1 <= len(calls) <= 4


def test_another_folder_to_work_in_changes_nothing_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    _write(
        train="import numpy\n\n\ndef train(job):\n    return 1\n",
        other__in__train="import pytest\n\n\ndef train(job):\n    return 1\n",
    )
    monkeypatch.syspath_prepend("other")
    assert "numpy" in dict(find_source("train.py:train").versions)
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: pytest.fail("read again"))
    monkeypatch.chdir("other")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    assert "pytest" in dict(find_source("train.py:train").versions)


def test_a_file_hides_no_installed_module() -> None:
    _write(json="VALUE = 1\n\n\ndef train(job):\n    return 1\n")
    loaded = find_source("json.py:train").load()
    import json

    assert loaded(None) == 1
    assert json.dumps([1]) == "[1]"


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("absent.py:train", r"trainer=absent.py:train: no file absent.py; allowed: path/to/file.py:NAME"),
        ("train.py:", "not the name of a function or class"),
        (":train", "not the name of a function or class"),
        ("train.py:a b", "not the name of a function or class"),
        ("train.py:trian", r"train.py has no trian; allowed: a function or class in it; nearest: train"),
        ("broken.py:train", r"line 1 of .*broken.py is not valid Python"),
        ("raising.py:train", r"cannot be imported: line 1 of raising.py: ZeroDivisionError: division by zero"),
        ("leaving.py:train", r"cannot be imported: line 3 of leaving.py: SystemExit: 3"),
        ("needing.py:train", r"needing.py:train: needs no_such_library, which is not installed here; .*pip install no-such-library"),
        ("binary.py:train", "cannot be read"),
        ("no_such_module:train", r"needs no_such_module, which is not installed here"),
        ("sklearn.no_such:Thing", r"no module sklearn.no_such"),
        ("sklearn.ensemble:RandomForest", r"sklearn.ensemble has no RandomForest; allowed: .*nearest: RandomForest"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(spec: str, line: str) -> None:
    _write(
        train="def train(job):\n    return 1\n",
        broken="def train(job:\n",
        raising="VALUE = 1 / 0\n",
        leaving="import sys\n\nsys.exit(3)\n",
        needing="import no_such_library\n",
    )
    Path("binary.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=line) as caught:
        find_source(spec).load()
    assert "\n" not in str(caught.value)


def test_our_own_package_is_not_a_local_module_even_in_a_checkout() -> None:
    _write(
        train="from memberscope import TrainingJob\nfrom memberscope.errors import UserError\n\n\ndef train(job):\n    return UserError\n"
    )
    source = find_source("train.py:train")
    assert [name for name, _ in source.files] == ["train.py"]
    assert not source.elsewhere
    assert source.load()(None) is UserError  # the class that is loaded already, not another one of the same name


def test_an_error_is_placed_at_the_users_own_line_even_deep_inside_a_library() -> None:
    _write(train="import numpy as np\n\n\ndef train(job):\n    return np.linalg.inv(np.zeros((2, 2)))\n")
    source = find_source("train.py:train")
    with pytest.raises(np.linalg.LinAlgError) as caught:
        source.load()(None)
    assert where_it_failed(caught.value, source) == "line 5 of train.py: LinAlgError: Singular matrix"


def test_an_error_is_not_placed_in_a_file_of_a_library_with_the_same_name() -> None:
    _write(linalg="import numpy as np\n\n\ndef train(job):\n    return np.linalg.inv(np.zeros((2, 2)))\n")
    source = find_source("linalg.py:train")
    with pytest.raises(np.linalg.LinAlgError) as caught:
        source.load()(None)
    assert where_it_failed(caught.value, source).startswith("line 5 of linalg.py")


@pytest.mark.parametrize("own", ["train.py", "kit/train.py"])
def test_a_file_of_a_library_that_has_the_same_name_is_not_the_users(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(site__in__train="\n\n\n\ndef fit():\n    raise ValueError('no luck')\n")
    Path("kit").mkdir()
    Path(own).write_text("import sys\n\n\ndef train(job):\n    return sys.modules['library'].fit()\n")
    spec = importlib.util.spec_from_file_location("library", "site/train.py")
    assert spec is not None
    assert spec.loader is not None
    library = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(library)
    monkeypatch.setitem(sys.modules, "library", library)
    source = find_source(f"{own}:train")
    with pytest.raises(ValueError, match="no luck") as caught:
        source.load()(None)
    assert where_it_failed(caught.value, source) == "line 5 of train.py: ValueError: no luck"


def test_an_error_is_placed_in_a_copy_of_the_users_file_too() -> None:
    _write(train="def train(job):\n    raise ValueError('no luck')\n")
    source = find_source("train.py:train")
    _write(train="\n\n\ndef train(job):\n    pass\n")
    with pytest.raises(ValueError, match="no luck") as caught:
        source.load()(None)
    assert where_it_failed(caught.value, source) == "line 2 of train.py: ValueError: no luck"
