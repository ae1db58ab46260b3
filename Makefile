# Every target sets up what it needs. `make` alone lists them.
LOSS     ?=
SWEEP    ?= quick
DATASET  ?=
TRIALS   ?=
CLUSTER  ?= local
RESOURCES ?=
WORKERS  ?=
DEVICE   ?=
FLAGS    ?=

PYTHON := .venv/bin/python
STUDY  := $(PYTHON) -m study

.DEFAULT_GOAL := help
.PHONY: help sweep status cancel collect figures behaviour report check test faults lint bench dashboard clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 12

.venv/ready: requirements.lock pyproject.toml
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.lock
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

sweep: .venv/ready  ## train a sweep: LOSS=ns SWEEP=quick DATASET=fashion_mnist TRIALS=10 CLUSTER=local
	$(strip $(STUDY) sweep --sweep $(SWEEP) --cluster $(CLUSTER) $(LOSS:%=--loss %) \
	  $(DATASET:%=--dataset %) $(TRIALS:%=--trials %) $(WORKERS:%=--workers %) \
	  $(DEVICE:%=--device %) $(RESOURCES:%=--resources %) $(FLAGS))

status: .venv/ready  ## what is to do, running, done, failed and lost
	$(STUDY) status

cancel: .venv/ready  ## take SWEEP's SLURM jobs out of the queue
	$(STUDY) cancel --sweep $(SWEEP)

collect: .venv/ready  ## bring finished runs into results/*.parquet
	$(STUDY) collect

figures: .venv/ready  ## draw every figure from results/ into analysis/figures/
	$(STUDY) figures

behaviour: .venv/ready  ## how the distance itself behaves on real images: DATASET FLAGS='--features inception'
	$(STUDY) behaviour $(DATASET:%=--dataset %) $(FLAGS)

report: .venv/ready  ## write analysis/<sweep>.html: verdict, tables, figures on one page
	$(STUDY) report

test: .venv/ready  ## run the tests (no download, no GPU)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest

check: .venv/ready  ## try what runs rely on, on this machine: DEVICE=cuda CLUSTER=slurm RESOURCES= FLAGS='--json check.json'
	$(strip $(STUDY) check --cluster $(CLUSTER) $(DEVICE:%=--device %) $(RESOURCES:%=--resources %) $(FLAGS))

faults: .venv/ready  ## kill 200 processes at random during a tiny sweep, and see that nothing is lost
	OMP_NUM_THREADS=1 $(PYTHON) tests/faults.py --kills 200

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
	$(PYTHON) benchmarks/shares.py
	$(PYTHON) benchmarks/evaluation.py
	$(PYTHON) benchmarks/trials.py
	$(PYTHON) benchmarks/growth.py
endif
	$(PYTHON) benchmarks/report.py

dashboard: .venv/ready  ## open optuna-dashboard on SWEEP
	.venv/bin/optuna-dashboard $(or $(STUDY_RESULTS),results)/optuna/$(SWEEP).log

clean:  ## remove what tools have cached; results and data stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache
