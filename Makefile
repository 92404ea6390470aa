# Everything that people and CI run. `make run` and `make test` need Python 3.11 to 3.13 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps

.PHONY: install dev database run settings check-config user-add user-remove user-list test lint bench conformance fuzz lock clean
.DEFAULT_GOAL := run

install: $(VENV)/installed $(BIN)/claude-proxy  ## .venv from the lock and the command claude-proxy in it, and nothing else

$(VENV)/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}: make PYTHON=python3.13 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.lock
	@touch $@

# Works from any folder, and through a link to it from one of PATH.
$(BIN)/claude-proxy: Makefile | $(VENV)/installed
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -P -m claude_proxy "$$@"\n' '$(CURDIR)' '$(CURDIR)/$(BIN)/python' > $@
	@chmod 755 $@

dev: $(VENV)/installed-dev

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	$(PIP) -r requirements-dev.lock
	@touch $@

database: install  ## what DATABASE_URL needs; downloads Prisma's engines and, where there is none, Node
	$(PIP) -r requirements-database.lock
	$(BIN)/python -m claude_proxy.database > $(VENV)/schema.prisma
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/prisma generate --schema $(VENV)/schema.prisma

run: install  ## start the proxy; makes .env and config.yaml when they are missing
	@exec $(BIN)/python -m claude_proxy serve

settings: install  ## print the block for Claude Code's settings.json, with the token in it
	@$(BIN)/python -m claude_proxy settings $(if $(URL),--url '$(URL)')

user-add: install  ## make user-add NAME=anna URL=https://...: a token for a person, shown once; it counts at once
	@$(BIN)/python -m claude_proxy user add "$(NAME)" $(if $(URL),--url '$(URL)')

user-remove: install  ## make user-remove NAME=anna: refuse that token from now on
	@$(BIN)/python -m claude_proxy user remove "$(NAME)"

user-list: install  ## who has a token
	@$(BIN)/python -m claude_proxy user list

check-config: install  ## say what is wrong with .env and config.yaml; CHECK_ARGS=--live asks every model, --offline no host
	@$(BIN)/python -m claude_proxy check $(CHECK_ARGS)

test: dev  ## every test; what this machine lacks is reported as skipped
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install  ## how long choosing a credential takes, beside a naive pool
	@$(BIN)/python -m benchmarks.choose

# TOKEN given to make is in the environment, and so on no command line.
conformance: install  ## what Claude Code expects of a gateway, beside LiteLLM alone: docs/CONFORMANCE.md; or URL=... TOKEN=...
	@$(BIN)/python -m conformance.run $(if $(URL),--url '$(URL)') $(if $(UPSTREAM_PORT),--upstream-port '$(UPSTREAM_PORT)')

SECONDS ?= 60
fuzz: dev  ## look for inputs that break a rule of fuzz/rules.py: make fuzz SECONDS=60, for each target
	@$(BIN)/python -m fuzz --seconds $(SECONDS)

# The locks hold hashes for every platform and name no index. uv is fetched for this alone.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip --disable-pip-version-check install --quiet uv==0.9.11
	$(VENV)-lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--python-version 3.11 pyproject.toml --output-file requirements.lock
	$(VENV)-lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--python-version 3.11 --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(VENV)-lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--python-version 3.11 --group database --no-deps --output-file requirements-database.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-lock .pytest_cache .mypy_cache .ruff_cache
