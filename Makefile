# `make demo` and `make test` need Python 3.11+ and nothing else; they make .venv once. `make help` lists the rest.
#   PYTHON=python3.12   which Python makes .venv
#   CPU=1               PyTorch's CPU-only wheels, for Linux and Windows without an NVIDIA card
#   JOBS=4              processes for the tests

PYTHON ?= python3
VENV ?= .venv
JOBS ?= auto
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install -c constraints.txt $(if $(CPU),--extra-index-url https://download.pytorch.org/whl/cpu)
BASE := $(VENV)/.multicl-installed
DEV := $(VENV)/.multicl-dev-installed
BENCH := $(VENV)/.multicl-bench-installed
SIZE := $(if $(CPU),about 0.4 GB,$(if $(filter Linux,$(shell uname -s)),about 2.9 GB (CPU=1: 0.4 GB),about 0.4 GB))

.PHONY: help demo test test-gpu lint bench wheel links constraints clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s%s\n", $$1, $$2}'

demo: $(BASE) ## train speech, handwriting and words into one space, and search it
	$(BIN)/multicl demo

test: $(DEV) ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-gpu: $(DEV) ## what `make test` leaves out: kernels and recordings on this machine's GPU
	MULTICL_TEST_GPU=1 $(BIN)/python -m pytest -m gpu

lint: $(DEV) links ## style, types and the walls between the parts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy -p multicl
	$(BIN)/lint-imports

bench: $(BENCH) ## speed, memory and quality beside the peers; MULTICL_DATA names the folder of the data sets
	@set -e; for script in $$(ls benchmarks/*.py 2>/dev/null); do echo "$$script"; $(BIN)/python "$$script"; done

wheel: $(DEV) ## dist/multicl-*.whl
	rm -rf build  # setuptools would pack stale files from there
	$(BIN)/python -m build --wheel

links: ## let type checker and editor see the folders where they are imported: multicl.modalities, multicl.recipes
	@for part in modalities recipes; do test -e multicl/$$part || ln -s ../$$part multicl/$$part; done

constraints: $(DEV) ## pin in constraints.txt what .venv holds
	{ sed '/^[^#]/d' constraints.txt; $(PIP) freeze --exclude-editable --exclude multicl | sed 's/+[a-z0-9.]*$$//'; } > constraints.new
	mv constraints.new constraints.txt

clean: ## remove .venv and what was built
	rm -rf $(VENV) build dist multicl.egg-info

# pip runs only where pyproject.toml or constraints.txt is newer than the last install.
$(BASE): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing into $(VENV), once: downloads $(SIZE).'
	$(INSTALL) -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing into $(VENV) with what the tests need, once: downloads $(SIZE), less what is there already.'
	$(INSTALL) -e '.[dev]'
	@touch $(BASE) $@

$(BENCH): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing into $(VENV) the peers that benchmarks measure, once: downloads $(SIZE), less what is there already.'
	$(INSTALL) -e '.[dev,bench]'
	@touch $(BASE) $(DEV) $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "multicl needs Python 3.11 or newer, and $(PYTHON) is `$(PYTHON) --version 2>&1 || echo not there`." \
	       "Name another one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python's venv module does not work here; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
