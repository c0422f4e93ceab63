"""The outputs of models as tables, one row for each record: which column holds what is decided by its name.

========================  =================================================================================================
column                    what it holds
========================  =================================================================================================
``logit_CLASS``           a class's logit; one column for each class
``prob_CLASS``            a class's probability; one column for each class
``predicted``             the predicted class, a number or a word
``loss``, ``entropy``     cross-entropy of the label, and entropy of the prediction, in nats
``label``                 the record's class, as the columns of scores name it
``member``                whether the record is in the model's training set: true or false, 1 or 0
``record_id``, ``group``  the id of the record, and the person or group that it belongs to: whole numbers or words
``input_NAME``            a number that the model was given
``released``              true in all rows if the probabilities are those that a service publishes
``model``, ``query``      which model's output the row holds, and for which copy of the record, where there are several
any other                 a column to slice by; ``column_NAME`` becomes NAME
========================  =================================================================================================

Where no column has the name of a score, the columns that are named after the labels hold the scores, and their values tell whether they
are probabilities or logits. Where there are several forms of outputs, the most informative one is read: logits, probabilities, classes, in
this order, and losses last. An Arrow file may also have one column ``logits`` or ``probs`` of lists, see `memberscope.arrow_files`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope import scales
from memberscope.checks import Array, label_name
from memberscope.errors import UserError, nearest
from memberscope.reading import columns
from memberscope.reading.cells import COUNTED, Block, Cells
from memberscope.reading.columns import NUMBERS

if TYPE_CHECKING:
    import pandas as pd

PREFIXES = {"logit_": "logits", "prob_": "probs", "input_": "inputs", "column_": "columns"}
SINGLE = {
    "predicted": "predicted", "loss": "loss_nats", "loss_nats": "loss_nats", "entropy": "entropy_nats",
    "entropy_nats": "entropy_nats", "label": "labels", "labels": "labels", "member": "member", "record_id": "record_ids",
    "record_ids": "record_ids", "group": "groups", "groups": "groups", "released": "released", "input": "inputs",
    "model": "models", "query": "queries",
}  # fmt: skip
"""The names of columns that are one array each, with the fields of `Predictions` that they become."""
COPIES = "predicted_"
WRITTEN = {"labels": "label", "loss_nats": "loss", "entropy_nats": "entropy", "record_ids": "record_id", "groups": "group"}
SCORES = "logit_CLASS or prob_CLASS for each class, predicted, loss or entropy, or columns named after the labels"


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreTable:
    """A table of outputs, read.

    Attributes:
        where: the beginning of errors, such as ``predictions=t.csv``.
        arrays: fields of `Predictions` -> (rows, ...) arrays; ``column_NAME`` for a column to slice by.
        models: (rows,) the name of each row's model; None if there is no such column.
        queries: (rows,) the name of each row's copy of its record; None if there is no such column.
        classes: the names of the classes 0, 1, ..., if the columns of scores name them.
        seen: which columns were read as what, as phrases.
    """

    where: str
    arrays: Mapping[str, Array]
    models: Array | None
    queries: Array | None
    classes: tuple[str, ...] | None
    seen: tuple[str, ...]

    @property
    def note(self) -> str:
        """One sentence on how the table was read."""
        return f"{self.where}: {len(next(iter(self.arrays.values())))} rows; {'; '.join(self.seen)}."


# ------------------------------------------------------------------------------------------------------------------ reading


def read_scores(
    frame: pd.DataFrame, *, csv: bool, where: str, classes: Sequence[str] | None = None, labeled: bool = True,
    block: Block | None = None,
) -> ScoreTable:  # fmt: skip
    """Read a table.

    Args:
        frame: the table.
        csv: whether its cells are the text of a CSV file.
        where: the beginning of errors, such as ``predictions=t.csv``.
        classes: names of classes in the order in which columns with these names are wanted; None for the table's own order, which is that
            of their numbers if all names are whole numbers, else that of the columns.
        labeled: whether there must be labels where there are scores.
        block: columns of the table that lie side by side in one array, as an Arrow file's logits do.

    Raises:
        UserError: no column that can be read as scores, or no labels where the scores need them; a cell that its column must not have;
            a label that is no class.
    """
    table = Cells(frame=frame, csv=csv, where=where, block=block)
    if not len(frame):
        raise UserError(f"{where}: no records; allowed: at least one")
    named, groups, others = _sorted_out(table)
    arrays: dict[str, Array] = {}
    seen: list[str] = []
    label = named.get("labels")
    form = _scores(table, named, groups, others, arrays, seen, classes)
    order = form.classes
    if form.name != "predicted" and label is not None:
        arrays["labels"] = table.names(label)[0] if order is None else _numbered(table, label, order)
        seen.append(f"{label} as labels")
    if form.name in ("logits", "probs", "predicted") and label is None and labeled:
        raise UserError(
            f"{where}: no column label{nearest('label', others)}; its columns: {_few(list(frame.columns))}; allowed: a column label "
            "with the class of each record"
        )
    for name in ("record_ids", "groups"):
        if name in named:
            arrays[name] = table.names(named[name])[0]
            seen.append(f"{named[name]} as {name}")
    for name in ("member", "released"):
        if name in named:
            arrays[name] = table.flags(named[name])
            seen.append(f"{named[name]} as {name}")
    if "released" in arrays:
        if len(set(arrays["released"].tolist())) > 1:
            raise UserError(
                f"{where}: column {named['released']} is true in some rows and false in others; allowed: the same in all"
            )
        arrays["released"] = arrays["released"][:1]
    if "inputs" in named:
        arrays["inputs"] = table.numbers([named["inputs"]], gaps=True)[:, 0]
        seen.append(f"{named['inputs']} as inputs")
    elif groups["inputs"]:
        arrays["inputs"] = table.numbers(list(groups["inputs"]), gaps=True)
        seen.append(f"{_few(list(groups['inputs']))} as inputs")
    _slicing(table, groups["columns"], form.others, arrays, seen)
    models, queries = (
        np.array([columns.word(cell) for cell in table.names(named[name])[0].tolist()]) if name in named else None
        for name in ("models", "queries")
    )
    return ScoreTable(where=where, arrays=arrays, models=models, queries=queries, classes=order, seen=tuple(seen))


def read_predicted(frame: pd.DataFrame, *, csv: bool, where: str) -> dict[str, Array]:
    """Predicted classes of copies of records from a table with a column ``predicted_NAME`` for each copy.

    Returns:
        ``predicted``, (rows, copies) whole numbers or words, with the copies in the order of their columns; and ``record_ids`` if
        there is such a column.

    Raises:
        UserError: no such column, or a cell that is missing or no class.
    """
    table = Cells(frame=frame, csv=csv, where=where)
    copies = [name for name in frame.columns if name.startswith(COPIES) and len(name) > len(COPIES)]
    if not copies or not len(frame):
        raise UserError(
            f"{where}: no column {COPIES}NAME, or no row; its columns: {_few(list(frame.columns))}; allowed: such a column for each copy "
            "of the records"
        )
    found = {"predicted": np.stack(table.names(*copies), axis=1)}
    given = [name for name in ("record_id", "record_ids") if name in frame.columns]
    return {**found, "record_ids": table.names(given[0])[0]} if given else found


def _sorted_out(table: Cells) -> tuple[dict[str, str], dict[str, dict[str, str]], list[str]]:
    """Columns by their names: those that are one array each, field -> column; those by prefix, field -> column -> rest; and the others."""
    named: dict[str, str] = {}
    groups: dict[str, dict[str, str]] = {field: {} for field in PREFIXES.values()}
    others = []
    for name in table.frame.columns:
        if name in SINGLE:
            if SINGLE[name] in named:
                raise UserError(f"{table.where}: columns {named[SINGLE[name]]} and {name} mean the same; allowed: one of them")
            named[SINGLE[name]] = name
            continue
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix) and len(name) > len(prefix)), None)
        if prefix is None:
            others.append(name)
        else:
            groups[PREFIXES[prefix]][name] = name.removeprefix(prefix)
    return named, groups, others


@dataclass(frozen=True, kw_only=True)
class _Form:
    """The form of outputs that was read, the names of its classes, and the columns that are nothing else yet."""

    name: str
    classes: tuple[str, ...] | None
    others: list[str]


def _scores(
    table: Cells, named: Mapping[str, str], groups: Mapping[str, Mapping[str, str]], others: list[str],
    arrays: dict[str, Array], seen: list[str], classes: Sequence[str] | None,
) -> _Form:  # fmt: skip
    """Read the outputs into `arrays`."""
    label = named.get("labels")
    present = [form for form in ("logits", "probs") if groups[form]]
    present += [form for form in ("predicted", "loss_nats", "entropy_nats") if form in named]
    if not present:
        return _by_class_names(table, label, others, arrays, seen, classes)
    form = present[0]
    known: tuple[str, ...] | None = None
    if form in ("logits", "probs"):
        order = _in_order(groups[form], classes)
        known = tuple(order)
        arrays[form] = table.numbers(list(order.values()))
        seen.append(f"{_few(list(order.values()))} as {form}")
        unused = present[1:]
    elif form == "predicted":
        read = table.names(named[form], label) if label is not None else table.names(named[form])
        arrays[form] = read[0]
        seen.append(f"{named[form]} as predicted")
        if label is not None:
            arrays["labels"] = read[1]
            seen.append(f"{label} as labels")
        unused = present[1:]
    else:
        for name in present:
            arrays[name] = table.numbers([named[name]])[:, 0]
            seen.append(f"{named[name]} as {name}")
        unused = []
    if unused:
        left = [column for name in unused for column in ([named[name]] if name in named else groups[name])]
        seen.append(f"not read, since {form} say more: {_few(left)}")
    return _Form(name=form, classes=known, others=others)


def _in_order(found: Mapping[str, str], wanted: Sequence[str] | None) -> dict[str, str]:
    """Class -> column, in the order of the classes; `found` is column -> class."""
    by_class = {name: column for column, name in found.items()}
    if wanted is not None and set(wanted) == set(by_class):
        return {name: by_class[name] for name in wanted}
    if all(is_count(name) for name in by_class):
        return dict(sorted(by_class.items(), key=lambda item: int(item[0])))
    return by_class


def is_count(name: str) -> bool:
    """Whether a name is a whole number in its usual form."""
    return name.isascii() and name.isdigit() and len(name) < 19 and str(int(name)) == name


def _by_class_names(
    table: Cells,
    label: str | None,
    others: list[str],
    arrays: dict[str, Array],
    seen: list[str],
    classes: Sequence[str] | None,
) -> _Form:
    """Read the columns that are named after the labels."""
    lacking = UserError(
        f"{table.where}: no column of scores; its columns: {_few(list(table.frame.columns))}; allowed: {SCORES}"
    )
    known = set(classes or ())
    if label is not None:
        known |= {label_name(value) for value in np.unique(table.names(label)[0]).tolist()}
    found = [name for name in others if name in known]
    if len(found) < 2 or (missing := sorted(known - set(found))):
        if found and label is not None and len(known) > 1 and missing:
            raise UserError(
                f"{table.where}: columns are named after labels ({_few(found)}), but none {_few(missing)}; allowed: one for each"
            )
        raise lacking
    rest = [name for name in others if name not in found and _numeric(table, name)]
    values = table.numbers(found)
    scale = scales.recognized(values) if np.isfinite(values).all() else None
    if rest and classes is None and (scale is None or isinstance(scale, str) or scale.form != "probs"):
        wide = table.numbers([*found, *rest])  # perhaps a class that no record has
        whole = scales.recognized(wide) if np.isfinite(wide).all() else None
        if whole is None or isinstance(whole, str) or whole.form != "probs":
            raise UserError(
                f"{table.where}: columns are named after labels ({_few(found)}), and it is not clear whether {_few(rest)} are scores, too; "
                "allowed: logit_CLASS or prob_CLASS for scores, column_NAME for others"
            )
        found, values, scale, rest = [name for name in others if name in {*found, *rest}], wide, whole, []
    if scale is None or isinstance(scale, str):
        why = scale or "not all numbers are finite"
        raise UserError(f"{table.where}: columns {_few(found)}: {why}, in columns named logit_CLASS or prob_CLASS")
    order = _in_order({name: name for name in found}, classes)
    values = scale.values[:, [found.index(name) for name in order]]
    form = "probs" if scale.form == "labels" else scale.form
    arrays[form] = values
    seen.append(f"{_few(list(order))}, which are named after the labels, as {form} ({scale.why})")
    return _Form(name=form, classes=tuple(order), others=[name for name in others if name not in found])


def _numeric(table: Cells, name: str) -> bool:
    try:
        column = table.column(name)
    except UserError:
        return False
    return not column.missing.any() and column.misfit(NUMBERS) is None and column.kind in (None, NUMBERS)


def _numbered(table: Cells, label: str, classes: tuple[str, ...]) -> Array:
    """The labels as numbers of the classes; whole numbers are column numbers where the classes are named by words."""
    values = table.names(label)[0]
    return class_numbers(values, classes, where=f"{table.where}: column {label}")


def class_numbers(values: Array, classes: Sequence[str], *, where: str) -> Array:
    """Labels, or predicted classes, of any shape as the numbers of classes with these names.

    Whole numbers are the numbers themselves where the classes are named by words.

    Raises:
        UserError: a label that is no class; the message begins with `where`.
    """
    counted = values.dtype.kind in "iu" and values.size and all(name == str(index) for index, name in enumerate(classes))
    if counted and values.min() >= 0 and values.max() < len(classes):
        return values
    different, place = np.unique(values, return_inverse=True)
    number = {name: index for index, name in enumerate(classes)}
    if "True" in number and "False" in number:
        number |= {"1": number["True"], "0": number["False"]}
    elif set(number) == {"0", "1"}:
        number |= {"True": number["1"], "False": number["0"]}
    names = [label_name(value) for value in different.tolist()]
    by_place = different.dtype.kind in "iu" and not any(map(is_count, classes)) and not any(name in number for name in names)
    if by_place:
        number = {str(index): index for index in range(len(classes))}
    for index, name in enumerate(names):
        if name not in number:
            at = [int(axis) for axis in np.argwhere(place.reshape(values.shape) == index)[0]]
            allowed = list(number) if by_place else list(classes)
            raise UserError(
                f"{where} holds {name[:60]!r} in row {at[0]} {COUNTED}, which is not a class; allowed: {_few(allowed)}"
            )
    return np.array([number[name] for name in names], dtype=np.int64)[place].reshape(values.shape)


def _slicing(table: Cells, prefixed: Mapping[str, str], others: list[str], arrays: dict[str, Array], seen: list[str]) -> None:
    """Read the columns to slice by: numbers, booleans or words, of which a missing one becomes the word "missing"."""
    kept, left = [], []
    for column, name in [*prefixed.items(), *((name, name) for name in others)]:
        if f"column_{name}" in arrays:
            raise UserError(f"{table.where}: columns {name} and column_{name} mean the same; allowed: one of them")
        try:
            found = table.to_slice_by(column)
        except UserError:  # cells that are lists, bytes or spans of time, or very long
            left.append(column)
            continue
        arrays[f"column_{name}"] = found
        kept.append(column)
    if kept:
        seen.append(f"{_few(kept)} to slice by")
    if left:
        seen.append(f"not read, since slices need numbers or words: {_few(left)}")


def _few(names: Sequence[str]) -> str:
    """Names for a sentence: the first and the last of many."""
    short = [name if len(name) <= 60 else f"{name[:57]}..." for name in names]
    return ", ".join(short) if len(short) <= 6 else f"{', '.join(short[:3])}, ... {short[-1]} ({len(short)} in all)"


# ------------------------------------------------------------------------------------------------------------------ writing


def frame_of(arrays: Mapping[str, Array], *, csv: bool, where: str) -> pd.DataFrame:
    """The arrays of one model as a table that `read_scores` reads back; numbers of a CSV file as float64, which text holds exactly.

    Args:
        arrays: fields of `Predictions` -> arrays; ``column_NAME`` for a column to slice by, and ``model`` for the models of rows.
        csv: whether the table is for a CSV file.
        where: the beginning of errors.

    Raises:
        UserError: an array that no table can hold.
    """
    import pandas as pd

    n, found = len(arrays["member"]), dict[str, Array]()
    for name, array in arrays.items():
        if name == "released":
            found[name] = np.full(n, bool(array.reshape(())))
        elif name in ("logits", "probs"):
            found |= {f"{name[:-1]}_{number}": column for number, column in enumerate(array.T)}
        elif name == "inputs":
            if array.ndim > 2 or (array.ndim == 2 and not array.shape[1]) or array.dtype.kind not in "biuf":
                raise UserError(
                    f"{where}: inputs: {array.dtype} of shape {array.shape}; allowed in a table: numbers (n, features), or an .npz"
                )
            found |= (
                {"input": array} if array.ndim == 1 else {f"input_{number}": column for number, column in enumerate(array.T)}
            )
        else:
            found[WRITTEN.get(name, name)] = array
    return pd.DataFrame({name: _cells(name, array, csv, where) for name, array in found.items()})


def _cells(name: str, array: Array, csv: bool, where: str) -> Array:
    if array.dtype.kind not in "biufU" or array.ndim != 1 or array.dtype == np.longdouble:
        raise UserError(
            f"{where}: {name}: {array.dtype} of shape {array.shape}; allowed in a table: numbers or text, one for each record; or an .npz"
        )
    if array.dtype.kind == "U":
        words = array.astype(object)
        odd = [word for word in array.tolist() if (csv and (not word or "\0" in word)) or not _is_text(word)]
        if odd:
            raise UserError(f"{where}: {name}: {odd[0]!r}; allowed in a table: words that are not empty, or an .npz")
        return words
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array.astype(np.float64) if csv and array.dtype.kind == "f" else array


def _is_text(word: str) -> bool:
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def with_models(parts: Sequence[tuple[Any, Mapping[str, Array]]]) -> dict[str, Array]:
    """The arrays of several models, one after another, with the name of each row's model."""
    names = np.concatenate([np.full(len(arrays["member"]), name) for name, arrays in parts])
    rows = {field: np.concatenate([arrays[field] for _, arrays in parts]) for field in parts[0][1] if field != "released"}
    kept = {"released": parts[0][1]["released"]} if "released" in parts[0][1] else {}
    return {"model": names, **rows, **kept}
