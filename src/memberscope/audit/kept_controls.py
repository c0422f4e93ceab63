"""The controls of an audit as a run keeps them: for each a sentence for people, and the values that decisions read."""

from __future__ import annotations

import json
from dataclasses import dataclass

# How the blind control's sentence began where it cast doubt on the other figures, in the versions that kept nothing else. It is the wording
# of runs that exist, and stays as it is whatever today's sentences say.
_ONCE_SAID = "Blind control: members and non-members differ by more than membership"


@dataclass(frozen=True, kw_only=True)
class KeptControl:
    """A control.

    Attributes:
        text: what it found, for people.
        differs: do members and non-members differ by more than membership, so that every other figure is in doubt?
        derived: was `differs` read from the sentence, because an older version kept nothing else?
    """

    text: str = ""
    differs: bool = False
    derived: bool = False


def read(text: str) -> dict[str, KeptControl]:
    """Name -> control, of the file's text; empty if that is empty or no JSON object.

    Older versions kept a sentence for each control and no values. Here, and nowhere else, the sentence of such a blind control is read for
    what it says.
    """
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(name): _control(str(name), kept) for name, kept in found.items()} if isinstance(found, dict) else {}


def _control(name: str, kept: object) -> KeptControl:
    if isinstance(kept, dict):
        return KeptControl(text=str(kept.get("text", "")), differs=kept.get("differs") is True)
    if name != "blind":
        return KeptControl(text=str(kept))
    return KeptControl(text=str(kept), differs=str(kept).startswith(_ONCE_SAID), derived=True)
