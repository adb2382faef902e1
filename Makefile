# `make` alone lists the targets. Every target sets up what it needs, once: .venv from requirements.txt, then the package.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
BIN := .venv/bin
TREE := build/tree
SCRIPTS := .ci/run $(wildcard docker/*.sh)
DOCKERFILES := docker/Dockerfile
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test check lint types imports images scripts audit licences bench pins tree clean

help:  ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r target what; do \
		printf '  make %-11s %s\n' "$$target" "$$what"; done

setup: .venv/.package  ## make .venv with the pinned dependencies and the package itself

quickstart: setup  ## the main job on this machine, in minutes: data, pretraining, four algorithms, a report
	$(BIN)/spin-rl quickstart

test: setup  ## run every test but the benchmarks
	$(BIN)/python -m pytest

check: lint types imports images scripts audit  ## formatting, lint, types, import directions, image files, licences

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup tree
	cd $(TREE) && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache \
		| sed -E 's#^spin_rl/(algorithms|envs|platform|sweeps)/#\1/#'

imports: setup tree
	@test ! -e platform/__init__.py || { echo "platform/__init__.py hides Python's own platform module: delete it."; exit 1; }
	cd $(TREE) && ../../$(BIN)/lint-imports --no-logo --config ../../pyproject.toml --cache-dir ../../.import_linter_cache

images: setup
	$(BIN)/hadolint $(DOCKERFILES)

scripts: setup
	$(BIN)/shellcheck $(SCRIPTS)

audit: setup
	$(BIN)/python .ci/audit.py
	$(BIN)/python .ci/licences.py

licences: setup  ## list the dependencies' licences anew in docs/licences.md
	$(BIN)/python .ci/licences.py --write

bench: setup  ## run the benchmarks and print their numbers
	@for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

pins: setup  ## resolve pyproject.toml's ranges anew and write requirements.txt
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

# The four folders under the one name that they are imported by, for tools that look for modules in files. Linked file by
# file, because here platform/ needs the __init__.py that it must not have on disk.
tree:
	@rm -rf $(TREE)
	@find spin_rl algorithms envs platform sweeps -name '*.py' | while read -r file; do \
		link=$(TREE)/spin_rl/$${file#spin_rl/}; mkdir -p "$${link%/*}"; ln -s "$(CURDIR)/$$file" "$$link"; done
	@mkdir -p $(TREE)/spin_rl/platform && touch $(TREE)/spin_rl/platform/__init__.py
