SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

BIN := .venv/bin
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
PIP_VERSION := 26.3
LOCKED := --constraint constraints.txt --build-constraint constraints.txt

# A test file stays on one worker, so that what its fixtures start is started once.
WORKERS ?= 4
# In the order of tests/runs.py, which begins with the longest files, and not by numbers of tests.
SPREAD := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest $(SPREAD)
COVERAGE := --cov --cov-report=term --cov-fail-under=90
PYTEST_ARGS ?=
# What pyproject.toml holds below a version, to be tried above it.
BOUNDED := sed -nE 's/^[^"]*"([a-z0-9-]+(\[[a-z0-9,]+\])?)>=[^"]*,<[^"]*".*/\1/p' pyproject.toml
MODULES ?=
MUTATE_ARGS ?=

# Tests start many processes: what they import is compiled once.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test check format bench docs nightly newest mutate histories up down sync remote lock clean

help: ## show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

demo: $(INSTALLED) ## two years of minutes imported, judged, searched and shown; then the README
	@$(BIN)/jts-storage demo
	@root=$$PWD; cd "$$(mktemp -d)"; "$$root/$(BIN)/python" "$$root/tests/docs/run_page.py" "$$root/README.md"

test: $(INSTALLED) ## the whole suite, but for what only `make nightly` runs
	@$(PYTEST) -m "not slow" $(PYTEST_ARGS)

check: $(INSTALLED) ## lint, formatting and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

format: $(INSTALLED) ## let ruff put the code in shape
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

bench: $(INSTALLED) ## every benchmark, a line of JSON each
	@for file in tests/benchmarks/bench_*.py; do $(BIN)/python "$$file"; done

docs: $(INSTALLED) ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

nightly: $(INSTALLED) ## everything, with long faults, many more examples, and branch coverage
	@$(PIP) install --quiet --group lock  # uv makes the environments of an example's tests
	@$(PYTEST) --hypothesis-profile=nightly $(COVERAGE) $(PYTEST_ARGS)

newest: ## the suite with the newest release of every library, upper bounds or not, on its own
	@python="$$(scripts/find_python.sh)"; "$$python" -m venv .venv-newest
	@.venv-newest/bin/python -m pip --disable-pip-version-check install --quiet --group build --group dev --editable '.[all]'
	@.venv-newest/bin/python -m pip --disable-pip-version-check install --quiet --upgrade $$($(BOUNDED))
	@.venv-newest/bin/python -m pytest $(SPREAD) -m "not slow" $(PYTEST_ARGS)

mutate: $(INSTALLED) ## change one thing at a time and list what no test notices: MODULES="errors.py"
	@$(BIN)/python scripts/mutate.py $(MODULES) $(MUTATE_ARGS)

histories: $(INSTALLED) ## 20,000 commits and 500 faults, and whether one order explains them
	@$(BIN)/python -m tests.histories.run --commits 20000 --faults 500

up: .env ## start the real servers in containers and wait until they are healthy
	@docker compose up --detach --wait

down: ## stop them; their data stays
	@docker compose down

.env:
	@umask 077; scripts/write_env.sh > .env.new; mv .env.new .env

sync: $(INSTALLED) ## write the blocking twins anew
	@$(BIN)/python scripts/generate_sync.py

remote: $(INSTALLED) ## write anew what remote access has of the ports and of the .proto files
	@$(BIN)/python scripts/generate_remote.py
	@$(BIN)/python scripts/generate_proto.py

lock: $(INSTALLED) ## resolve constraints.txt anew from pyproject.toml
	@$(PIP) install --quiet --group lock
	@scripts/lock.sh $(BIN)/uv

clean: ## remove what was built, but not .jts, where data may be
	@rm -rf .venv .venv-newest site dist build .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache

# Most of what libraries bring is never imported, and what is gets compiled then.
$(INSTALLED): pyproject.toml constraints.txt
	@scripts/system_packages.sh
	@test -x $(BIN)/python || "$$(scripts/find_python.sh)" -m venv .venv
	@$(PIP) install --quiet "pip==$(PIP_VERSION)"
	@$(PIP) install --quiet --no-compile $(LOCKED) --group build --group dev --group docs --editable '.[all]'
	@touch $@
