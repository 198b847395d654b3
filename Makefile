PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo install test lint test-slurm test-chaos clean

demo: install  ## the main job on an embedded corpus
	$(BIN)/hyena-dist demo

install: .venv/.installed  ## a virtual environment with the pinned versions

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hyena-dist needs Python 3.11 or newer; set PYTHON=")'
	@echo 'installing the pinned versions into .venv: a few minutes, most of them for torch'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet --progress-bar on -c constraints.txt -e '.[dev]'
	@touch $@

test: install  ## everything that runs on this machine
	$(BIN)/python -m pytest

test-slurm: install  ## the tests on a real SLURM cluster alone
	$(BIN)/python -m pytest tests/slurm

test-chaos: install  ## fifty kills, full disks and NaN at random moments: about a quarter of an hour
	CHAOS_KILLS=50 $(BIN)/python -m pytest tests/chaos -s

lint: install  ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf .venv build *.egg-info
