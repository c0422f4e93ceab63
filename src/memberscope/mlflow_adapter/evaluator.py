"""Membership inference next to accuracy: the ``memberscope`` evaluator of ``mlflow.models.evaluate``.

>>> mlflow.models.evaluate(
...     model_uri, frame, targets="label", model_type="classifier",
...     evaluators=["default", "memberscope"], evaluator_config={"memberscope": {"member": was_trained_on}},
... )  # doctest: +SKIP

MLflow finds it through the entry point group ``mlflow.model_evaluator`` once the project is installed. Its configuration:

``member``
    (n,) booleans, one for each record of the evaluated data: was it in the training set? A Series is put in the order of the data frame's
    index. The same goes for ``record_ids`` and ``groups``.
``record_ids``
    (n,) numbers or text, to pair this audit with another. Without them, records are identified by what the model is shown of them and by
    their labels.
``groups``
    (n,) numbers or text, the person or other group that each record belongs to: the audit then counts groups.
``output``, ``allow_overlap``, and what `memberscope.config.AttackOptionsConfig` takes (``attacks``, ``slices``, ``seed``, ...)
    as in the entry point `audit`; ``attacks`` and ``slices`` are ``tfp`` and ``entire,class`` unless given.

With ``model=None`` the data's predictions are audited as they stand. MLflow's evaluation data are tables or (n, k) arrays: images go
through the entry point `audit`.
"""

from __future__ import annotations

from typing import Any

from mlflow.models.evaluation.base import EvaluationResult, ModelEvaluator

from memberscope.garbage import seldom_collected
from memberscope.unlogged import unlogged

NAME = "memberscope"


class MembershipEvaluator(ModelEvaluator):
    """The plugin; see the module."""

    name = NAME

    @classmethod
    def can_evaluate(cls, *, model_type: str | None, evaluator_config: dict[str, Any] | None, **kwargs: Any) -> bool:
        """Classifiers, once anything is configured: without membership there is nothing to infer."""
        return bool(evaluator_config) and model_type in (None, "classifier")

    @unlogged()
    @seldom_collected
    def evaluate(
        self,
        *,
        model_type: str | None,
        dataset: Any,
        run_id: str,
        evaluator_config: dict[str, Any] | None,
        model: Any = None,
        extra_metrics: Any = None,
        custom_artifacts: Any = None,
        predictions: str | None = None,
        **kwargs: Any,
    ) -> EvaluationResult:
        """Audit the data set and log the report to the run: metrics under the names of `audit`, artifacts in ``memberscope/``.

        Raises:
            UserError: the configuration, the records or the output do not fit; nothing is logged then.
        """
        # MLflow imports this module in every evaluation, even if only other evaluators are requested
        from memberscope.mlflow_adapter.evaluator_audit import audit_dataset

        return audit_dataset(dataset, run_id=run_id, config=evaluator_config or {}, model=model, predictions=predictions)
