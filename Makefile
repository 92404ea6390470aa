# All commands for users, developers and CI. `make run` and `make test` need Python 3.11 to 3.13 and nothing else.
PYTHON ?= python3
VENV := $(if $(LITELLM),.venv-litellm-$(LITELLM),.venv)
BIN := $(VENV)/bin
INSTALL := -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps
PIP := $(BIN)/python $(INSTALL)
# uv installs the same packages several times faster; both check the hashes of the lock. uv has an index configuration of its
# own (UV_DEFAULT_INDEX, uv.toml) and does not read pip's: where it fails, pip tries.
UV := $(shell command -v uv 2>/dev/null)
export UV_COMPILE_BYTECODE ?= 1
# Installs what a lock holds, for $(BIN) or for the Python that is named second. A third word leaves bytecode out.
packages = @count="$$(grep -c '^[^ \#].*==' $(1)) packages"; [ "$$count" != "1 packages" ] || count=pip; \
	if [ -n "$(UV)" ]; then \
		echo "Installing $$count with uv ..."; \
		$(if $(3),UV_COMPILE_BYTECODE=0 )"$(UV)" pip install --quiet --python $(or $(2),$(BIN)/python) --require-hashes --no-deps -r $(1) && exit 0; \
		echo "uv did not install them. Trying pip, which has an index configuration of its own."; \
	fi; \
	$(or $(2),$(BIN)/python) -m pip --version > /dev/null 2>&1 || $(or $(2),$(BIN)/python) -m ensurepip > /dev/null; \
	echo "Installing $$count with pip$(if $(UV),, (uv would be faster)) ..."; \
	$(or $(2),$(BIN)/python) $(INSTALL) $(if $(3),--no-compile) -r $(1)
COMMA := ,
TOOLS := .venv-tools
DEPLOY := .venv-deploy
COMPILE := $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links
# With LITELLM=1.108.8 both locks are one, made for that release.
LOCK := $(if $(LITELLM),$(VENV).lock,requirements.lock)
DEV_LOCK := $(if $(LITELLM),$(VENV).lock,requirements-dev.lock)

.PHONY: install dev database run settings check-config user-add user-remove user-list test lint bench conformance soak simulate screenshots fuzz sbom \
	scan lock clean lint-deploy manifest help backup restore
.DEFAULT_GOAL := run

# The comments behind ## in this file, in eighty columns. Needs nothing that is installed.
help:  ## show this list
	@awk -F '  ## ' '/^[a-z-]+:.*  ## / { \
		split($$1, name, ":"); line = sprintf("%-13s", name[1]); n = split($$2, words, " "); \
		for (i = 1; i <= n; i++) { \
			if (length(line) + length(words[i]) > 78) { print line; line = sprintf("%-13s", "") } \
			line = line " " words[i] } \
		print line }' $(firstword $(MAKEFILE_LIST))

install: $(VENV)/installed $(BIN)/claude-proxy  ## create .venv with the packages of the lock, and the command claude-proxy in it

# pip comes with Python at a version of its own, and so may setuptools: the first is replaced by the locked one, the other goes.
$(VENV)/installed: $(LOCK) requirements-installer.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}: make PYTHON=python3.13 ...")'
	@test -x $(BIN)/python || { echo "Making $(VENV) with $$($(PYTHON) --version) ..."; $(PYTHON) -m venv $(if $(UV),--without-pip) $(VENV); }
	$(call packages,requirements-installer.lock)
	@$(BIN)/python -m pip --quiet --quiet uninstall --yes setuptools
	$(call packages,$(LOCK))
	@touch $@

# Works from any folder, and through a link to it from one of PATH.
$(BIN)/claude-proxy: Makefile | $(VENV)/installed
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -P -m claude_proxy "$$@"\n' '$(CURDIR)' '$(CURDIR)/$(BIN)/python' > $@
	@chmod 755 $@

dev: $(VENV)/installed-dev  ## install what the tests need

$(VENV)/installed-dev: $(DEV_LOCK) $(VENV)/installed
	$(call packages,$(DEV_LOCK))
	@touch $@

# Tools in environments of their own, which the proxy never sees. They run seldom: bytecode is compiled when it is needed.
$(TOOLS)/installed $(DEPLOY)/installed: .venv-%/installed: requirements-%.lock requirements-installer.lock
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv $(if $(UV),--without-pip) .venv-$*
	$(call packages,requirements-installer.lock,.venv-$*/bin/python,seldom)
	@.venv-$*/bin/python -m pip --quiet --quiet uninstall --yes setuptools
	$(call packages,requirements-$*.lock,.venv-$*/bin/python,seldom)
	@touch $@

# What the pinned release does not need another version of stays as it is locked. WITH replaces a requirement that cannot be had.
.venv-litellm-%.lock: requirements.lock requirements-dev.lock $(TOOLS)/installed
	@$(PYTHON) -c 'from claude_proxy.guard import require; require("$*")'
	@printf '%s\n' 'litellm[proxy]==$*' $(WITH) > $@.override
	@cat requirements.lock requirements-dev.lock > $@.new
	$(COMPILE) --override $@.override --group dev pyproject.toml --output-file $@.new > $@.log
	@mv $@.new $@ && rm $@.override $@.log

database: install  ## install what DATABASE_URL needs; downloads Prisma's engines, and Node if there is none
	$(PIP) -r requirements-database.lock
	$(BIN)/python -m claude_proxy.litellm.database > $(VENV)/schema.prisma
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/prisma generate --schema $(VENV)/schema.prisma

run: install  ## start the proxy; creates .env and config.yaml if they are missing
	@exec $(BIN)/python -m claude_proxy serve

settings: install  ## print the settings for Claude Code, with the token; URL=https://... for another address, FORMAT=vscode, shell, fish, powershell, python, typescript or github for another program
	@$(BIN)/python -m claude_proxy settings $(if $(URL),--url '$(URL)') $(if $(FORMAT),--format '$(FORMAT)')

user-add: install  ## add a user: make user-add NAME=anna URL=https://...; prints the token once
	@$(BIN)/python -m claude_proxy user add "$(NAME)" $(if $(URL),--url '$(URL)')

user-remove: install  ## remove a user: make user-remove NAME=anna
	@$(BIN)/python -m claude_proxy user remove "$(NAME)"

user-list: install  ## list the users
	@$(BIN)/python -m claude_proxy user list

# A passphrase that nobody can type is reported before anything is installed. A backup without secrets needs none.
BACKUP := '$(or $(FILE),claude-proxy.backup)' $(if $(PASSPHRASE_FILE),--passphrase-file '$(PASSPHRASE_FILE)')
passphrase = $(if $(PASSPHRASE_FILE),,@$(1) ( : <> /dev/tty ) 2> /dev/null || \
	{ echo "There is no terminal to ask for the passphrase: add PASSPHRASE_FILE=FILE, whose first line is the passphrase." >&2; exit 1; })

backup:  ## write everything that a new machine needs into one file: make backup FILE=claude-proxy.backup; PASSPHRASE_FILE=FILE instead of asking
	$(call passphrase)
	@$(MAKE) --no-print-directory install
	@$(BIN)/python -m claude_proxy backup $(BACKUP)

restore:  ## restore a backup: make restore FILE=claude-proxy.backup; PASSPHRASE_FILE=FILE instead of asking
	$(call passphrase,! head -n 1 '$(or $(FILE),claude-proxy.backup)' | grep -aq '^claude-proxy backup$(COMMA) encrypted' ||)
	@$(MAKE) --no-print-directory install
	@$(BIN)/python -m claude_proxy restore $(BACKUP)

check-config: install  ## find errors in .env and config.yaml; CHECK_ARGS=--live sends a request to every model, CHECK_ARGS=--offline connects to no host
	@$(BIN)/python -m claude_proxy check $(CHECK_ARGS)

test: dev  ## run every test, and report those skipped because a program is missing; LITELLM=1.108.8 tests with another release of LiteLLM
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: dev  ## check the style and the types of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Nothing of this asks another machine, and no cluster is needed.
lint-deploy: $(DEPLOY)/installed  ## check the Helm chart, the manifest, the workflows and the compose file
	$(DEPLOY)/bin/yamllint --strict --config-file deploy/yamllint.yaml .github docker-compose.yml deploy/kubernetes \
		deploy/helm/claude-proxy/Chart.yaml deploy/helm/claude-proxy/values.yaml deploy/helm/claude-proxy/ci \
		deploy/prometheus-rules.yml deploy/yamllint.yaml
	$(DEPLOY)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(DEPLOY)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(DEPLOY)/bin/zizmor --offline --no-progress --persona auditor .github/workflows
	$(DEPLOY)/bin/python deploy/manifests.py check

manifest: $(DEPLOY)/installed  ## write deploy/kubernetes/claude-proxy.yaml from the chart; IMAGE=NAME for another image
	@$(DEPLOY)/bin/python deploy/manifests.py write $(if $(IMAGE),--image '$(IMAGE)')

bench: install  ## measure this proxy beside LiteLLM alone: docs/BENCHMARKS.md; PEERS=1 adds other proxies from npm, SWITCHES=1 measures each switch of the server, WATCHED=1 the history and the open page
	@$(BIN)/python -m $(if $(SWITCHES),benchmarks.switches,$(if $(WATCHED),benchmarks.watched --write,benchmarks.run --output docs/BENCHMARKS.md $(if $(PEERS),--peers) $(BENCH_ARGS)))

# Two cores are enough; what else runs on them shows in the latencies.
soak: install  ## run streams through one worker for a long time, then floods: make soak MINUTES=10 STREAMS=200 writes docs/LOAD.md; WORKERS=2 and REPLICAS=2, with a Redis of its own
	@$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),10) --streams $(or $(STREAMS),200) \
		--workers $(or $(WORKERS),1) --replicas $(or $(REPLICAS),1) --write

simulate: install  ## simulate a week of forty users on 5 and on 20 accounts: docs/SIMULATION.md
	@$(BIN)/python -m benchmarks.simulate --write

# TOKEN given to make is in the environment, and so on no command line.
conformance: install  ## test what Claude Code expects of a gateway: docs/CONFORMANCE.md; URL=... TOKEN=... test another one
	@$(BIN)/python -m conformance.run $(if $(URL),--url '$(URL)') $(if $(UPSTREAM_PORT),--upstream-port '$(UPSTREAM_PORT)')

# Needs Chromium, Node and PostgreSQL; PICTURE=page, all views of /pool, only Chromium. PICTURE=history makes one of them.
screenshots: dev  ## the pictures in docs/screenshots: the page /pool, and what a user of Claude Code sees for each error
	@$(BIN)/python tests/e2e/screenshots/make.py $(PICTURE)

SECONDS ?= 60
fuzz: dev  ## search for inputs that break a rule of fuzz/rules.py: make fuzz SECONDS=60, for each target
	@$(BIN)/python -m fuzz --seconds $(SECONDS)

sbom: install $(TOOLS)/installed  ## write sbom.json, the packages in .venv as CycloneDX; the image has its own, /app/sbom.json
	@$(PIP) --dry-run --ignore-installed --report $(VENV)/report.json -r $(LOCK)
	@$(TOOLS)/bin/python deploy/sbom.py --python $(BIN)/python --report $(VENV)/report.json > sbom.json.new
	@mv sbom.json.new sbom.json

# pip-audit asks for the packages of every lock, and fails where there is no answer about one. SBOM=FILE, the image's
# /app/sbom.json, lists what is known of its Debian packages; there always is something, so that is for a person to read.
scan: $(TOOLS)/installed  ## find known vulnerabilities in what is installed; sends requests to databases on the internet
	$(TOOLS)/bin/hadolint Dockerfile
	@for lock in requirements.lock requirements-database.lock requirements-tools.lock requirements-deploy.lock \
		requirements-installer.lock; do \
		$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off $(AUDIT_ARGS) -r $$lock || exit 1; done
	$(if $(SBOM),$(TOOLS)/bin/debsbom sec-scan -t cdx --db $(TOOLS)/debian.json $(if $(DEBIAN),--tracker $(DEBIAN)) --update-db $(SBOM))

# The locks hold hashes for every platform and name no index.
lock: $(TOOLS)/installed  ## write the lock files again from pyproject.toml
	$(COMPILE) pyproject.toml --output-file requirements.lock
	$(COMPILE) --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE) --group database --no-deps --output-file requirements-database.lock
	$(COMPILE) --group tools --output-file requirements-tools.lock
	$(COMPILE) --group deploy --output-file requirements-deploy.lock
	$(COMPILE) --group installer --output-file requirements-installer.lock

clean:  ## remove what was installed here
	rm -rf .venv .venv-litellm-* .venv-tools .venv-deploy sbom.json .pytest_cache .mypy_cache .ruff_cache
