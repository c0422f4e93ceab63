"""The views of an experiment that the UI opens for everyone; tests/browser holds them to the pinned MLflow."""

import json
from urllib.parse import parse_qs, urlsplit

from memberscope.mlflow_adapter import view


def test_an_interval_reads_low_value_high_and_the_kind_of_run_stands_first() -> None:
    table = json.loads(view.tags()["mlflow.sharedViewState.memberscope"])
    wanted = [f"metrics.`auc{end}/threshold_loss`" for end in ("_ci_low", "", "_ci_high")]
    order = table["columnOrder"]
    place = order.index(wanted[0])
    assert order[place : place + 3] == wanted
    assert order[:3] == ["attributes.`Run Name`", "runDateAndNestInfo", "tags.`memberscope.kind`"]
    assert set(table["selectedColumns"]) == set(order[2:]) == set(table["columnWidths"]) - set(order[:2])
    assert table["searchFilter"] == "tags.`memberscope.kind` != 'report'"


def test_the_charts_are_two_wide_ones_in_a_row_and_group_models_by_setting_and_data_set() -> None:
    charts = json.loads(view.tags()["mlflow.sharedViewState.memberscope-charts"])
    assert charts["searchFilter"] == "tags.`memberscope.kind` = 'model'"
    assert charts["groupBy"] == {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "tag", "groupByData": "memberscope.setting"}, {"mode": "param", "groupByData": "data.name"}],
    }
    sections = {section["uuid"]: section for section in charts["compareRunSections"]}
    assert [section["columns"] for section in sections.values()] == [2, 2]
    first = [
        card["metricKey"]
        for card in charts["compareRunCharts"]
        if sections[card["metricSectionId"]]["name"] == "Leakage by epoch"
    ]
    assert first == ["auc/threshold_loss", "advantage/threshold_loss"]
    assert all(card["type"] == "LINE" and card["xAxisKey"] == "step" for card in charts["compareRunCharts"])


def test_the_links_have_the_hash_and_name_their_view() -> None:
    for link, mode, key in (
        (view.link("http://127.0.0.1:5000", "7"), None, "memberscope"),
        (view.charts_link("http://127.0.0.1:5000", "7"), ["CHART"], "memberscope-charts"),
    ):
        assert link.startswith("http://127.0.0.1:5000/#/experiments/7/runs?")
        words = parse_qs(urlsplit(urlsplit(link).fragment).query)
        assert words.get("compareRunsMode") == mode
        assert words["viewStateShareKey"] == [key]
        assert words["workflowType"] == ["machine_learning"], "otherwise the UI opens in its mode for language models"
        assert f"mlflow.sharedViewState.{key}" in view.tags()
