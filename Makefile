# One .venv from the lock file; every target makes what it depends on. PYTHON is the interpreter that creates the environment.
PYTHON ?= python3.11
ifeq (,$(shell command -v $(PYTHON) 2>/dev/null))
PYTHON := python3
endif
VENV := .venv
BIN := $(VENV)/bin
EXPERIMENT ?= memberscope

# The core's own environment, with the newest Python 3.13 or 3.12 on PATH or in pyenv; CORE_EXTRAS=mlflow adds the packages of that extra
CORE_PYTHON ?= $(shell for python in python3.13 python3.12 $(HOME)/.pyenv/versions/3.13*/bin/python $(HOME)/.pyenv/versions/3.12*/bin/python; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 12), (3, 13)))' 2>/dev/null && { echo "$$python"; break; }; done)
CORE_EXTRAS ?=
CORE := .venv-core$(if $(CORE_EXTRAS),-$(CORE_EXTRAS))
TRAINERS := .venv-trainers
SUPPLY := .venv-supply
DIST ?= dist
TORCH ?= torch==2.13.0
PORT ?= 5000

# mlflow run --env-manager local needs the environment's python on PATH; an outer virtual environment must not interfere
export PATH := $(CURDIR)/$(BIN):$(PATH)
# and without bytecode on disk, each process would compile TensorFlow and MLflow anew: 10 s of a core instead of 4
unexport VIRTUAL_ENV PYTHONHOME PYTHONDONTWRITEBYTECODE
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export TF_CPP_MIN_LOG_LEVEL ?= 3
# use the machine's certificates, as pip and git do
export UV_SYSTEM_CERTS ?= true

.PHONY: help setup run test test-fast test-core test-trainers core-python lint docs wheel sbom audit-dependencies ui bench notebooks mlproject lock clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.installed  ## create the environment from requirements.lock

# uv installs in seconds what takes pip minutes; pip installs uv itself into the environment, by its hashes in the lock file
define install-uv
test -x $(1)/bin/uv || { \
  awk '/^[^ ]/ { uv = /^uv==/ } uv && !/#/' requirements.lock > $(1)/uv.lock && \
  $(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)/uv.lock; }
endef

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "memberscope: $$($(PYTHON) --version 2>&1) found; allowed: Python 3.11 (make PYTHON=/path/to/python3.11)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(call install-uv,$(VENV))
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

run: setup  ## run the case study on the built-in data as an MLflow run (ARGS="-P dataset=cifar10" for parameters)
	@$(BIN)/python -m memberscope.mlflow_adapter.store $(EXPERIMENT)
	@$(BIN)/mlflow run . --experiment-name $(EXPERIMENT) --env-manager local $(ARGS)

# three workers for two cores, since many tests wait for processes; each takes the next file, in the order of tests/conftest.py, so that what a file's tests share is made once
test: setup  ## run the tests on every core, without the most thorough and the notebooks (.ci/run runs all)
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not notebook and not thorough" $(ARGS)

test-fast: setup  ## run the tests that neither train nor start a process
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(ARGS)

# It tests the wheel, not the sources; tests that need an absent extra are skipped with a reason that names it
test-core:  ## run the tests that need no extra on the wheel, with Python 3.13 or 3.12 and the newest numpy, pandas and scikit-learn
	@test -n "$(CORE_PYTHON)" || { echo "memberscope: no Python 3.13 or 3.12 found; allowed: make test-core CORE_PYTHON=/path/to/python3.13" >&2; exit 2; }
	@test -x $(CORE)/bin/python || $(CORE_PYTHON) -m venv $(CORE)
	@$(call install-uv,$(CORE))
	@rm -rf $(CORE)/dist && $(CORE)/bin/uv build --quiet --out-dir $(CORE)/dist .
	@$(CORE)/bin/uv pip install --quiet --python $(CORE)/bin/python --constraints requirements-core.lock --reinstall-package memberscope \
	  "memberscope$(if $(CORE_EXTRAS),[$(CORE_EXTRAS)]) @ file://$$(echo $(CURDIR)/$(CORE)/dist/*.whl)" pytest pytest-xdist hypothesis
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(CORE)/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	  --override-ini pythonpath= --skip-absent-extras $(ARGS)

# The trainers that the how-tos show, each in a study; XGBoost's libraries for GPUs are not needed
test-trainers:  ## run the how-tos' trainers (PyTorch, skorch, XGBoost, scikit-learn) in an environment of their own, without TensorFlow
	@test -x $(TRAINERS)/bin/python || $(PYTHON) -m venv $(TRAINERS)
	@$(call install-uv,$(TRAINERS))
	@$(TRAINERS)/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" 2>/dev/null || \
	  { echo "memberscope: $(TORCH) cannot be installed by pip; allowed: make test-trainers TORCH=torch==VERSION" >&2; exit 2; }
	@$(TRAINERS)/bin/uv pip install --quiet --python $(TRAINERS)/bin/python --no-deps --require-hashes -r requirements-trainers.lock
	@$(TRAINERS)/bin/uv pip install --quiet --python $(TRAINERS)/bin/python --no-deps -e .
	@$(TRAINERS)/bin/python -m pytest --numprocesses 2 tests/docs/test_trainers.py tests/datasets/test_table.py $(ARGS)

core-python:  # prints the interpreter of test-core; fails if there is none
	@test -n "$(CORE_PYTHON)" && echo "$(CORE_PYTHON)"

lint: setup  ## run ruff, mypy (strict on src) and import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: setup  ## build the pages and the API reference as one site in build/docs; warnings are errors
	@$(BIN)/python docs/site/build.py $(ARGS)

wheel: setup  ## build and check the wheel and the source archive in dist/, and write their software bill of materials
	@rm -rf dist build
	@$(BIN)/python -m build --installer uv --outdir dist . >/dev/null
	@$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	@$(MAKE) --no-print-directory sbom

# The tools have an environment of their own, so that what they need changes no version that the project is tested with
$(SUPPLY)/.installed: requirements-supply.lock | setup
	@test -x $(SUPPLY)/bin/python || $(PYTHON) -m venv $(SUPPLY)
	@$(BIN)/uv pip install --quiet --python $(SUPPLY)/bin/python --require-hashes -r requirements-supply.lock
	@touch $@

# CycloneDX's tool reads the version from pyproject.toml alone, where ours is dynamic
sbom: $(SUPPLY)/.installed  ## write dist/memberscope-VERSION.cdx.json: every distribution of requirements.lock, as CycloneDX
	@mkdir -p $(DIST)
	@version=$$($(BIN)/python -c 'import memberscope; print(memberscope.__version__)') && \
	  sed "s/^dynamic = .*/version = \"$$version\"/" pyproject.toml > $(SUPPLY)/pyproject.toml && \
	  $(SUPPLY)/bin/python -W ignore -m cyclonedx_py requirements requirements.lock --pyproject $(SUPPLY)/pyproject.toml \
	    --mc-type library --output-reproducible --of JSON -o "$(DIST)/memberscope-$$version.cdx.json" && \
	  echo "$(DIST)/memberscope-$$version.cdx.json"

audit-dependencies: $(SUPPLY)/.installed  ## ask pip-audit for known vulnerabilities of requirements.lock; skipped where their data is out of reach
	@$(SUPPLY)/bin/python .ci/advisories.py requirements.lock

ui: setup  ## start the MLflow UI on the store
	@echo "open: http://127.0.0.1:$(PORT)/#/?workflowType=machine_learning"
	@$(BIN)/mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --host 127.0.0.1 --port $(PORT) --workers 1

bench: setup  ## run every benchmark with --quick (or with other options in ARGS)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file $(if $(ARGS),$(ARGS),--quick) || exit 1; done

notebooks: setup  ## run the notebooks and save them as notebooks/*.ipynb beside their sources
	@$(BIN)/python notebooks/run.py $(ARGS)

mlproject: setup  ## write MLproject and the scripts in entrypoints/ from the studies' options
	@$(BIN)/python -m memberscope.mlproject

LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --python-platform x86_64-manylinux_2_28 $(UPGRADE) --custom-compile-command "make lock"
UPGRADE ?= --upgrade

# pip refuses `-e .` as soon as one requirement has a hash, and conda.yaml needs it: it reads the same versions without the hashes
lock: setup  ## resolve the lock files anew from their .in files (UPGRADE= keeps the versions that still fit)
	@$(LOCK) --python-version 3.11 requirements.in -o requirements.lock
	@{ echo "# What conda.yaml names: requirements.lock without its hashes, because pip takes no -e beside them. Written by make lock."; \
	  sed -nE 's/^([^ #][^ ]*) \\$$/\1/p' requirements.lock; } > requirements-unhashed.lock
	@$(LOCK) --python-version 3.12 --no-emit-package memberscope requirements-core.in -o requirements-core.lock
	@$(LOCK) --python-version 3.11 --no-emit-package memberscope --no-emit-package nvidia-nccl-cu12 --no-emit-package nvidia-nccl-cu13 \
	  requirements-trainers.in -o requirements-trainers.lock
	@$(LOCK) --python-version 3.11 requirements-supply.in -o requirements-supply.lock

clean:  ## delete the environments and caches, but not the results
	rm -rf $(VENV) .venv-core* $(TRAINERS) $(SUPPLY) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis build
