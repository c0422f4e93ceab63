"""Two views of an experiment that the UI can open for everyone: the runs as a table, the leakiest first, and charts by epoch.

MLflow keeps shared views as tags of the experiment, under a name that its documentation does not mention; the browser's test holds them to
the version that we pin. A UI that does not know the tags shows its own table and says so.

The table lists an interval as lower end, value, upper end. MLflow itself sorts metrics by name, which puts the value first and the upper
end before the lower; a view can say in which order columns stand.

The charts show one line for each setting and data set: the mean over its runs, one for each seed, in a band from the lowest to the highest.
MLflow's charts have no other band, such as a confidence interval.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

PREFIX = "mlflow.sharedViewState."
KEY = "memberscope"
CHARTS_KEY = "memberscope-charts"
LEAKAGE = "auc/threshold_loss"
FILTER = "tags.`memberscope.kind` != 'report'"
CHARTS_FILTER = "tags.`memberscope.kind` = 'model'"
WIDTHS = {
    "attributes.`Run Name`": 210, "runDateAndNestInfo": 130, "tags.`memberscope.kind`": 135, "metrics.`auc_ci_low/threshold_loss`": 180,
    f"metrics.`{LEAKAGE}`": 150, "metrics.`auc_ci_high/threshold_loss`": 185, "metrics.`tpr_at_fpr_0_01/threshold_loss`": 215,
    "metrics.`val/accuracy`": 110, "params.`data.name`": 100, "params.`model.architecture`": 140, "params.`model.depth`": 100,
    "tags.`memberscope.study`": 140,
}  # fmt: skip
COLUMNS = tuple(WIDTHS)[2:]  # the first two are always there
RANGES = {LEAKAGE: {"yMin": 0.4, "yMax": 1.0}}  # MLflow's own begins at 0, far below chance
SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Leakage by epoch": {
        LEAKAGE: "AUC of threshold_loss by epoch",
        "advantage/threshold_loss": "Advantage of threshold_loss by epoch",
    },
    "Training": {"train/accuracy": "Training accuracy by epoch", "val/accuracy": "Validation accuracy by epoch"},
}


def tags() -> dict[str, str]:
    """The experiment's tags that hold the views."""
    return {f"{PREFIX}{KEY}": json.dumps(table()), f"{PREFIX}{CHARTS_KEY}": json.dumps(charts())}


def table() -> dict[str, object]:
    """The state of the table: the order of the runs, without reports, and which columns are shown, in which order and how wide."""
    return {
        "searchFilter": FILTER, "orderByKey": f"metrics.`{LEAKAGE}`", "orderByAsc": False, "selectedColumns": COLUMNS,
        "columnOrder": tuple(WIDTHS), "columnWidths": WIDTHS,
    }  # fmt: skip


def charts() -> dict[str, object]:
    """The state of the charts: the models grouped by setting and data set, and two wide charts in a row."""
    cards, sections = [], []
    for place, (title, metrics) in enumerate(SECTIONS.items()):
        section = f"{CHARTS_KEY}-{place}"
        sections.append(
            {
                "uuid": section, "name": title, "display": True, "isReordered": True, "deleted": False, "isGenerated": False,
                "columns": 2, "cardHeight": 360,
            }
        )  # fmt: skip
        cards += [
            {
                "type": "LINE", "uuid": f"{section}-{number}", "metricSectionId": section, "deleted": False, "isGenerated": False,
                "runsCountToCompare": 10, "metricKey": metric, "selectedMetricKeys": [metric], "displayName": name, "lineSmoothness": 0,
                "useGlobalLineSmoothing": True, "xAxisKey": "step", "useGlobalXaxisKey": True, "xAxisScaleType": "linear",
                "scaleType": "linear", "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [],
                "range": RANGES.get(metric, {}), "ignoreOutliers": False,
            }
            for number, (metric, name) in enumerate(metrics.items())
        ]  # fmt: skip
    keys = [{"mode": "tag", "groupByData": "memberscope.setting"}, {"mode": "param", "groupByData": "data.name"}]
    return {
        "searchFilter": CHARTS_FILTER, "orderByKey": f"metrics.`{LEAKAGE}`", "orderByAsc": False, "selectedColumns": COLUMNS,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys}, "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOW_ALL", "compareRunCharts": cards, "compareRunSections": sections, "isAccordionReordered": True,
        "hideEmptyCharts": True, "runListHidden": True,
    }  # fmt: skip


def link(base: str, experiment_id: str) -> str:
    """The address of the table in the UI at `base`."""
    return f"{base}/#/experiments/{experiment_id}/runs?viewStateShareKey={KEY}&workflowType=machine_learning"


def charts_link(base: str, experiment_id: str) -> str:
    """The address of the charts in the UI at `base`."""
    return f"{base}/#/experiments/{experiment_id}/runs?compareRunsMode=CHART&viewStateShareKey={CHARTS_KEY}&workflowType=machine_learning"
