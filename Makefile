# vidmatte: short verbs. Everything is set up in .venv and .demo, nothing outside this folder
# but the weights, which go where vidmatte keeps them (see 'vidmatte models').
#
#   make demo       set up, fetch a real clip and real weights, cut its subject out
#   make test       set up, run the tests       make test-all   the ones that take minutes too
#   make check      lint, format, types         make clean      remove all that was set up
#   make bench      how fast this machine is with isnet, u2netp and rvm
#   make setup-gpu-tests    torch too: the tests then run the GPU's runner, on the CPU
#   PYTHON=python3.12 make ...                  to choose the Python (3.11 or newer)

PYTHON ?= python3
BIN := .venv/bin
CONSTRAINTS := .ci/constraints.txt
# Also for the build of the package itself, so that two installs are the same. Not exported:
# the product and its tests call pip too, from other folders.
INSTALL := PIP_CONSTRAINT=$(CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(CONSTRAINTS) \
  PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

# A process for each core, but no more than four: each loads networks of its own.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist worksteal

CLIP := .demo/bigbuckbunny.mp4
RESULT := .demo/bigbuckbunny-cut.mov

.PHONY: demo setup setup-gpu-tests test test-all check bench clean
.DEFAULT_GOAL := test

demo: .venv/ready $(CLIP)
	$(BIN)/vidmatte $(CLIP) -o $(RESULT) --model isnet --in f72 --out f102 --overwrite
	@echo
	@echo "$(RESULT) is ProRes 4444 with alpha and sound: lay it over anything."
	@$(BIN)/vidmatte info $(RESULT)

setup: .venv/ready-dev

setup-gpu-tests: .venv/ready-gpu-tests

test: .venv/ready-dev
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE)

test-all: .venv/ready-dev
	$(BIN)/python -m pytest -q --slow $(SIDE_BY_SIDE)

check: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

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

# The stamps are newer than what they were made from: a second run installs nothing.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11: name another, as in 'make PYTHON=python3.12'"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "no venv could be made: on Debian and Ubuntu 'apt install python3-venv' brings what it needs"; exit 1; }

.venv/ready: .venv/bin/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e .
	@touch $@

.venv/ready-dev: .venv/bin/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e '.[dev]'
	@touch .venv/ready $@

.venv/ready-gpu-tests: .venv/bin/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e '.[dev,gpu-tests]'
	@touch .venv/ready .venv/ready-dev $@
