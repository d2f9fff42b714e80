# make train [ALGO=dqn] [ENV=Lecture/Maze-v0] [ARGS="-n 20000 --seed 1"]   learn, and draw what was learned
# make test                                                                run the tests
# make test-fast                                                           the half of them that takes a minute
# make test-slow                                                           the learning proofs, which take hours
# make test-bounds                                                         run every compiled kernel with its indices checked
# make docs                                                                build the site into build/site
# make notebooks                                                           execute docs/notebooks into build/notebooks
# make lint | format | benchmark | wheel
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
ALGO ?= dqn
KERNELS := tests/search tests/envs tests/exact tests/tabular/test_backends.py tests/common/test_returns.py \
  tests/common/test_distributional.py tests/common/test_buffers.py tests/model_based/test_muzero_replay.py \
  tests/model_based/test_dreamer_rssm.py tests/evolutionary/test_population.py tests/zoo/test_gtp.py tests/games/test_cfr.py \
  tests/games/test_rnad.py
ARGS ?=

.PHONY: train test test-fast test-slow test-bounds docs notebooks lint format benchmark wheel clean

train: $(VENV)/.installed
	$(BIN)/python scripts/train.py --algo $(ALGO) $(if $(ENV),--env $(ENV)) $(ARGS)

# --timeout: a test that hangs ends with the stacks of its threads; none comes near it. worksteal: neighbours, which share what
# is compiled, stay in one process
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal --timeout 600 -m "not slow" $(ARGS)

test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal --timeout 600 -m fast $(ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 -m slow $(ARGS)

# every compiled kernel once with numba's bounds checks, in a cache of its own: what is compiled differs
test-bounds: $(VENV)/.installed-dev
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(VENV)/numba-bounds $(BIN)/python -m pytest -n 2 -m "not slow" $(KERNELS) $(ARGS)

# -W: a broken link, a page that stands nowhere and a docstring that cannot be read are errors
docs: $(VENV)/.installed-dev
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/site
	@echo "The site: build/site/index.html"

notebooks: $(VENV)/.installed-dev
	$(PIP) --editable ".[notebooks]"
	mkdir -p build/notebooks
	for f in docs/notebooks/*.py; do $(BIN)/jupytext --quiet --to ipynb --execute --output build/notebooks/$$(basename $$f .py).ipynb $$f || exit 1; done

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/.installed-bench
	$(BIN)/python scripts/benchmark.py $(ARGS)

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) build dist

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[all]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable ".[dev]"
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(PIP) --editable ".[dev,bench]"
	touch $@
