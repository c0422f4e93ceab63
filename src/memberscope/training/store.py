"""A folder of finished models, each named by the signature of everything that determines its bytes, so that no outdated model is reused.

A file is named by the SHA-256 of the facts (data, index set, recipe, seed, versions), so a change of a split, a label or a library gives
another name. A file that is truncated, damaged or foreign is detected by the checksum inside it, and its model is trained again, with a
warning.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.checks import Array
from memberscope.errors import UserError
from memberscope.npz import read_npz, write_npz
from memberscope.reading.files import read_text
from memberscope.reading.text import json_object
from memberscope.secret import make_private

FORMAT = 2  # version of files and training code; to be raised when a change of either gives other bytes for the same facts
MOST_MANIFEST = 1 << 30  # bytes: it has the facts of every model
REUSE = ("auto", "force", "no")
_SIGNATURE, _CHECKSUM = "signature", "checksum"

Facts = Mapping[str, Any]  # plain values, as JSON holds them


def signature(facts: Facts) -> str:
    """SHA-256 of the facts as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def digest(array: Array) -> str:
    """SHA-256 of an array's type, shape and content."""
    sha = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


class Store:
    """Arrays by signature in one folder, which is created at the first write.

    Args:
        folder: the folder.
        reuse: ``"auto"``: finished models with the same signature are reused. ``"no"``: none are. ``"force"``: the folder must have been
            written with the same facts, otherwise `plan` raises; models that are missing nevertheless, since a run was stopped or a file
            is damaged, are trained.

    Raises:
        UserError: an unknown value of `reuse`.
    """

    def __init__(self, folder: str | Path, *, reuse: str = "auto") -> None:
        """Check `reuse`; the folder is not touched yet."""
        if reuse not in REUSE:
            raise UserError(f"reuse={reuse}: unknown; allowed: {', '.join(REUSE)}")
        self.folder, self.reuse = Path(folder), reuse

    def plan(self, label: str, common: Facts, each: Sequence[Facts]) -> list[str]:
        """Announce the models to be stored: writes ``LABEL.json``, for people and for the comparison of ``reuse="force"``.

        Args:
            label: name of the collection in this folder, such as ``shadows``.
            common: facts that all models share.
            each: facts of each model.

        Returns:
            The signature of each model.

        Raises:
            UserError: the folder was written in another format, unless ``reuse="no"``; with ``force``, there is no such collection, or it
                has other facts (the message names the first few that differ); or the folder cannot be written.
        """
        found = {"common": dict(common), "models": [dict(facts) for facts in each]}
        wanted = json.loads(json.dumps(found))
        path = self.folder / f"{label}.json"
        if self.reuse != "no":
            self._check_format(path, wanted)
        if self.reuse == "force":
            self._compare(path, wanted)
        else:
            self._write_manifest(path, wanted)
        return [signature({**common, **facts}) for facts in each]

    def _write_manifest(self, path: Path, content: object) -> None:
        temporary = path.with_suffix(".json.tmp")
        try:
            make_private(self.folder)
            temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
            temporary.replace(path)
        except OSError as error:
            raise self._unwritable(error.strerror or str(error)) from None

    def _check_format(self, path: Path, wanted: dict[str, Any]) -> None:
        """Raise UserError if the folder's models are of another format, so that none of them could be used."""
        try:
            kept = _manifest(path)["common"]["format"]
        except (UserError, KeyError, TypeError):
            return
        if "format" in wanted["common"] and kept != wanted["common"]["format"]:
            raise UserError(
                f"store={self.folder}: {path.name} is of format {kept}, and this version has format {wanted['common']['format']}; "
                "allowed: another folder, or reuse=no to train again in this one"
            )

    def _compare(self, path: Path, wanted: dict[str, Any]) -> None:
        try:
            there = _manifest(path)
            common, models = dict(there["common"]), [dict(facts) for facts in there["models"]]
        except (UserError, KeyError, TypeError, ValueError):
            raise UserError(
                f"reuse=force: {path} is not a list of finished models; allowed: a folder that an earlier run has written, or reuse=auto"
            ) from None
        differ = _differences(common, wanted["common"])
        if len(models) < len(wanted["models"]):
            differ.append(f"it holds {len(models)} models, not {len(wanted['models'])}")
        for k, (old, new) in enumerate(zip(models, wanted["models"], strict=False)):
            differ += [f"model {k}: {line}" for line in _differences(old, new)]
        if differ:
            more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
            raise UserError(
                f"reuse=force: {self.folder} was written with other settings: {'; '.join(differ[:3])}{more}; "
                "allowed: the same settings, or reuse=auto to train the models that differ"
            )

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def load(self, name: str) -> dict[str, Array] | None:
        """The arrays under a signature; None if there is no file, or (with a warning) if its content is not what was written."""
        path = self._path(name)
        if self.reuse == "no" or not path.exists():
            return None
        try:
            arrays = read_npz(path)
            stored = arrays.pop(_SIGNATURE, np.array("")).item(), arrays.pop(_CHECKSUM, np.array("")).item()
        except (UserError, ValueError) as error:
            fault = str(error)
        else:
            if stored == (name, _checksum(arrays)):
                return arrays
            fault = "it belongs to another model" if stored[0] != name else "its content does not match its checksum"
        warnings.warn(f"{path} is not used and will be computed again: {fault}", stacklevel=3)
        return None

    def save(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Write arrays under a signature, atomically.

        Raises:
            UserError: the disk is full, or the folder cannot be written; files stored before stay usable.
        """
        try:
            make_private(self.folder)
            write_npz(self._path(name), {**arrays, _SIGNATURE: np.array(name), _CHECKSUM: np.array(_checksum(arrays))})
        except UserError as error:
            cause = error.__context__
            raise self._unwritable((cause.strerror if isinstance(cause, OSError) else None) or str(error)) from None
        except OSError as error:
            raise self._unwritable(error.strerror or str(error)) from None

    def _unwritable(self, why: str) -> UserError:
        return UserError(
            f"store={self.folder}: cannot be written ({why}); finished models are kept, and the next run continues from them; "
            "allowed: a folder with free space"
        )


def _manifest(path: Path) -> dict[str, Any]:
    allowed = "a folder that an earlier run has written"
    return json_object(read_text(path, where=str(path), allowed=allowed, most=MOST_MANIFEST), where=str(path), allowed=allowed)


def _checksum(arrays: Mapping[str, Array]) -> str:
    return signature({name: digest(np.asarray(array)) for name, array in arrays.items()})


def _differences(old: Facts, new: Facts) -> list[str]:
    """Phrases such as ``seed was 1, is 2``; long values (digests) appear only as ``other NAME``."""
    lines: list[str] = []
    for name in sorted({*old, *new}):
        before, now = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            lines += _differences(before, now)
        elif before != now:
            long = max(len(str(before)), len(str(now))) > 40
            lines.append(f"other {name}" if long else f"{name} was {before}, is {now}")
    return lines
