"""Any model that MLflow can load, ready to be asked. Loading a model runs its code: load only what you would run.

MLflow's common interface calls a scikit-learn model's ``predict``, which returns labels. The model beneath has ``predict_proba``, so that
is asked where there is one (of scikit-learn and what follows it: XGBoost's and LightGBM's classifiers, pipelines, searches).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.errors import UserError, nearest
from memberscope.redact import redact

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

ALLOWED = "models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN_ID/PATH, or the path of a logged model"


def load_model(uri: str, *, prefer_labels: bool = False) -> Model:
    """Load the model at an address of MLflow's.

    Args:
        uri: see `ALLOWED`.
        prefer_labels: ask MLflow's ``predict`` even where the model has ``predict_proba``.

    Raises:
        UserError: the address does not resolve, the model does not load here, or a library that it needs is absent.
    """
    from mlflow import pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.models import get_model_info

    if not uri:
        raise UserError(f"model_uri=: missing; allowed: {ALLOWED}")
    try:
        info = get_model_info(uri)
    except (MlflowException, OSError, ValueError) as error:
        if "values to unpack" in str(error):  # what comes of an address that MLflow cannot split
            raise UserError(f"model_uri={uri}: not an address of a model; allowed: {ALLOWED}") from None
        raise UserError(f"model_uri={uri}: does not resolve ({_line(error)}); allowed: {ALLOWED}") from None
    except ImportError as error:
        raise UserError(
            f"model_uri={uri}: its store needs {error.name or _line(error)}, which is not installed here; allowed: {ALLOWED}"
        ) from None
    except Exception as error:  # the client of a foreign store: whatever it raises, the user's line is the same
        raise UserError(
            f"model_uri={uri}: does not resolve ({type(error).__name__}: {_line(error)}); allowed: {ALLOWED}"
        ) from error
    if "python_function" not in info.flavors:
        raise UserError(
            f"model_uri={uri}: has flavours {', '.join(info.flavors)}; allowed: a model with the python_function flavour"
        )
    flavour = next((name for name in info.flavors if name != "python_function"), "python_function")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = pyfunc.load_model(uri, suppress_warnings=True)  # MLflow takes half a second to check versions
    except ModuleNotFoundError as error:
        raise UserError(f"model_uri={uri}: a {flavour} model that needs {error.name}, which is not installed here") from None
    except Exception as error:  # a foreign model's own code: whatever it raises, the user's line is the same
        raise UserError(f"model_uri={uri}: does not load ({type(error).__name__}: {_line(error)})") from error
    facts = {"uri": uri, "flavour": flavour, "uuid": str(info.model_uuid or ""), "run_id": str(info.run_id or "")}
    return wrap(loaded, facts={name: value for name, value in facts.items() if value}, prefer_labels=prefer_labels)


def wrap(loaded: Any, *, facts: Mapping[str, str], prefer_labels: bool = False) -> Model:
    """A loaded ``PyFuncModel``, asked through the better of its two doors."""
    native = _native(loaded)
    classes = getattr(native, "classes_", None)
    listed = None if classes is None else list(classes)
    fitted = tuple(str(name) for name in getattr(native, "feature_names_in_", ()))
    metadata = getattr(loaded, "metadata", None)
    schema = metadata.get_input_schema() if metadata is not None else None
    if schema is not None and not schema.is_tensor_spec() and [spec.name for spec in schema.inputs] == [None]:
        schema = (
            None if type(schema.inputs[0].type).__name__ == "AnyType" else schema
        )  # what MLflow writes if it cannot infer one
    if not prefer_labels and listed is not None and hasattr(native, "predict_proba"):
        return Model(
            ask=native.predict_proba, schema=schema, fitted=fitted, classes=listed, facts={**facts, "method": "predict_proba"}
        )
    return Model(ask=loaded.predict, schema=schema, fitted=fitted, classes=listed, facts={**facts, "method": "predict"})


def _native(loaded: Any) -> Any:
    """The model beneath MLflow's wrapper, or None where a flavour does not show it."""
    try:
        return loaded.get_raw_model()
    except (AttributeError, NotImplementedError):  # an older wrapper has no such method, a flavour may not implement it
        return None


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model to be asked; see `memberscope.tracking.LoadedModel`.

    Attributes:
        ask: takes prepared records.
        schema: the input schema of its signature; None without one.
        fitted: names of the columns that the underlying model was fitted on, if it gives them; they select columns where no signature does.
        classes: labels of the columns, if the model gives them.
        facts: what is known of it.
    """

    ask: Any
    schema: Any
    classes: Sequence[Any] | None
    facts: Mapping[str, str]
    fitted: tuple[str, ...] = ()

    @property
    def columns(self) -> Mapping[str, str] | None:
        """See `memberscope.tracking.LoadedModel.columns`."""
        if self.schema is None:
            return dict.fromkeys(self.fitted, "") or None
        if self.schema.is_tensor_spec() or any(spec.name is None for spec in self.schema.inputs):
            return None
        return {str(spec.name): str(getattr(spec.type, "name", "")) for spec in self.schema.inputs}

    def prepare(self, x: NDArray[Any] | pd.DataFrame, *, name: str) -> tuple[Any, str]:
        """Records as the signature wants them, and a note on what was done to that end (empty where nothing was).

        Of tables, the signature's columns are taken in its order and cast to its types. Arrays are cast to its type, and if it names
        columns, theirs get these names in order. Whole numbers and booleans are cast where no value changes, floats to the precision of the
        type. Without a signature, a table is reduced to the columns that the model was fitted on, if it names them; anything else stays as
        it is.

        Raises:
            UserError: missing columns, text in place of numbers, numbers that do not fit the signature's type, or a different shape.
        """
        from mlflow.types.schema import AnyType

        if self.schema is None or all(isinstance(spec.type, AnyType) and spec.name is None for spec in self.schema.inputs):
            return self._fitted(x, name)  # the latter is what MLflow logs if it could not infer a signature
        if self.schema.is_tensor_spec():
            return self._tensor(x, name)
        return self._columns(x, name)

    def check_columns(self, columns: Sequence[str], *, name: str) -> None:
        """See `memberscope.tracking.LoadedModel.check_columns`."""
        wanted, where = list(self.fitted), "that the model was fitted on"
        if self.schema is not None:
            specs = [] if self.schema.is_tensor_spec() else list(self.schema.inputs)
            wanted = [str(spec.name if spec.name is not None else place) for place, spec in enumerate(specs) if spec.required]
            where = "of the model's signature"
        missing = [column for column in wanted if column not in columns]
        if missing:
            count = len(wanted) if self.schema is None else len(self.schema.inputs)
            hint = nearest(missing[0], map(str, columns))
            raise UserError(f"{name}: lacks {len(missing)} of the {count} columns {where}: {_few(missing)}{hint}")

    def _fitted(self, x: NDArray[Any] | pd.DataFrame, name: str) -> tuple[Any, str]:
        """The columns of a table that the model was fitted on, in its order; anything else as it is."""
        if isinstance(x, np.ndarray) or not self.fitted:
            return x, ""
        self.check_columns(list(x.columns), name=name)
        return x[list(self.fitted)], ""

    def _tensor(self, x: NDArray[Any] | pd.DataFrame, name: str) -> tuple[Any, str]:
        specs = self.schema.inputs
        if len(specs) != 1:
            asked = ", ".join(str(spec.name) for spec in specs)
            raise UserError(
                f"model_uri={self.facts.get('uri', '')}: takes {len(specs)} tensors ({asked}); allowed: a model with one input"
            )
        spec, notes = specs[0], []
        if not isinstance(x, np.ndarray):
            text = [str(column) for column in x.columns if x[column].dtype.kind not in "fiub"]
            if text:
                raise UserError(
                    f"{name}: columns {', '.join(text[:8])} hold text, and the model's signature asks for a tensor of {spec.type}"
                )
            x = x.to_numpy()
            notes.append("columns of the table taken in its order")
        wanted = tuple(spec.shape)
        if len(wanted) == x.ndim + 1 > 3 and wanted[-1] in (1, -1):
            x = x[..., None]
            notes.append("a channel axis added to images that had none")
        if len(wanted) != x.ndim or any(
            ours != theirs for ours, theirs in zip(x.shape[1:], wanted[1:], strict=True) if theirs != -1
        ):
            raise UserError(f"{name}: records of shape {x.shape[1:]}; the model's signature asks for {wanted[1:]}")
        if x.dtype != spec.type:
            x, note = _cast(x, spec.type, name=name, column="")
            notes.append(f"{note[0]} cast to {spec.type}, {note[1]}")
        return ({spec.name: x} if spec.name else x), "; ".join(notes)

    def _columns(self, x: NDArray[Any] | pd.DataFrame, name: str) -> tuple[Any, str]:
        import pandas as pd

        specs = list(self.schema.inputs)
        names = [str(spec.name) if spec.name is not None else str(place) for place, spec in enumerate(specs)]
        notes = []
        if isinstance(x, np.ndarray):
            if x.ndim != 2 or x.shape[1] != len(specs):
                raise UserError(
                    f"{name}: records of shape {x.shape[1:]}; the model's signature asks for {len(specs)} columns: {_few(names)}"
                )
            x = pd.DataFrame(x, columns=names)
            notes.append("columns of the array named in the signature's order")
        self.check_columns(list(x.columns), name=name)
        extra = [str(column) for column in x.columns if column not in names]
        if extra:
            notes.append(f"columns that the model does not take left out: {_few(extra)}")
        frame = x[[column for column in names if column in x.columns]].copy()
        cast: dict[tuple[str, str, str], list[str]] = {}
        for column, spec in zip(names, specs, strict=True):
            if column not in frame.columns:
                continue
            wanted = np.dtype(spec.type.to_pandas())
            if wanted.kind in "fiu" and frame[column].dtype.kind not in "fiub":
                raise UserError(f"{name}: column {column} holds text; the model's signature asks for {spec.type.name}")
            if wanted.kind in "fiub" and frame[column].dtype.kind in "fiub" and frame[column].dtype != wanted:
                held, note = _cast(_plain(frame[column]), wanted, name=name, column=column)
                frame[column] = held
                cast.setdefault((*note, str(wanted)), []).append(column)
        notes += [f"{_few(part)}: {ours} cast to {theirs}, {how}" for (ours, how, theirs), part in cast.items()]
        return frame, "; ".join(notes)

    def predict(self, x: Any) -> Any:
        """The raw output for prepared records; UserError, with the model's own words, if it fails on them."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.ask(x)
        except Exception as error:  # a foreign model's own code: whatever it raises, the user's line is the same
            raise UserError(
                f"model_uri={self.facts.get('uri', '')}: the model fails on these records ({type(error).__name__}: {_line(_reason(error))})"
            ) from error


def _plain(column: pd.Series[Any]) -> NDArray[Any]:
    """A column of numbers as a plain numpy array, in which missing ones are NaN."""
    if isinstance(column.dtype, np.dtype):
        return np.asarray(column)
    dtype = np.float64 if column.isna().any() else column.dtype.numpy_dtype
    return np.asarray(column.to_numpy(dtype=dtype, na_value=np.nan))


def _cast(values: NDArray[Any], wanted: np.dtype[Any], *, name: str, column: str) -> tuple[NDArray[Any], tuple[str, str]]:
    """Numbers in the type that a signature asks for, their former type, and whether a value changed: floats may lose digits, nothing else.

    Raises:
        UserError: a number that does not fit an integer or boolean type, with its row and column.
    """
    if wanted.kind not in "iub":
        cast = values.astype(wanted)
        same = np.array_equal(cast, values, equal_nan=values.dtype.kind == "f")
        return cast, (str(values.dtype), "values unchanged" if same else f"values rounded to {wanted}")
    fits = np.isfinite(values)
    if wanted.kind != "b":
        low, high = np.iinfo(wanted).min, np.iinfo(wanted).max
        held = np.where(fits, values, 0).astype(object if values.dtype.kind in "iu" else values.dtype)
        fits &= (held >= low) & (held <= high)
    with np.errstate(invalid="ignore"):
        cast = np.where(fits, values, 0).astype(wanted)
    fits &= cast == values
    if not fits.all():
        place = tuple(int(part) for part in np.argwhere(~fits)[0])
        what = f"column {column} holds" if column else "records hold"
        raise UserError(
            f"{name}: {what} {values[place]} in row {place[0]}; the model's signature asks for {wanted}, which cannot hold it"
        )
    return cast, (str(values.dtype), "values unchanged")


def _reason(error: BaseException) -> BaseException:
    """The root cause: MLflow wraps it in an error of its own, whose text has all of the data before the reason."""
    from mlflow.exceptions import MlflowException

    while isinstance(error, MlflowException) and error.__context__ is not None:
        error = error.__context__
    return error


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f", and {len(names) - 8} more" if len(names) > 8 else "")


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in redact(str(error)).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
