# What a checkout promises: `make generate PROMPT="..."` and `make test`. `make help` lists the rest.

PYTHON ?= python3
PROMPT ?= a grinning cat
export PROMPT SEED

VENV := .venv
BIN := $(VENV)/bin
# Bytecode of what is imported, in one place. Without it a start takes twice as long; that of what is never imported
# would take a quarter of the space.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/bytecode
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile --constraint constraints.txt

# Markers of tests that run on request, or in a process of their own.
APART := slow or gpu or wheel or openvino or triton or cpp or browser

.DEFAULT_GOAL := help
.PHONY: help generate test test-more test-all compat lint wheel docs pictures constraints bench clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

generate: $(VENV)/.runtime  ## draw PROMPT (SEED=7 repeats a picture, ARGS="-n 4 --show" adds options)
	@$(BIN)/pahi-rt generate $${SEED:+--seed "$$SEED"} $(ARGS) -- "$$PROMPT"

test: $(VENV)/.test  ## the fast suite, some minutes (ARGS="-m slow" for the slow tests alone)
	$(BIN)/python -m pytest $(or $(ARGS),-n 2 --dist loadfile)

test-more: $(VENV)/.dev $(VENV)/.triton $(VENV)/.cpp $(VENV)/.npm  ## what test leaves out: exports, trainings, OpenVINO, Triton, C, browser
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "full and not ($(APART))"
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "openvino and not slow"
	$(BIN)/python -m pytest -m "triton and not slow"
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "cpp and not slow"
	$(BIN)/python -m pytest -m "browser and not slow"

test-all: test test-more  ## both

compat: $(VENV)/.dev  ## the runtime's tests with its oldest and newest dependencies (PYTHONS="3.10 3.13")
	@tests/compat.sh $(VENV)/compat $(PYTHONS)

lint: $(VENV)/.dev  ## ruff, formatting, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

wheel: $(VENV)/.dev  ## build the wheel, install it alone and use it
	$(BIN)/python -m pytest -m wheel

docs: $(VENV)/.docs $(VENV)/.npm  ## the documentation as a site, into build/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet  # it praises its successor otherwise
	@$(BIN)/pahi-rt embed web emoji -o build/docs/playground-site --force --packages $(VENV)/npm >/dev/null
	@echo "look at it: python3 -m http.server --directory build/docs" >&2

pictures: $(VENV)/.dev $(VENV)/.npm  ## draw again every picture that the documentation shows
	@$(BIN)/pahi-rt bench pairs -o docs/pairs.png
	@$(BIN)/python -m tools.record
	@$(BIN)/python -m tools.screenshot

constraints: $(VENV)/.dev  ## resolve constraints.txt again; a line that is deleted first gets the newest version
	@sed -n '/^#/p' constraints.txt > constraints.head
	@printf 'resvg-py>=0.5\ninflect>=7\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --extra dev \
		--no-annotate --no-header --output-file constraints.txt pyproject.toml -
	@cat constraints.head constraints.txt > constraints.new && mv constraints.new constraints.txt && rm constraints.head

bench: $(VENV)/.runtime  ## time the embedded model on this machine
	$(BIN)/pahi-rt bench latency $(ARGS)

clean:  ## remove .venv and what was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the runtime into $(VENV) ..." >&2
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.test: pyproject.toml emoji_model/pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what the tests need into $(VENV) ..." >&2
	@$(INSTALL) --editable '.[test]' --editable ./emoji_model
	@touch $@ $(VENV)/.runtime

$(VENV)/.dev: pyproject.toml emoji_model/pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the development tools into $(VENV) ..." >&2
	@$(INSTALL) --editable '.[dev]' --editable ./emoji_model
	@touch $@ $(VENV)/.runtime $(VENV)/.test

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing MkDocs into $(VENV) ..." >&2
	@$(INSTALL) --editable '.[docs]'
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
