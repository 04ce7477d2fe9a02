# make help lists all. Systems (up, down, status, logs …) run in containers where an engine runs, else in one process.
# Needs python3 (3.11 or newer) with its venv module, and nothing else; everything is kept in .venv.

PYTHON ?= python3
VENV := .venv
# Tests wait for sockets more than they compute, so a few more of them than there are cores.
WORKERS ?= 3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install install-deps demo test check bench bench-peers soak large load autobahn cache-tests format docs clean \
	setup-dev build up up-build down status logs logs-users logs-image logs-speech healthcheck \
	test-auth test-image test-speech test-protected dev-users dev-image dev-speech dev-chat dev-code

# Which system `up` and its like are about, and where it answers.
PRESET ?= llm-microservices
BASE_URL ?= http://127.0.0.1:8080

help:
	@echo "make install   build .venv with the pinned versions of constraints.txt (install-deps is the same)"
	@echo "make demo      run the gateway and its reference services in one process: http://127.0.0.1:8080"
	@echo "make demo PRESET=nyro   another system: tidegate presets lists them"
	@echo "make test      run all tests"
	@echo "make check     format, lint, types, layers"
	@echo "make bench     measure this machine, beside the servers that are installed"
	@echo "make bench-peers  install the servers to measure beside: nginx, NATS, Socket.IO, LiteLLM and others"
	@echo "make soak      hold sockets for MINUTES (2), cut them again and again, and look for loss and growth"
	@echo "make load      replay a session as 1,000 users over two replicas, cut them all the time, and judge (MINUTES=2)"
	@echo "make large     pass BODY_MB (1024) megabytes each way, and look for growth"
	@echo "make autobahn  run the Autobahn WebSocket test suite (needs a Python 2.7 beside)"
	@echo "make cache-tests  run the http-cache-tests suite (needs node and npm)"
	@echo "make format    rewrite the code in the project's format"
	@echo "make docs      write the tables of docs/configuration.md and docs/errors.md anew"
	@echo "make clean     stop what runs, remove what the others made, and what containers kept"
	@echo
	@echo "A system in the background, in containers where an engine runs (PRESET=$(PRESET)):"
	@echo "make setup-dev write .env with secrets of its own"
	@echo "make up-build  build and start it; also: build, up, down, status"
	@echo "make logs      its log; also: logs-users, logs-image, logs-speech"
	@echo "make healthcheck  ask it and its services how they are (BASE_URL=$(BASE_URL))"
	@echo "make test-auth    sign up, in, on and out; also: test-image, test-speech, test-protected"
	@echo "make dev-users    one service alone, at its port; also: dev-image, dev-speech, dev-chat, dev-code"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed. Name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "This python3 cannot build environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

install-deps: install

demo: PRESET = demo
demo: $(STAMP)
	$(BIN)/tidegate demo --preset $(PRESET)

setup-dev: $(STAMP)
	@$(BIN)/python deploy/setup.py

build up down status: $(STAMP)
	@$(BIN)/python deploy/stack.py $@ --preset $(PRESET)

up-build: build
	@$(BIN)/python deploy/stack.py up --preset $(PRESET)

logs: $(STAMP)
	@$(BIN)/python deploy/stack.py logs --preset $(PRESET)

logs-users logs-image logs-speech: $(STAMP)
	@$(BIN)/python deploy/stack.py logs $(@:logs-%=%) --preset $(PRESET)

healthcheck: $(STAMP)
	@$(BIN)/python deploy/checks.py health --url $(BASE_URL)

test-auth test-image test-speech test-protected: $(STAMP)
	@$(BIN)/python deploy/checks.py $(@:test-%=%) --url $(BASE_URL)

dev-users: $(STAMP)
	$(BIN)/python -m services.users --port 3000

dev-image: $(STAMP)
	$(BIN)/python -m services.image --port 8000

dev-speech: $(STAMP)
	$(BIN)/python -m services.speech --port 8001

dev-chat: $(STAMP)
	$(BIN)/python -m services.chat --port 8002

dev-code: $(STAMP)
	$(BIN)/python -m services.code --port 8003

test: $(STAMP)
	@sh tests/install-browser.sh
	@sh tests/install-kafka.sh $(BIN)/python
	@sh tests/install-redis.sh $(BIN)/python
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

bench-peers: $(STAMP)
	$(BIN)/python -m loadtests.bench.peers.install

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
	@test ! -x $(BIN)/python || $(BIN)/python deploy/stack.py clean --preset $(PRESET)
	rm -rf $(VENV) build dist out .autobahn .peers *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
