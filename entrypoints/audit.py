"""Entry point `audit` of MLproject."""

import sys

from memberscope.cli import run_study

if __name__ == "__main__":
    sys.exit(run_study("audit", sys.argv[1:]))
