"""An attack on what a run leaves: with every file, metric, param and tag, and the candidate records at hand, who was a member?

The attacker knows the candidates' content, the ids that a user gave them, and even the order in which they lie in the data set. For each
array or column of a run, he takes the value that stands at a candidate's place, or whether the candidate's identity occurs there, as a
score.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from memberscope import metrics
from memberscope.tracking import MemoryTracker


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content)) as file:
        return {name: file[name] for name in file.files}


def _columns(name: str, content: Any) -> dict[str, np.ndarray]:
    """The columns of a file, by name; a text file is one column of its words."""
    if isinstance(content, bytes):
        return _arrays(content) if name.endswith(".npz") else {}
    if isinstance(content, str):
        if name.endswith(".csv"):
            rows = list(csv.reader(io.StringIO(content)))
            return {head: np.array([row[k] for row in rows[1:]]) for k, head in enumerate(rows[0])} if rows else {}
        return {"words": np.array(re.findall(r"[\w.]+", content))}
    if hasattr(content, "axes") and not hasattr(content, "columns"):  # a figure
        return {
            f"{kind} {k} of axes {place}": np.asarray(values, np.float64)
            for place, axes in enumerate(content.axes)
            for kind, drawn in (
                ("line", [line.get_ydata() for line in axes.lines]),
                ("points", [points.get_offsets()[:, 1] for points in axes.collections]),
            )
            for k, values in enumerate(drawn)
        }
    if hasattr(content, "columns"):
        return {str(column): content[column].to_numpy() for column in content.columns}
    return {}


def guesses(run: Mapping[str, Any], identities: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Scores of the candidates, one set for each way of reading each column.

    Args:
        run: the run's files by name, and its metrics, params and tags as text under names of their own.
        identities: kinds of (n,) names of the candidates, in the order in which they were audited.
    """
    candidates = len(next(iter(identities.values())))
    for file, content in run.items():
        for column, values in _columns(file, content).items():
            words = np.array([str(value) for value in values.reshape(-1).tolist()])
            if values.ndim == 1 and len(values) == candidates and values.dtype.kind in "biuf":
                yield f"{file}: {column} by place", np.nan_to_num(values.astype(np.float64))
            for kind, names in identities.items():
                found = np.isin(names.astype(str), words)
                if not found.any():
                    continue
                yield f"{file}: {kind} among {column}", found.astype(np.float64)
                where = {word: place for place, word in enumerate(words.tolist())}
                for beside, other in _columns(file, content).items():
                    if other.ndim == 1 and len(other) == len(words) and other.dtype.kind in "biuf":
                        scores = [
                            float(np.nan_to_num(other[where[name]])) if name in where else -1.0
                            for name in names.astype(str).tolist()
                        ]
                        yield f"{file}: {beside} beside {kind}", np.array(scores)


def best_guess(run: Mapping[str, Any], identities: Mapping[str, np.ndarray], member: np.ndarray) -> tuple[float, str]:
    """The largest deviation of an AUC from 1/2, and how it was reached."""
    found = [(abs(metrics.auc(scores, member).value - 0.5), how) for how, scores in guesses(run, identities)]
    return max(found, key=lambda guess: guess[0], default=(0.0, "nothing to read"))


def everything(tracker: MemoryTracker) -> dict[str, Any]:
    """All that a run and its children hold."""
    found = dict(tracker.artifacts)
    found["description"] = tracker.description
    found["params"], found["tags"] = str(tracker.logged_params), str(tracker.logged_tags)
    found["metrics"] = str({name: tracker.latest(name) for name in tracker.logged_metrics})
    found["inputs"] = str(tracker.inputs)
    for child in tracker.children:
        found |= {f"{child.name}/{name}": content for name, content in everything(child).items()}
    return found


PAGE = Path(__file__).parents[2] / "docs" / "what_runs_reveal.md"


def listed() -> set[str]:
    """The artifacts that the page lists: the names in the first column of its tables; words in capitals stand for any name."""
    cells = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    names = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    return {name for name in names if re.fullmatch(r"[\w/.]+\.(csv|json|png|npz|md|txt|html|xml)|[\w/]+/|trainer/NAME", name)}


def unlisted(tracker: MemoryTracker) -> set[str]:
    """The files of a run and of its children that the page does not list."""
    patterns = [re.compile(re.sub(r"[A-Z]{2,}", "[^/]+", re.escape(name))) for name in listed()]
    mine = {name for name in tracker.artifacts if not any(pattern.fullmatch(name) for pattern in patterns)}
    return mine.union(*(unlisted(child) for child in tracker.children))
