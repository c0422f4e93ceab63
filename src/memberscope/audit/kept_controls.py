"""Reads the controls that a run has stored: for each control a sentence for people, and the values that decisions use."""

from __future__ import annotations

import json
from dataclasses import dataclass

# Older versions stored only sentences. This is how theirs began where the blind control casts doubt on the other metrics. Existing runs
# contain this wording, so it must stay as it is even if today's sentences change.
_OLD_WORDING = "Blind control: members and non-members differ by more than membership"


@dataclass(frozen=True, kw_only=True)
class KeptControl:
    """One stored control.

    Attributes:
        text: its finding, for people.
        differs: whether members and non-members differ by more than membership, so that every other metric is in doubt.
        derived: whether `differs` was read from the sentence, because an older version stored nothing else.
    """

    text: str = ""
    differs: bool = False
    derived: bool = False


def read(text: str) -> dict[str, KeptControl]:
    """Name -> control, from the text of the file; empty if that is empty or not a JSON object, which whoever reads the file refuses.

    Older versions stored a sentence for each control and no values. Here, and nowhere else, a decision is read from such a sentence.
    """
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return {str(name): _control(str(name), kept) for name, kept in found.items()} if isinstance(found, dict) else {}


def _control(name: str, kept: object) -> KeptControl:
    if isinstance(kept, dict):
        derived = kept.get("derived") is True  # in an evidence file of such a run
        return KeptControl(text=str(kept.get("text", "")), differs=kept.get("differs") is True, derived=derived)
    if name != "blind":
        return KeptControl(text=str(kept))
    return KeptControl(text=str(kept), differs=str(kept).startswith(_OLD_WORDING), derived=True)
