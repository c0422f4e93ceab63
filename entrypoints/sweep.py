"""Entry point `sweep` of MLproject."""

import sys

from memberscope.cli import run_study

if __name__ == "__main__":
    sys.exit(run_study("sweep", sys.argv[1:]))
