"""Writes MLproject and the entry points' scripts from the studies and their configurations: ``python -m memberscope.mlproject``.

``make mlproject`` runs it in a checkout. Every parameter is text: MLflow itself checks only the types ``path`` and ``uri``; each study
checks its own options and reports a mistake in one line.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from memberscope.cli import STUDIES, Study
from memberscope.config import option_name, written
from memberscope.errors import UserError

HEAD = """\
# Written by `make mlproject` from the studies' options; tests/mlproject holds the two together.
# Parameters are text: MLflow itself checks only `path` and `uri`; each entry point checks its own and answers with one line.
name: memberscope

conda_env: conda.yaml

entry_points:
"""
SCRIPT = '''\
"""Entry point `{name}` of MLproject."""

import sys

import _checkout  # noqa: F401, the code beside this script
from memberscope.cli import run_study

if __name__ == "__main__":
    sys.exit(run_study("{name}", sys.argv[1:]))
'''


def project() -> str:
    """The text of MLproject: an entry point for each study, with a parameter for each option."""
    return HEAD + "".join(entry(name, study) for name, study in STUDIES.items())


def entry(name: str, study: Study) -> str:
    """One entry point: its parameters with their defaults, and the command that passes all of them on."""
    options = {option_name(item): item.default for item in dataclasses.fields(study.configuration())}
    lines = [f"  {name}:", "    parameters:"]
    lines += [
        f"      {option}: {{type: string, default: {json.dumps(str(written(value)))}}}" for option, value in options.items()
    ]
    lines += ["    command: >-", f"      python entrypoints/{name}.py"]
    lines += [f"      --{option}={{{option}}}" for option in options]
    return "\n".join(lines) + "\n"


def files() -> dict[str, str]:
    """Path in a checkout -> text, for MLproject and the script of each entry point."""
    return {"MLproject": project()} | {f"entrypoints/{name}.py": SCRIPT.format(name=name) for name in STUDIES}


def write(checkout: Path) -> list[str]:
    """Bring a checkout's files up to date and remove scripts of studies that no longer exist; returns the paths that changed.

    Raises:
        UserError: the folder is not a checkout.
    """
    if not (checkout / "entrypoints" / "_checkout.py").is_file():
        raise UserError(
            f"mlproject: {checkout} is not a checkout of memberscope; allowed: a folder with entrypoints/_checkout.py"
        )
    wanted = files()
    changed = []
    for path, text in wanted.items():
        file = checkout / path
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            changed.append(path)
    for file in sorted((checkout / "entrypoints").glob("[!_]*.py")):
        if (path := f"entrypoints/{file.name}") not in wanted:
            file.unlink()
            changed.append(path)
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m memberscope.mlproject [CHECKOUT]``: write the files that differ, and list them."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        changed = write(Path(words[0] if words else "."))
    except UserError as error:
        print(f"memberscope: {error}", file=sys.stderr)
        return error.exit_code
    lines = [f"{'written' if path in files() else 'removed'}: {path}" for path in changed]
    print("\n".join(lines) or "MLproject and entrypoints/ are up to date")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
