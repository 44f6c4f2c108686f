PYTHON ?= python3
BIN := .venv/bin

.PHONY: install install-dev demo test test-slow docs clean

install: .venv/.installed
install-dev: .venv/.installed-dev

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[examples]'
	touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: install
	$(BIN)/python -m examples.batch_size --preset demo

test: install-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m 'not slow'

# Two at a time: some fill memory.
test-slow: install-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 2 -m slow

docs: install-dev
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo docs/_build/index.html

clean:
	rm -rf .venv docs/_build
