# Everything is set up in .venv and .demo in this folder. Only the weights go elsewhere: to
# vidmatte's cache folder (see 'vidmatte models').
#
#   make demo       set up, fetch a real clip and the weights, cut the subject out
#   make test       set up and run the tests
#   make test-all   also run the tests that take minutes
#   make check      run the linter, the formatter's check and the type checker
#   make serve      set up and start the page and the API on this machine: see 'vidmatte serve'
#   make bench      measure this machine with isnet, u2netp and rvm
#   make clean      remove everything that the other targets created here
#   make setup-gpu-tests   install torch too: the tests then run the GPU's runner on its CPU device
#
#   make PYTHON=python3.12 ...   choose the Python (3.11 or newer)

PYTHON ?= python3
BIN := .venv/bin
CONSTRAINTS := .ci/constraints.txt
# The constraints also cover build dependencies, so that two installs are the same. They are not
# exported: vidmatte and its tests call pip too, from other folders.
INSTALL := PIP_CONSTRAINT=$(CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(CONSTRAINTS) \
  PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

# One process more than cores, since tests also wait, at most four: each loads its own networks.
WORKERS := $(shell $(PYTHON) -c "import os; print(min((os.cpu_count() or 1) + 1, 4))")
PYTEST_WORKERS := -n $(WORKERS) --dist worksteal

CLIP := .demo/bigbuckbunny.mp4
RESULT := .demo/bigbuckbunny-cut.mov

.PHONY: demo setup setup-gpu-tests test test-all check serve bench clean
.DEFAULT_GOAL := test

demo: .venv/ready $(CLIP)
	$(BIN)/vidmatte $(CLIP) -o $(RESULT) --model isnet --in f72 --out f102 --overwrite
	@echo
	@echo "$(RESULT): ProRes 4444 with alpha and sound, ready to lay over anything"
	@$(BIN)/vidmatte info $(RESULT)

setup: .venv/ready-dev

setup-gpu-tests: .venv/ready-gpu-tests

test: .venv/ready-dev
	$(BIN)/python -m pytest -q $(PYTEST_WORKERS)

test-all: .venv/ready-dev
	$(BIN)/python -m pytest -q --slow $(PYTEST_WORKERS)

check: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	@if command -v npx >/dev/null; then npx --yes --package typescript@5.9.3 tsc -p .ci/page.jsconfig.json; \
	  else echo "the types of the page's scripts were not checked: there is no node here"; fi

serve: .venv/ready-serve
	$(BIN)/vidmatte serve

bench: .venv/ready
	$(BIN)/vidmatte bench --model isnet
	@echo
	$(BIN)/vidmatte bench --model u2netp
	@echo
	$(BIN)/vidmatte bench --model rvm

clean:
	rm -rf .venv .demo build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(CLIP): examples/fetch_clip.py | .venv/ready
	$(BIN)/python examples/fetch_clip.py bigbuckbunny --to .demo
	@touch $@

# The .venv/ready* files are stamps: make installs again only when what they depend on is newer.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11: choose another, as in 'make PYTHON=python3.12'"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "cannot create .venv: on Debian and Ubuntu run 'apt install python3-venv'"; exit 1; }

.venv/ready: .venv/bin/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e .
	@touch $@

.venv/ready-serve: .venv/bin/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e '.[serve]'
	@touch .venv/ready $@

.venv/ready-dev: .venv/bin/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e '.[dev]'
	@touch .venv/ready .venv/ready-serve $@

.venv/ready-gpu-tests: .venv/bin/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e '.[dev,gpu-tests]'
	@touch .venv/ready .venv/ready-serve .venv/ready-dev $@
