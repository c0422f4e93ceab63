"""Entry point `plan` of MLproject."""

import sys

import _checkout  # noqa: F401, the code beside this script
from memberscope.cli import run_study

if __name__ == "__main__":
    sys.exit(run_study("plan", sys.argv[1:]))
