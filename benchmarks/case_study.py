"""Compares a plain implementation of the case study with ours: seconds, peak memory, and the resulting metrics.

The plain implementation is a loop of `keras.Model.fit` on float32 images with tensorflow_privacy's threshold attack by class every 2
epochs, as in the case study's own script. Ours is `train_and_audit`: images stay uint8 until a batch is made, epochs are compiled, and the
curves and the final threshold attacks on all slices are the same. Each runs in a process of its own, so that peak memory is measured
separately.

    python benchmarks/case_study.py            CIFAR-10, all of it, 40 epochs (set TFDS_DATA_DIR, or --data_dir)
    python benchmarks/case_study.py --quick    digits, fewer epochs, under a minute
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from shared.targets import last_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", category=FutureWarning)

EVERY = 2


def settings(arguments: argparse.Namespace) -> Any:
    from memberscope.config.training import CaseStudyConfig

    if arguments.quick:
        return CaseStudyConfig(epochs=arguments.epochs or 12, validation="nonmembers", attacks="threshold", audit_every=EVERY)
    return CaseStudyConfig(
        dataset="cifar10", data_dir=arguments.data_dir, validation="nonmembers", attacks="threshold", audit_every=EVERY,
        epochs=arguments.epochs or 40,
    )  # fmt: skip


def prepared_roles(config: Any) -> list[tuple[str, Any, Any]]:
    """(setting, model config, prepared data) of the four models, the same for both implementations."""
    from memberscope.plans.target import target_of
    from memberscope.studies import case_study, model_audit, setup

    data = setup.choose_classes(setup.load_data(config), config)
    found, made = [], {}
    for role in case_study.roles(config).values():
        part, part_config = case_study._share(data, config, role)
        if role.few not in made:
            made[role.few] = target_of(part, part_config).prepare(config.seed)
        ready = made[role.few]
        trainer = setup.trainer_for(role.model, config)
        found.append((model_audit.model_setting(trainer, ready.data.classes), role.model, ready))
    return found


def plain(config: Any) -> dict[str, Any]:
    """`keras.Model.fit`, then predictions of both sides and tensorflow_privacy by class every other epoch."""
    import numpy as np
    from tensorflow import keras

    from memberscope.models import build_model
    from memberscope.predictions import Predictions
    from memberscope.tfprivacy import run_attacks

    figures = {}
    for setting, model_config, ready in prepared_roles(config):
        data, plan = ready.data, ready.plan
        x_train, x_test = data.scaled(plan.members), data.scaled(plan.nonmembers)
        y_train, y_test = data.y[plan.members], data.y[plan.nonmembers]
        model = build_model(
            model_config.model, depth=model_config.depth, input_shape=data.shape, classes=data.classes, seed=config.seed
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(config.learning_rate), loss, metrics=["accuracy"])
        for epoch in range(1, config.epochs + 1):
            history = model.fit(x_train, y_train, batch_size=config.batch_size, validation_data=(x_test, y_test), verbose=0)
            if epoch % EVERY == 0 or epoch == config.epochs:
                logits = np.concatenate([model.predict(x, batch_size=config.batch_size, verbose=0) for x in (x_train, x_test)])
                target = Predictions(logits=logits, labels=np.concatenate([y_train, y_test]), member=plan.member)
                results = run_attacks(target, ["threshold_loss"], ["entire", "class"], seed=0)
        whole = results[0].raw
        figures[setting] = {
            "train": float(history.history["accuracy"][-1]),
            "val": float(history.history["val_accuracy"][-1]),
            "auc": float(whole.get_auc()),
            "advantage": float(whole.get_attacker_advantage()),
        }
    return figures


def ours(config: Any) -> dict[str, Any]:
    """`train_and_audit`, tracked in memory."""
    from memberscope.interrupt import StopFlag
    from memberscope.studies import model_audit, setup
    from memberscope.tracking import MemoryTracker

    figures = {}
    for setting, model_config, ready in prepared_roles(config):
        trainer, request = setup.trainer_for(model_config, config), setup.audit_request(config, classes=ready.data.classes)
        trained = model_audit.train_and_audit(
            ready, trainer, request, MemoryTracker(), StopFlag(), setting=setting, requested=config
        )
        found = trained.report.result("threshold_loss").figures
        figures[setting] = {
            "train": trained.summary["train_accuracy"],
            "val": trained.summary["val_accuracy"],
            "auc": found["auc"].value,
            "advantage": found["advantage_tfp"].value,
        }
    return figures


WAYS = {"plain": plain, "ours": ours}


def child(way: str, arguments: argparse.Namespace) -> None:
    config = settings(arguments)
    import tensorflow_privacy  # noqa: F401 - so that imports are not measured

    from memberscope.studies import (
        model_audit,  # noqa: F401 - as above
    )

    start = time.perf_counter()
    figures = WAYS[way](config)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "peak_gib": peak, "figures": figures}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use digits and few epochs")
    parser.add_argument("--epochs", type=int, default=0, help="number of epochs; 0: 40, or 12 with --quick")
    parser.add_argument("--data_dir", default="", help="folder of prepared TFDS data sets")
    parser.add_argument("--repeat", type=int, default=1, help="number of runs of each implementation, whose median is taken")
    parser.add_argument("--child", choices=sorted(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments)
        return 0
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(arguments.repeat):
        for way in WAYS:
            command = [
                sys.executable,
                __file__,
                "--child",
                way,
                "--epochs",
                str(arguments.epochs),
                "--data_dir",
                arguments.data_dir,
            ]
            command += ["--quick"] if arguments.quick else []
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs[way].append(json.loads(done.stdout.splitlines()[-1]))
    median = {way: sorted(run["seconds"] for run in of_way)[len(of_way) // 2] for way, of_way in runs.items()}
    for way, of_way in runs.items():
        last = of_way[-1]
        print(f"{way}: {median[way]:.1f} s, peak memory {max(run['peak_gib'] for run in of_way):.2f} GiB")
        for setting, figures in last["figures"].items():
            print(f"  {setting:14}" + "".join(f"  {name} {value:.3f}" for name, value in figures.items()))
    print(f"peak memory of ours: {max(run['peak_gib'] for run in runs['ours']):.2f} GiB (target: under 4)")
    print(last_line("case_study", median["plain"] / median["ours"], quick=arguments.quick))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
