"""Shadow data that an attacker makes: one function that returns a set of records for any method."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from memberscope import queries
from memberscope.checks import row_chunks
from memberscope.config.outside import SynthesisConfig
from memberscope.datasets import LabeledData
from memberscope.errors import UserError, nearest
from memberscope.interrupt import StopFlag
from memberscope.progress import Progress
from memberscope.release import Release
from memberscope.secret import make_private
from memberscope.studies.forms import as_logits

if TYPE_CHECKING:
    from memberscope.synthesis.hill_climb import HillClimbConfig
    from memberscope.training.trainer import Fleet

METHODS = ("noisy", "marginal", "junk", "hill_climb", "gan")
Query = Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticSet:
    """Synthetic records.

    Attributes:
        method: the method that made them.
        x: (n, ...) float32 in [0, 1].
        y: (n,) int64 labels.
        queries: number of queries of the target that they took.
        by_class: a row of counts for each class, for climbs; else empty.
        notes: remarks for the reader.
    """

    method: str
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    queries: int = 0
    by_class: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def parse_methods(text: str) -> tuple[str, ...]:
    """The methods that a request names; UserError for an unknown one, which suggests the nearest."""
    names = METHODS if text == "all" else tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in METHODS:
            raise UserError(f"method={name}: unknown; allowed: all, {', '.join(METHODS)}{nearest(name, METHODS)}")
    if not names:
        raise UserError(f"method={text}: none named; allowed: all, {', '.join(METHODS)}")
    return names


def kind_of(data: LabeledData) -> Literal["binary", "image", "real"]:
    """The kind of the records, which determines how a climb changes them."""
    if queries.is_image(data.x):
        return "image"
    return "binary" if queries.is_binary(data.x) else "real"


def check_can_be_made(data: LabeledData, *, by: str) -> None:
    """Raise UserError for a data set whose records no method can imitate: one with words, or with numbers outside [0, 1].

    Args:
        data: the real records; whole numbers from 0 to 255 of one byte stand for [0, 1].
        by: the option that asks for made records, with its value, such as ``method=junk``.
    """
    allowed = "allowed: a data set of numbers in [0, 1], or of images"
    if data.table is not None and data.table.words:
        raise UserError(f"{by}: {data.name} has columns of words, and only numbers can be made; {allowed}")
    if data.x.dtype not in (np.uint8, np.bool_):
        for rows in row_chunks(len(data), math.prod(data.shape)):
            part = data.x[rows]
            if not ((part >= 0) & (part <= 1)).all():
                raise UserError(
                    f"{by}: {data.name} has missing values or numbers outside [0, 1], from which no records can be made; {allowed}"
                )


def published(fleet: Fleet, model: int, release: Release, *, seed: int, real: LabeledData | None = None) -> Query:
    """The target as an attacker sees it: (m, ...) float32 in [0, 1] -> published confidences (m, classes) or labels (m,).

    `real` is the data set whose own type of numbers the target takes; without it, it takes float32.
    """

    def query(x: NDArray[np.float32]) -> NDArray[Any]:
        asked = np.asarray(x, dtype=np.float32)
        outputs = fleet.outputs(asked if real is None else real.stored(asked), models=[model])[0]
        released = release(as_logits(outputs, fleet.form), seed=seed)
        output: NDArray[Any] | None = released.probs if released.probs is not None else released.predicted
        assert output is not None
        return output

    return query


def make_set(
    method: str,
    config: SynthesisConfig,
    *,
    records: int,
    query: Query,
    real: LabeledData,
    pool: NDArray[np.int64],
    seed: int,
    stop: StopFlag,
    resume: Path | None = None,
) -> SyntheticSet:
    """Make `records` records by one of `METHODS`.

    Args:
        method: ``noisy`` and ``marginal`` start from the real records of `pool`; ``hill_climb`` and ``gan`` from the target alone.
        config: the method's settings.
        records: number of records; a method may end with fewer, which its notes then state.
        query: the target; see `published`.
        real: the real data set, which gives the shape and kind of records.
        pool: positions of the real records that the attacker has.
        seed: seed of every draw.
        stop: checked between steps.
        resume: the file in which a climb keeps its state; None to keep none.

    Raises:
        UserError: a class that no climb reached, a target that publishes labels only, too few seed records for the GAN.
    """
    from memberscope.synthesis import baselines

    kind = kind_of(real)
    binary = kind == "binary"
    if method == "noisy":
        chosen = pool[np.arange(records) % len(pool)]
        x, y = baselines.noisy(real.scaled(chosen), real.y[chosen], binary=binary, share=config.noise_share, seed=seed)
        return SyntheticSet(
            method=method, x=x, y=y, notes=(f"{config.noise_share:g} of the features of real records are wrong",)
        )
    if method == "marginal":
        x, y = baselines.marginals(real.scaled(pool), query, records=records, seed=seed)
        return SyntheticSet(method=method, x=x, y=y, queries=20 * records, notes=("labels are the target's",))
    if method == "junk":
        x, y = baselines.junk(real.shape, records=records, classes=real.classes, binary=binary, seed=seed)
        return SyntheticSet(method=method, x=x, y=y)
    climbed = _climb(config, kind, records=records, query=query, real=real, seed=seed, stop=stop, resume=resume)
    return climbed if method == "hill_climb" else _augment(climbed, config, kind, records, real, seed, stop)


def climb_config(
    config: SynthesisConfig, kind: Literal["binary", "image", "real"], *, classes: int, records: int
) -> HillClimbConfig:
    """The climb that a configuration requests; ``auto`` takes the published values or, on a grid over images, those that suit digits."""
    from memberscope.synthesis.hill_climb import HillClimbConfig

    grid = kind == "image" and config.basis == "grid"
    given = {name: getattr(config, name) for name in ("conf_min", "rej_max", *(("copies", "ink") if grid else ()))}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value != "auto"}
    changes |= {
        "k_max": config.k_max,
        "iter_max": config.iter_max,
        "attempts": config.attempts,
        "budget": config.budget or None,
    }
    if grid:
        return HillClimbConfig.images(classes=classes, records=records, **changes)
    basis: Literal["grid", "pixel"] = "pixel" if kind == "image" else "grid"
    return HillClimbConfig(kind=kind, classes=classes, records=records, ones=config.ones, basis=basis, **changes)


def _climb(
    config: SynthesisConfig, kind: Literal["binary", "image", "real"], *, records: int, query: Query, real: LabeledData, seed: int,
    stop: StopFlag, resume: Path | None,
) -> SyntheticSet:  # fmt: skip
    from memberscope.synthesis.hill_climb import HillClimb

    climb = HillClimb(climb_config(config, kind, classes=real.classes, records=records))
    if resume is not None:
        make_private(resume.parent)
    with Progress(records, "climbing", unit="record") as progress:
        before = 0

        def report(found: int, queries_made: int) -> None:
            nonlocal before
            progress.advance(found - before, note=f"{queries_made:,} queries")
            before = found

        found = climb.run(query, shape=real.shape, seed=seed, stop=stop, progress=report, resume=resume)
    lacking = sum(one.asked - one.reached for one in found.by_class)
    notes = (f"{lacking} of {records} records were not reached; see by_class",) if lacking else ()
    return SyntheticSet(
        method="hill_climb", x=found.x, y=found.y, queries=found.queries, by_class=tuple(found.rows()), notes=notes
    )


def _augment(
    climbed: SyntheticSet, config: SynthesisConfig, kind: Literal["binary", "image", "real"], records: int, real: LabeledData, seed: int,
    stop: StopFlag,
) -> SyntheticSet:  # fmt: skip
    from memberscope.synthesis.gan import train_gan

    with Progress(config.gan_epochs, "GAN", unit="epoch") as progress:
        gan = train_gan(
            climbed.x, climbed.y, kind=kind, classes=real.classes, epochs=config.gan_epochs, seed=seed, stop=stop,
            progress=progress.advance,
        )  # fmt: skip
    x, y = gan.sample(-(-records // real.classes), seed=seed)
    notes = (
        f"trained on {len(climbed.y)} climbed records; {gan.starts} starts, {gan.epochs} epochs"
        + ("; collapsed: see the card's diversity" if gan.collapsed else ""),
    )
    return SyntheticSet(
        method="gan", x=x[:records], y=y[:records], queries=climbed.queries, by_class=climbed.by_class, notes=notes
    )
