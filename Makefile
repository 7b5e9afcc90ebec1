# Everything runs in .venv, which is made when it is missing. Only Python 3.11 or later, make and a C toolchain are needed.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
JOBS ?= auto
# requirements beside those of pyproject.toml: WITH='numba==0.60.*'
WITH ?=
# Kernels and lanes that are looked at in other ways than they run in: what takes seconds there too.
CHECKED := tests/closed_loop/test_checked.py tests/kernels/test_page_alloc.py tests/kernels/test_mempool.py \
	tests/kernels/test_slub.py tests/kernels/test_slob.py tests/kernels/test_rng.py tests/kernels/test_stealing_band.py

# As plain Python, where integers do not wrap, what packs and hashes them too
INTERPRETED := $(CHECKED) tests/trace/test_refills.py

# Lanes of any shape and readers of traces too, with a check of every index
BOUNDED := $(CHECKED) tests/closed_loop/test_heap_table.py::test_an_index_out_of_bounds_in_an_operation_is_an_error \
	tests/closed_loop/test_generated.py tests/trace/test_fuzz.py tests/trace/test_cuts.py

# Byte code is kept, also where the environment says otherwise: tests start many processes.
test test-bounds test-interpreted test-slow lint: export PYTHONDONTWRITEBYTECODE =

.PHONY: help walk demo test test-bounds test-interpreted test-slow test-browser fuzz test-kernel hooks wheel lint format schemas tables bench \
	sweeps docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/demo ## run the swap livelock: table, dataset and report under out/
	$(BIN)/fastalloc run swap-livelock $(ARGS)

walk: .venv/demo ## walk through README and tutorials as a new user does, in an empty folder
	PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/walk.sh

test: .venv/ready ## run the tests, on all cores (JOBS=2: on two)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# NUMBA_OPT=1: a program compiles in four fifths of the time, and every index is checked all the same.
test-bounds: .venv/ready ## run lanes and kernels with a check of every index
	NUMBA_BOUNDSCHECK=1 NUMBA_OPT=1 $(BIN)/python -m pytest -q -n $(JOBS) $(ARGS) $(BOUNDED)

test-interpreted: .venv/ready ## run lanes and kernels as plain Python
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -n $(JOBS) $(ARGS) $(INTERPRETED)

test-slow: .venv/ready ## run the tests that take minutes, such as a hundred kills of a sweep
	$(BIN)/python -m pytest -m slow $(ARGS)

test-kernel: .venv/ready ## boot Debian's kernels in QEMU, record and replay them (needs qemu-system-x86, busybox-static)
	$(BIN)/python -m pytest -m kernel tests/boot $(ARGS)

test-browser: .venv/ready ## look at the page in a real browser, with axe (needs chromium)
	$(BIN)/python -m pip install --quiet --group browser
	$(BIN)/python -m pytest tests/report $(ARGS)

fuzz: .venv/ready ## change files at random and read them, by time: ARGS="--seconds 60" a reader
	$(BIN)/python -m tests.fuzz.run $(ARGS)

lint: .venv/ready ## check format, style, types and the direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready ## format the sources
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

schemas: .venv/ready ## write JSON Schemas and the columns in docs/datasets*.md again
	$(BIN)/python -m docs.schemas

tables: .venv/ready ## write the tables and figures of docs/ and README again, from presets and results/
	$(BIN)/python -m docs.policy_tables
	$(BIN)/python -m docs.closed_loop_tables
	$(BIN)/python -m docs.own_tables
	$(BIN)/python -m docs.study_tables
	$(BIN)/python -m docs.endurance
	$(BIN)/python -m docs.golden
	$(BIN)/python -m docs.readme
	$(BIN)/python -m docs.figures
	$(BIN)/python -m docs.pictures

bench: .venv/bench ## measure speed beside peers and limits; results/benchmarks/
	$(BIN)/fastalloc bench $(ARGS)

sweeps: .venv/ready ## run the sweeps that ship (half an hour) into out/, their tables into results/sweeps/
	for file in results/sweeps/*.toml; do $(BIN)/fastalloc sweep $$file; done
	$(BIN)/python results/sweeps/summarise.py out

docs: .venv/docs ## build the documentation into docs/_build/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/sphinx-build -W -q docs docs/_build

wheel: .venv/ready ## build sdist and wheel into dist/, and walk through the tutorials where the wheel alone is
	$(BIN)/python -m pip install --quiet build
	rm -rf dist && $(BIN)/python -m build --outdir dist . >/dev/null
	$(PYTHON) -m venv dist/try
	dist/try/bin/python -m pip install --quiet --disable-pip-version-check dist/fastalloc-*.whl
	PATH="$(CURDIR)/dist/try/bin:$$PATH" sh docs/walk.sh
	rm -rf dist/try

hooks: .venv/ready ## install the checks before each commit
	$(BIN)/python -m pip install --quiet --group hooks
	$(BIN)/pre-commit install

clean: ## remove what was built, but no dataset
	rm -rf .venv docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# What runs, without what tests need
.venv/demo: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . $(WITH)
	@touch $@

# pip before 25.1 does not know dependency groups, hence the upgrade. Of what only tests need, byte code is made as it is
# imported: to make it of all takes longer than all else.
.venv/ready: .venv/demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --no-compile --group dev $(WITH)
	@touch $@

.venv/bench: .venv/ready
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

.venv/docs: .venv/ready
	$(BIN)/python -m pip install --quiet --group docs
	@touch $@
