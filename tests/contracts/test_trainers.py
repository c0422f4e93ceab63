"""One suite that every trainer passes, and a study that runs on a trainer without any framework."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from memberscope.config import DataConfig
from memberscope.config.mitigation import MitigateConfig
from memberscope.config.outside import ShadowStudyConfig
from memberscope.config.training import TrainStudyConfig
from memberscope.datasets import LabeledData
from memberscope.errors import Interrupted, UserError
from memberscope.interrupt import StopFlag
from memberscope.plans.target import target_of
from memberscope.studies import setup, train
from memberscope.studies.mitigate import mitigations, models
from memberscope.studies.mitigate import study as mitigate
from memberscope.studies.shadow import draw, study
from memberscope.tracking import MemoryTracker
from memberscope.training.keras.builder import builder_recipe
from memberscope.training.keras.trainer import KerasTrainer
from memberscope.training.outside.trainer import outside_trainer
from memberscope.training.recipe import Recipe
from memberscope.training.trainer import (
    CAPABILITIES,
    DataFacts,
    Execution,
    Fleet,
    Trainer,
    TrainingJob,
    jobs_for,
    require_capability,
)  # fmt: skip

CLASSES, WIDTH = 3, 5
FUNCTIONS = Path(__file__).parents[1] / "training" / "outside" / "functions.py"


@dataclass(frozen=True, kw_only=True)
class NeighbourFleet:
    """What `NeighbourTrainer` makes: each model remembers its members."""

    members: Sequence[tuple[np.ndarray, np.ndarray]]
    sharpness: float
    form: str = "logits"
    capabilities: frozenset[str] = frozenset()
    reused: int = 0
    curves: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def n_models(self) -> int:
        return len(self.members)

    def outputs(self, x: np.ndarray, *, models: Sequence[int] | None = None) -> np.ndarray:
        chosen = range(self.n_models) if models is None else models
        found = np.empty((len(chosen), len(x), CLASSES), np.float32)
        for row, (known, labels) in zip(found, (self.members[k] for k in chosen), strict=True):
            distance = ((x[:, None] - known[None]) ** 2).sum(axis=2)
            for label in range(CLASSES):
                nearest = distance[:, labels == label].min(axis=1, initial=np.inf)
                row[:, label] = -self.sharpness * np.minimum(nearest, 100.0)
        return found


@dataclass(frozen=True, kw_only=True)
class NeighbourTrainer:
    """One nearest neighbour: a classifier that memorizes its members whole, in numpy alone, with nothing to offer beside answers."""

    sharpness: float = 1.0
    capabilities: frozenset[str] = frozenset()
    name: str = "neighbour"

    @property
    def params(self) -> Mapping[str, Any]:
        return {"sharpness": self.sharpness}

    def with_params(self, **changes: Any) -> Self:
        for name in changes:
            if name != "sharpness":
                raise UserError(f"{name}: no parameter of neighbour; allowed: sharpness")
        return dataclasses.replace(self, **changes)

    def check(self, data: DataFacts) -> None:
        if len(data.shape) != 1:
            raise UserError(f"trainer=neighbour: records of shape {data.shape}; allowed: rows of numbers")

    def signature(self) -> Mapping[str, object]:
        return {"trainer": "neighbour", **self.params}

    def describe(self) -> Mapping[str, int | float | str]:
        return {"trainer.sharpness": self.sharpness}

    def prepare_process(self) -> None:
        return None

    def train(self, jobs: Sequence[TrainingJob], run: Execution) -> NeighbourFleet:
        if not jobs:
            raise UserError("shadows=0: no model to train; allowed: 1 or more")
        run.stop.check()
        return NeighbourFleet(members=[(job.x, job.y) for job in jobs], sharpness=self.sharpness)

    def variants(self, data: DataFacts) -> Sequence[tuple[str, Trainer]]:
        return [("twice as sharp", self.with_params(sharpness=2 * self.sharpness))]  # type: ignore[list-item]

    def begin(self, job: TrainingJob, *, start: tuple[Fleet, int] | None = None) -> Any:
        raise NotImplementedError

    def fleet_of(self, trainings: Sequence[Any]) -> Any:
        raise NotImplementedError

    def distill(self, data: LabeledData, **options: Any) -> Any:
        raise NotImplementedError


def _data(n: int = 240, shape: tuple[int, ...] = (WIDTH,)) -> LabeledData:
    rng = np.random.default_rng(0)
    return LabeledData(
        name="made up", x=rng.random((n, *shape), np.float32), y=rng.integers(0, CLASSES, n), class_names=("a", "b", "c"), source="a test"
    )  # fmt: skip


def _built() -> KerasTrainer:
    """The built-in trainer with a builder instead of a built-in architecture."""
    loop = Recipe(epochs=2, batch_size=20)
    params = {"architecture": "mlp", "depth": 1, "width": 8}
    return KerasTrainer(recipe=builder_recipe("keras:memberscope.models:build_model", params, loop))


TRAINERS: dict[str, Callable[[], Any]] = {
    "builder": _built,
    "keras": lambda: KerasTrainer(recipe=Recipe(model="mlp", depth=1, width=8, epochs=2, batch_size=20)),
    "neighbour": NeighbourTrainer,
    "function": lambda: outside_trainer(f"{FUNCTIONS}:neighbour", {"sharpness": 1.0}),
}
EVERY = pytest.mark.parametrize("make", TRAINERS.values(), ids=TRAINERS)
TRAINED = pytest.mark.parametrize(
    "make",
    # `make test` trains fleets of a builder in tests/training/test_builder.py; each needs a process that imports TensorFlow
    [pytest.param(make, marks=pytest.mark.thorough) if name == "builder" else make for name, make in TRAINERS.items()],
    ids=TRAINERS,
)
MEMBERS = [np.arange(0, 60), np.arange(60, 140), np.arange(30, 90)]


def _fleet(trainer: Any, data: LabeledData, **run: Any) -> Any:
    return trainer.train(jobs_for(data, MEMBERS, [5, 6, 7]), Execution(workers=1, **run))


@pytest.fixture(scope="module")
def kept_fleet() -> Callable[[Callable[[], Any]], Any]:
    """A trainer's fleet, trained once: one of a builder needs a process that imports TensorFlow anew."""
    return functools.cache(lambda make: _fleet(make(), _data()))


@TRAINED
def test_a_fleet_answers_for_each_job_in_its_order(
    make: Callable[[], Any], kept_fleet: Callable[[Callable[[], Any]], Any]
) -> None:
    data, fleet = _data(), kept_fleet(make)
    before = data.digest
    whole = fleet.outputs(data.x)
    assert fleet.n_models == 3
    assert whole.shape == (3, len(data), CLASSES)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(fleet.outputs(data.x[:9], models=[2, 0]), whole[[2, 0], :9], atol=1e-5)
    assert fleet.outputs(data.x[:0]).shape == (3, 0, CLASSES)
    np.testing.assert_array_equal(_fleet(make(), data).outputs(data.x), whole)  # the same jobs, the same outputs
    del data.__dict__["digest"]
    assert data.digest == before  # nothing was changed in place


@EVERY
def test_what_it_says_of_itself(make: Callable[[], Any]) -> None:
    trainer = make()
    assert trainer.capabilities <= set(CAPABILITIES)
    (name, value), *_ = (item for item in trainer.params.items() if isinstance(item[1], float | int))
    changed = trainer.with_params(**{name: value * 2})
    assert changed.params[name] == value * 2
    assert trainer.params[name] == value
    assert json.dumps(dict(trainer.signature()), sort_keys=True) != json.dumps(dict(changed.signature()), sort_keys=True)
    assert all("." in key and isinstance(value, int | float | str) for key, value in trainer.describe().items())
    with pytest.raises(UserError, match=r"nonsense: no parameter of .*allowed: "):
        trainer.with_params(nonsense=1)
    for other, variant in trainer.variants(DataFacts(shape=(WIDTH,), classes=CLASSES)):
        assert variant.signature() != trainer.signature(), other


@EVERY
def test_what_it_refuses(make: Callable[[], Any]) -> None:
    trainer = make()
    with pytest.raises(UserError, match="shadows=0: no model to train"):
        trainer.train([], Execution())
    stop = StopFlag()
    stop.set()
    with pytest.raises(Interrupted):
        _fleet(trainer, _data(), stop=stop)
    lacking = [name for name in CAPABILITIES if name not in trainer.capabilities]
    for name in lacking:
        with pytest.raises(UserError, match=f"mitigate: needs a trainer with {name}; {trainer.name} offers"):
            require_capability(trainer, name, by="mitigate")
    require_capability(trainer, *trainer.capabilities, by="mitigate")


@TRAINED
def test_what_it_offers_works(make: Callable[[], Any], kept_fleet: Callable[[Callable[[], Any]], Any]) -> None:
    data, trainer = _data(), make()
    able = trainer.capabilities
    if "gradients" in able:
        norms = kept_fleet(make).gradient_norms(1, data.x[:7], data.y[:7])
        assert len(norms) == 7
        assert (norms > 0).all()
    if "epochs" in able:
        seen: list[int] = []
        training = trainer.begin(TrainingJob(data=data, indices=MEMBERS[0], seed=5))
        before = training.outputs(np.arange(4))
        training.fit(after_epoch=seen.append, between_steps=lambda steps: None)
        assert seen == [0, 1, 2]
        assert training.parameters > 0
        assert not np.array_equal(training.outputs(np.arange(4)), before)
        fleet = trainer.fleet_of([training])
        np.testing.assert_allclose(fleet.outputs(data.x[:4])[0], training.outputs(np.arange(4)), atol=1e-5)
        again = trainer.begin(TrainingJob(data=data, indices=MEMBERS[0], seed=9), start=(fleet, 0))
        np.testing.assert_allclose(again.outputs(np.arange(4)), training.outputs(np.arange(4)), atol=1e-5)
    if "distill" in able:
        teacher = kept_fleet(make).outputs(data.x[MEMBERS[1]])[0]
        losses = trainer.distill(data, transfer=MEMBERS[1], teacher=teacher, watched=np.arange(6), epochs=3, seed=0)
        assert losses.shape == (6, 3)
        assert (losses > 0).all()


def test_the_built_in_trainer_refuses_what_its_architecture_cannot_carry() -> None:
    with pytest.raises(UserError, match="batch_size=50: more than the members of a model; allowed: 1 to 40"):
        KerasTrainer(recipe=Recipe(model="mlp")).check(DataFacts(shape=(WIDTH,), classes=CLASSES, members=40))
    with pytest.raises(UserError, match="conv"):
        KerasTrainer(recipe=Recipe(model="conv")).check(DataFacts(shape=(WIDTH,), classes=CLASSES))


def test_a_shadow_study_runs_on_a_trainer_of_someone_elses(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the study asks for a framework: what the trainer cannot do is a skipped row, and a model that memorizes is found."""
    data = _data(480)
    np.savez(tmp_path / "table.npz", x=data.x, y=data.y)
    monkeypatch.setattr(setup, "trainer_for", lambda *configs: NeighbourTrainer())
    config = ShadowStudyConfig(
        dataset=str(tmp_path / "table.npz"), shadows=4, targets=2,
        attacks="threshold_loss,lira_online,rmia_online,gradient_norm,trajectory",
        slices="entire", store="none", fidelity="yes", split="seed",
    )  # fmt: skip
    tracker = MemoryTracker()
    result = study.run(config, tracker, StopFlag())
    frame = next(child for child in tracker.children if child.name.startswith("target-")).artifacts["attacks.csv"]
    status = frame.groupby("attack")["status"].agg(set)
    assert status["gradient_norm"] == status["trajectory"] == {"skipped"}
    auc = frame[(frame["metric"] == "auc") & (frame["slice"] == "entire")].set_index("attack")["value"]
    assert 0.95 < auc["lira_online"] <= 1.0
    assert 0.95 < auc["rmia_online"] <= 1.0
    assert tracker.logged_params["trainer.sharpness"] == 1.0
    assert "twice as sharp" in set(tracker.artifacts["fidelity.csv"]["variant"])
    assert "lira_online" in result.table


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("l2", "l2: needs a trainer with the parameter l2; neighbour has sharpness"),
        ("early_stopping", "early_stopping: needs a trainer with epochs; neighbour offers only training"),
        ("dp", "dp: needs a trainer with epochs and private; neighbour offers only training"),
    ],
)
def test_a_mitigation_that_the_trainer_cannot_make_is_refused_before_anything_trains(name: str, line: str) -> None:
    chosen = mitigations.mitigations_of(MitigateConfig(mitigations=name))
    mitigations.check_trainer(chosen, KerasTrainer(recipe=Recipe()))
    with pytest.raises(UserError, match=line):
        mitigations.check_trainer(chosen, NeighbourTrainer())  # type: ignore[arg-type]


def test_one_model_of_any_trainer_is_audited_at_its_end(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the capability `epochs` there are no metrics by epoch, and nothing else is missing: a model that memorizes is found."""
    data = _data(480)
    np.savez(tmp_path / "table.npz", x=data.x, y=data.y)
    monkeypatch.setattr(setup, "trainer_for", lambda *configs: NeighbourTrainer())
    config = TrainStudyConfig(
        dataset=str(tmp_path / "table.npz"), members=150, nonmembers=150, validation=50, attacks="threshold", check_seed="yes"
    )
    tracker = MemoryTracker()
    result = train.run(config, tracker, StopFlag())
    assert 0.7 < tracker.latest("auc/threshold_loss") <= 1.0
    assert tracker.latest("train/accuracy") == 1.0
    assert tracker.artifacts["history.csv"]["epoch"].tolist() == [0]
    assert "audited at the end of its training alone" in tracker.description
    assert "The seed determines the result" in result.answer
    setup.check_trainer(
        TRAINERS["keras"](), target_of(data, DataConfig(members=60, nonmembers=60, validation=20, label_noise=0.0))
    )


def test_what_is_kept_of_one_trainer_is_not_another_ones(tmp_path: Any) -> None:
    """The files of mitigated models and of climbs are named by all that decides them, the trainer's own facts among it."""
    data = _data(480)
    config = MitigateConfig(store=str(tmp_path), members=60, label_noise=0.0)
    split = mitigate.prepare(data, config, 0)
    ours = NeighbourTrainer()

    class Theirs(NeighbourTrainer):
        def signature(self) -> Mapping[str, object]:
            return {"trainer": "theirs", **self.params}

    kept = [models.kept_at("undefended", split, one, config, shadows=True) for one in (ours, Theirs(), NeighbourTrainer())]  # type: ignore[arg-type]
    assert kept[0] == kept[2] != kept[1]
    plan = draw.plan_for(data, ShadowStudyConfig(shadows=4, targets=1, members=60))
    climbs = [study.climbs_at(data, plan, one, ShadowStudyConfig(store=str(tmp_path))) for one in (ours, Theirs())]  # type: ignore[arg-type]
    assert climbs[0] != climbs[1]
