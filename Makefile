# make run, make test; `make help` says what else there is.

.DEFAULT_GOAL := help
PYTHON := python3
PORT := 8004

venv := .venv
bin := $(venv)/bin
installed := $(venv)/.installed
pip := $(bin)/python -m pip --disable-pip-version-check --quiet
wsbridge := $(CURDIR)/$(bin)/wsbridge
wsbridge := $(if $(word 2,$(wsbridge)),'$(wsbridge)',$(wsbridge))
bridge := http://127.0.0.1:$(PORT)

# What a shell may have set for other Pythons, and what would send an installation elsewhere than into $(venv).
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do \
	    printf 'make %-14s %s\n' "$$name" "$$text"; done

.PHONY: run
run: $(installed) ## the bridge in development mode on 127.0.0.1:8004; PORT=9000 for another port
	@printf '%s\n' \
	    '' \
	    'Open   $(bridge)/' \
	    '' \
	    'or type, in another terminal:' \
	    '' \
	    "  $(wsbridge) listen --user alice$(url_ws)" \
	    "  $(wsbridge) publish --user alice task.created title='Buy milk'$(url_http)" \
	    '' \
	    'or, with curl instead of the command line:' \
	    '' \
	    "  curl $(bridge)/events/task-updates -H 'content-type: application/json' \\" \
	    "    -d '{\"event_type\":\"task.created\",\"user_id\":\"alice\",\"title\":\"Buy milk\"}'" \
	    '' \
	    'Ctrl-C ends it.' \
	    ''
	@exec env WSBRIDGE_HOST=127.0.0.1 WSBRIDGE_PORT=$(PORT) WSBRIDGE_INTERNAL_PORT= WSBRIDGE_AUTH=none \
	    WSBRIDGE_DRAIN_TIMEOUT=1 APP_API_TOKEN= $(bin)/wsbridge serve

# The command line finds the bridge by itself on the default port only.
ifneq ($(PORT),8004)
url_ws := $() --url ws://127.0.0.1:$(PORT)/ws
url_http := $() --url $(bridge)
endif

.PHONY: test
test: $(bin)/tox ## lint, types, the browser client, and all tests on each Python that is there
	$(bin)/tox run

.PHONY: chaos
chaos: $(bin)/tox ## two minutes of faults while events flow; SEED=7 for the same ones, SECONDS=60 for fewer
	$(bin)/tox run -e chaos -- $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: siege
siege: $(bin)/tox ## two minutes of 5,000 good clients among bad peers of every kind; SHORT=1 for a twentieth of it
	$(bin)/tox run -e siege -- $(if $(SHORT),--short)

.PHONY: e2e
e2e: $(bin)/tox ## the real chain: Kafka, Dapr's sidecars, two bridges, Redis, Chromium; needs Go, Java and Maven once
	$(bin)/tox run -e e2e

.PHONY: bench
bench: $(bin)/tox ## how late events are and how fast they go, with several subscriptions; as e2e, and a quiet machine
	$(bin)/tox run -e bench

.PHONY: screenshots
screenshots: $(bin)/tox ## the pictures of the demo page in docs; needs chromium
	$(bin)/tox run -e screenshots

.PHONY: requirements
requirements: $(bin)/uv ## requirements.txt anew, with hashes, from pyproject.toml
	$(bin)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --no-emit-index-url --custom-compile-command 'make requirements' pyproject.toml --output-file requirements.txt

.PHONY: clean
clean: ## remove what was built and installed here
	rm -rf $(venv) .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* build dist \
	    client/node_modules client/types
	find wsbridge tests -name __pycache__ -type d -exec rm -rf {} +

$(installed): requirements.txt pyproject.toml | $(bin)/python
	@echo 'installing into $(venv)'
	@$(pip) install --require-hashes -r requirements.txt
	@$(pip) install --no-deps --editable .
	@touch $@

$(bin)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "wsbridge needs Python 3.11 or newer, and $(PYTHON) --version says '$$($(PYTHON) --version 2>&1)': name another," \
	        'such as make run PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(venv)

$(bin)/tox: | $(bin)/python
	@$(pip) install 'tox>=4.67'

$(bin)/uv: | $(bin)/python
	@$(pip) install uv
