"""Entry point `train`: one model, trained and audited."""

from __future__ import annotations

from memberscope.audit import artifacts
from memberscope.config import TrainStudyConfig, groups
from memberscope.interrupt import StopFlag
from memberscope.plans.target import target_of
from memberscope.studies import model_audit, model_page, setup
from memberscope.studies.data_notes import reading_notes, with_reading
from memberscope.studies.result import StudyResult
from memberscope.studies.seed_check import log_check
from memberscope.tracking import Tracker, as_json


def run(config: TrainStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Train one model and audit it, in the run of `tracker`."""
    data = setup.choose_classes(setup.load_data(config), config)
    target, trainer = target_of(data, config), setup.trainer_for(config, config)
    request = setup.audit_request(config, classes=data.classes)
    setup.check_trainer(trainer, target)
    prepared = target.prepare(config.seed)
    setting = model_audit.model_setting(trainer, data.classes)
    tracker.text(as_json(groups(config)), artifacts.STUDY)
    tracker.tags({"memberscope.kind": "model", "memberscope.setting": setting})
    about = model_page.description(prepared, trainer, tracker)
    tracker.describe(about)
    trained = model_audit.train_and_audit(prepared, trainer, request, tracker, stop, setting=setting, requested=config)
    notes = reading_notes(prepared.data, prepared.plan.sides)
    if config.check_seed:
        check = model_audit.check_seed(trained, prepared, trainer, stop)
        log_check(check, tracker)
        about += f"\n\n{check.sentence}"
        notes = [check.sentence, *notes]
    tracker.describe(model_page.with_finding(trained.report, about))
    return with_reading(StudyResult(table=model_page.leakage_table([trained]), answer=model_page.plain_words(trained)), notes)
