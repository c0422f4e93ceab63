"""Entry point `train` of MLproject."""

import sys

from memberscope.cli import run_study

if __name__ == "__main__":
    sys.exit(run_study("train", sys.argv[1:]))
