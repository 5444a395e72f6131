# The whole suite, the demo, and the environment both run in. Needs Python 3.11 or newer with pip, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A file of tests stays in one process, since its fixtures are made once; ARGS="-n 0" runs everything in one.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --dist loadfile

.PHONY: install demo test test-fast lint clean

install: $(READY)

demo: $(READY)
	$(BIN)/muscle-hf demo $(ARGS)

test: lint
	$(PYTEST) $(ARGS)

test-fast: $(READY)
	$(PYTEST) -m "not slow" $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Made again only when what is installed changes; the mark is touched last, so an interrupted install is no finished one.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $(READY)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
