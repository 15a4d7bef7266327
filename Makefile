# All that is needed beforehand: make, pip and Python 3.11 or newer (`make PYTHON=python3.12 setup` takes another one).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test lint clean

# The stamp is newer than both files while nothing has changed: then this takes no time.
setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3 setup" >&2; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m compileall -q -q -j 0 .venv/lib || true  # by all cores: pip would take one; some files are for other Pythons
	@touch $@

demo: setup
	$(BIN)/trilemma compare digits

test: setup
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find trilemma tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
