# Each target builds .venv by itself; Python 3.11 or newer and git are all that must be there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# nproc itself heeds OMP_NUM_THREADS, which is for the threads within a process.
JOBS ?= $(shell env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-kernels check format clean

demo: .venv/ready
	$(BIN)/python scripts/demo.py

# Tests of a file stay together until a process has none left, for many share what a run has made.
test: .venv/ready test-kernels
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=worksteal

# Triton reads the variable once and then either interprets its kernels on the CPU or compiles them, so these are two
# processes beside that of the other tests. Without Triton the first tests no kernel, and the second says so.
test-kernels: .venv/ready
	TRITON_INTERPRET=1 $(BIN)/python -m pytest --numprocesses=$(JOBS) tests/test_kernels.py tests/test_kernels_fused.py
	$(BIN)/python -m pytest --numprocesses=$(JOBS) tests/aot.py

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_house.py tests/test_registry.py tests/test_config.py

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch and torchvision are installed in one command and without local wheels, so that they are one pair from PyPI.
.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	PIP_FIND_LINKS= $(BIN)/python -m pip install --quiet --disable-pip-version-check torch torchvision --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
