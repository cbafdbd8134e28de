# The commands of the house; `make help` lists them. PYTHON chooses the interpreter, VENV where the environment goes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test newest check docs clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/train.stamp  ## install into .venv and run the whole chain on the embedded world, in about five minutes
	$(BIN)/interalign demo

test: $(VENV)/dev.stamp  ## run the tests: no network, no GPU, no key
	$(BIN)/python -m pytest

newest:  ## run the tests with the newest versions of everything but torch, in an environment of its own
	$(PYTHON) -m venv $(VENV)-newest
	grep '^torch==' constraints.txt > $(VENV)-newest/torch.txt
	$(VENV)-newest/bin/python -m pip install --upgrade --upgrade-strategy eager -c $(VENV)-newest/torch.txt -e ".[train,dev]"
	$(VENV)-newest/bin/python -m pytest

check: $(VENV)/dev.stamp  ## what CI runs besides the tests: ruff, mypy --strict, the import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict -p interalign
	$(BIN)/lint-imports

docs: $(VENV)/dev.stamp  ## write docs/commands.md and docs/faults.md anew from what they describe
	$(BIN)/python docs/make_commands.py
	$(BIN)/python docs/make_faults.py

clean:  ## remove the environment, build outputs and caches; runs and models stay
	rm -rf $(VENV) $(VENV)-newest build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# The stamps say what was installed, so that the next `make` does not ask the package index again.
$(VENV)/train.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e ".[train]"
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e ".[train,dev]"
	touch $@ $(VENV)/train.stamp
