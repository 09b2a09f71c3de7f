# `make demo` and `make test` do everything; both install into .venv first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt

.PHONY: install demo screenshots test test-fast conformance fuzz coverage mutants audit lint types kernels docs clean

install: $(STAMP)

# torchvision's wheel asks for a newer torch than the CPU build that is pinned: no dependencies.
$(STAMP): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "nptp-opt needs Python 3.11 or later: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "installing into .venv: torch (1 of 3)" >&2
	@$(PYTHON) -m venv .venv
	@$(PIP) torch==2.13.0
	@echo "installing into .venv: nptp-opt and what it is developed with (2 of 3)" >&2
	@$(PIP) --editable '.[dev]'
	@echo "installing into .venv: torchvision (3 of 3)" >&2
	@$(PIP) --no-deps torchvision
	@touch $(STAMP)

demo: install
	@$(BIN)/python examples/demo.py

# The pictures of docs/viewer.md; needs chromium.
screenshots: demo
	@$(BIN)/python -m tools.screenshots demo/plan.html docs/pictures

lint: install types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: install
	$(BIN)/mypy

# Once, instead of in every process of the tests.
kernels: install
	$(BIN)/python -m tools.compile_kernels

# Strict: a page or link that is missing ends it. (mkdocs counts no warnings where it is quiet.)
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Three on two cores: many tests wait, for processes that start or are killed.
# One that fails is run once more, and named: a machine's bad moment ends no run of 4,000 tests.
test: install
	$(MAKE) --no-print-directory --jobs 2 --output-sync types kernels docs lint
	$(BIN)/pytest --numprocesses 3 --dist worksteal --reruns 1 -rsR

# The quick tier, for the time between two edits.
test-fast: install
	$(BIN)/pytest --numprocesses 2 --dist worksteal -m "not slow and not conformance"

# All cases of the onnx package's and torch's own suites; `make test` runs a sample of them.
conformance: install
	$(BIN)/pytest tests/conformance -m conformance --capture=no

# Extreme documents and losses at random moments, for longer.
fuzz: install
	NPTP_FUZZ=20 $(BIN)/pytest tests/fuzz tests/runtime/test_chaos.py tests/comparison/test_chaos.py

# Branch coverage of the whole suite with its processes; a second run, without compilation, of what
# tests compiled functions shows those. TESTS="tests/geometry tests/cost": of these alone.
TESTS := tests
COMPILED := tests/evaluate tests/planner/test_label_path.py tests/search/test_dissection.py tests/kernels/test_bitmask.py
coverage: install
	@mkdir -p build/coverage
	$(BIN)/coverage erase
	-$(BIN)/coverage run -m pytest --numprocesses 3 --dist worksteal $(TESTS)
	-NUMBA_DISABLE_JIT=1 $(BIN)/coverage run -m pytest --numprocesses 3 --dist worksteal $(COMPILED)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Mutation testing: so many changes of each package that proves or prices; docs/reliability.md.
SAMPLE := 30
mutants: install
	$(BIN)/python -m tools.mutate geometry cost evaluate verification bound --sample $(SAMPLE)

# Known vulnerabilities of what is installed; needs network, and fails where nothing
# could be audited, too.
audit: install
	$(BIN)/python -m tools.audit

clean:
	rm -rf .venv demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
