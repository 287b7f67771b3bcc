# make run      the platform with its demo city          make test    everything, quick tests first
# make check    format, lint, types, import contracts    make bench   the benchmarks, small
# make services the servers that some tests talk to
#
# Needs make, python3.11 and its venv module; everything else is installed into .venv from hash-locked lists.
# Paths are relative, so that the checkout may lie in a folder with spaces.

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: run test check bench lock wheel chromium services clean help

help:
	@sed -n 's/^# \?//p' Makefile | head -3

run: .venv/run.stamp
	@exec $(BIN)/meterpulse up $(ARGS)

test: .venv/dev.stamp chromium
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses 3 --dist loadscope --no-loadscope-reorder)

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/run.stamp
	@for name in $$($(BIN)/meterpulse bench); do \
	  echo "== $$name"; $(BIN)/meterpulse bench "$$name" --small || exit 1; \
	done

# Chromium for the tests of the pages: Debian's package, where we may install it. Without it those tests say why they skip.
chromium:
	@if ! command -v chromium >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing chromium"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends chromium >/dev/null \
	  || echo "chromium could not be installed; the browser tests will be skipped"; \
	fi

# Real servers for the tests (brokers, databases). Tests whose server is not here say so and are skipped; in CI they fail.
services: .venv/dev.stamp
	$(BIN)/python -m tests.services

.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "meterpulse needs Python 3.11: apt-get install python3.11 python3.11-venv"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "meterpulse needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; echo "python's venv module is missing: apt-get install python3.11-venv"; exit 1; }

.venv/run.stamp: .venv/pyvenv.cfg requirements.txt pyproject.toml
	@echo "installing meterpulse and what it needs"
	@$(PIP) install --require-hashes --no-deps --progress-bar on -r requirements.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index --editable .
	@$(BIN)/python -m meterpulse.prepare
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements-dev.txt
	@echo "installing what the tests and checks need"
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements-dev.txt
	@touch $@

# The hash-locked lists, made anew from pyproject.toml. They carry no addresses and no paths.
LOCK := env CUSTOM_COMPILE_COMMAND="make lock" PIP_FIND_LINKS= $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
  --no-emit-index-url --no-emit-trusted-host --no-emit-options --no-emit-find-links --build-deps-for editable
lock: .venv/dev.stamp
	$(PIP) install --quiet pip-tools
	$(LOCK) --output-file requirements.txt pyproject.toml
	$(LOCK) --extra dev --constraint requirements.txt --output-file requirements-dev.txt pyproject.toml

wheel: .venv/dev.stamp
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
