"""Entry point `report`: one self-contained HTML page on one run or several."""

from __future__ import annotations

import os
from pathlib import Path

from memberscope.audit import artifacts
from memberscope.audit.step import declared_of
from memberscope.config import ReportStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.report import facts, render_page
from memberscope.studies.result import StudyResult
from memberscope.tracking import Tracker


def run(config: ReportStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Read the runs and write the page as the artifact ``report.html`` and, unless ``page=none``, as a file.

    Raises:
        UserError: before anything is logged, for a run that does not exist or has no audit, or a file that cannot be written.
    """
    names = list(dict.fromkeys(part.strip() for part in config.runs.split(",") if part.strip()))
    if not names:
        raise UserError("runs=: missing; allowed: run ids or names separated by commas")
    path = None if config.page == "none" else _writable(config.page)
    runs = []
    for name in names:
        stop.check()
        runs.append(tracker.read_run(name))
    page = render_page(runs, title=config.title, seed=config.seed, declared=declared_of(config))
    audited = facts.audited(runs)
    if path is not None:
        try:
            with stop.patient():  # half a page would replace a whole one
                path.write_text(page, encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"page={config.page}: cannot be written ({error.strerror}); allowed: a file in a folder that exists"
            ) from None
    tracker.text(page, artifacts.REPORT)
    tracker.tags({"memberscope.kind": "report", "memberscope.reported": ",".join(run.id for run in audited)[:5000]})
    lines = [f"**{run.name}** ({run.id}): {facts.plain_words(run)[0]}" for run in audited]
    listed = lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines)
    tracker.describe(f"{listed}\n\nOpen the artifact `{artifacts.REPORT}`.\n")
    table = "\n".join(f"{run.name}: {facts.plain_words(run)[0]}" for run in audited)
    where = f"report: {path}" if path is not None else f"report: the artifact {artifacts.REPORT} of this run"
    return StudyResult(
        table=table,
        answer=f"{where} ({len(page.encode()) / 1e6:.1f} MB, {len(audited)} audit{'s' if len(audited) > 1 else ''})",
    )


def _writable(text: str) -> Path:
    path = Path(text).absolute()
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"page={text}: allowed: the path of an .html file, or none")
    folder = path.parent
    if not folder.is_dir() or path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise UserError(f"page={text}: cannot be written; allowed: a file in a folder that exists")
    return path
