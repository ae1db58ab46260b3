# Every target sets up what it needs. `make` alone lists them.
LOSS      ?=
SWEEP     ?=
DATASET   ?=
TRIALS    ?=
CLUSTER   ?= local
RESOURCES ?=
WORKERS   ?=
DEVICE    ?=
FLAGS     ?=
# Of the command line alone: shells have a HOST of their own.
A    =
B    =
RUN  =
HOST =
PORT =

WORDS  := LOSS SWEEP DATASET TRIALS CLUSTER RESOURCES WORKERS DEVICE A B RUN HOST PORT FLAGS
PYTHON := .venv/bin/python
STUDY  := $(PYTHON) -m study
OF_SWEEP = $(SWEEP:%=--sweep %)

# What each target can be told, with FLAGS for the command's further options. Any other word would be
# ignored by make, and something else done than was meant.
TAKES_sweep       := LOSS SWEEP DATASET TRIALS CLUSTER RESOURCES WORKERS DEVICE FLAGS
TAKES_status      := SWEEP FLAGS
TAKES_cancel      := SWEEP FLAGS
TAKES_collect     := SWEEP FLAGS
TAKES_losses      := FLAGS
TAKES_data        := DATASET FLAGS
TAKES_fid         := A B DEVICE FLAGS
TAKES_figures     := SWEEP FLAGS
TAKES_verdict     := SWEEP FLAGS
TAKES_report      := SWEEP FLAGS
TAKES_behaviour   := DATASET DEVICE FLAGS
TAKES_dashboard   := SWEEP HOST PORT FLAGS
TAKES_tensorboard := RUN HOST PORT FLAGS
TAKES_check       := CLUSTER DEVICE RESOURCES FLAGS
TAKES_test        := FLAGS
TAKES_bench       := DEVICE

GIVEN := $(foreach word,$(.VARIABLES),$(if $(findstring command line,$(origin $(word))),$(word)))
GIVEN := $(filter-out PYTHON MAKEFLAGS MAKEOVERRIDES -*-%,$(GIVEN))
WRONG := $(firstword $(filter-out $(WORDS),$(GIVEN)))
ifneq ($(WRONG),)
NEAR := $(shell python3 -c 'import difflib, sys; \
  near = difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1, 0.5); \
  print(f"did you mean {near[0]}=?" if near else "allowed: " + " ".join(sys.argv[2:]))' \
  '$(WRONG)' $(WORDS))
$(error unknown word $(WRONG)=; $(NEAR))
endif
TAKEN := $(foreach target,$(MAKECMDGOALS),$(TAKES_$(target)))
IDLE  := $(firstword $(filter-out $(TAKEN),$(GIVEN)))
ifneq ($(IDLE),)
$(error make $(or $(MAKECMDGOALS),help) takes no $(IDLE)=; allowed: $(or $(TAKEN),none))
endif

.DEFAULT_GOAL := help
.PHONY: help sweep status cancel collect losses data fid figures verdict report behaviour \
  dashboard tensorboard check test faults lint bench clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 12

.venv/ready: requirements.lock pyproject.toml
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.lock
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

sweep: .venv/ready  ## train a sweep: LOSS=ns SWEEP=quick DATASET=fashion_mnist TRIALS=10 CLUSTER=local
	$(strip $(STUDY) sweep --sweep $(or $(SWEEP),quick) --cluster $(CLUSTER) $(LOSS:%=--loss %) \
	  $(DATASET:%=--dataset %) $(TRIALS:%=--trials %) $(WORKERS:%=--workers %) \
	  $(DEVICE:%=--device %) $(RESOURCES:%=--resources %) $(FLAGS))

status: .venv/ready  ## what is to do, running, done, failed and lost; SWEEP=quick: of that alone
	$(strip $(STUDY) status $(OF_SWEEP) $(FLAGS))

cancel: .venv/ready  ## take SWEEP's SLURM jobs out of the queue
	$(strip $(STUDY) cancel --sweep $(or $(SWEEP),quick) $(FLAGS))

collect: .venv/ready  ## bring finished runs into results/*.parquet
	$(strip $(STUDY) collect $(OF_SWEEP) $(FLAGS))

losses: .venv/ready  ## the losses, with their sources, defaults and ranges
	$(strip $(STUDY) losses $(FLAGS))

data: .venv/ready  ## the data sets; DATASET=fashion_mnist: find or fetch it, and check it
	$(strip $(STUDY) data $(DATASET) $(FLAGS))

fid: .venv/ready  ## the distance between two sets of images: A=folder B=folder
	$(if $(and $(A),$(B)),$(STUDY) fid "$(A)" "$(B)" $(DEVICE:%=--device %) $(FLAGS),$(error say which: make fid A=real/ B=generated/))

figures: .venv/ready  ## draw every figure from results/ into analysis/figures/
	$(strip $(STUDY) figures $(OF_SWEEP) $(FLAGS))

verdict: .venv/ready  ## what the study finds, in words and numbers: SWEEP=paired FLAGS=--interim
	$(strip $(STUDY) verdict $(OF_SWEEP) $(FLAGS))

report: .venv/ready  ## write analysis/<sweep>.html: verdict, tables, figures on one page
	$(strip $(STUDY) report $(OF_SWEEP) $(FLAGS))

behaviour: .venv/ready  ## how the distance itself behaves on real images: DATASET FLAGS='--features inception'
	$(STUDY) behaviour $(DATASET:%=--dataset %) $(DEVICE:%=--device %) $(FLAGS)

dashboard: .venv/ready  ## a search's trials in the browser, by optuna-dashboard: SWEEP=mini HOST PORT
	$(STUDY) dashboard $(OF_SWEEP) $(HOST:%=--host %) $(PORT:%=--port %) $(FLAGS)

tensorboard: .venv/ready  ## a run's curves in the browser: RUN=results/runs/quick/ns/fashion_mnist/000
	$(if $(RUN),.venv/bin/tensorboard --logdir "$(RUN)" $(HOST:%=--host %) $(PORT:%=--port %) $(FLAGS),$(error say which: make tensorboard RUN=results/runs/quick/ns/fashion_mnist/000))

test: .venv/ready  ## run the tests (no download, no GPU)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile $(FLAGS)

check: .venv/ready  ## try what runs rely on, on this machine: DEVICE=cuda CLUSTER=slurm RESOURCES= FLAGS='--json check.json'
	$(strip $(STUDY) check --cluster $(CLUSTER) $(DEVICE:%=--device %) $(RESOURCES:%=--resources %) $(FLAGS))

faults: .venv/ready  ## 1,000 signals and every other fault against tiny sweeps: nothing may be lost
	OMP_NUM_THREADS=1 $(PYTHON) tests/faults.py --kills 1000

lint: .venv/ready  ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

benchmarks/.peers: benchmarks/requirements.txt .venv/ready
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --target $@ -r $<
	touch $@

bench: .venv/ready benchmarks/.peers  ## measure speed beside other packages; DEVICE=cuda: the GPU part
ifeq ($(DEVICE),cuda)
	$(PYTHON) benchmarks/gpu.py
else
	$(PYTHON) benchmarks/step.py
	$(PYTHON) benchmarks/losses.py
	$(PYTHON) benchmarks/shares.py
	$(PYTHON) benchmarks/evaluation.py
	$(PYTHON) benchmarks/scoring.py
	$(PYTHON) benchmarks/trials.py
	$(PYTHON) benchmarks/growth.py
endif
	$(PYTHON) benchmarks/report.py

clean:  ## remove what tools have cached; results and data stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache
