# The front door. `make` alone lists the targets.
#
#     make figures                        the pipeline on the demo profile, end to end
#     make figures PROFILE=reduced DATA_ROOT=/path/to/CAMUS
#     make figures SET="sdm.training.steps=200 data.workers=1"
PROFILE ?= demo
SEED ?= 0
DATA_ROOT ?=
RUN_ROOT ?= runs
SET ?=
SPLIT ?= test
GPUS_PER_TRAINING ?= 1
# Jobs that sample a view; the released archive in the place of sampling; EchoNet-Dynamic.
SHARDS ?= 1
ARCHIVE ?=
ECHONET_ROOT ?=
CORES ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
WORKFLOW ?= default

VENV := .venv
BIN := $(VENV)/bin
FITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
# The first Python of this machine that has the version, venv and ensurepip.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
# On a machine with a GPU, one job at a time has it, or as many as its memory is known to hold. A
# cluster's limits are its own, not this host's.
GPU_JOBS ?= 1
GPU := $(shell nvidia-smi -L 2>/dev/null | head -n 1)
GPU_LIMIT = $(if $(GPU),--resources gpu_job=$(GPU_JOBS))
LIMITS = $(if $(filter default,$(WORKFLOW)),--cores $(CORES) $(GPU_LIMIT))
FLAGS = --profile workflow/profiles/$(WORKFLOW) --snakefile workflow/Snakefile $(LIMITS) \
	$(SNAKEMAKE_FLAGS) --config profile="$(PROFILE)" \
	seed=$(SEED) data_root="$(DATA_ROOT)" run_root="$(RUN_ROOT)" set="$(SET)" \
	gpus=$(GPUS_PER_TRAINING) shards=$(SHARDS) archive="$(ARCHIVE)" echonet_root="$(ECHONET_ROOT)"
# A killed run leaves Snakemake's lock behind; it is lifted, but never under a run that lives.
ALONE = $(if $(shell command -v flock),flock --nonblock $(VENV)/run.lock)
BUSY = echo "make: another run is under way in this folder" >&2; exit 1
SUMMARY = $(BIN)/python workflow/summary.py --profile "$(PROFILE)" --run-root "$(RUN_ROOT)"

.DEFAULT_GOAL := help
.PHONY: help figures smoke test lint lab evaluate report publish weights clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

figures: $(VENV)/stamp  ## run PROFILE end to end; print the Dice table, the figures and the times
	@$(if $(ALONE),$(ALONE) true || { $(BUSY); })
	@$(ALONE) sh -c '$(BIN)/snakemake "$$@" --unlock >/dev/null 2>&1; $(BIN)/snakemake "$$@"' - $(FLAGS)
	@$(SUMMARY)

smoke:  ## the whole pipeline at its smallest
	@$(MAKE) --no-print-directory figures PROFILE=smoke

test: $(VENV)/stamp  ## the test suite
	@$(BIN)/python -m pytest $(TESTS)

lint: $(VENV)/stamp  ## style of the code, and notebooks without outputs
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@find notebooks -name '*.ipynb' -not -path '*/.*' -exec $(BIN)/nbstripout --verify {} +

lab: $(VENV)/stamp  ## JupyterLab on the notebooks
	@$(BIN)/jupyter lab --notebook-dir=. notebooks

evaluate: $(VENV)/stamp  ## the networks of weights/ on the SPLIT of DATA_ROOT (test); Table 1
	@$(BIN)/python workflow/evaluate.py --data-root "$(DATA_ROOT)" --split "$(SPLIT)"

publish: $(VENV)/stamp  ## show a finished PROFILE in results/ and in the README
	@$(BIN)/python workflow/publish.py --profile "$(PROFILE)" --run-root "$(RUN_ROOT)"

# The weights that the demo starts from: another seed, so other phantoms than the demo's.
LONGER = --profile demo --seed 1 --run-root "$(RUN_ROOT)/weights" --set data.training_patients=400 \
	--set data.validation_patients=8 --set data.test_patients=0 --set data.evaluation_split=validation \
	--set augmentation.maps_per_frame=1 --set sdm.training.steps=1000 \
	--set sdm.training.learning_rate=0.0004 --set sdm.training.warmup_steps=50 \
	--set sdm.training.initial_weights= --set sdm.training.checkpoint_every=100 \
	--set sdm.training.log_every=20
weights: $(VENV)/stamp  ## train the demo's starting weights anew, for longer, on other phantoms
	@$(BIN)/python -m echo_lib.data.prepare $(LONGER)
	@export OMP_NUM_THREADS=1; $(BIN)/python -m echo_lib.sdm.training $(LONGER) --view 2CH & other=$$!; \
	OMP_NUM_THREADS=1 $(BIN)/python -m echo_lib.sdm.training $(LONGER) --view 4CH && wait $$other
	@$(BIN)/python workflow/ship_weights.py --profile demo --run-root "$(RUN_ROOT)/weights" \
		--name phantom --purpose "be the starting weights of the demo profile"

report: $(VENV)/stamp  ## Snakemake's HTML report of a finished run
	@$(BIN)/snakemake $(FLAGS) --report "$(RUN_ROOT)/$(PROFILE)/report.html"

clean:  ## remove the environment and caches; runs/ stays
	@rm -rf $(VENV) .snakemake .pytest_cache .ruff_cache *.egg-info

# One stamp for both: made again when the lock or the dependencies change.
$(VENV)/stamp: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 to 3.13 with venv and ensurepip \
	(Debian: apt-get install python3-venv), or PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c '$(FITS)' 2>/dev/null || { echo "make: $(PYTHON) is not Python 3.11 to 3.13 \
	with venv and ensurepip (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@echo "Installing requirements.lock into $(VENV) (once; some minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable .
	@touch $@
