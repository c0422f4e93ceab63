"""Scores stored with a run, so that runs can be compared record by record later.

They are stored as dense ranks: every metric of a ROC curve, and every paired test, depends only on the order and the ties of scores, so
int32 ranks give the same results as the float64 scores, bit for bit, in half the space (an audit of 60,000 records with ten attacks: 3 MB).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array
from memberscope.errors import UserError
from memberscope.npz import read_npz, write_npz

if TYPE_CHECKING:
    from memberscope.predictions import Predictions

_RANK = "rank_"


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptScores:
    """One model's audited records.

    Attributes:
        member: (n,) bool.
        ranks: attack -> (n,) int32 dense ranks of its scores: equal scores share one, higher = more likely a member.
        record_ids: (n,) numbers or text; None where the records have no ids.
        labels: (n,) classes; None where unknown.
        source: what the ids refer to, so that row 7 of one data set is not mistaken for row 7 of another: a data set's digest, ``content``
            (the ids are hashes of the records), or ``given`` (the user's own ids).
    """

    member: NDArray[np.bool_]
    ranks: Mapping[str, NDArray[np.int32]]
    record_ids: Array | None = None
    labels: Array | None = None
    source: str = "given"

    @classmethod
    def of(cls, target: Predictions, scores: Mapping[str, NDArray[np.float64]], *, source: str) -> KeptScores:
        """Build from an audit's predictions and its attacks' scores of all records."""
        ranks = {name: np.unique(values, return_inverse=True)[1].astype(np.int32) for name, values in scores.items()}
        return cls(member=target.member, ranks=ranks, record_ids=target.record_ids, labels=target.labels, source=source)

    def save(self, path: Path) -> None:
        """Write an ``.npz``."""
        arrays: dict[str, Array] = {_RANK + name: values for name, values in self.ranks.items()}
        arrays |= {"member": self.member, "source": np.array(self.source)}
        arrays |= {name: value for name in ("record_ids", "labels") if (value := getattr(self, name)) is not None}
        write_npz(path, arrays)

    @classmethod
    def load(cls, path: Path) -> KeptScores:
        """Read a file that `save` wrote; UserError for any other file."""
        arrays = read_npz(path)
        if "member" not in arrays:
            raise UserError(f"{path}: not the scores of an audit; allowed: a file that an audit stored")
        ranks = {name.removeprefix(_RANK): values for name, values in arrays.items() if name.startswith(_RANK)}
        return cls(
            member=arrays["member"], ranks=ranks, record_ids=arrays.get("record_ids"), labels=arrays.get("labels"),
            source=str(arrays.get("source", "given")),
        )  # fmt: skip
