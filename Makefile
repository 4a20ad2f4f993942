# One command per habit; `make help` lists them. CI calls the same targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RUN    := examples/h2_dissociation.toml
# Test processes beside each other; two cores do not serve more.
JOBS   ?= 2
# How often each victim of `make soak` dies, and what the order and the moments follow from.
CYCLES ?= 2
SEED   ?= 20261121
# How often a worker of a pool that bills dies around its submissions in it.
KILLS  ?= 50

# Seeds of `make simulate`.
SEEDS  ?= 1000

# Hundreds of processes start in a test run: each would compile every module anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: $(STAMP) ## set up, then the H2 dissociation curve on the embedded bus
	$(BIN)/shotbus run $(RUN)
	@echo
	@echo "The command is $(BIN)/shotbus. The same job on Kafka and Redis, as separate processes:  make run-kafka"

run-kafka: kafka-up ## the same job on a real Kafka and Redis, two processes of each role
	$(BIN)/python -m shotbus.deploy.cluster --services .services -- run $(RUN) --fresh

kafka-up: $(STAMP) ## start Kafka and Redis (compose where Docker answers, else local processes)
	$(BIN)/python -m shotbus.deploy.services up

kafka-down: $(STAMP) ## stop them
	$(BIN)/python -m shotbus.deploy.services down

test: $(STAMP) ## everything: starts the Kafka and Redis that the tests need
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not alone"
	$(BIN)/python -m pytest -m "alone and not slow"

test-unit: $(STAMP) ## only what needs no service
	$(BIN)/python -m pytest -n $(JOBS) tests/unit tests/property tests/architecture

soak: $(STAMP) ## the slow fault runs: every process killed again and again, both buses
	SHOTBUS_SOAK_CYCLES=$(CYCLES) SHOTBUS_SOAK_KILLS=$(KILLS) SHOTBUS_SOAK_SEED=$(SEED) $(BIN)/python -m pytest -m slow -s

lint: $(STAMP) types ## ruff, format check, mypy strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP) ## mypy strict
	$(BIN)/python deploy/tools/view.py
	$(BIN)/mypy

format: $(STAMP) ## apply ruff's formatting and safe fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

simulate: $(STAMP) ## a thousand seeds of the whole broker in simulated time, some minutes on two cores
	$(BIN)/shotbus simulate --seeds $(SEEDS) --processes $(JOBS)

bench: $(STAMP) ## speed and memory on this machine, both buses
	$(BIN)/shotbus bench --with-kafka

docs: $(STAMP) ## regenerate what is generated in docs/
	$(BIN)/python deploy/tools/generate_docs.py

clean: ## remove everything that was made here, services first
	-@[ -x $(BIN)/python ] && $(BIN)/python -m shotbus.deploy.services down
	rm -rf $(VENV) .view .services .shotbus build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "shotbus needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) \
	  || { echo "no venv module: install it (Debian: apt-get install python3-venv)"; exit 2; }
	@echo "installing into $(VENV); this takes a minute the first time"
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet -e ".[test,dev]"
	@touch $@

.PHONY: help run run-kafka kafka-up kafka-down test test-unit soak simulate lint types format bench docs clean
