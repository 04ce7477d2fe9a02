# make install · demo · test · check · bench · soak · large · load · autobahn · cache-tests · format · docs · clean
# Needs python3 (3.11 or newer) with its venv module, and nothing else; everything is kept in .venv.

PYTHON ?= python3
VENV := .venv
# Tests wait for sockets more than they compute, so a few more of them than there are cores.
WORKERS ?= 3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench soak large load autobahn cache-tests format docs clean

help:
	@echo "make install   build .venv with the pinned versions of constraints.txt"
	@echo "make demo      run the gateway and its reference services in one process: http://127.0.0.1:8080"
	@echo "make test      run all tests"
	@echo "make check     format, lint, types, layers"
	@echo "make bench     measure this machine"
	@echo "make soak      hold sockets for MINUTES (2), cut them again and again, and look for loss and growth"
	@echo "make load      replay a session as 500 users over two replicas, cut them all the time, and judge (MINUTES=2)"
	@echo "make large     pass BODY_MB (1024) megabytes each way, and look for growth"
	@echo "make autobahn  run the Autobahn WebSocket test suite (needs a Python 2.7 beside)"
	@echo "make cache-tests  run the http-cache-tests suite (needs node and npm)"
	@echo "make format    rewrite the code in the project's format"
	@echo "make docs      write the tables of docs/configuration.md and docs/errors.md anew"
	@echo "make clean     remove what the others made"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed. Name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "This python3 cannot build environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/tidegate demo

test: $(STAMP)
	@sh tests/install-browser.sh
	@# Faults are real here and take their time: what fails beside other tests must pass alone.
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile || \
		$(BIN)/python -m pytest --last-failed --last-failed-no-failures none

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(STAMP)
	$(BIN)/python -m loadtests.bench

MINUTES ?= 2
soak: $(STAMP)
	$(BIN)/python -m loadtests.soak --minutes $(MINUTES)

load: $(STAMP)
	$(BIN)/python -m loadtests.long_replay --minutes $(MINUTES)

BODY_MB ?= 1024
large: $(STAMP)
	TIDEGATE_BODY_MB=$(BODY_MB) $(BIN)/python -m pytest -q tests/e2e/test_large_bodies.py

autobahn: $(STAMP)
	$(BIN)/python -m tests.support.autobahn

cache-tests: $(STAMP)
	$(BIN)/python -m tests.cache_suite

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/python -m docs.generate

clean:
	rm -rf $(VENV) build dist out .autobahn *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
