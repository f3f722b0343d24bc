# The only commands a person must know. `make run` and `make test` do all the set-up themselves.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MODEL  ?= guide
LATEST := Q8_0

# To build llama.cpp for a GPU:  make install CMAKE_ARGS=-DGGML_CUDA=on   (or -DGGML_VULKAN=on, -DGGML_HIP=on …)
export CMAKE_ARGS

.DEFAULT_GOAL := help
.PHONY: help install run test generate pictures check format bench model clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/ready  ## set up, then chat with the guide model (MODEL=… for another)
	@$(BIN)/qwenctl run $(MODEL)

test: $(VENV)/ready-dev  ## set up, then run the tests (SLOW=1 for the long ones too)
	@$(BIN)/python -m pytest $(if $(SLOW),,-m "not slow") $(PYTEST_ARGS)

generate: $(VENV)/ready-dev  ## make completions, the man page and the JSON Schemas from the commands
	@$(BIN)/python scripts/generate.py

pictures: $(VENV)/ready-dev  ## draw docs/pictures anew, from the program in a terminal
	@$(BIN)/python scripts/pictures.py

check: $(VENV)/ready-dev  ## format, lint, types, architecture
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py

format: $(VENV)/ready-dev  ## let ruff rewrite the sources
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/ready-dev  ## benchmarks, each with its ratios
	@$(BIN)/python bench/startup.py
	@$(BIN)/python -m bench.memory
	@$(BIN)/python -m bench.transfer

install: $(VENV)/ready  ## set up only

model: $(VENV)/ready-dev  ## train the guide model again (needs PyTorch, under an hour on two cores)
	@$(BIN)/python -m pip install --quiet --requirement registry/guide/requirements.txt >&2
	@$(BIN)/python registry/guide/make_model.py build/guide
	@$(BIN)/python registry/guide/pack.py build/guide $(LATEST)

clean:  ## remove what was built here; models in the store stay
	rm -rf $(VENV) build dist

$(VENV)/ready: pyproject.toml
	@$(PYTHON) scripts/install.py $(VENV)
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	@echo "setting up: test tools" >&2
	@$(BIN)/python -m pip install --quiet --group dev >&2
	@touch $@
