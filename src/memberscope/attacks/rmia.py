"""The robust attack of Zarifzadeh et al. 2024, "Low-Cost High-Power Membership Inference Attacks" (RMIA).

A record x is compared with records z of a population that no model was trained on. With p(x | target) the target's probability of the
true label and p(x) its mean over reference models (here: the shadows), the likelihood ratio is (their Eq. 1 and 2)

    LR(x, z) = [p(x | target) / p(x)] / [p(z | target) / p(z)]

and the score is the share of the population for which LR(x, z) >= gamma (Eq. 3). A single reference model is enough.

**p(x), online**, is the mean of the means over IN models (trained on x) and over OUT models. **Offline** there are no IN models; the
paper takes their mean to be a p_out + (1 - a), so that p(x) = ((1 + a) p_out + (1 - a)) / 2 (Appendix B.2). The same line stands in
wherever a record lacks a side: online for records without an IN model, and so for the whole population, which has only OUT models (a
plain mean there would not be comparable with the records'); and, solved for p_out and clipped to [0, 1], for records without an OUT
model (the authors' code does the same for one reference model, without the clip, and then meets negative probabilities).

**Temperature and a** are chosen for the models at hand by attacking some of the shadows with the others, never with the target, its twin
or their labels: see `memberscope.attacks.rmia_settings`. The paper's tables rest on settings of this kind too (their Appendix B.2 chooses
`a` on a reference model; their code divides logits by 2); no fixed pair of values is near the best one for a perceptron that fits every
member, a network that hardly overfits and a random forest alike.

**gamma** is 2, the paper's for CIFAR-10. Since one population serves all records, the share is a rising function of p(x | target) / p(x)
alone: gamma and the population decide how finely the ranking is resolved, and never its direction. The share takes at most z + 1 values,
and a ratio gamma times the population's largest ties with all above it: thousands of records at the top, and no information at a low FPR.
By default, therefore, ties are broken by that ratio (``ties="ratio"``), which makes the ranking that of the ratio itself;
``ties="keep"`` gives the share itself. The authors' current code counts LR > 1 and does not break ties: these are the variants
`rmia_online_gamma_1` and `rmia_offline_gamma_1`, which run only if they are named. At gamma 1, ratios are resolved where the
population's lie, so that the share ranks records as the ratio itself does, except that records between two neighbouring ratios of the
population tie.

**Several queries.** Where the models were also queried with augmented copies x_1, ..., x_q of a record, the paper takes a majority vote
on the comparison inside Eq. 3: x dominates z if LR(x_k, z) >= gamma holds for *more than half* of the copies, each with its own p(x_k),
and the score is the share of the population that x dominates. Here all copies meet the same z, so that x dominates z exactly if its copy
with the (q // 2 + 1)-th largest ratio does. The vote is therefore RMIA with the median of the record's q log-ratios (the lower one of the
two middle values for even q), and is computed in this way. We differ from the code of the paper (``research/2023_rmia`` of the authors'
repository) in that it compares x_k with the population's copy z_k of the same kind, which takes q queries of every z as well, where ours
are queried once. On image models that were measured, both ways gave the same AUC within .002.

Copies help where models were trained with copies of the same kind, and harm elsewhere. By default (``queries="auto"``) the attack votes
only where the vote is stronger than the record alone when shadows are attacked by the others: see `memberscope.attacks.rmia_queries`.

All ratios are differences of logarithms, and the count is a search in the sorted population: O((n + z) log z).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from memberscope import signals
from memberscope.attacks import calibration
from memberscope.attacks.base import Attack, AttackScores, Skip
from memberscope.attacks.levels import ReadLevels
from memberscope.attacks.rmia_queries import choose_queries, ratios_of_copies, vote
from memberscope.attacks.rmia_settings import RmiaSettings, choose, log_reference
from memberscope.checks import BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.predictions import Predictions

TIES = ("ratio", "keep")
QUERIES = ("auto", "vote", "one")


def rmia_scores(
    record: FloatArray, population: FloatArray, *, gamma: float = 2.0, ties: str = "ratio", strict: bool = False
) -> FloatArray:
    """RMIA's scores from log-ratios log p(. | target) - log p(.).

    Args:
        record: (n,) log-ratios of the target's records.
        population: (z,) log-ratios of the population's records.
        gamma: the factor by which a record's ratio must exceed another's.
        ties: ``keep``: the share of the population with LR >= gamma, (Eq. 3). ``ratio``: (c + s) / (z + 1) with c the number of them and
            s in (0, 1) a rising function of the record's own log-ratio r, ``(1 + r / (1 + |r|)) / 2``.
        strict: whether to count LR > gamma, as the authors' code does, instead of LR >= gamma.

    Returns:
        (n,) in [0, 1]; higher = more likely a member.
    """
    count = np.searchsorted(np.sort(population), record - math.log(gamma), side="left" if strict else "right")
    if ties == "keep":
        return count / len(population)
    within = 0.5 * (1.0 + record / (1.0 + np.abs(record)))
    scores: FloatArray = (count + within) / (len(population) + 1)
    return scores


@dataclass(frozen=True, kw_only=True)
class Rmia(Attack):
    """The robust attack, online or offline; see the module's docstring.

    Attributes:
        online: whether to use also the shadows that were trained on a record.
        gamma: the factor by which a record's ratio must exceed another's, above 0.
        temperature: the temperature of the softmax, above 0; None to choose it on the shadows.
        a: slope of the line from a record's OUT to its IN probability, in (0, 1]; None to choose it on the shadows.
        ties: ``ratio`` or ``keep``, as in `rmia_scores`.
        strict: as in `rmia_scores`.
        queries: where there are augmented copies, ``vote``: the majority vote over them; ``one``: the record alone; ``auto``: whichever is
            stronger on the shadows.
    """

    family: str = "shadow"
    needs: frozenset[str] = frozenset({"target", "shadows", "population"})
    reads_copies: bool = True
    online: bool
    gamma: float = 2.0
    temperature: float | None = None
    a: float | None = None
    ties: str = "ratio"
    strict: bool = False
    queries: str = "auto"

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        if not (self.gamma > 0.0 and math.isfinite(self.gamma)):
            raise UserError(f"gamma: {self.gamma}; allowed: numbers above 0")
        if self.temperature is not None and not (self.temperature > 0.0 and math.isfinite(self.temperature)):
            raise UserError(f"temperature: {self.temperature}; allowed: numbers above 0, or none to choose it on the shadows")
        if self.a is not None and not 0.0 < self.a <= 1.0:
            raise UserError(f"a: {self.a}; allowed: above 0 and at most 1, or none to choose it on the shadows")
        if self.ties not in TIES:
            raise UserError(f"ties: {self.ties!r}; allowed: {', '.join(TIES)}")
        if self.queries not in QUERIES:
            raise UserError(f"queries: {self.queries!r}; allowed: {', '.join(QUERIES)}")

    def missing(self, evidence: Evidence) -> str | None:
        """All models must give the true label's probability, and the shadows must have outputs for the target's records."""
        reason = super().missing(evidence) or calibration.lacking(evidence)
        if reason or evidence.population is None:
            return reason
        reason = signals.missing("loss_nats", evidence.population.model(0))
        if reason:
            return f"{reason} of the population"
        if self.online and not calibration.membership(evidence).any():
            return "needs shadows that were trained on some of the target's records"
        return None

    def _score(self, evidence: Evidence, *, seed: int, workers: int | None, folds: int | None) -> AttackScores | Skip:
        del seed, workers, folds
        shadows, population, places = evidence.shadows, evidence.population, evidence.places
        assert shadows is not None
        assert population is not None
        assert places is not None
        others = population.models(slice(1, None))
        made = choose(shadows, others, online=self.online, temperature=self.temperature, a=self.a)
        copies = calibration.copies_of(evidence) if self.queries != "one" else None
        if copies is not None and self.queries == "auto":
            made = choose_queries(made, shadows, copies.models(slice(1, None)), places, online=self.online)
        elif copies is not None:
            made = replace(made, vote=True, queries=f"a majority vote over {copies.queries} queries (as configured)")

        def read(predictions: Predictions) -> FloatArray:
            return calibration.log_prob(predictions, made.temperature)

        def reference(log_p: FloatArray, member: BoolArray) -> FloatArray:
            return log_reference(log_p, member, online=self.online, a=made.a, inverse_a=made.inverse_a)

        member = calibration.membership(evidence)
        if copies is not None and made.vote:
            log_p = copies.of_each(read)
            record = vote(ratios_of_copies(log_p[0], log_p[1:], member, made, online=self.online))
        else:
            levels = ReadLevels(
                models=shadows, read=read, places=None if calibration.in_order(places, len(shadows)) else places
            )
            record = read(evidence.target)
            for rows in levels.pieces():
                record[rows] -= reference(levels.at(rows)[:, :, 0], member[:, rows])
        calibrated = read(population.model(0)) - reference(calibration.of_each(others, read), others.member)
        scores = rmia_scores(record, calibrated, gamma=self.gamma, ties=self.ties, strict=self.strict)
        return self._scores(scores, notes=self._notes(member, len(calibrated), made) + calibration.clip_notes(evidence))

    def _notes(self, member: BoolArray, z: int, made: RmiaSettings) -> tuple[str, ...]:
        settings = f"temperature {made.temperature:.3g}, a {made.a:.3g} ({made.how})"
        settings += f"; {made.queries}" if made.queries else ""
        notes = [f"{len(member)} reference models, {z} records of a population, gamma {self.gamma:g}, {settings}"]
        ins = member.sum(axis=0)
        for side, count, wanted in (("IN", ins, self.online), ("OUT", len(member) - ins, True)):
            bare = int((count == 0).sum())
            if wanted and bare:
                notes.append(f"{bare} records have no {side} model; its probability follows from the line with slope a")
        return tuple(notes)


RMIA = (Rmia(name="rmia_online", online=True), Rmia(name="rmia_offline", online=False))
RMIA_GAMMA_1 = tuple(
    Rmia(name=f"{attack.name}_gamma_1", online=attack.online, gamma=1.0, ties="keep", strict=True, named_only=True)
    for attack in RMIA
)
