"""The command line: it parses the options, calls the study and maps errors to exit codes.

``memberscope STUDY --option value`` does the same as ``mlflow run . -e STUDY -P option=value``, but with meaningful exit codes: 0 for
success, 1 for an error of ours, 2 for a mistake that the user can correct (the one line of the error names it), 3 for a gate that
tripped, 4 for an undecided gate, 130 for an interrupted run.
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import gc
import importlib
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from memberscope import addresses
from memberscope.clock import Clock, Stage
from memberscope.config import Config, option_name, written
from memberscope.config.shared import BUILT_IN_TRAINER
from memberscope.errors import GateError, Interrupted, UserError, explain_machine_faults, nearest, of_the_machine
from memberscope.garbage import seldom_collected
from memberscope.installed import explain_missing_library, is_installed, require
from memberscope.plugins import GROUPS, offered_names
from memberscope.quiet import quiet_libraries
from memberscope.redact import redact

FOR_BUILT_IN_MODELS = ("tensorflow", "dp_accounting")
RESEND = "resend"
WITH_PASSWORDS = ("storage", "scheduler")  # options that take env:NAME in place of an address
LOGGING = ("mlflow", "sqlalchemy", "matplotlib")  # every study needs these, for its MLflow runs and their figures


@dataclass(frozen=True, kw_only=True)
class Study:
    """An entry point: its module, the place of its configuration in `memberscope.config`, a description, the libraries it needs, and
    whether it logs to an MLflow run of its own.
    """

    module: str
    config: str
    about: str
    needs: tuple[str, ...] = ()
    tracked: bool = True

    def configuration(self) -> type[Config]:
        """The class of its configuration."""
        module, _, name = self.config.partition(".")
        found: type[Config] = getattr(importlib.import_module(f"memberscope.config.{module}"), name)
        return found


STUDIES = {
    "main": Study(
        module="memberscope.studies.case_study",
        config="training.CaseStudyConfig",
        about="run the case study over several seeds: conv against dense, deep against shallow, all classes against few",
        needs=("tensorflow",),
    ),
    "attack": Study(
        module="memberscope.studies.attack",
        config="audits.AttackStudyConfig",
        about="audit any model's outputs for members and non-members, read from a file",
    ),
    "mitigate": Study(
        module="memberscope.studies.mitigate.study",
        config="mitigation.MitigateConfig",
        about="measure what each mitigation, in training or at release, gains in privacy and costs in utility, against an "
        "attacker who knows about it",
        needs=("tensorflow", "dp_accounting"),
    ),
    "audit": Study(
        module="memberscope.studies.audit",
        config="audits.AuditModelConfig",
        about="audit any model that MLflow can load, on a file of its members and a file of non-members",
    ),
    "plan": Study(
        module="memberscope.studies.plan",
        config="outside.PlanStudyConfig",
        about="write the index sets of a shadow study as files, for models that are trained elsewhere; shadow --plan audits them",
        tracked=False,
    ),
    "report": Study(
        module="memberscope.studies.report",
        config="audits.ReportStudyConfig",
        about="write one self-contained HTML page on one run or several, which are compared, and files that other tools read",
    ),
    "shadow": Study(
        module="memberscope.studies.shadow.study",
        config="outside.ShadowStudyConfig",
        about="train a fleet of shadow models, attack several of them in turn with the others, audit one with every attack",
        needs=("tensorflow",),
    ),
    "synthesize": Study(
        module="memberscope.studies.synthesize.study",
        config="outside.SynthesizeConfig",
        about="generate shadow data with the model itself (hill climbing, GAN, baselines), and measure how well shadow models "
        "trained on them transfer",
        needs=("tensorflow",),
    ),
    "sweep": Study(
        module="memberscope.studies.sweep.study",
        config="training.SweepStudyConfig",
        about="measure how hyperparameters affect privacy: a grid with controls and verdicts, or a search, over several seeds "
        "and parallel workers",
        needs=("tensorflow", "dp_accounting", "optuna"),
    ),
    "train": Study(
        module="memberscope.studies.train",
        config="training.TrainStudyConfig",
        about="train one model and audit it",
        needs=("tensorflow",),
    ),
}


class _Parser(argparse.ArgumentParser):
    """A parser that raises UserError, so that `run_study` prints one line and returns exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def parser_for(name: str, *, listing: bool = True) -> argparse.ArgumentParser:
    """The parser of a study: one option for each field of its configuration, and ``--verbose``.

    Values are text, which the configuration checks. Former names of options are accepted but not shown. If `listing`, the help also
    names the plug-ins of other packages.
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
            offered_names(item.metadata["plugins"], taken=(BUILT_IN_TRAINER,)).replace("%", "%%")
            if item.metadata["plugins"] and listing
            else ""
        )
        text += f"; from other packages: {others}" if others else ""
        parser.add_argument(
            f"--{option_name(item)}", default=default, metavar="VALUE", help=f"{text} [{allowed}; default: {shown}]"
        )
        for former in item.metadata["formerly"]:
            parser.add_argument(f"--{former}", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    return parser


def parse(name: str, arguments: Sequence[str]) -> tuple[Any, bool]:
    """The study's configuration, and whether ``--verbose`` was given.

    Raises:
        UserError: an unknown option (the message suggests the nearest), or a value that is not allowed.
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
    defaults = {option_name(item): item.default for item in dataclasses.fields(config)}
    for former, current in config.former_names().items():
        if former in given:
            print(
                f"memberscope: note: {former} is now {current}; the old name works in this version", file=sys.stderr, flush=True
            )
            if str(given[current]) == str(written(defaults[current])):
                del given[current]  # mlflow run passes the default of the new name along with the old name
    return config.from_mapping(given), verbose


@seldom_collected
def run_study(name: str, arguments: Sequence[str]) -> int:
    """Parse the options, run the study and print its result; returns the exit code."""
    verbose = "--verbose" in arguments
    atexit.unregister(gc.freeze)
    atexit.register(
        gc.freeze
    )  # else the interpreter looks for garbage when it ends: for a second, on a busy machine for several
    about = addresses.in_use(arguments)  # now, since the store's password is taken out of its address later
    try:
        return _run(name, arguments)
    except UserError as error:
        return _fail(error, error.exit_code, verbose, about)
    except (Interrupted, GateError) as error:
        return _fail(error, error.exit_code, verbose, about)
    except KeyboardInterrupt as error:
        return _fail(Interrupted(str(error) or "stopped by SIGINT"), Interrupted.exit_code, verbose, about)
    except Exception as error:
        found = of_the_machine(error)
        if found is not None:
            found.__cause__ = error
        return _fail(found or error, 1 if found is None else found.exit_code, verbose, about)


def resend(arguments: Sequence[str]) -> int:
    """Run ``memberscope resend FOLDER``; returns the exit code."""
    about = addresses.in_use(arguments)
    try:
        with explain_missing_library(RESEND):
            require("mlflow", "sqlalchemy", by=RESEND)
            from memberscope.mlflow_adapter.resend import main as send

            return send(list(arguments))
    except UserError as error:
        return _fail(error, error.exit_code, False, about)
    except KeyboardInterrupt:
        return _fail(Interrupted("stopped by SIGINT; what was not sent is kept"), Interrupted.exit_code, False, about)
    except Exception as error:
        return _fail(error, 1, False, about)


def _fail(error: Exception, code: int, verbose: bool, about: Sequence[str] = ()) -> int:
    if verbose:
        import traceback

        print(redact("".join(traceback.format_exception(error)), about), end="", file=sys.stderr)
    line = redact(" ".join(redact(str(error), about).split()))
    kind = "" if isinstance(error, UserError | Interrupted | GateError) else f"unexpected {type(error).__name__}: "
    hint = "" if verbose or code != 1 else " (--verbose shows where)"
    print(f"memberscope: {kind}{line}{hint}", file=sys.stderr, flush=True)
    return code


def _run(name: str, arguments: Sequence[str]) -> int:
    from memberscope.interrupt import StopFlag

    quiet_libraries()
    _check_texts(arguments)
    _check_temporary_folder()
    with StopFlag() as stop:
        try:
            return _stopped_by(name, arguments, stop)
        except Exception as error:
            if stop.left and not isinstance(error, Interrupted):  # what a library made of being left in its midst
                raise stop.interrupted() from error
            raise


def _stopped_by(name: str, arguments: Sequence[str], stop: Any) -> int:
    """Run an entry point that a flag stops."""
    clock = Clock()
    with explain_missing_library(name):
        if os.environ.get("MLFLOW_RUN_ID"):  # mlflow run has made the run, so even a wrong option must end it FAILED
            require(*LOGGING, by=name)
            from memberscope.mlflow_adapter.claims import claim

            claim(os.environ["MLFLOW_RUN_ID"])
            from memberscope.mlflow_adapter.owner import Watch
            from memberscope.mlflow_adapter.session import open_session

            opened = open_session(
                name, name=_run_name(name, {}), arguments=arguments, whole=stop.patient, writing=stop.writing, check=stop.check,
                clock=clock,
            )  # fmt: skip
            with _stoppable(opened, stop) as session, Watch(session.owner, stop):
                config, _ = parse(name, arguments)
                _note_passwords(config)
                _require_libraries(name, config)
                session.name(_run_name(name, config.to_dict()))
                return _inside(name, config, session, stop)
        config, _ = parse(name, arguments)
        _require_libraries(name, config)
        if not is_tracked(name, config):
            return _untracked(name, config, stop)
        with clock.stage(Stage.IMPORTS):
            from memberscope.mlflow_adapter.session import open_session

        opened = open_session(
            name, name=_run_name(name, config.to_dict()), arguments=arguments, whole=stop.patient, writing=stop.writing, check=stop.check,
            clock=clock,
        )  # fmt: skip
        with _stoppable(opened, stop) as session:
            return _inside(name, config, session, stop)


def is_tracked(name: str, config: Any) -> bool:
    """Whether a study logs to an MLflow run of its own: a report on an evidence file needs no MLflow."""
    return STUDIES[name].tracked and not getattr(config, "from_", "")


def _check_texts(arguments: Sequence[str]) -> None:
    """Raise UserError for an argument that is not text, such as a file's name in another encoding: no run could store it."""
    for word in arguments:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            raise UserError(f"{word[:200]}: not text in UTF-8; allowed: options and names of files in UTF-8") from None
        if "\0" in word:
            raise UserError(f"{word[:200]}: contains a null character; allowed: text without one")


def _check_temporary_folder() -> None:
    """Raise UserError if no folder for temporary files can be written, such as on a full disk: every study needs one for its artifacts."""
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError as error:  # what Python makes of a folder that is absent, full or read-only
        given = next((f"{name}={os.environ[name]}" for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)), "TMPDIR=")
        raise UserError(
            f"{given}: no folder for temporary files ({error.strerror}); allowed: a folder that may be written, with free space"
        ) from None
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        raise UserError(
            f"TMPDIR={folder}: cannot be written ({error.strerror}); allowed: a folder that may be written, with free space"
        ) from None


@contextmanager
def _stoppable(opened: Any, stop: Any) -> Iterator[Any]:
    """A session that a second signal ends as well; no work begins in it after a stop."""
    with opened as session:
        stop.last_words = session.end_at_once
        stop.check()
        yield session


def _note_passwords(config: Any) -> None:
    """Say so if ``mlflow run`` was given a password, which it keeps in the run's params."""
    for option in WITH_PASSWORDS:
        given = getattr(config, option, "")
        if redact(given) != given:
            print(
                f"memberscope: note: mlflow run keeps {option}, password included, in the run's params; {option}=env:NAME, with the "
                "address in the environment variable NAME, avoids that",
                file=sys.stderr,
                flush=True,
            )


def _require_libraries(name: str, config: Any) -> None:
    """Raise UserError unless everything is there that the study needs with these options: libraries, and variables that they name."""
    built_in = getattr(config, "trainer", BUILT_IN_TRAINER) == BUILT_IN_TRAINER and not getattr(
        config, "plan", ""
    )  # another package's trainer checks for its own libraries, and models that were trained elsewhere need none
    logging = LOGGING if is_tracked(name, config) or os.environ.get("MLFLOW_RUN_ID") else ()
    others = [module for module in STUDIES[name].needs if module not in FOR_BUILT_IN_MODELS]
    own = "a trainer of your own (such as trainer=my_model.py:train)" if hasattr(config, "trainer") else ""
    if built_in:
        only_built_in = all(is_installed(module) for module in (*logging, *others))
        require(*logging, *STUDIES[name].needs, by=name, instead=own if only_built_in else "")
    else:
        require(*logging, *others, by=name)
    if getattr(config, "engine", "") == "tfp":
        require("tensorflow", "tensorflow_privacy", by="engine=tfp", instead="engine=fast")
    for option in WITH_PASSWORDS:
        addresses.resolved(option, getattr(config, option, ""))
    if getattr(config, "scheduler", ""):
        require("distributed", by=f"scheduler={config.scheduler}", instead="nothing, for this machine")


def _inside(name: str, config: Any, session: Any, stop: Any) -> int:
    from memberscope.unlogged import unlogged

    try:
        with explain_missing_library(name), explain_machine_faults(), unlogged():
            with session.tracker.clock.stage(Stage.IMPORTS):
                study = importlib.import_module(STUDIES[name].module)
            result = study.run(config, session.tracker, stop)
    except Exception as error:
        if stop.left:  # as above, and the run ends KILLED
            raise stop.interrupted() from error
        raise
    finally:
        stop.release()
    if stop.left:  # a library went on as if nothing had happened, but its results may be incomplete
        raise stop.interrupted()
    print(redact(f"\n{result.table}\n\n{result.answer}\n"))
    print(f"store: {session.store}")
    if link := session.link:
        print(f"open:  {link}" + ("" if session.store.startswith("http") else f"  (after: {_server(session.store)})"))
    print(f"runs:  {session.all_runs}")
    print(f"charts: {session.charts}", flush=True)
    if result.gate is not None:
        raise result.gate
    return 0


def _untracked(name: str, config: Any, stop: Any) -> int:
    """Run a study that logs nothing, without MLflow."""
    from memberscope.tracking import MemoryTracker

    with explain_missing_library(name), explain_machine_faults():
        result = importlib.import_module(STUDIES[name].module).run(config, MemoryTracker(), stop)
    print(redact(f"\n{result.table}\n\n{result.answer}\n"), flush=True)
    return 0


def _server(store: str) -> str:
    """The command that starts a server on the store: ``make ui`` if the store lies in a checkout."""
    folder = os.path.dirname(store)
    if os.path.basename(store) == "mlflow.db" and all(
        os.path.isfile(os.path.join(folder, name)) for name in ("Makefile", "MLproject")
    ):
        return "make ui"
    return (
        f"mlflow ui --backend-store-uri {shlex.quote('sqlite:///' + store)}"
        if os.path.isfile(store)
        else "mlflow ui on that store"
    )


def _run_name(name: str, values: dict[str, Any]) -> str:
    """The parent run's name: the entry point, then its grid or data set, and its model or the file of its predictions."""
    from memberscope.training.outside.trainer import short_name
    from memberscope.training.registry import SEPARATOR

    parts = ["case-study" if name == "main" else name]
    if values.get("space"):
        values = {**values, "grid": os.path.splitext(os.path.basename(values["space"]))[0]}
    if SEPARATOR in values.get("trainer", ""):  # the options of the built-in models say nothing then
        values = {**values, "model": short_name(values["trainer"])}
        values.pop("depth", None)
    keys = ("grid", "dataset") if name == "sweep" else ("plan",) if values.get("plan") else ("dataset", "model")
    parts += [str(values[key]) for key in keys if key in values]
    parts += [f"d{values['depth']}"] if name == "train" and "depth" in values else []
    parts += (
        [re.sub(r"[^\w.@-]+", "-", redact(values["model_uri"]).split(":/")[-1]).strip("-")] if values.get("model_uri") else []
    )
    if read := values.get("predictions") or values.get("trace"):
        stem = os.path.splitext(os.path.basename(read.rstrip("/")))[0]
        parts += [re.sub(r"[^\w.@-]+", "-", redact(stem)).strip("-") or "file"]
    parts += [f"s{values['seed']}"] if name == "train" and "seed" in values else []
    return "-".join(os.path.basename(part.rstrip("/")) for part in parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``memberscope STUDY --option value``; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: memberscope STUDY [--option value ...]\n\nstudies:")
        for name, study in STUDIES.items():
            print(f"  {name:10} {study.about}")
        for group in GROUPS:
            if others := offered_names(group, taken=(BUILT_IN_TRAINER,)):
                print(f"\n{group.removeprefix('memberscope.')} of other packages: {others}")
        print(
            f"\n  {RESEND:10} memberscope {RESEND} FOLDER: send what was kept in a folder while the tracking server was "
            "unreachable"
        )
        print("\nmemberscope STUDY --help lists a study's options.")
        return 0 if arguments else 2
    name = arguments[0]
    if name == "--version":
        from memberscope import __version__

        print(__version__)
        return 0
    if name == RESEND:
        return resend(arguments[1:])
    if name not in STUDIES:
        return _fail(UserError(f"{name}: unknown study; allowed: {', '.join(STUDIES)}{nearest(name, STUDIES)}"), 2, False)
    return run_study(name, arguments[1:])


if __name__ == "__main__":
    raise SystemExit(main())
