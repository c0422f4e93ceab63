"""Every file that a study logs is listed on the page that says what it reveals, and nothing else is."""

from __future__ import annotations

import inspect

from own_artifacts import listed

from memberscope.audit import artifacts

PLACES = {
    "attack": "ATTACK",
    "metric": "METRIC",
    "factor": "FACTOR",
    "control": "CONTROL",
    "objective": "OBJECTIVE",
    "name": "NAME",
}


def test_the_page_lists_every_artifact_and_no_other() -> None:
    names = {value for name, value in vars(artifacts).items() if name.isupper() and isinstance(value, str)}
    names -= {artifacts.FOLDER, artifacts.SCORE_FIGURES}  # folders
    for name, function in inspect.getmembers(artifacts, inspect.isfunction):
        if name != "inside":
            names.add(function(*(PLACES[parameter] for parameter in inspect.signature(function).parameters)))
    on_page = listed() - {f"{artifacts.FOLDER}/"}
    ends = {
        name.rpartition("/")[2] if name.partition("/")[0] in ("EXPERIMENT", "METHOD", "FACTOR") else name for name in on_page
    }
    ends |= on_page & names  # those that a function names whole
    assert names - ends == set(), "not on the page"
    whole = {name.rpartition("/")[2] for name in names}
    assert {name for name in on_page if name not in names and name.rpartition("/")[2] not in whole} == set(), "only on the page"
