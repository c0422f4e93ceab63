"""Entry point `report`: one self-contained HTML page from one run or several."""

from __future__ import annotations

import os
from pathlib import Path

from memberscope.config import ReportStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.report import facts, render_page
from memberscope.studies.result import StudyResult
from memberscope.tracking import Tracker

ARTIFACT = "report.html"


def run(config: ReportStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Read the runs, write the page as the artifact ``report.html`` and, unless told not to, as a file.

    Raises:
        UserError: a run that there is not, one without an audit, or a file that cannot be written; before anything is logged.
    """
    names = list(dict.fromkeys(part.strip() for part in config.runs.split(",") if part.strip()))
    if not names:
        raise UserError("runs=: missing; allowed: run ids or names separated by commas")
    path = None if config.page == "none" else _writable(config.page)
    runs = []
    for name in names:
        stop.check()
        runs.append(tracker.read_run(name))
    page = render_page(runs, title=config.title, seed=config.seed)
    shown = facts.audited(runs)
    if path is not None:
        try:
            path.write_text(page, encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"page={config.page}: cannot be written ({error.strerror}); allowed: a file in a folder that exists"
            ) from None
    tracker.text(page, ARTIFACT)
    tracker.tags({"memberscope.kind": "report", "memberscope.reported": ",".join(run.id for run in shown)[:5000]})
    lines = [f"**{run.name}** ({run.id}): {facts.plain_words(run)[0]}" for run in shown]
    tracker.describe("Report on\n\n" + "\n".join(f"- {line}" for line in lines) + f"\n\nOpen the artifact `{ARTIFACT}`.\n")
    table = "\n".join(f"{run.name}: {facts.plain_words(run)[0]}" for run in shown)
    where = f"report: {path}" if path is not None else f"report: the artifact {ARTIFACT} of this run"
    return StudyResult(
        table=table, answer=f"{where} ({len(page.encode()) / 1e6:.1f} MB, {len(shown)} audit{'s' if len(shown) > 1 else ''})"
    )


def _writable(text: str) -> Path:
    path = Path(text).absolute()
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"page={text}: allowed: the path of an .html file, or none")
    folder = path.parent
    if not folder.is_dir() or path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise UserError(f"page={text}: cannot be written; allowed: a file in a folder that exists")
    return path
