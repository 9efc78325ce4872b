# The developer's face. Each target installs what it needs into .venv; the second call is quick.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test test-slow bench bench-gpu format clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "limakit needs Python >= 3.11; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/limakit demo --out out/demo

test: $(STAMP)
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile -m 'not slow'

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

# MB=5000 is the size that the claims are about
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python bench/reddit.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/duplicates.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/pick.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/curation.py --mb $(or $(MB),200)
	OMP_NUM_THREADS=1 $(BIN)/python bench/plan.py
	$(BIN)/python bench/training.py
	$(BIN)/python bench/generation.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/judging.py

# under 9 minutes on one CUDA device; writes to bench/results
bench-gpu: $(STAMP)
	$(BIN)/python bench/gpu_training.py

format: $(STAMP)
	$(BIN)/ruff check --fix src tests bench
	$(BIN)/ruff format src tests bench

clean:
	rm -rf .venv out .pytest_cache .mypy_cache .ruff_cache .hypothesis
