"""What an addition touches: each is made in a copy of the checkout, in the files that CONTRIBUTING's table names alone, and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("src", "entrypoints", "MLproject", "GLOSSARY.md", "README.md")


class Copy:
    """A copy of the checkout without its tests, changed by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.touched: set[str] = set()
        for name in KEPT:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.egg-info"))
            else:
                shutil.copy(ROOT / name, folder / name)

    def make(self, path: str, text: str) -> None:
        """Write a new file."""
        file = self.folder / path
        assert not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.touched.add(path)

    def change(self, path: str, changes: Mapping[str, str]) -> None:
        """Replace passages, each of which occurs once."""
        text = (self.folder / path).read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, f"{path} has {text.count(old)} of {old!r}"
            text = text.replace(old, new)
        (self.folder / path).write_text(text)
        self.touched.add(path)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Python with the copy's sources."""
        environment = {
            **os.environ, "PYTHONPATH": str(self.folder / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def says(self, code: str) -> list[str]:
        """What a program prints, by lines; it must end well."""
        done = self.run("-W", "error", "-c", code)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.splitlines()

    def written(self) -> list[str]:
        """What `make mlproject` writes."""
        done = self.run("-m", "memberscope.mlproject")
        assert done.returncode == 0, done.stderr
        return [line.removeprefix("written: ") for line in done.stdout.splitlines() if line.startswith("written: ")]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def check_table(addition: str, copy: Copy, most: int) -> None:
    """CONTRIBUTING's row of an addition names the files that were touched, with ``mine`` for the name, and a test; `most` in all."""
    row = re.search(rf"^\| {addition} \| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert row is not None, f"CONTRIBUTING has no row for {addition}"
    named = re.findall(r"`([^`]+)`", row[1])
    touched = {path.removeprefix("src/memberscope/").replace("toy", "mine") for path in copy.touched}
    assert {path for path in named if not path.startswith("tests/")} == touched
    assert [path for path in named if path.startswith("tests/")], "and a test"
    assert len(named) <= most


ATTACK = '''"""A toy."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope import signals
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class Toy(Attack):
    """Member if the loss is low."""

    name: str = "threshold_toy"
    family: str = "threshold"

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        return self._scores(-signals.loss_nats(evidence.target))
'''
AUDIT = """
import numpy as np
from memberscope import Predictions, run_audit
from memberscope.gate import judge, parse_rules
rng = np.random.default_rng(0)
member = np.arange(400) % 2 == 0
report = run_audit(Predictions(loss_nats=rng.exponential(size=400) * np.where(member, 1, 3), member=member), attacks=ATTACKS)
"""


def test_an_attack(copy: Copy) -> None:
    copy.make("src/memberscope/attacks/toy.py", ATTACK)
    copy.change(
        "src/memberscope/attacks/registry.py",
        {
            "from memberscope.attacks.trained import TRAINED\n": "from memberscope.attacks.toy import Toy\n"
            "from memberscope.attacks.trained import TRAINED\n",
            "ThresholdEntropy()),": "ThresholdEntropy(), Toy()),",
        },
    )
    copy.change(
        "GLOSSARY.md", {"| `threshold_entropy` |": "| `threshold_toy` | minus the loss | a toy |\n| `threshold_entropy` |"}
    )
    told = copy.says(
        AUDIT.replace("ATTACKS", "'threshold'") + "print(*report.attacks)\n"
        "print(report.result('threshold_toy').figures['auc'] == report.result('threshold_loss').figures['auc'])\n"
        "print(judge(report, parse_rules('threshold_toy.entire.auc > 0.6')).outcome)"
    )
    assert told == ["threshold_loss threshold_entropy threshold_toy", "True", "trip"]
    check_table("an attack", copy, 4)


METRIC = '''"""A toy."""

from __future__ import annotations

from memberscope.metrics.estimate import Estimate
from memberscope.metrics.spec import MetricInput


def toy_of(given: MetricInput, confidence: float) -> Estimate:
    """The share of members among the tenth with the highest scores, with an interval of a tenth to either side."""
    scores, member = given.arrays
    value = float(member[scores.argsort()[-len(scores) // 10 :]].mean())
    return Estimate(value=value, ci_low=max(0.0, value - 0.1), ci_high=min(1.0, value + 0.1))
'''


def test_a_metric(copy: Copy) -> None:
    copy.make("src/memberscope/metrics/toy.py", METRIC)
    copy.change(
        "src/memberscope/metrics/registry.py",
        {
            "from memberscope.metrics.spec import": "from memberscope.metrics.toy import toy_of\n"
            "from memberscope.metrics.spec import",
            '        MetricSpec(\n            name="ppv",': "        TOY,\n" + '        MetricSpec(\n            name="ppv",',
            "def builtin(": 'TOY = MetricSpec(\n    name="toy_share", about="a toy", label="toy", range=SHARE, compute=toy_of,\n'
            "    headline=True,\n)\n\n\n"
            "def builtin(",
        },
    )
    copy.change("GLOSSARY.md", {"| `ppv` |": "| `toy_share` | a toy | 0 to 1 | none | |\n| `ppv` |"})
    told = copy.says(
        AUDIT.replace("ATTACKS", "'threshold_loss'") + "from memberscope.audit.log import log_headline\n"
        "from memberscope.report.columns import COLUMNS\nfrom memberscope.tracking import MemoryTracker\n"
        "member = report.target.member\nscores = report.scores('threshold_loss')\n"
        "print(report.result('threshold_loss').figures['toy_share'].value == member[scores.argsort()[-40:]].mean())\n"
        "print(report.headlines()['toy_share/threshold_loss'] == report.result('threshold_loss').figures['toy_share'].value)\n"
        "tracker = MemoryTracker()\nlog_headline(report, tracker)\nprint('toy_share/headline' in tracker.logged_metrics)\n"
        "print(judge(report, parse_rules('any.entire.toy_share > 0.2')).outcome, dict(COLUMNS)['toy_share'])"
    )
    assert told == ["True", "True", "True", "trip toy"]
    check_table("a metric", copy, 4)


DATA = '''"""A toy."""

from __future__ import annotations

import numpy as np

from memberscope.datasets.labeled import LabeledData, Sizes


def load_toy() -> LabeledData:
    """Points in the plane."""
    rng = np.random.default_rng(0)
    return LabeledData(
        name="toy", x=rng.random((300, 2), dtype=np.float32), y=np.arange(300) % 3, class_names=("a", "b", "c"), source="drawn",
        sizes=Sizes(members=90, nonmembers=90, validation=30),
    )
'''


def test_a_data_set(copy: Copy) -> None:
    copy.make("src/memberscope/datasets/toy.py", DATA)
    copy.change(
        "src/memberscope/datasets/__init__.py",
        {
            '    elif name.endswith(".npz"):': '    elif name == "toy":\n        from memberscope.datasets.toy import load_toy\n\n'
            '        data = load_toy()\n    elif name.endswith(".npz"):'
        },
    )
    copy.change("src/memberscope/config/shared.py", {'hint="digits, cifar10,': 'hint="digits, toy, cifar10,'})
    told = copy.says(
        "from memberscope import cli\nfrom memberscope.plans.target import target_of\nfrom memberscope.studies import setup\n"
        "config, _ = cli.parse('train', ['--dataset=toy', '--model=mlp', '--classes=2'])\n"
        "target = target_of(setup.choose_classes(setup.load_data(config), config), config)\n"
        "plan = target.prepare(0).plan\nprint(len(plan.members), len(plan.nonmembers), len(plan.validation))\n"
        "print('digits, toy, cifar10' in ' '.join(cli.parser_for('train').format_help().split()))"
    )
    assert told == ["60 60 20", "True"], "two thirds of its usual sizes"
    check_table("a data set", copy, 4)


def test_a_grid(copy: Copy) -> None:
    copy.change("src/memberscope/config/training.py", {'"epochs", "privacy")': '"epochs", "privacy", "toy")'})
    copy.change(
        "src/memberscope/sweeps/base.py",
        {'    "privacy": {': '    "toy": {"alone": "nothing else changes"},\n    "privacy": {'},
    )
    copy.change(
        "src/memberscope/sweeps/grids.py",
        {
            '        "privacy": _privacy,\n': '        "privacy": _privacy,\n        "toy": _toy,\n',
            "def _privacy(": "def _toy(builder: Builder, base: Base, controls: tuple[str, ...], levels: tuple[int, ...]) -> None:\n"
            "    cells: dict[LevelValue, Cell] = {\n"
            "        rate: Cell(recipe=dataclasses.replace(base.recipe, learning_rate=rate / 1000), part=base.whole)\n"
            "        for rate in levels or (1, 5)\n"
            "    }\n"
            '    builder.compare("toy", "alone", cells, note=CONTROLS["toy"]["alone"])\n\n\n'
            "def _privacy(",
        },
    )
    told = copy.says(
        "from memberscope import cli\nfrom memberscope.studies import setup\nfrom memberscope.sweeps.grids import make_grid\n"
        "config, _ = cli.parse('sweep', ['--grid=toy', '--levels=1,2,4'])\ngrid = make_grid('toy', setup.load_data(config), config)\n"
        "print(sorted(cell.recipe.learning_rate for cell in grid.cells.values()))\n"
        "print([(one.factor, one.control) for one in grid.comparisons])"
    )
    assert told == ["[0.001, 0.002, 0.004]", "[('toy', 'alone')]"]
    check_table("a grid", copy, 4)


def test_an_option(copy: Copy, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")  # the study is run
    copy.change(
        "src/memberscope/config/audits.py",
        {
            "    fail_if: str = option(": '    toy: int = option(\n        5, check=Integer(low=1, high=9), group="gate", help="a toy", '
            'formerly=("joy",)\n    )\n    fail_if: str = option('
        },
    )
    copy.change(
        "src/memberscope/studies/attack.py",
        {"    request = request_of(": '    print("the toy is", config.toy)\n    request = request_of('},
    )
    copy.touched |= set(copy.written())
    assert "      --toy={toy}\n" in (copy.folder / "MLproject").read_text()
    told = copy.says(
        "import sys\nimport numpy as np\nfrom memberscope import cli\nfrom memberscope.interrupt import StopFlag\n"
        "from memberscope.studies import attack\nfrom memberscope.tracking import MemoryTracker\n"
        "np.savez('said.npz', loss_nats=np.arange(100.0), member=np.arange(100) % 2 == 0)\n"
        "for words in (['--toy=7'], ['--joy=8'], []):\n"
        "    config, _ = cli.parse('attack', ['--predictions=said.npz', '--attacks=threshold_loss', '--controls=none', *words])\n"
        "    attack.run(config, MemoryTracker(), StopFlag())\n"
        "print(cli.run_study('attack', ['--toy=11']))"
    )
    assert told == ["the toy is 7", "the toy is 8", "the toy is 5", "2"]
    check_table("an option", copy, 4)


STUDY = '''"""A toy."""

from __future__ import annotations

from memberscope.config.toy import ToyConfig
from memberscope.interrupt import StopFlag
from memberscope.studies.result import StudyResult
from memberscope.tracking import Tracker


def run(config: ToyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Log a number."""
    tracker.metrics({"toy": float(config.number)})
    return StudyResult(table="a table", answer=f"the number is {config.number}")
'''
CONFIG = '''"""Entry point `toy`."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.config.base import Config, option
from memberscope.config.checks import Integer


@dataclass(frozen=True, kw_only=True)
class ToyConfig(Config):
    """Everything that `toy` takes."""

    number: int = option(3, check=Integer(low=1), group="toy", help="a number")
'''


@pytest.mark.e2e
def test_an_entry_point(copy: Copy) -> None:
    pytest.importorskip("mlflow")  # the study is run
    copy.make("src/memberscope/studies/toy.py", STUDY)
    copy.make("src/memberscope/config/toy.py", CONFIG)
    copy.change(
        "src/memberscope/cli.py",
        {
            'STUDIES = {\n': 'STUDIES = {\n    "toy": Study(module="memberscope.studies.toy", config="toy.ToyConfig", about="a toy"),\n'
        },
    )  # fmt: skip
    assert copy.written() == ["MLproject", "entrypoints/toy.py"]
    copy.touched |= {"MLproject", "entrypoints/toy.py"}
    done = copy.run("entrypoints/toy.py", "--number=7")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the number is 7" in done.stdout
    refused = copy.run("entrypoints/toy.py", "--number=0")
    assert (refused.returncode, refused.stderr.strip()) == (
        2,
        "memberscope: number=0: out of range; allowed: a whole number, 1 or more",
    )
    assert "  toy        a toy" in copy.run("-m", "memberscope.cli", "--help").stdout.splitlines()
    row = re.search(r"^\| an entry point \| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert row is not None
    named = {path for path in re.findall(r"`([^`]+)`", row[1]) if not path.startswith(("tests/", "README", "make"))}
    assert named == {path.removeprefix("src/memberscope/").replace("toy", "mine") for path in copy.touched}
    assert len(named) <= 5


TRAINER = '''"""A toy."""

from __future__ import annotations

from memberscope.training.keras.trainer import KerasTrainer
from memberscope.training.recipe import Recipe
from memberscope.training.trainer import Trainer


def toy(recipe: Recipe) -> Trainer:
    """The built-in models, with one epoch whatever is asked for."""
    return KerasTrainer(recipe=recipe).with_params(epochs=1)
'''


def test_a_trainer(copy: Copy) -> None:
    copy.make("src/memberscope/training/toy.py", TRAINER)
    copy.change(
        "src/memberscope/training/registry.py",
        {
            "from memberscope.training.trainer import Trainer\n": "from memberscope.training.toy import toy\n"
            "from memberscope.training.trainer import Trainer\n",
            "{BUILT_IN_TRAINER: keras}": '{BUILT_IN_TRAINER: keras, "toy": toy}',
        },
    )
    copy.change("src/memberscope/config/shared.py", {'hint="keras, or a': 'hint="keras, toy, or a'})
    told = copy.says(
        "from memberscope import cli\nfrom memberscope.studies import setup\n"
        "config, _ = cli.parse('shadow', ['--trainer=toy', '--epochs=9'])\nprint(setup.trainer_for(config, config).params['epochs'])\n"
        "config, _ = cli.parse('shadow', ['--epochs=9'])\nprint(setup.trainer_for(config, config).params['epochs'])"
    )
    assert told == ["1", "9"]
    check_table("a trainer", copy, 4)
