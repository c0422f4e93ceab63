"""The `attack` entry point on files: what it logs, what it says, and what bad files get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memberscope import Evidence, LossTrace, Predictions, ShadowPredictions, cli, progress, run_audit
from memberscope.audit.comparisons import compare_decisions
from memberscope.audit.headline import Headline
from memberscope.config import AttackStudyConfig
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.metrics.rounding import round_estimate
from memberscope.studies import attack
from memberscope.tracking import MemoryTracker


def arrays(n: int = 600, *, shift: float = 1.5, seed: int = 0, images: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels, member = rng.integers(0, 5, n), np.arange(n) % 2 == 0
    logits = rng.normal(size=(n, 5)).astype(np.float32)
    logits[np.arange(n), labels] += 1 + shift * member
    found = {"logits": logits, "labels": labels, "member": member, "record_ids": np.arange(n)}
    if images:
        found["inputs"] = rng.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
    return found


PARTS = ("null control", "blind control:", "song & mittal", "riskiest", "partial auc below", "worst slice", "rank correlation")


def study(path: Path, **options: object) -> tuple[MemoryTracker, str]:
    tracker = MemoryTracker()
    result = attack.run(AttackStudyConfig(predictions=str(path), **options), tracker, StopFlag())
    return tracker, result.answer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryTracker, str]:
    folder = tmp_path_factory.mktemp("attack")
    np.savez(folder / "target.npz", **arrays(images=True))
    np.savez(folder / "shadow.npz", **{key: value for key, value in arrays(seed=1).items() if key != "record_ids"})
    return study(folder / "target.npz", shadows=str(folder / "shadow.npz"))


def test_what_the_run_holds(run: tuple[MemoryTracker, str]) -> None:
    tracker, _ = run
    expected = {
        "attacks.csv", "attacks.json", "roc.png", "roc.csv", "roc_band.csv", "summary.md", "most_exposed.csv",
        "dispersion.csv", "scores/trained_mlp.png", "scores/metric_confidence.png",
    }  # fmt: skip
    assert expected <= set(tracker.artifacts)
    data = arrays()
    report = run_audit(Predictions(**data), attacks="threshold_loss")
    exact, rows = report.result("threshold_loss").figures["auc"], tracker.artifacts["attacks.csv"]
    row = rows[(rows["attack"] == "threshold_loss") & (rows["slice"] == "entire") & (rows["metric"] == "auc")].iloc[0]
    assert (row["value"], row["ci_low"], row["ci_high"]) == (exact.value, exact.ci_low, exact.ci_high), (
        "every digit in the table"
    )
    shown = [tracker.latest(f"auc{end}/threshold_loss") for end in ("", "_ci_low", "_ci_high")]
    assert tuple(shown) == round_estimate(exact)
    assert all(len(f"{number:g}") <= len("0.123") and number == float(f"{number:.3f}") for number in shown)
    assert {"auc/trained_rf", "tpr_at_fpr_0_01/metric_confidence", "worst_slice_auc/threshold_loss"} <= set(
        tracker.logged_metrics
    )


def test_the_summary_opens_with_the_finding_and_its_certainty(run: tuple[MemoryTracker, str]) -> None:
    text = run[0].artifacts["summary.md"]
    first = text.splitlines()[0]
    assert "better than chance" in first
    assert "95% interval" in first
    for part in PARTS:
        assert part in text.lower(), part
    assert run[0].description == text


def test_the_headline_is_kept_as_values_and_opens_everything(run: tuple[MemoryTracker, str]) -> None:
    tracker, answer = run
    found = Headline.from_json(tracker.artifacts["headline.json"])
    assert (found.chosen, found.n_member, found.n_nonmember) == ("strongest", 150, 150)
    assert (tracker.latest("auc/headline"), tracker.latest("auc_ci_low/headline")) == round_estimate(found.auc)[:2]
    assert found.auc.value not in (tracker.latest("auc/headline"), round(found.auc.value, 6)), "headline.json has every digit"
    assert tracker.logged_tags["memberscope.headline"] == found.attack
    first = f"{found.attack} tells members from non-members better than chance (AUC {found.auc.value:.3f}"
    assert answer.startswith(first)
    assert tracker.artifacts["summary.md"].startswith(f"**{first}")
    assert next(iter(tracker.artifacts["roc.csv"]["attack"])) == found.attack
    assert set(tracker.artifacts["roc_band.csv"]["attack"]) == {found.attack}
    assert f"null control of {found.attack}" in answer


def test_a_named_attack_speaks_and_a_wrong_name_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "target.npz", **arrays())
    tracker, answer = study(tmp_path / "target.npz", attacks="threshold", primary="threshold_entropy", controls="none")
    assert tracker.logged_tags["memberscope.headline_chosen"] == "named"
    assert answer.startswith("threshold_entropy ")
    assert tracker.latest("auc/headline") == tracker.latest("auc/threshold_entropy")
    for primary, part in (("trained_lr", "not among the attacks that run"), ("lira_online", "not among")):
        with pytest.raises(UserError, match=part):
            study(tmp_path / "absent.npz", attacks="threshold", primary=primary)
    with pytest.raises(UserError, match="primary=lira_online: needs shadows"):
        study(tmp_path / "absent.npz", attacks="all", primary="lira_online")


def test_what_the_blind_control_found_is_kept_as_values(tmp_path: Path) -> None:
    for apart in (False, True):
        values = arrays()
        values["inputs"] = np.random.default_rng(0).normal(size=(600, 4)) + apart * values["member"][:, None]
        np.savez(tmp_path / "target.npz", **values)
        tracker, _ = study(tmp_path / "target.npz", attacks="threshold_loss", slices="entire")
        blind = json.loads(tracker.artifacts["controls.json"])["blind"]
        assert (blind["differs"], blind["on"], blind["status"]) == (apart, "inputs", "ok")
        assert blind["ci_low"] < blind["auc"] < blind["ci_high"]
        assert blind["text"] in tracker.artifacts["summary.md"]


def test_noise_is_not_called_a_leak(tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", **arrays(shift=0.0, seed=3))
    _, answer = study(tmp_path / "noise.npz", attacks="threshold_loss")
    assert "cannot be told from chance" in answer


def test_compared_decisions_are_paired_and_cover_the_truth() -> None:
    rng = np.random.default_rng(0)
    member = np.arange(600) % 3 == 0
    inside = 0
    for _ in range(400):
        shared = rng.random(600)
        first = np.where(member, shared < 0.70, shared < 0.40)
        second = np.where(rng.random(600) < 0.2, rng.random(600) < 0.5, first)  # a fifth of its decisions are coin flips
        difference, low, high, p = compare_decisions(first, second, member)
        by_hand = sum((first == member)[side].mean() - (second == member)[side].mean() for side in (member, ~member)) / 2
        assert difference == pytest.approx(by_hand)
        assert (p < 0.05) == (low > 0 or high < 0)
        inside += low <= 0.2 * (0.65 - 0.5) <= high
    # 95% of 400 is 380, sd 4.4: outside 366 to 394 once in a thousand runs
    assert 366 <= inside <= 394
    assert compare_decisions(member, member, member) == (0.0, 0.0, 0.0, 1.0)


def test_inputs_without_dispersion_do_not_end_the_audit(tmp_path: Path) -> None:
    values = arrays()
    values["inputs"] = np.full((600, 4), np.nan)
    np.savez(tmp_path / "nan.npz", **values)
    tracker, _ = study(tmp_path / "nan.npz", attacks="threshold_loss")
    assert "Class dispersion against AUC: skipped" in tracker.artifacts["summary.md"]


def test_a_request_without_entire_still_has_a_finding(tmp_path: Path) -> None:
    np.savez(tmp_path / "target.npz", **arrays())
    _, answer = study(tmp_path / "target.npz", attacks="threshold_loss", slices="class", controls="none")
    assert "better than chance" in answer


@pytest.mark.slow  # imports tensorflow_privacy
@pytest.mark.parametrize("form", ["probs", "predicted", "loss_nats"])
def test_tensorflow_privacys_engine_takes_what_it_can(tmp_path: Path, form: str) -> None:
    values = arrays()
    logits = values.pop("logits").astype(float)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    own = {"probs": probs, "predicted": probs.argmax(axis=1), "loss_nats": -np.log(probs[np.arange(600), values["labels"]])}
    target = Predictions(**values, **{form: own[form]})
    report = run_audit(target, attacks="threshold", slices="all", engine="tfp")
    status = {result.attack: result.status for result in report.results if result.slice == "entire"}
    expected = {"probs": ("ok", "ok"), "predicted": ("skipped", "skipped"), "loss_nats": ("ok", "skipped")}[form]
    assert (status["threshold_loss"], status["threshold_entropy"]) == expected


def test_skipped_attacks_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "target.npz", **arrays())
    tracker, answer = study(tmp_path / "target.npz", attacks="threshold_loss,metric_confidence", controls="none")
    assert "Skipped: `metric_confidence`, needs shadows" in tracker.artifacts["summary.md"]
    assert "Skipped: metric_confidence, needs shadows." in answer
    _, of_family = study(tmp_path / "target.npz", attacks="threshold,metric,threshold-entropy", controls="none")
    assert "Skipped" not in of_family, "of families, whichever can run are wanted"


def test_full_controls_refit(tmp_path: Path) -> None:
    np.savez(tmp_path / "target.npz", **arrays(300))
    tracker, _ = study(tmp_path / "target.npz", attacks="trained_lr", controls="full", slices="entire")
    assert "trained_lr refitted on 20 permutations" in tracker.artifacts["summary.md"]


def test_every_stage_shows_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of these takes more than a few seconds with a million records."""
    entered = list[str]()

    def begun(shown: progress.Waiting | progress.Progress) -> Any:
        alive = not isinstance(shown, progress.Progress) or shown._life is not None
        entered.append(f"{shown._label}{'' if alive else ', silent'}")
        return inner[type(shown)](shown)

    inner = {kind: kind.__enter__ for kind in (progress.Waiting, progress.Progress)}
    for kind in inner:
        monkeypatch.setattr(kind, "__enter__", begun)
    np.savez(tmp_path / "target.npz", **arrays(300), inputs=np.random.default_rng(0).normal(size=(300, 2)))
    study(tmp_path / "target.npz", attacks="trained_lr", controls="full", slices="entire")
    assert entered == [
        "audit: reading the files", "audit attacks", "audit: blind control", "audit: refits", "audit: looking for near copies",
        "audit: logging the results",
    ]  # fmt: skip
    assert all(line.startswith(("audit attacks", "audit: ")) for line in capsys.readouterr().err.splitlines())


def _bad(change: dict[str, object]) -> dict[str, np.ndarray]:
    values = {**arrays(), **change}
    return {key: value for key, value in values.items() if value is not None}


NAN = arrays()["logits"].copy()
NAN[7, 2] = np.nan
NAN[9, 1] = np.inf
BAD = {
    "missing member": ({"member": None}, "member is missing"),
    "misspelt key": ({"member": None, "membr": np.ones(600, bool)}, "nearest: member"),
    "rank": ({"logits": np.zeros(600)}, "logits: 1 axes"),
    "nan": ({"logits": NAN}, "2"),
    "probs": ({"logits": None, "probs": np.full((600, 5), 0.3)}, "sigmoids' logits"),
    "part of them": ({"logits": None, "probs": np.full((600, 5), 0.1)}, "released"),
    "softmax": ({"logits": np.random.default_rng(0).dirichlet(np.ones(5), size=600)}, "sum to one: probabilities"),
    "negative": ({"logits": None, "probs": np.tile([1.2, -0.2, 0, 0, 0], (600, 1))}, "negative"),
    "classes": ({"labels": np.full(600, 5)}, "labels"),
    "real labels": ({"labels": np.full(600, 0.5)}, "labels"),
    "real member": ({"member": np.ones(600)}, "allowed: bool"),
    "one side": ({"member": np.ones(600, bool)}, "at least one member and one non-member"),
    "lengths": ({"labels": np.zeros(599, int)}, "599"),
    "object": ({"labels": np.array([{}] * 600, dtype=object)}, "labels"),
    "too few": ({key: value[:30] for key, value in arrays().items()}, "at least 20"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_files_get_one_line_exit_two_and_nothing_half_written(
    store: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, part = BAD[case]
    np.savez(store / "bad.npz", **_bad(change))
    code = cli.main(["attack", "--predictions=bad.npz"])
    error = capsys.readouterr().err.splitlines()
    assert code == 2
    lines = [line for line in error if line.startswith("memberscope: ")]
    assert len(lines) == 1
    assert part in lines[0]
    assert not list(store.rglob("*.png")) + list(store.rglob("attacks.csv"))


def test_truncated_missing_and_unnamed_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", **arrays())
    whole = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for path, part in ((tmp_path / "cut.npz", "cut.npz"), (tmp_path / "none.npz", "none.npz")):
        with pytest.raises(UserError, match=part):
            study(path)
    with pytest.raises(UserError, match="predictions=: missing"):
        attack.run(AttackStudyConfig(), MemoryTracker(), StopFlag())


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"attacks": "trained_lp"}, "nearest: trained_mlp, trained_lr"),
        ({"slices": "class_9"}, "class_0 to class_4"),
        ({"attacks": "metric", "engine": "tfp"}, "none of them"),
    ],
)
def test_unknown_attacks_and_slices(tmp_path: Path, options: dict[str, str], part: str) -> None:
    np.savez(tmp_path / "target.npz", **arrays())
    with pytest.raises(UserError, match=part):
        study(tmp_path / "target.npz", **options)


def test_gaps_take_their_columns_mean() -> None:
    from memberscope.audit.log import without_gaps

    x = np.array([[1.0, np.nan], [3.0, 4.0], [np.inf, 6.0]])
    np.testing.assert_array_equal(without_gaps(x), [[1, 5], [3, 4], [2, 6]])
    whole = x[1:2]
    assert without_gaps(whole) is whole


def _trace(
    path: Path, data: dict[str, np.ndarray], *, epochs: int = 6, who: bool = True, order: np.ndarray | None = None
) -> np.ndarray:
    """Write a loss trace of the records of `arrays`, whose members' losses fall; returns (n, epochs) in the order of `data`."""
    rng, n = np.random.default_rng(9), len(data["labels"])
    losses = rng.gamma(1.0, size=(n, epochs)) + np.where(data["member"][:, None], np.linspace(1.5, 0.0, epochs), 1.0)
    order = np.arange(n) if order is None else order
    kept = {"member": data["member"][order], "labels": data["labels"][order]} if who else {}
    trace = LossTrace.create(path, record_ids=order, **kept)
    for column in losses[order].T:
        trace.update(column)
    return losses.astype(np.float32)


def test_a_trace_feeds_the_trace_attacks_record_by_record(tmp_path: Path) -> None:
    data = arrays()
    np.savez(tmp_path / "target.npz", **data)
    losses = _trace(tmp_path / "t", data, order=np.random.default_rng(1).permutation(600))
    tracker, _ = study(tmp_path / "target.npz", trace=str(tmp_path / "t"), attacks="trace,threshold_loss", controls="none")
    expected = run_audit(Evidence(target=Predictions(**data), loss_trace=losses), attacks="trace")
    for name in ("trace_final", "trace_mean", "trace_lt_iqr"):
        assert tracker.latest(f"auc/{name}") == round_estimate(expected.result(name).figures["auc"])[0]
    assert 0.6 < tracker.latest("auc/trace_final") < 0.9
    without, _ = study(tmp_path / "target.npz", attacks="trace,threshold_loss", controls="none")
    assert tracker.latest("auc/threshold_loss") == without.latest("auc/threshold_loss")
    rows = {row["attack"]: row for row in without.artifacts["attacks.csv"].to_dict("records")}
    assert rows["trace_mean"]["status"] == "skipped"
    assert "needs loss_trace (losses by epoch, which memberscope.LossTrace collects)" in rows["trace_mean"]["reason"]


def test_a_trace_alone_is_audited(tmp_path: Path) -> None:
    data = arrays()
    losses = _trace(tmp_path / "t", data)
    tracker = MemoryTracker()
    attack.run(AttackStudyConfig(trace=str(tmp_path / "t"), controls="none"), tracker, StopFlag())
    last = Predictions(loss_nats=losses[:, -1], member=data["member"], labels=data["labels"])
    expected = run_audit(last, attacks="threshold_loss").result("threshold_loss")
    assert (
        tracker.latest("auc/threshold_loss") == round_estimate(expected.figures["auc"])[0] == tracker.latest("auc/trace_final")
    )


def test_what_a_bad_trace_gets(tmp_path: Path) -> None:
    data = arrays()
    np.savez(tmp_path / "target.npz", **data)
    np.savez(tmp_path / "other.npz", **{**data, "record_ids": np.arange(600) + 300})
    _trace(tmp_path / "t", data)
    _trace(tmp_path / "nobody", data, who=False)
    LossTrace.open(tmp_path / "nobody").update(np.ones(600), epoch=9)
    for options, said in (
        ({"predictions": str(tmp_path / "other.npz"), "trace": str(tmp_path / "t")}, "300 of the 600 records of the predictions"),
        ({"trace": str(tmp_path / "nobody")}, "does not say who is a member"),
        ({"predictions": str(tmp_path / "target.npz"), "trace": str(tmp_path / "nobody")}, "2 of 9 epochs are missing"),
        ({"predictions": str(tmp_path / "target.npz"), "trace": str(tmp_path / "no")}, "no: cannot be read"),
        ({"predictions": str(tmp_path / "target.npz"), "primary": "trace_mean"}, "needs loss_trace, which this audit does not have"),
        ({}, "predictions=: missing"),
    ):  # fmt: skip
        tracker = MemoryTracker()
        with pytest.raises(UserError, match=said) as error:
            attack.run(AttackStudyConfig(**options), tracker, StopFlag())
        assert "\n" not in str(error.value)
        assert not tracker.artifacts


def test_attacks_that_lack_the_same_are_named_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "target.npz", **arrays())
    tracker, _ = study(tmp_path / "target.npz", attacks="trace,threshold_loss", controls="none")
    lines = [line for line in tracker.artifacts["summary.md"].splitlines() if line.startswith("Skipped")]
    assert lines == [
        "Skipped: `trace_final`, `trace_mean`, `trace_lt_iqr`, needs loss_trace (losses by epoch, which memberscope.LossTrace collects)."
    ]


def _as_table(path: Path, values: dict[str, np.ndarray]) -> Path:
    Predictions(**values).save(path)
    return path


def test_a_table_is_audited_like_arrays_and_the_run_says_how_it_was_read(tmp_path: Path) -> None:
    values = {**arrays(300), "columns": {"age": np.arange(300) % 3}}
    _as_table(tmp_path / "target.csv", values)
    _as_table(tmp_path / "shadow.csv", {**arrays(300, seed=1), "record_ids": np.arange(300) + 1000})
    np.savez(tmp_path / "perturbed.npz", predicted=np.tile(values["labels"][:, None], 4))
    options = {"shadows": str(tmp_path / "shadow.csv"), "perturbed": str(tmp_path / "perturbed.npz")}
    names = "threshold_loss,metric_confidence,label_only_robust"
    tracker, answer = study(tmp_path / "target.csv", attacks=names, controls="none", slices="column:age", **options)
    shadows = ShadowPredictions(
        logits=arrays(300, seed=1)["logits"][None], labels=arrays(300, seed=1)["labels"], member=values["member"][None]
    )
    evidence = Evidence(target=Predictions(**values), shadows=shadows, perturbed_labels=np.tile(values["labels"][:, None], 4))
    expected = run_audit(evidence, attacks=names)
    for name in names.split(","):
        assert tracker.latest(f"auc/{name}") == round_estimate(expected.result(name).figures["auc"])[0]
    read = json.loads(tracker.artifacts["controls.json"])["read"]["text"]
    assert "300 rows; logit_0, logit_1, logit_2, logit_3, logit_4 as logits; label as labels; record_id as record_ids" in read
    assert "column_age to slice by." in read
    assert f"perturbed={tmp_path}/perturbed.npz: the predicted classes of 4 copies of 300 records." in read
    assert read in answer
    assert read in tracker.artifacts["summary.md"]
    assert set(tracker.artifacts["attacks.csv"]["slice"]) == {"entire", "age:0", "age:1", "age:2", "worst_slice"}


@pytest.mark.parametrize(("suffix", "name"), [("csv", "group"), ("npz", "groups")])
def test_groups_under_their_own_name_may_be_named(suffix: str, name: str, tmp_path: Path) -> None:
    persons = np.arange(200) // 4 * 2 + np.arange(200) % 2
    Predictions(**arrays(200), groups=persons).save(tmp_path / f"t.{suffix}")
    tracker, _ = study(tmp_path / f"t.{suffix}", attacks="threshold_loss", controls="none", group=name)
    assert tracker.logged_params["data.groups"] == 100
    Predictions(**arrays(200)).save(tmp_path / f"none.{suffix}")
    with pytest.raises(UserError, match=f"^group={name}: .* has no column {name}"):
        study(tmp_path / f"none.{suffix}", attacks="threshold_loss", controls="none", group=name)


def test_groups_with_members_on_both_sides_are_explained(tmp_path: Path) -> None:
    Predictions(**arrays(200), groups=np.arange(200) // 4).save(tmp_path / "t.csv")
    with pytest.raises(
        UserError, match=r"^predictions: 50 member groups and 0 other groups; .* \(a group with any member among its"
    ):
        study(tmp_path / "t.csv", attacks="threshold_loss", controls="none")


@pytest.mark.parametrize("asked", ["lira_online,rmia_online", "shadow"])
def test_what_could_not_run_is_named_where_nothing_ran(asked: str, tmp_path: Path) -> None:
    Predictions(**arrays(200)).save(tmp_path / "t.npz")
    config = AttackStudyConfig(predictions=str(tmp_path / "t.npz"), attacks=asked, controls="none")
    result = attack.run(config, MemoryTracker(), StopFlag())
    assert result.table == ""
    first, *skips = result.answer.splitlines()
    assert first == "no attack could run."
    assert {"lira_online, " in line and line.endswith(", needs shadows.") for line in skips} == {True, False}
    assert any("rmia_online" in line and line.endswith(", needs population and shadows.") for line in skips)


def test_groups_of_a_table_are_a_column(tmp_path: Path) -> None:
    _as_table(tmp_path / "t.csv", {**arrays(200), "columns": {"patient": np.arange(200) // 4 * 2 + np.arange(200) % 2}})
    tracker, _ = study(tmp_path / "t.csv", attacks="threshold_loss", controls="none", group="patient")
    assert tracker.logged_params["data.groups"] == 100
    with pytest.raises(UserError, match="has no column patent, or key column_patent; its columns: patient; nearest: patient"):
        study(tmp_path / "t.csv", attacks="threshold_loss", controls="none", group="patent")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"predictions": "word.csv"}, ["predictions=word.csv: column logit_2 holds 'high' in row 7", "allowed: a number"]),
        (
            {"predictions": "t.txt"},
            ["predictions=t.txt: unknown kind of file .txt; allowed: an .npz, .npy, .csv, .parquet, .arrow or .feather"],
        ),
        (
            {"predictions": "t.csv", "shadows": "empty"},
            ["shadows=empty: no files; allowed: a folder with one file for each model"],
        ),
        ({"predictions": "t.csv", "perturbed": "short.npz"}, ["perturbed=short.npz: 9 records, and predictions=t.csv has 600"]),
        ({"predictions": "t.csv", "population": "t.csv"}, ["population=t.csv: 600 of its 600 records are audited"]),
        ({"predictions": "t.csv", "shadows": "t.csv", "primary": "quantile"}, ["primary=quantile: needs population"]),
    ],
)
def test_evidence_that_does_not_fit_gets_one_line_and_exit_two(
    store: Path, capsys: pytest.CaptureFixture[str], options: dict[str, str], parts: list[str]
) -> None:
    _as_table(store / "t.csv", arrays())
    text = (store / "t.csv").read_text().splitlines()
    row = text[8].split(",")
    (store / "word.csv").write_text("\n".join([*text[:8], ",".join([*row[:2], "high", *row[3:]]), *text[9:]]))
    (store / "t.txt").write_text("x")
    (store / "empty").mkdir()
    np.savez(store / "short.npz", predicted=np.zeros((9, 2), int))
    assert cli.main(["attack", *(f"--{name}={value}" for name, value in options.items())]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("memberscope: ")]
    assert len(lines) == 1
    for part in parts:
        assert part in lines[0]


def test_the_former_name_of_shadows_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    config, _ = cli.parse("attack", ["--predictions=a.npz", "--shadow=b.npz"])
    assert config.shadows == "b.npz"
    assert "shadow is now shadows" in capsys.readouterr().err
