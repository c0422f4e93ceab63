"""Splits and digests of a user's own records, which can be reproduced only with the key.

A split is drawn from a seed, which is one of a few numbers and is logged. Anyone with all the records in their order could reproduce it
and would know every member. The split of a user's own records is therefore drawn from the seed and the secret of `memberscope.secret`.
Public data sets are split by the seed alone, so that published results can be reproduced; nothing is secret about such a split.

A digest of a few records can be found by trying: somebody who knows all members but one could try the candidates. The digests that runs
show of a user's own records are therefore keyed as well.
"""

from __future__ import annotations

from memberscope.datasets.labeled import LabeledData
from memberscope.secret import key


def split_seed(data: LabeledData, seed: int) -> int:
    """The seed from which a split of the records is drawn: `seed` itself, or 256 bits of it and the key if the data set is keyed.

    Raises:
        UserError: the key can neither be read nor generated.
    """
    return key().seed(seed) if data.keyed else seed


def shown_digest(data: LabeledData, digest: str) -> str:
    """A digest of records of the data set as runs show it: as it is, or keyed (64 hexadecimal digits) if the data set is keyed."""
    return key().digest(digest.encode()).hex() if data.keyed else digest


def facts(data: LabeledData) -> dict[str, str]:
    """What a run's parameters say about the key, by which runs of the same seed can differ; nothing for a data set that is not keyed."""
    return {"data.split": f"key {key().check}"} if data.keyed else {}
