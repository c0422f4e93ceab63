"""The page: complete, escaped, self-contained; comparisons paired exactly where the records are the same."""

from __future__ import annotations

import functools
import io
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from jinja2 import UndefinedError

from memberscope import Predictions, metrics, plots, run_audit, seeds
from memberscope.audit import artifacts, kept_tables
from memberscope.audit.blind import BlindControl
from memberscope.audit.bounds_table import bounds_frame, bounds_table
from memberscope.audit.controls import Controls
from memberscope.audit.log import controls_json
from memberscope.audit.run import AuditReport
from memberscope.errors import UserError
from memberscope.metrics.estimate import spanning
from memberscope.report import comparison, facts, figures, overview, render_page, sections, templating
from memberscope.report.compare import compare_runs, match
from memberscope.report.parts import PageTable
from memberscope.report.settings import compare_settings, settings_of
from memberscope.scores import KeptScores
from memberscope.tracking import DataInput, KeptRun, as_json

EVIL = '<script>alert("1")</script>&\'"'
VOID = {"meta", "img", "br"}


@functools.cache
def report(*, shift: float = 1.0, seed: int = 0, n: int = 1200, ids: int = 0) -> AuditReport:
    rng = np.random.default_rng(seed)
    labels, member = np.arange(n) % 4, np.arange(n) < n // 2
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += 1 + shift * member
    target = Predictions(logits=logits, labels=labels, member=member, record_ids=np.arange(n) + ids)
    return run_audit(target, attacks="threshold,metric_confidence", slices="all")


def kept(found: AuditReport, *, name: str = "one", source: str = "given", **changes: object) -> KeptRun:
    curves = {result.attack: result.roc for result in found.whole()}
    tables = {
        "attacks.csv": pd.read_csv(io.StringIO(found.to_frame().to_csv(index=False))),
        "roc.csv": plots.roc_points(curves),
        "most_exposed.csv": pd.DataFrame({"rank": [1], "position": [7], "record_id": [7], "label": [2], "member": [True],
                                          "probability": [0.9], "modified_entropy": [0.01]}),
        "history.csv": pd.DataFrame({"epoch": [0, 1, 2], "train_accuracy": [0.2, 0.6, 0.9], "train_loss": [2.0, 1.0, 0.5],
                                     "val_accuracy": [0.2, 0.5, 0.6], "val_loss": [2.0, 1.5, 1.4], "auc": [0.5, np.nan, 0.6],
                                     "advantage": [0.0, np.nan, 0.2]}),
    }  # fmt: skip
    assert found.headline is not None
    run = KeptRun(
        id=f"{zlib.crc32(name.encode()):032x}", name=name, started="2026-01-02 03:04 UTC", tables=tables,
        tags={"memberscope.command": f"memberscope attack --predictions={EVIL}", "memberscope.versions": '{"python": "3.11.7"}'},
        params={"data.class_names": "cat,dog,eel,fox"},
        texts={"study.json": as_json({"attack.seed": 3, "attack.note": EVIL}), "controls.json": as_json({"null": "null control: fine."}),
               "headline.json": found.headline.to_json()},
        scores=KeptScores.of(
            found.whole_scores, member=found.target.member, record_ids=found.target.record_ids, labels=found.target.labels, source=source
        ),
        inputs=(DataInput(name=EVIL, context="member", digest="abc123", source="s", shape=(600, 8), classes=4),),
    )  # fmt: skip
    return replace(run, **changes)


@pytest.fixture(scope="module")
def leaky() -> AuditReport:
    return report()


class _Page(HTMLParser):
    """Checks that tags nest, and collects text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [name for name, _ in attrs]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def read(page: str) -> _Page:
    parser = _Page()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser


@pytest.mark.usefixtures("undrawn")
def test_everything_that_was_asked_for_is_on_the_page(leaky: AuditReport) -> None:
    page = read(render_page([kept(leaky)]))
    text = " ".join(page.text)
    for heading in (
        "What was audited", "Memorization by epoch", "ROC curves", "Attacks", "Worst classes", "Most exposed records", "Controls",
        "What was done", "How to read this",
    ):  # fmt: skip
        assert heading in text, heading
    for auc in (leaky.result("threshold_loss").figures["auc"], leaky.headline.auc):
        assert f"{auc.value:.3f}" in text
        assert f"{auc.ci_low:.3f} to {auc.ci_high:.3f}" in text
    assert f"picks the member in {leaky.headline.auc.value:.1%} of cases" in text
    assert "The model gives away" in text
    assert "needs shadows" in text, "a skipped attack is a result"
    for part in ("abc123", "python 3.11.7", "2026-01-02", "cat", "Null control: fine."):
        assert part in text, part


def drawn_page() -> str:
    return render_page([kept(report()), kept(report(seed=1), name=EVIL)], title=EVIL, seed=3)


@pytest.fixture(scope="module")
def drawn() -> str:
    """A page of two runs with all its drawings, which take most of its seconds."""
    return drawn_page()


def test_the_page_is_self_contained_and_escaped(drawn: str) -> None:
    html, page = drawn, read(drawn)
    assert "script" not in page.tags
    assert EVIL in "".join(page.text)
    assert "<script" not in html
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not re.search(r"https?://|@import|url\(", re.sub(r"data:image/[^\"]+", "", html))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_same_runs_give_the_same_page(drawn: str) -> None:
    assert drawn_page() == drawn


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("promised", "said"), [(1.0, "the promise is contradicted"), (None, "Each row is a 95% lower bound")])
def test_the_page_shows_bounds_and_the_verdict_on_a_promise(leaky: AuditReport, promised: float | None, said: str) -> None:
    rng = np.random.default_rng(0)
    member = rng.random(500) < 0.5
    scores = rng.normal(size=500) + 4.0 * member
    rows = bounds_table(scores, member, attack="threshold_loss", coin_flips=True, delta=1e-5, promise=promised)
    text = bounds_frame(rows).to_csv(index=False)
    frame = kept_tables.read(artifacts.BOUNDS, text, where="run one: bounds.csv", allowed="a run")
    assert frame is not None
    run = kept(leaky)
    run = replace(run, tables={**run.tables, artifacts.BOUNDS: frame}, tags={**run.tags, "memberscope.promise": "contradicted"})
    page = " ".join(" ".join(read(render_page([run])).text).split())
    assert "Bounds of ε" in page
    assert said in page
    assert ("contradicted" in page.split("Bounds of ε")[1].split("Each row")[0]) == (promised is not None)
    assert "Bounds of ε" not in " ".join(read(render_page([kept(leaky)])).text)


@pytest.mark.usefixtures("undrawn")
def test_noise_is_not_called_a_leak_nor_safe() -> None:
    told, lines = facts.plain_words(kept(report(shift=0.0, seed=5)))
    assert "cannot be told from non-members better than by chance" in told
    assert "not proof of safety" in lines[-1]
    assert "300 members and 300 non-members" in lines[-2], "the figures are of the reporting half"


@pytest.mark.usefixtures("undrawn")
def test_a_finding_is_in_doubt_where_the_records_differ_without_the_model(leaky: AuditReport) -> None:
    """And a page for others says so first of all, not below under the controls."""
    said = [BlindControl(on="inputs", auc=spanning(0.55, low, 0.6)) for low in (0.49, 0.51)]
    texts = [controls_json(Controls(blind=blind), {}) for blind in said]
    html = _doubted(leaky, texts, said[1].sentence)
    assert "An earlier version" not in html


@pytest.mark.usefixtures("undrawn")
def test_runs_from_before_that_was_a_value_still_say_it(leaky: AuditReport) -> None:
    """These sentences lie in stores: they are told apart as they were written, whatever is written today, and the page says so."""
    found = "AUC 0.550 from inputs alone, interval 0.510 to 0.600"
    differ = f"members and non-members differ by more than membership: a classifier without the model has {found}"
    alike = f"no sign that members and non-members differ by more than membership ({found})"
    texts = [as_json({"null": "p 0.01.", "blind": f"Blind control: {sentence}."}) for sentence in (alike, differ)]
    html = _doubted(leaky, texts, differ)
    assert html.count("Whether it puts the metrics in doubt was read from that sentence.") == 2, "of both runs"


def test_doubt_is_read_as_a_value_and_not_from_a_sentence(leaky: AuditReport) -> None:
    words = "Blind control: members and non-members differ by more than membership, says the sentence."
    for differs in (True, False):
        texts = {"controls.json": as_json({"blind": {"text": words, "differs": differs}})}
        assert facts.judged(kept(leaky, texts=texts)) == ("doubt" if differs else "leaks")


def _doubted(leaky: AuditReport, texts: list[str], sentence: str) -> str:
    """The page of two runs with these controls, of which the second is in doubt, as `sentence` says."""
    sure, unsure = (kept(leaky, texts={"controls.json": text}) for text in texts)
    assert facts.judged(sure) == "leaks"
    assert facts.judged(unsure) == "doubt"
    told, lines = facts.plain_words(unsure)
    assert "gives away" not in told
    assert sentence in lines[0]
    html = render_page([unsure, replace(sure, id="1" * 32, name="two")])
    assert html.index(sentence) < html.index("in doubt: see its controls") < html.index(">Controls<")
    assert "gives away" in facts.plain_words(sure)[0]
    return html


OTHER_WORDS = (
    "Blind control: members and non-members differ by more than membership. No, they do not; skipped, tripped, low_power."
)


def reworded(run: KeptRun) -> KeptRun:
    """The run with other words in each sentence that it keeps; numbers, names and statuses stay."""
    table = run.tables["attacks.csv"].copy()
    table["reason"] = OTHER_WORDS
    controls = json.loads(run.texts["controls.json"])
    headline = json.loads(run.texts["headline.json"])
    for one in controls.values():
        one["text"] = OTHER_WORDS
    headline["reason"] = OTHER_WORDS
    for one in headline["figures"].values():
        one["reason"] = OTHER_WORDS
    texts = {**run.texts, "controls.json": json.dumps(controls), "headline.json": json.dumps(headline)}
    tags = {**run.tags, **({"memberscope.gate_reason": OTHER_WORDS} if "memberscope.gate" in run.tags else {})}
    return replace(run, tables={**run.tables, "attacks.csv": table}, texts=texts, tags=tags)


def decisions(run: KeptRun) -> list[object]:
    """Everything that the page decides about one run."""
    table, gate = sections.attack_table(run), facts.gate(run)
    assert table is not None
    marks = [[cell.mark for cell in row if not isinstance(cell, str)] for row in table.table.rows]
    advised = facts.advice(run, facts.judged(run))
    (alone,) = settings_of([run])
    decided = [facts.judged(run), facts.doubted(run), facts.derived_doubt(run), facts.finest_rate(run), facts.attacks(run)]
    return [
        *decided, [name for name, _ in facts.failed(run)], gate and gate.outcome, advised, alone.judged, table.low_power, table.blunt,
        marks, overview.first_screen([alone]).finding.verdict,
    ]  # fmt: skip


def test_no_wording_changes_a_decision() -> None:
    """Other words in every kept sentence, among them those that once decided: verdicts, doubts, marks and advice stay."""
    found = {"leaks": report(), "quiet": report(shift=0.0, seed=5), "odd": report(shift=-1.0, seed=2)}
    runs = []
    for verdict, audit in found.items():
        for low in (0.49, 0.51):
            blind = BlindControl(on="inputs", auc=spanning(0.55, low, 0.6))
            text = controls_json(Controls(blind=blind), {})
            run = kept(
                audit, name=f"{verdict}{low}", tags={"memberscope.gate": "undecided", "memberscope.gate_reason": "because"}
            )
            runs.append(replace(run, texts={**run.texts, "controls.json": text}))
    before = [decisions(run) for run in runs]
    assert [one[0] for one in before] == ["leaks", "doubt", "quiet", "quiet", "odd", "odd"]
    assert any("*" in row for one in before for row in one[-2]), "a mark is among what is decided"
    assert [decisions(reworded(run)) for run in runs] == before


def test_a_weak_comparison_is_marked_by_its_status(leaky: AuditReport, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [kept(leaky), kept(report(shift=0.6, seed=1), name="two")]

    def marks() -> list[tuple[str, bool]]:
        (pair,) = comparison.pairs(compare_runs(runs, seed=0)).paired
        return [(row[1], row[3].mark == "*") for row in pair.table.rows]

    before = marks()
    assert set(before) == {("AUC", False), ("TPR at FPR 0.01", True)}, "600 non-members allow 6 false positives"
    monkeypatch.setattr("memberscope.metrics.paired.budget_reason", lambda *_: "")
    assert marks() == before


def test_templates_escape_and_miss_nothing() -> None:
    made = templating.environment()
    assert made.from_string("{{ text }}").render(text=EVIL) == "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;&#39;&#34;"
    assert made.from_string("{{ text | marked }}").render(text="**a<b** `c>d`") == "<strong>a&lt;b</strong> <code>c&gt;d</code>"
    with pytest.raises(UndefinedError):
        made.from_string("{{ nothing }}").render()


def test_a_table_whose_rows_do_not_fit_its_head_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 3 cells under 2 columns"):
        PageTable.of(["one", "two"], [["1", "2", "3"]])


def test_nothing_that_a_run_brings_becomes_markup() -> None:
    """A user's text in every place that a run has for it."""
    audit = weak_and_strong()
    run = kept(audit, name=EVIL)
    table = run.tables["attacks.csv"].replace({"slice": {"class_0": EVIL}})
    table["reason"] = EVIL
    table.loc[table["attack"] == "label_only_gap", ["family"]] = EVIL
    controls = {"blind": {"text": EVIL, "differs": True}, "null": {"text": f"`{EVIL}` **{EVIL}**"}}
    gate = pd.DataFrame({"rule": [EVIL], "attack": [EVIL], "slice": [EVIL], "value": [0.5], "verdict": [EVIL]})
    tags = {
        "memberscope.gate": "trip", "memberscope.gate_reason": EVIL, "memberscope.command": EVIL, "mlflow.source.git.commit": EVIL,
        "memberscope.versions": json.dumps({EVIL: EVIL}),
    }  # fmt: skip
    params = {"data.class_names": "cat,dog,<i>,\"'", "model.uri": EVIL, "train.epochs": EVIL, "model.output_seen": EVIL}
    exposed = run.tables["most_exposed.csv"].rename(columns={"modified_entropy": EVIL}).assign(record_id=EVIL, label=EVIL)
    verdicts = pd.DataFrame([{"experiment": EVIL, "first": EVIL, "second": EVIL, "verdict": EVIL, "difference": 0.02, "ci_low": 0.01,
                              "ci_high": 0.03, "seeds": 5, "p_holm": 0.01}])  # fmt: skip
    tables = {**run.tables, "attacks.csv": table, "gate.csv": gate, "most_exposed.csv": exposed, "experiments.csv": verdicts}
    texts = {**run.texts, "controls.json": json.dumps(controls), "study.json": json.dumps({EVIL: EVIL})}
    run = replace(run, id=EVIL, status=EVIL, started=EVIL, tags=tags, params=params, tables=tables, texts=texts)
    for shown in ([run], [run, replace(run, id="f" * 32)]):
        html = render_page(shown, title=EVIL)
        page = read(html)
        assert "<script" not in html
        assert page.tags.isdisjoint({"script", "i"})
        assert set(page.attributes) <= {
            "alt", "charset", "class", "content", "href", "id", "lang", "name", "open", "scope", "src", "title",
        }, "no value ends its attribute"  # fmt: skip
        assert "".join(page.text).count(EVIL) >= 20


def test_the_lowest_rate_told_is_one_that_the_records_can_measure(leaky: AuditReport) -> None:
    assert facts.finest_rate(kept(leaky)) == "tpr_at_fpr_0_1"  # 300 non-members allow 3 at 0.01
    assert facts.finest_rate(kept(report(n=4000))) == "tpr_at_fpr_0_01"


def test_same_records_are_paired_in_whatever_order(leaky: AuditReport) -> None:
    other = report(shift=0.6, seed=1)
    second = kept(other, name="two")
    assert second.scores is not None
    order = seeds.stream(0, "shuffle").permutation(1200)
    shuffled = KeptScores(
        member=second.scores.member[order], ranks={name: ranks[order] for name, ranks in second.scores.ranks.items()},
        record_ids=np.arange(1200)[order],
    )  # fmt: skip
    (pair,) = compare_runs([kept(leaky), replace(second, scores=shuffled)], seed=0)
    assert pair.paired
    assert "the same 1,200 records" in pair.why
    expected = metrics.compare_auc(other.scores("threshold_loss"), leaky.scores("threshold_loss"), leaky.target.member)
    row = next(row for row in pair.rows if (row.attack, row.metric) == ("threshold_loss", "auc"))
    assert row.difference == pytest.approx(expected.difference, abs=1e-12)
    assert row.p_value == pytest.approx(expected.p_value)
    tested = [row.p_value for row in pair.rows]
    np.testing.assert_allclose([row.p_holm for row in pair.rows], metrics.holm(tested))


@pytest.mark.usefixtures("undrawn")
def test_different_records_say_what_can_still_be_said(leaky: AuditReport) -> None:
    other = report(shift=0.2, seed=2, ids=1000)
    runs = [kept(leaky), kept(other, name="two")]
    (pair,) = compare_runs(runs, seed=0)
    assert not pair.paired
    assert "200 of the 1,200 records of the first run are among the 1,200 of the second" in pair.why
    a, b = other.result("threshold_loss").figures["auc"], leaky.result("threshold_loss").figures["auc"]
    row = next(row for row in pair.rows if row.attack == "threshold_loss")
    assert row.p_value is None
    assert row.difference == pytest.approx(a.value - b.value)
    assert row.ci_low == pytest.approx(row.difference - np.hypot(a.value - a.ci_low, b.ci_high - b.value))
    html = render_page(runs)
    assert "A paired test needs records that both runs share" in html
    assert f"<code>two</code> ({pair.why})" in html


def test_intervals_of_unpaired_differences_cover_the_truth() -> None:
    """Two models on records of their own, AUC Phi(d / sqrt 2) each; 200 draws, misses beyond 22 in less than 1 of 1,000 runs at 5%."""
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    truth = float(norm.cdf(1.0 / np.sqrt(2)) - norm.cdf(0.5 / np.sqrt(2)))
    missed = 0
    member = np.arange(300) < 150
    for _ in range(200):
        runs = []
        for name, apart in (("one", 0.5), ("two", 1.0)):
            auc = metrics.auc(rng.normal(size=300) + apart * member, member)
            line = {"attack": "a", "family": "f", "slice": "entire", "metric": "auc", "value": auc.value, "ci_low": auc.ci_low,
                    "ci_high": auc.ci_high, "n_member": 150, "n_nonmember": 150, "status": "ok", "reason": ""}  # fmt: skip
            runs.append(KeptRun(id=name, name=name, tables={"attacks.csv": pd.DataFrame([line])}))
        (row,) = compare_runs(runs, seed=0)[0].rows
        missed += not row.ci_low <= truth <= row.ci_high
    assert 1 <= missed <= 22


def test_why_records_do_not_match() -> None:
    member = np.array([True, True, False, False])
    ranks = {"a": np.arange(4, dtype=np.int32)}

    def scores(ids: list[int] | None, *, source: str = "given", truth: np.ndarray = member) -> KeptScores:
        return KeptScores(member=truth, ranks=ranks, record_ids=None if ids is None else np.array(ids), source=source)

    assert "not stored" in match(None, scores([1, 2, 3, 4]))[1]
    assert "no ids" in match(scores(None), scores([1, 2, 3, 4]))[1]
    assert "different data sets" in match(scores([1, 2, 3, 4], source="x"), scores([1, 2, 3, 4], source="y"))[1]
    assert "occur several times" in match(scores([1, 1, 3, 4]), scores([1, 1, 3, 4]))[1]
    assert (
        "2 of 4 are members in one run only" in match(scores([1, 2, 3, 4]), scores([1, 2, 3, 4], truth=member[[0, 2, 1, 3]]))[1]
    )
    order, _ = match(scores([1, 1, 3, 4], source="content"), scores([1, 1, 4, 3], source="content"))
    assert order is not None
    assert order.tolist() == [0, 1, 3, 2]


@pytest.mark.usefixtures("undrawn")
def test_a_study_stands_for_its_models_and_shows_its_verdicts(leaky: AuditReport) -> None:
    children = (kept(leaky, name="dense"), kept(report(seed=1), name="conv"))
    verdict = pd.DataFrame(
        [{"experiment": "architecture", "first": "conv", "second": "dense", "verdict": "as expected", "difference": 0.02, "ci_low": 0.01,
          "ci_high": 0.03, "seeds": 5, "p_holm": 0.01}]
    )  # fmt: skip
    study = KeptRun(id="0" * 32, name="case-study", children=children, tables={"experiments.csv": verdict})
    page = read(render_page([study]))
    text = " ".join(page.text)
    assert "Settings compared over seeds" in text
    assert "as expected" in text
    assert {"dense", "conv"} <= set(page.text)


@pytest.mark.usefixtures("undrawn")
def test_runs_that_share_a_name_are_told_apart_and_none_without_audit_pass(leaky: AuditReport) -> None:
    first, second = kept(leaky), replace(kept(leaky), id="f" * 32)
    assert "one (ffffffff)" in render_page([first, second])
    with pytest.raises(UserError, match="none contains an audit"):
        render_page([KeptRun(id="1", name="empty")])


def test_curves_by_epoch_can_come_from_metrics() -> None:
    steps = {"train/accuracy": [(0, 0.1), (1, 0.5)], "val/accuracy": [(0, 0.1), (1, 0.4)], "auc/threshold_loss": [(1, 0.6)]}
    found = facts.history(KeptRun(id="1", name="killed", metrics=steps))
    assert found is not None
    assert found["train_accuracy"].tolist() == [0.1, 0.5]
    assert np.isnan(found["auc"].iloc[0])


def test_a_users_own_trainer_is_named_instead_of_the_options_that_it_does_not_read(leaky: AuditReport) -> None:
    settings = as_json(
        {"model.model": "conv", "model.depth": 3, "train.epochs": 40, "train.batch_size": 50, "train.learning_rate": 0.001}
    )
    run = kept(leaky)
    run = replace(run, texts={**run.texts, "study.json": settings})
    built_in = dict(sections.setup(run))
    assert built_in["model"] == "conv depth 3"
    assert built_in["training"] == "40 epochs, batch 50, learning rate 0.001"
    params = {"trainer.name": "my_model", "trainer.width": "8", "trainer.epochs": "3"}
    own = dict(sections.setup(replace(run, params=params)))
    assert own["model"] == "my_model"
    assert own["training"] == "width 8, epochs 3"
    loop = {
        "train.epochs": "9",
        "train.batch_size": "20",
        "train.learning_rate": "0.1",
    }  # of a Keras builder, which the run itself names
    built = dict(sections.setup(replace(run, params={"trainer.name": "net", "trainer.width": "8", **loop})))
    assert built["training"] == "width 8, 9 epochs, batch 20, learning rate 0.1"


def test_a_training_that_was_not_followed_has_no_curves_but_a_gap() -> None:
    frame = pd.DataFrame({"epoch": [0, 1, 2], "train_accuracy": [0.2, 0.6, 0.9], "val_accuracy": [np.nan, np.nan, 0.6]})
    run = KeptRun(id="1", name="r", tables={"history.csv": frame})
    assert facts.history(run) is not None
    assert sections.memorization(run) is None
    assert sections.memorization(replace(run, tables={"history.csv": frame.fillna(0.1)})) is not None


@pytest.mark.usefixtures("undrawn")
def test_bounds_of_epsilon_stand_over_their_ceilings() -> None:
    """800 coins at delta 400^-1.1 cannot refute a promise of 4: a dagger, and the note that says what it means."""
    rng = np.random.default_rng(0)
    labels, member = rng.integers(0, 4, 800), np.arange(800) % 2 == 0
    logits = rng.normal(size=(800, 4))
    logits[np.arange(800), labels] += 6 * member
    told = run_audit(
        Predictions(logits=logits, labels=labels, member=member),
        attacks="threshold_loss",
        coin_flips=True,
        delta=400**-1.1,
        promise=4.0,
    )

    def shown(found: AuditReport) -> str:
        html = render_page([kept(found)])
        return html[html.index("<h3>Attacks</h3>") : html.index("<h3>Most exposed records</h3>")]

    page = shown(told)
    for metric in ("epsilon_heuristic", "epsilon_lower_bound"):
        figures = told.result("threshold_loss").figures
        assert f"of at most {figures[f'{metric}_ceiling'].value:.2f}" in page
    assert "†" in page
    assert "such an audit cannot refute the promise" in page
    plain = shown(run_audit(told.target, attacks="threshold_loss"))
    assert "one-run test" not in plain
    assert "cannot refute the promise" not in plain
    assert plain.count("of at most") == 1


# --- the primary attack ------------------------------------------------------------------------------------------------


def without(run: KeptRun, *names: str, **changes: object) -> KeptRun:
    """As a run was kept before there were such texts."""
    return replace(run, texts={name: text for name, text in run.texts.items() if name not in names}, **changes)


def weak_and_strong(*, primary: str = "auto") -> AuditReport:
    """The first attack of the table sees whether a label is right, the second how sure the model is of it."""
    rng = np.random.default_rng(0)
    n = 2000
    labels, member = np.arange(n) % 4, np.arange(n) < n // 2
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += 3 + member
    target = Predictions(logits=logits, labels=labels, member=member, record_ids=np.arange(n))
    return run_audit(target, attacks="label_only_gap,threshold_loss", primary=primary, slices="entire,class")


@pytest.mark.usefixtures("undrawn")
def test_the_page_opens_with_the_strongest_attack_on_the_other_half_and_not_with_the_first() -> None:
    found = weak_and_strong()
    assert found.whole()[0].attack == "label_only_gap"
    assert found.headline is not None
    assert (found.headline.attack, found.headline.n_member) == ("threshold_loss", 500)
    html = render_page([kept(found)])
    opening = html[html.index('class="finding') : html.index("What to do")]
    assert "threshold_loss" in opening
    assert "label_only_gap" not in opening
    assert f"{found.headline.auc.value:.1%}" in opening
    assert f"{found.result('threshold_loss').figures['auc'].value:.1%}" not in opening, (
        "the figure of all records is best of several"
    )
    assert "the strongest of 2 attacks on one half of the records, reported on the other half" in opening


def test_a_named_attack_opens_the_page_on_all_records() -> None:
    found = weak_and_strong(primary="label_only_gap")
    told, lines = facts.plain_words(kept(found))
    assert f"{found.result('label_only_gap').figures['auc'].value:.1%}" in " ".join([told, *lines])
    assert "named before the audit: 1,000 members and 1,000 non-members" in " ".join(lines)


def test_runs_from_before_headlines_get_one_from_their_scores() -> None:
    """By the rule of the audits of today, with the draw of seed 0: the very figures that such an audit would have kept."""
    found = weak_and_strong()
    before = without(kept(found), "headline.json")
    again, now = facts.headline(before), found.headline
    assert again is not None
    assert now is not None
    assert (again.attack, again.chosen, again.auc) == (now.attack, now.chosen, now.auc)
    assert again.figures["tpr_at_fpr_0_1"] == now.figures["tpr_at_fpr_0_1"]
    bare = without(kept(found), "headline.json", scores=None)
    told = facts.headline(bare)
    assert told is not None
    assert (told.attack, told.chosen, told.n_member) == ("label_only_gap", "first", 1000)
    assert told.auc.value == pytest.approx(found.result("label_only_gap").figures["auc"].value)
    assert "scores of individual records were not stored" in " ".join(facts.plain_words(bare)[1])
    assert facts.audited([before])[0].texts["headline.json"] == again.to_json(), "computed once a page"


def test_the_primary_attack_is_drawn_wherever_it_stands() -> None:
    names = [f"a{k}" for k in range(16)]
    assert figures.drawn("a12", names) == ["a12", *names[:7]]
    assert figures.drawn("a2", names) == ["a2", "a0", "a1", *names[3:8]]
    found = weak_and_strong()
    bands = pd.DataFrame({"fpr": [0.1], "low": [0.0], "high": [1.0], "attack": ["label_only_gap"]})
    run = kept(found)
    run = replace(run, tables={**run.tables, "roc_band.csv": bands})
    band = figures.band(run, "threshold_loss")
    assert band is not None
    assert len(band) > 1, "the band of another attack is not drawn as this one's"
    assert figures.band(run, "label_only_gap") is bands
    old = replace(run, tables={**run.tables, "roc_band.csv": bands.drop(columns="attack")})
    assert len(figures.band(old, "label_only_gap")) == 1, "bands without a name are the first attack's"
    assert len(figures.band(old, "threshold_loss")) > 1


@pytest.mark.usefixtures("undrawn")
def test_what_to_do_follows_the_verdict_and_the_gate(leaky: AuditReport) -> None:
    leaks, quiet = kept(leaky), kept(report(shift=0.0, seed=5))
    gated = [
        replace(run, tags={"memberscope.gate": outcome, "memberscope.gate_reason": "because"})
        for run, outcome in ((leaks, "trip"), (quiet, "undecided"), (quiet, "pass"))
    ]
    said = [facts.advice(run, facts.judged(run)) for run in (leaks, quiet, *gated)]
    assert ["mitigate" in " ".join(lines) for lines in said] == [True, False, True, False, False]
    assert ["--fail_if" in " ".join(lines) for lines in said] == [True, True, False, False, False]
    affected = "See who is affected: the worst classes{} are below."
    assert affected.format(" and the most exposed records") in said[0]
    private = {name: table for name, table in leaks.tables.items() if name != "most_exposed.csv"}
    assert affected.format("") in facts.advice(replace(leaks, tables=private), "leaks")
    attacks = leaks.tables["attacks.csv"]
    whole = private | {"attacks.csv": attacks[attacks["slice"] == "entire"]}
    assert "See who is affected" not in " ".join(facts.advice(replace(leaks, tables=whole), "leaks"))
    assert said[2][0].startswith("Do not release")
    assert said[3][0].startswith("Audit more records")
    assert "Try stronger attacks" in said[4][0]
    html = render_page([gated[0]])
    assert (
        html.index("gives away") < html.index("Gate: tripped.") < html.index("Do not release") < html.index("What was audited")
    )


# --- seeds ------------------------------------------------------------------------------------------------------------


def seeded(setting: str, seed: int, *, shift: float = 1.0, **params: str) -> KeptRun:
    run = kept(report(shift=shift, seed=seed, ids=2000 * seed), name=f"{setting}-s{seed}")
    tags = {"memberscope.setting": setting, "memberscope.seed": str(seed)}
    return replace(run, tags=tags, params={"study.seed": str(seed), "plan.digest": f"d{seed}", **params})


def test_runs_of_one_setting_are_those_that_differ_in_the_seed_alone() -> None:
    runs = [seeded("a", 0), seeded("b", 0), seeded("a", 1), seeded("a", 0, epochs="9"), kept(report(seed=9), name="alone")]
    found = settings_of(runs)
    assert [(one.name[:1], one.seeds, len(one.runs)) for one in found] == [
        ("a", (0, 1), 2), ("b", (0,), 1), ("a", (0,), 1), ("a", (), 1),
    ]  # fmt: skip
    twice = settings_of([seeded("a", 0), replace(seeded("a", 0), id="f" * 32), seeded("a", 1)])
    assert [len(one.runs) for one in twice] == [2, 1], "one run per seed"


def test_a_settings_figure_is_the_mean_of_its_headlines_with_a_t_interval() -> None:
    runs = [seeded("a", seed) for seed in range(3)]
    (one,) = settings_of(runs)
    values = [facts.headline(run).auc.value for run in runs]
    expected = metrics.paired_seeds(values)
    found = one.mean("auc")
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((expected.mean, expected.ci_low, expected.ci_high))
    assert one.judged == "leaks"
    low = one.mean("tpr_at_fpr_0_01")
    assert 0.0 <= low.ci_low <= low.value <= low.ci_high <= 1.0, "an interval ends where the figure does"
    doubted = as_json({"blind": {"text": "they differ.", "differs": True}})
    assert settings_of([replace(run, texts={**run.texts, "controls.json": doubted}) for run in runs])[0].judged == "doubt"


def test_a_setting_is_drawn_with_a_line_for_each_seed() -> None:
    runs = [seeded("a", seed) for seed in range(2)]
    histories = [facts.history(run) for run in runs]
    drawings = [(figures.over_seeds(runs[:n], "01"[:n]), figures.by_epoch(histories[:n])) for n in (1, 2)]
    for one, two in zip(*drawings, strict=True):
        assert two.count(b'<g id="line2d') > one.count(b'<g id="line2d') > 0


@pytest.mark.usefixtures("undrawn")
def test_settings_are_compared_by_seed_and_adjusted_together() -> None:
    shifts = {"a": 1.0, "b": 0.3, "c": 1.0}
    runs = [seeded(name, seed, shift=shift) for seed in range(5) for name, shift in shifts.items()]
    first, *others = settings_of(runs)
    found = compare_settings(first, others)
    by_hand = [
        [facts.figure(o, "threshold_loss", "auc").value - facts.figure(r, "threshold_loss", "auc").value for r, o in pairs]
        for pairs in ([(runs[3 * seed], runs[3 * seed + k]) for seed in range(5)] for k in (1, 2))
    ]
    assert {one.attack for one in found} <= {"threshold_loss", "threshold_entropy"}
    judged = metrics.verdicts(dict(zip("bc", by_hand, strict=True)), margin=0.02)
    if all(one.attack == "threshold_loss" for one in found):
        assert [one.verdict for one in found] == list(judged.values())
    assert found[0].verdict.verdict == "decreases"
    assert found[1].verdict.difference.mean == pytest.approx(0.0, abs=1e-12), "a and c are drawn alike"
    text = " ".join(read(render_page(runs)).text)
    assert "paired by seed" in text
    assert "not paired" not in text
    lone = settings_of([*runs, seeded("d", 7)])
    assert "they share fewer than two seeds with it" in " ".join(read(render_page([*runs[::3], seeded("d", 7)])).text)
    assert len(compare_settings(lone[0], lone[1:])) == 2


@pytest.mark.usefixtures("undrawn")
def test_every_run_of_a_setting_is_on_the_page_once() -> None:
    runs = [seeded(name, seed) for seed in range(2) for name in ("a", "b")]
    html = render_page(runs)
    page = read(html)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    for run in runs:
        assert html.count(f"<summary>{run.name}: everything about this run</summary>") == 1


@pytest.mark.usefixtures("undrawn")
def test_a_heuristic_epsilon_is_not_called_a_guarantee(leaky: AuditReport) -> None:
    run = kept(leaky)
    assert "a heuristic, from one split of the records" in render_page([run])
    attacks = run.tables["attacks.csv"]
    without = replace(run, tables={**run.tables, "attacks.csv": attacks[attacks["metric"] != "epsilon_heuristic"]})
    assert "a heuristic, from one split" not in render_page([without])


@pytest.mark.usefixtures("undrawn")
def test_the_finding_counts_groups_where_the_audit_does(leaky: AuditReport) -> None:
    run = kept(leaky)
    assert re.search(r"[0-9,]+ members and [0-9,]+ non-members\.$", " ".join(facts.plain_words(run)[1]))
    attacks = run.tables["attacks.csv"]
    rows = attacks[attacks["slice"] == "entire"].assign(slice="rows")
    grouped = replace(run, tables={**run.tables, "attacks.csv": pd.concat([attacks, rows])})
    assert re.search(r"[0-9,]+ groups of members and [0-9,]+ other groups\.$", " ".join(facts.plain_words(grouped)[1]))
