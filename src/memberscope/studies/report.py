"""Entry point `report`: one run or several, or an evidence file, as a self-contained HTML page and in the formats that other tools read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from memberscope.audit import artifacts
from memberscope.audit.declared import Declared
from memberscope.audit.step import declared_of
from memberscope.config import ReportStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.report import evidence, facts
from memberscope.report.compare import Pair
from memberscope.report.formats import FORMATS, HTML, named
from memberscope.report.page import pairs_of, render_page
from memberscope.report.risk import under
from memberscope.studies.result import StudyResult
from memberscope.tracking import KeptRun, Tracker

NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What is reported on.

    Attributes:
        runs: the runs.
        pairs: their comparisons with the first.
        title: the title of the page; empty: made from the names.
        study: the study that wrote what is reported on.
    """

    runs: tuple[KeptRun, ...]
    pairs: tuple[Pair, ...]
    title: str
    study: str = "report"

    @cached_property
    def document(self) -> evidence.Document:
        """All of this as an evidence document."""
        return evidence.written(self.runs, study=self.study, title=self.title, pairs=self.pairs)


def run(config: ReportStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Read the runs, or the file, and write each format as a file (the page unless ``page=none``) and as an artifact.

    Raises:
        UserError: before anything is logged, for a run that does not exist or has no audit, an evidence file that is none, an unknown
            format, or a file that cannot be written.
    """
    formats = named(config.formats)
    names = list(dict.fromkeys(part.strip() for part in config.runs.split(",") if part.strip()))
    if config.from_ and names:
        raise UserError(f"from={config.from_}: given together with runs={config.runs}; allowed: one of them")
    if not config.from_ and not names:
        raise UserError("runs=: missing; allowed: run ids or names separated by commas, or an evidence file (from)")
    files = _files(config, formats)
    if config.from_ and not files:
        raise UserError(f"page={NONE}: nothing would be written; allowed: the path of an .html file, or other formats")
    source = _from_file(config) if config.from_ else _from_runs(config, names, tracker, stop)
    audited = facts.audited(list(source.runs))
    texts = {name: _text(name, source, config) for name in formats}
    with stop.patient():  # half a page would replace a whole one
        _write({path: texts[name] for name, path in files.items()}, config)
    for name, text in texts.items():
        tracker.text(text, FORMATS[name].file)
    tracker.tags({"memberscope.kind": "report", "memberscope.reported": ",".join(run.id for run in audited)[:5000]})
    lines = [f"**{run.name}** ({run.id}): {facts.plain_words(run)[0]}" for run in audited]
    opened = " and ".join(f"`{FORMATS[name].file}`" for name in formats)
    listed = (
        lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines)
    )  # the findings first: MLflow folds what follows
    tracker.describe(f"{listed}\n\nOpen the artifact{'s' if len(formats) > 1 else ''} {opened}.\n")
    table = "\n".join(f"{run.name}: {facts.plain_words(run)[0]}" for run in audited)
    return StudyResult(
        table=table, answer="\n".join(_answer(name, texts[name], files.get(name), len(audited)) for name in formats)
    )


def _answer(name: str, text: str, path: Path | None, count: int) -> str:
    """The line on the terminal about one format."""
    where = f"{path}" if path is not None else f"the artifact {FORMATS[name].file} of this run"
    if name != HTML:
        return f"{name}: {where}"
    return f"report: {where} ({len(text.encode()) / 1e6:.1f} MB, {count} audit{'s' if count > 1 else ''})"


def _from_runs(config: ReportStudyConfig, names: Sequence[str], tracker: Tracker, stop: StopFlag) -> Reported:
    """The runs of a tracking server, and the comparisons of those that audited the same records."""
    runs = []
    for name in names:
        stop.check()
        runs.append(tracker.read_run(name))
    runs = [_under(run, declared_of(config)) for run in runs]
    return Reported(runs=tuple(runs), pairs=pairs_of(runs, seed=config.seed), title=config.title)


def _under(run: KeptRun, declared: Declared) -> KeptRun:
    """The run and its children with their risk statements under these declarations."""
    return replace(under(run, declared), children=tuple(_under(child, declared) for child in run.children))


def _from_file(config: ReportStudyConfig) -> Reported:
    """The runs of an evidence file, with the comparisons that it holds."""
    found = evidence.read(config.from_)
    runs = tuple(_under(run, declared_of(config)) for run in found.runs)
    pairs = pairs_of(runs, seed=config.seed) if found.pairs is None else found.pairs
    return Reported(runs=runs, pairs=pairs, title=config.title or found.title, study=found.document.get("study", "report"))


def _text(name: str, source: Reported, config: ReportStudyConfig) -> str:
    """The content of a format."""
    make = FORMATS[name].text
    if make is None:
        return render_page(source.runs, title=source.title, seed=config.seed, pairs=source.pairs)
    if not facts.audited(list(source.runs)):
        raise UserError(
            f"{'from' if config.from_ else 'runs'}={config.from_ or config.runs}: none contains an audit ({artifacts.ATTACKS}); "
            "allowed: runs of audit, attack, train, main or shadow"
        )
    return make(source.document)


def _files(config: ReportStudyConfig, formats: Sequence[str]) -> dict[str, Path]:
    """The file of each format, all of which can be written; UserError for one that cannot."""
    folder = Path(config.folder)
    if config.folder:
        _check_folder(folder, config.folder)
    found = {name: (folder / FORMATS[name].file).absolute() for name in formats if name != HTML}
    for name, path in found.items():
        if not _is_writable(path):
            raise UserError(
                f"folder={config.folder}: {FORMATS[name].file} cannot be written there; allowed: a folder that may be written"
            )
    if HTML in formats and config.page != NONE:
        found[HTML] = _page(config, folder)
    return found


def _check_folder(folder: Path, given: str) -> None:
    """Raise UserError unless the folder, or the one in which it will be created, may be written."""
    if not _can_be_made(folder):
        raise UserError(
            f"folder={given}: cannot be written; allowed: a folder that may be written, or a new one in such a folder"
        )


def _can_be_made(folder: Path) -> bool:
    place = folder.absolute()
    if place.exists():
        return place.is_dir() and os.access(place, os.W_OK)
    return place.parent.is_dir() and os.access(place.parent, os.W_OK)


def _page(config: ReportStudyConfig, folder: Path) -> Path:
    path = (folder / config.page).absolute()
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"page={config.page}: allowed: the path of an .html file, or none")
    inside = path.parent == folder.absolute()
    if not (inside or path.parent.is_dir()) or not _is_writable(path):
        raise UserError(f"page={config.page}: cannot be written; allowed: a file in a folder that exists")
    return path


def _is_writable(path: Path) -> bool:
    """Whether a file may be written; its folder may be one that will be created."""
    if path.exists():
        return not path.is_dir() and os.access(path, os.W_OK)
    return not path.parent.exists() or (path.parent.is_dir() and os.access(path.parent, os.W_OK))


def _write(texts: Mapping[Path, str], config: ReportStudyConfig) -> None:
    """Write the files; UserError, with the option that places it, for one that cannot be written."""
    try:
        if config.folder:
            Path(config.folder).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"folder={config.folder}: cannot be created ({error.strerror}); allowed: a folder that may be written"
        ) from None
    for path, text in texts.items():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            is_page = path.suffix.lower() in (".html", ".htm")
            option = f"page={config.page}" if is_page else f"folder={config.folder}"
            raise UserError(
                f"{option}: cannot be written ({error.strerror}); allowed: a file in a folder that exists"
            ) from None
