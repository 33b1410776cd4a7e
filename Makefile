# A fresh machine needs Python 3.11+ and make; the rest goes into .venv.
# On Linux without a GPU, TORCH_INDEX=https://download.pytorch.org/whl/cpu saves the CUDA libraries, several GB.
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

.PHONY: help demo test test-all check audit docs format clean

help:
	@echo "make demo      install into .venv and run the demonstration on public data"
	@echo "make test      run the tests"
	@echo "make test-all  run the slow tests and those that use the network as well"
	@echo "make check     lint, formatting, types, worn phrases"
	@echo "make docs      build the documentation into build/docs"
	@echo "make audit     look the pinned packages up among known vulnerabilities; needs the network"
	@echo "make format    format and mend what the linter can"
	@echo "make clean     remove .venv and caches"

demo: $(VENV)/demo.stamp
	$(BIN)/laserrec demo
	@echo "The command laserrec is in $(BIN); to have it by its name: . $(BIN)/activate"

# One process a core, each with one thread: threads that share a core wait for each other.
test: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical

test-all: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m "not gpu"

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/house/test_prose.py

docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

audit: $(VENV)/dev.stamp
	$(PIP) pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# torch goes first and pinned, so that nothing that needs it chooses its version.
$(VENV)/torch.stamp: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "laserrec needs Python 3.11 or later; run: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/%.stamp: $(VENV)/torch.stamp pyproject.toml
	$(PIP) -e '.[$*]'
	@touch $@

.PRECIOUS: $(VENV)/%.stamp
