"""The command line: parse, call the study, map errors to exit codes.

``memberscope STUDY --option value`` does what ``mlflow run . -e STUDY -P option=value`` does, with true exit codes: 0 done, 1 an error of
ours, 2 a mistake that the user can mend (one line says which), 3 a gate that tripped, 4 one that cannot decide, 130 interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from memberscope.config import Config, written
from memberscope.config.shared import BUILT_IN_TRAINER
from memberscope.errors import GateError, Interrupted, UserError, nearest
from memberscope.installed import absence_told, require
from memberscope.plugins import GROUPS, told

LOGGING = ("mlflow", "sqlalchemy", "psutil", "matplotlib")  # what every study needs, for its runs in MLflow and their figures


@dataclass(frozen=True, kw_only=True)
class Study:
    """An entry point: its module, where in `memberscope.config` its configuration is, what it does, and the libraries it needs."""

    module: str
    config: str
    about: str
    needs: tuple[str, ...] = ()

    def configuration(self) -> type[Config]:
        """Its configuration's class."""
        module, _, name = self.config.partition(".")
        found: type[Config] = getattr(importlib.import_module(f"memberscope.config.{module}"), name)
        return found


STUDIES = {
    "main": Study(
        module="memberscope.studies.case_study",
        config="training.CaseStudyConfig",
        about="the case study: conv against dense, deep against shallow, all classes against few, over seeds",
        needs=("tensorflow",),
    ),
    "attack": Study(
        module="memberscope.studies.attack",
        config="audits.AttackStudyConfig",
        about="audit what any model said of members and non-members, from a file",
    ),
    "mitigate": Study(
        module="memberscope.studies.mitigate.study",
        config="mitigation.MitigateConfig",
        about="what each defence buys and costs, at release and in training, against an attacker who knows of it",
        needs=("tensorflow", "dp_accounting"),
    ),
    "audit": Study(
        module="memberscope.studies.audit",
        config="audits.AuditModelConfig",
        about="audit any model that MLflow can load, on files of its members and of non-members",
    ),
    "report": Study(
        module="memberscope.studies.report",
        config="audits.ReportStudyConfig",
        about="one self-contained HTML page from one run or several, compared where their records are the same",
    ),
    "shadow": Study(
        module="memberscope.studies.shadow.study",
        config="outside.ShadowStudyConfig",
        about="shadow models: train a fleet, attack several of its models with the others, audit one with every attack",
        needs=("tensorflow",),
    ),
    "synthesize": Study(
        module="memberscope.studies.synthesize.study",
        config="outside.SynthesizeConfig",
        about="shadow data from the model itself: climb, GAN and baselines, and how well their shadows transfer",
        needs=("tensorflow",),
    ),
    "sweep": Study(
        module="memberscope.studies.sweep.study",
        config="training.SweepStudyConfig",
        about="hyperparameters against privacy: a grid under controls, or a search, over seeds and workers, with its verdicts",
        needs=("tensorflow", "dp_accounting", "optuna"),
    ),
    "train": Study(
        module="memberscope.studies.train",
        config="training.TrainStudyConfig",
        about="one model, trained and audited",
        needs=("tensorflow",),
    ),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with exit code 2 from `run_study`."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def parser_for(name: str, *, listing: bool = True) -> argparse.ArgumentParser:
    """The options of a study: one a field of its configuration, all text (the configuration checks them), and ``--verbose``.

    Former names of options are known too, and not shown. With `listing`, the help names what other packages offer.
    """
    study = STUDIES[name]
    config = study.configuration()
    parser = _Parser(prog=f"memberscope {name}", description=study.about, allow_abbrev=False)
    for item in dataclasses.fields(config):
        allowed = item.metadata["check"].allowed().replace("%", "%%")
        text = item.metadata["help"].replace("%", "%%")
        default = written(item.default)
        shown = default if default != "" else "empty"
        others = (
            told(item.metadata["plugins"], taken=(BUILT_IN_TRAINER,)).replace("%", "%%")
            if item.metadata["plugins"] and listing
            else ""
        )
        text += f"; from other packages: {others}" if others else ""
        parser.add_argument(f"--{item.name}", default=default, metavar="VALUE", help=f"{text} [{allowed}; default: {shown}]")
        for former in item.metadata["formerly"]:
            parser.add_argument(f"--{former}", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    return parser


def parse(name: str, arguments: Sequence[str]) -> tuple[Any, bool]:
    """The study's configuration, and whether to be verbose.

    Raises:
        UserError: an unknown option (with the nearest), or a value that is not allowed.
    """
    parser = parser_for(name, listing=any(word in ("-h", "--help") for word in arguments))
    values, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
        known = [option for action in shown for option in action.option_strings]
        word = unknown[0].split("=")[0]
        raise UserError(f"{unknown[0]}: unknown option of {name}{nearest(word, known)}; see memberscope {name} --help")
    config = STUDIES[name].configuration()
    given = vars(values)
    verbose = given.pop("verbose")
    for former, current in config.former_names().items():
        if former in given:
            print(
                f"memberscope: note: {former} is now {current}; the old name works in this version", file=sys.stderr, flush=True
            )
            if str(given[current]) == str(written(config.__dataclass_fields__[current].default)):
                del given[current]  # mlflow run passes the new name's default along with an old name that was given
    return config.from_mapping(given), verbose


def run_study(name: str, arguments: Sequence[str]) -> int:
    """Parse, run and report a study; the exit code."""
    verbose = "--verbose" in arguments
    try:
        return _run(name, arguments)
    except UserError as error:
        return _fail(error, error.exit_code, verbose)
    except (Interrupted, GateError) as error:
        return _fail(error, error.exit_code, verbose)
    except Exception as error:
        return _fail(error, 1, verbose)


def _fail(error: Exception, code: int, verbose: bool) -> int:
    if verbose:
        import traceback

        traceback.print_exception(error)
    line = " ".join(str(error).split())
    kind = "" if isinstance(error, UserError | Interrupted | GateError) else f"unexpected {type(error).__name__}: "
    hint = "" if verbose or code != 1 else " (--verbose shows where)"
    print(f"memberscope: {kind}{line}{hint}", file=sys.stderr, flush=True)
    return code


def _run(name: str, arguments: Sequence[str]) -> int:
    from memberscope.interrupt import StopFlag

    _quiet_libraries()
    with absence_told(name), StopFlag() as stop:
        if os.environ.get("MLFLOW_RUN_ID"):  # mlflow run made the run: even a wrong option must end it FAILED
            require(*LOGGING, by=name)
            from memberscope.mlflow_adapter.owner import Watch
            from memberscope.mlflow_adapter.session import open_session

            with open_session(name, name=_run_name(name, {}), arguments=arguments) as session, Watch(session.owner, stop):
                config, _ = parse(name, arguments)
                _require_libraries(name, config)
                session.name(_run_name(name, config.to_dict()))
                return _inside(name, config, session, stop)
        config, _ = parse(name, arguments)
        _require_libraries(name, config)
        from memberscope.mlflow_adapter.session import open_session

        with open_session(name, name=_run_name(name, config.to_dict()), arguments=arguments) as session:
            return _inside(name, config, session, stop)


def _require_libraries(name: str, config: Any) -> None:
    """Raise UserError unless all is installed that the study needs with these options."""
    foreign = (
        getattr(config, "trainer", BUILT_IN_TRAINER) != BUILT_IN_TRAINER
    )  # another package's trainer says what it needs itself
    require(*LOGGING, *(module for module in STUDIES[name].needs if not (foreign and module == "tensorflow")), by=name)
    if getattr(config, "engine", "") == "tfp":
        require("tensorflow", "tensorflow_privacy", by="engine=tfp", instead="engine=fast")
    if getattr(config, "scheduler", ""):
        require("distributed", by=f"scheduler={config.scheduler}", instead="nothing, for this machine")


def _inside(name: str, config: Any, session: Any, stop: Any) -> int:
    from memberscope.unlogged import unlogged

    with absence_told(name), unlogged():
        study = importlib.import_module(STUDIES[name].module)
        result = study.run(config, session.tracker, stop)
    print(f"\n{result.table}\n\n{result.answer}\n")
    print(f"store: {session.store}")
    print(f"open:  {session.link}" + ("" if session.store.startswith("http") else f"  (after: {_server(session.store)})"))
    print(f"runs:  {session.all_runs}", flush=True)
    if result.gate is not None:
        raise result.gate
    return 0


def _server(store: str) -> str:
    """What starts a server over the store: the Makefile's own word where it lies beside it."""
    beside = os.path.dirname(store)
    if os.path.basename(store) == "mlflow.db" and all(
        os.path.isfile(os.path.join(beside, name)) for name in ("Makefile", "MLproject")
    ):
        return "make ui"
    return (
        f"mlflow ui --backend-store-uri {shlex.quote('sqlite:///' + store)}"
        if os.path.isfile(store)
        else "mlflow ui over that store"
    )


def _run_name(name: str, values: dict[str, Any]) -> str:
    """The parent run's name: the entry point, and what it is about."""
    parts = ["case-study" if name == "main" else name]
    if values.get("space"):
        values = {**values, "grid": os.path.splitext(os.path.basename(values["space"]))[0]}
    keys = ("grid", "dataset") if name == "sweep" else ("dataset", "model")
    parts += [str(values[key]) for key in keys if key in values]
    parts += [f"d{values['depth']}"] if name == "train" and "depth" in values else []
    parts += [re.sub(r"[^\w.@-]+", "-", values["model_uri"].split(":/")[-1]).strip("-")] if values.get("model_uri") else []
    parts += [f"s{values['seed']}"] if name == "train" and "seed" in values else []
    return "-".join(os.path.basename(part) for part in parts)


def _quiet_libraries() -> None:
    """TensorFlow's start-up lines, and one warning of a Google client library about Python 3.11, say nothing to our users."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*Google will stop supporting.*")
    os.environ.setdefault("PYTHONWARNINGS", "ignore:You are using a Python version:FutureWarning")  # in worker processes
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of each program that is traced anew


def main(arguments: Sequence[str] | None = None) -> int:
    """``memberscope STUDY --option value``."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: memberscope STUDY [--option value ...]\n\nstudies:")
        for name, study in STUDIES.items():
            print(f"  {name:10} {study.about}")
        for group in GROUPS:
            if others := told(group, taken=(BUILT_IN_TRAINER,)):
                print(f"\n{group.removeprefix('memberscope.')} of other packages: {others}")
        print("\nmemberscope STUDY --help lists a study's options.")
        return 0 if arguments else 2
    name = arguments[0]
    if name == "--version":
        from memberscope import __version__

        print(__version__)
        return 0
    if name not in STUDIES:
        return _fail(UserError(f"{name}: unknown study; allowed: {', '.join(STUDIES)}{nearest(name, STUDIES)}"), 2, False)
    return run_study(name, arguments[1:])


if __name__ == "__main__":
    raise SystemExit(main())
