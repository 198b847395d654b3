PYTHON ?= python3
BIN := .venv/bin

# A worker for each CPU, which takes one file of tests after another; it and its server of processes have 1 GB of memory.
PARALLEL := -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: demo install test test-all test-lowest lint test-slurm test-chaos clean

demo: install  ## the main job on an embedded corpus
	$(BIN)/hyena-dist demo

install: .venv/.installed  ## a virtual environment with the pinned versions

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hyena-dist needs Python 3.11 or newer; set PYTHON=")'
	@echo 'installing the pinned versions into .venv: a few minutes, most of them for torch'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet --progress-bar on -c constraints.txt -e '.[dev]'
	@touch $@

test: install  ## every module, in minutes
	$(BIN)/python -m pytest $(PARALLEL) -m 'not (slurm or chaos or launcher or slow)'

test-all: install  ## launchers, SLURM and chaos too
	$(BIN)/python -m pytest $(PARALLEL)

test-slurm: install  ## the tests on a real SLURM cluster alone, which HYENA_DIST_SLURM_SANDBOX starts
	$(BIN)/python -m pytest -m slurm

test-chaos: install  ## fifty kills, full disks and NaN at random moments: about a quarter of an hour
	CHAOS_KILLS=50 $(BIN)/python -m pytest tests/chaos -s

test-lowest: .venv-lowest/.installed  ## one process of everything, with the lowest versions that pyproject.toml allows
	.venv-lowest/bin/python -m pytest $(PARALLEL) tests/unit -m 'not (slurm or chaos or launcher or slow)'

.venv-lowest/.installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --disable-pip-version-check --quiet --progress-bar on -c constraints-lowest.txt \
		-e . pytest pytest-timeout pytest-xdist hypothesis pyfaidx
	@touch $@

lint: install  ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf .venv .venv-lowest build *.egg-info
