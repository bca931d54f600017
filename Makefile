# Two commands: `make reproduce` and `make test`. `make docs` builds the documentation. PYTHON is any Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# PyTorch is an oracle in tests and the peer in benchmarks; `make test ORACLE=` goes without, those tests skip.
ORACLE ?= -r requirements-oracle.txt

.PHONY: reproduce test lint style types test-fast test-slow docs notebooks clean

reproduce: $(VENV)/.run
	$(BIN)/python run.py --config=configs/mystery1_mlp7.py

# Types and imports are checked beside the tests, which leave a core idle now and then. What they say stands at the end.
test: style
	@$(MAKE) --no-print-directory types >$(VENV)/types.log 2>&1 & types=$$!; \
	$(MAKE) --no-print-directory test-fast; tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/types.log; [ $$tests = 0 ] && [ $$types = 0 ]

lint: style types

style: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/lint-imports

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

# End-to-end tests: runs that are killed and resumed, quick forms of configs (all: PRUNE_JAX_EVERY_QUICK=1).
test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow -n $(WORKERS) --dist loadgroup --durations=10

# The documentation in docs/_build/html; a warning is an error. Notebooks are shown with the outputs that they have.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# Runs the notebooks and draws the figures anew: NAME=1_first_network for one alone.
notebooks: $(VENV)/.docs
	$(BIN)/python docs/build_notebooks.py $(NAME)
	$(BIN)/python docs/draw_figures.py

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prune_jax needs Python 3.11 or newer; name one with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.run: requirements.txt | $(VENV)/.python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt requirements-oracle.txt | $(VENV)/.python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt $(ORACLE)
	touch $@ $(VENV)/.run

$(VENV)/.docs: requirements.txt requirements-docs.txt | $(VENV)/.python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@ $(VENV)/.run

clean:
	rm -rf runs docs/_build docs/_generated docs/api/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
