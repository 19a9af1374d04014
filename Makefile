# `make` targets build their own virtual environment in .venv and rebuild it when setup.py changes.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
CPU    := JAX_PLATFORMS=cpu
COUNT  := $(CPU) $(BIN)/python -m pytest --collect-only -qq -m slow tests 2>/dev/null | awk -F': ' 'NF == 2 {n += $$2} END {print n + 0}'

.DEFAULT_GOAL := help
.PHONY: help setup demo offline-demo vla-demo test test-slow lint bench validate-launch clean

help:
	@echo "make setup      install rlx and its tools into $(VENV) (PYTHON=python3.12 picks the interpreter)"
	@echo "make demo       a small scaling-law run on CPU"
	@echo "make offline-demo  point-maze data made here, flow Q-learning on it: under ten minutes"
	@echo "make vla-demo   a robot arm told what to reach for: FAST action tokens against bins, under ten minutes"
	@echo "make test       all tests but the slow ones"
	@echo "make test-slow  the slow tests"
	@echo "make lint       ruff and pyright"
	@echo "make bench      speed of the online loop"
	@echo "make validate-launch  what tpu/ writes, read by SkyPilot, xpk and Kubernetes' schemas (1 GB)"

$(STAMP): setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"rlx needs Python >= 3.11, $(PYTHON) is {v[0]}.{v[1]}. Try: make setup PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing rlx into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

setup: $(STAMP)

demo: setup
	$(BIN)/python -m experiments.scaling_laws --config=configs/scaling_laws.py:demo

offline-demo: setup
	$(BIN)/python -m experiments.offline --agent=fql --task=pointmaze-medium-navigate-singletask-task2-v0 --demo

vla-demo: setup
	$(BIN)/python -m experiments.vla --demo

# Most of the time is compilation, which fewer optimisations halve; slow tests train, they keep all.
test: setup
	$(CPU) XLA_FLAGS="$(XLA_FLAGS) --xla_backend_optimization_level=1" $(BIN)/python -m pytest -n 2 -m "not slow"
	@echo "left for make test-slow: $$($(COUNT)) slow tests"

test-slow: setup
	$(CPU) $(BIN)/python -m pytest -n 2 -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: setup
	$(BIN)/python -m experiments.benchmarks.online

# The tools are large and pin other versions than ours: they get an environment of their own.
LAUNCH_VENV := .venv-launch
LAUNCH_TOOLS := skypilot xpk kubernetes-validate jsonschema pyyaml pytest

$(LAUNCH_VENV)/.installed: Makefile
	@test -x $(LAUNCH_VENV)/bin/python || $(PYTHON) -m venv $(LAUNCH_VENV)
	@$(LAUNCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(LAUNCH_TOOLS)
	@touch $@

validate-launch: $(LAUNCH_VENV)/.installed
	$(LAUNCH_VENV)/bin/python -m pytest -m launch_tools tests/tpu/tools_test.py

clean:
	rm -rf $(VENV) $(LAUNCH_VENV) build dist *.egg-info
