"""The page's section on bounds of epsilon, from the table as a run keeps it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memberscope import Predictions, run_audit
from memberscope.audit import artifacts, kept_tables, promise
from memberscope.errors import UserError
from memberscope.report import facts
from memberscope.report.bounds import bounds_section
from memberscope.report.parts import TableCell
from memberscope.tracking import KeptRun, MemoryTracker


def kept(
    mu: float, *, attacks: str = "threshold_loss", primary: str = "threshold_loss", promised: float | None = 1.0
) -> KeptRun:
    rng = np.random.default_rng(0)
    member = rng.random(500) < 0.5
    target = Predictions(loss_nats=np.exp(-rng.normal(size=500) - mu * member), entropy_nats=np.ones(500), member=member)
    report, tracker = run_audit(target, attacks=attacks, primary=primary, coin_flips=True, promise=promised), MemoryTracker()
    promise.log_bounds(report, tracker)
    text = tracker.artifacts[artifacts.BOUNDS].to_csv(index=False)
    frame = kept_tables.read(artifacts.BOUNDS, text, where="run one: bounds.csv", allowed="a run")
    assert frame is not None
    return KeptRun(id="0" * 32, name="one", tables={artifacts.BOUNDS: frame}, tags=dict(tracker.logged_tags))


def text_of(cell: str | TableCell) -> str:
    return cell if isinstance(cell, str) else cell.text


def test_a_contradicted_promise_is_shown_with_its_rows() -> None:
    run = kept(4.0)
    section = bounds_section(run)
    assert section is not None
    assert (section.verdict, section.promise, section.delta) == ("contradicted", "1.00", "1e-05")
    assert [text_of(row[1]) for row in section.table.rows] == ["one_run", "fdp_one_run", "gaussian_dp", "clopper_pearson"]
    marks = [row[1].mark for row in section.table.rows if isinstance(row[1], TableCell)]
    assert marks == ["*", "", "", ""]
    first = run.tables[artifacts.BOUNDS].iloc[0]
    cell = section.table.rows[0][3]
    assert isinstance(cell, TableCell)
    assert (cell.text, cell.beneath) == (f"{first['bound']:.2f}", f"of at most {first['ceiling']:.2f}")
    assert text_of(section.table.rows[0][5]) == f"{first['ratio']:.2f}"


def test_without_a_promise_there_is_no_verdict_and_without_bounds_no_section() -> None:
    section = bounds_section(kept(1.0, promised=None))
    assert section is not None
    assert (section.verdict, section.promise) == ("", "")
    assert [text_of(row[6]) for row in section.table.rows] == ["no promise"] * 4
    assert bounds_section(KeptRun(id="1", name="none")) is None


def test_rows_of_attacks_that_are_not_judged_are_left_out() -> None:
    section = bounds_section(kept(1.0, attacks="threshold_loss,threshold_entropy"))
    assert section is not None
    assert (section.shown, section.of) == (4, 8)


def test_the_bounds_of_a_fleet_know_of_its_canaries() -> None:
    """The table of the study's run, with the canaries, takes the place of the target's; that of mitigations does not."""
    child = kept(1.0)
    of_canaries = child.tables[artifacts.BOUNDS].assign(records="canaries")
    attacks = run_audit(
        Predictions(loss_nats=np.arange(100.0), entropy_nats=np.ones(100), member=np.arange(100) % 2 == 0),
        attacks="threshold_loss",
    ).to_frame()
    child = replace(child, tables={**child.tables, artifacts.ATTACKS: attacks})
    parent = KeptRun(id="2", name="fleet", tables={artifacts.BOUNDS: of_canaries}, children=(child,))
    (found,) = facts.audited([parent])
    assert set(found.tables[artifacts.BOUNDS]["records"]) == {"canaries"}
    ladder = replace(parent, tables={artifacts.BOUNDS: of_canaries.assign(rung="dp")})
    (found,) = facts.audited([ladder])
    assert set(found.tables[artifacts.BOUNDS]["records"]) == {"ordinary"}


@pytest.mark.parametrize(("column", "value"), [("bound", "-1"), ("verdict", ""), ("delta", "2"), ("n", "many")])
def test_a_damaged_table_gets_one_line(column: str, value: str) -> None:
    frame = kept(1.0).tables[artifacts.BOUNDS].astype(object)
    frame.loc[0, column] = value
    with pytest.raises(UserError, match=f"run one: bounds.csv, column {column}, row 0"):
        kept_tables.read(artifacts.BOUNDS, frame.to_csv(index=False), where="run one: bounds.csv", allowed="a run")
