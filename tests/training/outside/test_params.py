"""Parameters as text or as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from memberscope.errors import UserError
from memberscope.training.outside.params import parse_params


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("epochs=40,width=2", {"epochs": 40, "width": 2}),
        (" rate = 1e-3 , decay=5E2,x=-.5", {"rate": 0.001, "decay": 500.0, "x": -0.5}),
        ("widths=[64, 32],deep={a: 1},last=yes", {"widths": [64, 32], "deep": {"a": 1}, "last": True}),
        ("name='a,b',other=plain", {"name": "a,b", "other": "plain"}),
        ("depth=null", {"depth": None}),
        ("kernel=a=b", {"kernel": "a=b"}),
        ("code='5',share=\"0.5\",rate=5e-1", {"code": "5", "share": "0.5", "rate": 0.5}),
        ("say=it's,b=2,c= 'x,y' ,d=['p,q', r]", {"say": "it's", "b": 2, "c": "x,y", "d": ["p,q", "r"]}),
    ],
)
def test_text(text: str, found: dict[str, object]) -> None:
    assert parse_params(text) == found


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("epochs: 40\nrate: 1e-3\nlayers: [1, 2]\n")
    assert parse_params(str(path)) == {"epochs": 40, "rate": 0.001, "layers": [1, 2]}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("epochs", "params=epochs: epochs is not NAME=VALUE"),
        ("epochs=1,,b=2", "an empty part is not NAME=VALUE"),
        ("1x=2", "1x=2 is not NAME=VALUE"),
        ("a=1,a=2", "a is given twice"),
        ("a=[1", "a: cannot be read"),
        ("a=!!python/object:os.system 1", "a: cannot be read"),
        ("a=.inf", "not a finite number"),
        ("a=1e400", "params=a=1e400: a=inf: not a finite number"),
        ("a={0: 1.5}", r"params=a={0: 1.5}: a: 0 names a value; allowed: names that are text"),
        ("a=2020-01-01", "date"),
        ("absent.yaml", r"params=absent.yaml: cannot be read \(No such file"),
    ],
)
def test_bad_text_is_one_line(text: str, line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        parse_params(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [("- 1\n", "holds list"), ("", "holds NoneType"), ("1: 2\n", "1 is not a name"), ("a: [\n", "cannot be read")],
)
def test_a_bad_file_is_one_line(tmp_path: Path, content: str, line: str) -> None:
    path = tmp_path / "params.yml"
    path.write_text(content)
    with pytest.raises(UserError, match=line) as caught:
        parse_params(str(path))
    assert "\n" not in str(caught.value)
