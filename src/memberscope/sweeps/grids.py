"""The built-in grids: each varies one factor under controls that state what is held constant.

A grid consists of plain values; it is built and checked against the data set before any training.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memberscope.config.training import SweepStudyConfig
from memberscope.datasets.labeled import LabeledData
from memberscope.errors import UserError, nearest
from memberscope.models import is_convolutional, largest_depth
from memberscope.sweeps.base import CONTROLS, Base, base_of
from memberscope.sweeps.cells import Builder, Cell, Grid, Level, LevelComparison, LevelValue, Part
from memberscope.sweeps.matching import match_parameters, parameter_count
from memberscope.sweeps.selection import fewest_records
from memberscope.training.recipe import Recipe
from memberscope.training.trainer import DataFacts, Trainer

DENSE_DEPTHS = (1, 2, 4, 8, 16)
CONV_DEPTHS = (1, 2, 3)
WIDTHS = (16, 32, 64, 128, 256)
FILTERS = (8, 16, 32, 64)
FEWEST = 20  # fewest audited records on a side
NOISE = (0.0, 0.5, 1.0, 2.0)
CLIPS = (0.3, 1.0, 3.0)
BATCHES = (25, 50, 100)
RECORD_GRIDS = ("classes", "size")  # grids that vary the records, not the models
OF_THE_RECIPE = ("equal_steps",)  # controls of these grids that set something in the built-in models' training
UNBALANCED = 1.5  # classes are unbalanced if the largest has more than this many times the records of the smallest


def make_grid(name: str, data: LabeledData, config: SweepStudyConfig, own: Trainer | None = None) -> Grid:
    """The built-in grid of that name on a data set, with a check that every cell can be trained and audited.

    Args:
        name: the name of the grid.
        data: the data set.
        config: the sweep's options.
        own: a trainer of the user's own, which has no architecture that a grid could vary; None for the built-in models.

    Raises:
        UserError: a control or level that the grid does not have, more classes than there are, a depth that the records do not allow,
            sides that need more records than there are, a batch larger than the set of members; a grid or control that varies the built-in
            models, with a trainer of the user's own.
    """
    makers = {
        "depth": _depth, "width": _width, "architecture": _architecture, "classes": _classes, "size": _size, "epochs": _epochs,
        "privacy": _privacy,
    }  # fmt: skip
    base, controls = base_of(data, config), chosen_controls(name, config.controls)
    if own is not None:
        controls = _controls_of_records(name, data, config, controls)
    builder = Builder(name)
    makers[name](builder, base, controls, chosen_levels(config.levels))
    grid = equal_audits(builder.grid())
    if own is not None:
        cells = {key: Cell(recipe=Recipe(), part=cell.part, params={}) for key, cell in grid.cells.items()}
        grid = dataclasses.replace(grid, cells=cells)
    check(grid, data, own, reserved=config.reserved)
    return grid


def _controls_of_records(name: str, data: LabeledData, config: SweepStudyConfig, controls: tuple[str, ...]) -> tuple[str, ...]:
    """The controls to run with a trainer of the user's own: those that choose records and labels, and set nothing in the training."""
    if name not in RECORD_GRIDS:
        raise UserError(
            f"grid={name}: varies the built-in models, and trainer={config.trainer} is your own; allowed: space=FILE.yaml, whose "
            f"factors are parameters of the trainer, or grid={' or grid='.join(RECORD_GRIDS)}"
        )
    for control in controls:
        if control in OF_THE_RECIPE:
            allowed = ", ".join(item for item in CONTROLS[name] if item not in OF_THE_RECIPE)
            raise UserError(
                f"controls={control}: sets the epochs of the built-in models, and trainer={config.trainer} is your own; allowed: {allowed}"
            )
    usual = _usual_controls(data) if name == "classes" else tuple(CONTROLS[name])
    return controls or tuple(control for control in usual if control not in OF_THE_RECIPE)


def chosen_controls(grid: str, request: str) -> tuple[str, ...]:
    """The controls that a request names; empty for ``auto``, the grid's own choice."""
    if request == "auto":
        return ()
    known = CONTROLS[grid]
    names = tuple(dict.fromkeys(part.strip() for part in request.split(",") if part.strip()))
    for name in names:
        if name not in known:
            raise UserError(f"controls={name}: not one of grid={grid}; allowed: {', '.join(known)}{nearest(name, known)}")
    if not names:
        raise UserError(f"controls={request}: none named; allowed: auto, {', '.join(known)}")
    return names


def chosen_levels(request: str) -> tuple[int, ...]:
    """The levels that a request names, ascending; empty for ``auto``, the grid's own."""
    if request == "auto":
        return ()
    try:
        levels = tuple(sorted({int(part) for part in request.split(",") if part.strip()}))
    except ValueError:
        levels = ()
    if len(levels) < 2 or levels[0] < 1:
        raise UserError(f"levels={request}: allowed: auto, or at least two different whole numbers separated by commas")
    return levels


def equal_audits(grid: Grid) -> Grid:
    """The grid with the same numbers of audited members and non-members in every cell: those of the smallest side of any cell."""
    members = min(cell.part.members for cell in grid.cells.values())
    nonmembers = min(cell.part.nonmembers for cell in grid.cells.values())
    cells = {
        name: dataclasses.replace(
            cell, part=dataclasses.replace(cell.part, audited_members=members, audited_nonmembers=nonmembers)
        )
        for name, cell in grid.cells.items()
    }
    return dataclasses.replace(grid, cells=cells)


def check(grid: Grid, data: LabeledData, own: Trainer | None = None, *, reserved: int = 0) -> None:
    """Raise UserError for the first cell that the data set does not support, or that a trainer of the user's own rejects; `reserved`
    records of its classes must be left for canaries.
    """
    for name, cell in grid.cells.items():
        part, recipe = cell.part, cell.recipe
        if not 2 <= part.classes <= data.classes:
            raise UserError(f"classes={part.classes}: {data.name} has {data.classes} classes; allowed: 2 to {data.classes}")
        try:
            if own is None:
                recipe.check(data.shape)
            else:
                facts = DataFacts(shape=data.shape, classes=part.classes, members=part.members, table=data.table)
                own.with_params(**(cell.params or {})).check(facts)
        except UserError as error:
            raise UserError(f"{error} (cell {name} of grid={grid.name})") from None
        keep = data.classes if part.treatment == "merged" else part.classes
        room = fewest_records(_counted(data, part.per_class), classes=data.classes, keep=keep, choice=part.choice)
        needed = part.members + part.nonmembers + part.validation
        if needed <= room < needed + reserved:
            raise UserError(
                f"canaries={reserved}: {part.classes} classes of {data.name} may have only {room} records, of which cell {name} of "
                f"grid={grid.name} needs {needed}; allowed: at most {room - needed}, or fewer members"
            )
        if needed > room:
            raise UserError(
                f"members={part.members}: {part.classes} classes of {data.name} may have only {room} records; allowed: at most "
                f"{max(0, room - part.nonmembers - part.validation)} in cell {name} of grid={grid.name}"
            )
        if min(part.audited_members, part.audited_nonmembers) < FEWEST:
            raise UserError(
                f"members={part.members}: only {part.audited_members} members and {part.audited_nonmembers} non-members are audited in "
                f"cell {name} of grid={grid.name}; allowed: at least {FEWEST} on each side"
            )
        if own is None and recipe.batch_size > part.members:
            raise UserError(
                f"batch_size={recipe.batch_size}: more than the {part.members} members of cell {name} of grid={grid.name}; "
                f"allowed: 1 to {part.members}"
            )


def _counted(data: LabeledData, per_class: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The labels after each class was cut to at most `per_class` records."""
    if not per_class:
        return data.y
    counts = np.minimum(np.bincount(data.y, minlength=data.classes), per_class)
    return np.repeat(np.arange(data.classes, dtype=np.int64), counts)


def _recipes(base: Base, model: str, field: str, values: Sequence[int]) -> dict[LevelValue, Recipe]:
    changes: list[dict[str, Any]] = [{"model": model, "widths": (), field: value} for value in values]
    return {value: dataclasses.replace(base.recipe, **change) for value, change in zip(values, changes, strict=True)}


def _cells(base: Base, recipes: Mapping[LevelValue, Recipe], *, look: bool = False) -> dict[LevelValue, Cell]:
    every = base.look_every if look else 0
    return {value: Cell(recipe=recipe, part=base.whole, look_every=every) for value, recipe in recipes.items()}


def _architectures(base: Base) -> tuple[str, ...]:
    """Dense, and also conv if the records are images that are large enough."""
    images = len(base.data.shape) == 3 and (largest_depth("conv", base.data.shape) or 0) >= 1
    return ("dense", "conv") if images else ("dense",)


def _depth(builder: Builder, base: Base, controls: tuple[str, ...], levels: tuple[int, ...]) -> None:
    notes = CONTROLS["depth"]
    wanted = controls or tuple(notes)
    shape, classes = base.data.shape, base.data.classes
    look = "equal_loss" in wanted
    for model in _architectures(base) if not levels else (base.recipe.model,):
        most = largest_depth(model, shape) or 0
        depths = levels or tuple(
            depth for depth in (CONV_DEPTHS if is_convolutional(model) else DENSE_DEPTHS) if not most or depth <= most
        )
        if len(depths) < 2:
            continue
        fixed = _recipes(base, model, "depth", depths)
        for recipe in fixed.values():
            recipe.check(shape)
        if "fixed_width" in wanted:
            builder.compare("depth", f"{model}_fixed_width", _cells(base, fixed, look=look), note=notes["fixed_width"])
        if "fixed_parameters" in wanted:
            middle = list(fixed.values())[len(fixed) // 2]
            target = parameter_count(middle, input_shape=shape, classes=classes)
            matched = {
                value: recipe if recipe == middle else match_parameters(recipe, target, input_shape=shape, classes=classes)
                for value, recipe in fixed.items()
            }
            builder.compare(
                "depth", f"{model}_fixed_parameters", _cells(base, matched, look=look), note=notes["fixed_parameters"]
            )
        if look:
            cells = _cells(base, fixed, look=True)
            builder.compare("depth", f"{model}_equal_loss", cells, note=notes["equal_loss"], matched="train_loss")


def _width(builder: Builder, base: Base, controls: tuple[str, ...], levels: tuple[int, ...]) -> None:
    for model in _architectures(base) if not levels else (base.recipe.model,):
        field, usual = ("filters", FILTERS) if is_convolutional(model) else ("width", WIDTHS)
        recipes = _recipes(base, model, field, levels or usual)
        builder.compare(field, f"{model}_fixed_depth", _cells(base, recipes), note=CONTROLS["width"]["fixed_depth"])


def _architecture(builder: Builder, base: Base, controls: tuple[str, ...], levels: tuple[int, ...]) -> None:
    if levels:
        raise UserError(f"levels={','.join(map(str, levels))}: grid=architecture has no numeric levels; allowed: auto")
    notes = CONTROLS["architecture"]
    wanted = controls or tuple(notes)
    shape, classes = base.data.shape, base.data.classes
    names = ("dense", "mlp", *(model for model in _architectures(base) if is_convolutional(model)))
    look = "equal_accuracy" in wanted
    plain: dict[LevelValue, Recipe] = {model: dataclasses.replace(base.recipe, model=model, widths=()) for model in names}
    for recipe in plain.values():
        recipe.check(shape)
    if "matched_depth" in wanted:
        builder.compare("architecture", "matched_depth", _cells(base, plain, look=look), note=notes["matched_depth"])
    if "matched_parameters" in wanted:
        target = parameter_count(plain["dense"], input_shape=shape, classes=classes)
        matched: dict[LevelValue, Recipe] = {
            model: recipe if model == "dense" else match_parameters(recipe, target, input_shape=shape, classes=classes)
            for model, recipe in plain.items()
        }
        builder.compare(
            "architecture", "matched_parameters", _cells(base, matched, look=look), note=notes["matched_parameters"]
        )
    if look:
        cells = _cells(base, plain, look=True)
        builder.compare("architecture", "equal_accuracy", cells, note=notes["equal_accuracy"], matched="train_accuracy")


def _classes(builder: Builder, base: Base, controls: tuple[str, ...], levels: tuple[int, ...]) -> None:
    data, notes = base.data, CONTROLS["classes"]
    counts = np.bincount(data.y, minlength=data.classes)
    wanted = controls or _usual_controls(data)
    steps = levels or class_levels(data.classes)
    for level in steps:
        if not 2 <= level <= data.classes:
            raise UserError(f"classes={level}: {data.name} has {data.classes} classes; allowed: 2 to {data.classes}")
    quota = int(counts.min())

    def part(level: int, *, per_class: int = 0, treatment: str = "kept") -> Part:
        """The part with `level` classes and their share of the base's records, or fewer if the smallest classes have fewer."""
        labels = _counted(data, per_class)
        room = fewest_records(labels, classes=data.classes, keep=level, choice=base.choice)
        every = base.sizes.members + base.sizes.nonmembers + base.validation
        share = level * every // data.classes if not per_class else level * min(per_class, every // data.classes)
        members, nonmembers, validation = base.shares(max(0, min(room - base.reserved, share)))
        return dataclasses.replace(
            base.whole, classes=level, treatment=treatment, per_class=per_class, members=members, nonmembers=nonmembers,
            validation=validation, audited_members=members, audited_nonmembers=nonmembers,
        )  # fmt: skip

    smallest = part(min(steps))
    for control in wanted:
        cells: dict[LevelValue, Cell] = {}
        for level in steps:
            recipe, mine = base.recipe, part(level)
            if control == "merged":
                treatment = "merged" if level < data.classes else "kept"
                mine = dataclasses.replace(base.whole, classes=level, treatment=treatment)
            elif control == "equal_total":
                mine = dataclasses.replace(smallest, classes=level)
            elif control == "equal_steps":
                full = math.ceil(part(max(steps)).members / recipe.batch_size) * recipe.epochs
                recipe = dataclasses.replace(recipe, epochs=max(1, round(full / math.ceil(mine.members / recipe.batch_size))))
            elif control == "equal_head" and level < data.classes:
                mine = part(level, treatment="head")
            elif control == "equal_per_class":
                mine = part(level, per_class=quota)
            cells[level] = Cell(recipe=recipe, part=mine)
        builder.compare("classes", control, cells, note=notes[control])


def _usual_controls(data: LabeledData) -> tuple[str, ...]:
    """The controls of the grid of classes; that of equal classes only if they differ in size."""
    counts = np.bincount(data.y, minlength=data.classes)
    unbalanced = counts.max() > UNBALANCED * counts.min()
    return tuple(name for name in CONTROLS["classes"] if unbalanced or name != "equal_per_class")


def class_levels(classes: int) -> tuple[int, ...]:
    """Numbers of classes from 2 to all: the even ones and all if there are at most ten classes, else five on a geometric scale."""
    if classes <= 10:
        return tuple(sorted({*range(2, classes + 1, 2), classes}))
    return tuple(sorted({int(level) for level in np.rint(np.geomspace(2, classes, 5))}))


def _size(builder: Builder, base: Base, controls: tuple[str, ...], levels: tuple[int, ...]) -> None:
    most = len(base.data) - base.sizes.nonmembers - base.validation - base.reserved
    usual = [250 * 2**step for step in range(20) if 250 * 2**step < most]
    sizes = levels or (*usual, most)
    if len(sizes) < 2:
        raise UserError(
            f"grid=size: {base.data.name} leaves {most} records for members; allowed: a data set that leaves more than 250"
        )
    parts = {size: dataclasses.replace(base.whole, members=size, audited_members=min(size, sizes[0])) for size in sizes}
    cells: dict[LevelValue, Cell] = {size: Cell(recipe=base.recipe, part=part) for size, part in parts.items()}
    builder.compare("size", "fixed_audit", cells, note=CONTROLS["size"]["fixed_audit"])


def _epochs(builder: Builder, base: Base, controls: tuple[str, ...], levels: tuple[int, ...]) -> None:
    last = base.recipe.epochs
    every = base.look_every
    marks = levels or tuple(sorted({*range(every, last + 1, every), last}))
    if len(marks) < 2:
        raise UserError(f"audit_every={every}: leaves one epoch of {last} to audit; allowed: 1 to {last // 2}")
    if marks[-1] > last:
        raise UserError(f"levels={marks[-1]}: the training has {last} epochs; allowed: 1 to epochs={last}")
    apart = math.gcd(*marks)
    for model in _architectures(base):
        recipe = dataclasses.replace(base.recipe, model=model, widths=(), epochs=marks[-1])
        name = builder.cell(model, Cell(recipe=recipe, part=base.whole, look_every=apart))
        found = tuple(Level(value=mark, cells=(name,), epoch=mark) for mark in marks)
        builder.add(
            LevelComparison(factor="epochs", control=f"{model}_one_training", levels=found),
            note=CONTROLS["epochs"]["one_training"],
        )


def _privacy(builder: Builder, base: Base, controls: tuple[str, ...], levels: tuple[int, ...]) -> None:
    if levels:
        raise UserError(f"levels={','.join(map(str, levels))}: the levels of grid=privacy are fixed; allowed: auto")
    notes = CONTROLS["privacy"]
    usual = Cell(recipe=base.recipe, part=base.whole, noise_multiplier=1.0, clip=1.0)
    batches = [size for size in BATCHES if size <= base.sizes.members]
    cells: dict[str, tuple[str, dict[LevelValue, Cell]]] = {
        "noise": ("noise_multiplier", {noise: dataclasses.replace(usual, noise_multiplier=noise) for noise in NOISE}),
        "clip": ("clip", {clip: dataclasses.replace(usual, clip=clip) for clip in CLIPS}),
        "batch": (
            "batch_size",
            {size: dataclasses.replace(usual, recipe=dataclasses.replace(base.recipe, batch_size=size)) for size in batches},
        ),
    }
    for control in controls or tuple(notes):
        factor, of_control = cells[control]
        builder.compare(factor, control, of_control, note=notes[control])
