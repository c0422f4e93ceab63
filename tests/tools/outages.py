"""Outages of a tracking server at random moments of studies: ``python tests/tools/outages.py [MOMENTS [back | never | killed]]``.

It starts an MLflow server of its own, runs train, shadow, sweep and audit undisturbed, and then each of them again and again while the
server is killed at a random moment. In the first part it is back after 24 s: the study must end with 0, and its runs be FINISHED and equal
to the undisturbed ones. In the second it is never back: the study must end with 2 and name a folder; then the server is started, and
``memberscope resend FOLDER``, or in turn the next start on that store, must deliver the same runs. In the last the study itself is killed,
by turns with SIGKILL and Ctrl-C, and begun again: nothing may be lost, twice, or left running. It prints the counts and ends with 1 if any
moment failed. A moment takes about a minute.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SEED = 7
BACK_SECONDS = 24.0
LIMIT_SECONDS = 4.0  # of an outage from which the server does not come back
FIRST_SECONDS = 0.5  # after its spool is there, a study has seen that the server answers
SOURCE = Path(__file__).resolve().parents[2] / "src"
TRAINER = '''
import time
import numpy as np

def train(job, k=1, pause=0.5):
    """The label of the nearest member."""
    time.sleep(pause)
    x, y = job.x.astype(np.float64), job.y

    def predict(records):
        apart = ((records[:, None].astype(np.float64) - x) ** 2).sum(axis=2)
        return np.eye(job.classes)[y[np.argsort(apart, axis=1)[:, :1]]].mean(axis=1) * 0.9 + 0.05

    return predict
'''


STANDBY = """
import os, sys, warnings
warnings.simplefilter("ignore")
import uvicorn
from mlflow.server.fastapi_app import app
sys.stdin.readline()
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
"""


@dataclass
class Server:
    """MLflow's server program, which can be killed and started again on the same store.

    A second process that has imported everything stands by, so that a start takes a second.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)
    standby: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def stand_by(self) -> None:
        """Begin the process that the next start uses."""
        from mlflow import server

        environment = {
            **os.environ, server.BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{self.folder}/server.db", server.SERVE_ARTIFACTS_ENV_VAR: "true",
            server.ARTIFACTS_DESTINATION_ENV_VAR: str(self.folder / "artifacts"), server.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        }  # fmt: skip
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
            environment.pop(name, None)
        with (self.folder / "server.log").open("ab") as log:
            self.standby = subprocess.Popen(
                [sys.executable, "-c", STANDBY, str(self.port)], start_new_session=True, stdin=subprocess.PIPE, stdout=log, stderr=log,
                cwd=self.folder, env=environment,
            )  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if self.standby is None:
            self.stand_by()
        assert self.standby is not None
        assert self.standby.stdin is not None
        self.process, self.standby = self.standby, None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(b"go\n")
            self.process.stdin.close()
        deadline = time.monotonic() + 180
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """End it as a power failure does, and let the next one stand by."""
        self._end(self.process)
        self.process = None
        if self.standby is None:
            self.stand_by()

    def close(self) -> None:
        """End both."""
        self._end(self.process)
        self._end(self.standby)

    def _end(self, process: subprocess.Popen[bytes] | None) -> None:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(100)
        except OSError:
            return False


@dataclass
class Place:
    """A folder with data, a trainer, a space and a server."""

    folder: Path
    server: Server
    model: str = ""

    def write(self) -> Any:
        """The trainer, the space and the records, which are returned as a frame."""
        (self.folder / "near.py").write_text(TRAINER)
        (self.folder / "space.yaml").write_text("factors:\n  k: [1, 2]\n")
        rng = np.random.default_rng(0)
        y = rng.integers(0, 2, 400)
        x = rng.normal(size=(400, 3)) + y[:, None]
        np.savez(self.folder / "noisy.npz", x=x, y=y)
        frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(label=y)
        frame[:200].to_csv(self.folder / "in.csv", index=False)
        frame[200:].to_csv(self.folder / "out.csv", index=False)
        return frame

    def prepare(self) -> None:
        """All of that, and a logged model."""
        frame = self.write()
        import mlflow.sklearn
        from sklearn.ensemble import RandomForestClassifier

        for noisy in ("mlflow.models.model", "mlflow.utils.environment", "mlflow.sklearn"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        mlflow.set_tracking_uri(self.server.uri)
        fitted = RandomForestClassifier(5, random_state=0).fit(frame[["a", "b", "c"]][:200], frame["label"][:200])
        with mlflow.start_run() as run:
            mlflow.sklearn.log_model(fitted, name="model", pip_requirements=["x"], serialization_format="cloudpickle")
        self.model = f"runs:/{run.info.run_id}/model"

    def revive(self) -> None:
        """Start the server again, whoever killed it."""
        self.server.kill()
        self.server.start()

    def words(self, study: str, name: str) -> list[str]:
        own = ["--trainer", "near.py:train", "--dataset", "noisy.npz", "--members", "60"]
        return {
            "train": ["train", *own, "--nonmembers", "60", "--validation", "20"],
            "shadow": ["shadow", *own, "--shadows", "2", "--targets", "2", "--attacks", "threshold_loss", "--store", "none"],
            "sweep": [
                "sweep", *own, "--nonmembers", "60", "--validation", "20", "--space", "space.yaml", "--sampler", "grid", "--seeds", "1",
                "--workers", "2", "--folder", f"sweeps/{name}",
            ],
            "audit": ["audit", "--model_uri", self.model, "--members", "in.csv", "--nonmembers", "out.csv", "--label", "label"],
        }[study]  # fmt: skip

    def begin(self, words: list[str], name: str, **variables: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ, "MLFLOW_TRACKING_URI": self.server.uri, "MLFLOW_EXPERIMENT_NAME": name, "PYTHONPATH": str(SOURCE),
            "MEMBERSCOPE_SPOOL": str(self.folder / "spool"), "MEMBERSCOPE_KEY": "the key of the outages", **variables,
        }  # fmt: skip
        with (self.folder / f"{name}.out").open("w") as out, (self.folder / f"{name}.err").open("w") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "memberscope.cli", *words],
                cwd=self.folder,
                env=environment,
                stdout=out,
                stderr=err,
                text=True,
            )

    def said(self, name: str) -> list[str]:
        lines = (self.folder / f"{name}.err").read_text().splitlines()
        return [line for line in lines if line.startswith("memberscope: ")]

    def spools(self) -> list[Path]:
        return sorted((self.folder / "spool").glob("[0-9]*"))

    def runs(self, name: str, *, of_killed: bool = True) -> list[Any]:
        """What an experiment holds, but for times and ids; without `of_killed`, not the models that a killed study had finished, which are
        those of that attempt.
        """
        import mlflow

        client = mlflow.MlflowClient(self.server.uri)
        experiment = client.get_experiment_by_name(name)
        found, ids = [], {}
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        for run in runs:
            ids[run.info.run_id] = run.info.run_name
        killed = {run.info.run_id for run in runs if run.info.status == "KILLED"}
        for run in runs:
            if not of_killed and run.data.tags.get("mlflow.parentRunId") in killed:
                continue
            metrics = {
                key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
                for key in sorted(run.data.metrics)
                if not key.startswith("seconds/")
            }
            parent = ids.get(run.data.tags.get("mlflow.parentRunId", ""), "")
            files = sorted(item.path for item in client.list_artifacts(run.info.run_id))
            inputs = sorted(f"{one.dataset.name} {one.dataset.digest}" for one in run.inputs.dataset_inputs)
            tags = {
                key: run.data.tags.get(key)
                for key in ("memberscope.exit_code", "mlflow.loggedArtifacts", "memberscope.setting")
            }
            found.append((run.info.run_name, run.info.status, parent, metrics, dict(run.data.params), tags, files, inputs))
        return sorted(found, key=lambda one: (one[0], one[1]))


def differences(here: list[Any], expected: list[Any]) -> str:
    """How runs differ from those of the undisturbed study; empty if they do not."""
    names = [(one[0], one[1]) for one in here]
    if names != [(one[0], one[1]) for one in expected]:
        return f"runs {names}"
    parts = ("name", "status", "parent", "metrics", "params", "tags", "files", "inputs")
    for one, other in zip(here, expected, strict=True):
        for part, left, right in zip(parts, one, other, strict=True):
            if left != right:
                return f"{one[0]}: {part} {left} instead of {right}"[:400]
    return ""


def until_spool(place: Place, process: subprocess.Popen[str]) -> None:
    while not place.spools() and process.poll() is None:
        time.sleep(0.02)


def main(moments: int = 20, which: str = "") -> int:
    """Run all parts, or one, and print the counts."""
    warnings.simplefilter("ignore")
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "2"
    drawn, studies = random.Random(SEED), ("train", "shadow", "sweep", "audit")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        place = Place(folder=folder, server=Server(folder=folder, port=port))
        place.server.start()
        try:
            place.prepare()
            expected, took = {}, {}
            for study in studies:
                process = place.begin(place.words(study, study), study)
                until_spool(place, process)
                begun = time.monotonic()
                assert process.wait() == 0, (place.folder / f"{study}.err").read_text()
                took[study] = time.monotonic() - begun
                expected[study] = place.runs(study)
                print(f"{study}: {len(expected[study])} runs in {took[study]:.1f} s", flush=True)
            failed = 0
            halves: dict[str, Callable[[Place, str, str, float, list[Any], int], str]] = {
                "back": back,
                "never": never,
                "killed": killed,
            }
            for half, go in halves.items():
                if which not in ("", half):
                    continue
                good = 0
                for moment in range(moments):
                    study = studies[moment % len(studies)]
                    after = drawn.uniform(FIRST_SECONDS, took[study])
                    wrong = go(place, study, f"{half}-{moment}-{study}", after, expected[study], moment)
                    good += not wrong
                    print(
                        f"{'! ' if wrong else '  '}{half}: {study}, killed after {after:.1f} s: {wrong or 'all right'}",
                        flush=True,
                    )
                print(f"{half}: {good} of {moments} are all right", flush=True)
                failed += moments - good
        finally:
            place.server.close()
    return int(failed > 0)


def back(place: Place, study: str, name: str, after: float, expected: list[Any], moment: int) -> str:
    """What is wrong after an outage of `BACK_SECONDS`; empty if nothing is."""
    process = place.begin(place.words(study, name), name)
    until_spool(place, process)
    time.sleep(after)
    place.server.kill()
    time.sleep(BACK_SECONDS)
    place.server.start()
    code = process.wait()
    found = differences(place.runs(name), expected)
    left = f"left {[path.name for path in place.spools()]}" if place.spools() else ""
    return "; ".join(part for part in (f"exit {code}: {place.said(name)}" if code else "", found, left) if part)


def never(place: Place, study: str, name: str, after: float, expected: list[Any], moment: int) -> str:
    """What is wrong after an outage without an end, and a new server; empty if nothing is."""
    process = place.begin(place.words(study, name), name, MEMBERSCOPE_OUTAGE_LIMIT=str(LIMIT_SECONDS))
    until_spool(place, process)
    time.sleep(after)
    ended = process.poll() is not None
    place.server.kill()
    code = process.wait()
    said = place.said(name)
    ended = ended or (code == 0 and not place.spools())  # the kill came after its last request
    named = re.findall(r"memberscope resend (\S+?),", said[-1]) if said else []
    place.server.start()
    wrong = []
    nothing = bool(said) and "nothing is left to be sent" in said[-1]  # it was killed before anything was logged
    if not ended and (code != 2 or len(named) != 1 - nothing):
        wrong.append(f"exit {code}: {said}")
    if named and moment % 2:
        sent = place.begin(["resend", named[0]], f"{name}-resend")
        if sent.wait():
            wrong.append(f"resend: {place.said(f'{name}-resend')}")
    elif named:  # the next start delivers it, whatever it does then
        process = place.begin(["attack", "--predictions", "absent.npz"], f"{name}-next")
        process.wait()
    if nothing and place.begin(place.words(study, name), name).wait():
        wrong.append(f"the same again: {place.said(name)}")
    unlike = differences(place.runs(name), expected)
    if unlike and study == "sweep" and not ended and not nothing:  # it was stopped where it needed an answer: the same again
        if place.begin(place.words(study, name), name).wait():
            wrong.append(f"the same sweep again: {place.said(name)}")
        runs = [run for run in place.runs(name) if run[1] == "FINISHED"]
        wrong.append(differences(runs, expected) and f"after the same sweep again: {differences(runs, expected)}")
    else:
        wrong.append(differences(place.runs(name), expected))
    if place.spools():
        wrong.append(f"left {[path.name for path in place.spools()]}")
    return "; ".join(part for part in wrong if part)


def killed(place: Place, study: str, name: str, after: float, expected: list[Any], moment: int) -> str:
    """What is wrong after the study itself was killed (by turns with SIGKILL and Ctrl-C) and begun again; empty if nothing is."""
    number = signal.SIGINT if moment // 4 % 2 else signal.SIGKILL
    process = place.begin(place.words(study, name), name)
    until_spool(place, process)
    time.sleep(after)
    process.send_signal(number)
    code = process.wait()
    if code in (-signal.SIGINT, -signal.SIGKILL) and not differences(place.runs(name), expected):
        code = 0  # all was done and had ended, and Python was about to end
    wrong = []
    if code not in (0, 130 if number == signal.SIGINT else -number):
        wrong.append(f"exit {code} after {number.name}: {place.said(name)}")
    if code and place.begin(place.words(study, name), name).wait():
        wrong.append(f"the same again: {place.said(name)}")
    here = place.runs(name, of_killed=study == "sweep")  # a sweep begun again takes over the trials that are done
    wrong.append(differences([run for run in here if run[1] == "FINISHED"], expected))
    runs = place.runs(name)
    for _ in range(60):  # a worker whose study was killed ends its own run when it sees that, after the step that it is in
        if all(run[1] in ("FINISHED", "KILLED") for run in runs):
            break
        time.sleep(1)
        runs = place.runs(name)
    if unended := [run[0] for run in runs if run[1] not in ("FINISHED", "KILLED")]:
        wrong.append(f"runs that did not end: {unended}")
    return "; ".join(part for part in wrong if part)


if __name__ == "__main__":
    words = sys.argv[1:]
    raise SystemExit(main(*(int(word) for word in words[:1]), *words[1:2]))
