# The commands of the project; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH_INDEX ?=
PIP_EXTRA := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help setup run test check fix bench campaign docs lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## Create .venv and install everything

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "TallyLM needs Python 3.11 or newer; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "installing into $(VENV) (a few minutes, about 2 GB)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_EXTRA) -c constraints.txt -e '.[dev]'
	@touch $@

run: $(READY) ## The main job: from real text to an audited, accounted, evaluated model
	$(BIN)/tally demo

test: $(READY) ## Run the tests (no GPU, no hub)
	$(BIN)/python -m pytest -m "not slow and not gpu" -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(READY) ## Lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(READY) ## Mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Run the benchmarks; figures go to tests/benchmarks/RESULTS.md by hand
	@for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || echo "not run: $$script"; done

campaign: $(READY) ## The slow tests as well
	$(BIN)/python -m pytest

docs: $(READY) ## Build the documents' site in build/docs; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -j auto -c docs . build/docs
	@echo "open build/docs/index.html"

lock: $(READY) ## Write the versions installed now to constraints.txt
	$(BIN)/python -m tests.lock > constraints.tmp && mv constraints.tmp constraints.txt && touch $(READY)

clean: ## Remove what the commands made, but not .venv
	rm -rf runs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
