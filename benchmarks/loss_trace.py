"""Measures the time that collecting a loss trace adds to a training.

python benchmarks/loss_trace.py           conv and dense models of digits, 20 epochs, five repetitions in turn; three minutes
python benchmarks/loss_trace.py --quick   the conv model alone, 6 epochs, three repetitions; under a minute
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

SHARE = 0.10  # largest share of the time of training


def trained(prepared, trainer, *, way: str, audit_every: int) -> float:
    """Processor seconds of one training from the end of its first epoch on, since that one compiles.

    `way` is ``train`` (metrics by epoch, as that entry point takes them), ``train, traced``, ``bare`` (nothing after an epoch) or
    ``bare, traced`` (a pass over all members and non-members after each).
    """
    from memberscope.studies import loss_trace, model_audit
    from memberscope.training.trainer import TrainingJob

    data, plan = prepared.data, prepared.plan
    epochs = trainer.params["epochs"]
    model = trainer.begin(TrainingJob(data=data, indices=plan.members, seed=0))
    stride = audit_every if way.startswith("train") else 1
    began = [0.0]
    with loss_trace.collected(data, plan.audited, plan.member, wanted="traced" in way, epochs=epochs, every=stride) as trace:

        def after_epoch(epoch: int) -> None:
            if way.startswith("train"):
                audited = epoch % audit_every == 0 or epoch == epochs
                _, losses = model_audit.look(model.outputs, data, plan, form="logits", epoch=epoch, audited=audited)
                if trace is not None and epoch and audited:
                    trace.update(losses, epoch=epoch)
            elif trace is not None and epoch:
                trace.update(loss_trace.losses_at(model.outputs, data, plan.audited), epoch=epoch)
            if epoch == 1:
                began[0] = time.process_time()

        model.fit(after_epoch=after_epoch, between_steps=lambda done: None)
        return time.process_time() - began[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="train fewer models for fewer epochs")
    quick = parser.parse_args().quick
    from memberscope.config.training import TrainStudyConfig
    from memberscope.plans.target import target_of
    from memberscope.studies import setup

    worst = 0.0
    for model in ("conv",) if quick else ("conv", "dense"):
        config = TrainStudyConfig(model=model, epochs=6 if quick else 20)
        data, trainer = setup.load_data(config), setup.trainer_for(config, config)
        prepared = target_of(data, config).prepare(0)
        ways = ("train", "train, traced", "bare", "bare, traced")
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(3 if quick else 5):
            for way in ways:
                times[way].append(trained(prepared, trainer, way=way, audit_every=config.audit_every))
        least = {way: min(values) for way, values in times.items()}
        share, own = least["train, traced"] / least["train"] - 1, least["bare, traced"] / least["bare"] - 1
        worst = max(worst, share)
        print(
            f"{trainer.name}: {least['train']:.3f} s as `train` trains it, {share:+.1%} with a trace (target: under {SHARE:.0%})"
        )
        print(f"{trainer.name}: {least['bare']:.3f} s in a loop that does nothing else, {own:+.1%} with a pass over both sides")
    print(f"{mebibytes():.1f} MiB on disk for 60,000 records and 40 epochs")
    print(last_line("loss_trace", (1 + SHARE) / (1 + worst), quick=quick))
    return 0 if worst <= SHARE else 1


def mebibytes() -> float:
    """Size of a trace of 60,000 records and 40 epochs, by the size of its rows."""
    from memberscope.exposure.trace import LossTrace

    with tempfile.TemporaryDirectory() as folder:
        trace = LossTrace.create(Path(folder) / "trace", record_ids=60_000)
        trace.update(np.ones(60_000))
        before = trace.path.stat().st_size
        trace.update(np.ones(60_000))
        return 40 * (trace.path.stat().st_size - before) / 2**20


if __name__ == "__main__":
    raise SystemExit(main())
