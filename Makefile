# make run, make test; `make help` says what else there is.

.DEFAULT_GOAL := help
PYTHON := python3
PORT ?= $(or $(WSBRIDGE_PORT),8004)

venv := .venv
bin := $(venv)/bin
made := $(venv)/.made
installed := $(venv)/.installed
tools := $(venv)/.tools
pip := $(bin)/python -m pip --disable-pip-version-check --quiet

# What a shell may have set for other Pythons, and what would send an installation elsewhere than into $(venv).
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
# tox installs with the pip that the locked virtualenv brings, not with a later one.
export VIRTUALENV_NO_PERIODIC_UPDATE := 1

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do \
	    printf 'make %-14s %s\n' "$$name" "$$text"; done

.PHONY: run
run: $(installed) ## the bridge in development mode on 127.0.0.1:8004; PORT=9000 for another port
	@exec env WSBRIDGE_HOST=127.0.0.1 WSBRIDGE_PORT=$(PORT) WSBRIDGE_INTERNAL_PORT= WSBRIDGE_AUTH=none \
	    WSBRIDGE_DRAIN_TIMEOUT=1 WSBRIDGE_LOG_FORMAT=console APP_API_TOKEN= $(bin)/wsbridge serve

.PHONY: test
test: $(tools) ## lint, types, the browser client, and all tests on each Python that is there
	$(bin)/tox run

.PHONY: newest
newest: $(tools) ## some tests with the newest of everything, instead of the locked versions that all others have
	$(bin)/tox run -e newest

.PHONY: chaos
chaos: $(tools) ## two minutes of faults while events flow; SEED=7 for the same ones, SECONDS=60 for fewer
	$(bin)/tox run -e chaos -- $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: siege
siege: $(tools) ## two minutes of 5,000 good clients among bad peers of every kind; SHORT=1 for a twentieth of it
	$(bin)/tox run -e siege -- $(if $(SHORT),--short)

.PHONY: fuzz
fuzz: $(tools) ## two minutes of inputs that nobody would send, for every parser; SECONDS=3600 for more
	$(bin)/tox run -e fuzz -- --seconds $(or $(SECONDS),120) $(TARGETS)

.PHONY: e2e
e2e: $(tools) ## the real chain: Kafka, Dapr's sidecars, two bridges, Redis, Chromium; needs Go, Java and Maven once
	$(bin)/tox run -e e2e

.PHONY: bench
bench: $(tools) ## how late events are and how fast they go, with several subscriptions; as e2e, and a quiet machine
	$(bin)/tox run -e bench

.PHONY: screenshots
screenshots: $(tools) ## the pictures of the demo page in docs; needs chromium
	$(bin)/tox run -e screenshots

lock := $(bin)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
    --no-emit-index-url --custom-compile-command 'make requirements' --output-file

.PHONY: requirements
requirements: $(tools) ## requirements.txt and requirements/ anew, with hashes, from pyproject.toml
	$(lock) requirements.txt pyproject.toml
	$(lock) requirements/test.txt --constraints requirements.txt --group types pyproject.toml
	$(lock) requirements/build.txt --constraints requirements/test.txt --group build
	$(lock) requirements/tools.txt --group tools
	$(lock) requirements/fuzz.txt --constraints requirements/test.txt --group fuzz pyproject.toml

.PHONY: clean
clean: ## remove what was built and installed here
	rm -rf $(venv) .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* build dist \
	    client/node_modules client/types
	find wsbridge tests -name __pycache__ -type d -exec rm -rf {} +

$(installed): requirements.txt requirements/build.txt pyproject.toml | $(made)
	@echo 'installing into $(venv)'
	@$(pip) install --require-hashes -r requirements.txt -r requirements/build.txt
	@$(pip) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(tools): requirements/tools.txt | $(made)
	@$(pip) install --require-hashes -r requirements/tools.txt
	@touch $@

# Marked only when it is complete: without Debian's python3-venv a python is there, but no pip.
$(made):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "wsbridge needs Python 3.11 or newer, and $(PYTHON) --version says '$$($(PYTHON) --version 2>&1)': name another," \
	        'such as make run PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(venv)
	@touch $@
