# The study's commands. Both `make study` and `make test` build .venv first when there is none:
#   make study                                  every notebook in the quick preset
#   make study PRESET=laptop                    the same in another preset
#   make grid GRID=study/grids/laptop.yaml      a grid of notebooks
#   make grid GRID=... OPTIONS="--dry-run"      what is done and what is to be run; `python -m study.batch -h` lists more
#   make test                                   the tests, and the notebooks' checked outputs
#   make book                                   the book, docs/_build/html/index.html
#   make study PYTHON=python3.12                with another interpreter (when .venv is built)

PYTHON ?= python3
PRESET ?= smoke
GRID ?= study/grids/smoke.yaml
OPTIONS ?=
VENV := .venv
BIN := $(VENV)/bin
BOOK := docs/_build
INSTALLED := $(VENV)/installed
PIP := $(BIN)/python -m pip install --quiet --no-deps --no-compile
TORCH_INDEX := https://download.pytorch.org/whl/cpu

# Python keeps what it has compiled, whatever the caller's environment says: else every kernel starts ten seconds later.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: study grid test book lint lock clean

study: $(INSTALLED)
	$(BIN)/python -m study.batch --preset $(PRESET) $(OPTIONS)

grid: $(INSTALLED)
	$(BIN)/python -m study.batch $(GRID) $(OPTIONS)

# Two workers, one thread each; `loadfile` keeps a notebook's cells on one worker.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --nbval-lax --nbval-current-env \
	    --doctest-modules stemlib study tests notebooks

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports

# A warning, such as of a link that leads nowhere, is an error. `make test` checks the pages in a browser.
book: $(VENV)/book $(BOOK)/npm/installed
	$(BIN)/python docs/book/assemble.py
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs/book $(BOOK)/source $(BOOK)/html
	@echo "The book is in $(BOOK)/html/index.html"

$(VENV)/book: $(INSTALLED)
	grep -v '^--' requirements.lock >$(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation -c $(VENV)/constraints.txt -e '.[book]'
	@touch $@

# MathJax, which every page loads from the book itself, and what checks the pages.
$(BOOK)/npm/installed: Makefile
	npm install --silent --no-save --prefix $(@D) mathjax@3.2.2 axe-core@4.14.1
	@touch $@

# The lock is complete, so nothing is resolved; `pip check` proves it. Where there is a uv and it succeeds, uv
# installs: it is several times faster, and a second clone shares its files. Else pip does, in a version that needs 12
# s for the look-ups that take Python 3.11's own 29 s. PyTorch comes by pip, and apart: only it is looked up in
# PyTorch's index. Only a third of the modules is ever imported: these are compiled once at the end, and not by several
# kernels at once. What a stopped run left is not trusted (uv takes half a package for a whole one): the next `make`
# starts anew, with the downloads that were kept.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] < (3, 15) else \
	    "Python 3.11 to 3.14 is needed, $(PYTHON) is %d.%d. Name another: make PYTHON=python3.12 ..." % v[:2])'
	@test -e $@ && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	@echo "Installing into $(VENV) (once; about a minute after the downloads; for Python 3.14 with a C compiler)"
	grep -vE '^(torch==|--)' requirements.lock >$(VENV)/others.txt
	uv pip install --quiet --no-deps --python $(BIN)/python -r $(VENV)/others.txt 2>/dev/null || \
	    { $(PIP) pip==26.3; $(PIP) -r $(VENV)/others.txt; }
	grep '^torch==' requirements.lock | $(PIP) --retries 2 --extra-index-url $(TORCH_INDEX) -r /dev/stdin
	{ $(BIN)/python -c 'import snakemake.cli, study.batch.__main__, study.figures, study.stress' & } && \
	    $(PIP) --no-build-isolation -e . && $(BIN)/python -m pip check && wait
	@touch $@

# Needs uv. Keeps the versions that are pinned already; for newer ones: make lock UPGRADE=--upgrade
lock:
	uv pip compile pyproject.toml --extra study --extra test --universal --no-header --annotation-style line --quiet $(UPGRADE) \
	    --output-file requirements.lock
	{ printf '%s\n' \
	    '# Every package of the study, pinned: CPython 3.11 to 3.14, Linux and macOS 14 or newer (arm64).' \
	    '# Made from pyproject.toml by `make lock`. PyTorch on Linux is the CPU build: no CUDA packages.' \
	    '--extra-index-url $(TORCH_INDEX)' ''; cat requirements.lock; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:
	rm -rf $(VENV) $(BOOK) .pytest_cache .ruff_cache .hypothesis .benchmarks *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
