# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Without bytecode every process that a test starts would compile our sources again.
unexport PYTHONDONTWRITEBYTECODE
# As many tests run at a time as there are cores: threads of their own would wait for each other.
unit system: export OMP_NUM_THREADS := 1
unit system: export OPENBLAS_NUM_THREADS := 1
unit system: export MKL_NUM_THREADS := 1

.PHONY: help demo test check format unit system protobuf clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("sordino needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing sordino into $(VENV) (a few minutes, once)"
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/ready-for-tests: $(VENV)/ready
	@echo "installing what the tests need"
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/ready ## four hospitals train one model on this machine
	@$(BIN)/sordino demo

test: check unit system ## everything: style, types, layers, tests

check: $(VENV)/ready-for-tests ## style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

unit: $(VENV)/ready-for-tests ## tests in one process each
	$(BIN)/pytest -m "not system" -n auto --dist worksteal

system: $(VENV)/ready-for-tests ## tests that start federations of real processes, two files at a time
	$(BIN)/pytest -m system -n 2 --dist loadfile --no-loadscope-reorder

format: $(VENV)/ready-for-tests ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protobuf: $(VENV)/ready-for-tests ## generate the gRPC code again
	cd protocols && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. sordino_protocols/site.proto sordino_protocols/gateway.proto

clean: ## remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
