"""Kept controls: values where there are values, and the one place that reads the sentence of a run from before there were."""

from __future__ import annotations

import json

import pytest

from memberscope.audit.kept_controls import KeptControl, read

DIFFER = "Blind control: members and non-members differ by more than membership: a classifier without the model has AUC 0.6."
ALIKE = "Blind control: no sign that members and non-members differ by more than membership (AUC 0.5)."


def test_values_decide_where_they_were_kept() -> None:
    kept = {"blind": {"text": ALIKE, "differs": True, "auc": 0.6}, "null": {"text": "p 0.01."}, "copies": {"text": DIFFER}}
    assert read(json.dumps(kept)) == {
        "blind": KeptControl(text=ALIKE, differs=True),
        "null": KeptControl(text="p 0.01."),
        "copies": KeptControl(text=DIFFER),
    }


@pytest.mark.parametrize(("text", "differs"), [(DIFFER, True), (ALIKE, False)])
def test_only_an_older_runs_blind_control_is_read_from_its_sentence(text: str, differs: bool) -> None:
    found = read(json.dumps({"blind": text, "null": DIFFER}))
    assert found["blind"] == KeptControl(text=text, differs=differs, derived=True)
    assert found["null"] == KeptControl(text=DIFFER), "no other control casts doubt"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null"])
def test_a_file_without_controls_has_none(text: str) -> None:
    assert read(text) == {}


@pytest.mark.parametrize("differs", [None, "true", 1, "False"])
def test_anything_but_true_is_no_doubt(differs: object) -> None:
    assert not read(json.dumps({"blind": {"text": DIFFER, "differs": differs}}))["blind"].differs
