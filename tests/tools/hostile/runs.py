"""Kept runs whose artifacts, tags, params or children are damaged or foreign, read as `report` reads them and made into a page."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from hostile import Case
from hostile.plans import JSON, WRONG

DEEP = 10_000


@functools.cache
def good() -> Mapping[str, bytes]:
    """The artifacts of a small audit, made once a process: path -> content."""
    import tempfile

    from memberscope import Predictions, run_audit
    from memberscope.audit.declared import Declared

    rng = np.random.default_rng(0)
    n = 200
    labels, member = np.arange(n) % 4, np.arange(n) < n // 2
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += 1 + member
    report = run_audit(
        Predictions(logits=logits, labels=labels, member=member, record_ids=np.arange(n)),
        attacks="threshold",
        slices="entire,class",
        declared=Declared(prior=0.01, subjects=5000, sensitivity="has the disease"),
    )
    found: dict[str, bytes] = {
        "attacks.csv": report.to_frame().to_csv(index=False).encode(),
        "headline.json": report.headline.to_json().encode(),  # type: ignore[union-attr]
        "risk_statement.json": report.risk_statement.to_json().encode(),
        "history.csv": b"epoch,train_accuracy,train_loss,val_accuracy,val_loss,auc,advantage\n0,.2,2,.2,2,.5,0\n1,.9,1,.5,2,.6,.2\n",
        "most_exposed.csv": b"rank,position,record_id,label,member,probability,modified_entropy\n1,7,7,2,True,0.9,0.01\n",
        "gate.csv": b"rule,attack,slice,metric,limit,value,ci_low,ci_high,ceiling,can_trip,p_above,p_within,verdict,records,reason\nany.entire.auc > 0.6,threshold_loss,entire,auc,0.6,0.7,0.6,0.8,,True,0.01,1.0,trip,,\n",
        "study.json": json.dumps({"attack.seed": 3, "audit.seed": 0}).encode(),
        "controls.json": json.dumps(
            {"null": {"text": "null control: fine."}, "blind": {"text": "blind: fine.", "differs": False}}
        ).encode(),
        "summary.md": b"# done\n",
        "roc_band.csv": b"attack,fpr,low,high\nthreshold_loss,0.01,0.0,0.1\nthreshold_loss,0.5,0.4,0.8\n",
    }
    from memberscope import plots

    found["roc.csv"] = plots.roc_points({one.attack: one.roc for one in report.whole()}).to_csv(index=False).encode()
    found["experiments.csv"] = (
        b"experiment,first,second,figure,verdict,difference,ci_low,ci_high,seeds,p_holm\ndepth,a,b,auc,differs,0.1,0.05,0.15,5,0.01\n"
    )
    from memberscope.scores import KeptScores
    from memberscope.secret import key

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.npz"
        ranks = {name: np.argsort(np.argsort(scores)).astype(np.int32) for name, scores in report.whole_scores.items()}
        KeptScores(member=member, ranks=ranks, record_ids=np.arange(n), labels=labels).save(path, key=key())
        found["scores.npz"] = path.read_bytes()
    return found


class Found(list[Any]):
    """A page of what a search finds; there is no other."""

    token = None


@dataclass
class Client:
    """As much of MLflow's client as reading a run takes, over a folder of artifacts for each run."""

    folder: Path
    runs: dict[str, SimpleNamespace] = field(default_factory=dict)

    def add(
        self,
        run_id: str,
        *,
        name: str = "one",
        parent: str = "",
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        start: int | None = 1_700_000_000_000,
        inputs: Sequence[Any] = (),
    ) -> Path:
        """A run; returns the folder of its artifacts."""
        every = dict(tags or {}) | ({"mlflow.parentRunId": parent} if parent else {})
        self.runs[run_id] = SimpleNamespace(
            info=SimpleNamespace(run_id=run_id, run_name=name, status="FINISHED", experiment_id="0", start_time=start),
            data=SimpleNamespace(tags=every, params=dict(params or {}), metrics=dict(metrics or {})),
            inputs=SimpleNamespace(dataset_inputs=list(inputs)),
        )
        (self.folder / run_id).mkdir()
        return self.folder / run_id

    def get_run(self, run_id: str) -> SimpleNamespace:
        return self.runs[run_id]

    def search_runs(self, places: Sequence[str], query: str, **options: Any) -> Found:
        parent = query.rpartition("= ")[2].strip("'\"")
        return Found(run for run in self.runs.values() if run.data.tags.get("mlflow.parentRunId") == parent)

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[SimpleNamespace]:
        here = self.folder / run_id / (path or "")
        return [
            SimpleNamespace(path=str(one.relative_to(self.folder / run_id)), is_dir=one.is_dir(), file_size=one.stat().st_size)
            for one in sorted(here.iterdir())
        ]

    def download_artifacts(self, run_id: str, path: str, folder: str) -> str:
        (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
        return shutil.copy(self.folder / run_id / path, Path(folder) / path)

    def get_metric_history(self, run_id: str, name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(step=0, value=self.runs[run_id].data.metrics[name])]


ONE, TWO = "1" * 32, "2" * 32


def page(client: Client, *names: str, drawn: bool = False) -> str:
    """The page on these runs; its drawings, most of the seconds that it takes, are left out unless they are to be `drawn`."""
    from memberscope.mlflow_adapter import read
    from memberscope.report import figures
    from memberscope.report.page import render_page
    from memberscope.tracking import KeptRun

    kept: list[KeptRun] = [read.read_run(client, name, experiment_id="0") for name in names]  # type: ignore[arg-type]
    svg = figures.svg
    if not drawn:
        figures.svg = lambda drawing: b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    try:
        return render_page(kept, seed=0)
    finally:
        figures.svg = svg


def _run(
    folder: Path,
    *,
    change: Callable[[Path], None] = lambda folder: None,
    several: bool = False,
    drawn: bool = False,
    **options: Any,
) -> None:
    client = Client(folder)
    for run_id in (ONE, TWO) if several else (ONE,):
        artifacts = client.add(run_id, name=f"run {run_id[0]}", **(options if run_id == ONE else {}))
        for name, content in good().items():
            if name != "experiments.csv":
                (artifacts / name).write_bytes(content)
        if run_id == ONE:
            change(artifacts)
    made = page(client, *client.runs, drawn=drawn)
    assert made.startswith("<!DOCTYPE html>") or made.lstrip().lower().startswith("<!doctype")
    made.encode("utf-8")


def _bytes(folder: Path, *, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def _alone(folder: Path, *, name: str, content: bytes) -> None:
    """Without the headline and the scores, which the page then makes from the table."""
    (folder / "headline.json").unlink()
    (folder / "scores.npz").unlink()
    (folder / name).write_bytes(content)


def _cell(folder: Path, *, name: str, column: str, value: str, alone: bool) -> None:
    import pandas as pd

    frame = pd.read_csv(folder / name, dtype=str, keep_default_na=False)
    frame[column] = frame[column].astype(object)
    rows = frame.index[:4] if name == "attacks.csv" else frame.index[:1]
    frame.loc[rows, column] = value
    frame.to_csv(folder / name, index=False)
    if alone:
        (folder / "headline.json").unlink()
        (folder / "scores.npz").unlink()


def _without(folder: Path, *, name: str, column: str) -> None:
    import pandas as pd

    pd.read_csv(folder / name, dtype=str, keep_default_na=False).drop(columns=column).to_csv(folder / name, index=False)


def _field(folder: Path, *, name: str, key: str, value: Any) -> None:
    values = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**values, key: value}))


def _auc(folder: Path, *, value: Any) -> None:
    values = json.loads((folder / "headline.json").read_text())
    values["figures"]["auc"]["value"] = value
    (folder / "headline.json").write_text(json.dumps(values))


def _unequal(folder: Path, *, length: int) -> None:
    np.savez(
        folder / "scores.npz",
        member=np.arange(200) < 100,
        rank_threshold_loss=np.arange(length, dtype=np.int32),
        record_ids=np.arange(200),
        rank_threshold_entropy=np.arange(200, dtype=np.int32),
        labels=np.arange(200) % 4,
        source=np.array("given"),
    )
    (folder / "headline.json").unlink()


CSVS: dict[str, bytes] = {
    "empty": b"",
    "a line end": b"\n",
    "binary": bytes(range(256)) * 20,
    "nulls": b"\0" * 500,
    "not UTF-8": b"attack,slice\n\xff,\xfe\n",
    "other columns": b"a,b\n1,2\n",
    "a header alone": b"attack,slice,metric,value\n",
    "UTF-16": "attack\nx\n".encode("utf-16"),
    "an open quote": b'attack,slice\n"a,b\n',
    "ragged": b"attack,slice\na\na,b,c,d\n",
    "a zip": b"PK\3\4aaaa",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "the same column twice": b"attack,attack,slice\na,b,c\n",
    "a page": b"<html><body>404</body></html>",
    "JSON": b'{"a": 1}',
}
TABLES = ("attacks.csv", "roc.csv", "roc_band.csv", "history.csv", "most_exposed.csv", "gate.csv")
CELLS = {
    "text": "hello",
    "huge": "1e999",
    "digits": "9" * 5000,
    "missing": "",
    "negative": "-7",
    "infinite": "-inf",
    "seven": "7",
    "a fraction": "0.5",
    "markup": "<script>alert(1)</script>",
    "mathematics": "$x_{^$",
    "a surrogate": "a",
    "long": "a" * 50_000,
}
COLUMNS = {
    "attacks.csv": (
        "attack",
        "family",
        "slice",
        "metric",
        "value",
        "ci_low",
        "ci_high",
        "n_member",
        "n_nonmember",
        "status",
        "reason",
    ),
    "roc.csv": ("attack", "fpr", "tpr", "threshold"),
    "roc_band.csv": ("attack", "fpr", "low", "high"),
    "history.csv": ("epoch", "train_accuracy", "val_accuracy", "auc"),
    "most_exposed.csv": ("rank", "position", "label", "probability", "modified_entropy"),
    "gate.csv": ("rule", "attack", "slice", "value", "verdict"),
}
TAGS = {
    "versions that are no JSON": {"memberscope.versions": "{"},
    "versions that are a list": {"memberscope.versions": "[1]"},
    "versions nested": {"memberscope.versions": "[" * DEEP + "]" * DEEP},
    "versions that are null": {"memberscope.versions": "null"},
    "versions of digits": {"memberscope.versions": '{"a": ' + "9" * 5000 + "}"},
    "another outcome of the gate": {"memberscope.gate": "<b>$x$</b>"},
    "a seed of digits": {"memberscope.seed": "9" * 5000, "memberscope.setting": "s"},
    "a seed of other digits": {"memberscope.seed": "²", "memberscope.setting": "s"},
    "a setting of mathematics": {"memberscope.setting": "$\\frac{", "memberscope.seed": "0"},
}
PARAMS = {
    "a seed of digits": {"study.seed": "9" * 5000},
    "noise as text": {"data.label_noise": "much"},
    "noise that is not a number": {"data.label_noise": "nan"},
    "noise without end": {"data.label_noise": "1e999"},
    "class names of mathematics": {"data.class_names": "$x,$,_{,\\frac"},
    "a million class names": {"data.class_names": "," * 1_000_000},
    "a trainer": {"trainer.name": "<b>", "trainer.x": "$"},
}


def _itself(folder: Path) -> None:
    client = Client(folder)
    artifacts = client.add(ONE, parent=ONE)
    for name, content in good().items():
        (artifacts / name).write_bytes(content)
    page(client, ONE)


def _circle(folder: Path) -> None:
    client = Client(folder)
    client.add(ONE, parent=TWO)
    client.add(TWO, parent=ONE)
    page(client, ONE)


def _deep(folder: Path, *, depth: int) -> None:
    client = Client(folder)
    for k in range(depth):
        client.add(f"{k:032x}", parent=f"{k - 1:032x}" if k else "")
    page(client, f"{0:032x}")


def _inputs(folder: Path, *, profile: Any, source: Any) -> None:
    client = Client(folder)
    given = SimpleNamespace(
        tags=[SimpleNamespace(key="mlflow.data.context", value="member")],
        dataset=SimpleNamespace(name="d-member", digest="x", profile=profile, source=source),
    )
    artifacts = client.add(ONE, inputs=[given])
    for name, content in good().items():
        (artifacts / name).write_bytes(content)
    page(client, ONE)


def cases() -> list[Case]:
    """Kept runs."""
    found = []

    def add(name: str, change: Callable[[Path], None], *, refused: bool = False, **options: Any) -> None:
        found.append(Case(name=f"run, {name}", act=partial(_run, change=change, **options), refused=refused))

    for table in TABLES:
        for what, content in CSVS.items():
            add(f"{table}: {what}", partial(_bytes, name=table, content=content))
            if table == "attacks.csv":
                add(f"{table} alone: {what}", partial(_alone, name=table, content=content))
        for column in COLUMNS[table]:
            add(f"{table} without {column}", partial(_without, name=table, column=column))
            for what, value in CELLS.items():
                if table == "attacks.csv":
                    add(f"{table} alone, {column}: {what}", partial(_cell, name=table, column=column, value=value, alone=True))
                elif what in ("text", "digits", "missing", "mathematics", "infinite", "seven"):
                    add(f"{table}, {column}: {what}", partial(_cell, name=table, column=column, value=value, alone=False))
    for what, content in CSVS.items():
        add(f"experiments.csv: {what}", partial(_bytes, name="experiments.csv", content=content), several=True)
    for name in ("study.json", "config.json", "controls.json", "headline.json"):
        for what, content in JSON.items():
            add(f"{name}: {what}", partial(_bytes, name=name, content=content))
    for key in ("attack", "family", "chosen", "candidates", "n_member", "figures", "reason"):
        for what, value in WRONG.items():
            add(f"headline's {key}: {what}", partial(_field, name="headline.json", key=key, value=value))
    for what, value in WRONG.items():
        add(f"headline's AUC: {what}", partial(_auc, value=value))
        add(f"a control: {what}", partial(_field, name="controls.json", key="blind", value=value))
        add(f"a setting: {what}", partial(_field, name="study.json", key="attack.seed", value=value))
    add("headline's AUC of seven", partial(_auc, value=7), refused=True)
    add("an AUC of seven", partial(_cell, name="attacks.csv", column="value", value="7", alone=True), refused=True)
    for length in (0, 3, 199, 400):
        add(f"{length} scores for 200 records", partial(_unequal, length=length), refused=True)
        add(
            f"{length} scores for 200 records, beside another run", partial(_unequal, length=length), refused=True, several=True
        )
    for what, content in {"text": b"hello", "empty": b"", "a folder's": b"PK\3\4"}.items():
        add(f"scores.npz: {what}", partial(_bytes, name="scores.npz", content=content))
        add(f"most_exposed.png: {what}", partial(_bytes, name="most_exposed.png", content=content))
        add(f"summary.md: {what}", partial(_bytes, name="summary.md", content=content + b"\xff"))
    for what, tags in TAGS.items():
        add(f"tag: {what}", lambda folder: None, tags=tags)
        add(f"tag of one of two: {what}", lambda folder: None, tags=tags, several=True)
    for what, params in PARAMS.items():
        add(f"param: {what}", lambda folder: None, params=params, drawn="mathematics" in what)
    for what, start in {"no start": None, "a start in the year 300,000": 10**16, "a start before all time": -(10**16)}.items():
        add(what, lambda folder: None, start=start)
    for what, metrics in {"onset": {"overfit_onset_epoch": float("nan")}, "accuracy": {"train/accuracy": float("inf")}}.items():
        add(f"metric: {what}", lambda folder: None, metrics=metrics)
    found += [
        Case(name="run, its own parent", act=_itself),
        Case(name="run, two that are each other's parents", act=_circle, refused=True),
        Case(name="run, 3,000 generations", act=partial(_deep, depth=3000), refused=True),
    ]
    profiles = {
        "no JSON": "{",
        "a list": "[1]",
        "null": "null",
        "nested": "[" * DEEP + "]" * DEEP,
        "records as text": '{"records": "many", "shape": [2]}',
        "a shape of text": '{"records": 3, "shape": "xy"}',
        "a shape of digits": '{"records": 3, "shape": [' + "9" * 5000 + "]}",
        "a shape that is a number": '{"records": 3, "shape": 7}',
        "classes as a map": '{"records": 3, "shape": [2], "classes": {"a": 1}}',
    }
    for what, text in profiles.items():
        found.append(Case(name=f"run, an input's profile: {what}", act=partial(_inputs, profile=text, source="{}")))
        found.append(Case(name=f"run, an input's source: {what}", act=partial(_inputs, profile="{}", source=text)))
    return found
