"""Entry point `report` of MLproject."""

import sys

from memberscope.cli import run_study

if __name__ == "__main__":
    sys.exit(run_study("report", sys.argv[1:]))
