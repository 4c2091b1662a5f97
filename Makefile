# Everything a new machine needs is CPython >= 3.11: each target sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo test test-slow lint format docs bench clean

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: setup          ## the main job: coupled-cluster phonons of boron nitride from the shipped labels
	$(BIN)/python -m mlffx.demo

test: setup
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: setup     ## also what takes minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup          ## the site, into site/
	$(BIN)/python -m mkdocs build --quiet

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv runs multirun
