# `make help` lists the commands. PYTHON chooses the interpreter, VENV where the environment goes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A process a core, four at most: each of those that train takes a gigabyte. What is in one file shares one process.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test newest check docs clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/train.stamp  ## install into .venv and run the whole chain on the embedded world, in about five minutes
	$(BIN)/interalign demo

test: $(VENV)/dev.stamp  ## run the tests, side by side: no network, no GPU, no key
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

newest:  ## run the tests with the newest versions of everything but torch, in an environment of its own
	$(PYTHON) -m venv $(VENV)-newest
	grep '^torch==' constraints.txt > $(VENV)-newest/torch.txt
	$(VENV)-newest/bin/python -m pip install --upgrade --upgrade-strategy eager -c $(VENV)-newest/torch.txt -e ".[train,dev]"
	$(VENV)-newest/bin/python -m pytest $(SIDE_BY_SIDE)

check: $(VENV)/dev.stamp  ## what CI runs besides the tests: ruff, mypy --strict, the import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict -p interalign
	$(BIN)/lint-imports

docs: $(VENV)/dev.stamp  ## write docs/commands.md, docs/faults.md and docs/modules.md anew from what they describe
	$(BIN)/python docs/make_commands.py
	$(BIN)/python docs/make_faults.py
	$(BIN)/python docs/make_modules.py

clean:  ## remove the environment, build outputs and caches; runs and models stay
	rm -rf $(VENV) $(VENV)-newest build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# The stamps say what was installed, so that the next `make` does not ask the package index again.
$(VENV)/train.stamp: pyproject.toml constraints.txt
	$(call install,train)
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt
	$(call install,train$(comma)dev)
	@touch $@ $(VENV)/train.stamp

# Some three hundred lines of pip go to a file; what is seen is what is being done, and the end of that file if it fails.
LOG := $(VENV)/install.log
OLD := import sys; v = sys.version_info; sys.exit(v < (3, 11) and "interalign needs Python 3.11 or newer, and \
$(PYTHON) is %d.%d; name another one: make $(MAKECMDGOALS) PYTHON=python3.12" % (v[0], v[1]))
comma := ,

define install
@command -v $(PYTHON) >/dev/null || { echo "interalign needs Python 3.11 or newer, and there is no $(PYTHON);" \
	"name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
@$(PYTHON) -c '$(OLD)'
@mkdir -p $(VENV)
@echo "installing interalign[$(1)] into $(VENV), which takes minutes the first time; pip writes to $(LOG)" >&2
@{ $(PYTHON) -m venv $(VENV) && PIP_DISABLE_PIP_VERSION_CHECK=1 \
	$(BIN)/python -m pip install -c constraints.txt -e ".[$(1)]"; } >$(LOG) 2>&1 || { tail -n 20 $(LOG) >&2; \
	echo "interalign could not be installed; the whole log is $(LOG)" >&2; exit 2; }
endef
