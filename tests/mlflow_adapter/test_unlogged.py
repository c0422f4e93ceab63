"""With MLflow's autologging on, the models that an audit fits stay out of the user's experiment, and the user's own stay in it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.utils import autologging_utils

from memberscope import Predictions, run_audit
from memberscope.attacks import registry
from memberscope.audit.blind import blind_control
from memberscope.audit.dispersion import class_dispersion
from memberscope.audit.null import refitted_null
from memberscope.evidence import Evidence
from memberscope.predictions import ShadowPredictions
from memberscope.synthesis.card import recognition
from memberscope.unlogged import unlogged

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(160, 70)), np.arange(160) % 2
LOGITS = RNG.normal(size=(160, 2))
MEMBER = np.arange(160) % 4 < 2
TARGET = Predictions(logits=LOGITS, labels=Y, member=MEMBER, inputs=X)
POPULATION = ShadowPredictions(logits=LOGITS[None] + 0.1, labels=Y, member=np.zeros((1, 160), bool))
EVIDENCE = Evidence(target=TARGET, population=POPULATION, population_inputs=X)
OURS: dict[str, Callable[[], Any]] = {
    "trained attacks": lambda: run_audit(TARGET, attacks="trained_lr,trained_rf"),
    "one attack by itself": lambda: registry.get("trained_rf").score(TARGET_EVIDENCE, seed=0),
    "quantile regression": lambda: registry.get("quantile").score(EVIDENCE, seed=0),
    "blind control": lambda: blind_control(TARGET, seed=0),
    "refitted null": lambda: refitted_null(TARGET_EVIDENCE, registry.get("trained_lr"), seed=0, draws=2),
    "dispersion": lambda: class_dispersion(X[:, :5], Y, seed=0),
    "recognition": lambda: recognition(X, Y, (X, Y), seed=0),
}  # fmt: skip
TARGET_EVIDENCE = Evidence(target=TARGET)


@pytest.fixture
def autologged(laboratory: Any) -> Iterator[Callable[[], int]]:
    """Autologging of scikit-learn on; how many runs the user's experiment holds."""
    import mlflow.sklearn

    name = "mine"
    found = mlflow.get_experiment_by_name(name)
    experiment = found.experiment_id if found else mlflow.create_experiment(name, (laboratory.folder / name).as_uri())
    mlflow.set_experiment(experiment_id=experiment)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.sklearn.autolog(silent=True, log_datasets=False, log_models=False)

    def kept() -> int:
        return len(mlflow.search_runs([experiment]))

    yield kept
    mlflow.sklearn.autolog(disable=True)
    mlflow.tracking.fluent._active_experiment_id = None


def fit_own() -> None:
    from sklearn.tree import DecisionTreeClassifier

    DecisionTreeClassifier(max_depth=2).fit(X[:, :3], Y)


@pytest.mark.parametrize("case", sorted(OURS))
def test_what_we_fit_leaves_nothing_behind(autologged: Callable[[], int], case: str) -> None:
    before = autologged()
    OURS[case]()
    assert autologged() == before
    assert autologging_utils._AUTOLOGGING_GLOBALLY_DISABLED is False


def test_a_users_own_model_is_logged_before_and_after(autologged: Callable[[], int]) -> None:
    runs = autologged()
    fit_own()
    assert autologged() == runs + 1
    run_audit(TARGET, attacks="trained_lr")
    fit_own()
    assert autologged() == runs + 2


def test_a_users_active_run_keeps_its_params(autologged: Callable[[], int]) -> None:
    with mlflow.start_run() as run:
        run_audit(TARGET, attacks="trained_rf")
    data = mlflow.get_run(run.info.run_id).data
    assert (data.params, data.metrics) == ({}, {})


def test_autologging_stays_off_until_the_last_block_ends() -> None:
    """In whatever order: two audits in two threads must not switch it on for each other, nor leave it off."""
    first, second = unlogged(), unlogged()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert autologging_utils._AUTOLOGGING_GLOBALLY_DISABLED
    second.__exit__(None, None, None)
    assert autologging_utils._AUTOLOGGING_GLOBALLY_DISABLED is False


def test_a_flag_that_a_user_set_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autologging_utils, "_AUTOLOGGING_GLOBALLY_DISABLED", True)
    with pytest.raises(ZeroDivisionError), unlogged():
        1 / 0  # noqa: B018 - it is restored after an error, too
    assert autologging_utils._AUTOLOGGING_GLOBALLY_DISABLED


def test_many_threads_leave_it_as_it_was() -> None:
    def work() -> None:
        for _ in range(200):
            with unlogged():
                assert autologging_utils._AUTOLOGGING_GLOBALLY_DISABLED

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert autologging_utils._AUTOLOGGING_GLOBALLY_DISABLED is False
