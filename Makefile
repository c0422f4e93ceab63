# One .venv from the lock; every target makes what it needs. PYTHON: the interpreter that makes the environment.
PYTHON ?= python3.11
ifeq (,$(shell command -v $(PYTHON) 2>/dev/null))
PYTHON := python3
endif
VENV := .venv
BIN := $(VENV)/bin
EXPERIMENT ?= memberscope
PORT ?= 5000

# mlflow run --env-manager local needs the environment's python on PATH; an outer virtual environment must not leak in
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport VIRTUAL_ENV PYTHONHOME
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export TF_CPP_MIN_LOG_LEVEL ?= 3
# the machine's certificates, as pip and git use them
export UV_SYSTEM_CERTS ?= true

.PHONY: help setup run test test-fast lint docs ui bench notebooks mlproject lock clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.installed  ## the environment, from requirements.lock

# uv installs in seconds what pip takes minutes for; it comes from PyPI into the environment itself
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "memberscope: $$($(PYTHON) --version 2>&1) found; allowed: Python 3.11 (make PYTHON=/path/to/python3.11)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

run: setup  ## the case study on the embedded data, as an MLflow run (ARGS="-P dataset=cifar10" for parameters)
	@$(BIN)/python -m memberscope.mlflow_adapter.store $(EXPERIMENT)
	@$(BIN)/mlflow run . --experiment-name $(EXPERIMENT) --env-manager local $(ARGS)

# a worker a core; one that is done takes tests over from another
test: setup  ## the tests, on every core
	@$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-fast: setup  ## the tests that neither train nor start a process
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(ARGS)

lint: setup  ## ruff, mypy (strict on src), import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: setup  ## the pages and the API reference as one site, in build/docs; a warning is an error
	@$(BIN)/python docs/site/build.py $(ARGS)

ui: setup  ## the MLflow UI over the store
	@echo "open: http://127.0.0.1:$(PORT)/#/?workflowType=machine_learning"
	@$(BIN)/mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --host 127.0.0.1 --port $(PORT) --workers 1

bench: setup  ## every benchmark, quickly (ARGS= for full size)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file $(if $(ARGS),$(ARGS),--quick) || exit 1; done

notebooks: setup  ## the notebooks, run, as notebooks/*.ipynb beside their text
	@$(BIN)/python notebooks/run.py $(ARGS)

mlproject: setup  ## MLproject and the scripts in entrypoints/, from the studies' options
	@$(BIN)/python -m memberscope.mlproject

lock: setup  ## resolve requirements.lock anew from requirements.in
	@$(BIN)/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --upgrade \
	  --custom-compile-command "make lock" requirements.in -o requirements.lock

clean:  ## the environment and caches, not the results
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build
