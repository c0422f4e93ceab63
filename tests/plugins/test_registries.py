"""A registry: what packages offer is found without being imported, and what is wrong with one is one line that names it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from memberscope.errors import UserError
from memberscope.plugins import Registry, offered_names, offers

GROUP = "memberscope.attacks"


def registry() -> Registry[str]:
    def check(name: str, thing: object, package: str) -> str:
        if not isinstance(thing, str):
            raise TypeError(f"is a {type(thing).__name__}; expected text")
        return f"{thing} of {package}"

    return Registry(GROUP, "attack", {"ours": "built in"}, check=check, reserved={"all": "a word of its own"})


def test_names_are_known_without_importing_anything(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    site = install("quiet", {"never_imported": "raise RuntimeError('imported')"}, {GROUP: {"later": "never_imported:THING"}})
    monkeypatch.syspath_prepend(site)
    known = registry()
    assert known.names() == ("ours", "later")
    assert "later" in known
    assert offered_names(GROUP) == "later (quiet)"
    assert offered_names(GROUP, taken=("later",)) == "", "a name that is taken is not offered"
    assert known.get("ours") == "built in"
    assert "never_imported" not in sys.modules


def test_what_fails_to_load_is_one_line_and_the_rest_goes_on(
    install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install("broken", {"broken_one": "raise RuntimeError('two\\nlines')"}, {GROUP: {"a_broken": "broken_one:THING"}})
    install("absent", {}, {GROUP: {"b_absent": "no_such_module:THING"}})
    install("wrong", {"wrong_one": "THING = 5"}, {GROUP: {"c_wrong": "wrong_one:THING"}})
    install("leaves", {"leaving": "import sys; sys.exit(9)"}, {GROUP: {"c_x_leaves": "leaving:THING"}})
    site = install("fine", {"fine_one": "THING = 'text'"}, {GROUP: {"d_fine": "fine_one:THING"}})
    monkeypatch.syspath_prepend(site)
    known = registry()
    assert list(known.values()) == ["built in", "text of fine"]
    assert list(known.values()) == ["built in", "text of fine"], "each line is written once"
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "memberscope: attack 'a_broken' of broken could not be loaded and is left out: RuntimeError: two lines",
        "memberscope: attack 'b_absent' of absent could not be loaded and is left out: ModuleNotFoundError: No module named "
        "'no_such_module'",
        "memberscope: attack 'c_wrong' of wrong could not be loaded and is left out: TypeError: is a int; expected text",
        "memberscope: attack 'c_x_leaves' of leaves could not be loaded and is left out: SystemExit: 9",
    ]
    assert known.names() == ("ours", "d_fine"), "what has failed is no longer offered"
    with pytest.raises(UserError, match=r"^attack 'a_broken' of broken: could not be loaded"):
        known.get("a_broken")


def test_a_name_that_is_taken_is_refused_in_one_line_that_names_both(
    install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install("b-second", {"second_one": "THING = 'second'"}, {GROUP: {"theirs": "second_one:THING", "ours": "second_one:THING"}})
    install("c-third", {}, {GROUP: {"all": "second_one:THING", "Bad-Name": "second_one:THING"}})
    site = install("a-first", {"first_one": "THING = 'first'"}, {GROUP: {"theirs": "first_one:THING"}})
    monkeypatch.syspath_prepend(site)
    known = registry()
    assert list(known.values()) == ["built in", "first of a-first"], "built-in ones win, then the first package by name"
    assert capsys.readouterr().err.splitlines() == [
        "memberscope: attack 'Bad-Name' of c-third: not a valid name; "
        "allowed: lower-case letters, digits and underscores, starting with a letter",
        "memberscope: attack 'all' of c-third: the name is taken by a word of its own; allowed: a name of its own",
        "memberscope: attack 'ours' of b-second: the name is taken by memberscope itself; allowed: a name of its own",
        "memberscope: attack 'theirs' of b-second: the name is taken by a-first; allowed: a name of its own",
    ]


def test_a_call_adds_and_takes_back(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    site = install("pack", {"pack_one": "THING = 'theirs'"}, {GROUP: {"theirs": "pack_one:THING"}})
    monkeypatch.syspath_prepend(site)
    known = registry()
    assert known.register("mine", name="mine", package="this test") == "mine of this test"
    assert list(known.values()) == ["built in", "mine of this test", "theirs of pack"]
    for name, owner in (("ours", "memberscope itself"), ("mine", "this test"), ("theirs", "pack")):
        with pytest.raises(UserError, match=f"^attack '{name}' of another: the name is taken by {owner}"):
            known.register("x", name=name, package="another")
    with pytest.raises(UserError, match=r"^attack 'number' of another: is a int; expected text"):
        known.register(5, name="number", package="another")  # type: ignore[arg-type]
    known.unregister("mine")
    assert "mine" not in known
    with pytest.raises(UserError, match=r"^attack 'thiers': unknown; nearest: theirs; allowed: ours, theirs"):
        known.get("thiers")


def test_another_group_is_not_ours(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    site = install("other", {}, {"some.other.group": {"thing": "x:y"}})
    monkeypatch.syspath_prepend(site)
    assert "other" not in {offer.package for offer in offers(GROUP)}
