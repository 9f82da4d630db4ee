# Each target makes what it needs: a machine with python3 (venv) and make is enough.
# `test-engines` also wants a C++ compiler and cmake: it builds llama.cpp once.
PYTHON ?= python3
# Processes that `test` runs in; a number, or auto for one to a core.
JOBS ?= auto
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help demo test engines test-engines lint format types check chaos bench bench-docs lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): requirements/run.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_STAMP): $(STAMP) requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(STAMP) ## client -> coordinator -> agent -> engine on this machine, with embedded defaults
	@$(BIN)/provider-agent demo $(DEMO)

test: $(DEV_STAMP) ## every test that needs no real engine
	$(BIN)/python -m pytest -m "not engine" -n $(JOBS) --dist worksteal $(ARGS)

engines: $(DEV_STAMP) ## build what `test-engines` needs: a real llama.cpp server, tiny models
	@PATH="$(CURDIR)/$(BIN):$$PATH" tests/engines/prepare.sh

test-engines: engines ## the tests against a real llama.cpp server
	$(BIN)/python -m pytest -m engine tests/engines $(ARGS)

lint: $(DEV_STAMP) ## ruff, every rule but those that pyproject.toml excuses
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV_STAMP) ## let ruff write
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV_STAMP) ## mypy strict over source and tests
	$(BIN)/mypy

check: lint types test ## all that must be green before a commit

chaos: $(DEV_STAMP) ## both programs through simulated faults: make chaos SEEDS=10000 [FIRST=0]
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),2000) --first $(or $(FIRST),0)

bench: $(DEV_STAMP) ## the benchmarks, each a ratio to a baseline in the same run; ARGS="--only cancel --quick"
	$(BIN)/python benchmarks/bench.py $(ARGS)

bench-docs: $(DEV_STAMP) ## write what `bench` has found into docs/performance.md
	$(BIN)/python benchmarks/tell.py

lock: $(DEV_STAMP) ## refresh the hashed requirements from pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.6"
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	    --python-version 3.11 --extra build pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	    --python-version 3.11 --all-extras -c requirements/run.txt pyproject.toml -o requirements/dev.txt

clean: ## remove what the targets made
	rm -rf $(VENV) .engines .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
