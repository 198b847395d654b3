PYTHON ?= python3
BIN := .venv/bin

# A worker for each CPU, which takes one file of tests after another; it and its server of processes have 1 GB of memory.
PARALLEL := -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# A machine with a GPU may have torch and little else: wheels that `make gpu` takes there, for Python 3.12 on x86-64.
PLATFORMS := $(foreach n,_2_28 _2_27 _2_17 2014 1,--platform manylinux$(n)_x86_64)
WHEELS := annotated-types donfig google-crc32c hjson megatron-core numcodecs pydantic pydantic_core typing-inspection zarr

.PHONY: demo install test test-all test-lowest lint test-slurm test-chaos gpu gpu-wheels clean

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

test-chaos: install  ## fifty kills, a hundred signals, full disks and NaN at random moments: about an hour
	CHAOS_KILLS=50 CHAOS_SIGNALS=100 $(BIN)/python -m pytest tests/chaos -s

test-lowest: .venv-lowest/.installed  ## one process of everything, with the lowest versions that pyproject.toml allows
	.venv-lowest/bin/python -m pytest $(PARALLEL) tests/unit -m 'not (slurm or chaos or launcher or slow)'

.venv-lowest/.installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --disable-pip-version-check --quiet --progress-bar on -c constraints-lowest.txt \
		-e . pytest pytest-timeout pytest-xdist hypothesis pyfaidx xgboost-cpu
	@touch $@

lint: install  ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

gpu:  ## twelve minutes of the GPU that python3's torch sees, else that of .venv
	@python=python3; python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null || python=$(BIN)/python; \
	if [ -d .whl ]; then $$python -m pip install --quiet --no-index --no-deps --upgrade --target build/site .whl/*.whl || exit; \
	export PYTHONPATH="build/site$${PYTHONPATH:+:$$PYTHONPATH}"; fi; \
	$$python -m hyena_dist.bench.gpu --out runs/gpu

gpu-wheels: install  ## what `make gpu` needs beside torch and triton, into .whl, for machines without a network
	rm -rf .whl
	$(BIN)/pip download --disable-pip-version-check --quiet --no-deps --only-binary=:all: --implementation cp \
		--python-version 3.12 $(PLATFORMS) -c constraints.txt -d .whl $(WHEELS)
	DS_BUILD_OPS=0 $(BIN)/pip wheel --disable-pip-version-check --quiet --no-deps --no-build-isolation \
		-c constraints.txt -w .whl deepspeed

clean:
	rm -rf .venv .venv-lowest build *.egg-info
