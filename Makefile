# The only commands a person must know. `make run` and `make test` do all the set-up themselves.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MODEL  ?= guide

# Of llama.cpp only the library itself is built: no tools, no server, no image support, no TLS.
# To build for a GPU:  make install CMAKE_ARGS=-DGGML_CUDA=on   (or -DGGML_VULKAN=on, -DGGML_HIP=on …)
LLAMA_OPTIONS := -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

.DEFAULT_GOAL := help
.PHONY: help install run test check format bench model clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/ready  ## set up, then chat with the guide model (MODEL=… for another)
	@$(BIN)/qwenctl run $(MODEL)

test: $(VENV)/ready-dev  ## set up, then run the tests
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

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

install: $(VENV)/ready  ## set up only

model: $(VENV)/ready-dev  ## train the guide model again (needs PyTorch, under an hour on two cores)
	@sh registry/guide/make.sh $(BIN)/python

clean:  ## remove what was built here; models in the store stay
	rm -rf $(VENV) build dist

$(VENV)/ready: pyproject.toml
	@$(PYTHON) scripts/install.py $(VENV) "$(LLAMA_OPTIONS)"
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	@echo "setting up: test tools" >&2
	@$(BIN)/python -m pip install --quiet --group dev >&2
	@touch $@
