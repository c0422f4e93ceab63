"""Entry point `train`: one model, trained and audited."""

from __future__ import annotations

from memberscope.audit import artifacts
from memberscope.config import groups
from memberscope.config.training import TrainStudyConfig
from memberscope.interrupt import StopFlag
from memberscope.plans.target import Prepared, target_of
from memberscope.studies import model_audit, model_page, setup
from memberscope.studies.canaries import CanaryResult, audit
from memberscope.studies.data_notes import reading_notes, with_reading
from memberscope.studies.model_audit import AuditedModel
from memberscope.studies.recorder import writes_evidence
from memberscope.studies.result import StudyResult
from memberscope.studies.seed_check import log_check
from memberscope.tracking import Tracker, as_json
from memberscope.training.trainer import Trainer


@writes_evidence("train")
def run(config: TrainStudyConfig, tracker: Tracker, stop: StopFlag) -> StudyResult:
    """Train one model and audit it, in the run of `tracker`."""
    data = setup.choose_classes(setup.load_data(config), config)
    target = target_of(data, config, canaries=setup.canary_request(config, config, data))
    setup.check_sides(target)
    trainer = setup.trainer_for(config, config)
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
    if prepared.canaries is not None:
        found = audit_canaries(prepared, trained, trainer, tracker, stop, config)
        about = f"{about}\n\n{found.words}"
        tracker.describe(about)
        notes = [found.words, *notes]
    if config.check_seed:
        check = model_audit.check_seed(trained, prepared, trainer, stop)
        log_check(check, tracker)
        about += f"\n\n{check.sentence}"
        notes = [check.sentence, *notes]
    tracker.describe(model_page.with_finding(trained.report, about))
    return with_reading(StudyResult(table=model_page.leakage_table([trained]), answer=model_page.plain_words(trained)), notes)


def audit_canaries(
    prepared: Prepared, trained: AuditedModel, trainer: Trainer, tracker: Tracker, stop: StopFlag, config: TrainStudyConfig
) -> CanaryResult:
    """Audit the canaries of a trained model, beside the same model without them unless ``canary_cost=no``, and log what was found."""
    assert prepared.canaries is not None
    assert trained.predict is not None
    without = None
    if config.canary_cost:
        without = model_audit.train_again(prepared, trainer, stop, label=f"{trained.name}, without canaries", canaries=False)
    found = audit(
        prepared, prepared.canaries, (trained.form, trained.predict), without=without, seed=prepared.seed, delta=config.delta,
        promise=config.promise,
    )  # fmt: skip
    found.log(tracker, step=int(trained.history["epoch"].iloc[-1]))
    return found
