# Needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo train test check lint type clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 10

install: .venv/installed ## create .venv and install the package with its development tools

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --editable '.[dev]'
	touch $@

demo: install ## train and test 4 folds x 1 and 5 shots on drawn episodes (offline, minutes on two cores)
	$(BIN)/mshnet-train experiment=demo hydra/launcher=joblib trainer.enable_progress_bar=false
	$(BIN)/mshnet-report runs/demo

train: install ## train and test the embedded default; further settings in ARGS="..."
	$(BIN)/mshnet-train $(ARGS)

test: install ## run every test, with coverage
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered --cov-fail-under=90 $(ARGS)

check: lint type install ## lint, types, and the arrows between the package's rooms
	$(BIN)/python -m pytest -q tests/test_layout.py

lint: install ## ruff
	$(BIN)/ruff check src tests experiments
	$(BIN)/ruff format --check src tests experiments

type: install ## mypy, strict
	$(BIN)/mypy

clean: ## remove .venv and build leftovers; results in runs/ stay
	rm -rf .venv build dist src/*.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
