"""Hostile inputs end in a result or in a `UserError` of one line, within a bound of time and memory; the suite runs a part of the set.

`tests/tools/hostile_inputs.py` runs all of it, each case in a process of its own.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import hostile
import pytest
from hostile import Case

SHARE = 5  # one in so many of the cases that are alike
MUST = (
    "ten gigabytes", "ten terabytes", "ten to the", "a pipe", "a socket", "a link to a device", "nested ten thousand deep", "itself",
    "its own parent", "each other's parents", "generations", "of seven", "scores for 200 records", "5,000 digits", "surrogate",
    "mathematics", "no axis", "channel", "width 0", "corners", "encrypted", "aliases that multiply",
)  # fmt: skip
"""Words of the cases that the suite always runs; of the others it runs a share, the same each time."""


MUST_OF_RUNS = (
    "nested ten thousand deep",
    "its own parent",
    "each other's parents",
    "generations",
    "of seven",
    "scores for 200 records",
)


def _must(case: Case) -> tuple[str, ...]:
    """Kept runs are many, and each becomes a page."""
    return MUST_OF_RUNS if case.name.startswith("run,") else MUST


def _share(case: Case) -> int:
    return 5 * SHARE if case.name.startswith("run,") else SHARE


def chosen() -> list[Case]:
    """The cases of the suite."""
    return [
        case
        for case in hostile.cases()
        if not case.slow
        and "values: a label" not in case.name
        and (any(word in case.name for word in _must(case)) or zlib.crc32(case.name.encode()) % _share(case) == 0)
        and "2,000 columns" not in case.name
        and not case.name.startswith("storage")
    ]


GROUPS: dict[str, list[Case]] = {}
for _case in chosen():
    GROUPS.setdefault(_case.name.split(":")[0].split(",")[0].split(" ")[0], []).append(_case)


@pytest.mark.filterwarnings("ignore")  # of libraries, on values that no real file has
@pytest.mark.parametrize("group", [pytest.param(one, marks=pytest.mark.slow if one == "run" else ()) for one in sorted(GROUPS)])
def test_every_input_ends_well(group: str, tmp_path: Path) -> None:
    bad = []
    for number, case in enumerate(GROUPS[group]):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            with hostile.bounded():
                case.act(folder)
        except ModuleNotFoundError:
            raise  # an extra that is not installed here: the test is skipped with the reason
        except (Exception, hostile.TooLong) as error:
            if found := hostile.problem(error):
                bad.append(f"{case.name}: {found}")
        else:
            if case.refused:
                bad.append(f"{case.name}: accepted")
    assert bad == []


def test_the_set_is_large() -> None:
    assert len(hostile.cases()) >= 1000
    assert len(chosen()) >= 300
