"""The attack of `own_artifacts` on what runs of `attack` and `shadow` leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_artifacts import best_guess, everything, unlisted

from memberscope import metrics, plots
from memberscope.audit import artifacts
from memberscope.audit.log import LEAST_STEP
from memberscope.config import AttackStudyConfig
from memberscope.config.outside import ShadowStudyConfig
from memberscope.datasets import records as sides
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.scores import KeptScores
from memberscope.studies import attack
from memberscope.tracking import MemoryTracker

N = 400
CHANCE = 0.14  # the largest deviation of an AUC from 1/2 over some forty columns of 400 records without any signal: five standard errors


def _audited(folder: Path, *, text_ids: bool = False) -> tuple[Path, dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 4, N), np.arange(N) < N // 2
    logits = rng.normal(size=(N, 4))
    logits[np.arange(N), labels] += 1 + 0.3 * member  # a model that leaks little: what is read from its files would stand out
    x = rng.integers(0, 256, (N, 8, 8, 1), dtype=np.uint8)
    records = [
        sides.Records(x=x[rows], y=labels[rows], name=name, path=f"{name}.npz")
        for name, rows in (("members", member), ("nonmembers", ~member))
    ]
    content = np.concatenate(sides.record_ids(*records))
    given = np.array([f"person-{k * 7919 % 10_007}" for k in range(N)]) if text_ids else content
    np.savez(folder / "p.npz", logits=logits, labels=labels, member=member, inputs=x, record_ids=given)
    identities = {"content": content, "given": given}
    return folder / "p.npz", identities, member


def test_the_attack_finds_everything_in_what_earlier_versions_left(tmp_path: Path) -> None:
    _, identities, member = _audited(tmp_path)
    old = {"member": member, "record_ids": identities["content"], "rank_threshold_loss": np.arange(N)}
    np.savez(tmp_path / "scores.npz", **old)
    found, how = best_guess({"scores.npz": (tmp_path / "scores.npz").read_bytes()}, {"content": identities["content"]}, member)
    assert found == 0.5
    assert "member" in how
    shuffled = np.random.default_rng(0).permutation(N)
    np.savez(tmp_path / "scores.npz", **{name: values[shuffled] for name, values in old.items()})
    found, how = best_guess({"scores.npz": (tmp_path / "scores.npz").read_bytes()}, {"content": identities["content"]}, member)
    assert found == 0.5
    assert how == "scores.npz: member beside content"


@pytest.mark.parametrize("text_ids", [False, True])
def test_an_attack_run_does_not_tell_its_members(tmp_path: Path, text_ids: bool) -> None:
    path, identities, member = _audited(tmp_path, text_ids=text_ids)
    tracker = MemoryTracker()
    attack.run(
        AttackStudyConfig(predictions=str(path), attacks="threshold_loss,trained_lr", slices="entire"), tracker, StopFlag()
    )
    run = everything(tracker)
    assert not unlisted(tracker)
    assert {artifacts.SCORES, artifacts.MOST_EXPOSED} <= set(run)
    assert artifacts.MOST_EXPOSED_FIGURE not in run
    found, how = best_guess(run, identities, member)
    assert found < CHANCE, how
    exposed = tracker.artifacts[artifacts.MOST_EXPOSED]
    assert list(exposed) == ["rank", "record", "label", "probability"], (
        "nothing that whoever has the model knows of each record"
    )
    assert exposed["rank"].tolist() == list(range(1, 26)), "without gaps, which would be the non-members"
    band = tracker.artifacts[artifacts.ROC_BAND][["low", "high"]].to_numpy().ravel()
    assert [float(f"{value:.2g}") for value in band] == band.tolist()


def test_records_are_shown_on_request_and_left_out_on_request(tmp_path: Path) -> None:
    path, identities, member = _audited(tmp_path)
    options: dict[str, Any] = {"predictions": str(path), "attacks": "threshold_loss", "slices": "entire"}
    shown, private = MemoryTracker(), MemoryTracker()
    attack.run(AttackStudyConfig(**options, show_records=True), shown, StopFlag())
    attack.run(AttackStudyConfig(**options, private_artifacts=True), private, StopFlag())
    assert {"position", "record_id", "member"} <= set(shown.artifacts[artifacts.MOST_EXPOSED])
    assert artifacts.MOST_EXPOSED_FIGURE in shown.artifacts
    assert not {artifacts.SCORES, artifacts.MOST_EXPOSED, artifacts.MOST_EXPOSED_FIGURE} & set(private.artifacts)
    assert best_guess(everything(private), identities, member)[0] < CHANCE


def _by_steps(points: Any, scores: np.ndarray) -> np.ndarray:
    """The share of members among the records of each record's step of a ROC curve, for one who knows every record's score."""
    order = np.argsort(-scores, kind="stable")
    fpr, tpr = points["fpr"].to_numpy(), points["tpr"].to_numpy()
    records = np.round((fpr + tpr) * N / 2).astype(int)
    found = np.zeros(N)
    for first, last, up in zip(records[:-1], records[1:], np.diff(tpr) * N / 2, strict=True):
        found[order[first:last]] = up / max(1, last - first)
    return found


def test_a_stored_roc_curve_adds_little_to_what_the_model_tells(tmp_path: Path) -> None:
    """With the model, and all candidates, an attacker knows the order of the scores; every corner of the curve would tell the rest."""
    from memberscope import Predictions, plots, run_audit

    path, _, member = _audited(tmp_path)
    tracker = MemoryTracker()
    attack.run(AttackStudyConfig(predictions=str(path), attacks="threshold_loss", slices="entire"), tracker, StopFlag())
    report = run_audit(Predictions.load(path), attacks="threshold_loss")
    scores = report.scores("threshold_loss")
    alone = metrics.auc(scores, member).value
    every_corner = metrics.auc(
        _by_steps(plots.roc_points({"threshold_loss": report.roc("threshold_loss")}), scores), member
    ).value
    stored = metrics.auc(_by_steps(tracker.artifacts[artifacts.ROC], scores), member).value
    assert every_corner > 0.99
    assert alone - 0.02 < stored < alone + 0.1  # in simulations it adds .01 to .04 on average, for 400 to 60,000 records
    assert "threshold" not in tracker.artifacts[artifacts.ROC]


def test_the_owner_can_still_read_the_scores(tmp_path: Path) -> None:
    from memberscope.secret import key

    path, identities, member = _audited(tmp_path)
    tracker = MemoryTracker()
    attack.run(AttackStudyConfig(predictions=str(path), attacks="threshold_loss", slices="entire"), tracker, StopFlag())
    (tmp_path / "s.npz").write_bytes(tracker.artifacts[artifacts.SCORES])
    kept = KeptScores.load(tmp_path / "s.npz", key=key())
    truth = dict(zip(key().identities(identities["given"], source="given").tolist(), member.tolist(), strict=True))
    assert kept.record_ids is not None
    np.testing.assert_array_equal(kept.member, [truth[one] for one in kept.record_ids.tolist()])


def test_a_shadow_study_does_not_leave_its_plan(tmp_path: Path) -> None:
    from memberscope.studies.shadow import study

    functions = Path(__file__).parents[1] / "training" / "outside" / "functions.py"
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "d.npz", x=rng.random((3 * N // 2, 4)), y=rng.integers(0, 2, 3 * N // 2))
    tracker = MemoryTracker()
    config = ShadowStudyConfig(
        dataset=str(tmp_path / "d.npz"), trainer=f"{functions}:neighbour", params="sharpness=0.01", shadows=2, targets=1, members=N // 2,
        attacks="threshold_loss", slices="entire", store="none",
    )  # fmt: skip
    study.run(config, tracker, StopFlag())
    run = everything(tracker)
    (name,) = (name for name in run if name.endswith(artifacts.SCORES))
    assert not any("plan" in file for file in run)
    kept = KeptScores.load(_file(tmp_path, run[name]), key=_key())
    place = {one: row for row, one in enumerate(kept.record_ids.tolist())}  # type: ignore[union-attr]
    names = _key().identities(np.arange(3 * N // 2), source=kept.source).tolist()
    audited = np.array([position for position, name in enumerate(names) if name in place])
    truth = kept.member[[place[names[position]] for position in audited]]
    assert len(audited) == N
    found, how = best_guess(run, {"position": audited}, truth)
    assert found < CHANCE, how


def _key() -> Any:
    from memberscope.secret import key

    return key()


def _file(folder: Path, content: bytes) -> Path:
    (folder / "kept.npz").write_bytes(content)
    return folder / "kept.npz"


@pytest.mark.parametrize("shape", ["normal", "lumps", "constant"])
def test_no_bin_of_a_histogram_holds_few_records(shape: str) -> None:
    rng = np.random.default_rng(0)
    scores = {
        "normal": rng.normal(size=N) ** 3,
        "lumps": rng.choice([0.0, 1.0, 50.0], N, p=[0.8, 0.15, 0.05]),
        "constant": np.ones(N),
    }[shape]
    edges = plots.histogram_edges(scores, bins=59, least=LEAST_STEP)
    counts = np.histogram(scores.clip(edges[0], edges[-1]), edges)[0]
    assert counts.sum() == N
    assert counts.min() >= LEAST_STEP
    assert len(counts) == {"normal": 3, "lumps": 2, "constant": 1}[shape]
    assert (np.diff(edges) > 0).all()
    fine = plots.histogram_edges(scores, bins=59, least=1)
    assert fine[0] == edges[0]
    assert fine[-1] == edges[-1]


def test_a_sealed_file_has_nothing_in_the_clear(tmp_path: Path) -> None:
    """With the ranks, whoever has the model finds each record, and has an equation for the members with each attack's AUC."""
    path, _, member = _audited(tmp_path)
    tracker = MemoryTracker()
    attack.run(AttackStudyConfig(predictions=str(path), attacks="threshold_loss", slices="entire"), tracker, StopFlag())
    (tmp_path / "s.npz").write_bytes(tracker.artifacts[artifacts.SCORES])
    with np.load(tmp_path / "s.npz") as file:
        arrays = {name: file[name] for name in file.files}
    assert set(arrays) == {"sealed", "salt", "key_check"}
    sealed = arrays["sealed"]
    assert 4 * N < len(sealed) < 40 * N
    counts = np.bincount(sealed, minlength=256)
    assert ((counts - len(sealed) / 256) ** 2 / (len(sealed) / 256)).sum() < 255 + 5 * np.sqrt(2 * 255), "as random bytes"
    changed = sealed.copy()
    changed[len(changed) // 2] ^= 1
    np.savez(tmp_path / "changed.npz", **{**arrays, "sealed": changed})
    with pytest.raises(UserError, match="truncated or damaged"):
        KeptScores.load(tmp_path / "changed.npz", key=_key())
    assert member.sum() == N // 2
