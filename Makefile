PYTHON ?= python3.11
VENV := .venv
INSTALLED := $(VENV)/.installed
SOURCES := pyproject.toml constraints.txt $(shell find anchorlab analysis tasks -name '*.py' -o -name '*.html' -o -name '*.css' -o -name '*.js')

.PHONY: demo test lint docs clean

demo: $(INSTALLED)  ## train a memorising and a reasoning network, explain both
	$(VENV)/bin/anchorlab run composite --out runs/demo
	@echo "Open this file in a browser: $(CURDIR)/runs/demo/report.html"

test: $(INSTALLED)  ## run the tests against the installed package
	$(VENV)/bin/pytest

lint: $(INSTALLED)  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p anchorlab

docs: $(INSTALLED)  ## regenerate the pages that come from the code
	$(VENV)/bin/python docs/generate_task_pages.py

clean:
	rm -rf $(VENV) build dist *.egg-info

# torch comes first and alone: otherwise another package's requirement chooses which torch is downloaded.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch
	touch $@

$(VENV)/.dependencies: $(VENV)/.torch pyproject.toml
	$(VENV)/bin/pip install --quiet --constraint constraints.txt '.[dev]'
	touch $@

$(INSTALLED): $(VENV)/.dependencies $(SOURCES)
	rm -rf build
	$(VENV)/bin/pip install --quiet --no-deps --force-reinstall .
	touch $@
