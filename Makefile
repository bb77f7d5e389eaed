# The two commands: `make study` trains and executes the series, `make test` runs the tests.
.DEFAULT_GOAL := help
.PHONY: help setup study lab test bench growth clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

help:
	@echo "make study   execute the notebooks in quick mode, headless"
	@echo "make lab     open JupyterLab on the first notebook"
	@echo "make test    run the test suite"
	@echo "make bench   measure speed against a textbook loop, write outputs/bench.json"
	@echo "make growth  measure how time and memory grow, write outputs/growth.html"
	@echo "make setup   set up .venv alone; the others do it too when it is needed"

setup: $(READY)

# Done again only when what is to be installed has changed.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[lab,dask,dev]'
	@touch $@

study: $(READY)
	@$(BIN)/arithlab run all --quick

lab: $(READY)
	@$(BIN)/jupyter lab notebooks/00_start_here.ipynb

# One thread in each of as many processes as cores does more than one process with all threads: the models are small.
test: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4

bench: $(READY)
	@$(BIN)/python benchmarks/run.py

growth: $(READY)
	@$(BIN)/python benchmarks/growth.py

clean:
	rm -rf $(VENV) build *.egg-info
