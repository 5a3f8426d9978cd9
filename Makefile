# Needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo train test test-slow oldest docs check lint type clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 11

install: .venv/installed ## create .venv and install the package with its development tools

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --editable '.[dev]'
	touch $@

demo: install ## train and test 4 folds x 1 and 5 shots on synthetic episodes (offline, minutes on two cores)
	$(BIN)/mshnet-train experiment=demo hydra/launcher=joblib
	$(BIN)/mshnet-report runs/demo
	@echo "Open runs/demo/report.html in a browser: tables, curves and episodes. Pictures: runs/demo/episodes_*.png"

train: install ## train and test the embedded default; further settings in ARGS="..."
	$(BIN)/mshnet-train $(ARGS)

# Two workers with one thread each; a file's tests share a worker, and with it what they train once. The order of the files
# is that of tests/conftest.py, the longest first. Modules are compiled once, not in every process that a test starts.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile \
	--no-loadscope-reorder --durations=10

# Coverage is measured where COVER is set: following every call, also of the libraries, takes half as long again.
COVERAGE := $(if $(COVER),--cov --cov-report=term-missing:skip-covered --cov-fail-under=90)

test: install ## test every behaviour; COVER=1 with coverage (at least 90%)
	$(PYTEST) $(COVERAGE) $(ARGS)

test-slow: install ## run the long versions of the tests: many interruptions, every launcher, long runs
	$(PYTEST) -m slow --timeout=1200 $(ARGS)

# Without the shapes' checks, which need a newer jaxtyping, and with the warnings of old releases. The published logits are
# left out: NumPy 1 draws their weights under other promotion rules, and the loss then differs by 1.2e-7 instead of 1e-7.
OLDEST := -o addopts=--strict-markers -o filterwarnings=default --disable-warnings \
	--deselect tests/test_golden.py::test_network_equals_the_reference \
	$(patsubst %,tests/test_%.py,golden similarity methods losses metrics episodes sampler backbones cli)

oldest: .venv-oldest/installed ## run the core's tests with the oldest versions that pyproject.toml allows, in .venv-oldest
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -m "not slow and not gpu" $(OLDEST) $(ARGS)

.venv-oldest/installed: pyproject.toml .ci/oldest.py
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install -qq --upgrade pip
	.venv-oldest/bin/python .ci/oldest.py > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install -qq --constraint .venv-oldest/constraints.txt --editable . pytest pytest-timeout
	touch $@

docs: install ## build the documentation into build/docs; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

check: lint type docs install ## lint, types, and the arrows between the package's folders
	$(BIN)/python -m pytest -q tests/test_layout.py

lint: install ## ruff
	$(BIN)/ruff check src tests experiments
	$(BIN)/ruff format --check src tests experiments

type: install ## mypy, strict
	$(BIN)/mypy

clean: ## remove .venv, .venv-oldest and build leftovers; results in runs/ stay
	rm -rf .venv .venv-oldest build dist src/*.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
