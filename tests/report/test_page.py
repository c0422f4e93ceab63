"""What a page says, shows and decides; nothing that a run brings becomes markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from jinja2 import UndefinedError
from report_pages import EVIL, read, report, run_of, weak_and_strong

from memberscope import Predictions, run_audit
from memberscope.audit import artifacts, kept_tables
from memberscope.audit.blind import BlindControl
from memberscope.audit.bounds_table import bounds_frame, bounds_table
from memberscope.audit.controls import Controls
from memberscope.audit.log import controls_json
from memberscope.audit.run import AuditReport
from memberscope.errors import UserError
from memberscope.metrics.estimate import spanning
from memberscope.report import facts, overview, sections, templating
from memberscope.report.page import render_page
from memberscope.report.parts import PageTable
from memberscope.report.settings import settings_of
from memberscope.tracking import KeptRun, as_json


@pytest.mark.usefixtures("undrawn")
def test_everything_that_was_asked_for_is_on_the_page(leaky: AuditReport) -> None:
    page = read(render_page([run_of(leaky)]))
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
    return render_page([run_of(report()), run_of(report(seed=1), name=EVIL)], title=EVIL, seed=3)


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
    run = run_of(leaky)
    run = replace(run, tables={**run.tables, artifacts.BOUNDS: frame}, tags={**run.tags, "memberscope.promise": "contradicted"})
    page = " ".join(" ".join(read(render_page([run])).text).split())
    assert "Bounds of ε" in page
    assert said in page
    assert ("contradicted" in page.split("Bounds of ε")[1].split("Each row")[0]) == (promised is not None)
    assert "Bounds of ε" not in " ".join(read(render_page([run_of(leaky)])).text)


@pytest.mark.usefixtures("undrawn")
def test_noise_is_not_called_a_leak_nor_safe() -> None:
    told, lines = facts.plain_words(run_of(report(shift=0.0, seed=5)))
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
        assert facts.judged(run_of(leaky, texts=texts)) == ("doubt" if differs else "leaks")


def _doubted(leaky: AuditReport, texts: list[str], sentence: str) -> str:
    """The page of two runs with these controls, of which the second is in doubt, as `sentence` says."""
    sure, unsure = (run_of(leaky, texts={"controls.json": text}) for text in texts)
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
            run = run_of(
                audit, name=f"{verdict}{low}", tags={"memberscope.gate": "undecided", "memberscope.gate_reason": "because"}
            )
            runs.append(replace(run, texts={**run.texts, "controls.json": text}))
    before = [decisions(run) for run in runs]
    assert [one[0] for one in before] == ["leaks", "doubt", "quiet", "quiet", "odd", "odd"]
    assert any("*" in row for one in before for row in one[-2]), "a mark is among what is decided"
    assert [decisions(reworded(run)) for run in runs] == before


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
    run = run_of(audit, name=EVIL)
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
    assert facts.finest_rate(run_of(leaky)) == "tpr_at_fpr_0_1"  # 300 non-members allow 3 at 0.01
    assert facts.finest_rate(run_of(report(n=4000))) == "tpr_at_fpr_0_01"


@pytest.mark.usefixtures("undrawn")
def test_a_study_stands_for_its_models_and_shows_its_verdicts(leaky: AuditReport) -> None:
    children = (run_of(leaky, name="dense"), run_of(report(seed=1), name="conv"))
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
    first, second = run_of(leaky), replace(run_of(leaky), id="f" * 32)
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
    run = run_of(leaky)
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
        html = render_page([run_of(found)])
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


@pytest.mark.usefixtures("undrawn")
def test_a_heuristic_epsilon_is_not_called_a_guarantee(leaky: AuditReport) -> None:
    run = run_of(leaky)
    assert "a heuristic, from one split of the records" in render_page([run])
    attacks = run.tables["attacks.csv"]
    without = replace(run, tables={**run.tables, "attacks.csv": attacks[attacks["metric"] != "epsilon_heuristic"]})
    assert "a heuristic, from one split" not in render_page([without])


@pytest.mark.usefixtures("undrawn")
def test_the_finding_counts_groups_where_the_audit_does(leaky: AuditReport) -> None:
    run = run_of(leaky)
    assert re.search(r"[0-9,]+ members and [0-9,]+ non-members\.$", " ".join(facts.plain_words(run)[1]))
    attacks = run.tables["attacks.csv"]
    rows = attacks[attacks["slice"] == "entire"].assign(slice="rows")
    grouped = replace(run, tables={**run.tables, "attacks.csv": pd.concat([attacks, rows])})
    assert re.search(r"[0-9,]+ groups of members and [0-9,]+ other groups\.$", " ".join(facts.plain_words(grouped)[1]))
