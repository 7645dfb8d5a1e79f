# Two commands do everything on a fresh machine: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: help setup demo test test-long lint unit behaviours lock clean

help:           ## list these targets
	@sed -n 's/^\([a-z-]*\): *\(.*\)## \(.*\)/  make \1@\3/p' $(MAKEFILE_LIST) | column -t -s@

setup:          ## environment and Slurm, if they are missing
	@$(PYTHON) tools/setup

demo: setup     ## the whole story on a private real Slurm; ARGS="--json FILE"
	@$(BIN)/slurm-reserve lab demo $(ARGS)

test: setup lint ## the suite, real cluster included
	@$(BIN)/pytest -q -m "not long" $(ARGS)
	@$(BIN)/python tests/behaviours.py

test-long: setup ## what takes longer
	@$(BIN)/pytest -q -m long $(ARGS)

lint: setup     ## style, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

unit: setup     ## what needs no Slurm; seconds
	@$(BIN)/pytest -q -m "not cluster and not long" $(ARGS)

behaviours:     ## a line for each behaviour, from the last run
	@$(BIN)/python tests/behaviours.py

lock: setup     ## write requirements.lock from what is installed
	@{ echo '# What the project was tested with, all of it; written by `make lock`.'; \
	   $(BIN)/pip freeze --exclude-editable; } > requirements.lock

clean:          ## remove what was built here
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache behaviours.json
