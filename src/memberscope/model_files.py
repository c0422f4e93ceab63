"""Files with the outputs of several models, as one file or as a folder with one file for each model, in a known order of the models."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memberscope.checks import Array
from memberscope.errors import UserError, nearest
from memberscope.npz import read_npy
from memberscope.output_files import BESIDE, KINDS, NPY, ModelPart, OutputFile, natural, parts_of, read_outputs, suffix_of
from memberscope.predictions import Predictions
from memberscope.reading.files import is_folder, reason

TARGET = "target"
FOLDER = f"{KINDS}, or a folder with one file for each model"
MOST_MODELS = 10_000  # files of a folder


@dataclass(frozen=True, kw_only=True, eq=False)
class Audited:
    """The audited model's outputs, and what their file says about its classes.

    Attributes:
        predictions: the outputs.
        classes: the names of the classes 0, 1, ..., if the file names them.
        where: the beginning of errors, such as ``predictions=t.csv``.
        notes: how the file was read.
    """

    predictions: Predictions
    classes: tuple[str, ...] | None = None
    where: str = "predictions"
    notes: tuple[str, ...] = ()


def read_parts(option: str, path: str, target: Audited, notes: list[str]) -> list[ModelPart]:
    """The models of a file or folder, in the natural order of their names, or in that of the file's axis."""
    where = f"{option}={path}"
    if not is_folder(Path(path)):
        check_there(path, where)
        file = read_outputs(Path(path), where=where, classes=target.classes)
        _no_queries(file)
        notes += [file.note] if file.note else []
        return parts_of(file)
    files, shared = files_of(Path(path), where)
    parts = []
    for number, file_path in enumerate(files):
        file = read_outputs(file_path, where=f"{option}={file_path}", classes=target.classes)
        _no_queries(file)
        file = dataclasses.replace(file, arrays=_with_shared(file, shared, number, len(files)))
        found = parts_of(file)
        if len(found) > 1:
            raise UserError(f"{file.where}: {len(found)} models; allowed in a folder: one file for each model")
        parts.append(dataclasses.replace(found[0], where=file.where, name=file_path.stem))
        if number == 0 and file.note:
            notes.append(
                file.note.removesuffix(".") + (f"; {len(files) - 1} more files of the same form." if len(files) > 1 else ".")
            )
    return parts


def check_there(path: str, where: str) -> None:
    """Raise UserError, which says that a folder may be given as well, if there is nothing at the path."""
    try:
        os.stat(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read ({reason(error)}); allowed: {FOLDER}") from None


def _no_queries(file: OutputFile) -> None:
    if file.queries is not None:
        raise UserError(f"{file.where}: a column query, of copies of records; allowed: one row for each record and model")


def files_of(folder: Path, where: str) -> tuple[list[Path], dict[str, Array]]:
    """The files of the models, in the natural order of their names, and the arrays that lie beside all of them."""
    try:
        found = sorted(
            (path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: natural(path.name)
        )
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror}); allowed: {FOLDER}") from None
    known = {path.stem for path in found if "." not in path.stem}
    files: list[Path] = []
    shared: dict[str, Array] = {}
    for path in found:
        base, _, beside = path.stem.rpartition(".")
        if path.suffix.lower() == NPY and path.stem in BESIDE:
            shared[path.stem] = read_npy(path, where=f"{where}: {path.name}", allowed=f"a {NPY} file")
        elif not (path.suffix.lower() == NPY and beside in BESIDE and base in known):
            suffix_of(path, where=f"{where}: {path.name}", allowed=f"{KINDS} per model")
            files.append(path)
    if not files:
        raise UserError(f"{where}: no files; allowed: a folder with one file for each model, {KINDS}")
    if len(files) > MOST_MODELS:
        raise UserError(f"{where}: {len(files):,} files; allowed: at most {MOST_MODELS:,}")
    stems = Counter(path.stem for path in files)
    if twice := [path.name for path in files if stems[path.stem] > 1]:
        raise UserError(f"{where}: {twice[0]} and {twice[1]} are for the same model; allowed: one file for each model")
    _check_gaps([path.stem for path in files], where)
    return files, shared


def _check_gaps(names: Sequence[str], where: str) -> None:
    """Raise UserError where files are numbered and a number between the first and the last is missing."""
    matches = [re.fullmatch(r"(.*?)([0-9]{1,6})", name, flags=re.DOTALL) for name in names]
    numbered: dict[str, dict[int, str]] = {}
    for match in matches:
        if match is not None:
            numbered.setdefault(match[1], {})[int(match[2])] = match[0]
    for prefix, found in numbered.items():
        low, high = min(found), max(found)
        missing = [number for number in range(low, high) if number not in found]
        if missing and len(found) > 1 and len(missing) < len(found):
            width = len(found[low]) - len(prefix)
            shown = ", ".join(f"{prefix}{number:0{width}d}" for number in missing[:5])
            raise UserError(
                f"{where}: no file for {len(missing)} of the models from {found[low]} to {found[high]} ({shown}); allowed: one for each, "
                "or names without numbers"
            )


def _with_shared(file: OutputFile, shared: Mapping[str, Array], number: int, models: int) -> dict[str, Array]:
    """A model's arrays with those that lie beside all models; ``member.npy`` has a row for each."""
    found = dict(file.arrays)
    for name, array in shared.items():
        if name == "member" and array.ndim == 2:
            if len(array) != models:
                raise UserError(f"{file.where}: member{NPY} has {len(array)} rows for {models} files; allowed: a row for each")
            array = array[number]
        found.setdefault(name, array)
    return found


def arranged(parts: list[ModelPart], shadows: Sequence[str], where: str) -> list[ModelPart]:
    """The target first, then the shadows in their order.

    Args:
        parts: the models.
        shadows: the names of the shadows, empty ones if they have none but their place.
        where: the beginning of errors.
    """
    wanted = f"{TARGET} and the {len(shadows)} shadows" if shadows else TARGET
    if not parts[0].name:
        if shadows and len(parts) != 1 + len(shadows):
            raise UserError(
                f"{where}: {len(parts)} models; allowed: {wanted}, as a leading axis of arrays, in a column model, or in a folder"
            )
        return parts
    by_name = {part.name: part for part in parts}
    if TARGET not in by_name:
        raise UserError(f"{where}: no model {TARGET}, only {few(list(by_name))}; allowed: {wanted}")
    others = sorted(set(by_name) - {TARGET}, key=natural)
    if not shadows:
        return [by_name[TARGET]]
    order = list(shadows) if shadows[0] else others
    missing = [name for name in order if name not in by_name]
    extra = [name for name in others if name not in order]
    if missing or extra:
        what = f"no outputs of {few(missing)}" if missing else f"outputs of {few(extra)}, which are not shadows"
        hint = nearest(missing[0], extra) if missing else ""
        raise UserError(f"{where}: {what}; allowed: {wanted}, named as among the shadows{hint}")
    if len(others) != len(shadows):
        raise UserError(f"{where}: {len(others)} models besides {TARGET}; allowed: {wanted}")
    return [by_name[TARGET], *(by_name[name] for name in order)]


def few(names: Sequence[str], most: int = 5) -> str:
    """Names for a sentence: the first `most`, and how many more there are."""
    shown = ", ".join(name if len(name) <= 60 else f"{name[:57]}..." for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
