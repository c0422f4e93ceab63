"""YAML files, rules, requests, addresses and options."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hostile import Case
from hostile.arrays import PLACES, place

DEEP = 10_000


def _space(path: Path) -> None:
    from memberscope.sweeps.space import read_space

    for factor in read_space(str(path)):
        factor.ends()


def _rungs(path: Path) -> None:
    from memberscope.studies.mitigate.rungs import read_rungs

    read_rungs(str(path))


def _params(path: Path) -> None:
    from memberscope.training.outside.params import parse_params

    parse_params(str(path))


YAMLS: dict[str, Callable[[Path], None]] = {"space": _space, "rungs": _rungs, "params": _params}
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{','.join(['*' + chr(97 + k)] * 9)}]\n" for k in range(9)
)
VALUES: dict[str, str] = {
    "a number of 5,000 digits": "9" * 5000,
    "a fraction of 5,000 digits": "0." + "1" * 5000,
    "a huge exponent": "1e99999",
    "infinite": ".inf",
    "not a number": ".nan",
    "a hexadecimal number of 5,000 digits": "0x" + "f" * 5000,
    "a base of 60": "1:" * 3000 + "1",
    "octal": "0o777",
    "a date": "2024-01-01",
    "a time that is none": "2024-99-99",
    "binary": "!!binary aGVsbG8=",
    "no base 64": "!!binary '%'",
    "a set": "!!set {a, b}",
    "pairs": "!!omap [a: 1]",
    "Python's": "!!python/object/apply:os.system ['true']",
    "a tag": "!mine 3",
    "null": "null",
    "a list": "[1, [2, [3]]]",
    "nested lists": "[" * DEEP + "]" * DEEP,
    "nested braces": "{a: " * DEEP + "1" + "}" * DEEP,
    "itself": "&a [*a]",
    "itself in braces": "&a {b: *a}",
    "an unknown anchor": "*nowhere",
    "text of a million letters": "x" * 1_000_000,
    "an integer that is not one": "!!int abc",
    "a float that is not one": "!!float abc",
    "a boolean that is not one": "!!bool abc",
    "a range of one": "{low: 1, high: 1}",
    "a range of text": "{low: a, high: b}",
    "a huge range": "{low: 1, high: " + "9" * 400 + "}",
    "a range to infinity": "{low: 1, high: .inf}",
    "a logarithm of 0": "{low: 0, high: 1, log: true}",
    "a range with a list": "{low: [1], high: 2}",
    "a list of lists": "[[1], [2]]",
    "a list of maps": "[{a: 1}, {b: 2}]",
    "the same twice": "[1, 1]",
    "1 and true": "[1, true]",
    "nothing": "[]",
    "a surrogate": '"\\ud800"',
    "a null": '"\\0"',
    "quotes": "'it''s'",
    "a million values": "[" + ",".join(map(str, range(100_000))) + "]",
}
WHOLE: dict[str, bytes] = {
    "empty": b"",
    "a comment": b"# nothing\n",
    "nulls": b"\0\0\0",
    "binary": bytes(range(256)),
    "not UTF-8": b"a: \xff\xfe",
    "UTF-16": "a: {b: 1}".encode("utf-16"),
    "a tab": b"a:\n\t- b",
    "several documents": b"a: 1\n---\nb: 2\n",
    "an open bracket": b"a: [1, 2",
    "control characters": b"a: \x07",
    "a number": b"7",
    "a list": b"- 1\n- 2\n",
    "text": b"hello",
    "keys that are lists": b"? [a, b]\n: 1\n",
    "keys that are numbers": b"1: {a: 2}\n",
    "keys that are null": b"~: {a: 2}\n",
    "keys that are dates": b"2024-01-01: {a: 2}\n",
    "a key of 100,000 letters": b"? " + b"a" * 100_000 + b"\n: {b: 1}\n",
    "the same key twice": b"a: {b: 1}\na: {b: 2}\n",
    "aliases that multiply": BOMB.encode(),
    "merges": b"a: &a {b: 1}\nc: {<<: *a}\n",
    "a merge of itself": b"a: &a\n  <<: *a\n",
    "deep blocks": "".join("  " * k + "a:\n" for k in range(1200)).encode(),
    "an open quote": b"a: 'x",
    "a directive": b"%YAML 9.9\n---\na: 1\n",
}


def _yaml(folder: Path, *, content: bytes, read: Callable[[Path], None]) -> None:
    (folder / "f.yaml").write_bytes(content)
    read(folder / "f.yaml")


def _placed(folder: Path, *, kind: str, read: Callable[[Path], None]) -> None:
    read(place(folder / "f.yaml", kind))


def _params_text(folder: Path, *, text: str) -> None:
    from memberscope.training.outside.params import parse_params

    parse_params(f"width={text}")


WRAPPED = {"space": "factors:\n  {name}: {value}\n", "rungs": "one:\n  width: {value}\n", "params": "width: {value}\n"}

RULES: dict[str, str] = {
    "nothing": "",
    "a semicolon": ";;;",
    "no number": "any.entire.auc >",
    "a class of 5,000 digits": f"any.class_{'9' * 5000}.auc > 0.6",
    "a limit of 5,000 digits": f"any.entire.auc > {'9' * 5000}",
    "a limit of digits": f"any.entire.auc > 0.{'6' * 5000}",
    "a lone surrogate": "any.class_\ud800.auc > 0.6",
    "a surrogate for an attack": "\ud800.entire.auc > 0.6",
    "a surrogate for a metric": "any.entire.\udcff > 0.6",
    "a surrogate for a limit": "any.entire.auc > \ud800",
    "not a number": "any.entire.auc > nan",
    "infinite": "any.entire.auc > inf",
    "an exponent": "any.entire.auc > 1e-99999",
    "other digits": "any.entire.auc > ٠.٦",
    "underscores": "any.entire.auc > 0_0.6",
    "below": "any.entire.auc < 0.6",
    "operators": "any.entire.auc >>=!=<> 0.6",
    "dots alone": "......",
    "a null": "any.class_\0.auc > 0.6",
    "a line break": "any.class_a\nb.auc > 0.6",
    "a million rules": ";".join(["any.entire.auc > 0.6"] * 20_000),
    "a million letters": "x" * 1_000_000,
    "a column of dots": f"any.{'a.' * 50_000}auc > 0.6",
    "columns": "any.a:b:c:d.auc > 0.6",
    "an empty column": "any.:.auc > 0.6",
    "mathematics": "any.class_$x^2$.auc > 0.6",
    "many brackets": "(" * 100_000,
    "an attack like all": "threshold_loss" * 10_000 + ".entire.auc > 0.6",
}


def _rules(folder: Path, *, text: str) -> None:
    from memberscope.gate import parse_rules

    rules = parse_rules(text)
    assert parse_rules("; ".join(map(str, rules))) == rules
    parse_rules(text, attacks=["threshold_loss"], classes=["class_0", "class_1"])


STORAGES: dict[str, str] = {
    "no address": "nowhere",
    "a scheme alone": "postgresql://",
    "a scheme without a driver": "oracle://h/d",
    "an unknown scheme": "x://y",
    "a scheme of spaces": "  ://",
    "an open bracket": "postgresql://[::1/d",
    "a port of text": "postgresql://127.0.0.1:port/d",
    "a port out of range": "postgresql://127.0.0.1:99999999/d",
    "a port of 5,000 digits": f"postgresql://127.0.0.1:{'9' * 5000}/d",
    "a host of 5,000 letters": f"postgresql://{'h' * 5000}/d",
    "a host with a null": "postgresql://a\0b/d",
    "a surrogate": "postgresql://\ud800/d",
    "a closed port": "postgresql://127.0.0.1:1/d",
    "MySQL without a driver": "mysql://127.0.0.1:1/d",
    "a driver that is absent": "postgresql+nowhere://127.0.0.1:1/d",
    "a driver of SQLite that is absent": "sqlite+nowhere:///x.db",
    "SQLite without a file": "sqlite://",
    "SQLite with two slashes": "sqlite://x.db",
    "SQLite in memory": "sqlite:///:memory:",
    "SQLite with options": "sqlite:///x.db?nonsense=1",
    "SQLite with a timeout of text": "sqlite:///x.db?timeout=abc",
    "SQLite in a folder that is absent": "sqlite:///nowhere/x.db",
    "SQLite at a folder": "sqlite:///.",
    "SQLite with a null": "sqlite:///a\0b.db",
    "SQLite with a surrogate": "sqlite:///\ud800.db",
    "SQLite at a device": "sqlite:////dev/zero",
    "SQLite at a name of 5,000 letters": f"sqlite:///{'a' * 5000}.db",
    "a percent sign": "postgresql://u:%zz@127.0.0.1:1/d",
    "a variable that is not set": "env:MEMBERSCOPE_NOWHERE",
    "a variable without a name": "env:",
    "a variable of other letters": "env:a b",
    "SQLite as a uri": "sqlite:///file:x.db?uri=true&mode=nonsense",
    "a line break": "postgresql://127.0.0.1:1\n/d",
    "a query of brackets": "postgresql://127.0.0.1:1/d?a[=1",
}


def _storage(folder: Path, *, address: str, content: bytes | None = None) -> None:
    from memberscope.sweeps.storage import open_storage, storage_url

    here = Path.cwd()
    os.chdir(folder)
    try:
        if content is not None:
            (folder / "x.db").write_bytes(content)
        storage = open_storage(storage_url(address, folder), heartbeat=60, given=address)
        storage.remove_session()
        storage.engine.dispose()
    finally:
        os.chdir(here)


OBJECTIVES = {"unknown": "auc,\ud800", "twice": "auc,auc", "none": ",,,", "long": "a" * 100_000}
SLICES = {
    "digits": f"class_{'9' * 5000}",
    "surrogate": "class_\ud800",
    "column": "column:",
    "none": ",",
    "long": "a" * 100_000,
    "deciles": "loss_p00_p99",
}


def _objectives(folder: Path, *, text: str) -> None:
    from memberscope.sweeps.search import read_objectives

    read_objectives(text)


def _slices(folder: Path, *, text: str) -> None:
    import numpy as np

    from memberscope import Predictions, slices

    slices.named_columns(text, classes=4)
    slices.parse(text, Predictions(logits=np.eye(4), labels=np.arange(4), member=np.arange(4) < 2))


OPTIONS: dict[str, list[str]] = {
    "a number of 5,000 digits": ["--epochs", "9" * 5000],
    "a seed of 5,000 digits": ["--seed", "9" * 5000],
    "a rate of 5,000 digits": ["--learning_rate", "9" * 5000],
    "a number of other digits": ["--epochs", "٣"],
    "widths of digits": ["--widths", "9" * 5000],
    "an option of 100,000 letters": [f"--{'a' * 100_000}"],
    "a surrogate": ["--dataset", "\udcff"],
    "an option that is a surrogate": ["--\udcff", "1"],
    "a null": ["--dataset", "a\0.npz"],
    "a line break": ["--dataset", "a\nb"],
    "underscores": ["--epochs", "1_0"],
    "an exponent": ["--epochs", "1e3"],
    "a rate that is not a number": ["--learning_rate", "nan"],
    "no value": ["--epochs"],
    "a value without an option": ["value"],
}


def _options(folder: Path, *, words: list[str]) -> None:
    from memberscope.cli import STUDIES, parse

    for name in STUDIES:
        known = STUDIES[name].configuration().__dataclass_fields__
        if (
            words[0].removeprefix("--") in known
            or not words[0].startswith("--")
            or words[0].removeprefix("--") not in ("epochs", "widths")
        ):
            try:
                parse(name, words)
            except BaseException as error:
                from hostile import problem

                if problem(error):
                    raise
                str(error).encode("utf-8")  # as a run's tag


def cases() -> list[Case]:
    """Texts."""
    found = []
    for kind, read in YAMLS.items():
        found += [
            Case(name=f"{kind}: {what}", act=partial(_yaml, content=content, read=read)) for what, content in WHOLE.items()
        ]
        for what, value in VALUES.items():
            text = WRAPPED[kind].replace("{name}", "epochs").replace("{value}", value)
            found.append(Case(name=f"{kind}, value: {what}", act=partial(_yaml, content=text.encode(), read=read)))
        found += [
            Case(name=f"{kind}: {place}", act=partial(_placed, kind=place, read=read), refused=True)
            for place in PLACES
            if place != "an unreadable file" or os.getuid() != 0
        ]
    found += [Case(name=f"params as text: {what}", act=partial(_params_text, text=value)) for what, value in VALUES.items()]
    found += [Case(name=f"rules: {what}", act=partial(_rules, text=text)) for what, text in RULES.items()]
    found += [Case(name=f"storage: {what}", act=partial(_storage, address=text)) for what, text in STORAGES.items()]
    damaged = {
        "text": b"hello, this is no database",
        "a cut one": b"SQLite format 3\0" + b"\0" * 50,
        "zeros": b"\0" * 4096,
        "noise": b"SQLite format 3\0" + bytes(range(256)) * 64,
    }
    found += [
        Case(
            name=f"storage: SQLite with {what}",
            act=partial(_storage, address="sqlite:///x.db", content=content),
            refused=what != "zeros",
        )
        for what, content in damaged.items()
    ]
    found += [
        Case(name=f"objectives: {what}", act=partial(_objectives, text=text), refused=True) for what, text in OBJECTIVES.items()
    ]
    found += [Case(name=f"slices: {what}", act=partial(_slices, text=text), refused=True) for what, text in SLICES.items()]
    found += [Case(name=f"options: {what}", act=partial(_options, words=words)) for what, words in OPTIONS.items()]
    return found
