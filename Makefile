PYTHON ?= python3.11
WHEELS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/anchorlab/wheels

WORKERS ?= $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')

VENV := .venv
PIP := $(VENV)/bin/pip --quiet --disable-pip-version-check
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/pytest --dist loadfile --no-loadscope-reorder
OFFLINE := --no-index --find-links $(WHEELS) --no-build-isolation
DOWNLOADED := $(WHEELS)/$(shell cat constraints.txt pyproject.toml | $(PYTHON) -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])').complete
SOURCES := $(shell find anchorlab analysis pretrained_probe tasks -type f -not -name '*.pyc')

.PHONY: demo test test-slow smoke lint docs clean

demo: $(VENV)/.installed  ## train a memorising and a reasoning network, explain both
	$(VENV)/bin/anchorlab run composite --out runs/demo
	@echo "Open this file in a browser: $(CURDIR)/runs/demo/report.html"

test: $(VENV)/.installed  ## run the fast tests against the installed package
	$(PYTEST) -n $(WORKERS)

# One more worker than cores: these tests wait for processes that they start or kill.
test-slow: $(VENV)/.installed  ## run the tests that are marked as slow
	$(PYTEST) -n $$(($(WORKERS) + 1)) -m slow

smoke: $(VENV)/.installed  ## every reproduction at its smallest scale
	rm -rf build/smoke
	$(VENV)/bin/anchorlab reproduce all --scale smoke --out build/smoke

lint: $(VENV)/.installed  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p anchorlab

docs: $(VENV)/.installed  ## regenerate the pages that are made from the code
	$(VENV)/bin/python docs/generate_task_pages.py
	$(VENV)/bin/python docs/generate_results.py

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Everything is downloaded once and installed from there, so that a new environment needs no network. torch comes first:
# another package's requirement must not choose which build of it is fetched.
$(DOWNLOADED): | $(VENV)/bin/python
	mkdir -p $(WHEELS)
	$(PIP) download --dest $(WHEELS) --constraint constraints.txt torch
	$(PIP) download --dest $(WHEELS) --constraint constraints.txt --find-links $(WHEELS) '.[dev]'
	rm -f $(WHEELS)/anchorlab-*
	touch $@

$(VENV)/.dependencies: $(VENV)/bin/python $(DOWNLOADED)
	$(PIP) install $(OFFLINE) --constraint constraints.txt setuptools
	$(PIP) install $(OFFLINE) --constraint constraints.txt '.[dev]'
	touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	rm -rf build
	$(PIP) install $(OFFLINE) --no-deps --force-reinstall .
	touch $@
