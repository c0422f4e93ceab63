"""What only the user can declare about the world around a model; an audit neither measures nor guesses it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from memberscope.errors import UserError
from memberscope.metrics.spec import DECLARED


@dataclass(frozen=True, kw_only=True)
class Declared:
    """The user's declarations.

    Attributes:
        prior: share of members among the candidates that an attacker considers, in (0, 1); None if it was not declared.
        subjects: the number of people in the training set, at least 1; None if it was not declared.
        sensitivity: what membership reveals about a person, such as "has the disease"; empty if it was not declared.

    Raises:
        UserError: a value out of its range.
    """

    prior: float | None = None
    subjects: int | None = None
    sensitivity: str = ""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.prior is not None and not (math.isfinite(self.prior) and 0.0 < self.prior < 1.0):
            raise UserError(f"prior={self.prior:g}: out of range; allowed: above 0 and below 1, or nothing")
        if self.subjects is not None and self.subjects < 1:
            raise UserError(f"subjects={self.subjects}: out of range; allowed: 1 or more, or nothing")

    @property
    def given(self) -> tuple[str, ...]:
        """The names of what rules and metrics may use, among `memberscope.metrics.spec.DECLARED`."""
        return tuple(name for name in DECLARED if getattr(self, name) is not None)

    def check_members(self, members: int, *, grouped: bool) -> None:
        """Raise UserError if fewer people were declared than members were audited."""
        if self.subjects is not None and self.subjects < members:
            what = "groups of members" if grouped else "members"
            raise UserError(
                f"subjects={self.subjects}: fewer than the {members} {what} audited, all of whom are in the training set; allowed: "
                f"{members} or more"
            )
