# Two commands do everything on a fresh machine: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Tests of a file share a lab; the files of several processes have labs of their own.
TOGETHER ?= -n 3 --dist loadfile

.PHONY: help setup environment demo test test-long lint unit behaviours bench bench-quick lock clean

help:           ## list these targets
	@awk -F '## *' '/^[a-z-]+:.*## / { name = $$1; sub(":.*", "", name); printf "  make %-11s %s\n", name, $$2 }' \
		$(MAKEFILE_LIST)

setup:          ## environment and Slurm, if they are missing
	@$(PYTHON) tools/setup

environment:    ## the virtual environment alone
	@$(PYTHON) tools/setup --no-slurm

demo: setup     ## the whole story on a private real Slurm; ARGS="--json FILE"
	@$(BIN)/slurm-reserve lab demo $(ARGS)

test: setup lint ## the suite, real cluster included
	@$(BIN)/pytest -q -m "not long" $(TOGETHER) $(ARGS)
	@$(BIN)/python tests/behaviours.py

test-long: setup ## what takes longer
	@$(BIN)/pytest -q -m long $(ARGS)

bench: setup    ## the figures of the README, measured here; half an hour. ARGS="--json FILE"
	@$(BIN)/python -m bench $(ARGS)

bench-quick: setup ## the same with few rounds; minutes
	@$(BIN)/python -m bench --quick $(ARGS)

lint: environment ## style, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

unit: environment ## what needs no Slurm; seconds
	@$(BIN)/pytest -q -m "not cluster and not long" $(ARGS)

behaviours: environment ## a line for each behaviour, from the last run
	@$(BIN)/python tests/behaviours.py

lock: environment ## write requirements.lock from what is installed
	@{ echo '# What the project was tested with, all of it; written by `make lock`.'; \
	   $(BIN)/pip freeze --exclude-editable; } > requirements.lock

clean:          ## remove what was built here
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache behaviours.json
