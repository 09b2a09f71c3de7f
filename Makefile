# `make demo` and `make test` do everything; both install into .venv first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo test test-fast conformance lint docs clean

install: $(STAMP)

# torchvision's wheel asks for a newer torch than the CPU build that is pinned: no dependencies.
$(STAMP): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "nptp-opt needs Python 3.11 or later: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps torchvision
	@touch $(STAMP)

demo: install
	$(BIN)/python examples/demo.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Strict: a page or link that is missing ends it. (mkdocs counts no warnings where it is quiet.)
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

test: lint docs
	$(BIN)/pytest --numprocesses 2 --dist worksteal

# The quick tier, for the time between two edits.
test-fast: install
	$(BIN)/pytest --numprocesses 2 --dist worksteal -m "not slow and not conformance"

# All cases of the onnx package's and torch's own suites; `make test` runs a sample of them.
conformance: install
	$(BIN)/pytest tests/conformance -m conformance --capture=no

clean:
	rm -rf .venv demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
