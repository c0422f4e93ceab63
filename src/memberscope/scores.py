"""Scores stored with a run, so that runs can be compared record by record later.

They are stored as dense ranks: every metric of a ROC curve, and every paired test, depends only on the order and the ties of scores, so
int32 ranks give the same results as the float64 scores, bit for bit, in half the space (an audit of 60,000 records with ten attacks: 3 MB).

The file reveals nothing but its size to anybody without the key (`memberscope.secret`): all that it holds is sealed with it. Unencrypted
ranks would reveal too much: anyone who has the model finds each record by its loss, and each attack's ranks and AUC are then an equation
for the members. Inside the seal, records are named by keyed identities, by which they are found in other runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array
from memberscope.errors import UserError
from memberscope.npz import read_npz
from memberscope.sealed import check_key, is_sealed, unsealed, write_sealed
from memberscope.secret import Key

_RANK = "rank_"
_STORED = "allowed: a file that an audit stored"


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptScores:
    """One model's audited records, or their groups if the audit counted groups.

    Attributes:
        member: (n,) bool.
        ranks: attack -> (n,) int32 dense ranks of its scores: equal scores share one, higher = more likely a member.
        record_ids: (n,) numbers or text, in a file keyed identities; None where the records have no ids.
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
    def of(
        cls,
        scores: Mapping[str, NDArray[np.float64]],
        *,
        member: NDArray[np.bool_],
        record_ids: Array | None,
        labels: Array | None,
        source: str,
    ) -> KeptScores:
        """Build from attack -> (n,) scores of what an audit counted, records or groups."""
        ranks = {name: np.unique(values, return_inverse=True)[1].astype(np.int32) for name, values in scores.items()}
        return cls(member=member, ranks=ranks, record_ids=record_ids, labels=labels, source=source)

    def save(self, path: Path, *, key: Key) -> None:
        """Write an ``.npz`` that can be read only with the key."""
        ids = None if self.record_ids is None else key.identities(self.record_ids, source=self.source)
        arrays: dict[str, Array] = {_RANK + name: values for name, values in self.ranks.items()}
        arrays |= {"source": np.array(self.source), "member": self.member}
        arrays |= {name: value for name, value in (("record_ids", ids), ("labels", self.labels)) if value is not None}
        write_sealed(path, arrays, key=key)

    @classmethod
    def load(cls, path: Path, *, key: Key) -> KeptScores:
        """Read a file that `save` wrote, or one of an earlier version, which was not keyed.

        Raises:
            OtherKey: it was written with another key.
            UserError: any other file.
        """
        arrays = read_npz(path)
        if is_sealed(arrays):
            arrays = unsealed(path, arrays, key=key)
        ranks = {name.removeprefix(_RANK): values for name, values in arrays.items() if name.startswith(_RANK)}
        if "masked_member" in arrays and {"salt", "key_check"} <= arrays.keys():
            check_key(path, arrays, key)
            masked = arrays["masked_member"]
            if masked.ndim != 1 or masked.dtype.kind not in "bu":
                raise UserError(
                    f"{path}: masked_member is {masked.dtype} of shape {masked.shape}, so the file is damaged; {_STORED}"
                )
            member = masked.astype(np.bool_) ^ key.mask(arrays["salt"].tobytes(), len(masked))
        elif "member" in arrays:
            member = arrays["member"]
        else:
            raise UserError(f"{path}: not the scores of an audit; allowed: a file that an audit stored")
        _check(path, member, ranks, {name: arrays[name] for name in ("record_ids", "labels") if name in arrays})
        return cls(
            member=member, ranks=ranks, record_ids=arrays.get("record_ids"), labels=arrays.get("labels"),
            source=_source(path, arrays.get("source")),
        )  # fmt: skip


def _check(path: Path, member: Array, ranks: Mapping[str, Array], others: Mapping[str, Array]) -> None:
    """Raise UserError unless all arrays are about the same records, of which some are members and some are not."""
    if member.ndim != 1 or member.dtype != np.bool_ or member.all() or not member.any():
        raise UserError(f"{path}: its membership is {member.dtype} of shape {member.shape}, or of one side alone; {_STORED}")
    for name, array in {**ranks, **others}.items():
        if array.shape != member.shape:
            raise UserError(
                f"{path}: {name} has shape {array.shape} for {len(member)} records, so the scores are damaged; {_STORED}"
            )
        if (name in ranks and array.dtype.kind not in "iu") or array.dtype.kind not in "iubfUS":
            raise UserError(f"{path}: {name} is {array.dtype}, so the scores are damaged; {_STORED}")


def _source(path: Path, array: Array | None) -> str:
    if array is None:
        return "given"
    if array.shape != ():
        raise UserError(f"{path}: source has shape {array.shape}, so the scores are damaged; {_STORED}")
    return str(array)
