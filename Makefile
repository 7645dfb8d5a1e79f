# Two commands do everything on a fresh machine: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Tests of a file share a lab; the files of several processes have labs of their own.
TOGETHER ?= -n 3 --dist loadfile

.PHONY: help setup browser environment demo test test-long test-matrix cluster cluster-down engine-down lint unit behaviours \
	bench bench-quick lock clean containers

help:           ## list these targets
	@awk -F '## *' '/^[a-z-]+:.*## / { name = $$1; sub(":.*", "", name); printf "  make %-11s %s\n", name, $$2 }' \
		$(MAKEFILE_LIST)

setup:          ## environment and Slurm, if they are missing
	@$(PYTHON) tools/setup

browser: setup
	@$(PYTHON) tools/setup --browser

environment:    ## the virtual environment alone
	@$(PYTHON) tools/setup --no-slurm

demo: setup     ## the whole story on a private real Slurm; ARGS="--json FILE"
	@$(BIN)/slurm-reserve lab demo $(ARGS)

test: browser lint ## the suite, real cluster and browser included
	@$(BIN)/pytest -q -m "not long" $(TOGETHER) $(ARGS)
	@$(BIN)/python tests/behaviours.py behaviours.json

test-matrix: containers ## the suite on other releases and on several hosts, in containers; RELEASE=26.05 for one
	@$(BIN)/python -m tools.containers test $(RELEASE)
	@$(BIN)/python tests/behaviours.py .containers/results/*.json

cluster: containers ## a Slurm cluster in containers: make cluster RELEASE=22.05, 24.11 or 26.05
	@$(BIN)/python -m tools.containers up $(or $(RELEASE),26.05)

cluster-down: environment ## remove the clusters in containers, with networks and volumes
	@$(BIN)/python -m tools.containers down

engine-down: cluster-down ## stop the container engine, if it was started from here
	@$(BIN)/python -m tools.containers engine-down

containers:
	@$(PYTHON) tools/setup --no-slurm --engine

test-long: setup ## what takes longer; half an hour
	@$(BIN)/pytest -q -m long tests/load $(ARGS)
	@$(BIN)/pytest -q -m long --ignore tests/load --hypothesis-profile=others $(TOGETHER) $(ARGS)

bench: setup    ## the figures of the README, measured here; forty minutes. ARGS="--json FILE"
	@$(BIN)/python -m bench $(ARGS)

bench-quick: setup ## the same with few rounds; minutes
	@$(BIN)/python -m bench --quick $(ARGS)

lint: environment ## style, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy
	@$(BIN)/mypy --strict --scripts-are-modules plugins/epilog/slurm-reserve-epilog
	@$(BIN)/lint-imports --no-cache

unit: environment ## what needs no Slurm; seconds
	@$(BIN)/pytest -q -m "not cluster and not browser and not long" $(ARGS)

behaviours: environment ## a line for each behaviour and release, from the last runs
	@$(BIN)/python tests/behaviours.py

lock: environment ## write requirements.lock from what is installed
	@{ echo '# What the project was tested with, all of it; written by `make lock`.'; \
	   $(BIN)/pip freeze --exclude-editable; } > requirements.lock

clean:          ## remove what was built here
	rm -rf .venv .containers .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache behaviours.json
