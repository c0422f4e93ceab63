"""Entry point `train`: one model, trained and audited."""

from __future__ import annotations

from memberscope.config import TrainStudyConfig, groups
from memberscope.datasets import duplicates, load_dataset
from memberscope.interrupt import StopFlag
from memberscope.studies import model_audit
from memberscope.studies.data_notes import with_reading
from memberscope.studies.result import StudyResult, leakage_table
from memberscope.tracking import Tracker, as_json


def run(config: TrainStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Train and audit one model in the run that `tracker` stands for."""
    data = load_dataset(config.dataset, data_dir=config.data_dir, archive_dir=config.archive_dir, duplicates=config.duplicates)
    model_audit.check_before_training(data, config, [config], config, config, seed=config.seed)
    prepared = model_audit.prepare(data, config, seed=config.seed)
    setting = model_audit.model_setting(config, prepared.data.classes)
    tracker.text(as_json(groups(config)), "study.json")
    tracker.tags({"memberscope.kind": "model", "memberscope.setting": setting})
    tracker.describe(model_audit.description(prepared, config, config))
    trained = model_audit.train_and_audit(prepared, config, config, config, tracker, stop, setting=setting)
    said = duplicates.notes(prepared.data, prepared.plan.sides)
    return with_reading(StudyResult(table=leakage_table([trained]), answer=model_audit.plain_words(trained)), said)
