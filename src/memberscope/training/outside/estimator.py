"""Classes with scikit-learn's interface as training functions: parameters by name, a seed, and labels counted from 0 without gaps."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError, nearest
from memberscope.training.outside.answers import METHODS
from memberscope.training.trainer import TrainingJob

SEED = "random_state"
ROWS = ("sklearn", "xgboost", "lightgbm", "catboost")  # libraries whose models take rows of numbers
MISSPELT = 0.8  # similarity, 0 to 1, to a declared name at which an undeclared one is taken for a misspelling of it


def is_estimator(thing: Any) -> bool:
    """Whether something is a class with a method ``fit``."""
    return inspect.isclass(thing) and callable(getattr(thing, "fit", None))


def known_params(estimator: Any) -> tuple[str, ...] | None:
    """The names of the parameters that an estimator declares; None if it takes any and declares none."""
    arguments = _arguments(estimator)
    try:
        own = set(estimator().get_params())
    except Exception:  # a class that needs arguments, or has no such method
        if arguments is None or _takes_more(arguments):
            return None
        own = set()
    # CatBoost's get_params has only what was set
    return tuple(
        sorted(own | {item.name for item in arguments or () if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)})
    )


def refuses(estimator: Any, name: str) -> bool:
    """Whether an estimator does not take a parameter.

    One that takes further parameters by ``**kwargs``, as LightGBM's do, refuses only a name that looks like a misspelt one.
    """
    known = known_params(estimator)
    if known is None or name in known:
        return False
    return not _takes_more(_arguments(estimator) or ()) or bool(difflib.get_close_matches(name, known, n=1, cutoff=MISSPELT))


def _arguments(estimator: Any) -> Sequence[inspect.Parameter] | None:
    try:
        return tuple(inspect.signature(estimator).parameters.values())
    except (TypeError, ValueError):
        return None


def _takes_more(arguments: Sequence[inspect.Parameter]) -> bool:
    return any(item.kind is item.VAR_KEYWORD for item in arguments)


def check_estimator(spec: str, estimator: Any, params: Mapping[str, Any]) -> None:
    """Raise UserError for a class whose models cannot be audited, or parameters that it does not know."""
    if not any(hasattr(estimator, name) for name in METHODS):
        raise UserError(
            f"trainer={spec}: {estimator.__name__} has neither predict_proba nor decision_function; allowed: a classifier with one of them"
        )
    known = known_params(estimator) or ()
    for name in params:
        if refuses(estimator, name):
            raise UserError(
                f"params: {name} is not a parameter of {estimator.__name__}; allowed: {', '.join(known)}{nearest(name, known)}"
            )
    try:
        kind = _kind(estimator(**params))
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise UserError(
            f"trainer={spec}: {estimator.__name__} cannot be made with these parameters ({text}); allowed: others, by params"
        ) from None
    if kind not in ("", "classifier"):
        raise UserError(f"trainer={spec}: {estimator.__name__} is of the kind {kind}; allowed: a classifier")


def _kind(model: Any) -> str:
    """The kind that an estimator says it is, such as ``classifier`` or ``outlier_detector``; empty if it does not say."""
    kind = getattr(model, "_estimator_type", None)  # of scikit-learn before 1.8
    tags = getattr(model, "__sklearn_tags__", None)
    return str(kind or (getattr(tags(), "estimator_type", None) if callable(tags) else None) or "")


def train(estimator: Any, job: TrainingJob) -> Fitted:
    """Fit an estimator on a job's members."""
    params = dict(job.params)
    known = known_params(estimator)
    if SEED not in params and known is not None and SEED in known:
        params[SEED] = job.seed % 2**32
    present, y = np.unique(job.y, return_inverse=True)
    model = estimator(**params)
    flat = takes_rows(estimator)
    model.fit(as_rows(job.x) if flat else job.x, y.reshape(-1).astype(np.int64))
    return Fitted(model, present, flat=flat)


def takes_rows(estimator: Any) -> bool:
    """Whether a class is from a library whose models take only rows, so that images are passed to it as rows of their values."""
    return any(base.__module__.partition(".")[0] in ROWS for base in inspect.getmro(estimator))


def as_rows(x: Any) -> Any:
    """Arrays (n, ...) as (n, features); frames and rows unchanged."""
    return x.reshape(len(x), -1) if isinstance(x, np.ndarray) and x.ndim > 2 else x


class Fitted:
    """A fitted estimator whose columns are classes of the data set."""

    def __init__(self, model: Any, present: NDArray[np.int64], *, flat: bool) -> None:
        """Take the model, the classes that its labels 0, 1, ... stand for, and whether it takes rows alone."""
        order = np.asarray(getattr(model, "classes_", np.arange(len(present))))
        self.classes_ = present[order.astype(np.int64)]
        for name in METHODS:
            method = getattr(model, name, None)  # absent where a parameter has switched it off
            if callable(method):
                setattr(self, name, _on_rows(method) if flat else method)


def _on_rows(method: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: method(as_rows(x))
