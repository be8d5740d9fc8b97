.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

help: ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 16

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 15) else f"convpose needs Python 3.11 to 3.14, {sys.executable} is {v[0]}.{v[1]}; type make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

setup: $(READY) ## make .venv with all dependencies

quickstart: $(READY) ## train on synthetic people, evaluate, draw: a few minutes on two CPU cores, no data needed
	$(BIN)/python -m convpose.train experiment=quickstart
	$(BIN)/python -m convpose.evaluate run=runs/quickstart
	@echo 'See the run: $(BIN)/tensorboard --logdir runs   (then open http://localhost:6006)'

test: $(READY) ## run the tests; those on the real archives if CONVPOSE_DATA has them
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-fast: $(READY) ## run the tests without the slow ones
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m 'not slow'

test-attack: ## the same with what is random tried as often as docs/reliability.md says
	CONVPOSE_ATTACK=1 $(MAKE) test

check: $(READY) ## ruff and mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

overfit: $(READY) ## overfit eight people with every head: one line each
	@for head in regression integral simcc heatmap rle; do printf '%-11s' $$head; \
	    $(BIN)/python -m convpose.train debug=overfit data=synthetic model=vgg_narrow study=overfit head=$$head \
	    | awk '/^best/ {print; ok = $$3 > 0.95} END {exit !ok}' || exit 1; done

reproduce-%: $(READY) ## run a study of experiments/ again, from archive to table: make reproduce-006 ARGS=trainer=gpu
	@script=$$(ls experiments/$*-*/run.sh experiments/$*-*/gpu.sh 2>/dev/null | head -1); \
	[ -n "$$script" ] || { echo "no study $*; there are:"; ls -d experiments/*/; exit 2; }; \
	sed -n 's/^# //p' "$$script" | head -2; bash "$$script" $(ARGS)

docs: $(READY) ## build the documentation site in site/, notebooks executed on synthetic people
	CONVPOSE_NOTEBOOKS=1 NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f docs/mkdocs/mkdocs.yml

data: $(READY) ## verify LSPET; download it if it is missing
	$(BIN)/python -m convpose.data data=lspet

board: $(READY) ## open TensorBoard with all runs
	$(BIN)/tensorboard --logdir runs

clean: ## remove the environment and caches; runs and data stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help setup quickstart test test-fast test-attack check overfit docs data board clean
