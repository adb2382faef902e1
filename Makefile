# `make` alone lists the targets. Every target first sets up what it needs: .venv from requirements.txt, and the package.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
BIN := .venv/bin
SCRIPTS := .ci/run $(wildcard docker/*.sh)
DOCKERFILES := docker/Dockerfile
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test check lint types imports images scripts audit licences bench same pins clean

help:  ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r target what; do \
		printf '  make %-11s %s\n' "$$target" "$$what"; done

setup: .venv/.package  ## create .venv with the pinned dependencies and the package itself

quickstart: setup  ## the main job on this machine, in minutes: data, pretraining, four algorithms, a report
	$(BIN)/spin-rl quickstart

test: setup  ## run every test but the benchmarks
	$(BIN)/python -m pytest

check: lint types imports images scripts audit  ## formatting, lint, types, imports, image files, licences

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python --level error

# import-linter follows no links and skips a folder without an __init__.py: it reads a copy that has both.
imports: setup
	@test ! -e platform/__init__.py || { echo "platform/__init__.py hides Python's own platform module: delete it."; exit 1; }
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && cp -RL spin_rl "$$copy" && touch "$$copy/spin_rl/platform/__init__.py" \
		&& cd "$$copy" && "$(CURDIR)/$(BIN)/lint-imports" --no-logo --config "$(CURDIR)/pyproject.toml" --no-cache

images: setup
	$(BIN)/hadolint $(DOCKERFILES)

scripts: setup
	$(BIN)/shellcheck $(SCRIPTS)

audit: setup
	$(BIN)/python .ci/audit.py
	$(BIN)/python .ci/licences.py

licences: setup  ## update the dependencies' licences in docs/licences.md
	$(BIN)/python .ci/licences.py --write

bench: setup  ## run the benchmarks and print their numbers
	@for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

same: setup  ## compare the numbers of the working tree with those of a commit, BASE=COMMIT, bit by bit; 10 to 20 minutes
	$(BIN)/python -m tests.same --base $(or $(BASE),HEAD)

pins: setup  ## resolve pyproject.toml's ranges again and write requirements.txt
	$(BIN)/uv pip compile pyproject.toml --all-extras --python-version 3.11 --upgrade --quiet \
		--annotation-style line --no-emit-package pip --custom-compile-command "make pins" --output-file requirements.txt

clean:  ## delete .venv, caches and build products; results and data stay
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.requirements: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is %s. Name one with make PYTHON=..." % sys.version)'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "Installing the pinned dependencies into .venv: minutes the first time, then only when requirements.txt changes."
	@$(BIN)/python -m pip install --quiet --no-compile -r requirements.txt
	@touch $@

.venv/.package: .venv/.requirements pyproject.toml
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@touch $@
