"""Fuzzing of every reader: files that began well and were changed at random. `tests/tools/fuzz_readers.py` does it for longer, by hand."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hostile import fuzz
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

QUICK = settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
SLOW = ("run's", "predictions", "parquet", "outputs predictions")  # readers that take some hundredths of a second


@pytest.mark.filterwarnings("ignore")  # of libraries, on values that no real file has
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.startswith("run's") else ()) for name in sorted(fuzz.READERS)]
)  # a kept run is read by MLflow's client
def test_changed_files_end_in_a_result_or_one_line(name: str) -> None:
    if name.endswith("parquet") or name.startswith("run's"):
        importlib.import_module(
            "pyarrow" if name.endswith("parquet") else "mlflow"
        )  # without these, it is skipped with the reason
    assert fuzz.fault(name, fuzz.good(name)) == ""

    @settings(QUICK, max_examples=5 if name.startswith(SLOW) else 15)
    @given(seed=st.integers(0, 2**32), whole=st.booleans())
    def attempt(seed: int, whole: bool) -> None:
        rng = np.random.default_rng(seed)
        content = fuzz.good(name)
        changed = (
            fuzz.changed_value(content, rng) if whole and fuzz.READERS[name].suffix == ".json" else fuzz.mutated(content, rng)
        )
        assert fuzz.fault(name, changed) == "", changed[:2000]

    attempt()


@settings(QUICK, max_examples=30)
@given(text=st.text(max_size=80) | st.text(alphabet="any.entireuc_>0123456789;<= \ud800$", max_size=60))
@example(text="any.class_" + "9" * 5000 + ".auc > 0.6")
@example(text="\ud800")
def test_rules_are_parsed_or_refused_in_one_line(text: str) -> None:
    assert fuzz.fault("rules", text.encode("utf-8", "surrogatepass")) == ""


@settings(QUICK, max_examples=40)
@given(
    text=st.text(alphabet="ab:-[]{}&*!|>'\"#%@, \n0123456789.~", max_size=80),
    name=st.sampled_from(["space", "rungs", "params"]),
)
def test_yaml_is_read_or_refused_in_one_line(text: str, name: str) -> None:
    assert fuzz.fault(name, text.encode()) == ""
