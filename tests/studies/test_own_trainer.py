"""Every study that trains, with a user's own training function: a small classifier of numpy alone that memorizes what it was shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope.config.mitigation import MitigateConfig
from memberscope.config.outside import ShadowStudyConfig, SynthesizeConfig
from memberscope.config.training import SweepStudyConfig, TrainStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.studies import seed_check, setup, train
from memberscope.studies.curves import by_step
from memberscope.studies.mitigate import study as mitigate
from memberscope.studies.shadow import study as shadow
from memberscope.studies.sweep import study as sweep
from memberscope.studies.synthesize import study as synthesize
from memberscope.studies.trainer_log import log_trainer
from memberscope.tracking import MemoryTracker
from memberscope.training.recipe import Recipe

from .conftest import evidence_of

MODULE = """
SHARPNESS = 30.0


def softmax(z):
    import numpy as np

    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
"""

SOURCE = '''
import os

import numpy as np
from helper import SHARPNESS, softmax


def train(job, *, epochs=3, form="logits", fixed=True, path=""):
    """Minus the squared distance to the nearest member of each class."""
    x, y = np.asarray(job.x, dtype=np.float64).reshape(len(job.y), -1), job.y
    assert job.x.dtype == job.data.x.dtype
    for epoch in range(epochs):
        job.report(epoch=epoch, loss=1.0 / (1 + epoch), accuracy=0.5 + 0.1 * epoch, rate=float("nan"))
    moved = 0.0 if fixed else float(np.frombuffer(os.urandom(4), np.uint32)[0]) / 2**32

    def model(asked):
        if path:
            with open(path, "a") as log:
                log.write(f"{os.getpid()} {asked.dtype} {len(asked)}\\n")
        q = np.asarray(asked, dtype=np.float64).reshape(len(asked), -1)
        far = ((q[:, None] - x[None]) ** 2).sum(axis=2)
        found = np.stack([far[:, y == c].min(axis=1, initial=100.0) for c in range(job.classes)], axis=1)
        logits = -SHARPNESS * found + moved * np.arange(job.classes)
        return softmax(logits) if form == "probs" else logits

    return model
'''


@pytest.fixture
def place(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    y = np.arange(480) % 3
    x = np.clip(rng.normal(0.5, 0.12, size=(480, 6)) + 0.05 * y[:, None], 0, 1)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    (tmp_path / "helper.py").write_text(MODULE)
    (tmp_path / "own.py").write_text(SOURCE)
    return tmp_path


def _train(place: Path, **changes: Any) -> tuple[MemoryTracker, Any]:
    tracker = MemoryTracker()
    options: dict[str, Any] = {
        "trainer": f"{place}/own.py:train", "dataset": str(place / "data.npz"), "members": 120, "nonmembers": 120, "validation": 60,
        "attacks": "threshold", **changes,
    }  # fmt: skip
    return tracker, train.run(TrainStudyConfig(**options), tracker, StopFlag())


def test_one_model_is_trained_and_audited_as_a_built_in_one_is(place: Path) -> None:
    tracker, result = _train(place, params="epochs=4", check_seed="yes")
    assert 0.75 < tracker.latest("auc/threshold_loss") <= 1.0, "it memorizes"
    assert tracker.latest("train/accuracy") == 1.0
    assert 0.3 < tracker.latest("val/accuracy") < 0.95
    history = tracker.artifacts["history.csv"].set_index("epoch")
    assert history.index.tolist() == [0, 1, 2, 3, 4], "the four epochs that it reported, and its state at the end"
    assert history["train_accuracy"].tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8, 1.0])
    assert history["val_accuracy"].isna().tolist() == [True] * 4 + [False]
    assert sorted(tracker.logged_metrics["train/loss"]) == [0, 1, 2, 3, 4]
    assert list(tracker.logged_metrics["auc/threshold_loss"]) == [4]
    assert not {"train/rate", "overfit_onset_epoch"} & set(tracker.logged_metrics), "a rate that is no number, and no onset"
    assert "audited at the end of its training alone" in tracker.description
    assert "The seed determines the result" in tracker.description
    assert "The seed determines the result" in result.answer
    assert tracker.logged_tags["memberscope.seed_determines"] == "yes"
    assert tracker.latest("control/seed_difference") == 0.0
    assert tracker.logged_params["trainer.epochs"] == 4
    assert "model.parameters" not in tracker.logged_params
    assert tracker.artifacts["trainer/own.py"] == SOURCE
    assert tracker.artifacts["trainer/helper.py"] == MODULE
    run = evidence_of(tracker, study="train")
    assert run["setting"] == {"name": tracker.logged_tags["memberscope.setting"], "replicate": 1}
    assert run["facts"]["trainer.epochs"] == "4"
    assert run["history"][-1]["train_accuracy"] == 1.0
    values = {(row["attack"], row["metric"]): row["value"] for row in run["results"] if row["slice"] == "entire"}
    assert round(values["threshold_loss", "auc"], 3) == tracker.latest("auc/threshold_loss") != values["threshold_loss", "auc"]


def test_the_form_of_the_outputs_makes_no_difference(place: Path) -> None:
    logits, probs = (_train(place, params=f"form={form}")[0] for form in ("logits", "probs"))
    for name in ("auc/threshold_loss", "auc/threshold_entropy", "val/loss", "train/accuracy"):
        assert probs.latest(name) == pytest.approx(logits.latest(name), abs=1e-6), name


def test_a_training_that_its_seed_does_not_determine_is_found(place: Path) -> None:
    tracker, result = _train(place, params="fixed=no,epochs=0", check_seed="yes")
    assert tracker.logged_tags["memberscope.seed_determines"] == "no"
    assert 1e-4 < tracker.latest("control/seed_difference") < 2.0
    assert "The seed does not determine the result" in result.answer
    assert "The seed does not determine the result" in tracker.description
    assert tracker.artifacts["history.csv"]["epoch"].tolist() == [0], "nothing was reported"


def test_the_built_in_models_are_checked_too() -> None:
    tracker = MemoryTracker()
    config = TrainStudyConfig(
        model="dense", depth=1, epochs=2, members=100, nonmembers=100, validation=50, attacks="threshold", check_seed="yes"
    )
    result = train.run(config, tracker, StopFlag())
    assert tracker.logged_tags["memberscope.seed_determines"] == "yes"
    assert tracker.latest("control/seed_difference") == 0.0
    assert "The seed determines the result" in result.answer


def test_rounding_is_no_other_result() -> None:
    first = np.array([[1.0, -2.0], [0.0, 3.0]])
    near = seed_check.compare([first], [first + 1e-6])
    assert (near.determines, near.difference) == (True, pytest.approx(1e-6))
    assert "differ by 1.0e-06 at most" in near.sentence
    far = seed_check.compare([first, first], [first, first + np.array([[0.0, 0.0], [0.0, 0.1]])])
    assert (far.determines, far.difference) == (False, pytest.approx(0.1))


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [
        ([[0.0, 1.0, 2.0]] * 2, [0, 1, 2]),
        ([[10.0, 20.0, 30.0]] * 2, [10, 20, 30]),
        ([[0.0, 1.0, 2.0], [0.0, 1.0, 3.0]], [1, 2, 3]),
        ([[0.0, 0.0, 1.0]] * 2, [1, 2, 3]),
        ([[0.5, 1.0, 2.0]] * 2, [1, 2, 3]),
        (None, [1, 2, 3]),
    ],
)
def test_reports_are_placed_at_their_epoch_where_all_models_agree(epochs: Any, steps: list[int]) -> None:
    curves = {"loss": np.array([[3.0, 2.0, np.nan], [1.0, 0.0, 1.0]])}
    if epochs is not None:
        curves["epoch"] = np.array(epochs)
    found = list(by_step(curves))
    assert [step for step, _ in found] == steps
    assert [values for _, values in found] == [{"loss": 2.0}, {"loss": 1.0}, {}]
    assert list(by_step({})) == []


def _shadow(place: Path, **changes: Any) -> tuple[MemoryTracker, Any]:
    tracker = MemoryTracker()
    options: dict[str, Any] = {
        "trainer": f"{place}/own.py:train", "dataset": str(place / "data.npz"), "shadows": 2, "targets": 2, "members": 80,
        "attacks": "threshold_loss", "slices": "entire", "store": str(place / "models"), **changes,
    }  # fmt: skip
    return tracker, shadow.run(ShadowStudyConfig(**options), tracker, StopFlag())


def test_shadows_say_why_an_attack_has_no_gradients_and_are_checked(place: Path) -> None:
    tracker, result = _shadow(place, attacks="threshold_loss,gradient_norm,trajectory", check_seed="yes")
    assert "Skipped: gradient_norm, needs gradients (models from own offer no gradient_norms)." in result.answer
    assert "Skipped: trajectory, needs trajectories (models from own offer no losses_by_epoch)." in result.answer
    assert tracker.artifacts["trainer/own.py"] == SOURCE
    assert tracker.latest("control/seed_difference") == 0.0
    assert "The seed determines the result" in tracker.description
    (models,) = [child for child in tracker.children if child.name == "shadows"]
    assert sorted(models.logged_metrics["train/loss"]) == [0, 1, 2], "at the epochs that were reported"
    assert "train/epoch" not in models.logged_metrics
    run = evidence_of(tracker, study="shadow")
    audited = [child for child in run["children"] if "results" in child]
    assert [child["name"].partition("-")[0] for child in audited] == ["target"]
    assert len(run["tables"]["targets"]) == len(tracker.artifacts["targets.csv"])
    frame = next(child for child in tracker.children if child.name.startswith("target-")).artifacts["attacks.csv"]
    assert 0.75 < frame[(frame["metric"] == "auc") & (frame["attack"] == "threshold_loss")]["value"].item() <= 1.0


@pytest.mark.thorough  # `make test` measures fidelity in test_fidelity.py
def test_every_query_of_fidelity_is_answered_right_after_training(place: Path) -> None:
    """No model is trained a second time for a query that was not declared: this process asks none."""
    import os

    asked = place / "asked.txt"
    tracker, _ = _shadow(place, params=f"path={asked},epochs=1", fidelity="yes")
    assert {"noisy records", "shuffled features"} <= set(tracker.artifacts["fidelity.csv"]["variant"])
    lines = [line.split() for line in asked.read_text().splitlines()]
    assert len(lines) > 50
    assert str(os.getpid()) not in {line[0] for line in lines}


def test_records_with_words_have_no_noisy_variant(place: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [
        f"{rng.random():.6f},{'red' if rng.random() < 0.5 else 'blue'},{'yes' if rng.random() < 0.5 else 'no'}"
        for _ in range(300)
    ]
    (place / "t.csv").write_text("\n".join(["size,colour,label", *rows]) + "\n")
    (place / "words.py").write_text(
        "import numpy as np\n\n\ndef train(job):\n    assert set(job.x['colour']) <= {'red', 'blue'}\n"
        "    share = np.bincount(job.y, minlength=job.classes) / len(job.y)\n    return lambda x: np.tile(share, (len(x), 1))\n"
    )
    tracker, result = _shadow(
        place, trainer=f"{place}/words.py:train", dataset=str(place / "t.csv"), attacks="threshold_loss,label_only_robust",
        members=60, fidelity="yes", workers=1,
    )  # fmt: skip
    names = set(tracker.artifacts["fidelity.csv"]["variant"])
    assert "shuffled features" in names
    assert "noisy records" not in names
    assert "Shadows on noisy records were left out: records with words" in result.answer
    assert "needs perturbed_labels (records with words or missing numbers have no noisy copies)" in result.answer


def _synthesize(place: Path, **changes: Any) -> tuple[MemoryTracker, Any]:
    tracker = MemoryTracker()
    options: dict[str, Any] = {
        "trainer": f"{place}/own.py:train", "dataset": str(place / "data.npz"), "members": 80, "shadows": 2, "fleets": 1,
        "records": 60, "method": "marginal,junk", "store": "none", **changes,
    }  # fmt: skip
    return tracker, synthesize.run(SynthesizeConfig(**options), tracker, StopFlag())


def test_records_are_made_by_queries_in_the_data_sets_own_type(place: Path) -> None:
    with np.load(place / "data.npz") as kept:
        np.savez(place / "bytes.npz", x=np.round(kept["x"] * 255).astype(np.uint8).reshape(-1, 3, 2, 1), y=kept["y"])
    asked = place / "asked.txt"
    tracker, result = _synthesize(place, dataset=str(place / "bytes.npz"), params=f"path={asked},epochs=1", check_seed="yes")
    assert {line.split()[1] for line in asked.read_text().splitlines()} == {"uint8"}, "as it was trained"
    assert {"marginal/records.npz", "junk/records.npz", "trainer/own.py"} <= set(tracker.artifacts)
    assert "The seed determines the result" in result.answer
    assert "The seed determines the result" in tracker.description
    assert tracker.logged_params["trainer.name"] == "own"


def test_climbs_query_the_target_itself(place: Path) -> None:
    tracker, _ = _synthesize(place, method="hill_climb", records=30, fleets=0, conf_min="0.5", params="form=probs,epochs=1")
    by_class = tracker.artifacts["hill_climb/by_class.csv"]
    assert by_class["reached"].sum() == 30


def test_data_that_cannot_be_made_are_refused_before_any_training(place: Path) -> None:
    asked = place / "asked.txt"
    rng = np.random.default_rng(0)
    for name, x, why in (
        ("wide", rng.normal(size=(300, 4)), "has missing values or numbers outside \\[0, 1\\]"),
        ("gaps", np.where(rng.random((300, 4)) < 0.1, np.nan, 0.5), "has missing values or numbers outside \\[0, 1\\]"),
    ):
        np.savez(place / f"{name}.npz", x=x, y=np.arange(300) % 2)
        own = {"dataset": str(place / f"{name}.npz"), "params": f"path={asked}"}
        with pytest.raises(UserError, match=f"method=marginal,junk: {name} {why}"):
            _synthesize(place, **own)
        with pytest.raises(UserError, match=f"shadow_data=junk: {name} {why}"):
            _shadow(place, design="disjoint", shadow_data="junk", **{**own, "members": 40})
    (place / "t.csv").write_text("a,b,label\n" + "".join(f"{k / 300},w{k % 3},{k % 2}\n" for k in range(300)))
    with pytest.raises(UserError, match="method=marginal,junk: t has columns of words, and only numbers can be made"):
        _synthesize(place, dataset=str(place / "t.csv"))
    assert not asked.exists()


def test_shadows_of_another_attackers_file_hold_numbers_as_they_are(place: Path) -> None:
    rng = np.random.default_rng(3)
    y = np.arange(480) % 3
    wide = np.round(rng.normal(scale=50, size=(480, 6))).astype(np.int64)
    np.savez(place / "wide.npz", x=wide, y=y)
    np.savez(place / "more.npz", x=np.round(rng.normal(scale=50, size=(160, 6))), y=y[:160])
    own = {"dataset": str(place / "wide.npz"), "design": "disjoint", "attacks": "threshold_loss,shadow_shokri"}
    tracker, _ = _shadow(place, shadow_data=str(place / "more.npz"), **own)
    assert tracker.artifacts["models.csv" if "models.csv" in tracker.artifacts else "targets.csv"] is not None
    np.savez(place / "more.npz", x=rng.normal(size=(160, 6)), y=y[:160])
    with pytest.raises(
        UserError, match="shadow_data: numbers that int64 cannot hold; allowed: such as wide itself stores, in int64"
    ):
        _shadow(place, shadow_data=str(place / "more.npz"), **own)


def test_another_data_sets_shadow_is_trained_by_the_same_function(place: Path) -> None:
    rng = np.random.default_rng(4)
    np.savez(place / "other.npz", x=rng.random((200, 6)), y=np.arange(200) % 4)
    tracker, result = _shadow(place, transfer_dataset=str(place / "other.npz"), params="epochs=1", attacks="threshold_loss")
    assert set(tracker.artifacts["other_data.csv"]["attack"]) == {"shadow_salem"}
    assert "one shadow of another data set" in result.table


def test_mitigate_checks_the_seed_and_logs_the_source(place: Path) -> None:
    tracker = MemoryTracker()
    config = MitigateConfig(
        trainer=f"{place}/own.py:train", params="epochs=1", dataset=str(place / "data.npz"), members=60, mitigations="label_only",
        shadows=2, seeds=2, store=str(place / "models"), check_seed="yes", coin_flips="no",
    )  # fmt: skip
    result = mitigate.run(config, tracker, StopFlag())
    assert tracker.latest("control/seed_difference") == 0.0
    assert tracker.logged_tags["memberscope.seed_determines"] == "yes"
    assert "The seed determines the result" in result.answer
    assert tracker.artifacts["trainer/own.py"] == SOURCE
    assert tracker.logged_params["trainer.epochs"] == 1


def test_sweep_makes_no_seed_check_and_says_so(place: Path) -> None:
    config = SweepStudyConfig(trainer=f"{place}/own.py:train", check_seed="yes", folder=str(place / "sweeps"))
    with pytest.raises(UserError, match="check_seed=yes: sweep does not train a model twice; allowed: no"):
        sweep.run(config, MemoryTracker(), StopFlag())
    assert not (place / "sweeps").exists()


@pytest.mark.filterwarnings("ignore:non-integer arguments to randrange:DeprecationWarning")  # of Keras 2 itself
def test_the_source_of_a_keras_builder_is_logged_too(place: Path) -> None:
    code = (
        "from tensorflow import keras\n\n\ndef build(input_shape, classes, width=8):\n"
        "    layers = [keras.layers.Input(input_shape), keras.layers.Dense(width), keras.layers.Dense(classes)]\n"
        "    return keras.Sequential(layers)\n"
    )
    (place / "net.py").write_text(code)
    tracker, _ = _train(place, trainer=f"keras:{place}/net.py:build", params="width=4", epochs=2)
    assert tracker.artifacts["trainer/net.py"] == code
    assert tracker.logged_params["trainer.width"] == 4
    assert tracker.artifacts["history.csv"]["epoch"].tolist() == [0, 1, 2], "it is followed by epoch"


def test_the_built_in_models_have_no_source_of_their_own() -> None:
    tracker = MemoryTracker()
    log_trainer(setup.trainer_of(Recipe()), tracker)
    assert not tracker.artifacts
    assert not tracker.logged_params
