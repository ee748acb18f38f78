# Each target is one line of a real command; `make` alone lists them.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
MANAGE := $(BIN)/python manage.py
DATABASE := $(if $(DB),--db $(DB))
# Many tests wait for real processes: more at a time than there are processors.
PARALLEL := -n 4 --dist loadscope
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help setup up demo bench figures chaos test faults mutants check lint format types contracts \
	migrations deploy requirements clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install the pinned packages

$(STAMP): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Gnomon needs Python 3.11 or later; $(PYTHON) is not one." \
			"Name another: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments." \
			"On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@touch $@

up: setup ## start the whole platform here; DB=postgres for PostgreSQL
	@$(MANAGE) up $(DATABASE) $(ARGS)

demo: setup ## run the demo tasks to their ends and show how they ended; DB=postgres
	@$(MANAGE) demo $(DATABASE) $(ARGS)

bench: setup ## measure the platform beside its peers; ARGS=--help
	@$(MANAGE) bench $(ARGS)

figures: setup ## measure all in full, for docs/benchmarks.md; ARGS="throughput ..." for a part
	@$(MANAGE) bench --full --peers --docs docs $(or $(ARGS),all)

chaos: setup ## break a whole platform on purpose for a minute, and verify its ledger
	@$(MANAGE) chaos --seconds 60 $(ARGS)

test: setup ## run all tests but the fault tests, on SQLite and on PostgreSQL
	$(BIN)/python -m pytest --db sqlite -m "not fault" $(PARALLEL)
	$(BIN)/python -m pytest --db postgres -m "not fault" $(PARALLEL)

faults: setup ## kill and freeze real processes and servers, on PostgreSQL
	$(BIN)/python -m pytest --db postgres -m fault $(PARALLEL)
	$(BIN)/python -m pytest --db sqlite -m fault tests/scheduler_project/chaos

mutants: setup ## take out one safeguard at a time: the suite has to see each
	$(BIN)/python -m tests.mutants $(ARGS)

check: lint types contracts migrations deploy test faults ## all that has to pass

lint: setup ## style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: setup ## put the code into its format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: setup ## mypy
	$(BIN)/mypy .

contracts: setup ## who may import whom
	$(BIN)/lint-imports

migrations: setup
	$(MANAGE) makemigrations --check --dry-run

deploy: setup
	HTTPS=1 SECRET_KEY="$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
		$(MANAGE) check --deploy --fail-level WARNING

requirements: setup ## pin the packages of requirements*.in anew
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt
	$(COMPILE) docker/flower-requirements.in -o docker/flower-requirements.txt

clean: ## remove the virtual environments and the caches, not the data in var
	rm -rf .venv .venv-flower .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
