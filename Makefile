# The README's two commands are `make generate PROMPT="..."` and `make test`; .ci/run calls test, lint and wheel.

PYTHON ?= python3
PROMPT ?= a grinning cat
export PROMPT SEED

VENV := .venv
BIN := $(VENV)/bin
# Bytecode of what is never imported would take a quarter of the space.
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile --constraint constraints.txt

.PHONY: generate test compat lint wheel bench clean

generate: $(VENV)/.runtime  ## draw PROMPT (SEED=7 repeats a picture, ARGS="-n 4 --show" adds options)
	@$(BIN)/pahi-rt generate $${SEED:+--seed "$$SEED"} $(ARGS) -- "$$PROMPT"

test: $(VENV)/.dev $(VENV)/.triton $(VENV)/.cpp $(VENV)/.npm  ## run the test suite (ARGS="-m slow" for the slow ones)
	$(if $(ARGS),$(BIN)/python -m pytest $(ARGS),OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile)
	$(if $(ARGS),,$(BIN)/python -m pytest -m "openvino and not slow")
	$(if $(ARGS),,$(BIN)/python -m pytest -m "triton and not slow")
	$(if $(ARGS),,$(BIN)/python -m pytest -m "cpp and not slow")
	$(if $(ARGS),,$(BIN)/python -m pytest -m "browser and not slow")

compat: $(VENV)/.dev  ## run the runtime's tests with its oldest and newest dependencies (PYTHONS="3.10 3.13")
	@tests/compat.sh $(VENV)/compat $(PYTHONS)

lint: $(VENV)/.dev  ## ruff, formatting, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

wheel: $(VENV)/.dev  ## build the wheel, install it alone and use it
	$(BIN)/python -m pytest -m wheel

bench: $(VENV)/.runtime  ## time the embedded model on this machine
	$(BIN)/pahi-rt bench latency $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the runtime into $(VENV) ..." >&2
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml emoji_model/pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the development tools into $(VENV) ..." >&2
	@$(INSTALL) --editable '.[dev]' --editable ./emoji_model
	@touch $@ $(VENV)/.runtime

# Built for x86 Linux and numpy 1, which Python 3.13 has no wheels of; without it its tests are skipped.
$(VENV)/.triton: pyproject.toml | $(BIN)/python
	@echo "installing Triton's server into $(VENV)/triton ..." >&2
	@$(PYTHON) -m venv $(VENV)/triton
	@$(VENV)/triton/bin/python -m pip install -qq --disable-pip-version-check --no-compile nvidia-pytriton==0.7.0 --editable . \
		|| { echo "Triton's server cannot be installed here" >&2; rm -rf $(VENV)/triton; }
	@touch $@

# Packages of Debian and wheels, unpacked; where there are none, the tests that need them are skipped.
$(VENV)/.cpp: tests/cpp/fetch.sh tests/cpp/fetch_tensorrt.sh | $(BIN)/python
	@echo "fetching headers into $(VENV)/cpp ..." >&2
	@tests/cpp/fetch.sh $(VENV)/cpp || { echo "no headers for the C library here" >&2; rm -rf $(VENV)/cpp; }
	@tests/cpp/fetch_tensorrt.sh $(VENV)/nvidia $(abspath $(BIN)/python) \
		|| { echo "no headers of TensorRT here" >&2; rm -rf $(VENV)/nvidia; }
	@touch $@

# What `pahi-rt embed web` and the tests in a browser take from npm; where there is no npm, those tests are skipped.
$(VENV)/.npm: tests/playground/fetch.sh | $(BIN)/python
	@echo "fetching packages of npm into $(VENV)/npm ..." >&2
	@tests/playground/fetch.sh $(VENV)/npm || { echo "no packages of npm here" >&2; rm -rf $(VENV)/npm; }
	@touch $@
