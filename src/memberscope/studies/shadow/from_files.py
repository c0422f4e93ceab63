"""Reads the outputs of models that were trained elsewhere, after a plan folder, and checks them: one ``.npz`` or ``.npy`` a model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import check_finite, is_number
from memberscope.config import CanaryConfig, written
from memberscope.config.outside import PlanStudyConfig, ShadowStudyConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError, nearest
from memberscope.npz import read_npy, read_npz
from memberscope.plans.canaries import plant
from memberscope.plans.on_disk import PlanFolder, model_name, read_plan_folder
from memberscope.plans.whole_groups import check_whole
from memberscope.predictions import ShadowPredictions
from memberscope.scales import are_probs, check_logits, check_probs
from memberscope.signals import correctness, loss_nats
from memberscope.studies import setup
from memberscope.studies.fleet_canaries import FleetCanaries
from memberscope.studies.forms import OutputForm, as_logits
from memberscope.studies.shadow.draw import with_noise
from memberscope.studies.shadow.evidence import FleetOutputs
from memberscope.studies.shadow.swapped import SwapCheck, check_swaps
from memberscope.training.elsewhere import ElsewhereFleet

FORMS: tuple[OutputForm, ...] = ("logits", "probs", "loss_nats")
ARRAYS = (*FORMS, "population", "copies", "canaries", "plan_digest")
FREE = {
    "plan",
    "outputs",
    "attacks",
    "primary",
    "slices",
    "dataset",
    "data_dir",
    "archive_dir",
    "label",
    "group",
    "private_artifacts",
    "show_records",
}
ADDED = {item.name for item in dataclasses.fields(CanaryConfig)}  # options that plans of earlier versions do not have
BELOW_ZERO = 1e-6  # losses that rounding may have moved below 0


@dataclass(frozen=True, kw_only=True)
class LabelsAlone(LabeledData):
    """A data set of which only the labels are known; `digest` and `shape` are those that the plan states."""

    known_digest: str
    known_shape: tuple[int, ...]

    @cached_property
    def digest(self) -> str:
        """The digest of the data set, which the plan states."""
        return self.known_digest

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a record, which the plan states."""
        return self.known_shape


@dataclass(frozen=True, kw_only=True, eq=False)
class FromFiles:
    """Everything that was read.

    Attributes:
        config: the study's configuration with the plan's own options.
        folder: the plan.
        outputs: the outputs of all models.
        swaps: which outputs are likely another model's.
        notes: what an audit should say about the data.
        canaries: the plan's canaries, and the outputs of all models for them, (n_models, m, classes) or (n_models, m); None if the plan has
            none, or the files hold none.
    """

    config: ShadowStudyConfig
    folder: PlanFolder
    outputs: FleetOutputs
    swaps: SwapCheck
    notes: tuple[str, ...]
    canaries: tuple[FleetCanaries, NDArray[Any]] | None = None

    @property
    def fields(self) -> frozenset[str]:
        """The fields of `Evidence` that can be filled."""
        found, known = {"target", "shadows"}, self.outputs
        if known.population.shape[1]:
            found |= {"population"} | ({"population_inputs"} if known.known_inputs else set())
        return frozenset(found | ({"augmented"} if known.augmented is not None else set()))

    def warnings(self) -> list[str]:
        """Sentences on outputs that are likely another model's."""
        models = self.folder.plan.n_models
        return self.swaps.sentences([model_name(model, models) for model in range(models)])


def read(config: ShadowStudyConfig) -> FromFiles:
    """Read the plan, the data set where it can be loaded, and the outputs.

    Raises:
        UserError: an option that has no effect or contradicts the plan; a plan folder that is damaged; a data set other than the plan's; a
            model without a file, or with outputs that do not fit.
    """
    folder = read_plan_folder(Path(config.plan))
    config, given = _settled(config, folder)
    data, why = _data(config, folder, given=given)
    outputs, of_canaries = read_outputs(Path(config.outputs), folder, data)
    notes, planted = [], None
    if of_canaries is not None:
        planted = (_planted(folder, data), of_canaries)
    elif folder.canaries is not None:
        notes.append("The files hold no outputs for the canaries, which are not audited.")
    if why:
        notes.append(
            f"The data set was not loaded ({why}): labels are those of the plan, and whatever needs the records themselves had "
            "no inputs."
        )
        outputs = dataclasses.replace(outputs, known_inputs=False)
    if len(folder.plan.population) and not outputs.population.shape[1]:
        notes.append("The files hold no outputs for the population: attacks that need it are skipped.")
    if folder.shifts and outputs.augmented is None:
        notes.append("The files hold no outputs for copies of the records: LiRA uses one query.")
    return FromFiles(config=config, folder=folder, outputs=outputs, swaps=_swaps(outputs), notes=tuple(notes), canaries=planted)


def _planted(folder: PlanFolder, data: LabeledData) -> FleetCanaries:
    """The plan's canaries behind its data set, without their records if those of the data set are not known."""
    canaries, member = folder.canaries, folder.canary_member
    assert canaries is not None
    assert member is not None
    if isinstance(data, LabelsAlone):
        canaries = dataclasses.replace(canaries, x=np.empty((len(canaries), 0), np.float32))
    return FleetCanaries(planted=plant(data, canaries), member=member)


def _settled(config: ShadowStudyConfig, folder: PlanFolder) -> tuple[ShadowStudyConfig, bool]:
    """The configuration with the plan's own options, and whether the user named a data set."""
    known = {item.name for item in dataclasses.fields(PlanStudyConfig)} - {"output", "data_dir", "archive_dir"}
    if not known - ADDED <= set(folder.options) <= known:
        raise UserError(
            f"plan={config.plan}: its options are not those of this version; allowed: a folder as memberscope plan wrote it"
        )
    defaults = {item.name: written(item.default) for item in dataclasses.fields(PlanStudyConfig) if item.name in ADDED}
    options = {**defaults, **folder.options}
    values: dict[str, object] = dict(config.to_dict())
    changed = {item.name for item in dataclasses.fields(config) if getattr(config, item.name) != item.default}
    for name in sorted(changed - FREE):
        if name not in known:
            raise UserError(
                f"{name}={values[name]}: has no effect with plan={config.plan}, since nothing is trained; allowed: leave it out"
            )
        if written(values[name]) != options[name]:
            raise UserError(
                f"{name}={values[name]}: the plan of {config.plan} was drawn with {name}={options[name]}; allowed: leave it out"
            )
    own = {name: value for name, value in options.items() if not (name in FREE and name in changed)}
    return ShadowStudyConfig.from_mapping({**values, **own}), "dataset" in changed


def _data(config: ShadowStudyConfig, folder: PlanFolder, *, given: bool) -> tuple[LabeledData, str]:
    """The plan's data set, or its labels alone and the reason why it could not be loaded."""
    try:
        data = setup.load_data(config, each_once=True, as_is=True)
    except UserError as error:
        if given:
            raise
        alone = LabelsAlone(
            name=folder.name, x=np.empty((len(folder.labels), 0), np.float32), y=folder.labels, class_names=folder.class_names,
            source=folder.source, known_digest=folder.data_digest, known_shape=folder.shape,
            keyed=setup.is_keyed(config), groups=folder.groups,
        )  # fmt: skip
        return alone, str(error).rstrip(".")
    data, expected = setup.choose_classes(data, config), len(folder.labels)
    if len(data) == expected:
        data = with_noise(data, folder.plan, config)[1]
    if len(data) != expected or data.digest != folder.data_digest:
        what = f"{len(data)} records" if len(data) != expected else f"digest {data.digest[:16]}"
        theirs = f"{expected} records" if len(data) != expected else f"digest {folder.data_digest[:16]}"
        raise UserError(
            f"dataset={config.dataset}: not the data set of plan={config.plan}: {what}, and the plan's has {theirs}; allowed: the data set "
            "from which the plan was drawn"
        )
    if data.groups is not None:
        check_whole(folder.plan.member, data.groups[folder.plan.records], where=f"group={config.group}: plan={config.plan}")
    return data, ""


# -------------------------------------------------------------------------------------------------------------------------- outputs


def read_outputs(outputs: Path, folder: PlanFolder, data: LabeledData) -> tuple[FleetOutputs, NDArray[Any] | None]:
    """Read the outputs of all models of a plan, and those for its canaries, if the files hold them.

    Args:
        outputs: a folder with ``model_000.npz`` or ``model_000.npy``, and so on.
        folder: the plan.
        data: its data set, with labels after noise.

    Raises:
        UserError: a model without a file, or with two; files beyond the plan's models; arrays that are unknown, misshapen, not finite or on
            another scale; models of which some give logits and others probabilities or losses; parts that only some models give.
    """
    models, read_arrays = folder.plan.n_models, []
    for path in _files(outputs, models):
        read_arrays.append(_read_model(path, folder))
    form = _one_form(outputs, read_arrays, models)
    parts = {name: _of_all(outputs, name, read_arrays, models) for name in ("population", "copies", "canaries")}
    known, population, copies = np.stack([one[form] for one in read_arrays]), parts["population"], parts["copies"]
    if population is None:
        population = np.empty((models, 0, *known.shape[2:]), known.dtype)
    if copies is not None:
        copies = as_logits(copies, "probs" if form == "probs" else "logits")
    fleet = ElsewhereFleet(n_models=models, form="probs" if form == "probs" else "logits")
    found = FleetOutputs(
        data=data,
        plan=folder.plan,
        fleet=fleet,
        form=form,
        outputs=known,
        population=population,
        augmented=copies,
        can_query=False,
    )
    return found, parts["canaries"]


def _files(outputs: Path, models: int) -> list[Path]:
    """The file of each model."""
    if not outputs.is_dir():
        raise UserError(f"outputs={outputs}: no such folder; allowed: a folder with a file for each model of the plan")
    names = [model_name(model, models) for model in range(models)]
    found = [[path for path in (outputs / f"{name}.npz", outputs / f"{name}.npy") if path.is_file()] for name in names]
    missing = [name for name, paths in zip(names, found, strict=True) if not paths]
    if missing:
        raise UserError(
            f"outputs={outputs}: {len(missing)} of the {models} models of the plan have no file: {_few(missing)}; allowed: an .npz or .npy "
            "for each"
        )
    if double := [name for name, paths in zip(names, found, strict=True) if len(paths) > 1]:
        raise UserError(f"outputs={outputs}: {_few(double)} has both an .npz and an .npy; allowed: one file for each model")
    extra = sorted(path.name for path in outputs.glob("model_*.np[yz]") if path.stem not in set(names))
    if extra:
        raise UserError(
            f"outputs={outputs}: {_few(extra)} beyond the {models} models of the plan; allowed: only the outputs of this plan"
        )
    return [paths[0] for paths in found]


def _few(names: list[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _read_model(path: Path, folder: PlanFolder) -> dict[str, NDArray[Any]]:
    """One model's arrays by name, checked."""
    where, n = f"outputs={path}", len(folder.plan.records)
    arrays = _named_arrays(path, where)
    unknown = sorted(set(arrays) - set(ARRAYS))
    if unknown:
        hint = nearest(unknown[0], ARRAYS)
        raise UserError(f"{where}: unknown array {', '.join(unknown)}; allowed: {', '.join(ARRAYS)}{hint}")
    digest = arrays.pop("plan_digest", None)
    if digest is not None and str(digest) != folder.digest:
        raise UserError(
            f"{where}: outputs of another plan, {str(digest)[:16]}; this one's digest is {folder.digest[:16]}; allowed: outputs of the "
            "models of this plan"
        )
    forms = [name for name in FORMS if name in arrays]
    if len(forms) != 1:
        raise UserError(f"{where}: holds {' and '.join(forms) or 'no outputs'}; allowed: exactly one of {', '.join(FORMS)}")
    width = () if forms == ["loss_nats"] else (folder.classes,)
    expected = {forms[0]: (n, *width), "population": (len(folder.plan.population), *width)}
    if folder.shifts and width:
        expected["copies"] = (n, len(folder.shifts), *width)
    elif "copies" in arrays:
        why = "losses have none" if folder.shifts else "the plan was drawn with queries=1"
        raise UserError(f"{where}: holds copies, and {why}; allowed: leave them out")
    if folder.canaries is not None:
        expected["canaries"] = (len(folder.canaries), *width)
    elif "canaries" in arrays:
        raise UserError(f"{where}: holds canaries, and the plan has none; allowed: leave them out")
    for name, array in arrays.items():
        arrays[name] = _checked(array, f"{where}: {name}", expected[name], forms[0])
    return arrays


def _named_arrays(path: Path, where: str) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz``; or that of a ``.npy``, under the name that its shape and its values tell."""
    if path.suffix == ".npz":
        try:
            return read_npz(path)
        except UserError as error:
            raise UserError(f"outputs={error}") from None
    array = read_npy(path, where=where, allowed="an .npz or .npy for each model")
    if array.dtype.kind not in "fiub":
        raise UserError(f"{where}: dtype {array.dtype}; allowed: numbers")
    if array.ndim == 1:
        return {"loss_nats": array}
    if array.ndim != 2:
        raise UserError(
            f"{where}: shape {array.shape}; allowed: (records, classes) for logits or probabilities, (records,) for losses"
        )
    return {"probs" if are_probs(array) else "logits": array}


def _checked(array: NDArray[Any], where: str, shape: tuple[int, ...], form: OutputForm) -> NDArray[Any]:
    """The array as float32 or float64, after checks of its type, shape and values."""
    if not is_number(array):
        raise UserError(f"{where}: dtype {array.dtype}; allowed: numbers")
    if array.shape != shape:
        raise UserError(f"{where}: shape {array.shape}; the plan expects {shape}")
    check_finite(where, array)
    if form == "probs":
        check_probs(where, array, released=False)
    elif form == "logits":
        check_logits(where, array)
    elif array.size and array.min() < -BELOW_ZERO:
        raise UserError(
            f"{where}: {int((array < -BELOW_ZERO).sum())} negative values, the smallest {array.min():.3g}; a cross-entropy is at least 0; "
            "allowed: losses, which are log-likelihoods with their sign changed"
        )
    if array.dtype in (np.float32, np.float64):
        return np.maximum(array, 0) if form == "loss_nats" else array
    return array.astype(np.float32 if array.dtype == np.float16 else np.float64)


def _one_form(outputs: Path, arrays: list[dict[str, NDArray[Any]]], models: int) -> OutputForm:
    forms = [next(form for form in FORMS if form in one) for one in arrays]
    for model, form in enumerate(forms):
        if form != forms[0]:
            raise UserError(
                f"outputs={outputs}: {model_name(0, models)} holds {forms[0]} and {model_name(model, models)} holds {form}; allowed: the "
                "same for all models"
            )
    return forms[0]


def _of_all(outputs: Path, name: str, arrays: list[dict[str, NDArray[Any]]], models: int) -> NDArray[Any] | None:
    """An optional array of all models; None if none gives it."""
    lacking = [model_name(model, models) for model, one in enumerate(arrays) if name not in one]
    if len(lacking) == models:
        return None
    if lacking:
        raise UserError(
            f"outputs={outputs}: {len(lacking)} of {models} models have no {name}: {_few(lacking)}; allowed: {name} for all "
            "models, or for none"
        )
    found: NDArray[Any] = np.stack([one[name] for one in arrays])
    return found


def _swaps(outputs: FleetOutputs) -> SwapCheck:
    plan = outputs.plan
    models = ShadowPredictions(**outputs.named(outputs.outputs), labels=outputs.data.y[plan.records], member=plan.member)
    each = [models.model(k) for k in range(plan.n_models)]
    losses = np.stack([loss_nats(one) for one in each])
    right = None if outputs.form == "loss_nats" else np.stack([correctness(one) for one in each]).astype(np.bool_)
    return check_swaps(plan, losses, right)
