"""A package with an attack and a metric, installed beside memberscope: from ``--help`` to the gate, the tables and the report's page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from memberscope.metrics.rounding import logged

ROOT = Path(__file__).resolve().parents[2]


def memberscope(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a process that has `site` on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(site)])}
    command = [sys.executable, "-m", "memberscope.cli", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_help_names_what_packages_offer_and_imports_none(install: Callable[..., Path], tmp_path: Path) -> None:
    site = install(
        "toy-package", {"never": "raise RuntimeError('imported')"},
        {"memberscope.attacks": {"toy_attack": "never:A"}, "memberscope.metrics": {"toy_gap": "never:M"},
         "memberscope.trainers": {"toy_trainer": "never:T"}},
    )  # fmt: skip
    studies = memberscope(site, tmp_path, "--help")
    assert studies.returncode == 0
    for kind, name in (("attacks", "toy_attack"), ("metrics", "toy_gap"), ("trainers", "toy_trainer")):
        assert f"\n{kind} of other packages: {name} (toy-package)\n" in studies.stdout
    attack = " ".join(memberscope(site, tmp_path, "attack", "--help").stdout.split())
    assert "from other packages: toy_attack (toy-package) [all, tfp" in attack, "of --attacks"
    assert "from other packages: toy_gap (toy-package) [rules such as" in attack, "of --fail_if"
    assert "from other packages: toy_trainer (toy-package) [keras, or" in " ".join(
        memberscope(site, tmp_path, "train", "--help").stdout.split()
    )
    assert (studies.stderr, attack.count("imported")) == ("", 0)


@pytest.mark.e2e
@pytest.mark.thorough
def test_from_the_command_line_to_the_page(toys: Path, install: Callable[..., Path], store: Path) -> None:
    """Beside two packages that are no good: each is a line, and everything else goes on."""
    install(
        "bad-package", {"bad_one": "raise ImportError('no such luck')"}, {"memberscope.attacks": {"bad_attack": "bad_one:A"}}
    )
    install("cuckoo", {"cuckoo_one": "M = 1"}, {"memberscope.metrics": {"auc": "cuckoo_one:M"}})
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 3, 400), np.arange(400) % 2 == 0
    logits = rng.normal(size=(400, 3))
    logits[np.arange(400), labels] += 1.5 * member
    np.savez(store / "said.npz", logits=logits, labels=labels, member=member, record_ids=np.arange(400))
    words = ["attack", "--predictions=said.npz", "--primary=toy_attack", "--controls=none"]
    done = memberscope(
        toys, store, *words, "--attacks=threshold,toy", "--fail_if=toy_attack.entire.toy_gap > 1; any.entire.auc > 0.99"
    )
    assert done.returncode == 3, done.stderr[-2000:]
    assert "1 of 4 metrics above the limit: toy_attack.entire.toy_gap is 1.72 (1.52 to 1.91), limit 1" in done.stderr
    lines = done.stderr.splitlines()
    assert (
        "memberscope: attack 'bad_attack' of bad-package could not be loaded and is left out: ImportError: no such luck"
        in lines
    )
    assert (
        lines.count("memberscope: metric 'auc' of cuckoo: the name is taken by memberscope itself; allowed: a name of its own")
        == 1
    )
    assert "toy_attack" in done.stdout
    assert "toy_gap" in done.stdout, "in the table that is shown"

    client = mlflow.MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    frame = pd.read_csv(client.download_artifacts(run.info.run_id, "attacks.csv", str(store)))
    row = frame.query("attack == 'toy_attack' and slice == 'entire' and metric == 'toy_gap'").iloc[0]
    inside, outside = (logits[np.arange(400), labels][side] for side in (member, ~member))
    assert row["value"] == pytest.approx((inside.mean() - outside.mean()) / np.sqrt((inside.var() + outside.var()) / 2))
    shown = logged(
        "toy_gap", "toy_attack", *(None if row[name] != row[name] else row[name] for name in ("value", "ci_low", "ci_high"))
    )
    assert run.data.metrics["toy_gap/toy_attack"] == shown["toy_gap/toy_attack"]
    assert run.data.metrics["toy_gap/headline"] == shown["toy_gap/toy_attack"], "it is the primary attack"
    assert set(frame.query("metric == 'toy_gap'")["attack"]) == {"toy_attack", "threshold_loss", "threshold_entropy"}, (
        "of every attack"
    )

    assert memberscope(toys, store, "report", f"--runs={run.info.run_id}", "--page=page.html").returncode == 0
    page = (store / "page.html").read_text()
    assert "toy gap, toy_attack" in page
    assert f"{row['value']:.2f}" in page
