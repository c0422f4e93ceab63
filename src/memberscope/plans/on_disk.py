"""A shadow plan as a folder of plain files, for models that are trained anywhere: what it holds, and how it is read back.

::

    plan/members/model_000.npy    positions of the records that model 0 is trained on, and so on: one file for each model
    plan/records.npy              positions of the records for which every model's outputs are expected, in this order
    plan/population.npy           positions of records that no model is trained on
    plan/labels.npy               the labels of all records, after label noise, with which the models must be trained
    plan/seeds.npy                a seed for each model
    plan/groups.npy               the group of every record, if groups were named: each is kept whole
    plan/rows.npy                 the place of each record in the user's file, where copies or classes were left out
    plan/canaries/                the canaries, if there are any: x.npy and y.npy, the records and their labels; records.csv, the same as a
                                  table, if the data set is one; records.npy, their positions, if they are of the data set;
                                  members/model_000.npy, the canaries on which model 0 is trained too, and so on
    plan/columns.json             the columns, if the records are rows of a table
    plan/membership.npz           the same plan as `ShadowPlan.save` writes it
    plan/plan.json                what the plan is, and which outputs to return

All positions count the records of the data set as memberscope reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.table import Table
from memberscope.errors import UserError
from memberscope.npz import read_npy
from memberscope.plans.canaries import Canaries
from memberscope.plans.shadow import ShadowPlan
from memberscope.plans.split import Index
from memberscope.plans.whole_groups import check_whole
from memberscope.reading.files import read_text
from memberscope.reading.text import json_object
from memberscope.secret import make_private

FORMAT, VERSION = "memberscope shadow plan", 1
ABOUT, PLAN, MEMBERS = "plan.json", "membership.npz", "members"
COLUMNS, ROWS, GROUPS = "columns.json", "rows.npy", "groups.npy"
CANARIES, CANARY_TABLE, CANARY_RECORDS = "canaries", "records.csv", "records.npy"
WRITTEN = "a folder as memberscope plan wrote it"


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanFolder:
    """A plan with all that is needed to train its models elsewhere and to audit their outputs here.

    Attributes:
        plan: which records each model is trained on.
        labels: (n,) int64 labels of all records of the data set, after label noise.
        seeds: (n_models,) int64 seeds of the models.
        rows: (n,) the place of each record in the data set as it was before copies and other classes were left out.
        dataset: the data set as the user named it.
        name: its name.
        source: its origin, for people.
        data_digest: digest of its records and `labels`.
        class_names: one name per class.
        shape: shape of a record.
        noise: share of labels that were replaced.
        shifts: how each copy of a record is moved, (down, right) in pixels, the record itself first; empty if no copies are expected.
        table: the columns, if the records are rows of a table.
        groups: (n,) int64 the records' groups; None if none were named.
        options: the options from which the plan was drawn.
        canaries: what is planted in the training sets besides; None for nothing.
        canary_member: (n_models, m) bool, the canaries on which each model is trained; None without canaries.
    """

    plan: ShadowPlan
    labels: NDArray[np.int64]
    seeds: NDArray[np.int64]
    rows: Index
    dataset: str
    name: str
    source: str
    data_digest: str
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    noise: float
    shifts: tuple[tuple[int, int], ...] = ()
    table: Table | None = None
    groups: NDArray[np.int64] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    canaries: Canaries | None = None
    canary_member: NDArray[np.bool_] | None = None

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def digest(self) -> str:
        """SHA-256 over the plan, the labels, the models' seeds, the groups, the data set's digest, the number of classes and copies, and
        the canaries with their membership.
        """
        sha = hashlib.sha256(f"{self.plan.digest} {self.data_digest} {self.classes} {len(self.shifts)}".encode())
        for array in (self.labels, self.seeds, *([] if self.groups is None else [self.groups])):
            sha.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        if self.canaries is not None and self.canary_member is not None:
            sha.update(f"{self.canaries.digest} {self.canary_member.shape}".encode())
            sha.update(np.packbits(self.canary_member).tobytes())
        return sha.hexdigest()

    def write(self, folder: Path) -> None:
        """Write the folder, ``plan.json`` last; the same plan may be written again.

        Raises:
            UserError: the folder cannot be written, or holds other files than those of this plan.
        """
        self._check_free(folder)
        arrays = {"records.npy": self.plan.records, "population.npy": self.plan.population, "labels.npy": self.labels}
        arrays |= {"seeds.npy": self.seeds, ROWS: self.rows}
        if self.groups is not None:
            arrays[GROUPS] = self.groups
        for model in range(self.plan.n_models):
            arrays[f"{MEMBERS}/{model_name(model, self.plan.n_models)}.npy"] = self.plan.members(model)
        try:
            make_private(folder / MEMBERS)
            for name, array in arrays.items():
                np.save(folder / name, np.asarray(array, dtype=np.int64), allow_pickle=False)
            if self.canaries is not None:
                self._write_canaries(folder / CANARIES, self.canaries)
            if self.table is not None:
                _write_json(folder / COLUMNS, self.table.to_dict())
            self.plan.save(folder / PLAN)
            _write_json(folder / ABOUT, self.about())
        except OSError as error:
            raise UserError(f"output={folder}: cannot be written ({error.strerror or error}); allowed: a folder") from None

    def _write_canaries(self, folder: Path, canaries: Canaries) -> None:
        assert self.canary_member is not None
        make_private(folder / MEMBERS)
        arrays = {"x.npy": canaries.x, "y.npy": canaries.y}
        if canaries.records is not None:
            arrays[CANARY_RECORDS] = canaries.records
        for model, planted in enumerate(self.canary_member):
            arrays[f"{MEMBERS}/{model_name(model, self.plan.n_models)}.npy"] = np.flatnonzero(planted).astype(np.int64)
        for name, array in arrays.items():
            np.save(folder / name, array, allow_pickle=False)
        if self.table is not None:
            frame = self.table.frame(canaries.x)
            label = next(name for name in ("label", "label_", "label__") if name not in frame)
            frame[label] = [self.class_names[k] for k in canaries.y]
            frame.to_csv(folder / CANARY_TABLE, index=False)

    def _check_free(self, folder: Path) -> None:
        if not folder.exists():
            return
        if not folder.is_dir():
            raise UserError(f"output={folder}: a file; allowed: a folder that is new or empty")
        if not any(folder.iterdir()):
            return
        found = ""
        if (folder / ABOUT).is_file():
            found = str(_about(folder, "output").get("digest", ""))
        if found != self.digest:
            what = f"holds another plan, {found[:16]}" if found else "holds other files"
            raise UserError(f"output={folder}: {what}; allowed: a folder that is new or empty")

    def about(self) -> dict[str, Any]:
        """The content of ``plan.json``."""
        plan, n, p = self.plan, len(self.plan.records), len(self.plan.population)
        shape = [n, self.classes]
        arrays: dict[str, Any] = {
            "logits": {"shape": shape, "about": "scores before the softmax; or give probs, or loss_nats"},
            "probs": {"shape": shape, "about": "probabilities; or give logits, or loss_nats"},
            "loss_nats": {"shape": [n], "about": "cross-entropy of the label in labels.npy, natural logarithm; or give logits, or probs"},
        }  # fmt: skip
        if p:
            arrays["population"] = {
                "shape": [p, self.classes], "about": f"optional: the same for the records of population.npy; of shape [{p}] with loss_nats",
            }  # fmt: skip
        if self.shifts:
            arrays["copies"] = {
                "shape": [n, len(self.shifts), self.classes],
                "about": "optional, with logits or probs: the same for the shifted copies of each image, see shifts",
            }
        if self.canaries is not None:
            m = len(self.canaries)
            arrays["canaries"] = {
                "shape": [m, self.classes],
                "about": f"optional: the same for the {m} canaries of {CANARIES}/x.npy; of shape [{m}] with loss_nats",
            }
        arrays["plan_digest"] = {
            "shape": [],
            "about": "optional: the digest of this file, so that outputs of another plan are noticed",
        }
        return {
            "format": FORMAT, "version": VERSION, "digest": self.digest, "expected_back": self.expected(), "arrays": arrays,
            "dataset": self.dataset, "name": self.name, "source": self.source, "data_digest": self.data_digest,
            "data_records": len(self.labels), "record_shape": list(self.shape), "classes": self.classes,
            "class_names": list(self.class_names), "label_noise": self.noise, "design": plan.design, "models": plan.n_models,
            "records": n, "population": p, "members": plan.member.sum(axis=1).tolist(), "targets": plan.targets.tolist(),
            "coin_flips": plan.coin_flips, "index_digest": plan.digest, "shifts": [list(one) for one in self.shifts],
            "options": dict(self.options),
            **({} if self.canaries is None else {"canaries": self.canaries.about}),
        }  # fmt: skip

    def expected(self) -> str:
        """What is expected back, in plain English."""
        plan, n, p = self.plan, len(self.plan.records), len(self.plan.population)
        first, last = (model_name(model, plan.n_models) for model in (0, plan.n_models - 1))
        text = (
            f"Train {plan.n_models} models in the same way. Model k is trained on the records at the positions in {MEMBERS}/{first}.npy "
            f"(model 0, and so on to {last}.npy), with their labels in labels.npy; seeds.npy has a seed for each. Positions count the "
            f"records of the data set as memberscope reads it: record i is row rows[i] of the original data ({ROWS}). Then ask each "
            f"model for its outputs on the {n} records of records.npy, members and others, in this order, and save them in one folder, "
            f"one file per model: {first}.npz to {last}.npz, each with one of the arrays logits (shape {n}, {self.classes}), probs (the "
            f"same shape) or loss_nats (shape {n}); or {first}.npy with that array alone."
        )
        if p:
            text += (
                f" The array population may hold the same for the {p} records of population.npy, which RMIA and a few other attacks need; "
                "give it for all models or for none."
            )
        if self.canaries is not None:
            m, copies = len(self.canaries), self.canaries.copies
            often = "" if copies == 1 else f", each of them {copies} times"
            text += (
                f" The plan has {m} canaries: the records of {CANARIES}/x.npy with the labels of {CANARIES}/y.npy. Model k is also "
                f"trained on those at the positions in {CANARIES}/{MEMBERS}/{first}.npy (model 0, and so on){often}. Ask each model for "
                f"its outputs on all {m} canaries too, in this order, and save them in its .npz as the array canaries; give it for all "
                "models or for none."
            )
        return f"{text} Then run: memberscope shadow --plan THIS_FOLDER --outputs FOLDER"


def model_name(model: int, models: int) -> str:
    """The name of a model's files without the suffix, such as ``model_007``: as many digits as the last model needs, at least three."""
    return f"model_{model:0{max(3, len(str(models - 1)))}d}"


def read_plan_folder(folder: Path) -> PlanFolder:
    """Read a folder that `PlanFolder.write` wrote, and check that its files belong together.

    Raises:
        UserError: no such folder, no plan, a plan of another version of the format, or files that were changed or are missing.
    """
    about = _about(folder, "plan")
    if about.get("format") != FORMAT or about.get("version") != VERSION:
        raise UserError(
            f"plan={folder}: {ABOUT} is of format {about.get('format')!r}, version {about.get('version')}; allowed: {FORMAT!r}, version "
            f"{VERSION}, as this version of memberscope plan writes it"
        )
    plan = ShadowPlan.load(folder / PLAN)
    table = None
    try:
        table = Table.from_dict(_json(folder, COLUMNS, "plan")) if (folder / COLUMNS).exists() else None
        found = PlanFolder(
            plan=plan, labels=_array(folder, "labels.npy"), seeds=_array(folder, "seeds.npy"), rows=_array(folder, ROWS), table=table,
            groups=_array(folder, GROUPS) if (folder / GROUPS).exists() else None, **_fields(about),
            **(_canaries(folder, about["canaries"], plan.n_models) if "canaries" in about else {}),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"plan={folder}: {ABOUT} or {COLUMNS} is damaged ({error}); allowed: {WRITTEN}") from None
    if found.digest != about.get("digest"):
        raise UserError(
            f"plan={folder}: its files do not belong together: they have the digest {found.digest[:16]}, and {ABOUT} says "
            f"{str(about.get('digest'))[:16]}; allowed: a folder as memberscope plan wrote it"
        )
    wanted = {"records.npy": plan.records, "population.npy": plan.population}
    wanted |= {f"{MEMBERS}/{model_name(k, plan.n_models)}.npy": plan.members(k) for k in range(plan.n_models)}
    for name, index in wanted.items():
        if not np.array_equal(_array(folder, name), index):
            raise UserError(f"plan={folder}: {name} differs from {PLAN}; allowed: a folder as memberscope plan wrote it")
    if found.groups is not None:
        check_whole(plan.member, found.groups[plan.records], where=f"plan={folder}")
    return found


def _fields(about: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `PlanFolder` that ``plan.json`` holds; KeyError, TypeError or ValueError, naming one, if it is not of its type."""
    found: dict[str, Any] = {name: about[name] for name in ("dataset", "name", "source", "data_digest")}
    names, shape, noise, shifts = about["class_names"], about["record_shape"], about["label_noise"], about["shifts"]
    for name, value in found.items():
        _check(name, isinstance(value, str))
    _check("class_names", isinstance(names, list) and all(isinstance(one, str) for one in names))
    _check("record_shape", isinstance(shape, list) and all(type(axis) is int and 0 < axis < 2**53 for axis in shape))
    _check("label_noise", isinstance(noise, int | float) and not isinstance(noise, bool) and 0 <= noise <= 1)
    _check("shifts", isinstance(shifts, list) and all(isinstance(one, list) and len(one) == 2 for one in shifts))
    _check("shifts", all(type(step) is int and abs(step) < 2**31 for one in shifts for step in one))
    _check("options", isinstance(about["options"], dict))
    found |= {"class_names": tuple(names), "shape": tuple(shape), "noise": float(noise), "options": dict(about["options"])}
    return {**found, "shifts": tuple((down, right) for down, right in shifts)}


def _canaries(folder: Path, about: Mapping[str, Any], models: int) -> dict[str, Any]:
    """The canaries and their membership; KeyError, TypeError or ValueError if what ``plan.json`` says of them does not fit them."""
    _check("canaries", isinstance(about, dict) and type(about["copies"]) is int and isinstance(about["source"], str))
    where = f"plan={folder}: {CANARIES}"
    x = read_npy(folder / CANARIES / "x.npy", where=f"{where}/x.npy", allowed=WRITTEN)
    y = _array(folder / CANARIES, "y.npy")
    records = _array(folder / CANARIES, CANARY_RECORDS) if (folder / CANARIES / CANARY_RECORDS).exists() else None
    member = np.zeros((models, len(y)), dtype=np.bool_)
    for model, row in enumerate(member):
        index = _array(folder / CANARIES, f"{MEMBERS}/{model_name(model, models)}.npy")
        _check(f"{CANARIES}/{MEMBERS}", bool(((index >= 0) & (index < len(y))).all()))
        row[index] = True
    drawn = Canaries(kind=about["kind"], x=x, y=y, records=records, copies=about["copies"], source=about["source"])
    return {"canaries": drawn, "canary_member": member}


def _check(name: str, fits: bool) -> None:
    if not fits:
        raise ValueError(f"{name} is not of its type")


def _about(folder: Path, option: str) -> dict[str, Any]:
    if not (folder / ABOUT).exists():
        missing = f"has no {ABOUT}" if folder.is_dir() else "no such folder"
        raise UserError(f"{option}={folder}: {missing}; allowed: a folder that memberscope plan wrote")
    return _json(folder, ABOUT, option)


def _json(folder: Path, name: str, option: str) -> dict[str, Any]:
    where = f"{option}={folder}: {name}"
    return json_object(read_text(folder / name, where=where, allowed=WRITTEN), where=where, allowed=WRITTEN)


def _array(folder: Path, name: str) -> NDArray[np.int64]:
    found = read_npy(folder / name, where=f"plan={folder}: {name}", allowed=WRITTEN)
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise UserError(f"plan={folder}: {name} is {found.dtype} of shape {found.shape}; allowed: whole numbers in a row")
    return found.astype(np.int64)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
